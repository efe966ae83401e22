//! Settling what a lease left behind, so that the connection can serve the next one.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use pgweir_core::pool::{Fault, FaultClass};
use tokio_postgres::error::SqlState;

use super::client::ClientWrapper;
use super::fault;

/// How long an answer may be on its way before the server is asked to stop working on it. Most are at hand.
const GRACE: Duration = Duration::from_millis(5);

/// The same after a cancel: it stops one statement, and those behind it in a pipeline each take another one.
const NEXT_GRACE: Duration = Duration::from_millis(1);

/// A server that does not react is asked less and less often.
const MAX_GRACE: Duration = Duration::from_millis(100);

/// Waits for what is still to come, cancels what still runs, rolls back what is open. When it has returned, no cancel
/// request is on its way to the connection.
///
/// The caller has a deadline: it drops the future, and must not use the connection after that.
pub(super) async fn settle(client: &mut ClientWrapper) -> Result<(), Fault> {
    if let Some(gate) = client.used_gate.take() {
        poll_fn(|cx| gate.poll_quiet(cx)).await?;
    }
    if answered(client).await? {
        // The signal of a cancel that is over may still be on its way within the server, to whatever comes next.
        while !probe(client).await? {}
    }
    client.link.traffic(|traffic| traffic.settled());
    if client.link.traffic(|traffic| traffic.in_transaction()) {
        client.batch_execute("ROLLBACK").await.map_err(|error| fault::prefixed("rolling back", &error))?;
    }
    Ok(())
}

/// Waits until everything is answered, with cancel requests where that takes long. Whether any was sent.
async fn answered(client: &ClientWrapper) -> Result<bool, Fault> {
    let mut probe = pin!(probe(client));
    let (mut grace, mut cancelled) = (GRACE, false);
    loop {
        if let Ok(result) = tokio::time::timeout(grace, probe.as_mut()).await {
            return Ok(!result? || cancelled);
        }
        client.link.turn()?;
        if client.link.traffic(|traffic| traffic.read_waits) {
            cancel(client).await?;
            grace = if cancelled { (grace * 2).min(MAX_GRACE) } else { NEXT_GRACE };
            cancelled = true;
        } else {
            // The answer is there, and somebody keeps the stream that it belongs to without reading it.
            grace = MAX_GRACE;
        }
    }
}

/// An empty query: its answer comes after all others. False if a cancel hit it.
async fn probe(client: &ClientWrapper) -> Result<bool, Fault> {
    match client.simple_query("").await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => Ok(false),
        Err(error) => Err(fault::of(&error)),
    }
}

async fn cancel(client: &ClientWrapper) -> Result<(), Fault> {
    let canceller = &client.canceller;
    let _permit = canceller.permits.acquire().await;
    let mut unsure = false;
    match canceller.send(&*canceller.connect, &mut unsure).await {
        Err(fault) if unsure => {
            Err(Fault::new(FaultClass::Transient, format!("a cancel request got lost: {}", fault.message)))
        }
        // The server may have no room for it now: the next one is sent soon.
        Ok(()) | Err(_) => Ok(()),
    }
}
