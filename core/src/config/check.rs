//! The rules that a configuration must keep.

use std::time::Duration;

use super::connect::{ResetPolicy, SessionOptions};
use super::error::{Problem, Problems, Source};
use super::fields::Sources;
use super::pool::PoolConfig;
use super::value::FieldValue;

/// Hosts in one configuration, at most.
pub(crate) const MAX_HOSTS: usize = 64;
/// Connections in one pool, at most.
pub(crate) const LARGEST_POOL: u32 = 10_000;
/// Below this, a reconnect schedule is a busy loop.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(1);

/// Every rule about the pool.
pub(crate) fn pool(config: &PoolConfig, sources: &Sources, problems: &mut Problems) {
    let mut check = Checker { sources, problems };
    check.within("max_size", config.max_size, 1, LARGEST_POOL, "10");
    // With max_size 0 the range says what is wrong already.
    if config.max_size > 0 && config.min_size > config.max_size {
        check.ordered("max_size", &config.max_size, "min_size", &config.min_size);
    }
    check.not_zero("acquire_timeout", config.acquire_timeout, "30s");
    check.not_zero("connect_timeout", config.connect_timeout, "5s");
    check.not_zero("validation_timeout", config.validation_timeout, "5s");
    check.not_zero("reset_timeout", config.reset_timeout, "5s");
    check.not_zero("close_timeout", config.close_timeout, "2s");
    check.backoff(config);
    let demand = config.demand_probe_interval;
    let rule = "must be 0 (off) or at least 1ms";
    check.rule("demand_probe_interval", &demand, demand.is_zero() || demand >= SHORTEST_BACKOFF, rule, "1s");
    check.within("max_connecting", config.max_connecting, 1, 10_000, "4");
    check.within("max_waiting", config.max_waiting, 1, 1_000_000, "10000");
    check.within("init_attempts", config.init_attempts, 1, 1_000, "3");
    if !(1..=MAX_HOSTS).contains(&usize::from(config.hosts)) {
        let fix = format!("name 1 to {MAX_HOSTS} hosts");
        let rule = format!("must be 1 to {MAX_HOSTS}");
        problems.add("hosts", &config.hosts.show(), &rule, fix, &sources.get("hosts"));
    }
}

/// Every rule about sessions.
pub(crate) fn session(options: &SessionOptions, sources: &Sources, problems: &mut Problems) {
    let mut check = Checker { sources, problems };
    let size = options.statement_cache_size;
    check.rule("statement_cache_size", &size, size <= 65_536, "must be 0 (off) to 65,536", "256");
    if let ResetPolicy::Sql(sql) = &options.reset {
        let blank = sql.trim().is_empty();
        check.rule("reset_policy", &options.reset, !blank, "has no statements", "discard_all");
        check.rule("reset_policy", &options.reset, !sql.contains('\0'), "contains a NUL character", "discard_all");
    }
}

struct Checker<'a> {
    sources: &'a Sources,
    problems: &'a mut Problems,
}

impl Checker<'_> {
    fn rule<T: FieldValue>(&mut self, field: &str, value: &T, holds: bool, rule: &str, suggestion: &str) {
        if !holds {
            let source = self.sources.get(field);
            self.problems.add(field, &value.show(), rule, source.advise(field, suggestion), &source);
        }
    }

    fn within(&mut self, field: &str, value: u32, least: u32, most: u32, suggestion: &str) {
        let rule = format!("must be {} to {}", grouped(least), grouped(most));
        let nearest = if value > most { most.to_string() } else { suggestion.to_owned() };
        self.rule(field, &value, (least..=most).contains(&value), &rule, &nearest);
    }

    fn not_zero(&mut self, field: &str, value: Duration, suggestion: &str) {
        self.rule(field, &value, !value.is_zero(), "must be more than 0", suggestion);
    }

    fn backoff(&mut self, config: &PoolConfig) {
        let initial = config.backoff_initial;
        self.rule("backoff_initial", &initial, initial >= SHORTEST_BACKOFF, "must be at least 1ms", "1s");
        if initial > config.backoff_max {
            self.ordered("backoff_max", &config.backoff_max, "backoff_initial", &initial);
        }
        let multiplier = config.backoff_multiplier;
        self.rule("backoff_multiplier", &multiplier, (1.0..=100.0).contains(&multiplier), "must be 1 to 100", "2");
        let jitter = config.backoff_jitter;
        self.rule("backoff_jitter", &jitter, (0.0..=0.5).contains(&jitter), "must be 0 to 0.5", "0.1");
    }

    /// `greater` is less than `lesser`: which of the two is wrong, only their author knows.
    fn ordered<T: FieldValue>(&mut self, greater: &str, greater_value: &T, lesser: &str, lesser_value: &T) {
        let (greater_source, lesser_source) = (self.sources.get(greater), self.sources.get(lesser));
        let source = if greater_source == Source::Default { lesser_source.clone() } else { greater_source.clone() };
        self.problems.push(Problem {
            field: greater.to_owned(),
            value: Some(greater_value.show()),
            rule: format!("must be at least {lesser} ({})", lesser_value.show()),
            fix: format!(
                "raise {} to {} or lower {} to {}",
                greater_source.name_of(greater),
                lesser_value.show(),
                lesser_source.name_of(lesser),
                greater_value.show()
            ),
            source,
        });
    }
}

/// 10000 as 10,000.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
