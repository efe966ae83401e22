//! The pages. Each is made from a snapshot of its own: one instant for each pool, and nothing is done under a pool's lock.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::service::Pages;
use crate::driver::{DebugReport, HealthReport, Observe, PoolStats};
use crate::metrics::{Format, text};
use crate::pool::{State, Status};

/// What is answered.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// The pools that a page is about.
pub(super) type Chosen<'a> = Vec<(&'a str, &'a dyn Observe)>;

/// Makes a page.
pub(super) type Render = fn(&Chosen<'_>, &Asked<'_>) -> Page;

const JSON: &str = "application/json";

/// The page at a path.
pub(super) fn find(path: &str) -> Option<Render> {
    PAGES.iter().find(|(known, _, _)| *known == path).map(|(_, _, render)| *render)
}

/// Each page: its path, what it says, who makes it.
const PAGES: [(&str, &str, Render); 7] = [
    ("/", "this list", index),
    ("/health", "whether work can be done, and why not: 200, or 503 when no connection can be had", health),
    ("/health/live", "200 as long as the process answers, whatever the database does", live),
    ("/health/ready", "200 while work can be done, 503 before, after and without a database", ready),
    ("/stats", "counters, histograms and hosts", stats),
    ("/metrics", "the same for Prometheus, as OpenMetrics text", metrics),
    (
        "/debug/pool",
        "who holds connections, who waits and from where, and what happened last; ?limit=50 of each",
        debug,
    ),
];

/// What the request asks for beyond its path.
pub(super) struct Asked<'a> {
    query: &'a str,
    accept: &'a str,
}

impl<'a> Asked<'a> {
    pub(super) fn new(query: &'a str, accept: &'a str) -> Self {
        Asked { query, accept }
    }

    /// The first value of a parameter, decoded.
    fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| decode(value))
    }
}

/// Percent-decoded; what is not an escape stays as it is.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            (b'+', _, _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (other, _, _) => {
                bytes.push(*other);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The pools that are asked about: the one that `pool` names, or all.
pub(super) fn chosen<'a>(pages: &'a Pages, asked: &Asked<'_>) -> Result<Chosen<'a>, Page> {
    let all = pages.pools.iter().map(|(name, pool)| (name.as_str(), pool.as_ref()));
    let Some(wanted) = asked.parameter("pool") else { return Ok(all.collect()) };
    let found: Chosen<'_> = all.filter(|(name, _)| *name == wanted).collect();
    if found.is_empty() {
        let names: Vec<&str> = pages.pools.iter().map(|(name, _)| name.as_str()).collect();
        let hint = format!("there is no pool of this name; there are: {}", names.join(", "));
        return Err(refusal(StatusCode::NOT_FOUND, &hint));
    }
    Ok(found)
}

/// An answer that says why there is no page.
pub(super) fn refusal(status: StatusCode, hint: &str) -> Page {
    let error = status.canonical_reason().unwrap_or("error").to_ascii_lowercase();
    page(status, &json!({ "error": error, "hint": hint }))
}

fn index(pools: &Chosen<'_>, _asked: &Asked<'_>) -> Page {
    let pages: Map<String, Value> = PAGES.iter().map(|(path, what, _)| ((*path).to_owned(), (*what).into())).collect();
    let names: Vec<&str> = pools.iter().map(|(name, _)| *name).collect();
    let hint = "of one pool only: ?pool=NAME";
    page(StatusCode::OK, &json!({ "pgweir": env!("CARGO_PKG_VERSION"), "pools": names, "pages": pages, "hint": hint }))
}

fn health(pools: &Chosen<'_>, _asked: &Asked<'_>) -> Page {
    let reports: Vec<(&str, HealthReport)> = pools.iter().map(|(name, pool)| (*name, pool.health())).collect();
    let worst = reports.iter().map(|(_, report)| report.status).max().unwrap_or(Status::Healthy);
    let code = able(worst != Status::Unhealthy);
    match &reports[..] {
        [(_, report)] => page(code, report),
        _ => page(code, &json!({ "status": worst, "pools": by_name(&reports) })),
    }
}

/// The database has no say in it: to restart a process whose database is down helps nobody.
fn live(_pools: &Chosen<'_>, _asked: &Asked<'_>) -> Page {
    page(StatusCode::OK, &json!({ "status": "alive" }))
}

fn ready(pools: &Chosen<'_>, _asked: &Asked<'_>) -> Page {
    let states: Vec<(&str, State)> = pools.iter().map(|(name, pool)| (*name, pool.health().state)).collect();
    let all = states.iter().all(|(_, state)| is_ready(*state));
    let word = if all { "ready" } else { "not ready" };
    page(able(all), &json!({ "status": word, "pools": by_name(&states) }))
}

fn is_ready(state: State) -> bool {
    match state {
        State::Healthy | State::Degraded | State::Recovering => true,
        State::Initializing | State::Unhealthy | State::ShuttingDown | State::Terminated => false,
    }
}

fn stats(pools: &Chosen<'_>, _asked: &Asked<'_>) -> Page {
    let reports: Vec<(&str, PoolStats)> = pools.iter().map(|(name, pool)| (*name, pool.stats())).collect();
    one_or_all(&reports)
}

fn metrics(pools: &Chosen<'_>, asked: &Asked<'_>) -> Page {
    let format = Format::accepted(asked.accept);
    let snapshots: Vec<_> = pools.iter().map(|(name, pool)| (*name, pool.metrics())).collect();
    Page { status: StatusCode::OK, content_type: format.content_type(), body: text(&snapshots, format) }
}

fn debug(pools: &Chosen<'_>, asked: &Asked<'_>) -> Page {
    const USUAL: usize = 50;
    const MOST: usize = 1_000;
    let limit = match asked.parameter("limit").map(|limit| limit.parse::<usize>()) {
        None => USUAL,
        Some(Ok(limit)) => limit.min(MOST),
        Some(Err(_)) => return refusal(StatusCode::BAD_REQUEST, "limit is a number from 0 to 1000"),
    };
    let reports: Vec<(&str, DebugReport)> =
        pools.iter().map(|(name, pool)| (*name, pool.debug_report(limit))).collect();
    one_or_all(&reports)
}

/// Of one pool its document, of several all of them by name.
fn one_or_all<T: Serialize>(reports: &[(&str, T)]) -> Page {
    match reports {
        [(_, report)] => page(StatusCode::OK, report),
        _ => page(StatusCode::OK, &json!({ "pools": by_name(reports) })),
    }
}

fn by_name<T: Serialize>(reports: &[(&str, T)]) -> Map<String, Value> {
    let value = |report: &T| serde_json::to_value(report).unwrap_or_default();
    reports.iter().map(|(name, report)| ((*name).to_owned(), value(report))).collect()
}

fn able(able: bool) -> StatusCode {
    if able { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn page(status: StatusCode, document: &impl Serialize) -> Page {
    match serde_json::to_string(document) {
        Ok(body) => Page { status, content_type: JSON, body: body + "\n" },
        Err(error) => Page {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            content_type: "text/plain; charset=utf-8",
            body: format!("the page could not be written: {error}\n"),
        },
    }
}
