//! The metrics, the dashboard and the alert rules against a real Prometheus, which is installed if need be and possible:
//!
//! ```text
//! cargo run --example scrape-check
//! ```
//!
//! A pool on a throw-away PostgreSQL goes through what the rules are about: a queue, timeouts, a leak, connections that
//! break, connects that fail, an outage. Meanwhile Prometheus scrapes its endpoint, and every query of the dashboard and
//! every rule is evaluated again and again through its HTTP API: none may be in error, each must have had something to show,
//! and each alert must have been raised. `promtool` checks the rules and the text. Takes about a minute. Ends with code 1 if something is wrong.

#![allow(clippy::print_stdout, reason = "a program that prints a table")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgweir_core::metrics::{Format, text};
use pgweir_core::pool::Status;
use pgweir_tests::monitoring::{Prometheus, alerts, alerts_file, check_metrics, check_rules, dashboard};
use pgweir_tests::{LocalPostgres, Proxy, http};
use pgweir_tokio::{Config, Endpoint, Pool};
use tokio::time::sleep;

/// What promtool has against the names: OpenTelemetry's convention ends one of them as only histograms' may.
const OF_THE_CONVENTION: &str =
    "db_client_connection_count non-histogram and non-summary metrics should not have \"_count\" suffix";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(wrong) if wrong.is_empty() => {
            println!("ok: every query and every rule had something to show");
            ExitCode::SUCCESS
        }
        Ok(wrong) => {
            wrong.iter().for_each(|line| println!("WRONG: {line}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("WRONG: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is wrong.
async fn run() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut wrong = Vec::new();
    let rules = check_rules(&alerts_file())?;
    if !rules.is_empty() {
        wrong.push(format!("promtool check rules: {rules}"));
    }
    let server = LocalPostgres::start()?;
    let proxy = Proxy::start(server.address())?;
    let config = Config::builder()
        .database_url(server.url_via(proxy.port()))
        .min_size(4)
        .max_size(8)
        .leak_detection_timeout(Duration::from_secs(4))
        .outage_grace(Duration::from_millis(200))
        .build()?;
    let pool = Pool::builder(config).open().await?;
    let endpoint = Endpoint::bind("127.0.0.1:0").pool("shop", &pool).serve().await?;
    let lint = check_metrics(&text(&[("shop", pool.metrics())], Format::Prometheus))?;
    wrong.extend(lint.lines().filter(|line| *line != OF_THE_CONVENTION).map(|line| format!("promtool: {line}")));

    let queue = Queue::start(&pool, 8);
    until("a queue", || pool.status().waiting > 0).await?;
    let target: SocketAddr = endpoint.local_addr();
    let prometheus = tokio::task::spawn_blocking(move || Prometheus::start(target)).await??;
    let mut checks = Checks::new(prometheus);
    queue_and_timeouts(&pool, &mut checks, queue).await?;
    leak_and_breaks(&pool, &server, &mut checks).await?;
    failing_connects(&pool, &proxy, &mut checks).await?;
    proxy.pass()?;
    outage(&pool, &server, &mut checks).await?;

    // Nothing was scraped an hour ago: that is when the pool was absent.
    let hour_ago = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - 3600;
    checks.look_at("alert PgweirAbsent", Some(hour_ago)).await?;
    checks.scraped_well().await?;
    let answer = tokio::task::spawn_blocking(move || http::get(target, "/metrics")).await??;
    println!("the last scrape: {} lines, {} bytes", answer.body.lines().count(), answer.body.len());
    wrong.extend(checks.results());
    Ok(wrong)
}

/// More callers than connections, each of which holds one for long.
async fn queue_and_timeouts(pool: &Pool, checks: &mut Checks, queue: Queue) -> Result<(), Box<dyn std::error::Error>> {
    println!("a queue, timeouts, acquires that are dropped and refused");
    for _ in 0..5 {
        let _ = pool.get_timeout(Duration::from_millis(20)).await;
        let _ = tokio::time::timeout(Duration::from_millis(20), pool.get()).await;
        let _ = pool.try_get();
        sleep(Duration::from_secs(1)).await;
        checks.look().await?;
    }
    queue.stop().await;
    Ok(())
}

async fn leak_and_breaks(
    pool: &Pool,
    server: &LocalPostgres,
    checks: &mut Checks,
) -> Result<(), Box<dyn std::error::Error>> {
    println!("a leak, and connections that break");
    let forgotten = pool.get().await?;
    for _ in 0..6 {
        let ours = "pid <> pg_backend_pid() AND backend_type = 'client backend'";
        server.query(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}"))?;
        sleep(Duration::from_secs(1)).await;
        checks.look().await?;
    }
    until("the leak is suspected", || pool.health().leak_count > 0).await?;
    sleep(Duration::from_secs(2)).await;
    checks.look().await?;
    drop(forgotten);
    Ok(())
}

/// Connections work, and no more can be opened.
async fn failing_connects(pool: &Pool, proxy: &Proxy, checks: &mut Checks) -> Result<(), Box<dyn std::error::Error>> {
    println!("connects that fail while others work");
    let mut leases = Vec::new();
    for _ in 0..6 {
        leases.push(pool.get().await?);
    }
    proxy.refuse();
    let before = pool.stats().connect_failures.iter().map(|by| by.count).sum::<u64>();
    until("a connect fails", || {
        let _ = pool.try_get();
        pool.stats().connect_failures.iter().map(|by| by.count).sum::<u64>() > before
    })
    .await?;
    for _ in 0..3 {
        sleep(Duration::from_secs(1)).await;
        checks.look().await?;
    }
    Ok(())
}

async fn outage(pool: &Pool, server: &LocalPostgres, checks: &mut Checks) -> Result<(), Box<dyn std::error::Error>> {
    println!("an outage");
    server.crash()?;
    until("it is noticed", || pool.health().status == Status::Unhealthy).await?;
    for _ in 0..4 {
        sleep(Duration::from_secs(1)).await;
        checks.look().await?;
    }
    server.start_again()?;
    until("it is over", || pool.health().status != Status::Unhealthy).await?;
    sleep(Duration::from_secs(2)).await;
    checks.look().await?;
    Ok(())
}

/// Tasks that keep a queue before the pool.
struct Queue {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Queue {
    /// So many callers beyond the pool's connections.
    fn start(pool: &Pool, beyond: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |_| {
            let (pool, stop) = (pool.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(mut lease) = pool.get().await {
                        let _ = lease.batch_execute("SELECT pg_sleep(0.7)").await;
                    }
                }
            })
        };
        let tasks = (0..pool.status().max + beyond).map(caller).collect();
        Queue { stop, tasks }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// Every query and rule, and how often it has had something to show.
struct Checks {
    prometheus: Arc<Prometheus>,
    /// By place: the expression, and the most series that it had.
    found: BTreeMap<String, (String, usize)>,
    /// The alerts that Prometheus itself has raised, waiting for their time or firing.
    raised: BTreeSet<String>,
}

impl Checks {
    fn new(prometheus: Prometheus) -> Self {
        let queries = dashboard("10s").into_iter().map(|query| (query.panel, query.expression));
        let panels = queries.enumerate().map(|(at, (panel, query))| (format!("panel {at:02} {panel}"), (query, 0)));
        let rules = alerts().into_iter().map(|alert| (format!("alert {}", alert.name), (alert.expression, 0)));
        Checks { prometheus: Arc::new(prometheus), found: panels.chain(rules).collect(), raised: BTreeSet::new() }
    }

    /// Evaluates all of them.
    async fn look(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let places: Vec<String> = self.found.keys().cloned().collect();
        for place in places {
            self.look_at(&place, None).await?;
        }
        let prometheus = self.prometheus.clone();
        self.raised.extend(tokio::task::spawn_blocking(move || prometheus.alerts()).await??);
        Ok(())
    }

    async fn look_at(&mut self, place: &str, at: Option<u64>) -> Result<(), Box<dyn std::error::Error>> {
        let Some((expression, most)) = self.found.get_mut(place) else { return Err(format!("no {place}").into()) };
        let (prometheus, query) = (self.prometheus.clone(), expression.clone());
        let series = tokio::task::spawn_blocking(move || prometheus.query(&query, at)).await??;
        *most = series.max(*most);
        Ok(())
    }

    async fn scraped_well(&self) -> Result<(), Box<dyn std::error::Error>> {
        let prometheus = self.prometheus.clone();
        match tokio::task::spawn_blocking(move || prometheus.scrape_error()).await?? {
            error if error.is_empty() => Ok(()),
            error => Err(format!("the last scrape failed: {error}").into()),
        }
    }

    fn results(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (place, (expression, most)) in &self.found {
            println!("{most:4} series  {place}");
            if *most == 0 {
                wrong.push(format!("{place} never had anything to show: {expression}"));
            }
        }
        // While this runs nothing is absent for long.
        let expected = alerts().into_iter().map(|alert| alert.name).filter(|name| name != "PgweirAbsent");
        let silent = expected.filter(|name| !self.raised.contains(name));
        wrong.extend(silent.map(|name| format!("alert {name} was never raised")));
        wrong
    }
}

/// Waits until `condition` holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + pgweir_tests::LIMIT;
    while !condition() {
        if Instant::now() >= end {
            return Err(format!("{what}: not within {:?}", pgweir_tests::LIMIT));
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
