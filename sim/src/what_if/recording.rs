//! What is simulated again: requests and a server, as they were recorded, on a clock that begins at 0.

use std::sync::Arc;
use std::time::Duration;

use pgweir_core::pool::{Fate, Fault};
use pgweir_core::time::Instant;

use crate::rng::Rng;

/// Requests and a server, ready to be run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording {
    /// In order of their arrival.
    pub(crate) requests: Vec<Planned>,
    /// In order of their time; those of one moment happen in their order here.
    pub(crate) changes: Vec<(Instant, Change)>,
    pub(crate) times: Times,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Instant,
    /// How long it waits; zero is `try_get`, `None` the pool's acquire_timeout.
    pub(crate) patience: Option<Duration>,
    pub(crate) leak_after: Option<Duration>,
    /// Its group in the scenario.
    pub(crate) site: u32,
    /// From grant to release; [`Duration::MAX`] is for ever.
    pub(crate) hold: Duration,
    pub(crate) fate: Fate,
    pub(crate) queries: u64,
    /// When its caller gives it up, if it still waits then.
    pub(crate) cancel: Option<Duration>,
}

/// What happens to the server, beyond what a scenario's timeline can say.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// New connections are answered with this.
    Refuse(Refusal),
    /// New connections are accepted again.
    Accept,
    /// This share of the open sessions ends.
    Deaths { share: f64, fault: Fault },
}

/// How connections are refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    /// How long that took, each time that it was seen.
    pub(crate) delays: Samples,
}

/// How long things took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    pub(crate) connect: Samples,
    pub(crate) validate: Samples,
    pub(crate) reset: Samples,
    pub(crate) close: Samples,
}

/// An empirical distribution: each draw is one of the durations that were seen. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Arc<[Duration]>);

impl Samples {
    /// In any order.
    pub(crate) fn new(mut seen: Vec<Duration>) -> Self {
        seen.sort_unstable();
        Samples(seen.into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Zero if there is none.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Duration {
        pick(&self.0, rng).unwrap_or_default()
    }

    /// One of those that are longer than `bound`, if there is one.
    pub(crate) fn draw_longer(&self, bound: Duration, rng: &mut Rng) -> Option<Duration> {
        let first = self.0.partition_point(|seen| *seen <= bound);
        pick(&self.0[first..], rng)
    }

    /// The longest one; zero if there is none.
    pub(crate) fn longest(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// The middle one; zero if there is none.
    pub(crate) fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }
}

/// The same number of draws whatever there is to draw from.
fn pick(from: &[Duration], rng: &mut Rng) -> Option<Duration> {
    let index = (rng.fraction() * from.len() as f64) as usize;
    from.get(index).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_what_was_seen() {
        let seconds = |list: &[u64]| Samples::new(list.iter().map(|s| Duration::from_secs(*s)).collect());
        let samples = seconds(&[5, 1, 3]);
        let mut rng = Rng::new(1, 1);
        let drawn: Vec<u64> = (0..200).map(|_| samples.draw(&mut rng).as_secs()).collect();
        assert!([1, 3, 5].iter().all(|one| drawn.contains(one)) && drawn.iter().all(|one| [1, 3, 5].contains(one)));
        let longer: Vec<_> = (0..50).map(|_| samples.draw_longer(Duration::from_secs(1), &mut rng)).collect();
        assert!(longer.iter().all(|one| one.is_some_and(|one| one.as_secs() > 1)), "{longer:?}");
        assert_eq!(samples.draw_longer(Duration::from_secs(5), &mut rng), None);
        assert_eq!(seconds(&[]).draw(&mut rng), Duration::ZERO);
        assert_eq!((samples.median().as_secs(), samples.longest().as_secs()), (3, 5));
    }
}
