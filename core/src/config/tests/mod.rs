//! Configuration from all its sources, from outside.

mod database;
mod redaction;
mod rules;
mod sources;
mod table;
mod written;

use super::*;

const URL: &str = "postgres://app@db/shop";

/// One line per problem.
fn lines(builder: ConfigBuilder) -> Vec<String> {
    let error = builder.build().expect_err("there are problems");
    error.to_string().lines().map(str::to_owned).collect()
}

fn env(variables: &[(&str, &str)]) -> Environment {
    variables.iter().copied().collect()
}

fn from_env(variables: &[(&str, &str)]) -> ConfigBuilder {
    Config::builder().environment(env(variables))
}
