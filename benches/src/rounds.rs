//! Interleaved rounds, medians, ratios.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

/// CPU time of this process, all threads, since it started. The sum is exact; many kernels sample how it divides.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// In its own code.
    pub user: Duration,
    /// In the kernel on its behalf.
    pub system: Duration,
}

impl Cpu {
    /// Until now.
    pub fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask after itself");
        let time = |part: TimeVal| Duration::from_micros(part.num_microseconds() as u64);
        Cpu { user: time(usage.user_time()), system: time(usage.system_time()) }
    }

    /// Both.
    pub fn total(self) -> Duration {
        self.user + self.system
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu { user: self.user.saturating_sub(earlier.user), system: self.system.saturating_sub(earlier.system) }
    }
}

/// One contender's figures, one per round.
#[derive(Debug)]
pub struct Contender {
    name: &'static str,
    rounds: Vec<f64>,
}

/// A table of contenders measured in turn.
#[derive(Debug)]
pub struct Table {
    title: &'static str,
    unit: &'static str,
    contenders: Vec<Contender>,
}

impl Table {
    /// An empty table; figures are in `unit`, smaller is better.
    pub fn new(title: &'static str, unit: &'static str) -> Self {
        Table { title, unit, contenders: Vec::new() }
    }

    /// Adds a round's figure.
    pub fn record(&mut self, name: &'static str, figure: f64) {
        match self.contenders.iter_mut().find(|contender| contender.name == name) {
            Some(contender) => contender.rounds.push(figure),
            None => self.contenders.push(Contender { name, rounds: vec![figure] }),
        }
    }

    /// The median of a contender's rounds.
    pub fn median(&self, name: &str) -> f64 {
        let contender = self.contenders.iter().find(|contender| contender.name == name);
        median(&contender.expect("a contender that took part").rounds)
    }

    /// The table as text; ratios are pgweir's median over each other's, and below 1 means pgweir is cheaper.
    pub fn render(&self) -> String {
        let ours = self.median("pgweir");
        let mut text =
            format!("{} ({}, median of {} rounds)\n", self.title, self.unit, self.contenders[0].rounds.len());
        for contender in &self.contenders {
            let (low, high) = contender.rounds.iter().fold((f64::MAX, 0_f64), |(l, h), &x| (l.min(x), h.max(x)));
            let median = median(&contender.rounds);
            text += &format!(
                "  {:<28} {median:>10.2}   [{low:.2} .. {high:.2}]   pgweir / this: {:.2}\n",
                contender.name,
                ours / median
            );
        }
        text
    }
}

fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
