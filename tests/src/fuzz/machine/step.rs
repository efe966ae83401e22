//! One step of a run, from bytes.

use std::time::Duration;

use arbitrary::Arbitrary;
use pgweir_core::pool::{ConnId, Event, Fate, Fault, FaultClass, ServerFacts, SiteId, WaiterId};
use pgweir_core::time::Instant;

use super::Span;
use super::outside::{Known, Outside};

/// What happens. A `u8` picks one of those that there are.
#[derive(Arbitrary, Debug)]
pub(super) enum Step {
    Acquire {
        timeout: Span,
        leak_after: Option<Span>,
    },
    Cancel(u8),
    Release {
        pick: u8,
        fate: u8,
        queries: u8,
    },
    CheckFailed(u8, u8),
    Connected(u8),
    ConnectFailed(u8, u8),
    Checked(u8),
    CheckedBad(u8, u8),
    Closed(u8),
    Touched(u8),
    Lost(u8, u8),
    Millis(u16),
    Pass(Span),
    ToDeadline,
    BeforeDeadline,
    Resize(u8, u8),
    Pause,
    Resume,
    Recycle,
    Shutdown(Span),
    /// Anything at all.
    Wild {
        what: u8,
        slot: u8,
        generation: u8,
        number: u64,
        span: Span,
    },
}

impl Step {
    pub(super) fn take(&self, outside: &mut Outside) {
        if let Some(event) = self.event(outside) {
            outside.tell(event);
        }
    }

    fn event(&self, outside: &mut Outside) -> Option<Event> {
        let now = outside.now();
        Some(match *self {
            Step::Acquire { timeout: Span(timeout), leak_after } => {
                let waiter = outside.new_waiter();
                Event::Acquire {
                    waiter,
                    deadline: now + timeout,
                    leak_after: leak_after.map(|Span(l)| l),
                    site: SiteId(1),
                }
            }
            Step::Cancel(pick) => Event::Cancel { waiter: choose(&outside.waiting(), pick)? },
            Step::Release { pick, fate, queries } => release(lent(outside, pick)?, fate, queries.into()),
            Step::CheckFailed(pick, class) => Event::CheckFailed { conn: lent(outside, pick)?, fault: fault(class) },
            Step::Connected(pick) => {
                let conn = choose(&outside.conns(|known| known == Known::Connecting), pick)?;
                Event::Connected { conn, facts: ServerFacts::default() }
            }
            Step::ConnectFailed(pick, class) => {
                let conn = choose(&outside.conns(|known| known == Known::Connecting), pick)?;
                Event::ConnectFailed { conn, fault: fault(class) }
            }
            Step::Checked(pick) => {
                let conn = under_way(outside, pick)?;
                match outside.known(conn) {
                    Some(Known::Validating) => Event::Validated { conn },
                    _ => Event::Reset { conn },
                }
            }
            Step::CheckedBad(pick, class) => {
                let (conn, fault) = (under_way(outside, pick)?, fault(class));
                match outside.known(conn) {
                    Some(Known::Validating) => Event::ValidationFailed { conn, fault },
                    _ => Event::ResetFailed { conn, fault },
                }
            }
            Step::Closed(pick) => {
                Event::Closed { conn: choose(&outside.conns(|known| matches!(known, Known::Closing(_))), pick)? }
            }
            Step::Touched(pick) => Event::Touched { conn: choose(&outside.conns(|known| known == Known::Open), pick)? },
            Step::Lost(pick, class) => {
                Event::Lost { conn: choose(&outside.conns(|known| known == Known::Open), pick)?, fault: fault(class) }
            }
            Step::Millis(millis) => passed(outside, now + Duration::from_millis(millis.into())),
            Step::Pass(Span(span)) => passed(outside, now + span),
            Step::ToDeadline => {
                let (at, _) = outside.machine().deadline()?;
                passed(outside, at)
            }
            Step::BeforeDeadline => {
                let (at, _) = outside.machine().deadline()?;
                passed(outside, at.saturating_sub(Duration::from_nanos(1)))
            }
            Step::Resize(min, max) => Event::Resize { min_size: (min % 8).into(), max_size: (max % 10).into() },
            Step::Pause => Event::Pause,
            Step::Resume => Event::Resume,
            Step::Recycle => Event::Recycle,
            Step::Shutdown(Span(span)) => Event::Shutdown { deadline: now + span },
            Step::Wild { what, slot, generation, number, span: Span(span) } => {
                let conn = ConnId { slot: (slot % 12).into(), generation: generation.into() };
                wild(what, conn, number, now + span)
            }
        })
    }
}

fn passed(outside: &mut Outside, at: Instant) -> Event {
    outside.pass_to(at);
    Event::Tick
}

/// Whatever fits the type. A wild acquire has an id that was used before, or skips some.
fn wild(what: u8, conn: ConnId, number: u64, at: Instant) -> Event {
    let fault = fault(number as u8);
    match what % 16 {
        0 => Event::Start { lazy: number.is_multiple_of(2) },
        1 => Event::Acquire { waiter: WaiterId(number % 64), deadline: at, leak_after: None, site: SiteId(u32::MAX) },
        2 => Event::Cancel { waiter: WaiterId(number) },
        3 => release(conn, what, number),
        4 => Event::CheckFailed { conn, fault },
        5 => Event::Connected { conn, facts: ServerFacts { backend_pid: number as i32, ..ServerFacts::default() } },
        6 => Event::ConnectFailed { conn, fault },
        7 => Event::Validated { conn },
        8 => Event::ValidationFailed { conn, fault },
        9 => Event::Reset { conn },
        10 => Event::ResetFailed { conn, fault },
        11 => Event::Touched { conn },
        12 => Event::Lost { conn, fault },
        13 => Event::Closed { conn },
        14 => Event::Resize { min_size: number as u32, max_size: (number >> 32) as u32 },
        _ => Event::Shutdown { deadline: at },
    }
}

fn release(conn: ConnId, fate: u8, queries: u64) -> Event {
    let fates = [Fate::Clean, Fate::Clean, Fate::Unused, Fate::Dirty, Fate::Broken, Fate::Discarded];
    let fate_of = fates[usize::from(fate) % fates.len()];
    Event::Release { conn, fate: fate_of, queries, fault: (fate_of == Fate::Broken && fate > 127).then(|| fault(fate)) }
}

fn fault(pick: u8) -> Box<Fault> {
    Box::new(Fault::plain(FaultClass::ALL[usize::from(pick) % FaultClass::ALL.len()], "fuzzed"))
}

fn lent(outside: &Outside, pick: u8) -> Option<ConnId> {
    choose(&outside.conns(|known| matches!(known, Known::Lent(_))), pick)
}

fn under_way(outside: &Outside, pick: u8) -> Option<ConnId> {
    choose(&outside.conns(|known| matches!(known, Known::Validating | Known::Resetting)), pick)
}

fn choose<T: Copy>(from: &[T], pick: u8) -> Option<T> {
    from.get(usize::from(pick).checked_rem(from.len())?).copied()
}
