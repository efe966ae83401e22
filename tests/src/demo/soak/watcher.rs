//! The watcher: a thread with a connection of its own that looks at the server, the pool's numbers and this process all
//! the time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pgweir_core::driver::PoolStats;
use pgweir_core::pool::CloseReason::{Suspect, ValidationFailed};
use pgweir_core::runtime::Runtime;

use super::books::Trouble;
use super::field::{Field, lock};
use super::process;
use crate::demo::error::Error;
use crate::{Client, ClientConfig};

/// Between two looks.
const RHYTHM: Duration = Duration::from_millis(40);
/// What takes this long says that the machine stood still.
const STALL: Duration = Duration::from_millis(500);
/// How long a stall may still be felt.
const AFTER_STALL: Duration = Duration::from_secs(3);
/// Between two readings of memory.
const READING: Duration = Duration::from_secs(1);

/// What the watcher has seen.
#[derive(Default)]
pub(super) struct Vitals {
    /// Looks at the server, and those at which the bound was the max_size in force.
    pub(super) looks: AtomicU64,
    pub(super) exact: AtomicU64,
    /// Looks for which there was no server.
    pub(super) blind: AtomicU64,
    /// Readings of the pool's numbers.
    pub(super) readings: AtomicU64,
    pub(super) held_peak: AtomicU64,
    pub(super) given_up_peak: AtomicU64,
    pub(super) held: AtomicU64,
    pub(super) given_up: AtomicU64,
    pub(super) files_peak: AtomicU64,
    pub(super) stalls: AtomicU64,
    pub(super) connected: AtomicBool,
    /// Resident memory, once a second.
    pub(super) memory: Mutex<Vec<u64>>,
}

impl Vitals {
    /// With room for all readings, so that they do not count as growth.
    pub(super) fn new(time: Duration) -> Self {
        let memory = Mutex::new(Vec::with_capacity(time.as_secs() as usize + 600));
        Vitals { memory, ..Vitals::default() }
    }
}

pub(super) fn watch<R: Runtime>(field: &Field<R>, vitals: &Vitals, observer: &ClientConfig) -> Result<(), Error> {
    let mut client = None;
    let mut read = None;
    while !field.stopped() {
        let slept = Instant::now();
        // On a thread of its own: the rhythm of its looks. That it wakes late shows that the machine stood still.
        thread::sleep(RHYTHM);
        stall(field, vitals, slept);
        field.look_for_hangs();
        field.books.rethink(Instant::now());
        read_pool(field, vitals);
        client = look(field, vitals, observer, client)?;
        if read.is_none_or(|at: Instant| at.elapsed() >= READING) {
            read = Some(Instant::now());
            read_process(vitals)?;
        }
    }
    Ok(())
}

/// What was begun then and is a matter of milliseconds took long: a sleep, or a look at a server that works.
fn stall<R: Runtime>(field: &Field<R>, vitals: &Vitals, begun: Instant) {
    if begun.elapsed() > STALL {
        vitals.stalls.fetch_add(1, Ordering::Relaxed);
        field.books.enter(Trouble::Stalled, begun, AFTER_STALL);
    }
}

/// One look at the server. The session is kept while it works.
fn look<R: Runtime>(
    field: &Field<R>,
    vitals: &Vitals,
    observer: &ClientConfig,
    client: Option<Client>,
) -> Result<Option<Client>, Error> {
    let begun = Instant::now();
    let session = client.map_or_else(|| Client::connect(observer), Ok);
    let asked = Instant::now();
    let question = lock(&field.census).question();
    let answer = session.and_then(|mut session| Ok((session.query(&question)?, session)));
    let Ok((answer, session)) = answer else {
        vitals.connected.store(false, Ordering::SeqCst);
        vitals.blind.fetch_add(1, Ordering::Relaxed);
        return Ok(None);
    };
    vitals.connected.store(true, Ordering::SeqCst);
    stall(field, vitals, begun);
    let mut census = lock(&field.census);
    let look = census.sort(&answer)?;
    let broken = census.judge(&look, asked);
    let (_, exact) = census.bound(asked);
    drop(census);
    broken.into_iter().for_each(|what| field.books.violated(what));
    let (held, given_up) = (look.held.len() as u64, look.given_up.len() as u64);
    vitals.looks.fetch_add(1, Ordering::Relaxed);
    vitals.exact.fetch_add(u64::from(exact), Ordering::Relaxed);
    vitals.held.store(held, Ordering::Relaxed);
    vitals.given_up.store(given_up, Ordering::Relaxed);
    vitals.held_peak.fetch_max(held, Ordering::Relaxed);
    vitals.given_up_peak.fetch_max(given_up, Ordering::Relaxed);
    Ok(Some(session))
}

/// The pool's numbers, from one moment, fit together.
fn read_pool<R: Runtime>(field: &Field<R>, vitals: &Vitals) {
    let Some(pool) = field.pool() else { return };
    let stats = pool.stats();
    // A shutdown cuts leases off, and those do not come back.
    if pool.is_closed() {
        return;
    }
    vitals.readings.fetch_add(1, Ordering::Relaxed);
    for what in inconsistent(&stats, 0) {
        field.books.violated(what);
    }
}

/// What of the numbers does not fit together, `forced` leases having been cut off.
pub(super) fn inconsistent(stats: &PoolStats, forced: u64) -> Vec<String> {
    let PoolStats { total, idle, active, connecting, validating, resetting, closing, .. } = *stats;
    let (acquired, released) = (stats.total_acquisitions, stats.total_releases);
    let closed: u64 = stats.closed.iter().map(|by| by.count).sum();
    let failed: u64 = stats.connect_failures.iter().map(|by| by.count).sum();
    let settled = stats.opened + failed;
    let open = u64::from(total - connecting - closing);
    // A grant that nobody saw, or whose connection was found dead first, is no acquisition. The histogram keeps its wait.
    let found_dead = stats.closed.iter().filter(|by| matches!(by.reason, ValidationFailed | Suspect));
    let taken_back = stats.cancelled + found_dead.map(|by| by.count).sum::<u64>();
    let rules = [
        (
            acquired == released + u64::from(active) + forced,
            format!("{acquired} acquisitions, {released} releases, {active} active, {forced} cut off"),
        ),
        (
            total == idle + active + connecting + validating + resetting + closing,
            format!("{total} connections, which are not the sum of their states"),
        ),
        (active <= stats.peak_active_connections, format!("{active} active, more than at the peak")),
        (
            settled + u64::from(connecting) <= stats.connect_attempts,
            format!("{} connects, {settled} over and {connecting} under way", stats.connect_attempts),
        ),
        (stats.opened <= open + closed, format!("{} opened, {open} open, {closed} closed", stats.opened)),
        (
            acquired <= stats.wait.count && stats.wait.count <= acquired + taken_back,
            format!(
                "{} waits in the histogram, {acquired} acquisitions, up to {taken_back} taken back",
                stats.wait.count
            ),
        ),
        (stats.usage.count == released, format!("{} uses in the histogram, {released} releases", stats.usage.count)),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| format!("statistics: {what}: {stats:?}")).collect()
}

fn read_process(vitals: &Vitals) -> Result<(), Error> {
    let mut memory = lock(&vitals.memory);
    if memory.len() < memory.capacity() {
        memory.push(process::resident()?);
    }
    vitals.files_peak.fetch_max(process::open_files()? as u64, Ordering::Relaxed);
    Ok(())
}

/// Gives forgotten leases back when they are due, from a thread that no runtime knows.
pub(super) fn give_back<R: Runtime>(field: &Arc<Field<R>>) -> Result<(), Error> {
    while !field.stopped() {
        // On a thread of its own, between two looks into the drawer.
        thread::sleep(Duration::from_millis(10));
        field.empty_drawer(false);
    }
    Ok(())
}
