//! When the server could not be used.
//!
//! The pool saw the server only when it looked. A time of trouble begins with the first question that it spoiled (or with
//! the deaths right before it), and ended between the last question that it spoiled and the first good answer after
//! that: both bounds are kept. Which moment between them is taken is the caller's choice.

use std::collections::BTreeSet;
use std::time::Duration;

use pgweir_core::pool::{Fault, FaultClass, HostId};
use pgweir_core::time::Instant;

use super::super::History;
use super::super::recording::{Refusal, Samples};
use super::conns::{Attempt, Seen};
use super::{Deaths, Limit};

/// Deaths this little before the first failed connect are of the same trouble.
const JOINED: Duration = Duration::from_secs(1);

/// Reasons that are shown.
const MOST_PHASES: usize = 4;

/// A time in which the server could not be used.
#[derive(Clone, Debug)]
pub(in crate::what_if) struct Outage {
    pub(in crate::what_if) from: Instant,
    /// When it may have ended: the earliest and the latest moment. The latest is [`Instant::MAX`] if it was not over
    /// when the history ended.
    pub(in crate::what_if) until: (Instant, Instant),
    pub(in crate::what_if) trouble: Trouble,
}

/// What was wrong.
#[derive(Clone, Debug)]
pub(in crate::what_if) enum Trouble {
    /// Connects failed, each phase from its time on with its fault.
    Refusing(Vec<(Instant, Refusal)>),
    /// Nothing was answered.
    Silent,
}

impl Outage {
    /// What people call it.
    pub(in crate::what_if) fn text(&self) -> String {
        match &self.trouble {
            Trouble::Silent => "no answers".to_owned(),
            Trouble::Refusing(phases) => {
                let mut texts: Vec<String> =
                    phases.iter().take(MOST_PHASES).map(|(_, refusal)| refusal.fault.to_string()).collect();
                if phases.len() > MOST_PHASES {
                    texts.push(format!("{} more reasons", phases.len() - MOST_PHASES));
                }
                texts.join("; then ")
            }
        }
    }
}

/// The times of trouble in order, and how many questions got no answer though others did.
pub(super) fn outages(seen: &Seen, deaths: &[Deaths], history: &History) -> (Vec<Outage>, u32) {
    let mut outages = all_hosts_refuse(seen, deaths, history);
    let (silences, odd) = silences(seen);
    outages.extend(silences);
    outages.sort_by_key(|outage| outage.from);
    (outages, odd)
}

/// Connects that failed one after the other for the same reason.
struct Phase<'a> {
    fault: &'a Fault,
    first: Instant,
    last: Instant,
    delays: Vec<Duration>,
}

/// The times in which connects failed at every host that was tried at all.
fn all_hosts_refuse(seen: &Seen, deaths: &[Deaths], history: &History) -> Vec<Outage> {
    let hosts: BTreeSet<HostId> = seen.attempts.iter().map(|attempt| attempt.host).collect();
    let outages = hosts.into_iter().map(|host| {
        let attempts: Vec<&Attempt> = seen.attempts.iter().filter(|attempt| attempt.host == host).collect();
        refusals(&attempts, deaths, history)
    });
    outages.reduce(|one, other| overlaps(&one, &other)).unwrap_or_default()
}

/// The times in which both are. What is said then is what the one said whose trouble began later.
fn overlaps(one: &[Outage], other: &[Outage]) -> Vec<Outage> {
    let pairs = one.iter().flat_map(|one| other.iter().map(move |other| (one, other)));
    let both = pairs.filter(|(one, other)| one.from.max(other.from) <= one.until.0.min(other.until.0));
    both.map(|(one, other)| {
        let until = (one.until.0.min(other.until.0), one.until.1.min(other.until.1));
        let later = if one.from > other.from { one } else { other };
        Outage { until, ..later.clone() }
    })
    .collect()
}

fn refusals(attempts: &[&Attempt], deaths: &[Deaths], history: &History) -> Vec<Outage> {
    let mut outages = Vec::new();
    let mut phases: Vec<Phase<'_>> = Vec::new();
    let mut good = None;
    // A pool that was down when the history began had been told so before.
    if let Some(fault) = &history.down {
        let begins = history.begins();
        phases.push(Phase { fault, first: begins, last: begins, delays: Vec::new() });
    }
    for attempt in attempts {
        match &attempt.fault {
            Some(fault) if fault.class == FaultClass::Capacity => {}
            Some(fault) => add(&mut phases, attempt, fault),
            None => {
                // A login that was under way when the trouble began says nothing about its end.
                if phases.first().is_some_and(|first| attempt.began >= first.first) {
                    outages.push(refusal(&phases, attempt.began, good, deaths));
                    phases.clear();
                }
                good = Some(attempt.ended);
            }
        }
    }
    if !phases.is_empty() {
        outages.push(refusal(&phases, Instant::MAX, good, deaths));
    }
    outages
}

fn add<'a>(phases: &mut Vec<Phase<'a>>, attempt: &Attempt, fault: &'a Fault) {
    let delay = attempt.ended - attempt.began;
    match phases.last_mut() {
        Some(phase) if phase.fault == fault => {
            phase.last = phase.last.max(attempt.ended);
            phase.delays.push(delay);
        }
        _ => phases.push(Phase { fault, first: attempt.began, last: attempt.ended, delays: vec![delay] }),
    }
}

/// `good` is when the last connect before it succeeded.
fn refusal(phases: &[Phase<'_>], latest: Instant, good: Option<Instant>, deaths: &[Deaths]) -> Outage {
    let began = phases[0].first;
    let just_before = began.saturating_sub(JOINED).max(good.unwrap_or(Instant::ZERO));
    let death = deaths.iter().map(|deaths| deaths.at).find(|at| *at >= just_before && *at <= began);
    let from = death.unwrap_or(began);
    let mut begins = from;
    let mut planned = Vec::new();
    for (index, phase) in phases.iter().enumerate() {
        let refusal = Refusal { fault: phase.fault.clone(), delays: Samples::new(phase.delays.clone()) };
        planned.push((begins, refusal));
        if let Some(next) = phases.get(index + 1) {
            begins = middle(phase.last, next.first);
        }
    }
    let earliest = phases[phases.len() - 1].last;
    Outage { from, until: (earliest, latest.max(earliest)), trouble: Trouble::Refusing(planned) }
}

/// The moment between two; the first if it is the later one.
pub(in crate::what_if) fn middle(from: Instant, to: Instant) -> Instant {
    from + (to - from) / 2
}

/// Nothing that was asked in such a time was answered before its end.
fn silences(seen: &Seen) -> (Vec<Outage>, u32) {
    let connects = seen.attempts.iter().map(|attempt| (attempt.began, attempt.ended));
    let mut answers: Vec<(Instant, Instant)> = seen.answers.iter().copied().chain(connects).collect();
    answers.sort_by_key(|(_, answered)| *answered);
    let mut unanswered = seen.unanswered.clone();
    unanswered.sort_unstable();
    let mut silences: Vec<Outage> = Vec::new();
    let mut odd = 0;
    for (asked, given_up) in unanswered {
        // Something else was asked and answered meanwhile: one peer is dead, not all is silent.
        let first = answers.partition_point(|(_, answered)| *answered <= asked);
        let meanwhile = answers[first..].iter().take_while(|(_, answered)| *answered < given_up);
        if meanwhile.into_iter().any(|(other, _)| *other > asked) {
            odd += 1;
            continue;
        }
        match silences.last_mut() {
            Some(last) if asked <= last.until.1 => last.until.0 = last.until.0.max(given_up),
            _ => silences.push(Outage { from: asked, until: (given_up, Instant::MAX), trouble: Trouble::Silent }),
        }
        if let Some(last) = silences.last_mut() {
            let after = answers.partition_point(|(_, answered)| *answered < last.until.0);
            last.until.1 = answers.get(after).map_or(Instant::MAX, |(_, answered)| *answered);
        }
    }
    (silences, odd)
}

/// How many sessions the server allowed, where it said that there were too many.
pub(super) fn limits(seen: &Seen) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    let mut full: Option<(u32, Instant)> = None;
    for attempt in &seen.attempts {
        match (&attempt.fault, full) {
            (Some(fault), _) if fault.class == FaultClass::Capacity => {
                if full.is_none_or(|(sessions, _)| sessions != attempt.sessions) {
                    limits.push(Limit { at: attempt.began, sessions: Some(attempt.sessions) });
                }
                full = Some((attempt.sessions, attempt.ended));
            }
            (None, Some((sessions, last))) if attempt.sessions >= sessions && attempt.began > last => {
                limits.push(Limit { at: middle(last, attempt.began), sessions: None });
                full = None;
            }
            _ => {}
        }
    }
    limits.sort_by_key(|limit| limit.at);
    limits
}
