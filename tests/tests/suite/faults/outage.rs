//! Losing the database and getting it back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pgweir_core::config::ConfigBuilder;
use pgweir_core::error::Unavailable;
use pgweir_core::pool::{FaultClass, State};
use pgweir_tests::{Direction, LocalPostgres, Proxy, Script, ScriptedServer, Signal, wire};

use super::load::{Load, Request};
use crate::suite::common::trace::Trace;
use crate::suite::common::{config, open, open_lazy, run, server, until, wait_for_backends};
use crate::suite::rt::{self, AcquireError, Pool};

const LOST: &str = "pgweir.connectivity.lost";
const SCHEDULED: &str = "pgweir.reconnect.scheduled";
const RECOVERED: &str = "pgweir.connectivity.recovered";
const FAILED: &str = "pgweir.connection.failed";

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The reconnect schedule ten times as fast.
pub(crate) fn hurried(config: ConfigBuilder) -> ConfigBuilder {
    config.backoff_initial(ms(100)).backoff_max(ms(1_600)).demand_probe_interval(ms(100)).outage_grace(ms(200))
}

pub(crate) fn unavailable(result: Result<crate::suite::rt::Lease, AcquireError>) -> Unavailable {
    match result {
        Err(AcquireError::Unavailable(report)) => *report,
        other => panic!("an Unavailable was expected, not {other:?}"),
    }
}

/// A proxy before a server: its stamps of accepted connections are the pool's attempts.
fn proxied() -> (LocalPostgres, Proxy) {
    let server = LocalPostgres::start().expect("a server");
    let proxy = Proxy::start(server.address()).expect("a proxy");
    (server, proxy)
}

/// The server goes away as `stop` has it and comes back, under load; then everything must be as before. Gives the
/// requests, and when the server accepted again.
async fn survive(trace: &Trace, pool: &Pool, server: &LocalPostgres, stop: impl FnOnce()) -> (Vec<Request>, Instant) {
    let load = Load::start(pool, 12);
    until("the load runs", || load.successes_since(Instant::now() - ms(100)) > 50).await;
    stop();
    trace.wait(LOST, 1).await;
    server.start_again().expect("the server starts");
    let back = Instant::now();
    let recovered = trace.wait(RECOVERED, 1).await;
    until("the load goes on", || load.successes_since(recovered.at) > 200).await;
    let requests = load.finish().await;
    for request in &requests {
        let Some(failure) = &request.failure else { continue };
        assert!(request.began <= recovered.at, "no error after the recovery: {failure}");
        match (request.query_error(), request.acquire_error()) {
            (Some(error), _) => assert!(error.is_closed(), "only lost connections fail queries: {error}"),
            (_, Some(AcquireError::Unavailable(report))) => {
                assert_ne!(report.cause.class, FaultClass::Permanent, "{report}");
                assert!(request.took < ms(2_500), "told within outage_grace, not after {:?}", request.took);
            }
            (_, error) => panic!("an acquire says what is wrong with the database: {error:?}"),
        }
    }
    let broken = requests.iter().filter(|request| request.query_error().is_some()).count();
    assert!(broken <= 4, "{broken} queries failed on 4 connections");
    (requests, back)
}

/// PEERS 26: a restart in the middle of queries costs each connection at most the query that it ran, and
/// nobody after the recovery sees an error.
#[test]
fn a_restart_under_load_costs_a_query_per_connection_at_most() {
    run(async |trace| {
        let server = LocalPostgres::start().expect("a server");
        let pool = open(config(&server.url(), "restart").min_size(4).max_size(4)).await;
        let (requests, back) = survive(&trace, &pool, &server, || server.stop_fast().expect("it stops")).await;
        let errors: Vec<_> = requests.iter().filter_map(Request::query_error).collect();
        for error in &errors {
            assert!(error.code().is_none_or(|code| code.code() == "57P01"), "{error}");
        }
        let first =
            requests.iter().filter(|request| request.failure.is_none() && request.ended() > back).map(Request::ended);
        let first = first.min().expect("a success") - back;
        assert!(first < ms(1_500), "the first success came {first:?} after the server");
    });
}

/// as above for an immediate stop, after which the server recovers its data first.
#[test]
fn an_immediate_stop_under_load_is_survived() {
    run(async |trace| {
        let server = LocalPostgres::start().expect("a server");
        let pool = open(config(&server.url(), "immediate").min_size(4).max_size(4)).await;
        survive(&trace, &pool, &server, || server.stop_immediate().expect("it stops")).await;
    });
}

/// as above for a crash of everything at once: no farewell, only resets.
#[test]
fn a_crash_under_load_is_survived() {
    run(async |trace| {
        let server = LocalPostgres::start().expect("a server");
        let pool = open(config(&server.url(), "crash").min_size(4).max_size(4)).await;
        survive(&trace, &pool, &server, || server.crash().expect("it crashes")).await;
    });
}

/// one backend dies by SIGKILL; the postmaster ends all others with 57P02 and recovers by itself. Whoever ran a
/// query learns it, nobody else.
#[test]
fn a_crashed_backend_takes_its_siblings_along_but_no_caller() {
    run(async |trace| {
        let server = LocalPostgres::start().expect("a server");
        let patient = config(&server.url(), "crashed-backend").min_size(4).max_size(4);
        let pool = open(patient.outage_grace(Duration::from_secs(20))).await;
        let mut lease = pool.get().await.expect("a connection");
        let victim = lease.backend_pid() as u32;
        let sibling = pool.get().await.expect("a connection");
        let running = rt::spawn({
            let mut sibling = sibling;
            async move { sibling.batch_execute("SELECT pg_sleep(60)").await }
        });
        until("the sibling sleeps", || {
            server.backends("crashed-backend").expect("the list").iter().any(|b| b.query.contains("pg_sleep"))
        })
        .await;
        assert!(server.kill_backend(victim, Signal::KILL).expect("killed"));
        let error = running.await.expect("no panic").expect_err("its backend is gone");
        assert!(error.is_closed(), "{error}");
        assert_eq!(error.code().map(|code| code.code().to_owned()).as_deref(), Some("57P02"), "{error}");
        lease.batch_execute("SELECT 1").await.expect_err("its backend is gone");
        drop(lease);
        let mut next = pool.get().await.expect("the server recovers within the acquire's time");
        next.batch_execute("SELECT 1").await.expect("a connection that works");
        drop(next);
        until("all four are back", || pool.status().idle == 4).await;
        assert_eq!(trace.count("pgweir.acquire.timeout"), 0);
    });
}

/// PEERS 35: an idle pool notices the loss within 2 s and comes back, without any caller, to min_size.
#[test]
fn an_idle_pool_notices_the_outage_and_recovers_without_traffic() {
    run(async |trace| {
        let server = LocalPostgres::start().expect("a server");
        let pool = open(config(&server.url(), "idle").min_size(3).max_size(5)).await;
        let crashed = Instant::now();
        server.crash().expect("it crashes");
        let lost = trace.wait(LOST, 1).await;
        assert!(lost.at - crashed < Duration::from_secs(2), "noticed after {:?}", lost.at - crashed);
        assert_eq!(pool.health().state, State::Unhealthy);
        server.start_again().expect("the server starts");
        let back = Instant::now();
        let recovered = trace.wait(RECOVERED, 1).await;
        assert!(recovered.at - back < Duration::from_secs(3), "recovered after {:?}", recovered.at - back);
        assert_eq!(recovered.field("message"), "Connection pool recovered: 3/5 connections available");
        until("min_size is idle", || pool.status().idle == 3).await;
        assert_eq!(pool.stats().total_acquisitions, 0);
        let changes = trace.named("pgweir.state.changed");
        let states: Vec<&str> = changes.iter().map(|event| event.field("to")).filter(|to| *to != "degraded").collect();
        assert_eq!(states, ["healthy", "unhealthy", "recovering", "healthy"], "{}", trace.tail(40));
    });
}

/// an idle pool's attempts come 1, 2 and 4 s after one another, ±10 %, by its own word and by the network's.
#[test]
fn an_idle_pool_follows_the_schedule() {
    run(async |trace| {
        let (server, proxy) = proxied();
        let _pool = open(config(&server.url_via(proxy.port()), "schedule").min_size(2).max_size(4)).await;
        let before = proxy.stats().accepted.len();
        server.crash().expect("it crashes");
        until("four attempts", || proxy.stats().accepted.len() >= before + 4).await;
        let accepted = proxy.stats().accepted;
        let gaps: Vec<Duration> = accepted[before..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        let scheduled = trace.named(SCHEDULED);
        for (n, (event, base)) in scheduled.iter().zip([1_000, 2_000, 4_000]).enumerate() {
            assert_eq!(event.number("attempt"), n as u64 + 1, "{event}");
            let announced = event.number("delay_ms");
            assert!((base * 9 / 10..=base * 11 / 10).contains(&announced), "{event}");
            // Never early; late by no more than a busy machine is.
            assert!(gaps[n] >= ms(announced) && gaps[n] <= ms(announced + 400), "{event}, but {gaps:?}");
        }
    });
}

/// PEERS 33 and 42: the schedule in short form. It goes on at its slowest rate without end, every attempt has
/// its number, and the pool refills when the server is back.
#[test]
fn the_schedule_never_ends() {
    run(async |trace| {
        let (server, proxy) = proxied();
        let short =
            config(&server.url_via(proxy.port()), "long").min_size(3).backoff_initial(ms(50)).backoff_max(ms(200));
        let pool = open(short.outage_grace(ms(100))).await;
        server.crash().expect("it crashes");
        // By R-3.1's schedule this would be three minutes.
        let last = trace.wait(SCHEDULED, 14).await;
        assert_eq!(last.number("attempt"), 14);
        let delays: Vec<u64> = trace.named(SCHEDULED).iter().map(|event| event.number("delay_ms")).collect();
        for (delay, base) in delays.iter().zip([50, 100].into_iter().chain(std::iter::repeat(200))) {
            assert!((base * 9 / 10 - 1..=base * 11 / 10).contains(delay), "{delays:?}");
        }
        let report = unavailable(pool.get().await);
        // The deaths right after the connects may have counted as the first failure.
        assert!(report.attempts >= 13, "{report}");
        server.start_again().expect("the server starts");
        trace.wait(RECOVERED, 1).await;
        until("min_size is back", || pool.status().idle == 3).await;
    });
}

/// PEERS 8, figures: 20 callers for 5 s. Demand brings attempts forward to one a second, never two at once;
/// callers are told within outage_grace; the first success comes within 1.5 s of the server; the refill keeps to
/// max_connecting; and nobody sees an error after the recovery.
#[test]
fn twenty_callers_make_no_storm() {
    run(async |trace| {
        let (server, proxy) = proxied();
        let server = Arc::new(server);
        // So slow that handshakes overlap where they may.
        proxy.set_delay(Direction::ToClient, ms(20));
        let config = config(&server.url_via(proxy.port()), "storm").min_size(2).max_size(10).max_connecting(3);
        let pool = open(config).await;
        let load = Load::start(&pool, 20);
        until("the load runs", || load.successes_since(Instant::now() - ms(300)) > 50).await;
        let before = proxy.stats().accepted.len();
        let crashed = Instant::now();
        let crashing = server.clone();
        rt::off_thread(move || crashing.crash().expect("it crashes")).await;
        until("5 s of outage", || {
            assert!(trace.count(LOST) == 0 || pool.status().connecting <= 1, "two attempts at once");
            crashed.elapsed() > Duration::from_secs(5)
        })
        .await;
        let _server = rt::off_thread(move || server.start_again().map(|()| server).expect("the server starts")).await;
        let back = Instant::now();
        let recovered = trace.wait(RECOVERED, 1).await;
        until("the load goes on", || load.successes_since(recovered.at) > 200).await;
        let requests = load.finish().await;

        let accepted = proxy.stats().accepted;
        let attempts: Vec<Instant> = accepted[before..].iter().copied().filter(|at| *at < back).collect();
        assert!(attempts.len() <= 7, "{} attempts in 5 s", attempts.len());
        assert!(attempts.windows(2).all(|pair| pair[1] - pair[0] > ms(850)), "{attempts:?}");
        let peak = proxy.stats().peak_handshaking;
        assert!((2..=3).contains(&peak), "{peak} handshakes at once, max_connecting is 3");

        let first =
            requests.iter().filter(|request| request.failure.is_none() && request.ended() > back).map(Request::ended);
        let first = first.min().expect("a success") - back;
        assert!(first < ms(1_500), "the first success came {first:?} after the server");
        for request in requests.iter().filter(|request| request.failure.is_some()) {
            assert!(request.began <= recovered.at, "after the recovery: {request:?}");
            assert!(request.took < ms(2_300), "told late: {request:?}");
            assert!(!matches!(request.acquire_error(), Some(AcquireError::Timeout(_))), "{request:?}");
        }
    });
}

/// PEERS 25 and 4: while the database is down an acquire fails within outage_grace, saying so, why, since when,
/// after how many attempts, and when the next one is.
#[test]
fn an_acquire_during_an_outage_tells_the_truth_soon() {
    run(async |trace| {
        let proxy = Proxy::start(server().address()).expect("a proxy");
        let pool = open(config(&server().url_via(proxy.port()), "truth").outage_grace(ms(300))).await;
        proxy.refuse();
        proxy.reset_all();
        trace.wait(LOST, 1).await;
        let asked = Instant::now();
        let report = unavailable(pool.get().await);
        assert!(asked.elapsed() < ms(900), "told after {:?}", asked.elapsed());
        assert_eq!(report.cause.class, FaultClass::Transient);
        assert!(report.cause.message.contains("refused"), "{report}");
        assert!(report.attempts >= 1 && report.waited <= asked.elapsed() && !report.lasting.is_zero(), "{report:?}");
        assert!(report.next_attempt_in.is_none_or(|delay| delay <= ms(2_200)), "{report:?}");
        let text = AcquireError::Unavailable(Box::new(report)).to_string();
        assert!(text.starts_with("the database is unavailable: connecting to 127.0.0.1:"), "{text}");
        assert!(matches!(pool.try_get(), Err(AcquireError::Unavailable(_))), "try_get says so too");
        assert!(pool.health().database.last_error.is_some());
    });
}

/// a server that says "starting up" is alive: the pool asks at the schedule's first step, whatever came
/// before, and callers are told what the server says.
#[test]
fn a_server_that_is_starting_up_is_asked_often() {
    run(async |trace| {
        let server = ScriptedServer::start(Script::close()).expect("a server");
        let pool = open_lazy(hurried(config(&server.url(), "starting")).demand_probe_interval(ms(0)));
        // The delays grow while it just closes: 100, 200, 400.
        trace.wait(SCHEDULED, 3).await;
        server.set_script(Script::refuse("57P03", "the database system is starting up"));
        let first = trace.count(SCHEDULED);
        let asked = trace.wait(SCHEDULED, first + 5).await;
        let delays: Vec<u64> =
            trace.named(SCHEDULED)[first + 1..].iter().map(|event| event.number("delay_ms")).collect();
        assert!(delays.iter().all(|delay| (89..=110).contains(delay)), "{delays:?} ({asked})");
        let report = unavailable(pool.get().await);
        assert_eq!(report.cause.class, FaultClass::NotYet, "{report}");
        assert_eq!(report.cause.sqlstate.map(|code| code.code().to_owned()).as_deref(), Some("57P03"));
        server.set_script(Script::answer_every_message(wire::one_row("off")));
        pool.get().await.expect("the server is up").batch_execute("SELECT 1").await.expect("it answers");
        until("it counts as up", || pool.health().state != State::Unhealthy).await;
    });
}

/// crash upon crash. The pool comes back every time, the attempts stay few, and nothing is left behind.
#[test]
fn a_crash_loop_is_survived() {
    run(async |trace| {
        let (server, proxy) = proxied();
        let pool = open(hurried(config(&server.url_via(proxy.port()), "loop").min_size(3).max_size(6))).await;
        let load = Load::start(&pool, 8);
        for round in 1..=4 {
            until("it works", || load.successes_since(Instant::now() - ms(200)) > 20).await;
            server.crash().expect("it crashes");
            trace.wait(LOST, round).await;
            server.start_again().expect("the server starts");
            trace.wait(RECOVERED, round).await;
        }
        let calm = Instant::now();
        until("it works", || load.successes_since(calm) > 100).await;
        let requests = load.finish().await;
        let late = requests.iter().find(|request| request.began > calm && request.failure.is_some());
        assert!(late.is_none(), "{late:?}");
        let attempts = proxy.stats().accepted.len();
        assert!(attempts < 100, "{attempts} connects for 4 outages");
        assert!(trace.count(FAILED) > 0);
        assert_eq!(pool.close().await.forced, 0);
        wait_for_backends(&server, "loop", 0).await;
    });
}

/// a server that lets sessions in and ends them at once makes no storm: the schedule counts them as failures.
#[test]
fn a_server_that_accepts_and_dies_is_not_hammered() {
    run(async |_trace| {
        let welcome_and_die = |n| {
            let mut steps = vec![pgweir_tests::Step::ReadStartup, pgweir_tests::Step::Send(wire::welcome())];
            for _ in 0..n {
                steps.extend([pgweir_tests::Step::ReadMessage, pgweir_tests::Step::Send(wire::one_row("off"))]);
            }
            Script(steps)
        };
        // Once right after the login, once after the first question of ours was answered.
        for questions in [0, 1] {
            let server = ScriptedServer::start(welcome_and_die(questions)).expect("a server");
            let pool = open_lazy(hurried(config(&server.url(), "dies")).min_size(2));
            let began = Instant::now();
            until("3 s", || began.elapsed() > Duration::from_secs(3)).await;
            let attempts = server.accepted().len();
            assert!((3..=16).contains(&attempts), "{attempts} connects in 3 s, questions: {questions}");
            server.set_script(Script::answer_every_message(wire::one_row("off")));
            until("min_size", || pool.status().idle == 2).await;
        }
    });
}

/// partial connectivity. New connects fail, the open ones work: the pool serves with what it has, degraded, and
/// goes on trying until it can grow.
#[test]
fn a_pool_that_cannot_grow_serves_with_what_it_has() {
    run(async |trace| {
        let (server, proxy) = proxied();
        let pool = open(hurried(config(&server.url_via(proxy.port()), "partial").min_size(2).max_size(3))).await;
        proxy.refuse();
        let load = Load::start(&pool, 6);
        let began = Instant::now();
        trace.wait(FAILED, 3).await;
        until("it works", || load.successes_since(began) > 200).await;
        assert_eq!(pool.health().state, State::Degraded, "{:?}", pool.health());
        assert!(!pool.health().reasons.is_empty());
        assert_eq!(trace.count(LOST), 0, "two connections work");
        proxy.listen().expect("it listens");
        until("it grows", || pool.status().total == 3 && pool.status().connecting == 0).await;
        let requests = load.finish().await;
        let failed = requests.iter().find(|request| request.failure.is_some());
        assert!(failed.is_none(), "{failed:?}");
    });
}
