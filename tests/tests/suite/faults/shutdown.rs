//! What a shutdown leaves behind on the server: nothing.

use std::time::Duration;

use crate::suite::common::{config, open, run, server, unique, until, wait_for_backends};
use crate::suite::rt;

/// The socket alone is not enough: a backend in the middle of a query does not notice that its client is gone.
#[test]
fn a_query_that_a_shutdown_cuts_off_is_stopped_on_the_server() {
    run(async |_trace| {
        let (server, name) = (server(), unique("cut"));
        let pool = open(config(&server.url(), &name)).await;
        let mut lease = pool.get().await.expect("granted");
        let query = rt::spawn(async move { lease.batch_execute("SELECT pg_sleep(600)").await });
        let runs = || server.backends(&name).expect("the server answers").iter().any(|it| it.state == "active");
        until("the query runs", runs).await;
        let report = pool.close_timeout(Duration::from_millis(100)).await;
        assert_eq!((report.finished, report.forced), (0, 1));
        let error = query.await.expect("no panic").expect_err("cut off");
        assert!(error.to_string().contains("the pool cut it off"), "{error}");
        wait_for_backends(server, &name, 0).await;
    });
}
