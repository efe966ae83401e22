//! Every rule of, each with the sentence that a user gets.

use std::time::Duration;

use super::*;

const ZERO: Duration = Duration::ZERO;

/// The only problem of this configuration.
fn problem(build: impl FnOnce(PoolConfigBuilder) -> PoolConfigBuilder) -> String {
    let error = build(PoolConfig::builder()).build().expect_err("a rule is broken");
    assert_eq!(error.problems().len(), 1, "{error}");
    error.to_string()
}

fn accepts(build: impl FnOnce(PoolConfigBuilder) -> PoolConfigBuilder) {
    build(PoolConfig::builder()).build().expect("within the rules");
}

#[test]
fn sizes() {
    assert_eq!(problem(|b| b.max_size(0)), "max_size (0) must be 1 to 10,000: pass 10 to max_size()");
    assert_eq!(problem(|b| b.max_size(10_001)), "max_size (10001) must be 1 to 10,000: pass 10000 to max_size()");
    assert_eq!(
        problem(|b| b.max_size(5).min_size(6)),
        "max_size (5) must be at least min_size (6): raise max_size to 6 or lower min_size to 5"
    );
    assert_eq!(
        problem(|b| b.min_size(11)),
        "max_size (10) must be at least min_size (11): raise max_size (the default) to 11 or lower min_size to 10"
    );
    accepts(|b| b.min_size(0).max_size(1));
    accepts(|b| b.min_size(10_000).max_size(10_000));
}

#[test]
fn timeouts_that_cannot_be_off() {
    assert_eq!(
        problem(|b| b.acquire_timeout(ZERO)),
        "acquire_timeout (0s) must be more than 0: pass 30s to acquire_timeout()"
    );
    assert!(problem(|b| b.connect_timeout(ZERO)).starts_with("connect_timeout (0s) must be more than 0"));
    assert!(problem(|b| b.validation_timeout(ZERO)).starts_with("validation_timeout (0s) must be more than 0"));
    assert!(problem(|b| b.reset_timeout(ZERO)).starts_with("reset_timeout (0s) must be more than 0"));
    assert!(problem(|b| b.close_timeout(ZERO)).starts_with("close_timeout (0s) must be more than 0"));
    accepts(|b| b.acquire_timeout(Duration::from_nanos(1)).connect_timeout(Duration::MAX));
}

#[test]
fn zero_is_off() {
    accepts(|b| b.acquire_slow(ZERO).validation_interval(ZERO).max_queries(0).max_idle_time(ZERO));
    accepts(|b| b.max_connection_lifetime(ZERO).leak_detection_timeout(ZERO).shutdown_timeout(ZERO));
    accepts(|b| b.demand_probe_interval(ZERO).outage_grace(ZERO));
}

#[test]
fn backoff() {
    assert!(problem(|b| b.backoff_initial(ZERO)).starts_with("backoff_initial (0s) must be at least 1ms"));
    assert_eq!(
        problem(|b| b.backoff_initial(Duration::from_secs(20))),
        "backoff_max (16s) must be at least backoff_initial (20s): \
         raise backoff_max (the default) to 20s or lower backoff_initial to 16s"
    );
    for wrong in [0.5, -1.0, 101.0, f64::NAN, f64::INFINITY] {
        assert!(problem(|b| b.backoff_multiplier(wrong)).contains("must be 1 to 100: pass 2 to"), "{wrong}");
    }
    for wrong in [-0.1, 0.51, f64::NAN, f64::NEG_INFINITY] {
        assert!(problem(|b| b.backoff_jitter(wrong)).contains("must be 0 to 0.5: pass 0.1 to"), "{wrong}");
    }
    let short = problem(|b| b.demand_probe_interval(Duration::from_micros(999)));
    assert!(short.starts_with("demand_probe_interval (999us) must be 0 (off) or at least 1ms"), "{short}");
    accepts(|b| b.backoff_multiplier(1.0).backoff_jitter(0.5).backoff_max(Duration::from_secs(1)));
}

#[test]
fn bounds_of_counts() {
    assert!(problem(|b| b.max_connecting(0)).starts_with("max_connecting (0) must be 1 to 10,000"));
    assert!(problem(|b| b.max_connecting(10_001)).starts_with("max_connecting (10001) must be"));
    assert!(problem(|b| b.max_waiting(0)).starts_with("max_waiting (0) must be 1 to 1,000,000"));
    assert!(problem(|b| b.max_waiting(1_000_001)).contains("pass 1000000 to max_waiting()"));
    assert!(problem(|b| b.init_attempts(0)).starts_with("init_attempts (0) must be 1 to 1,000"));
    assert!(problem(|b| b.hosts(65)).starts_with("hosts (65) must be 1 to 64"));
}

#[test]
fn sessions() {
    let base = || Config::builder().database_url(URL);
    assert_eq!(
        lines(base().statement_cache_size(65_537)),
        ["statement_cache_size (65537) must be 0 (off) to 65,536: pass 256 to statement_cache_size()"]
    );
    assert_eq!(
        lines(base().reset_policy(ResetPolicy::Sql("  ".into()))),
        ["reset_policy (sql:   ) has no statements: pass discard_all to reset_policy()"]
    );
    assert!(lines(base().reset_policy(ResetPolicy::Sql("A\0B".into())))[0].contains("contains a NUL character"));
    let config = base().command_timeout(ZERO).statement_cache_size(0).build().expect("off");
    assert!(!config.pool().reset_on_release());
    let config = base().reset_policy(ResetPolicy::Sql("RESET ALL".into())).build().expect("valid");
    assert!(config.pool().reset_on_release(), "a policy costs a round trip");
}

#[test]
fn all_problems_are_found_at_once_each_with_its_source() {
    let yaml = "max_size: 5\nacquire_timeout: 30\nfoo: 1\nbackoff:\n  initial: 0s\n";
    let variables = [("POOL_MIN_SIZE", "10"), ("POOL_MAX_WAITING", "0"), ("POOL_MAX_IDLE_TIMES", "1")];
    let found = lines(Config::builder().yaml_str(yaml).environment(env(&variables)).init_attempts(0));
    let expected = [
        "acquire_timeout (30) needs a unit: write `acquire_timeout: 30s` at line 2, column 1 of the YAML text",
        "foo is not a field: remove it; the fields are listed in the documentation of pgweir_core::config (in line 3, \
         column 1 of the YAML text)",
        "POOL_MAX_IDLE_TIMES is not a setting: did you mean POOL_MAX_IDLE_TIME? (in POOL_MAX_IDLE_TIMES)",
        "database_url is missing: set DATABASE_URL to postgres://user:password@host:5432/database, or pass one to \
         database_url()",
        "max_size (5) must be at least min_size (10): raise max_size in line 1, column 1 of the YAML text to 10 or \
         lower POOL_MIN_SIZE to 5",
        "backoff_initial (0s) must be at least 1ms: write `backoff_initial: 1s` at line 5, column 3 of the YAML text",
        "max_waiting (0) must be 1 to 1,000,000: set POOL_MAX_WAITING to 10000",
        "init_attempts (0) must be 1 to 1,000: pass 3 to init_attempts()",
    ];
    assert_eq!(found, expected);
}

/// R-7.3's own example.
#[test]
fn the_example_of_the_requirement() {
    let found = lines(from_env(&[("DATABASE_URL", URL), ("POOL_MAX_SIZE", "5"), ("POOL_MIN_SIZE", "10")]));
    assert_eq!(
        found,
        ["max_size (5) must be at least min_size (10): raise POOL_MAX_SIZE to 10 or lower POOL_MIN_SIZE to 5"]
    );
}
