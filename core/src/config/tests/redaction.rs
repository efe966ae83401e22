//! No password is shown, whatever was written (PEERS 46).

use quickcheck::quickcheck;

use super::*;
use crate::tests::EACH;

/// A password that cannot be confused with anything else.
const SECRET: &str = "hunter2";

/// Everything that could be logged of this configuration.
fn everything(builder: ConfigBuilder) -> String {
    let mut text = format!("{builder:?}");
    match builder.build() {
        Ok(config) => {
            text += &format!("{config:?} {:?} {}", config.warnings(), config.connect().redacted_url());
            for host in config.connect().hosts() {
                text += &host.to_string();
            }
        }
        Err(error) => text += &format!("{error} {error:?} {:?}", error.problems()),
    }
    text
}

#[test]
fn a_password_in_any_odd_place_is_not_shown() {
    for url in [
        // In its place.
        "postgres://u:hunter2@h/d",
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2@h/d?sslmode=require&foo=1",
        "postgres://u:%zzhunter2@h/d",
        "postgres://u:hunter2%00@h/d",
        // With special characters that were not escaped.
        "postgres://u:p@hunter2@h/d",
        "postgres://u:hunter2@p@h/d",
        "postgres://u:hunter2/p@h/d",
        "postgres://u:p/hunter2@h/d",
        "postgres://u:1/hunter2@h/d",
        "postgres://u:1/hunter2/x@h/d",
        "postgres://u:p?hunter2@h/d",
        "postgres://u:p?hunter2=1@h/d",
        "postgres://u:1?hunter2=1&x=@h/d",
        "postgres://u:1/x?hunter2=y@h/d",
        "postgres://u:1/x?port=hunter2@h/d",
        "postgres://u:[hunter2@h/d",
        "postgres://u:hunter2]@[h/d",
        "postgres://u:p#hunter2@h:x/d",
        "postgres://u:p@x:hunter2@h/d",
        // With a host or an @ forgotten.
        "postgres://u:hunter2/d",
        "postgres://u:hunter2",
        "postgres://u:1hunter2,x/d",
        // In the query.
        "postgres://u@h/d?password=hunter2",
        "postgres://u@h/d?password=hunter2&port=x",
        "postgres://u@h/d?password=a&hunter2",
        "postgres://u@h/d?password=a&hunter2=b",
        "postgres://u@h/d?password=a&port=hunter2",
        "postgres://u@h/d?pasword=hunter2",
        "postgres://u@h/d?pasword=a&hunter2=b",
        "postgres://u@h/d?sslpassword=hunter2",
        "postgres://u@h/d?password=%hunter2",
        // As key=value.
        "user=u password=hunter2",
        "user=u password=hunter2 port=x",
        "user=u password=a hunter2",
        "user=u password=a hunter2 host=b",
        "user=u password=a hunter2=b",
        "user=u password='a hunter2",
        "user=u password='a'hunter2' host=b",
        "user=u pasword=hunter2",
        "user=u password=a port=hunter2",
        "password=a host='hunter2 x'",
        // As something else.
        "hunter2",
        "hunter2://u@h",
        "u:hunter2@h/d",
        "mysql://u:hunter2@h/d",
        "jdbc:postgresql://h/d?user=u&password=hunter2",
        "postgresql+hunter2x://u:hunter2@h:x/d",
        "postgres:// u:hunter2@h/d",
        "postgres:u:hunter2@h/d",
        "postgres//u:hunter2@h/d",
    ]
    .into_iter()
    .step_by(EACH)
    {
        let variables = env(&[("DATABASE_URL", url)]);
        let yaml = format!("database_url: {url:?}");
        for builder in [
            Config::builder().database_url(url),
            Config::builder().environment(variables),
            Config::builder().yaml_str(&yaml),
            Config::builder().yaml_str(&format!("database_url: [{url}")),
            Config::builder().yaml_str(&format!("database_url: {{{url}: {url}}}")),
        ] {
            let text = everything(builder);
            assert!(!text.contains(SECRET), "{url}: {text}");
        }
    }
}

#[test]
fn a_password_from_elsewhere_is_not_shown() {
    let base = || Config::builder().database_url(URL);
    for builder in [
        base().password(SECRET),
        base().password(format!("{SECRET}\0")),
        base().password(SECRET).host("", 0),
        base().connection_parameter("password", SECRET).connection_parameter("port", "x"),
        base().environment(env(&[("PGPASSWORD", SECRET)])),
        base().environment(env(&[("PGPASSWORD", SECRET), ("PGPORT", "x")])),
        Config::builder().environment(env(&[("POOL_DATABSE_URL", "postgres://u:hunter2@h")])),
        Config::builder().environment(env(&[("POOL_PASSWORD", SECRET)])),
    ] {
        let text = everything(builder);
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn a_configuration_shows_everything_else() {
    let config = Config::builder().database_url("postgres://u:hunter2@h/d").build().expect("valid");
    let text = format!("{config:?}");
    assert!(text.contains("max_size: 10") && text.contains("password: Some(***)") && text.contains("\"h\""), "{text}");
    assert_eq!(config.connect().redacted_url(), "postgres://u:***@h:5432/d");
}

quickcheck! {
    /// Whatever surrounds it in the password's place, escaped or not.
    fn a_password_among_special_characters_is_not_shown(before: Vec<u8>, after: Vec<u8>) -> bool {
        let odd = |choices: &[u8]| -> String {
            choices.iter().map(|choice| b"/?#[]@:%&=,+ '\\a1"[*choice as usize % 17] as char).collect()
        };
        let url = format!("postgres://user:{}{SECRET}{}@host/db", odd(&before), odd(&after));
        match Config::builder().database_url(&url).build() {
            Ok(config) => !format!("{config:?} {}", config.connect().redacted_url()).contains(SECRET),
            Err(error) => !format!("{error} {:?}", error.problems()).contains(SECRET),
        }
    }

    fn a_password_among_special_characters_of_a_key_value_string_is_not_shown(before: Vec<u8>, after: Vec<u8>) -> bool {
        let odd = |choices: &[u8]| -> String {
            choices.iter().map(|choice| b"/?@:%&=,+ '\\a1"[*choice as usize % 14] as char).collect()
        };
        let text = format!("user=u password={}{SECRET}{} host=h port=x", odd(&before), odd(&after));
        !everything(Config::builder().database_url(text)).contains(SECRET)
    }
}
