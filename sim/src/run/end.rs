//! The end of every run: the server is well again, everybody gets an answer, min_size is restored, the pool shuts down,
//! and the server has no session left.

use std::time::Duration;

use pgweir_core::pool::Event;
use pgweir_core::time::Instant;

use super::{Run, Step, Subject};
use crate::model::Server;
use crate::oracle::Violation;
use crate::scenario::HostRole;
use crate::trace::Trace;

/// Longer than any lease of a valid scenario.
const LONG: Duration = Duration::from_secs(63 * 24 * 3600);
/// What timers and answers may take beyond what is configured.
const LINGER: Duration = Duration::from_secs(5);

impl<S: Subject, T: Trace> Run<'_, S, T> {
    pub(super) fn wind_up(&mut self, end: Instant) -> Step {
        self.remark(format_args!("the scenario is over: the server comes back, and all is brought to an end"));
        self.open = false;
        self.record.states_within = self.record.states.len();
        let wanted = self.pool.counts().max;
        for host in 0..self.hosts.len() {
            let server = &mut self.hosts[host];
            server.heal(wanted);
            if server.cut.is_some() {
                self.heal_network(host);
            }
        }
        if self.hosts.iter().all(|host| host.role == HostRole::Standby) {
            self.hosts[0].role = HostRole::Primary;
        }
        self.note_outage();
        self.resume()?;
        if !self.shut_down {
            self.until_or(end + LONG, |run| !run.is_busy())?;
            self.restore_min()?;
            let deadline = self.now + self.scenario.pool.shutdown_timeout();
            if !self.oracle.is_over() {
                self.post(Event::Shutdown { deadline })?;
            }
        }
        // The oracle knows when it is too late.
        let limit = self.now + LONG;
        self.until_or(limit, |run| run.oracle.is_over())?;
        self.until_or(limit, |run| run.sessions() == 0)?;
        self.until_or(limit, |run| !run.is_busy())?;
        let stats = self.pool.stats(self.now);
        self.oracle.finish(&stats, self.sessions())?;
        let (tally, waiting) = (self.record.tally, self.oracle.waiting());
        if tally.started != tally.answered() || waiting > 0 {
            let detail = format!("{} requests, {} outcomes", tally.started, tally.answered());
            return Err(Violation { guarantee: "One answer", detail });
        }
        Ok(())
    }

    /// Sessions of the pool that the server knows of.
    fn sessions(&self) -> usize {
        self.hosts.iter().map(Server::sessions).sum()
    }

    /// With the server up, the pool gets back to min_size by itself.
    fn restore_min(&mut self) -> Step {
        let pool = &self.scenario.pool;
        let patience = pool.backoff_max().mul_f64(1.0 + pool.backoff_jitter())
            + pool.connect_timeout()
            + pool.validation_timeout()
            + pool.close_timeout()
            + LINGER;
        let restored = |run: &Self| {
            let counts = run.pool.counts();
            run.oracle.is_over() || counts.idle + counts.active >= run.min_size
        };
        self.until_or(self.now + patience, restored)?;
        if restored(self) {
            return Ok(());
        }
        let detail = format!("{patience:?} after the server came back: {:?}", self.pool.counts());
        Err(Violation { guarantee: "Min restored", detail })
    }
}
