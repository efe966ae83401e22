//! What a pool writes to the log.
//!
#![doc = include_str!("../docs/logs.md")]

use tracing::Level;

/// One kind of event.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LogEvent {
    /// The name in the event's metadata.
    pub name: &'static str,
    /// Its level; where there are two, the event tells of good and of bad.
    pub levels: &'static [Level],
    /// The fields it always has, beside the message.
    pub fields: &'static [&'static str],
    /// The fields it has where they are known.
    pub optional: &'static [&'static str],
    /// When it is written.
    pub when: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

const DEBUG: &[Level] = &[Level::DEBUG];
const INFO: &[Level] = &[Level::INFO];
const WARN: &[Level] = &[Level::WARN];
const ERROR: &[Level] = &[Level::ERROR];

macro_rules! events {
    ($($name:literal $levels:expr, [$($field:ident),*] [$($optional:ident),*] $when:literal, $advice:literal;)*) => {
        /// Every kind of event, in the order of the documentation.
        pub const EVENTS: &[LogEvent] = &[$(LogEvent {
            name: $name,
            levels: $levels,
            fields: &[$(stringify!($field)),*],
            optional: &[$(stringify!($optional)),*],
            when: $when,
            advice: $advice,
        },)*];
    };
}

events! {
    "pgweir.init.started" INFO, [min_size, max_size, acquire_timeout_ms] []
        "A pool begins to open its first connections.", "Nothing.";
    "pgweir.init.done" INFO, [min_size, max_size, duration_ms] []
        "`min_size` connections are open.", "Nothing.";
    "pgweir.init.failed" ERROR, [attempts] [cause]
        "The first connections could not be opened: the pool ends.",
        "Look at the cause: address, password, database name, the server's `max_connections`.";
    "pgweir.config.warning" WARN, [] []
        "A setting is valid but does not do what it seems to.", "Do as it says.";
    "pgweir.connection.opened" DEBUG, [conn, host, duration_ms] []
        "A connection is open.", "Nothing.";
    "pgweir.connection.failed" WARN, [conn, host, class, cause, duration_ms] [sqlstate]
        "A connect failed.",
        "One now and then passes by itself. `permanent` does not: correct the password, the name or the certificate. `capacity`: raise the server's `max_connections` or lower `max_size`.";
    "pgweir.connection.validated" DEBUG, [conn, duration_us] []
        "A round trip proved a connection.", "Nothing.";
    "pgweir.connection.invalid" WARN, [conn, class, cause] [sqlstate]
        "A connection failed its check and is replaced; no caller saw it.",
        "Many at a time are a restart or a failover. Some at all times are a firewall that forgets idle connections: lower `max_idle_time`.";
    "pgweir.connection.recycled" INFO, [conn, age_ms, reason] []
        "A connection is closed.",
        "Nothing, but for `broken`, `suspect`, `validation_failed` and `reset_failed` in numbers: look at the server's log.";
    "pgweir.lease.acquired" DEBUG, [conn, wait_us, total, active, idle, waiting] []
        "A caller has its connection.", "Nothing.";
    "pgweir.lease.released" DEBUG, [conn, held_ms, queries] []
        "A caller gives it back.", "Nothing.";
    "pgweir.acquire.slow" WARN, [conn, wait_ms] [location]
        "An acquire waited longer than `acquire_slow`.",
        "If it is not an outage: hold leases for a shorter time, or raise `max_size` or `min_size`.";
    "pgweir.acquire.timeout" ERROR, [waited_ms, phase, total, active, idle, connecting, waiting, max, position, holders, suggestion] [location, last_error]
        "An acquire's deadline passed.", "Do as `suggestion` says; `holders` are those in the way.";
    "pgweir.acquire.rejected" DEBUG, [] []
        "An acquire got another error: the database is down, the queue full, the pool closed, or nothing ready for `try_get`.",
        "Nothing: the outage or the shutdown has events of its own.";
    "pgweir.leak.suspected" WARN, [conn, held_ms, since, report] [backend_pid, queries, location, span, stack]
        "A lease is held longer than it should be; again at twice that time, four times and so on. Nothing is closed.",
        "Go to `location`. If long work is meant there, say so: `pool.get().leak_after(time)`.";
    "pgweir.leak.resolved" INFO, [conn, held_ms, since] [backend_pid, location, span]
        "A suspected lease came back.", "It was slow and no leak: shorten the work, or allow it.";
    "pgweir.connectivity.lost" ERROR, [state, class, cause] [sqlstate]
        "No connection can be had any more: acquires fail at once.", "See to the database or the network; the pool comes back by itself.";
    "pgweir.reconnect.scheduled" WARN, [host, attempt, delay_ms] []
        "The next attempt to connect has its time.", "Nothing.";
    "pgweir.connectivity.recovered" INFO, [total, max, attempts, outage_ms] []
        "`min_size` connections work again.", "Nothing.";
    "pgweir.state.changed" &[Level::INFO, Level::WARN], [from, to, reason] []
        "The pool's state changed; a warning if to `degraded` or `unhealthy`.", "Look at the reason.";
    "pgweir.pool.shrunk" INFO, [from, to] []
        "Idle connections above `min_size` are gone.", "Nothing.";
    "pgweir.pool.resized" INFO, [min_size, max_size] []
        "`resize` was called.", "Nothing.";
    "pgweir.pool.paused" INFO, [] []
        "`pause` was called: acquires queue.", "Do not forget `resume`.";
    "pgweir.pool.resumed" INFO, [] []
        "`resume` was called.", "Nothing.";
    "pgweir.pool.recycle" INFO, [connections] []
        "`recycle` was called: all connections are replaced.", "Nothing.";
    "pgweir.shutdown.started" INFO, [active, waiting] []
        "The pool closes: leases may finish.", "Nothing.";
    "pgweir.shutdown.forced" WARN, [conn, held_ms, since] [backend_pid, queries, location, span]
        "A lease outlived the shutdown's deadline and was cut off.",
        "End the work at `location` when the service stops, or raise `shutdown_timeout`.";
    "pgweir.shutdown.done" INFO, [finished, forced, rejected, duration_ms] []
        "Nothing is open any more.", "Nothing.";
    "pgweir.endpoint.accept_failed" WARN, [cause, pause_ms] []
        "The HTTP endpoint cannot accept connections for a moment.",
        "`too many open files`: raise the process's limit, or find what leaks them.";
    "pgweir.notice" DEBUG, [pid, severity, sqlstate] []
        "The server sent a notice.", "Whatever it says; `RAISE NOTICE` of your own functions ends up here.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the documentation must contain.
    fn table() -> String {
        let list = |names: &[&str], mark: &str| names.iter().map(|name| format!("`{name}`{mark}")).collect::<Vec<_>>();
        let mut table = String::new();
        for event in EVENTS {
            let levels: Vec<String> = event.levels.iter().map(|level| level.to_string().to_lowercase()).collect();
            let fields = [list(event.fields, ""), list(event.optional, "?")].concat().join(", ");
            table += &format!(
                "| `{}` | {} | {} | {fields} | {} |\n",
                event.name,
                levels.join(" or "),
                event.when,
                event.advice
            );
        }
        table
    }

    #[test]
    fn the_documentation_has_every_event() {
        let documentation = include_str!("../docs/logs.md");
        let rows = documentation.lines().filter(|line| line.starts_with("| `"));
        let rows: String = rows.map(|row| format!("{row}\n")).collect();
        assert_eq!(rows, table());
    }
}
