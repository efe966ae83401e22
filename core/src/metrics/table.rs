//! The table: every metric, what it is called and where its value comes from. The text, the facade and the page are made
//! from it.

use super::Snapshot;
use super::sample::{Kind, Label, Metric};
use crate::pool::{CloseReason, FaultClass, HostStatus, Role, State, Status};

/// The names of an enumeration, for a label's values.
macro_rules! names {
    ($type:ident: $($variant:ident)*) => { [$($type::$variant.as_str(),)*] };
}

/// The label that says which pool it is: OpenTelemetry's `db.client.connection.pool.name`.
pub const POOL_NAME: &str = "db_client_connection_pool_name";

/// Every metric. Names, kinds, labels and meanings are an interface: some may be added, none changes or goes without a
/// word in the change log.
pub static TABLE: &[Metric] = &[
    Metric {
        name: "db_client_connection_count",
        kind: Kind::Gauge,
        labels: &[Label { name: "db_client_connection_state", values: &["idle", "used"] }],
        help: "Connections that are ready to be lent (idle) or lent (used).",
        read: |of, out| {
            out.number(&["idle"], of.stats.counts.idle.into());
            out.number(&["used"], of.stats.counts.active.into());
        },
    },
    Metric {
        name: "db_client_connection_idle_max",
        kind: Kind::Gauge,
        labels: &[],
        help: "Idle connections at most: max_size, since all of them may be idle.",
        read: |of, out| out.number(&[], of.stats.counts.max.into()),
    },
    Metric {
        name: "db_client_connection_idle_min",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections that are kept open: min_size.",
        read: |of, out| out.number(&[], of.stats.counts.min.into()),
    },
    Metric {
        name: "db_client_connection_max",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections at most: max_size.",
        read: |of, out| out.number(&[], of.stats.counts.max.into()),
    },
    Metric {
        name: "db_client_connection_pending_requests",
        kind: Kind::Gauge,
        labels: &[],
        help: "Acquires in the queue.",
        read: |of, out| out.number(&[], of.stats.counts.waiting.into()),
    },
    Metric {
        name: "db_client_connection_timeouts_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Acquires whose deadline passed.",
        read: |of, out| out.number(&[], of.stats.totals.timeouts),
    },
    Metric {
        name: "db_client_connection_create_time_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "Time from the start of a connect to its success.",
        read: |of, out| out.histogram(&of.stats.totals.create),
    },
    Metric {
        name: "db_client_connection_wait_time_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "Time from acquire to grant.",
        read: |of, out| out.histogram(&of.stats.totals.wait),
    },
    Metric {
        name: "db_client_connection_use_time_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "Time from grant to release.",
        read: |of, out| out.histogram(&of.stats.totals.usage),
    },
    Metric {
        name: "pgweir_state",
        kind: Kind::Gauge,
        labels: &[Label {
            name: "state",
            values: &names!(State: Initializing Healthy Degraded Unhealthy Recovering ShuttingDown Terminated),
        }],
        help: "The pool's state: 1 for the one that it is in, 0 for the others.",
        read: |of, out| {
            State::ALL.iter().for_each(|state| out.number(&[state.as_str()], u64::from(*state == of.health.state)));
        },
    },
    Metric {
        name: "pgweir_health_status",
        kind: Kind::Gauge,
        labels: &[Label { name: "status", values: &names!(Status: Healthy Degraded Unhealthy) }],
        help: "Whether work can be done: 1 for the status that holds, 0 for the others.",
        read: |of, out| {
            let is = |status: &Status| u64::from(*status == of.health.status);
            Status::ALL.iter().for_each(|status| out.number(&[status.as_str()], is(status)));
        },
    },
    Metric {
        name: "pgweir_connections",
        kind: Kind::Gauge,
        labels: &[Label { name: "state", values: &["connecting", "validating", "resetting", "closing"] }],
        help: "Connections that are neither idle nor lent, by what is being done to them.",
        read: |of, out| {
            let counts = &of.stats.counts;
            out.number(&["connecting"], counts.connecting.into());
            out.number(&["validating"], counts.validating.into());
            out.number(&["resetting"], counts.resetting.into());
            out.number(&["closing"], counts.closing.into());
        },
    },
    Metric {
        name: "pgweir_serviceable_connections",
        kind: Kind::Gauge,
        labels: &[],
        help: "Connections that are open or could be: less than max_size while connects fail or the server is full.",
        read: |of, out| out.number(&[], of.health.serviceable.into()),
    },
    Metric {
        name: "pgweir_peak_active_connections",
        kind: Kind::Gauge,
        labels: &[],
        help: "Most connections lent at once since the pool was made.",
        read: |of, out| out.number(&[], of.stats.totals.peak_active.into()),
    },
    Metric {
        name: "pgweir_peak_pending_requests",
        kind: Kind::Gauge,
        labels: &[],
        help: "Most acquires in the queue at once since the pool was made.",
        read: |of, out| out.number(&[], of.stats.totals.peak_waiting.into()),
    },
    Metric {
        name: "pgweir_acquires_total",
        kind: Kind::Counter,
        labels: &[Label { name: "outcome", values: &["granted", "timeout", "cancelled", "rejected"] }],
        help: "Acquires by outcome: given a connection, deadline passed, dropped before they saw a connection, \
               rejected for another reason.",
        read: |of, out| {
            let totals = &of.stats.totals;
            // Every grant, since a counter must not shrink when one that nobody saw is taken back.
            out.number(&["granted"], totals.wait.count());
            out.number(&["timeout"], totals.timeouts);
            out.number(&["cancelled"], totals.cancelled);
            out.number(&["rejected"], totals.rejected);
        },
    },
    Metric {
        name: "pgweir_queries_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Queries sent over all leases that came back.",
        read: |of, out| out.number(&[], of.stats.totals.queries),
    },
    Metric {
        name: "pgweir_validations_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Round trips that proved a connection.",
        read: |of, out| out.number(&[], of.stats.totals.validations),
    },
    Metric {
        name: "pgweir_connections_opened_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Connections opened.",
        read: |of, out| out.number(&[], of.stats.totals.opened),
    },
    Metric {
        name: "pgweir_connections_closed_total",
        kind: Kind::Counter,
        labels: &[Label {
            name: "reason",
            values: &names!(CloseReason: IdleTimeout Lifetime QueryLimit Recycle Suspect ValidationFailed Broken
                ResetFailed ConnectTimeout Shrink Shutdown Unwanted Discarded),
        }],
        help: "Connections closed, by reason.",
        read: |of, out| {
            let closed = &of.stats.totals.closed;
            CloseReason::ALL.iter().for_each(|reason| out.number(&[reason.as_str()], closed.get(*reason)));
        },
    },
    Metric {
        name: "pgweir_connect_attempts_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Connects begun.",
        read: |of, out| out.number(&[], of.stats.totals.connects),
    },
    Metric {
        name: "pgweir_reconnect_attempts_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Connects begun on the reconnect schedule, after a failure.",
        read: |of, out| out.number(&[], of.stats.totals.reconnects),
    },
    Metric {
        name: "pgweir_connect_failures_total",
        kind: Kind::Counter,
        labels: &[Label { name: "class", values: &names!(FaultClass: Transient NotYet Permanent Capacity WrongRole) }],
        help: "Connects that failed, by what the pool made of it.",
        read: |of, out| {
            let failures = &of.stats.totals.connect_failures;
            FaultClass::ALL.iter().for_each(|class| out.number(&[class.as_str()], failures.get(*class)));
        },
    },
    Metric {
        name: "pgweir_outage_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "How long the outage has lasted; 0 when there is none.",
        read: |of, out| {
            let lasting = of.health.outage.as_ref().map_or(0.0, |outage| (of.health.at - outage.since).as_secs_f64());
            out.seconds(lasting);
        },
    },
    Metric {
        name: "pgweir_suspected_leaks",
        kind: Kind::Gauge,
        labels: &[],
        help: "Leases suspected of a leak now.",
        read: |of, out| out.number(&[], of.stats.leaks.into()),
    },
    Metric {
        name: "pgweir_leaks_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Leases that were ever suspected of a leak.",
        read: |of, out| out.number(&[], of.stats.totals.leaks_suspected),
    },
    Metric {
        name: "pgweir_host_reachable",
        kind: Kind::Gauge,
        labels: &[HOST],
        help: "1 if the last attempt to connect to the host went well or none was made yet, else 0.",
        read: |of, out| of.each_host(|name, host| out.number(&[name], host.reachable.into())),
    },
    Metric {
        name: "pgweir_host_role",
        kind: Kind::Gauge,
        labels: &[HOST, Label { name: "role", values: &names!(Role: Unknown Primary Standby) }],
        help: "What the host was when a connection was last opened there: 1 for that role, 0 for the others.",
        read: |of, out| {
            of.each_host(|name, host| {
                Role::ALL.iter().for_each(|role| out.number(&[name, role.as_str()], u64::from(*role == host.role)));
            });
        },
    },
    Metric {
        name: "pgweir_host_connections",
        kind: Kind::Gauge,
        labels: &[HOST],
        help: "Connections open to the host.",
        read: |of, out| of.each_host(|name, host| out.number(&[name], host.connections.into())),
    },
    Metric {
        name: "pgweir_host_connect_attempts_total",
        kind: Kind::Counter,
        labels: &[HOST],
        help: "Connects to the host begun.",
        read: |of, out| of.each_host(|name, host| out.number(&[name], host.attempts)),
    },
    Metric {
        name: "pgweir_host_connect_failures_total",
        kind: Kind::Counter,
        labels: &[HOST],
        help: "Connects to the host that failed.",
        read: |of, out| of.each_host(|name, host| out.number(&[name], host.failures)),
    },
];

const HOST: Label = Label { name: "host", values: &[] };

impl Snapshot {
    /// Two entries of the configuration may name one host: its samples would be two of the same name, so it is told once.
    fn each_host(&self, mut tell: impl FnMut(&str, &HostStatus)) {
        for (index, (name, host)) in self.host_names.iter().zip(&self.hosts).enumerate() {
            if !self.host_names[..index].contains(name) {
                tell(name, host);
            }
        }
    }
}
