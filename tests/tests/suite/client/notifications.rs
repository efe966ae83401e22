//! LISTEN and NOTIFY, and the server's notices.

use std::time::Duration;

use tracing::Level;

use super::{named, open};
use crate::suite::common::run;
use crate::suite::rt;

/// Notifications come while they are waited for, with other answers, and in order; a dropped wait loses none.
#[test]
fn listen_and_notify() {
    run(|_| async {
        let pool = open(named("notify").min_size(2)).await;
        let (mut client, mut other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        client.batch_execute("LISTEN news; LISTEN \"Other channel\"").await.unwrap();
        other.batch_execute("NOTIFY news, 'one'; NOTIFY \"Other channel\", 'zwei'").await.unwrap();
        let first = client.notification().await.unwrap();
        assert_eq!((&*first.channel, &*first.payload, first.process_id), ("news", "one", other.backend_pid()));
        let second = client.notification().await.unwrap();
        assert_eq!((&*second.channel, &*second.payload), ("Other channel", "zwei"));
        assert_eq!(client.take_notification(), None);
        // None there: the wait ends with its future, not otherwise.
        assert!(rt::timeout(Duration::from_millis(30), client.notification()).await.is_err());
        other.batch_execute("NOTIFY news, 'three'").await.unwrap();
        client.query_one("SELECT 1", &[]).await.unwrap();
        assert_eq!(client.notification().await.unwrap().payload, "three");
        // Its own come too, before the answer to the next request.
        client.batch_execute("NOTIFY news").await.unwrap();
        let own = client.notification().await.unwrap();
        assert_eq!((&*own.payload, own.process_id), ("", client.backend_pid()));
        assert_eq!(client.notifications_lost(), 0);
    });
}

/// A listener that waits sees what is sent meanwhile, from any number of senders.
#[test]
fn waiting_while_others_send() {
    run(|_| async {
        let pool = open(named("notify-many").min_size(5)).await;
        let mut listener = pool.get().await.unwrap();
        listener.batch_execute("LISTEN many").await.unwrap();
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let pool = pool.clone();
                rt::spawn(async move {
                    let mut client = pool.get().await.unwrap();
                    for n in 0..100 {
                        let payload = format!("{sender} {n:02}");
                        client.execute("SELECT pg_notify('many', $1)", &[&payload]).await.unwrap();
                    }
                })
            })
            .collect();
        let mut seen = Vec::new();
        while seen.len() < 400 {
            seen.push(listener.notification().await.unwrap().payload);
        }
        for sender in senders {
            sender.await.unwrap();
        }
        for sender in 0..4 {
            let own: Vec<&String> = seen.iter().filter(|text| text.starts_with(&sender.to_string())).collect();
            assert!(own.iter().enumerate().all(|(n, text)| **text == format!("{sender} {n:02}")), "{own:?}");
        }
    });
}

/// DESIGN 2, rule 5: notifications that nobody takes are bounded, and the loss is counted. They end with the lease.
#[test]
fn notifications_are_bounded_and_end_with_the_lease() {
    run(|_| async {
        let pool = open(named("notify-bounded").max_size(1)).await;
        let mut client = pool.get().await.unwrap();
        client.batch_execute("LISTEN flood").await.unwrap();
        client.batch_execute("SELECT pg_notify('flood', g::text) FROM generate_series(1, 1500) g").await.unwrap();
        assert_eq!(client.notifications_lost(), 500);
        assert_eq!(client.take_notification().unwrap().payload, "501", "the oldest go");
        drop(client);
        let mut client = pool.get().await.unwrap();
        assert_eq!((client.take_notification(), client.notifications_lost()), (None, 0));
    });
}

/// A connection that dies ends the wait for a notification with the reason.
#[test]
fn the_wait_ends_with_the_connection() {
    run(|_| async {
        let pool = open(named("notify-ended").max_size(1)).await;
        let mut client = pool.get().await.unwrap();
        client.batch_execute("LISTEN ended").await.unwrap();
        let pid = client.backend_pid();
        let end = async { super::server().query(&format!("SELECT pg_terminate_backend({pid})")).unwrap() };
        let (result, _) = rt::join(client.notification(), end).await;
        assert_eq!(super::sqlstate(result), "57P01");
    });
}

/// a notice of the server becomes an event with its fields, never a line on stderr.
#[test]
fn notices_are_events() {
    run(|trace| async move {
        let pool = open(named("notices").max_size(1)).await;
        let mut client = pool.get().await.unwrap();
        client.batch_execute("DO $$ BEGIN RAISE WARNING 'mind the gap' USING ERRCODE = '01234'; END $$").await.unwrap();
        let notice = trace
            .events()
            .into_iter()
            .find(|event| event.target == "pgweir::notice" && event.field("message").contains("mind the gap"));
        let notice = notice.unwrap_or_else(|| panic!("no such event in\n{}", trace.tail(20)));
        assert_eq!((notice.level, notice.field("sqlstate")), (Level::DEBUG, "01234"));
        assert_eq!(notice.number("pid"), client.backend_pid() as u64);
        assert_eq!(notice.field("severity"), "Warning");
    });
}
