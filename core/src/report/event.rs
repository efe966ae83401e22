//! An event of the journal as one line.

use std::panic::Location;

use crate::pool::{Event, Fate, Role, SiteId};
use crate::time::{Instant, Wall};

/// What happened, for people: `2026-01-31T12:00:00.000Z acquire at src/orders.rs:42:30, for up to 30s`.
pub(crate) fn describe(
    at: Instant,
    event: &Event,
    wall: Wall,
    location: impl Fn(SiteId) -> Option<&'static Location<'static>>,
) -> String {
    let site = |site| location(site).map_or_else(|| "an unknown line".to_owned(), ToString::to_string);
    let what = match event {
        Event::Start { lazy: false } => "start".to_owned(),
        Event::Start { lazy: true } => "start, lazily".to_owned(),
        Event::Acquire { deadline, site: from, .. } if *deadline <= at => format!("try_get at {}", site(*from)),
        Event::Acquire { deadline, site: from, .. } => {
            format!("acquire at {}, for up to {:?}", site(*from), *deadline - at)
        }
        Event::Cancel { .. } => "an acquire was dropped".to_owned(),
        Event::Release { conn, fate, queries, fault } => match fault {
            Some(fault) => format!("release of {conn}, {}: {fault}", fate_name(*fate)),
            None => format!("release of {conn}, {}, after {queries} queries", fate_name(*fate)),
        },
        Event::CheckFailed { conn, fault } => format!("{conn} was dead when it was lent: {fault}"),
        Event::Connected { conn, facts } => match facts.role {
            Role::Unknown => format!("{conn} connected, backend {}", facts.backend_pid),
            Role::Primary => format!("{conn} connected to a primary, backend {}", facts.backend_pid),
            Role::Standby => format!("{conn} connected to a standby, backend {}", facts.backend_pid),
        },
        Event::ConnectFailed { conn, fault } => format!("{conn} failed to connect: {fault}"),
        Event::Validated { conn } => format!("{conn} validated"),
        Event::ValidationFailed { conn, fault } => format!("{conn} failed its check: {fault}"),
        Event::Reset { conn } => format!("{conn} reset"),
        Event::ResetFailed { conn, fault } => format!("{conn} could not be reset: {fault}"),
        Event::Touched { conn } => format!("{conn} has something to say while idle"),
        Event::Lost { conn, fault } => format!("{conn} was lost while idle: {fault}"),
        Event::Closed { conn } => format!("{conn} closed"),
        Event::Tick => "a deadline passed".to_owned(),
        Event::Resize { min_size, max_size } => format!("resize to {min_size}..{max_size}"),
        Event::Pause => "pause".to_owned(),
        Event::Resume => "resume".to_owned(),
        Event::Recycle => "recycle".to_owned(),
        Event::Shutdown { deadline } if *deadline == Instant::MAX => "shutdown, without a deadline".to_owned(),
        Event::Shutdown { deadline } => format!("shutdown within {:?}", *deadline - at),
    };
    format!("{} {what}", wall.iso(at))
}

fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Unused => "unused",
        Fate::Clean => "clean",
        Fate::Dirty => "to be drained",
        Fate::Broken => "broken",
        Fate::Discarded => "discarded",
    }
}
