//! URLs, `key=value` strings, PG* variables and password files.

use std::path::PathBuf;
use std::time::Duration;

use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

fn connect(url: &str) -> ConnectConfig {
    Config::builder().database_url(url).build().expect(url).into_parts().1
}

fn tcp(host: &str, port: u16) -> Host {
    Host::Tcp { host: host.into(), port }
}

fn unix(directory: &str, port: u16) -> Host {
    Host::Unix { directory: PathBuf::from(directory), port }
}

/// The only problem of this URL.
fn problem(url: &str) -> String {
    let found = lines(Config::builder().database_url(url));
    assert_eq!(found.len(), 1, "{url}: {found:?}");
    found[0].clone()
}

#[test]
fn hosts() {
    for (url, expected) in [
        ("postgres://u@", vec![tcp("localhost", 5432)]),
        ("postgresql://u@db", vec![tcp("db", 5432)]),
        ("postgresql+asyncpg://u@db:6432/x", vec![tcp("db", 6432)]),
        ("POSTGRES://u@DB", vec![tcp("DB", 5432)]),
        (" postgres://u@db\n", vec![tcp("db", 5432)]),
        ("postgres://u@db:/x", vec![tcp("db", 5432)]),
        ("postgres://u@:6000/x", vec![tcp("localhost", 6000)]),
        ("postgres://u@[::1]:6000", vec![tcp("::1", 6000)]),
        ("postgres://u@[fe80::1%25eth0],b", vec![tcp("fe80::1%eth0", 5432), tcp("b", 5432)]),
        ("postgres://u@a,b:5433,:5434", vec![tcp("a", 5432), tcp("b", 5433), tcp("localhost", 5434)]),
        ("postgres://u@a,b?port=7", vec![tcp("a", 7), tcp("b", 7)]),
        ("postgres://u@%2Frun%2Fpg:5433/x", vec![unix("/run/pg", 5433)]),
        ("postgres:///x?host=/run/pg&user=u", vec![unix("/run/pg", 5432)]),
        ("postgres:///x?host=/run/pg,db&user=u&port=1,2", vec![unix("/run/pg", 1), tcp("db", 2)]),
        ("postgres://u@db?hostaddr=10.0.0.1", vec![tcp("10.0.0.1", 5432)]),
        ("postgres://u@a,b?hostaddr=10.0.0.1,::1", vec![tcp("10.0.0.1", 5432), tcp("::1", 5432)]),
        ("host=db port=7 user=u", vec![tcp("db", 7)]),
        ("user = 'u' host= '/run/pg'", vec![unix("/run/pg", 5432)]),
    ] {
        let config = Config::builder().database_url(url).build().expect(url);
        assert_eq!(config.connect().hosts(), expected, "{url}");
        assert_eq!(usize::from(config.pool().hosts()), expected.len());
    }
}

#[test]
fn credentials_and_database() {
    for (url, user, password, dbname) in [
        ("postgres://u@h", "u", None, "u"),
        ("postgres://u:@h/", "u", None, "u"),
        ("postgres://u:p@h/d", "u", Some("p"), "d"),
        ("postgres://u%40x:p%2F%3A%25%3f@h/d%20e", "u@x", Some("p/:%?"), "d e"),
        ("postgres://u:a:b#c+d@h/d", "u", Some("a:b#c+d"), "d"),
        ("postgres://h/d?user=u&password=p=q%26", "u", Some("p=q&"), "d"),
        ("postgres://x:y@h/z?user=u&password=p&dbname=d", "u", Some("p"), "d"),
        ("postgres://%C3%A9@h", "é", None, "é"),
        ("user=u password='p q\\'\\\\' dbname = d", "u", Some("p q'\\"), "d"),
        ("user=u password=p\\ q dbname=''", "u", Some("p q"), "u"),
        ("user=u password=x://y", "u", Some("x://y"), "u"),
    ] {
        let config = connect(url);
        assert_eq!((config.user(), config.dbname()), (user, dbname), "{url}");
        assert_eq!(config.password_for(0).map(Secret::expose), password, "{url}");
    }
}

#[test]
fn parameters() {
    let config = connect(
        "postgres://u@h?application_name=shop%20api&options=-c%20geqo%3Doff&sslmode=disable&channel_binding=prefer\
         &target_session_attrs=read-write&gssencmode=disable&load_balance_hosts=disable&client_encoding=UTF8\
         &fallback_application_name=no",
    );
    let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(config.parameters(), [parameter("application_name", "shop api"), parameter("options", "-c geqo=off")]);
    assert_eq!(config.ssl_mode(), SslMode::Disable);
    assert_eq!(config.target_session_attrs(), TargetSessionAttrs::ReadWrite);
    assert_eq!(
        connect("postgres://u@h?target_session_attrs=primary").target_session_attrs,
        TargetSessionAttrs::Primary
    );
    assert_eq!(
        connect("postgres://u@h?fallback_application_name=a").parameters(),
        [parameter("application_name", "a")]
    );
}

#[test]
fn socket_timers_are_read() {
    let url =
        "postgres://u@h?keepalives=1&keepalives_idle=60&keepalives_interval=0&keepalives_count=3&tcp_user_timeout=1500";
    let config = Config::builder().database_url(url).build().expect("valid");
    let expected = TcpOptions {
        keepalives: Some(true),
        keepalives_idle: Some(Duration::from_secs(60)),
        keepalives_interval: None,
        keepalives_count: Some(3),
        user_timeout: Some(Duration::from_millis(1500)),
    };
    assert_eq!(config.connect().tcp(), expected);
    assert!(problem("postgres://u@h?keepalives=yes").starts_with("keepalives (yes) must be a whole number up to 1"));
}

#[test]
fn the_connect_timeout_of_the_url_stands_below_the_pools_own() {
    let base = || Config::builder().database_url("postgres://u@h?connect_timeout=7");
    let timeout = |builder: ConfigBuilder| builder.build().expect("valid").pool().connect_timeout().as_secs();
    assert_eq!(timeout(base()), 7);
    assert_eq!(timeout(base().yaml_str("connect_timeout: 8s")), 8);
    assert_eq!(timeout(base().pg_environment(env(&[("PGCONNECT_TIMEOUT", "9")]))), 7);
    assert_eq!(timeout(from_env(&[("DATABASE_URL", URL), ("PGCONNECT_TIMEOUT", "9")])), 9);
    assert_eq!(
        problem("postgres://u@h?connect_timeout=0"),
        "connect_timeout (0) must be more than 0: a connect must end some time: write connect_timeout=5 in the \
         connection URL"
    );
    assert!(problem("postgres://u@h?connect_timeout=5s").contains("must be a whole number of seconds"));
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    for (parameter, sentence) in [
        (
            "sslmode=require",
            "sslmode (require) asks for TLS, which this version does not have: write sslmode=prefer in",
        ),
        ("sslmode=verify-full", "sslmode (verify-full) asks for TLS"),
        ("sslmode=x", "sslmode (x) must be disable, allow or prefer"),
        ("ssl=true", "ssl (true) asks for TLS"),
        ("sslrootcert=/ca.pem", "sslrootcert (/ca.pem) is about TLS, which this version does not have"),
        ("sslnegotiation=direct", "sslnegotiation (direct) asks for TLS"),
        ("channel_binding=require", "channel_binding (require) asks for TLS"),
        ("gssencmode=require", "gssencmode (require) asks for GSSAPI"),
        ("target_session_attrs=standby", "target_session_attrs (standby) is not supported in this version"),
        ("target_session_attrs=prefer-standby", "target_session_attrs (prefer-standby) is not supported"),
        ("target_session_attrs=read-only", "target_session_attrs (read-only) is not supported"),
        ("target_session_attrs=x", "target_session_attrs (x) must be any, read-write or primary"),
        ("load_balance_hosts=random", "load_balance_hosts (random) asks for hosts in random order"),
        ("service=shop", "service (shop) names a service file, which is not read"),
        ("replication=database", "replication (database) asks for a replication connection"),
        ("require_auth=scram-sha-256", "require_auth (scram-sha-256) restricts authentication"),
        ("client_encoding=LATIN1", "client_encoding (LATIN1) must be UTF8"),
        ("conect_timeout=3", "conect_timeout is not a connection parameter: did you mean connect_timeout?"),
        ("search_path=app", "search_path is not a connection parameter: remove it; a server setting goes into options"),
    ] {
        let problem = problem(&format!("postgres://u@h/d?{parameter}"));
        assert!(problem.starts_with(sentence), "{parameter}: {problem}");
    }
}

#[test]
fn malformed_urls() {
    for (url, rule) in [
        ("", "database_url is neither a connection URL nor"),
        ("localhost", "database_url is neither a connection URL nor"),
        ("mysql://u@h", "database_url is a URL for mysql, not for PostgreSQL"),
        ("jdbc:postgresql://h/d", "database_url is a JDBC URL: remove the leading jdbc:"),
        ("foo://u@h", "database_url does not start with postgres://"),
        ("postgres://u@h:0", "port (0) must be 1 to 65,535"),
        ("postgres://u@h:65536", "port (65536) must be 1 to 65,535"),
        ("postgres://u@h:54a", "port (54a) must be 1 to 65,535"),
        ("postgres://u@a,b?port=1,2,3", "port (1,2,3) has 3 entries for 2 hosts"),
        ("postgres://u@a,b?hostaddr=10.0.0.1", "hostaddr (10.0.0.1) must have 2 entries"),
        ("postgres://u@a?hostaddr=10.0.0.1,10.0.0.2", "host (a) must have 2 entries"),
        ("postgres://u@a?hostaddr=b", "hostaddr (b) must be IP addresses"),
        ("postgres://u@[::1", "database_url has a [ or ]"),
        ("postgres://u@[::1]x", "database_url has a [ or ]"),
        ("postgres://u@[]:5", "database_url has a [ or ]"),
        ("postgres://u@h%zz", "database_url has a % without two hexadecimal digits"),
        ("postgres://u@h/%f", "database_url has a % without two hexadecimal digits"),
        ("postgres://u@h/%ff", "database_url has escapes that are not UTF-8"),
        ("postgres://u@h/d%00", "dbname contains a NUL character"),
        ("postgres://u:p%00@h", "password contains a NUL character"),
        ("postgres://u@h/\0", "database_url contains a NUL character"),
        ("postgres://u@h?x", "database_url has a parameter without a value"),
        ("postgres://u@a b", "host is no host's name"),
        ("postgres://u@%40abstract", "host (@abstract) is an abstract socket"),
        ("postgres://h", "user is missing"),
        ("user=u host", "database_url has a word that is no name=value"),
        ("user=u password='p", "database_url has a quote that is not closed"),
        ("user=u =x", "database_url has an unknown parameter"),
    ] {
        let problem = problem(url);
        assert!(problem.starts_with(rule), "{url}: {problem}");
    }
    let long = format!("postgres://u@h/{}", "x".repeat(20_000));
    assert!(problem(&long).starts_with("database_url is longer than 16 KiB"));
    let many = format!("postgres://u@{}", vec!["h"; 65].join(","));
    assert_eq!(problem(&many), "hosts (65) must be 1 to 64: name 1 to 64 hosts");
    let deep = format!("postgres://u@%2F{}", "x".repeat(100));
    assert!(problem(&deep).contains("is too long for a Unix socket"));
}

#[test]
fn an_empty_part_is_no_part_and_the_variables_fill_in() {
    let variables = env(&[
        ("PGHOST", "pghost"),
        ("PGPORT", "6000"),
        ("PGUSER", "pguser"),
        ("PGPASSWORD", "pgpassword"),
        ("PGDATABASE", "pgdb"),
        ("PGAPPNAME", "pgapp"),
        ("PGOPTIONS", "-c geqo=off"),
        ("PGSSLMODE", "disable"),
        ("PGTARGETSESSIONATTRS", "primary"),
        ("USER", "os"),
    ]);
    let with = |url: &str| {
        Config::builder().database_url(url).pg_environment(variables.clone()).build().expect(url).into_parts().1
    };
    let filled = with("postgres://");
    assert_eq!(
        filled.redacted_url(),
        "postgres://pguser:***@pghost:6000/pgdb?application_name=pgapp&options=-c%20geqo%3Doff&target_session_attrs=primary&sslmode=disable"
    );
    assert_eq!(filled.password_for(0).map(Secret::expose), Some("pgpassword"));
    let own = with("postgres://u:p@h:1/d?application_name=a&sslmode=allow&target_session_attrs=any&options=x");
    assert_eq!(own.redacted_url(), "postgres://u:***@h:1/d?application_name=a&options=x&sslmode=allow");
    assert_eq!(with("postgres://u@h").hosts(), [tcp("h", 6000)]);

    let led_away = Config::builder().database_url("postgres://u@h").pg_environment(env(&[("PGHOSTADDR", "10.0.0.9")]));
    assert_eq!(led_away.build().expect("valid").connect().hosts(), [tcp("h", 5432)]);
    let os = Config::builder().database_url("postgres://").pg_environment(env(&[("USER", "os")])).build();
    assert_eq!(os.expect("valid").connect().redacted_url(), "postgres://os@localhost:5432/os");
    let no_url = from_env(&[("PGHOST", "h"), ("PGUSER", "u")]).build().expect("PGHOST is enough");
    assert_eq!(no_url.connect().redacted_url(), "postgres://u@h:5432/u");
    assert!(lines(from_env(&[("USER", "os")]))[0].starts_with("database_url is missing"));
    assert_eq!(
        lines(from_env(&[("DATABASE_URL", URL), ("PGPORT", "x"), ("PGSSLMODE", "require")])),
        [
            "port (x) must be 1 to 65,535: set PGPORT to 5432",
            "sslmode (require) asks for TLS, which this version does not have: set PGSSLMODE to prefer"
        ]
    );
}

#[test]
fn the_program_has_the_last_word_on_every_part() {
    let config = Config::builder()
        .database_url("postgres://u:p@h/d?application_name=a")
        .host("h1", 1)
        .host("::1", 2)
        .unix_socket("/run/pg", 3)
        .user("me")
        .password("mine")
        .dbname("my db")
        .application_name("my app")
        .connection_parameter("sslmode", "disable")
        .setting("search_path", "one")
        .setting("search_path", "app, public")
        .build()
        .expect("valid");
    let connect = config.connect();
    assert_eq!(
        connect.redacted_url(),
        "postgres://me:***@h1:1,[::1]:2,%2Frun%2Fpg:3/my%20db?application_name=my%20app&sslmode=disable"
    );
    assert_eq!(connect.password_for(2).map(Secret::expose), Some("mine"));
    assert_eq!(connect.parameters()[1], ("search_path".to_owned(), "app, public".to_owned()));
    assert_eq!(config.pool().hosts(), 3);
    assert_eq!(connect.hosts()[1].to_string(), "[::1]:2");

    let base = || Config::builder().database_url(URL);
    for (builder, sentence) in [
        (base().host("a b", 1), "host is no host's name"),
        (base().host("a", 0), "host (a) has port 0"),
        (base().unix_socket("run", 1), "host (run) must be an absolute path without commas"),
        (base().user("a\0b"), "user contains a NUL character"),
        (base().setting("user", "x"), "setting (user) is not a server setting"),
        (base().setting("a", "\0"), "setting has no name or contains a NUL"),
        (base().connection_parameter("sslmod", "x"), "sslmod is not a connection parameter: did you mean sslmode?"),
    ] {
        let found = lines(builder);
        assert!(found.len() == 1 && found[0].starts_with(sentence), "{found:?}");
    }
}

#[cfg(unix)]
mod password_file {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).expect("written");
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("permitted");
    }

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn is_asked_when_there_is_no_password_otherwise() {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join(".pgpass");
        write(&file, "h:5432:d:u:from file\nlocalhost:*:*:u:local\n", 0o600);
        let home = home.path().to_str().expect("Unicode").to_owned();
        let password = |url: &str, variables: &[(&str, &str)]| {
            let mut variables = variables.to_vec();
            variables.push(("HOME", &home));
            let config = Config::builder().database_url(url).environment(env(&variables)).build().expect("valid");
            assert_eq!(config.warnings(), [""; 0]);
            config.connect().password_for(0).map(|secret| secret.expose().to_owned())
        };
        assert_eq!(password("postgres://u@h/d", &[]).as_deref(), Some("from file"));
        assert_eq!(password("postgres://u@h/e", &[]), None);
        assert_eq!(password("postgres://u:url@h/d", &[]).as_deref(), Some("url"));
        assert_eq!(password("postgres://u@h/d", &[("PGPASSWORD", "variable")]).as_deref(), Some("variable"));
        assert_eq!(password("postgres://u@h/d?hostaddr=10.0.0.1", &[]).as_deref(), Some("from file"));
        assert_eq!(password("postgres:///d?host=/tmp&user=u", &[]).as_deref(), Some("local"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn can_differ_between_hosts() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("passwords");
        write(&file, "a:*:*:*:first\nb:5433:*:*:second\n", 0o600);
        let config = connect(&format!("postgres://u@a,b:5433,c/d?passfile={}", file.display()));
        let password = |host| config.password_for(host).map(Secret::expose);
        assert_eq!((password(0), password(1), password(2)), (Some("first"), Some("second"), None));
        assert_eq!(config.redacted_url(), "postgres://u:***@a:5432,b:5433,c:5432/d");
        let fresh = config.with_password(Some(Secret::new("fresh")));
        assert_eq!(fresh.password_for(2).map(Secret::expose), Some("fresh"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "files")]
    fn that_others_can_read_is_ignored_with_a_warning() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("passwords");
        write(&file, "*:*:*:*:p\n", 0o640);
        let warning = |path: &Path| {
            let url = format!("postgres://u@h/d?passfile={}", path.display());
            let config = Config::builder().database_url(url).build().expect("valid");
            assert_eq!(config.connect().password_for(0), None);
            assert_eq!(config.warnings().len(), 1);
            config.warnings()[0].clone()
        };
        assert!(warning(&file).ends_with("is ignored: others can read it; run chmod 600 on it"));
        assert!(warning(folder.path()).ends_with("is ignored: it is not a plain file"));
        assert!(warning(&folder.path().join("none")).ends_with("is ignored: it does not exist"));
    }
}

/// A configuration that a URL can express.
#[derive(Clone, Debug)]
struct Expressible(ConnectConfig);

impl Arbitrary for Expressible {
    fn arbitrary(g: &mut Gen) -> Self {
        let text = |g: &mut Gen| -> String {
            let text = String::arbitrary(g).replace('\0', "");
            if text.is_empty() { "x".to_owned() } else { text }
        };
        let hosts = (0..1 + u8::arbitrary(g) % 4)
            .map(|_| {
                let port = u16::arbitrary(g).max(1);
                match u8::arbitrary(g) % 4 {
                    0 => tcp("::1", port),
                    1 => tcp("db-1.example", port),
                    2 => tcp("é", port),
                    _ => unix("/run/a b/%é", port),
                }
            })
            .collect();
        let mut config = ConnectConfig::new(hosts, text(g), text(g));
        config.password = bool::arbitrary(g).then(|| Secret::new(text(g)));
        if bool::arbitrary(g) {
            config.parameters.push(("application_name".to_owned(), text(g)));
        }
        if bool::arbitrary(g) {
            config.parameters.push(("options".to_owned(), text(g)));
        }
        config.ssl_mode = *g.choose(&[SslMode::Disable, SslMode::Allow, SslMode::Prefer]).expect("some");
        let attrs = [TargetSessionAttrs::Any, TargetSessionAttrs::ReadWrite, TargetSessionAttrs::Primary];
        config.target_session_attrs = *g.choose(&attrs).expect("some");
        Expressible(config)
    }
}

/// Characters that URLs and `key=value` strings give a meaning, and a few words of theirs.
fn urlish(choices: &[u8]) -> String {
    const PIECES: &[&str] = &[
        "postgres://",
        "@",
        ":",
        "/",
        "?",
        "&",
        "=",
        ",",
        "[",
        "]",
        "%",
        "%2",
        "%00",
        "%ff",
        "#",
        "+",
        " ",
        "'",
        "\\",
        "host",
        "port",
        "password",
        "user",
        "hostaddr",
        "passfile",
        "a",
        "1",
        "é",
        "\0",
        "::1",
        "\n",
    ];
    choices.iter().map(|choice| PIECES[*choice as usize % PIECES.len()]).collect()
}

quickcheck! {
    fn what_is_written_as_a_url_is_read_back(config: Expressible) -> bool {
        let Expressible(config) = config;
        let url = config.to_url(config.password.as_ref().map(Secret::expose));
        connect(&url) == config
    }

    fn what_is_written_as_key_value_is_read_back(user: String, password: String, dbname: String) -> bool {
        let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let parts = [&user, &password, &dbname].map(|text| format!("x{}", text.replace('\0', "")));
        let [user, password, dbname] = &parts;
        let text = format!("user={} password = {} dbname={}", quote(user), quote(password), quote(dbname));
        let config = connect(&text);
        config.user() == user
            && config.password_for(0).is_some_and(|secret| secret.expose() == password)
            && config.dbname() == dbname
    }

    fn any_text_is_a_database_or_a_problem(text: String) -> bool {
        let _ = Config::builder().database_url(&text).build();
        let _ = Config::builder().database_url(format!("postgres://{text}")).build();
        let _ = Config::builder().database_url(format!("host={text}")).build();
        true
    }

    fn any_url_is_a_database_or_a_problem(choices: Vec<u8>) -> bool {
        let _ = Config::builder().database_url(urlish(&choices)).build();
        let _ = Config::builder().database_url(format!("postgres://{}", urlish(&choices))).build();
        true
    }
}
