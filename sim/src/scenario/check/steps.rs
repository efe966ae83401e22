//! The timeline: steps that can happen, to hosts that there are, none in the middle of its like.

use std::time::Duration;

use super::{Check, place};
use crate::scenario::step::{StepText, What};
use crate::scenario::values::show;
use crate::scenario::{Scenario, Step};
use crate::yaml::Part;

/// More steps are a slip of a unit.
const MOST_STEPS: usize = 100_000;

/// What lasts for a while, and keeps its like from beginning meanwhile.
struct Busy<'a> {
    kind: &'static str,
    host: Option<&'a str>,
    until: Duration,
}

impl Check<'_> {
    /// The steps, each as often as it is to happen.
    pub(super) fn timeline(&mut self, steps: Vec<StepText>, end: Duration) -> Vec<Step> {
        let mut timeline = Vec::new();
        for (index, step) in steps.into_iter().enumerate() {
            let (at, host, every, times) = (step.at, step.host.clone(), step.every, step.times);
            let mut all = step.all();
            let what = match all.pop() {
                Some(what) if all.is_empty() => what,
                Some(what) => {
                    let problem = format!("`{}` and `{}` at one step: give each its own", all[0].key(), what.key());
                    self.say(place!["timeline", index], problem);
                    continue;
                }
                None => {
                    let problem = "nothing happens: write for example `crash: {recovering: 5s}` or `recycle: {}`";
                    self.say(place!["timeline", index], problem);
                    continue;
                }
            };
            for at in self.moments(index, at, every, times, end) {
                timeline.push(Step { at, host: host.clone(), what: what.clone() });
                self.places.push(index);
            }
        }
        timeline
    }

    /// When a step happens: once, `times` times, or until the scenario's end.
    fn moments(
        &mut self,
        index: usize,
        at: Duration,
        every: Option<Duration>,
        times: Option<u32>,
        end: Duration,
    ) -> Vec<Duration> {
        let Some(every) = every else {
            self.require(times.is_none(), place!["timeline", index, "times"], || {
                "needs `every`: how long is it from one to the next?".into()
            });
            return vec![at];
        };
        self.require(!every.is_zero(), place!["timeline", index, "every"], || "must be more than 0".into());
        self.require(times != Some(0), place!["timeline", index, "times"], || "must be at least 1".into());
        let left = end.saturating_sub(at).as_nanos().div_ceil(every.as_nanos().max(1));
        let times = times.map_or(left.max(1), u128::from);
        self.require(times <= MOST_STEPS as u128, place!["timeline", index, "every"], || {
            format!("makes {times} steps, more than {MOST_STEPS}: is a unit wrong?")
        });
        if every.is_zero() || times > MOST_STEPS as u128 {
            return vec![at];
        }
        (0..times as u32).map(|number| at.saturating_add(every.saturating_mul(number))).collect()
    }

    pub(super) fn steps(&mut self, scenario: &Scenario) {
        let mut shut_down: Option<Duration> = None;
        let mut busy: Vec<Busy<'_>> = Vec::new();
        let mut order: Vec<usize> = (0..scenario.timeline.len()).collect();
        order.sort_by_key(|step| scenario.timeline[*step].at);
        for step in order {
            let index = self.places[step];
            let Step { at, what, .. } = &scenario.timeline[step];
            let here = place!["timeline", index, what.key()];
            self.require(*at < scenario.duration, place!["timeline", index, "at"], || {
                format!("`{}` must be before the scenario's end ({})", show(*at), show(scenario.duration))
            });
            self.host(index, &scenario.timeline[step], scenario);
            if let Some(end) = shut_down.filter(|_| what.is_of_pool() && !matches!(what, What::Suspend(_))) {
                self.say(here, format!("the pool is shut down at {} already", show(end)));
            }
            if let What::Shutdown(_) = what {
                shut_down = shut_down.or(Some(*at));
            }
            self.values(here, what, *at, scenario.duration);
            self.alone(here, &scenario.timeline[step], &mut busy);
        }
    }

    fn host(&mut self, index: usize, step: &Step, scenario: &Scenario) {
        let path = place!["timeline", index, "host"];
        match &step.host {
            Some(host) if step.what.is_of_pool() => {
                self.say(path, format!("`{}` happens to the pool, not to `{host}`", step.what.key()));
            }
            Some(host) => {
                let names: Vec<String> = scenario.hosts().into_iter().map(|host| host.name).collect();
                self.require(names.contains(host), path, || {
                    format!("`{host}` is no host: `server.hosts` has {}", names.join(", "))
                });
            }
            None => {
                let needs = matches!(step.what, What::Promote | What::Demote(_));
                self.require(!needs, place!["timeline", index, step.what.key()], || {
                    "needs `host` beside it: which one?".into()
                });
            }
        }
    }

    fn values(&mut self, here: &[Part], what: &What, at: Duration, end: Duration) {
        match what {
            What::Kill(kill) => {
                let mut path = here.to_vec();
                path.push("share".into());
                self.share(&path, kill.share);
            }
            What::MaxConnections(allowed) => {
                self.require(*allowed > 0, here, || "must be at least 1; use `refuse_logins` for none".into());
            }
            What::Connect(dist) | What::RoundTrip(dist) => self.ends(here, dist),
            What::Resize(size) => {
                let possible = size.max_size > 0 && size.min_size <= size.max_size && size.max_size <= 10_000;
                self.require(possible, here, || "max_size must be 1 to 10,000 and at least min_size".into());
            }
            What::Suspend(suspend) => {
                let wakes = at.saturating_add(suspend.lasts);
                self.require(wakes < end, here, || {
                    format!("lasts until {}, but the scenario ends at {}", show(wakes), show(end))
                });
            }
            _ => {}
        }
    }

    /// What lasts does so for a while, and begins when its like is over.
    fn alone<'a>(&mut self, here: &[Part], step: &'a Step, busy: &mut Vec<Busy<'a>>) {
        let kind = match &step.what {
            What::Silence(_) | What::Partition(_) => "silence",
            What::RefuseLogins(_) | What::Pause(_) | What::Suspend(_) => step.what.key(),
            _ => return,
        };
        let (host, until) = (step.host.as_deref(), step.at.saturating_add(step.what.lasts()));
        self.require(!step.what.lasts().is_zero(), here, || "`for` must be more than 0".into());
        let meets = |other: &&Busy<'_>| {
            other.kind == kind
                && other.until > step.at
                && (host.is_none() || other.host.is_none() || other.host == host)
        };
        if let Some(other) = busy.iter().find(meets) {
            self.say(here, format!("the one before lasts until {}", show(other.until)));
        }
        busy.push(Busy { kind, host, until });
    }
}
