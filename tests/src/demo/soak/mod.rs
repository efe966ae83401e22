//! The soak: a real pool on a real server for as long as one likes, with everything that may happen to it, and checks
//! from the outside that nothing leaks.
//!
//! `callers` use the pool in every way, `operator` resizes, pauses, recycles, closes and opens it, `breaker` kills
//! backends and restarts the server, `watcher` looks at the server all the time; `books` tell a failure from a fault,
//! `census` has the rule for the server's backends, `flat` the one for memory.

mod books;
mod breaker;
mod callers;
mod census;
mod field;
mod flat;
mod operator;
mod process;
mod table;
mod watcher;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pgweir_core::runtime::Runtime;

use super::args::{self, Flag};
use super::error::Error;
use super::kills::count_panics;
use super::moments::Moments;
use super::perform_unheard;
use super::screen::Screen;
use crate::kit::spawn;
use crate::{Client, ClientConfig, LocalPostgres};
use breaker::{Breaker, Deeds};
use census::Census;
use field::{Field, SLACK, Threads, lock};
use operator::Operator;
use watcher::Vitals;

const HELP: &str = "\
pgweir's soak: 24 tasks use a pool in every way that a program may, and a server of its own is broken under it.

Usage: cargo soak [--time 60s] [--seed N] [--every 5s] [--canary]

  --time 60s  for how long, 5s to 7days (default 60s)
  --seed N    of everything that is drawn; printed when not given
  --every 5s  how often it says how things stand (default 5s)
  --canary    keeps a connection of its own open under the pool's name, which must be found: exit code 1
  --help      this text

Backends are terminated, the server is stopped (fast, immediate) and crashed; acquires, queries and transactions are
dropped, leases forgotten; the pool is resized, paused, recycled, closed and opened again. Checked, most of it all the
time: backends on the server against max_size, memory, open files, tasks, the pool's numbers, every request, hangs.

Exit code: 0 if nothing was violated; 1 if so, with what it was; 2 for a wrong argument; 130 after Ctrl-C.
";

/// The soak.
pub struct Soak {
    time: Duration,
    seed: u64,
    every: Duration,
    canary: bool,
    tasks: Arc<dyn Fn() -> Option<usize> + Send + Sync>,
}

impl std::fmt::Debug for Soak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Soak").field("time", &self.time).field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Soak {
    /// For so long, with this seed.
    pub fn new(time: Duration, seed: u64) -> Self {
        Soak { time, seed, every: Duration::from_secs(5), canary: false, tasks: Arc::new(|| None) }
    }

    /// With a leak on purpose: a connection under the pool's name is kept open.
    #[must_use]
    pub fn with_canary(mut self) -> Self {
        self.canary = true;
        self
    }

    /// As the process's arguments say.
    ///
    /// # Errors
    /// The code to exit with, after `--help` or a wrong argument.
    pub fn from_args() -> Result<Self, ExitCode> {
        let flags = [
            Flag::seconds("--time", 5..=7 * 86_400, 60),
            Flag::seed(),
            Flag::seconds("--every", 1..=3_600, 5),
            Flag::switch("--canary"),
        ];
        let [time, seed, every, canary] = args::parse(HELP, flags)?;
        let every = Duration::from_secs(every);
        Ok(Soak { every, canary: canary == 1, ..Soak::new(Duration::from_secs(time), seed) })
    }

    /// How to count the runtime's tasks that are alive.
    #[must_use]
    pub fn count_tasks(mut self, tasks: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        self.tasks = Arc::new(move || Some(tasks()));
        self
    }

    /// Runs it on the runtime that the caller runs on, until it is done or `interrupt` completes.
    pub async fn run<R: Runtime>(self, interrupt: impl Future<Output = ()>) -> ExitCode {
        let seed = self.seed;
        perform_unheard(interrupt, async |screen| {
            let violations = self.soak::<R>(&screen).await?.0;
            if violations > 0 {
                screen.line(&format!("\n   to run it again: cargo soak --seed {seed}"));
            }
            Ok(u32::try_from(violations).unwrap_or(u32::MAX))
        })
        .await
    }

    /// Runs it silently: what was violated, as far as it is kept.
    ///
    /// # Errors
    /// Why it could not go on.
    pub async fn violations<R: Runtime>(self) -> Result<Vec<String>, String> {
        let outcome = self.soak::<R>(&Screen::silent()).await;
        outcome.map(|(_, told)| told).map_err(|error| error.to_string())
    }

    /// How many violations there were, and the first of them.
    async fn soak<R: Runtime>(&self, screen: &Screen) -> Result<(u64, Vec<String>), Error> {
        let panics = count_panics();
        let application_name = format!("pgweir-soak-{}", std::process::id());
        let server = Arc::new(LocalPostgres::builder().setting("log_min_messages", "fatal").start()?);
        screen.title(&format!("A soak of {}, seed {}", humantime::format_duration(self.time), self.seed));
        screen.say(super::Tone::Plain, "database", server.version());
        let census = Census::new(&application_name, server.port());
        let field = Arc::new(Field::new(R::current(), census, callers::CALLERS));
        let (vitals, deeds) = (Arc::new(Vitals::new(self.time)), Arc::new(Deeds::default()));
        let strangers = (self.tasks)().unwrap_or_default();
        let mut threads = start_threads(&field, &vitals, &server);
        if self.canary {
            let (field, config) =
                (field.clone(), ClientConfig { application_name: application_name.clone(), ..server.client_config() });
            threads.start(move || canary(&field, &config));
        }

        let seed = |stream: u64| Moments(self.seed.wrapping_mul(31).wrapping_add(stream));
        let breaker = Breaker {
            field: field.clone(),
            server: server.clone(),
            application_name: application_name.clone(),
            deeds: deeds.clone(),
            moments: seed(1),
        };
        let own = field.own();
        let breaking = spawn(&field.runtime, async move {
            let _own = own;
            breaker.run().await
        });
        callers::start(&field, seed(2).draw(u64::MAX));
        let mut operator = Operator {
            field: field.clone(),
            server: server.clone(),
            application_name,
            vitals: vitals.clone(),
            deeds: deeds.clone(),
            moments: seed(3),
            tasks: self.tasks.clone(),
            files: None,
            strangers,
            journal_entries: 0,
        };
        let reporter = table::Reporter { screen, field: &field, vitals: &vitals, deeds: &deeds };
        let operated = {
            let operating = operator.run(Instant::now() + self.time);
            let reporting = reporter.every(self.every, &mut threads);
            futures_lite::future::or(operating, reporting).await
        };
        field.stop.store(true, Ordering::Relaxed);
        if !field.until(SLACK * 4, || field.own_tasks.load(Ordering::SeqCst) == 0).await {
            field.books.violated("a task of the soak does not end".to_owned());
        }
        let broken = if breaking.is_finished() { breaking.await } else { Ok(Ok(())) };
        broken.map_err(|error| Error::Failed(error.to_string()))??;
        threads.end()?;
        operated?;

        self.final_checks(&field, &vitals, &panics);
        reporter.table(self.time, operator.journal_entries);
        Ok(field.books.violations())
    }

    fn final_checks<R: Runtime>(&self, field: &Field<R>, vitals: &Vitals, panics: &std::sync::atomic::AtomicU32) {
        let mut broken = field.books.check();
        let panics = panics.load(Ordering::Relaxed);
        if panics > 0 {
            broken.push(format!("{panics} panics"));
        }
        if vitals.looks.load(Ordering::Relaxed) == 0 {
            broken.push("the server was never looked at".to_owned());
        }
        broken.extend(flat::growth(&lock(&vitals.memory)).err());
        broken.into_iter().for_each(|what| field.books.violated(what));
    }
}

fn start_threads<R: Runtime>(field: &Arc<Field<R>>, vitals: &Arc<Vitals>, server: &LocalPostgres) -> Threads<R> {
    let mut threads = Threads::new(field);
    let observer = ClientConfig { timeout: Duration::from_secs(5), ..server.client_config() };
    let (watched, seen) = (field.clone(), vitals.clone());
    threads.start(move || watcher::watch(&watched, &seen, &observer));
    let emptied = field.clone();
    threads.start(move || watcher::give_back(&emptied));
    threads
}

/// A leak on purpose: as soon as it is killed, there is another one.
fn canary<R: Runtime>(field: &Field<R>, config: &ClientConfig) -> Result<(), Error> {
    let mut leaked: Option<Client> = None;
    while !field.stopped() {
        let session = leaked.take().map_or_else(|| Client::connect(config), Ok);
        leaked = session.and_then(|mut session| session.query("SELECT 1").map(|_| session)).ok();
        // On a thread of its own, between two looks whether it was killed.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
