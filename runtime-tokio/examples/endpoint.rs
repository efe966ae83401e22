//! An endpoint to look at, or to measure, in one of three situations:
//!
//! ```text
//! cargo run --release -p pgweir-tokio --features endpoint --example endpoint -- --situation load --time 60s
//! wrk -t1 -c32 -d10s --latency http://127.0.0.1:9187/health
//! ```
//!
//! - `idle`: a pool of ten connections that nobody uses;
//! - `load`: all ten are lent all the time, forty callers wait in line, and each runs small queries without a break;
//! - `down`: the same callers, and the database has crashed.
//!
//! It starts a throw-away PostgreSQL of its own, prints the URL when the situation is there, and ends after `--time`
//! (default: a minute). `--address` says where it listens, `--pause` how long a caller rests between two queries.

use std::process::ExitCode;
use std::time::Duration;

use pgweir_tests::LocalPostgres;
use pgweir_tokio::{Config, Endpoint, Pool};

const USAGE: &str =
    "usage: endpoint [--situation idle|load|down] [--time 60s] [--address 127.0.0.1:9187] [--pause 0ms]";
const CONNECTIONS: u32 = 10;
const CALLERS: u32 = 50;

struct Asked {
    situation: String,
    time: Duration,
    address: String,
    pause: Duration,
}

#[tokio::main]
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
async fn main() -> ExitCode {
    let Some(asked) = asked() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match serve(&asked).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "a program for people")]
async fn serve(asked: &Asked) -> Result<(), Box<dyn std::error::Error>> {
    let server = LocalPostgres::start()?;
    let config = Config::builder().database_url(server.url()).min_size(CONNECTIONS).max_size(CONNECTIONS).build()?;
    let pool = Pool::builder(config).open().await?;
    let endpoint = Endpoint::bind(&asked.address).pool("example", &pool).serve().await?;
    if asked.situation != "idle" {
        (0..CALLERS).for_each(|_| drop(tokio::spawn(call(pool.clone(), asked.pause))));
        while pool.status().active < CONNECTIONS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    if asked.situation == "down" {
        server.crash()?;
        while pool.health().outage.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    println!("{}: http://{}/", asked.situation, endpoint.local_addr());
    let before = pool.stats().queries;
    tokio::time::sleep(asked.time).await;
    let queries = (pool.stats().queries - before) as f64 / asked.time.as_secs_f64();
    println!("{queries:.0} queries a second meanwhile");
    endpoint.stop().await;
    pool.close_timeout(Duration::from_secs(1)).await;
    Ok(())
}

/// A caller without a rest: a query, or a pause after a failure.
async fn call(pool: Pool, pause: Duration) {
    while !pool.is_closed() {
        let outcome = match pool.get().await {
            Ok(mut lease) => {
                let answer = lease.query_one("SELECT 1", &[]).await.map(drop).map_err(drop);
                tokio::time::sleep(pause).await;
                answer
            }
            Err(_) => Err(()),
        };
        if outcome.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn asked() -> Option<Asked> {
    let minute = Duration::from_secs(60);
    let address = "127.0.0.1:9187".to_owned();
    let mut asked = Asked { situation: "idle".to_owned(), time: minute, address, pause: Duration::ZERO };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next()?;
        match flag.as_str() {
            "--situation" if ["idle", "load", "down"].contains(&value.as_str()) => asked.situation = value,
            "--time" => asked.time = duration(&value)?,
            "--pause" => asked.pause = duration(&value)?,
            "--address" => asked.address = value,
            _ => return None,
        }
    }
    Some(asked)
}

/// `20s` or `5ms`.
fn duration(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(millis) => millis.parse().ok().map(Duration::from_millis),
        None => text.strip_suffix('s')?.parse().ok().map(Duration::from_secs),
    }
}
