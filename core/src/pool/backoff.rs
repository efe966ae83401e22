//! When to try again: the reconnect schedule of one host, and the generator behind its jitter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Fault, FaultClass};
use crate::config::PoolConfig;
use crate::time::Instant;

/// SplitMix64: a full-period generator in one word of state. Jitter needs no more.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// A fraction in [0, 1).
    pub(super) fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `duration` moved by up to `jitter` of itself, up or down.
    pub(super) fn around(&mut self, duration: Duration, jitter: f64) -> Duration {
        scale(duration, 1.0 + jitter * (2.0 * self.fraction() - 1.0))
    }

    /// `duration` shortened by up to `jitter` of itself.
    pub(super) fn below(&mut self, duration: Duration, jitter: f64) -> Duration {
        scale(duration, 1.0 - jitter * self.fraction())
    }
}

/// `duration` times `factor`; what does not fit is the longest that does.
pub(super) fn scale(duration: Duration, factor: f64) -> Duration {
    let nanos = duration.as_nanos() as f64 * factor.max(0.0);
    // A float too large for u64 becomes u64::MAX, and NaN 0.
    Duration::from_nanos(nanos as u64)
}

/// No two attempts follow each other faster than this, whatever is configured.
const MIN_DELAY: Duration = Duration::from_millis(1);

/// A century: a delay is never so long that its end is never.
const MAX_DELAY: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What the pool knows about reaching one host.
///
/// A link is *good* until a connect fails, and again from the next that succeeds. While it is not, one connect at a time
/// follows the schedule. Success does not reset the schedule by itself: only a link that stayed good for as long as the
/// last delay starts from the first step again, so that a server that accepts and dies is tried ever less often.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Link {
    /// The failure that no success has answered yet.
    fault: Option<Fault>,
    /// Whether that is a full server's, also while it counts as an outage's.
    full: bool,
    /// Connects in flight.
    in_flight: u32,
    /// Failures in a row that advanced the schedule.
    failures: u32,
    /// The next delay's position in the schedule.
    step: u32,
    /// The delay drawn last.
    delay: Duration,
    /// When the last failure that counted happened.
    failed_at: Instant,
    /// When the link became good.
    good_since: Instant,
    /// When the schedule allows the next connect.
    next: Instant,
    /// When demand allows the next connect.
    demand: Instant,
    /// Connections in a row that died young.
    young_losses: u32,
    /// When the last of them died.
    young_lost_at: Option<Instant>,
    /// When a death last counted as a failed connect.
    died_at: Option<Instant>,
}

impl Link {
    pub(super) fn new(now: Instant) -> Self {
        Link {
            fault: None,
            full: false,
            in_flight: 0,
            failures: 0,
            step: 0,
            delay: Duration::ZERO,
            failed_at: Instant::ZERO,
            good_since: now,
            next: Instant::ZERO,
            demand: Instant::ZERO,
            young_losses: 0,
            young_lost_at: None,
            died_at: None,
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.fault.is_none()
    }

    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    pub(super) fn class(&self) -> Option<FaultClass> {
        self.fault.as_ref().map(|fault| fault.class)
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(super) fn failed_at(&self) -> Instant {
        self.failed_at
    }

    pub(super) fn started(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// From when on a connect may start; `demand` says that somebody waits for it. Permanent faults and a full server
    /// ignore demand: asking more often would not help, and could lock an account.
    pub(super) fn ready_at(&self, demand: bool) -> Instant {
        match self.class() {
            None => Instant::ZERO,
            Some(FaultClass::Permanent | FaultClass::Capacity) => self.next,
            Some(_) if demand => self.next.min(self.demand),
            Some(_) => self.next,
        }
    }

    /// A connect that started at `started` succeeded. If it was under way when a young connection's death was counted
    /// as a failure, it proves nothing: that one had succeeded too. Likewise if it was when the server said that it was
    /// full: it may have taken the last place.
    pub(super) fn succeeded(&mut self, now: Instant, started: Instant) {
        let full = self.class() == Some(FaultClass::Capacity) && started <= self.failed_at;
        let outdated = full || self.died_at.is_some_and(|died_at| started <= died_at);
        if !outdated && self.fault.take().is_some() {
            self.good_since = now;
        }
        // A login that was let in after a refusal shows that the refusal is not for good, whenever it began.
        if let Some(fault) = &mut self.fault
            && fault.class == FaultClass::Permanent
        {
            fault.class = FaultClass::Transient;
        }
    }

    /// A connect that started at `started` failed. Returns the attempt that follows and its delay, unless the failure
    /// belongs to a batch whose first failure has set the schedule already. The last of a batch counts by itself where
    /// that schedule is over by then: the next attempt would follow at once.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        started: Instant,
        fault: Fault,
        config: &PoolConfig,
        rng: &mut Rng,
    ) -> Option<(u32, Duration)> {
        let class = fault.class;
        let ready = self.ready_at(true);
        let was_good = self.fault.replace(fault).is_none();
        // The schedule that is set must hold for what failed now, too.
        let pending = self.in_flight > 0 || now < ready.min(self.ready_at(true));
        if !was_good && started <= self.failed_at && pending {
            return None;
        }
        if was_good && now - self.good_since >= self.delay.max(config.backoff_initial) {
            self.failures = 0;
            self.step = 0;
        }
        if class == FaultClass::NotYet {
            self.step = 0;
        }
        let base = match class {
            FaultClass::Permanent | FaultClass::Capacity => config.backoff_max,
            _ => schedule(config, self.step),
        };
        self.failures = self.failures.saturating_add(1);
        self.step = self.step.saturating_add(1);
        self.failed_at = now;
        self.delay = rng.around(base, config.backoff_jitter).clamp(MIN_DELAY, MAX_DELAY);
        self.next = now + self.delay;
        let demand = rng.below(config.demand_probe_interval, config.backoff_jitter).max(MIN_DELAY);
        self.demand = if config.demand_probe_interval.is_zero() { Instant::MAX } else { now + demand };
        Some((self.failures, self.delay))
    }

    /// A connection that was open all the time has been proved: the server lives, so the next connect need not wait for
    /// the schedule, only keep the distance that demand keeps too. Of a server whose connections die young it proves
    /// nothing.
    pub(super) fn server_lives(&mut self) {
        let may_pass = matches!(self.class(), Some(FaultClass::Transient | FaultClass::NotYet | FaultClass::WrongRole));
        let dies_young = self.died_at.is_some_and(|died_at| died_at >= self.failed_at);
        if may_pass && !dies_young {
            self.next = self.next.min(self.demand);
        }
    }

    /// The server has room again: a connection of ours is gone.
    pub(super) fn room_was_made(&mut self, now: Instant) {
        if self.class() == Some(FaultClass::Capacity) {
            self.next = self.next.min(now);
        }
    }

    /// Says whether the last failure was a full server's, whatever class it was given.
    pub(super) fn note_full(&mut self, full: bool) {
        self.full = full;
    }

    /// A connection is open: a server that claims to be full is just that.
    pub(super) fn something_left(&mut self) {
        if let Some(fault) = &mut self.fault
            && self.full
        {
            fault.class = FaultClass::Capacity;
        }
    }

    /// No connection is left while the server claims to be full: that is an outage like any other.
    pub(super) fn nothing_left(&mut self, config: &PoolConfig, rng: &mut Rng) {
        if let Some(fault) = &mut self.fault
            && fault.class == FaultClass::Capacity
        {
            fault.class = FaultClass::Transient;
            self.step = 1;
            self.delay = rng.around(config.backoff_initial, config.backoff_jitter);
            self.next = self.next.min(self.failed_at + self.delay);
        }
    }

    /// A connection opened at `opened` died. Says whether that counts as a failed connect: a second one in a row that
    /// dies young, or the first after an outage.
    pub(super) fn lost(&mut self, now: Instant, opened: Instant, config: &PoolConfig) -> bool {
        if !self.is_good() || now - opened >= config.backoff_initial {
            return false;
        }
        match self.young_lost_at.replace(now) {
            // It died with the one before.
            Some(last) if opened <= last => return false,
            Some(last) if now - last < config.backoff_max => {}
            _ => self.young_losses = 0,
        }
        self.young_losses = self.young_losses.saturating_add(1);
        let on_probation = self.failures > 0 && now - self.good_since < self.delay.max(config.backoff_initial);
        let counts = self.young_losses >= 2 || on_probation;
        if counts {
            self.died_at = Some(now);
        }
        counts
    }
}

/// The delay at `step`, without jitter.
fn schedule(config: &PoolConfig, step: u32) -> Duration {
    let mut delay = config.backoff_initial.min(config.backoff_max);
    for _ in 0..step.min(64) {
        delay = scale(delay, config.backoff_multiplier.max(1.0)).min(config.backoff_max);
    }
    delay
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_doubles_to_its_maximum() {
        let config = PoolConfig::default();
        let seconds: Vec<u64> = (0..7).map(|step| schedule(&config, step).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 16, 16]);
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_uses_them() {
        let mut rng = Rng::new(7);
        let second = Duration::from_secs(1);
        let draws: Vec<Duration> = (0..1000).map(|_| rng.around(second, 0.1)).collect();
        assert!(draws.iter().all(|d| (900..=1100).contains(&d.as_millis())));
        assert!(draws.iter().any(|d| d.as_millis() < 920) && draws.iter().any(|d| d.as_millis() > 1080));
        assert!((0..1000).all(|_| (900..=1000).contains(&rng.below(second, 0.1).as_millis())));
    }

    /// The swarm, seed 2847: a connection's death lies between the connects' begin and the refusal of one of them.
    #[test]
    fn a_permanent_refusal_is_not_for_good_once_a_login_succeeds() {
        let (config, mut rng) = (PoolConfig::default(), Rng::new(7));
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let fault = |class| Fault::plain(class, "a fault");
        let mut link = Link::new(at(0));
        link.started();
        link.started();
        assert!(!link.lost(at(100), at(50), &config) && link.lost(at(200), at(150), &config));
        link.failed(at(200), at(150), fault(FaultClass::Transient), &config, &mut rng);
        link.ended();
        link.failed(at(300), at(0), fault(FaultClass::Permanent), &config, &mut rng);
        assert_eq!(link.class(), Some(FaultClass::Permanent));
        link.ended();
        link.succeeded(at(400), at(0));
        assert_eq!(link.class(), Some(FaultClass::Transient), "it proves nothing of the deaths");
    }

    #[test]
    fn absurd_settings_do_not_overflow() {
        let config = PoolConfig {
            backoff_initial: Duration::MAX,
            backoff_max: Duration::MAX,
            backoff_multiplier: f64::MAX,
            ..PoolConfig::default()
        };
        assert_eq!(schedule(&config, 60), Duration::from_nanos(u64::MAX));
        assert_eq!(scale(Duration::from_secs(1), f64::NAN), Duration::ZERO);
        let (mut link, now) = (Link::new(Instant::ZERO), Instant::from_secs(1));
        link.failed(now, now, Fault::plain(FaultClass::Transient, "a fault"), &config, &mut Rng::new(1));
        assert!(link.ready_at(false) < Instant::MAX, "it is tried again some time");
    }
}
