//! Settling what a lease left behind, so that the connection can serve the next one (DESIGN 5 and 10).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::cancel;
use super::connection::Client;
use super::limit::Limit;
use crate::pg::Settle;
use crate::pool::{Fault, FaultClass};
use crate::runtime::Runtime;
use crate::time::Instant;

/// How long an answer may be on its way before the server is asked to stop working on it. Most are at hand.
const GRACE: Duration = Duration::from_millis(5);

/// The same after a cancel that stopped something: it stops one statement, and those behind it in a pipeline each take
/// another one.
const NEXT_GRACE: Duration = Duration::from_millis(1);

/// A server that does not react is asked less and less often.
const MAX_GRACE: Duration = Duration::from_millis(100);

type Cancel<'a> = Pin<Box<dyn Future<Output = Result<(), CancelFailed>> + Send + 'a>>;

struct CancelFailed {
    error: io::Error,
    /// Whether it may still reach the server.
    unsure: bool,
}

/// Reads what is still to come, cancels what still runs, rolls back what is open. When it has returned, no cancel
/// request is on its way to the connection.
///
/// The caller has a deadline: it drops the future, and must not use the connection after that.
pub(super) async fn settle<R: Runtime>(client: &mut Client<R>, cancels: &Limit) -> Result<(), Fault> {
    wait_for_tokens(client).await?;
    let runtime = client.channel.runtime().clone();
    let (address, key) = (client.origin.address.clone(), client.channel.machine().backend_key());
    let mut grace = GRACE;
    // What was pending when the last cancel was sent.
    let mut pending = usize::MAX;
    let mut patience = runtime.now() + grace;
    let mut timer: Option<R::Timer> = None;
    let mut cancel: Option<Cancel<'_>> = None;
    loop {
        let cancellable = match client.channel.machine_mut().settle(runtime.now()) {
            Settle::Settled => return Ok(()),
            Settle::Close(fault) => return Err(fault),
            Settle::Wait { cancel } => cancel,
        };
        let mut waiting = Waiting { client: &mut *client, cancel: &mut cancel, timer: None };
        if cancellable && waiting.cancel.is_none() {
            let timer = match &mut timer {
                Some(timer) => {
                    crate::runtime::Timer::reset(timer, patience);
                    timer
                }
                none => none.insert(runtime.timer(patience)),
            };
            waiting.timer = Some(timer);
        }
        match poll_fn(|cx| waiting.poll(cx)).await? {
            Woken::Received => {}
            Woken::Cancelled(result) => {
                cancel = None;
                client.channel.machine_mut().cancel_ended();
                if let Err(failed) = result {
                    if failed.unsure {
                        return Err(Fault::plain(
                            FaultClass::Transient,
                            format!("a cancel request got lost: {}", failed.error),
                        ));
                    }
                    tracing::debug!(
                        name: "pgweir.cancel.failed",
                        target: "pgweir::drain",
                        error = %failed.error,
                        "no cancel request could be sent"
                    );
                }
                let left = client.channel.machine().pending();
                grace = if left < pending { NEXT_GRACE } else { (grace * 2).min(MAX_GRACE) };
                patience = runtime.now() + grace;
            }
            Woken::Impatient => {
                patience = Instant::MAX;
                pending = client.channel.machine().pending();
                if let Some(key) = key {
                    client.channel.machine_mut().cancel_started();
                    let (runtime, address) = (&runtime, &address);
                    cancel = Some(Box::pin(async move {
                        let _permit = cancels.acquire().await;
                        let mut unsure = false;
                        let sent = cancel::send(runtime, address, &key, &mut unsure).await;
                        sent.map_err(|error| CancelFailed { error, unsure })
                    }));
                }
            }
        }
    }
}

enum Woken {
    /// The machine was fed.
    Received,
    /// The cancel request is over.
    Cancelled(Result<(), CancelFailed>),
    /// The server took longer than it was given.
    Impatient,
}

struct Waiting<'w, 'c, R: Runtime> {
    client: &'w mut Client<R>,
    cancel: &'w mut Option<Cancel<'c>>,
    timer: Option<&'w mut R::Timer>,
}

impl<R: Runtime> Waiting<'_, '_, R> {
    /// The cancel and the timer come first: a server that sends without end must not keep them from having their turn.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Woken, Fault>> {
        if let Some(cancel) = self.cancel
            && let Poll::Ready(result) = cancel.as_mut().poll(cx)
        {
            return Poll::Ready(Ok(Woken::Cancelled(result)));
        }
        if let Some(timer) = &mut self.timer
            && Pin::new(&mut **timer).poll(cx).is_ready()
        {
            return Poll::Ready(Ok(Woken::Impatient));
        }
        let pumped = self.client.channel.poll_pump(cx);
        while let Some(event) = self.client.channel.machine_mut().poll_event() {
            self.client.absorb(event);
        }
        pumped.map(|result| result.map(|()| Woken::Received).map_err(|error| error.fault()))
    }
}

/// The lease's own cancels count too: those under way must have ended, and those that have are followed by a round trip
/// like ours.
async fn wait_for_tokens<R: Runtime>(client: &mut Client<R>) -> Result<(), Fault> {
    let Some(gate) = client.gate.take() else { return Ok(()) };
    if !gate.close() {
        return Ok(());
    }
    client.channel.machine_mut().cancel_started();
    poll_fn(|cx| gate.poll_quiet(cx)).await?;
    client.channel.machine_mut().cancel_ended();
    Ok(())
}
