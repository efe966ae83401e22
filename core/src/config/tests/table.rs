//! The table in the documentation, the list of fields and the defaults are one.

use std::time::Duration;

use super::super::fields::config_fields;
use super::super::value::FieldValue;
use super::*;
use crate::tests::EACH;

/// What the documentation must contain.
fn table() -> String {
    FIELDS
        .iter()
        .map(|f| format!("//! | `{}` | {} | {} | `{}` |\n", f.name, f.default, f.range, f.variable()))
        .collect()
}

#[test]
fn the_documentation_has_every_field() {
    let documentation = include_str!("../mod.rs");
    assert!(documentation.contains(&table()), "the table must be:\n{}", table());
}

/// What the README must contain.
fn readme_table() -> String {
    FIELDS.iter().map(|f| format!("| `{}` | {} | {} | {} |\n", f.name, f.default, f.range, f.meaning)).collect()
}

#[test]
#[cfg_attr(miri, ignore = "files")]
fn the_readme_has_every_field() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(path).expect("the workspace has a README");
    assert!(readme.contains(&readme_table()), "the table must be:\n{}", readme_table());
}

macro_rules! check_defaults {
    (pool { $($(#[$pd:meta])* $p:ident: $pt:ty = $pdef:literal, $pr:literal;)* }
     session { $($(#[$sd:meta])* $s:ident: $st:ty = $sdef:literal, $sr:literal;)* }) => {
        #[test]
        fn the_documented_defaults_are_the_defaults() {
            let (pool, session) = (PoolConfig::default(), SessionOptions::default());
            $(assert_eq!(<$pt>::from_text($pdef).as_ref(), Ok(&pool.$p()), stringify!($p));)*
            $(assert_eq!(<$st>::from_text($sdef).as_ref(), Ok(&session.$s().to_owned()), stringify!($s));)*
        }

        #[test]
        fn every_value_is_read_as_it_is_shown() {
            let (pool, session) = (PoolConfig::default(), SessionOptions::default());
            $(assert_eq!(<$pt>::from_text(&pool.$p().show()), Ok(pool.$p()), stringify!($p));)*
            $(assert_eq!(<$st>::from_text(&session.$s().show()), Ok(session.$s().to_owned()), stringify!($s));)*
        }
    };
}
config_fields!(check_defaults);

#[test]
fn every_field_is_read_from_the_environment_and_from_yaml() {
    for field in FIELDS.iter().step_by(EACH) {
        let (text, yaml) = match field.name {
            "database_url" => continue,
            "validation" | "leak_stack" => ("always", "always"),
            "reset_policy" => ("discard_all", "discard_all"),
            "enable_leak_detection" => ("off", "false"),
            "backoff_jitter" => ("0.25", "0.25"),
            "min_size" | "max_size" | "backoff_multiplier" => ("7", "7"),
            name if field.default.ends_with(['s', 'm', 'h']) => {
                let _ = name;
                ("7.5", "7s 500ms")
            }
            _ => ("7", "7"),
        };
        // Wide enough for whichever field is changed.
        let base = || Config::builder().database_url(URL).max_size(9);
        let base = || if field.name == "max_size" { Config::builder().database_url(URL) } else { base() };
        let default = base().build().expect("valid");
        let from_env = base().environment(env(&[(&field.variable(), text)])).build().expect(field.name);
        let from_yaml = base().yaml_str(&format!("{}: {yaml}\n", field.name)).build().expect(field.name);
        assert_ne!(from_env, default, "{} is read from the environment", field.name);
        assert_eq!(from_env, from_yaml, "{} means the same in YAML", field.name);
    }
}
