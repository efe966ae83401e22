//! Any text as a scenario, a connection URL, a pool's YAML, an environment.

use pgweir_core::config::{Config, ConfigError, Environment, PoolConfig, Secret};
use pgweir_sim::Scenario;

/// A scenario: refused with a place, or written and read back the same.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Scenario::from_yaml("fuzzed.yaml", text) {
        Ok(scenario) => {
            let written = scenario.to_yaml();
            match Scenario::from_yaml("written.yaml", &written) {
                Ok(again) => assert_eq!(again, scenario, "{written}"),
                Err(error) => panic!("{error}\nin what was written for a scenario that was read:\n{written}"),
            }
        }
        Err(error) => {
            assert!(!error.problems.is_empty(), "refused without a reason");
            for problem in &error.problems {
                assert!(!problem.problem.is_empty(), "a problem without words: {problem:?}");
                assert!(problem.line > 0 || problem.key.is_empty(), "a key without a place: {problem:?}");
            }
        }
    }
}

/// A connection URL or `key=value` string: refused, or printed and read back the same.
pub fn url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let config = match Config::builder().database_url(text).build() {
        Ok(config) => config,
        Err(error) => return is_readable(&error),
    };
    let connect = config.connect();
    let printed = connect.redacted_url();
    let again =
        Config::builder().database_url(&printed).build().unwrap_or_else(|error| panic!("{error}\nin {printed}"));
    let again = again.connect();
    assert_eq!(again.redacted_url(), printed, "printed, read and printed again");
    assert_eq!((again.hosts(), again.user(), again.dbname()), (connect.hosts(), connect.user(), connect.dbname()));
    let has_password =
        |config: &pgweir_core::config::ConnectConfig| config.password_for(0).map(Secret::expose).is_some();
    assert_eq!(has_password(again), has_password(connect));
}

/// A pool's YAML: refused with its field, or a configuration that survives being written and read.
pub fn pool_yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    built(Config::builder().database_url("postgres://app@db/shop").yaml_str(text).build());
    built(Config::builder().yaml_str(text).build());
}

/// Lines `NAME=value` as an environment, and the rest of each as a pool's YAML would not be: the same rules hold.
pub fn environment(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let variables: Environment = text
        .split('\n')
        .filter_map(|line| line.split_once('='))
        // A password file is somebody else's file.
        .filter(|(name, _)| !matches!(*name, "HOME" | "PGPASSFILE"))
        .collect();
    built(Config::builder().database_url("postgres://app@db/shop").environment(variables.clone()).build());
    built(Config::builder().environment(variables).build());
}

fn built(result: Result<Config, ConfigError>) {
    match result {
        Ok(config) => survives(config.pool()),
        Err(error) => is_readable(&error),
    }
}

/// Written as a journal or a scenario writes it, and read.
fn survives(config: &PoolConfig) {
    let bytes = postcard::to_stdvec(config).expect("a configuration can be written");
    assert_eq!(&postcard::from_bytes::<PoolConfig>(&bytes).expect("and read"), config);
    assert_eq!(&config.to_builder().build().expect("it is valid"), config);
}

/// Every problem names its field, and there is something to read.
fn is_readable(error: &ConfigError) {
    assert!(!error.problems().is_empty(), "refused without a reason");
    for problem in error.problems() {
        assert!(!problem.field.is_empty() && !problem.rule.is_empty() && !problem.fix.is_empty(), "{problem:?}");
        assert!(problem.value.as_ref().is_none_or(|value| value.chars().count() <= 100), "{problem:?}");
    }
}
