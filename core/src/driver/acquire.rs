//! The future of an acquire.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::deadline::within;
use super::hooks::{self, Hook};
use super::lease::Lease;
use super::lending::LostOnPanic;
use super::member::Member;
use super::origin::Origin;
use super::shared::Handle;
use super::waiting::Outcome;
use crate::error::AcquireError;
use crate::manager::Manager;
use crate::pool::{Fault, WaiterId};
use crate::runtime::Runtime;
use crate::time::Instant;

/// An acquire under way: resolves to a [`Lease`].
///
/// It joins the queue at its first poll, not when it is made. It always resolves by its deadline, and may be dropped at
/// any point: a connection that was already granted goes to the next in the queue.
#[must_use = "futures do nothing unless polled"]
pub struct Acquire<R: Runtime, M: Manager> {
    shared: Option<Handle<R, M>>,
    patience: Patience,
    leak_after: Option<Duration>,
    location: &'static Location<'static>,
    origin: Option<Origin>,
    stage: Stage<R, M>,
}

/// How long an acquire waits.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// The pool's acquire_timeout.
    Default,
    /// This long.
    For(Duration),
    /// Not at all.
    None,
}

enum Stage<R: Runtime, M: Manager> {
    New,
    Queued(WaiterId),
    /// The before_acquire hook runs on a lease that its caller has not seen.
    Hook(WaiterId, HookFuture<R, M>),
    Done,
}

type HookFuture<R, M> = Pin<Box<dyn Future<Output = Result<Lease<R, M>, (Lease<R, M>, Fault)>> + Send>>;

type Verdict<R, M> = Result<Lease<R, M>, Outcome<<M as Manager>::Connection>>;

impl<R: Runtime, M: Manager> Acquire<R, M> {
    #[inline]
    pub(crate) fn new(shared: Handle<R, M>, patience: Patience, location: &'static Location<'static>) -> Self {
        Acquire { shared: Some(shared), patience, leak_after: None, location, origin: None, stage: Stage::New }
    }

    /// Lets this one lease be held for `time` before it is suspected of a leak, instead of the pool's
    /// leak_detection_timeout; [`Duration::MAX`] is for ever.
    pub fn leak_after(mut self, time: Duration) -> Self {
        self.leak_after = Some(time);
        self
    }

    /// Waits at most `time` instead of the pool's acquire_timeout.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.patience = Patience::For(time);
        self
    }

    #[inline]
    fn begin(&self, shared: &Handle<R, M>, now: Instant, cx: &Context<'_>) -> (WaiterId, Outcome<M::Connection>) {
        let deadline = match self.patience {
            Patience::Default => now + shared.acquire_timeout,
            Patience::For(time) => now + time,
            Patience::None => Instant::ZERO,
        };
        shared.acquire(now, deadline, self.leak_after, self.location, cx.waker())
    }

    #[inline]
    fn done(
        &mut self,
        waiter: WaiterId,
        member: Box<Member<M::Connection>>,
    ) -> Poll<Result<Lease<R, M>, AcquireError>> {
        self.stage = Stage::Done;
        if let Some(origin) = self.origin.take() {
            member.signal.set_origin(waiter, origin);
        }
        let shared = self.shared.take().expect(UNRESOLVED);
        shared.log_acquired(member.conn);
        Poll::Ready(Ok(Lease::new(shared, member)))
    }

    /// Every poll but the usual one.
    #[inline(never)]
    fn poll_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease<R, M>, AcquireError>> {
        let shared = self.shared.as_ref().expect(UNRESOLVED);
        let (waiter, outcome) = match &mut self.stage {
            Stage::New => self.begin(shared, shared.runtime.now(), cx),
            Stage::Queued(waiter) => (*waiter, shared.poll_waiter(*waiter, cx.waker())),
            Stage::Hook(waiter, _) => {
                let waiter = *waiter;
                match ready!(self.poll_hook(waiter, cx)) {
                    Ok(lease) => return Poll::Ready(Ok(lease)),
                    Err(outcome) => (waiter, outcome),
                }
            }
            Stage::Done => panic!("{UNRESOLVED}"),
        };
        self.settle(waiter, outcome, cx)
    }

    /// What follows from the pool's answer. A connection that is refused here is answered with the next one.
    #[inline(never)]
    fn settle(
        &mut self,
        waiter: WaiterId,
        mut outcome: Outcome<M::Connection>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Lease<R, M>, AcquireError>> {
        loop {
            let shared = self.shared.as_ref().expect(UNRESOLVED);
            let mut member = match outcome {
                Outcome::Waiting => {
                    self.stage = Stage::Queued(waiter);
                    return Poll::Pending;
                }
                Outcome::Rejected(error) => {
                    self.stage = Stage::Done;
                    return Poll::Ready(Err(error));
                }
                Outcome::Granted(member) => member,
            };
            if let Err(fault) = look(shared, &mut member) {
                outcome = shared.check_failed(waiter, member, fault, cx.waker());
                continue;
            }
            let Some(hook) = &shared.hooks.before_acquire else { return self.done(waiter, member) };
            if let Some(origin) = &self.origin {
                member.signal.set_origin(waiter, origin.clone());
            }
            let deadline = match self.patience {
                // It is polled once and dropped.
                Patience::None => Instant::MAX,
                _ => shared.lock().machine.lease_times(member.conn).map_or(Instant::MAX, |lease| lease.deadline),
            };
            let lease = Lease::new(shared.clone(), member);
            let hook = run_hook(shared.clone(), hook.clone(), lease, deadline);
            self.stage = Stage::Hook(waiter, Box::pin(hook));
            match ready!(self.poll_hook(waiter, cx)) {
                Ok(lease) => return Poll::Ready(Ok(lease)),
                Err(next) => outcome = next,
            }
        }
    }

    /// The hook's verdict: the lease, or the pool's next answer.
    fn poll_hook(&mut self, waiter: WaiterId, cx: &mut Context<'_>) -> Poll<Verdict<R, M>> {
        let Stage::Hook(_, hook) = &mut self.stage else { unreachable!("asked in this stage only") };
        Poll::Ready(match ready!(hook.as_mut().poll(cx)) {
            Ok(lease) => {
                self.stage = Stage::Done;
                self.shared.as_ref().expect(UNRESOLVED).log_acquired(lease.id());
                Ok(lease)
            }
            Err((lease, fault)) => {
                // Queued from here on: should this future be dropped, the waiter is withdrawn.
                self.stage = Stage::Queued(waiter);
                let shared = self.shared.as_ref().expect(UNRESOLVED);
                Err(shared.check_failed(waiter, lease.into_member(), fault, cx.waker()))
            }
        })
    }
}

const UNRESOLVED: &str = "an acquire is not polled after it has resolved";

impl<R: Runtime, M: Manager> Future for Acquire<R, M> {
    type Output = Result<Lease<R, M>, AcquireError>;

    /// The usual case, granted at once, is kept apart and inlined: it pays for nothing that the others need.
    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Stage::New = this.stage else { return this.poll_on(cx) };
        let shared = this.shared.as_ref().expect(UNRESOLVED);
        this.origin = shared.watch.look(this.leak_after, this.location);
        let now = shared.runtime.now();
        match this.begin(shared, now, cx) {
            (waiter, Outcome::Granted(member))
                if member.was_just_heard(now) && shared.hooks.before_acquire.is_none() =>
            {
                this.done(waiter, member)
            }
            (waiter, outcome) => this.settle(waiter, outcome, cx),
        }
    }
}

/// The look at the socket before a grant counts.
fn look<R: Runtime, M: Manager>(shared: &Handle<R, M>, member: &mut Member<M::Connection>) -> Result<(), Fault> {
    let lost = LostOnPanic { shared, conn: member.conn };
    let found = member.peek(&shared.manager, shared.runtime.now());
    std::mem::forget(lost);
    found
}

/// Runs the hook, at most until the acquire's deadline: a hook that hangs must not hold its caller for longer than the
/// pool itself would.
async fn run_hook<R: Runtime, M: Manager>(
    shared: Handle<R, M>,
    hook: Hook<M::Connection>,
    mut lease: Lease<R, M>,
    deadline: Instant,
) -> Result<Lease<R, M>, (Lease<R, M>, Fault)> {
    let outcome = within(&shared.runtime, deadline, hook(&mut lease)).await;
    match hooks::verdict("before_acquire", outcome, &shared.manager, &mut lease) {
        Ok(()) => Ok(lease),
        Err(fault) => Err((lease, fault)),
    }
}

impl<R: Runtime, M: Manager> Drop for Acquire<R, M> {
    #[inline]
    fn drop(&mut self) {
        if let (Stage::Queued(waiter), Some(shared)) = (&self.stage, &self.shared) {
            shared.cancel(*waiter);
        }
    }
}

impl<R: Runtime, M: Manager> fmt::Debug for Acquire<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("location", &self.location).finish_non_exhaustive()
    }
}
