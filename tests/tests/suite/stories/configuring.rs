//! what was configured is what the pool does, whatever source it came from.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use pgweir_core::config::{Config, Environment};
use pgweir_core::error::AcquireError;
use pgweir_tests::{Auth, LocalPostgres};

use super::{backends, proxied};
use crate::suite::common::{run, server};
use crate::suite::rt::Pool;

async fn open(config: Config) -> Pool {
    Pool::builder(config).open().await.expect("the pool opens")
}

fn environment(variables: &[(&str, String)]) -> Environment {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// How long the pool lets an acquire wait, found out by waiting.
async fn patience(pool: &Pool) -> Duration {
    pool.pause();
    let Err(AcquireError::Timeout(report)) = pool.get().await else { panic!("paused") };
    pool.resume();
    report.waited
}

/// code over environment over YAML over defaults, each for what it alone says.
#[test]
fn sources_in_order() {
    run(|_| async {
        let url = format!("postgresql+asyncpg://postgres@127.0.0.1:{}/postgres", server().port());
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "min_size: 1\nmax_size: 3\nacquire_timeout: 120ms\nbackoff: {{initial: 10ms}}\n").unwrap();
        let variables = [("DATABASE_URL", url), ("POOL_MAX_SIZE", "4".to_owned()), ("POOL_MIN_SIZE", "3".to_owned())];
        let config = Config::builder()
            .min_size(2)
            .application_name("config-order")
            .yaml_file(file.path())
            .environment(environment(&variables));
        let pool = open(config.build().unwrap()).await;
        let status = pool.status();
        assert_eq!((status.min, status.max, status.idle), (2, 4, 2), "code, environment");
        let waited = patience(&pool).await;
        assert!(waited >= Duration::from_millis(120) && waited < Duration::from_secs(10), "YAML: {waited:?}");
        assert_eq!(backends("config-order"), 2);
    });
}

/// the brief's own variables: numbers of seconds, `POOL_TIMEOUT`, SQLAlchemy's driver in the URL.
#[test]
fn the_environment_alone() {
    run(|_| async {
        let url = server().url().replace("postgresql://", "postgresql+asyncpg://") + "?application_name=config-env";
        let variables = [
            ("DATABASE_URL", url),
            ("POOL_MIN_SIZE", "1".to_owned()),
            ("POOL_MAX_SIZE", "1".to_owned()),
            ("POOL_TIMEOUT", "0.15".to_owned()),
            ("POOL_COMMAND_TIMEOUT", "0.1".to_owned()),
        ];
        let pool = open(Config::builder().environment(environment(&variables)).build().unwrap()).await;
        assert_eq!((pool.status().max, backends("config-env")), (1, 1));
        let waited = patience(&pool).await;
        assert!(waited >= Duration::from_millis(150) && waited < Duration::from_secs(10), "{waited:?}");
        let error = pool.get().await.unwrap().query("SELECT pg_sleep(30)", &[]).await.unwrap_err();
        assert!(error.to_string().contains("command_timeout (100ms)"), "{error}");
    });
}

/// libpq's variables are enough, and a password comes from the environment or the password file.
#[test]
fn libpqs_variables_and_password_file() {
    run(|_| async {
        let server = LocalPostgres::builder().auth(Auth::ScramSha256).password("sesame").start().unwrap();
        let port = server.port().to_string();
        let base = [
            ("PGHOST", "127.0.0.1".to_owned()),
            ("PGPORT", port.clone()),
            ("PGUSER", "postgres".to_owned()),
            ("PGDATABASE", "postgres".to_owned()),
            ("PGAPPNAME", "config-libpq".to_owned()),
            ("PGOPTIONS", "-c work_mem=3MB".to_owned()),
        ];
        let with_password = [&base[..], &[("PGPASSWORD", "sesame".to_owned())]].concat();
        let pool = open(Config::builder().pg_environment(environment(&with_password)).build().unwrap()).await;
        let mut client = pool.get().await.unwrap();
        let sql = "SELECT current_setting('work_mem'), current_setting('application_name')";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("3MB", "config-libpq"));
        drop(client);
        pool.close().await;

        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "# comment\nelsewhere:*:*:*:wrong\n127.0.0.1:{port}:postgres:postgres:sesame").unwrap();
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let with_file = [&base[..], &[("PGPASSFILE", path)]].concat();
        let pool = open(Config::builder().pg_environment(environment(&with_file)).build().unwrap()).await;
        pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
    });
}

/// everything that is wrong is said at once and before anything is connected to.
#[test]
fn problems_come_together_and_first() {
    run(|_| async {
        let (proxy, config) = proxied("config-wrong");
        let error = config.min_size(10).max_size(5).acquire_timeout(Duration::ZERO).build().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("max_size (5) must be at least min_size (10)"), "{text}");
        assert!(text.contains("acquire_timeout"), "{text}");
        assert_eq!(proxy.stats().accepted.len(), 0);
    });
}

/// A password in a URL is nowhere to be seen afterwards (PEERS 46).
#[test]
fn no_password_is_shown() {
    run(|trace| async move {
        let url = server().url_with("postgres", "t0psecret", "postgres");
        let config = Config::builder().database_url(&url).application_name("config-secret").build().unwrap();
        let shown = format!("{config:?}");
        let builder = Pool::builder(config);
        let shown = format!("{shown} {builder:?}");
        let pool = builder.open().await.unwrap();
        let client = pool.get().await.unwrap();
        let shown = format!("{shown} {pool:?} {client:?} {:?} {:?}", pool.stats(), pool.health());
        drop(client);
        pool.close().await;
        let shown = format!("{shown} {}", trace.tail(1_000));
        assert!(!shown.contains("t0psecret"), "{shown}");
    });
}
