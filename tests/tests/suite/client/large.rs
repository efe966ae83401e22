//! Values larger than any buffer, both ways.

use pgweir_core::client::Error;

use super::{named, open};
use crate::suite::common::run;

const MB: usize = 1_000_000;

/// 64 MB as a parameter and back, as text and as bytes: whoever only writes, or only reads, would hang.
#[test]
fn sixty_four_megabytes_both_ways() {
    run(|_| async {
        let pool = open(named("large").max_size(1)).await;
        let mut client = pool.get().await.unwrap();
        let text = "z".repeat(64 * MB);
        let row = client.query_one("SELECT $1::text || ''", &[&text]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), text);
        let bytes: Vec<u8> = (0..64 * MB).map(|n| (n % 251) as u8).collect();
        let row = client.query_one("SELECT $1::bytea", &[&bytes]).await.unwrap();
        assert!(row.get::<_, &[u8]>(0) == bytes);
        drop((row, text, bytes));
        let row = client.query_one("SELECT 7", &[]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), 7);
    });
}

/// Far more out than in, and far more in than out.
#[test]
fn one_sided() {
    run(|_| async {
        let pool = open(named("large-sides").max_size(1)).await;
        let mut client = pool.get().await.unwrap();
        let row = client.query_one("SELECT length($1)", &[&"y".repeat(64 * MB)]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0) as usize, 64 * MB);
        let row = client.query_one("SELECT repeat('x', $1)", &[&(60 * MB as i32)]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0).len(), 60 * MB);
        let rows = client.query("SELECT repeat('x', 1000000) FROM generate_series(1, 100)", &[]).await.unwrap();
        assert!(rows.len() == 100 && rows.iter().all(|row| row.get::<_, &str>(0).len() == MB));
    });
}

/// DESIGN 2, rule 5: a row over the limit of 64 MiB is refused by name; it costs the connection, not the pool.
#[test]
fn a_row_over_the_limit() {
    run(|_| async {
        let pool = open(named("large-limit").max_size(1)).await;
        let mut client = pool.get().await.unwrap();
        let pid = client.backend_pid();
        let error = client.query("SELECT repeat('x', 68000000)", &[]).await.unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{error:?}");
        assert!(error.to_string().contains("68000"), "the size is named: {error}");
        drop(client);
        let mut client = pool.get().await.unwrap();
        assert_ne!(client.backend_pid(), pid);
        assert_eq!(client.query_one("SELECT 7", &[]).await.unwrap().get::<_, i32>(0), 7);
    });
}
