//! PEERS 46, R-11: passwords are nowhere.

use std::sync::{Arc, Mutex};

use pgweir_core::client::Login;
use pgweir_tests::{Auth, LocalPostgres, Script, ScriptedServer};

use super::outage::hurried;
use crate::suite::common::{config, run};
use crate::suite::rt::{Config, Pool};

const SECRET: &str = "Tr0ub4dor-and-3";
const FRESH: &str = "correct-horse-b4ttery";

/// Everything that a program may print.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    fn debug(&self, what: &impl std::fmt::Debug) {
        self.0.lock().expect("not poisoned").push(format!("{what:?} {what:#?}"));
    }

    fn error(&self, error: &(impl std::error::Error + ?Sized)) {
        let mut text = format!("{error} {error:?} {error:#?}");
        let mut source = error.source();
        while let Some(cause) = source {
            text += &format!(" {cause} {cause:?}");
            source = cause.source();
        }
        self.0.lock().expect("not poisoned").push(text);
    }

    fn check(&self) {
        let said = self.0.lock().expect("not poisoned");
        for text in said.iter() {
            assert_silent(text);
        }
        assert!(said.len() >= 10, "there was something to say: {said:?}");
    }
}

fn assert_silent(text: &str) {
    for secret in [SECRET, FRESH] {
        assert!(!text.contains(secret), "the password is in: {text}");
        // Halves of it, as an excerpt of a URL might have them, or the bytes as a Debug would print them.
        assert!(!text.contains(&secret[..8]), "half of the password is in: {text}");
        let bytes: Vec<String> = secret.bytes().take(6).map(|byte| byte.to_string()).collect();
        assert!(!text.contains(&bytes.join(", ")), "the password's bytes are in: {text}");
    }
}

/// A pool's whole life with each way to authenticate, in Debug, Display, errors with their sources, events, statistics
/// and health.
#[test]
fn passwords_are_nowhere() {
    run(async |trace| {
        for auth in [Auth::ScramSha256, Auth::Md5, Auth::Password] {
            let said = Said::default();
            let server = LocalPostgres::builder().auth(auth).password(SECRET).start().expect("a server");
            let builder = hurried(config(&server.url(), "secrets")).password(SECRET);
            said.debug(&builder);
            let built = builder.clone().build().expect("valid");
            said.debug(&built);
            said.debug(built.connect());
            let opening = Pool::builder(built);
            said.debug(&opening);
            let pool = opening.open().await.expect("the pool opens");
            said.debug(&pool);
            said.debug(&pool.get());
            let mut lease = pool.get().await.expect("a connection");
            said.debug(&lease);
            said.debug(&*lease);
            said.debug(&lease.cancel_token());
            said.error(&lease.query("SELECT nothing", &[]).await.expect_err("no such column"));
            server
                .query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'secrets'")
                .expect("ended");
            said.error(&lease.query("SELECT 1", &[]).await.expect_err("ended"));
            drop(lease);

            server.query(&format!("ALTER ROLE postgres PASSWORD '{FRESH}'")).expect("altered");
            let wrong = Pool::builder(builder.clone().build().expect("valid"));
            said.error(&wrong.open().await.expect_err("the password has changed"));
            let fresh = Pool::builder(builder.build().expect("valid"))
                .postgres(|postgres| {
                    let postgres = postgres.with_credentials(|| async { Ok(Login::password(FRESH)) });
                    said.debug(&postgres);
                    postgres
                })
                .open()
                .await
                .expect("the new password is right");
            said.debug(&fresh);
            said.debug(&Login::password(FRESH));
            for pool in [&pool, &fresh] {
                said.debug(&pool.stats());
                said.debug(&pool.health());
            }
            server.crash().expect("it crashes");
            trace.wait("pgweir.connectivity.lost", 1).await;
            said.error(&pool.get().await.expect_err("down"));
            said.error(&fresh.get().await.expect_err("down"));
            said.debug(&fresh.close().await);
            said.debug(&pool);
            said.check();
        }
        // A server that says what it was sent.
        let parrot = Script::refuse("28P01", "no");
        let server = ScriptedServer::start(parrot).expect("a server");
        let said = Said::default();
        let built = hurried(config(&server.url().replace("secret", SECRET), "parrot")).build().expect("valid");
        said.error(&Pool::builder(built).open().await.expect_err("refused"));
        said.0.lock().expect("not poisoned").iter().for_each(|text| assert_silent(text));

        let events = trace.events();
        assert!(events.len() > 50);
        for event in events {
            assert_silent(&format!("{event} {}", event.target));
        }
    });
}

/// Configurations that cannot be: the password is in what was given, and not in what is said about it.
#[test]
fn refused_configurations_keep_the_password() {
    let urls = [
        format!("postgresql://user:{SECRET}@host:port/db"),
        format!("postgresql://user:{SECRET}@host:99999/db"),
        format!("postgresql://user:{SECRET}@[::1/db"),
        format!("postgresql://user:{SECRET}@host/db?sslmode=verify-full"),
        format!("postgresql://user:{SECRET}@host/db?what=that"),
        format!("postgresql://user:{SECRET}%zz@host/db"),
        format!("mysql://user:{SECRET}@host/db"),
        format!("host=h password={SECRET} port=no"),
        format!("host=h password='{SECRET}"),
        format!("postgresql://host/db?password={SECRET}&connect_timeout=soon"),
    ];
    for url in urls {
        let error = Config::from_url(&url).expect_err(&url);
        let said = Said::default();
        said.error(&error);
        assert_silent(&said.0.lock().expect("not poisoned")[0]);
    }
}
