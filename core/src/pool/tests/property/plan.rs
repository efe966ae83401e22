//! A plan: a configuration, a seed and steps; how quickcheck draws one and makes a failing one smaller.

use std::time::Duration;

use quickcheck::{Arbitrary, Gen};

use super::super::rig::{ms, secs};
use crate::config::{PoolConfig, ValidationPolicy};
use crate::pool::{Fate, FaultClass};

/// What happens next. `nth` picks among those that it can happen to; where there are none it does not happen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Step {
    Acquire {
        wait: Duration,
        leak_after: Option<Duration>,
    },
    Cancel {
        nth: usize,
    },
    Release {
        nth: usize,
        fate: Fate,
        queries: u64,
    },
    CheckFailed {
        nth: usize,
    },
    Connect {
        nth: usize,
        fault: Option<FaultClass>,
    },
    Check {
        nth: usize,
        fault: Option<FaultClass>,
    },
    Reset {
        nth: usize,
        fault: Option<FaultClass>,
    },
    Lost {
        nth: usize,
        class: FaultClass,
    },
    Touched {
        nth: usize,
    },
    Closed {
        nth: usize,
    },
    /// Time passes, and nobody ticks.
    Pass {
        time: Duration,
    },
    /// Time passes to the deadline, with a tick there.
    ToDeadline,
    Pause,
    Resume,
    Recycle,
    Resize {
        min: u32,
        max: u32,
    },
    Shutdown {
        after: Duration,
    },
    /// An event that names what does not exist, or no longer.
    Noise {
        nth: usize,
    },
}

#[derive(Clone, PartialEq)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) seed: u64,
    pub(super) lazy: bool,
    pub(super) steps: Vec<Step>,
}

/// One choice for each field, by position; the first choice is the simplest.
macro_rules! choices {
    ($($field:ident: [$($choice:expr),* $(,)?],)*) => {
        #[derive(Clone, PartialEq, Debug)]
        pub(super) struct Settings(Vec<usize>);

        const CHOICES: &[&[&str]] = &[$(&[$(stringify!($choice)),*]),*];

        impl Settings {
            pub(super) fn config(&self) -> PoolConfig {
                let mut picks = self.0.iter().copied();
                let mut config = PoolConfig::default();
                $(config.$field = [$($choice),*][picks.next().unwrap_or(0)];)*
                config.min_size = config.min_size.min(config.max_size);
                config
            }

            /// The fields that differ from the defaults, as source.
            pub(super) fn source(&self) -> Vec<String> {
                let (config, default) = (self.config(), PoolConfig::default());
                let mut fields = Vec::new();
                let mut picks = self.0.iter().copied().zip(CHOICES);
                $(
                    let (pick, texts) = picks.next().unwrap_or((0, &CHOICES[0]));
                    if config.$field != default.$field {
                        fields.push(format!(concat!(stringify!($field), ": {}"), texts[pick]));
                    }
                )*
                fields
            }
        }
    };
}

choices! {
    max_size: [1, 2, 3, 4, 6],
    min_size: [0, 1, 2, 3],
    max_connecting: [4, 1, 2],
    max_waiting: [10_000, 1, 3],
    validation: [ValidationPolicy::Interval, ValidationPolicy::Always, ValidationPolicy::Suspect],
    validation_interval: [ms(500), ms(50), secs(30)],
    validation_timeout: [secs(5), ms(200)],
    reset_on_release: [false, true],
    reset_timeout: [secs(5), ms(200)],
    connect_timeout: [secs(5), ms(300)],
    close_timeout: [secs(2), ms(100)],
    max_queries: [50_000, 1, 5],
    max_idle_time: [secs(60), ms(400), secs(0)],
    max_connection_lifetime: [secs(3600), secs(3), secs(40), secs(0)],
    leak_detection_timeout: [secs(30), ms(100)],
    acquire_slow: [secs(1), ms(0), ms(200)],
    backoff_initial: [secs(1), ms(100)],
    backoff_max: [secs(16), secs(2)],
    demand_probe_interval: [secs(1), ms(0), ms(300)],
    outage_grace: [secs(2), ms(0), ms(500)],
    init_attempts: [3, 1],
    hosts: [1, 2],
}

impl Settings {
    pub(super) fn simplest() -> Self {
        Settings(vec![0; CHOICES.len()])
    }

    /// Every field with its last choice.
    pub(super) fn most_different() -> Self {
        Settings(CHOICES.iter().map(|choices| choices.len() - 1).collect())
    }
}

impl Arbitrary for Plan {
    fn arbitrary(g: &mut Gen) -> Self {
        let settings = Settings(CHOICES.iter().map(|choices| below(g, choices.len())).collect());
        let calm = one_in(g, 4);
        // Each plan has its own favourites: some things happen all the time, some never.
        let mut weights: Vec<u32> = KINDS.iter().map(|kind| kind.weight * pick(g, &[0, 1, 1, 2, 4])).collect();
        for (weight, kind) in weights.iter_mut().zip(KINDS) {
            if kind.needed {
                *weight = (*weight).max(kind.weight);
            }
            if (kind.trouble && calm) || (kind.last && !one_in(g, 4)) {
                *weight = 0;
            }
        }
        let length = 1 + below(g, g.size());
        let steps = (0..length).map(|_| step(g, &weights, calm)).collect();
        Plan { settings, seed: u64::arbitrary(g), lazy: !one_in(g, 3), steps }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let plan = self.clone();
        let fewer = chunks(self.steps.len()).map(move |(from, to)| {
            let mut fewer = plan.clone();
            fewer.steps.drain(from..to);
            fewer
        });
        let plan = self.clone();
        let simpler = (0..self.steps.len()).flat_map(move |place| {
            let plan = plan.clone();
            simpler(plan.steps[place]).into_iter().map(move |step| {
                let mut simpler = plan.clone();
                simpler.steps[place] = step;
                simpler
            })
        });
        let plan = self.clone();
        let plainer = (0..CHOICES.len()).flat_map(move |field| {
            let plan = plan.clone();
            (0..plan.settings.0[field]).map(move |choice| {
                let mut plainer = plan.clone();
                plainer.settings.0[field] = choice;
                plainer
            })
        });
        let mut seedless = Vec::new();
        if self.seed != 0 {
            seedless.push(Plan { seed: 0, ..self.clone() });
        }
        if !self.lazy {
            seedless.push(Plan { lazy: true, ..self.clone() });
        }
        Box::new(fewer.chain(simpler).chain(plainer).chain(seedless))
    }
}

/// Which steps to leave out: halves first, then ever smaller chunks, single steps at last.
fn chunks(length: usize) -> impl Iterator<Item = (usize, usize)> {
    let sizes = std::iter::successors(Some(length), |size| (*size > 1).then_some(size.div_ceil(2)));
    sizes
        .filter(|size| *size > 0)
        .flat_map(move |size| (0..length).step_by(size).map(move |from| (from, (from + size).min(length))))
}

/// The same step with the first candidate, less time, a plainer fault.
fn simpler(step: Step) -> Vec<Step> {
    let shorter = |time: Duration| -> Vec<Duration> {
        let millis = time.as_millis() as u64;
        let all = [0, millis / 10, millis / 2, millis.saturating_sub(1)];
        all.into_iter().filter(|shorter| *shorter < millis).map(ms).collect()
    };
    let plain = |fault: Option<FaultClass>| -> Vec<Option<FaultClass>> {
        match fault {
            None => vec![],
            Some(FaultClass::Transient) => vec![None],
            Some(_) => vec![None, Some(FaultClass::Transient)],
        }
    };
    let first = |nth: usize| (nth > 0).then_some(0);
    match step {
        Step::Acquire { wait, leak_after } => {
            let unwatched = leak_after.map(|_| Step::Acquire { wait, leak_after: None });
            let less = shorter(wait).into_iter().map(|wait| Step::Acquire { wait, leak_after });
            unwatched.into_iter().chain(less).collect()
        }
        Step::Pass { time } => shorter(time).into_iter().map(|time| Step::Pass { time }).collect(),
        Step::Shutdown { after } => shorter(after).into_iter().map(|after| Step::Shutdown { after }).collect(),
        Step::Release { nth, fate, queries } => {
            let nearer = first(nth).map(|nth| Step::Release { nth, fate, queries });
            let cleaner = (fate != Fate::Clean).then_some(Step::Release { nth, fate: Fate::Clean, queries });
            let fewer = (queries > 1).then_some(Step::Release { nth, fate, queries: 1 });
            nearer.into_iter().chain(cleaner).chain(fewer).collect()
        }
        Step::Connect { nth, fault } => {
            let nearer = first(nth).map(|nth| Step::Connect { nth, fault });
            nearer.into_iter().chain(plain(fault).into_iter().map(|fault| Step::Connect { nth, fault })).collect()
        }
        Step::Check { nth, fault } => {
            let nearer = first(nth).map(|nth| Step::Check { nth, fault });
            nearer.into_iter().chain(plain(fault).into_iter().map(|fault| Step::Check { nth, fault })).collect()
        }
        Step::Reset { nth, fault } => {
            let nearer = first(nth).map(|nth| Step::Reset { nth, fault });
            nearer.into_iter().chain(plain(fault).into_iter().map(|fault| Step::Reset { nth, fault })).collect()
        }
        Step::Cancel { nth } => first(nth).map(|nth| Step::Cancel { nth }).into_iter().collect(),
        Step::CheckFailed { nth } => first(nth).map(|nth| Step::CheckFailed { nth }).into_iter().collect(),
        Step::Lost { nth, class } => first(nth).map(|nth| Step::Lost { nth, class }).into_iter().collect(),
        Step::Touched { nth } => first(nth).map(|nth| Step::Touched { nth }).into_iter().collect(),
        Step::Closed { nth } => first(nth).map(|nth| Step::Closed { nth }).into_iter().collect(),
        _ => vec![],
    }
}

struct Kind {
    weight: u32,
    /// Nothing happens without it.
    needed: bool,
    /// It is a fault, or an operator's order.
    trouble: bool,
    /// Not much happens after it.
    last: bool,
}

const fn kind(weight: u32, needed: bool, trouble: bool) -> Kind {
    Kind { weight, needed, trouble, last: false }
}

/// In the order of [`step`].
const KINDS: [Kind; 18] = [
    kind(12, true, false),
    kind(2, false, false),
    // More than are acquired: a pool that is always busy shows little.
    kind(24, true, false),
    kind(1, false, true),
    kind(8, true, false),
    kind(8, true, false),
    kind(8, true, false),
    kind(2, false, true),
    kind(2, false, false),
    kind(6, true, false),
    kind(9, true, false),
    kind(2, true, false),
    kind(1, false, true),
    kind(2, false, true),
    kind(1, false, false),
    kind(1, false, true),
    Kind { weight: 1, needed: false, trouble: true, last: true },
    kind(1, false, false),
];

fn step(g: &mut Gen, weights: &[u32], calm: bool) -> Step {
    let sum: u32 = weights.iter().sum();
    let mut draw = below(g, sum as usize) as u32;
    let kind = weights.iter().position(|weight| {
        let hit = draw < *weight;
        draw = draw.wrapping_sub(*weight);
        hit
    });
    let nth = below(g, 16);
    let class = pick(g, &FAULTS);
    let fault = if calm || !one_in(g, 3) { None } else { Some(class) };
    match kind.unwrap_or(0) {
        0 => {
            let wait = pick(g, &[ms(0), ms(1), ms(300), secs(3), secs(30), secs(30)]);
            let leak_after = pick(g, &[None, None, None, Some(ms(50)), Some(Duration::MAX)]);
            Step::Acquire { wait, leak_after: leak_after.filter(|_| !calm) }
        }
        1 => Step::Cancel { nth },
        2 => {
            let fates = if calm { &FATES[..4] } else { &FATES[..] };
            Step::Release { nth, fate: pick(g, fates), queries: pick(g, &[1, 2, 0]) }
        }
        3 => Step::CheckFailed { nth },
        4 => Step::Connect { nth, fault },
        5 => Step::Check { nth, fault },
        6 => Step::Reset { nth, fault },
        7 => Step::Lost { nth, class },
        8 => Step::Touched { nth },
        9 => Step::Closed { nth },
        10 => Step::Pass { time: pick(g, &PASSES) },
        11 => Step::ToDeadline,
        12 => Step::Pause,
        13 => Step::Resume,
        14 => Step::Recycle,
        15 => Step::Resize { min: below(g, 5) as u32, max: below(g, 7) as u32 },
        16 => Step::Shutdown { after: pick(g, &[ms(0), ms(500), secs(3)]) },
        _ => Step::Noise { nth },
    }
}

const FATES: [Fate; 9] = [
    Fate::Clean,
    Fate::Unused,
    Fate::Clean,
    Fate::Unused,
    Fate::Clean,
    Fate::Clean,
    Fate::Dirty,
    Fate::Broken,
    Fate::Discarded,
];

const FAULTS: [FaultClass; 7] = [
    FaultClass::Transient,
    FaultClass::Transient,
    FaultClass::Transient,
    FaultClass::NotYet,
    FaultClass::Permanent,
    FaultClass::Capacity,
    FaultClass::WrongRole,
];

const PASSES: [Duration; 12] =
    [ms(1), ms(1), ms(20), ms(20), ms(60), ms(60), ms(150), ms(300), ms(450), secs(1), secs(2), secs(70)];

fn below(g: &mut Gen, bound: usize) -> usize {
    usize::arbitrary(g) % bound.max(1)
}

fn one_in(g: &mut Gen, n: usize) -> bool {
    below(g, n) == 0
}

fn pick<T: Copy>(g: &mut Gen, from: &[T]) -> T {
    from[below(g, from.len())]
}
