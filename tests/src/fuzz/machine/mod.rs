//! Any events, for a pool machine with any configuration.
//!
//! The bytes are a configuration, a seed and steps. Most steps are what a driver would say (they answer what the machine
//! asked for), some are anything at all: unknown ids, ids of connections in another state, times far apart. The machine
//! checks its own invariants after each (debug assertions are on); [`Outside`] checks what can be seen without looking
//! in. Then the journal of it all is written, read and run again: it must agree, and end with the same machine.

mod outside;
mod step;

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use pgweir_core::config::{PoolConfig, ValidationPolicy};
use pgweir_core::journal::{Check, Header, Journal, Replay, Why, Writer};
use pgweir_core::pool::{Event, Machine};
use pgweir_core::time::{Instant, Wall};

use outside::Outside;
use step::Step;

/// More steps than this find nothing that fewer do not, and take long.
const MAX_STEPS: usize = 2_000;

/// Runs the machine through what the bytes say.
pub fn machine_events(bytes: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    let config = case.knobs.config();
    let mut outside = Outside::new(&config, case.seed);
    let start = outside.machine().clone();
    outside.tell(Event::Start { lazy: case.lazy });
    for step in case.steps.iter().take(MAX_STEPS) {
        step.take(&mut outside);
    }
    if case.ends {
        outside.end();
    }
    replays(&start, outside.machine(), outside.told());
}

/// What was told can be written down, read and run again.
fn replays(start: &Machine, end: &Machine, told: &[(Instant, Event, Check)]) {
    let wall = Wall { at: Instant::ZERO, unix: Duration::ZERO };
    let header = Header {
        version: "fuzz".to_owned(),
        config: start.config().clone(),
        wall,
        why: Why::Continuous,
        written: Instant::ZERO,
    };
    let mut writer = Writer::new(&header, start);
    told.iter().for_each(|(at, event, check)| writer.entry(*at, event, *check));
    let journal = Journal::read(&writer.finish()).expect("it was just written");
    assert_eq!(journal.loss(), None, "Replay: the journal has lost something");
    let mut replay = Replay::new(&journal);
    assert_eq!(replay.verify(), None, "Replay: the machine went another way");
    assert!(replay.machine() == end, "Replay: it ended as another machine");
}

#[derive(Arbitrary, Debug)]
struct Case {
    knobs: Knobs,
    seed: u64,
    lazy: bool,
    ends: bool,
    steps: Vec<Step>,
}

/// A valid configuration, extremes included.
#[derive(Arbitrary, Debug)]
struct Knobs {
    sizes: (u8, u8),
    max_connecting: u8,
    max_waiting: u8,
    hosts: u8,
    validation: u8,
    init_attempts: u8,
    max_queries: u8,
    reset_on_release: bool,
    enable_leak_detection: bool,
    multiplier: u8,
    jitter: u8,
    spans: [Span; 14],
}

impl Knobs {
    fn config(&self) -> PoolConfig {
        let millisecond = Duration::from_millis(1);
        let spans = self.spans.map(|Span(span)| span);
        let [
            acquire,
            slow,
            connect,
            interval,
            check,
            reset,
            close,
            idle,
            lifetime,
            leak,
            initial,
            longest,
            probe,
            grace,
        ] = spans;
        let some = |span: Duration| span.max(Duration::from_nanos(1));
        let initial = initial.max(millisecond);
        let max_size = 1 + u32::from(self.sizes.1 % 6);
        let validations = [ValidationPolicy::Interval, ValidationPolicy::Always, ValidationPolicy::Suspect];
        PoolConfig::builder()
            .min_size(u32::from(self.sizes.0 % 5).min(max_size))
            .max_size(max_size)
            .acquire_timeout(some(acquire))
            .acquire_slow(slow)
            .connect_timeout(some(connect))
            .validation(validations[usize::from(self.validation) % 3])
            .validation_interval(interval)
            .validation_timeout(some(check))
            .reset_timeout(some(reset))
            .close_timeout(some(close))
            .reset_on_release(self.reset_on_release)
            .max_queries([0, 1, 5, u64::MAX][usize::from(self.max_queries) % 4])
            .max_idle_time(idle)
            .max_connection_lifetime(lifetime)
            .leak_detection_timeout(leak)
            .enable_leak_detection(self.enable_leak_detection)
            .backoff_initial(initial)
            .backoff_max(longest.max(initial))
            .backoff_multiplier([1.0, 1.5, 2.0, 100.0][usize::from(self.multiplier) % 4])
            .backoff_jitter([0.0, 0.1, 0.5][usize::from(self.jitter) % 3])
            .demand_probe_interval(if probe.is_zero() { probe } else { probe.max(millisecond) })
            .outage_grace(grace)
            .max_connecting(1 + u32::from(self.max_connecting % 4))
            .max_waiting([1, 3, 1_000][usize::from(self.max_waiting) % 3])
            .init_attempts(1 + u32::from(self.init_attempts % 4))
            .hosts(1 + u16::from(self.hosts % 3))
            .build()
            .expect("within the rules")
    }
}

/// A duration: mostly what people configure, sometimes what nobody does.
#[derive(Clone, Copy, Debug)]
struct Span(Duration);

impl<'a> Arbitrary<'a> for Span {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(Span(match u.arbitrary::<u8>()? % 16 {
            0 | 1 => Duration::ZERO,
            2 => Duration::from_nanos(1),
            3..=8 => Duration::from_millis(u.arbitrary::<u16>()?.into()),
            9..=12 => Duration::from_secs(u.arbitrary::<u8>()?.into()),
            13 => Duration::from_nanos(u.arbitrary()?),
            14 => Duration::from_secs(u.arbitrary()?),
            _ => Duration::MAX,
        }))
    }
}
