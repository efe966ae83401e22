//! Hooks after connect, before acquire, after release; credentials fetched afresh (issue 2, item 4).

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgweir_core::client::{Login, TransactionStatus};
use pgweir_core::driver::HookFuture;
use pgweir_core::error::AcquireError;

use super::{backends, named, pid};
use crate::suite::common::{config, run, server, until};
use crate::suite::rt::{Client, Pool};

/// after_connect runs once for each connection, before anybody gets it, and may use it.
#[test]
fn after_connect() {
    run(|_| async {
        let calls = Arc::new(AtomicU32::new(0));
        let count = calls.clone();
        let builder = Pool::builder(named("hook-connect").max_size(3).build().unwrap())
            .postgres(|postgres| postgres.with_on_connect_sql("SET work_mem = '5MB'"))
            .after_connect(move |client: &mut Client| {
                count.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move { Ok(client.batch_execute("SET search_path = pg_catalog").await?) })
            });
        let pool = builder.open().await.unwrap();
        for _ in 0..3 {
            let mut leases = [pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap()];
            for lease in &mut leases {
                let sql = "SELECT current_setting('search_path'), current_setting('work_mem')";
                let row = lease.query_one(sql, &[]).await.unwrap();
                assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("pg_catalog", "5MB"));
            }
        }
        assert_eq!((calls.load(Ordering::Relaxed), pool.stats().opened), (3, 3));
        // The hook's own queries are not the users'.
        assert_eq!(pool.stats().queries, 9);
    });
}

/// before_acquire may refuse a connection: it is closed, and the acquire goes on with another, in its place in the
/// queue and within its own deadline.
#[test]
fn before_acquire_refuses() {
    run(|_| async {
        let refused = Arc::new(AtomicI32::new(0));
        let bad = refused.clone();
        let builder = Pool::builder(named("hook-acquire").max_size(2).build().unwrap()).before_acquire(
            move |client: &mut Client| {
                let bad = bad.load(Ordering::Relaxed);
                Box::pin(async move {
                    let own = pid(client).await;
                    if own == bad { Err("not this one".into()) } else { Ok(()) }
                })
            },
        );
        let pool = builder.open().await.unwrap();
        for _ in 0..4 {
            let mut client = pool.get().await.unwrap();
            let own = pid(&mut client).await;
            refused.store(own, Ordering::Relaxed);
            drop(client);
            let mut other = pool.get().await.unwrap();
            assert_ne!(pid(&mut other).await, own);
            let is_gone = || !crate::suite::common::backends(server(), "hook-acquire").contains(&(own as u32));
            until("the refused one is closed", is_gone).await;
        }
        assert!(backends("hook-acquire") <= 2);
    });
}

/// One that refuses everything ends in a timeout, not in a loop without end; and the pool is whole.
#[test]
fn before_acquire_refuses_everything() {
    run(|_| async {
        let refuse = Arc::new(AtomicBool::new(true));
        let refused = refuse.clone();
        let builder =
            Pool::builder(named("hook-refuse").max_size(2).build().unwrap()).before_acquire(move |_: &mut Client| {
                let refused = refused.load(Ordering::Relaxed);
                Box::pin(async move { if refused { Err("never".into()) } else { Ok(()) } })
            });
        let pool = builder.open().await.unwrap();
        let error = pool.get_timeout(Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(error, AcquireError::Timeout(_) | AcquireError::Unavailable(_)), "{error}");
        assert!(backends("hook-refuse") <= 2);
        refuse.store(false, Ordering::Relaxed);
        let mut client = pool.get().await.expect("the hook lets it through now");
        client.query_one("SELECT 1", &[]).await.unwrap();
        drop(client);
        until("min_size is there", || pool.status().idle == 2).await;
    });
}

/// after_release runs after each lease, before the connection is lent again; what it refuses is closed.
#[test]
fn after_release() {
    run(|_| async {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let builder = Pool::builder(named("hook-release").max_size(1).build().unwrap()).after_release(
            move |client: &mut Client| {
                let log = log.clone();
                Box::pin(async move {
                    let row = client.query_one("SELECT current_setting('app.tag', true)", &[]).await?;
                    let tag = row.get::<_, Option<String>>(0).unwrap_or_default();
                    log.lock().unwrap().push(tag.clone());
                    client.batch_execute("RESET app.tag").await?;
                    if tag == "bad" { Err("tainted".into()) } else { Ok(()) }
                })
            },
        );
        let pool = builder.open().await.unwrap();
        let mut pids = Vec::new();
        for tag in ["one", "bad", "two"] {
            let mut client = pool.get().await.unwrap();
            let row = client.query_one("SELECT current_setting('app.tag', true)", &[]).await.unwrap();
            assert!(row.get::<_, Option<&str>>(0).unwrap_or_default().is_empty(), "what was left was cleared");
            client.batch_execute(&format!("SET app.tag = '{tag}'")).await.unwrap();
            pids.push(pid(&mut client).await);
        }
        until("the last is home", || pool.status().idle == 1).await;
        assert_eq!(*seen.lock().unwrap(), ["one", "bad", "two"]);
        assert!(pids[0] == pids[1] && pids[1] != pids[2], "{pids:?}");
    });
}

/// Makes the hook at one place misbehave, and counts how often it did.
#[derive(Clone, Default)]
struct Switch {
    place: Arc<AtomicU32>,
    seen: Arc<AtomicU32>,
}

impl Switch {
    /// From now on, the hook at this place; 0 is none.
    fn turn(&self, place: u32) {
        self.seen.store(0, Ordering::SeqCst);
        self.place.store(place, Ordering::SeqCst);
    }

    fn is_on(&self, place: u32) -> bool {
        let on = self.place.load(Ordering::SeqCst) == place;
        self.seen.fetch_add(u32::from(on), Ordering::SeqCst);
        on
    }

    /// Waits until it has misbehaved, and ends that.
    async fn once(&self) {
        until("the hook runs", || self.seen.load(Ordering::SeqCst) > 0).await;
        self.turn(0);
    }

    /// A hook that never ends.
    fn hanging(&self, place: u32) -> impl for<'a> Fn(&'a mut Client) -> HookFuture<'a> + Send + Sync + 'static {
        let switch = self.clone();
        move |_| {
            let hangs = switch.is_on(place);
            Box::pin(async move { if hangs { std::future::pending().await } else { Ok(()) } })
        }
    }

    /// A hook that leaves a transaction open.
    fn leaving(&self, place: u32) -> impl for<'a> Fn(&'a mut Client) -> HookFuture<'a> + Send + Sync + 'static {
        let switch = self.clone();
        move |client| {
            let leaves = switch.is_on(place);
            Box::pin(async move { if leaves { Ok(client.batch_execute("BEGIN").await?) } else { Ok(()) } })
        }
    }
}

/// A hook that never ends is ended: at connect by connect_timeout, at acquire by the caller's deadline, at release by
/// reset_timeout.
#[test]
fn hooks_that_hang() {
    run(|_| async {
        let switch = Switch::default();
        let limit = Duration::from_millis(100);
        let config = named("hook-hang").max_size(1).connect_timeout(limit).reset_timeout(limit);
        let builder = Pool::builder(config.backoff_initial(Duration::from_millis(20)).build().unwrap())
            .after_connect(switch.hanging(1))
            .before_acquire(switch.hanging(2))
            .after_release(switch.hanging(3));
        let pool = builder.open().await.unwrap();
        switch.turn(2);
        let error = pool.get_timeout(limit).await.map(drop).unwrap_err();
        assert!(matches!(error, AcquireError::Timeout(_)), "{error}");
        switch.turn(0);
        let client = pool.get().await.unwrap();
        let conn = client.id();
        switch.turn(3);
        drop(client);
        switch.once().await;
        let client = pool.get().await.unwrap();
        assert_ne!(client.id(), conn, "replaced, since its reset did not end");
        switch.turn(1);
        client.discard();
        let error = pool.get_timeout(limit * 3).await.map(drop).unwrap_err();
        assert!(matches!(error, AcquireError::Timeout(_) | AcquireError::Unavailable(_)), "{error}");
        switch.turn(0);
        pool.get().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
        until("at home", || pool.status().idle == 1).await;
        assert_eq!(pool.close().await.forced, 0);
    });
}

/// DESIGN 4, Sound: a transaction that a hook leaves open reaches nobody: the connection counts as refused.
#[test]
fn hooks_that_leave_a_transaction() {
    run(|_| async {
        let switch = Switch::default();
        let config = || named("hook-leave").max_size(1).init_attempts(1).build().unwrap();
        switch.turn(1);
        let error = Pool::builder(config()).after_connect(switch.leaving(1)).open().await.unwrap_err();
        let text = "the after_connect hook refused the connection: it left a transaction or a request open";
        assert!(error.to_string().contains(text), "{error}");
        switch.turn(0);
        let builder = Pool::builder(config()).before_acquire(switch.leaving(2)).after_release(switch.leaving(3));
        let pool = builder.open().await.unwrap();
        for place in [2, 3] {
            let mut client = pool.get().await.unwrap();
            let before = pid(&mut client).await;
            if place == 2 {
                drop(client);
                switch.turn(place);
                let error = pool.get_timeout(Duration::from_millis(200)).await.map(drop).unwrap_err();
                assert!(matches!(error, AcquireError::Timeout(_) | AcquireError::Unavailable(_)), "{error}");
            } else {
                switch.turn(place);
                drop(client);
            }
            switch.once().await;
            let mut client = pool.get().await.unwrap();
            assert_eq!(client.transaction_status(), TransactionStatus::Idle);
            assert_ne!(pid(&mut client).await, before, "{place}");
        }
    });
}

/// PEERS 23: the credentials are asked for at each connect; a rotated password needs no new pool and costs no error.
#[test]
fn rotated_credentials() {
    run(|_| async {
        // Its own server: everybody logs in by password here.
        let server = pgweir_tests::LocalPostgres::builder().auth(pgweir_tests::Auth::ScramSha256).start().unwrap();
        server.query("CREATE ROLE rotating LOGIN PASSWORD 'first'").unwrap();
        let password = Arc::new(Mutex::new("first"));
        let (asked, vault) = (Arc::new(AtomicU32::new(0)), password.clone());
        let count = asked.clone();
        let url = format!("postgres://rotating@127.0.0.1:{}/postgres", server.port());
        let builder = Pool::builder(config(&url, "hook-rotate").min_size(3).build().unwrap()).postgres(|postgres| {
            postgres.with_credentials(move || {
                count.fetch_add(1, Ordering::Relaxed);
                let password = *vault.lock().unwrap();
                async move { Ok(Login::password(password)) }
            })
        });
        let pool = builder.open().await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        for new in ["second", "third"] {
            server.query(&format!("ALTER ROLE rotating PASSWORD '{new}'")).unwrap();
            *password.lock().unwrap() = new;
            let before = crate::suite::common::backends(&server, "hook-rotate");
            pool.recycle();
            let is_new = || {
                let now = crate::suite::common::backends(&server, "hook-rotate");
                now.len() == 3 && now.iter().all(|pid| !before.contains(pid))
            };
            while !is_new() {
                pool.get().await.expect("no error").query_one("SELECT 1", &[]).await.expect("no error");
            }
        }
        let stats = pool.stats();
        assert!(stats.connect_failures.is_empty(), "{stats:?}");
        assert_eq!(u64::from(asked.load(Ordering::Relaxed)), stats.connect_attempts);
    });
}
