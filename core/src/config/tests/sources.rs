//! Environment, YAML and code: how each is read, and which wins.

use std::time::Duration;

use quickcheck::quickcheck;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn pool_from_env(name: &str, value: &str) -> PoolConfig {
    from_env(&[("DATABASE_URL", URL), (name, value)]).build().expect("valid").into_parts().0
}

fn pool_from_yaml(text: &str) -> PoolConfig {
    Config::builder().database_url(URL).yaml_str(text).build().expect("valid").into_parts().0
}

fn env_problem(name: &str, value: &str) -> String {
    let found = lines(from_env(&[("DATABASE_URL", URL), (name, value)]));
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

fn yaml_problem(text: &str) -> String {
    let found = lines(Config::builder().database_url(URL).yaml_str(text));
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn code_wins_over_environment_over_yaml_whatever_the_order_of_the_calls() {
    let yaml = "database_url: postgres://yaml@h\nmax_size: 3\nmax_queries: 3\nmax_waiting: 3\n";
    let variables = env(&[("DATABASE_URL", "postgres://env@h"), ("POOL_MAX_SIZE", "4"), ("POOL_MAX_QUERIES", "4")]);
    let one = Config::builder().yaml_str(yaml).environment(variables.clone()).max_size(5).build().expect("valid");
    let other = Config::builder().max_size(5).environment(variables).yaml_str(yaml).build().expect("valid");
    assert_eq!(one, other);
    assert_eq!((one.pool().max_size(), one.pool().max_queries(), one.pool().max_waiting()), (5, 4, 3));
    assert_eq!(one.pool().init_attempts(), 3, "the default");
    assert_eq!(one.connect().user(), "env");
}

#[test]
fn a_bare_number_in_the_environment_is_seconds() {
    for (text, expected) in [
        ("30", 30 * SECOND),
        ("30.0", 30 * SECOND),
        ("0.5", SECOND / 2),
        (" 2 ", 2 * SECOND),
        ("30s", 30 * SECOND),
        ("250ms", SECOND / 4),
        ("1m 30s", 90 * SECOND),
        ("2h", 7200 * SECOND),
        ("1.5s", 1500 * SECOND / 1000),
    ] {
        assert_eq!(pool_from_env("POOL_ACQUIRE_TIMEOUT", text).acquire_timeout(), expected, "{text}");
    }
    for (text, rule) in [
        ("-1", "must not be negative"),
        ("thirty", "must be a duration such as 500ms, 30s, 5m or 1h"),
        ("1e3", "must be a duration"),
        ("inf", "must be a duration"),
        ("NaN", "must be a duration"),
        ("30 parsecs", "must be a duration"),
        ("1.", "must be a duration"),
        ("99999999999999999999999", "is too long"),
        ("99999999999999999999y", "is too long"),
    ] {
        let problem = env_problem("POOL_ACQUIRE_TIMEOUT", text);
        assert!(problem.starts_with(&format!("acquire_timeout ({text}) {rule}")), "{problem}");
        assert!(problem.contains("set POOL_ACQUIRE_TIMEOUT to "), "{problem}");
    }
}

#[test]
fn other_values_in_the_environment() {
    assert!(!pool_from_env("POOL_ENABLE_LEAK_DETECTION", "False").enable_leak_detection());
    assert_eq!(pool_from_env("POOL_VALIDATION", "ALWAYS").validation(), ValidationPolicy::Always);
    assert_eq!(pool_from_env("POOL_BACKOFF_MULTIPLIER", "1.5").backoff_multiplier(), 1.5);
    assert_eq!(pool_from_env("POOL_MAX_SIZE", "").max_size(), 10, "set to nothing is not set");
    for (name, text, sentence) in [
        ("POOL_MAX_SIZE", "ten", "max_size (ten) must be a whole number: set POOL_MAX_SIZE to 10"),
        ("POOL_MAX_SIZE", "-1", "max_size (-1) must not be negative: set POOL_MAX_SIZE to 10"),
        ("POOL_MAX_SIZE", "+5", "max_size (+5) must be a whole number: set POOL_MAX_SIZE to 10"),
        ("POOL_MAX_SIZE", "99999999999", "max_size (99999999999) is too large: set POOL_MAX_SIZE to 10"),
        ("POOL_BACKOFF_JITTER", "nan", "backoff_jitter (nan) must be a number: set POOL_BACKOFF_JITTER to 0.1"),
        ("POOL_VALIDATION", "x", "validation (x) must be interval, always or suspect: set POOL_VALIDATION to interval"),
        (
            "POOL_RESET_POLICY",
            "x",
            "reset_policy (x) must be nothing, discard_all or sql: and the statements: set \
          POOL_RESET_POLICY to nothing",
        ),
    ] {
        assert_eq!(env_problem(name, text), sentence);
    }
}

#[test]
fn aliases_stand_below_the_names_they_are_for() {
    assert_eq!(pool_from_env("POOL_TIMEOUT", "30.0").acquire_timeout(), 30 * SECOND);
    let config = from_env(&[
        ("DATABASE_URL", "postgres://general@h"),
        ("POOL_DATABASE_URL", "postgres://specific@h"),
        ("POOL_TIMEOUT", "1"),
        ("POOL_ACQUIRE_TIMEOUT", "2"),
    ]);
    let config = config.build().expect("valid");
    assert_eq!((config.connect().user(), config.pool().acquire_timeout()), ("specific", 2 * SECOND));
    assert!(env_problem("POOL_TIMEOUT", "0").contains("set POOL_TIMEOUT to 30s"));
}

#[test]
fn variables_of_others_are_ignored_with_a_warning_and_typos_refused() {
    let config = from_env(&[("DATABASE_URL", URL), ("POOL_COLOUR", "blue"), ("POOL_PORT", "tcp://10.0.0.1:80")]);
    let config = config.build().expect("valid");
    assert_eq!(config.warnings(), ["POOL_COLOUR is not a setting of this pool and is ignored"]);
    assert!(env_problem("POOL_MAXSIZE", "20").contains("did you mean POOL_MAX_SIZE?"));
}

#[test]
fn reset_policies_by_name() {
    let sql = || ResetPolicy::Sql("RESET ALL; UNLISTEN *".into());
    for (yaml, expected) in [
        ("reset_policy: nothing", ResetPolicy::Nothing),
        ("reset_policy: discard_all", ResetPolicy::DiscardAll),
        ("reset_policy: {sql: RESET ALL; UNLISTEN *}", sql()),
        ("reset_policy:\n  sql: \"RESET ALL; UNLISTEN *\"", sql()),
        ("reset_policy: 'sql: RESET ALL; UNLISTEN *'", sql()),
    ] {
        let config = Config::builder().database_url(URL).yaml_str(yaml).build().expect(yaml);
        assert_eq!(config.connect().session().reset_policy(), &expected, "{yaml}");
        assert_eq!(config.pool().reset_on_release(), expected != ResetPolicy::Nothing);
    }
    let config = from_env(&[("DATABASE_URL", URL), ("POOL_RESET_POLICY", "sql: RESET ALL; UNLISTEN *")]);
    assert_eq!(config.build().expect("valid").connect().session().reset_policy(), &sql());
    assert!(yaml_problem("reset_policy: {sq: x}").contains("must be nothing, discard_all or sql:"));
    assert!(yaml_problem("reset_policy: [sql]").contains("must be nothing, discard_all or sql:"));
}

#[test]
fn yaml_is_read() {
    let pool = pool_from_yaml(
        "# all kinds\nmin_size: 0\nmax_size: \"12\"\nmax_queries: 1000\nacquire_timeout: 1m 30s\n\
         enable_leak_detection: no\nvalidation: suspect\nmax_idle_time: 0\nmax_waiting:\n\
         backoff: {initial: 500ms, max: 8s, multiplier: 3, jitter: 0}\n",
    );
    assert_eq!((pool.min_size(), pool.max_size(), pool.max_queries()), (0, 12, 1000));
    assert_eq!((pool.acquire_timeout(), pool.max_idle_time()), (90 * SECOND, Duration::ZERO));
    assert_eq!((pool.enable_leak_detection(), pool.validation()), (false, ValidationPolicy::Suspect));
    assert_eq!(pool.max_waiting(), 10_000, "no value is no setting");
    assert_eq!((pool.backoff_initial(), pool.backoff_max()), (SECOND / 2, 8 * SECOND));
    assert_eq!((pool.backoff_multiplier(), pool.backoff_jitter()), (3.0, 0.0));
    for empty in ["", "# nothing\n", "---\n", "{}"] {
        assert_eq!(pool_from_yaml(empty), PoolConfig::default());
    }
}

#[test]
fn yaml_problems_say_where_and_what_instead() {
    for (text, sentence) in [
        ("acquire_timeout: 30", "acquire_timeout (30) needs a unit: write `acquire_timeout: 30s` at line 1, column 1"),
        ("acquire_timeout: '30'", "acquire_timeout (30) needs a unit: write `acquire_timeout: 30s` at line 1"),
        ("acquire_timeout: 0.5", "acquire_timeout (0.5) needs a unit: write `acquire_timeout: 500ms` at line 1"),
        ("acquire_timeout: -1", "acquire_timeout (-1) must not be negative"),
        ("acquire_timeout: [30s]", "acquire_timeout (a list) must be a duration"),
        ("acquire_timeout: true", "acquire_timeout (true) must be a duration"),
        ("a: 1\n", "a is not a field: remove it"),
        ("? 3", "3 is not a field: remove it"),
        ("?", "\"\" is not a field: remove it"),
        ("' ': 3", "\" \" is not a field: remove it"),
        ("backoff: {'': 3}", "backoff.\"\" is not a field: remove it"),
        ("\n\n  maxsize: 3\n", "maxsize is not a field: did you mean max_size? (in line 3, column 3 of"),
        (
            "max_size: 1\nmax_size: 2\n",
            "max_size is given twice, first in line 1: keep one of them (in line 2, column 1",
        ),
        ("backoff: {intial: 1s}", "backoff.intial is not a field: did you mean initial? (in line 1, column 11 of"),
        ("backoff: {max: 9s, max: 9s}", "backoff_max is given twice"),
        ("backoff: {max: 9s}\nbackoff_max: 9s\n", "backoff_max is given twice, first in line 1"),
        ("backoff: {max: 9s}\nbackoff: {initial: 2s}\n", "backoff is given twice, first in line 1"),
        ("backoff: 3", "backoff (3) must be a mapping: write `backoff: {initial: 1s,"),
        ("backoff: {max: {a: 1}}", "backoff_max (a mapping) must be a duration"),
        ("max_size: 1.5", "max_size (1.5) must be a whole number"),
        ("max_size: 10.0", "max_size (10.0) must be a whole number"),
        ("max_size: {a: 1}", "max_size (a mapping) must be a whole number"),
        ("<<: {max_size: 1}", "<< is a merge key, which is not supported: write the keys out (in line 1, column 1"),
        ("- max_size: 1", "the document must be a mapping, and is a list: write one `field: value` per line"),
        ("max_size", "the document must be a mapping, and is a single value"),
        ("max_size: 1\n---\nmax_size: 2\n", "the document has more than one document: keep one"),
        ("max_size: [", "the document is not YAML that can be read ("),
        ("max_size: !size 3", "the document has a tag"),
        ("? [a]\n: 1", "the document is not YAML that can be read ("),
    ] {
        let problem = yaml_problem(text);
        assert!(problem.starts_with(sentence), "{text:?}: {problem}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "files")]
fn a_yaml_file_is_named_in_its_problems() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pool.yaml");
    std::fs::write(&path, "max_size: 7\n\nmin_size: x\n").expect("written");
    let expected = format!("write `min_size: 2` at {}:3:1", path.display());
    let found = lines(Config::builder().database_url(URL).yaml_file(&path));
    assert_eq!(found, [format!("min_size (x) must be a whole number: {expected}")]);
    std::fs::write(&path, "max_size: 7\n").expect("written");
    let config = Config::builder().database_url(URL).yaml_file(&path).build().expect("valid");
    assert_eq!(config.pool().max_size(), 7);

    for (content, rule) in
        [(&b"\xff"[..], "cannot be read (it is not UTF-8)"), (&[b'\n'; 70_000], "is larger than 64 KiB")]
    {
        std::fs::write(&path, content).expect("written");
        assert!(lines(Config::builder().database_url(URL).yaml_file(&path))[0].contains(rule), "{rule}");
    }
    let missing = lines(Config::builder().database_url(URL).yaml_file(folder.path().join("none.yaml")));
    assert!(missing.len() == 1 && missing[0].contains("none.yaml cannot be read ("), "{missing:?}");
    let not_a_file = lines(Config::builder().database_url(URL).yaml_file(folder.path()));
    assert!(not_a_file[0].contains("cannot be read (it is a folder)"), "{not_a_file:?}");
}

#[test]
#[cfg_attr(miri, ignore = "every unknown key is compared with every known one: a hundred take minutes")]
fn a_document_full_of_problems_is_cut_short() {
    let text: String = (0..4000).map(|index| format!("k{index}: 1\n")).collect();
    let error = Config::builder().database_url(URL).yaml_str(&text).build().expect_err("unknown keys");
    assert_eq!(error.problems().len(), 64);
}

/// Characters that YAML gives a meaning, and a few words of ours.
fn yamlish(choices: &[u8]) -> String {
    const PIECES: &[&str] = &[
        "\n",
        "\n  ",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&a ",
        "*a",
        "!!str ",
        "\"",
        "'",
        "|\n",
        ">\n",
        "#",
        "<<",
        "? ",
        "%",
        "@",
        "---\n",
        "...\n",
        "max_size",
        "backoff",
        "initial",
        "30s",
        "0x1f",
        "~",
        "1e999",
        "\\x",
        "é",
        "\t",
        "\0",
        "\u{85}",
        "\u{feff}",
        "database_url",
        "reset_policy",
        "sql",
    ];
    choices.iter().map(|choice| PIECES[*choice as usize % PIECES.len()]).collect()
}

quickcheck! {
    fn any_text_is_yaml_or_a_problem(text: String) -> bool {
        let _ = Config::builder().database_url(URL).yaml_str(&text).build();
        true
    }

    fn any_yaml_is_a_configuration_or_a_problem(choices: Vec<u8>) -> bool {
        let _ = Config::builder().database_url(URL).yaml_str(&yamlish(&choices)).build();
        true
    }

    fn any_environment_is_a_configuration_or_a_problem(values: Vec<(usize, String)>) -> bool {
        let names: Vec<String> = FIELDS.iter().map(FieldInfo::variable).collect();
        let variables: Environment =
            values.into_iter().map(|(index, value)| (names[index % names.len()].clone(), value)).collect();
        let _ = Config::builder().environment(variables).build();
        true
    }

    fn a_built_configuration_is_valid(max: u32, min: u32, connecting: u32, initial: u64, longest: u64) -> bool {
        let built = PoolConfig::builder()
            .max_size(max)
            .min_size(min)
            .max_connecting(connecting)
            .backoff_initial(Duration::from_nanos(initial))
            .backoff_max(Duration::from_nanos(longest))
            .build();
        let valid = (1..=10_000).contains(&max)
            && min <= max
            && (1..=10_000).contains(&connecting)
            && initial >= 1_000_000
            && initial <= longest;
        built.is_ok() == valid
    }
}
