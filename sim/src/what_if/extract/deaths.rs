//! When the server ended sessions.
//!
//! A dead connection is found when somebody looks, which says no more than that it died between the server's last answer
//! on it and then. The fewest moments that explain every death are taken, each as late as it can be: the moment at which
//! the first of its deaths was found. (A pool looks at once when a socket ends, so under load that is exact within a
//! round trip.)

use std::collections::{BTreeMap, BTreeSet};

use pgweir_core::pool::{ConnId, Fault};
use pgweir_core::time::Instant;

use super::conns::{Dead, Life, Seen};

/// Sessions that ended together.
#[derive(Clone, Debug)]
pub(in crate::what_if) struct Deaths {
    pub(in crate::what_if) at: Instant,
    /// Connections that were found dead.
    pub(in crate::what_if) died: u32,
    /// Connections that are known to have lived on.
    pub(in crate::what_if) survived: u32,
    pub(in crate::what_if) fault: Fault,
}

impl Deaths {
    /// Which share of the open sessions ended.
    pub(in crate::what_if) fn share(&self) -> f64 {
        f64::from(self.died) / f64::from(self.died + self.survived)
    }
}

/// The moments at which sessions ended, and the connections that died then.
///
/// A connection that its user gave back broken, without a word of the server, may have been broken by its user. It is of
/// the server's doing if the other deaths explain it, or if it died together with most of the connections.
pub(super) fn deaths(seen: &Seen) -> (Vec<Deaths>, BTreeSet<ConnId>) {
    let said = |dead: &Dead| dead.fault.sqlstate.is_some_and(|code| code.code().starts_with("57"));
    let (doubtful, sure): (Vec<&Dead>, Vec<&Dead>) = seen.dead.iter().partition(|dead| dead.released && !said(dead));
    let mut lives = seen.lives.clone();
    let mut groups = together(&sure, &lives);
    let mut left = Vec::new();
    for dead in doubtful {
        let life = lives.get(&dead.conn);
        let explains = |group: &&mut Group<'_>| {
            group.at <= dead.seen && life.is_some_and(|life| life.opened <= group.at && life.good <= group.at)
        };
        match groups.iter_mut().find(explains) {
            Some(group) => group.dead.push(dead),
            None => left.push(dead),
        }
    }
    // Until then they lived.
    for group in &groups {
        for dead in &group.dead {
            lives.entry(dead.conn).and_modify(|life| life.good = life.good.max(group.at));
        }
    }
    groups.extend(together(&left, &lives).into_iter().filter(|group| group.dead.len() > group.survived as usize));
    groups.sort_by_key(|group| group.at);
    let ended = groups.iter().flat_map(|group| &group.dead).map(|dead| dead.conn).collect();
    let deaths = groups.iter().map(|group| Deaths {
        at: group.at,
        died: group.dead.len() as u32,
        survived: group.survived,
        fault: group.dead[0].fault.clone(),
    });
    (deaths.collect(), ended)
}

/// Connections that can have died at one moment, and at least one did not live longer.
struct Group<'a> {
    at: Instant,
    dead: Vec<&'a Dead>,
    survived: u32,
}

/// The fewest moments that explain these deaths, which are in order of their finding.
fn together<'a>(deaths: &[&'a Dead], lives: &BTreeMap<ConnId, Life>) -> Vec<Group<'a>> {
    let dead: BTreeMap<ConnId, &'a Dead> = deaths.iter().map(|dead| (dead.conn, *dead)).collect();
    let mut by_age: Vec<(ConnId, Life)> = lives.iter().map(|(conn, life)| (*conn, *life)).collect();
    by_age.sort_by_key(|(conn, life)| (life.opened, *conn));
    let mut by_age = by_age.into_iter().peekable();
    // Those that were open at the moment that is looked at, and of which more is known.
    let mut open: Vec<(ConnId, Life)> = Vec::new();
    let mut groups = Vec::new();
    let mut explained = BTreeSet::new();
    for first in deaths {
        if explained.contains(&first.conn) {
            continue;
        }
        let at = first.seen;
        while let Some(life) = by_age.next_if(|(_, life)| life.opened <= at) {
            open.push(life);
        }
        open.retain(|(conn, life)| {
            let dies = dead.get(conn).is_some_and(|dead| dead.seen >= at);
            !explained.contains(conn) && (life.good > at || dies)
        });
        let dies = |(conn, life): &(ConnId, Life)| dead.get(conn).copied().filter(|_| life.good <= at);
        let dead: Vec<&'a Dead> = open.iter().filter_map(dies).collect();
        let survived = open.iter().filter(|(_, life)| life.opened < at && life.good > at).count() as u32;
        explained.extend(dead.iter().map(|dead| dead.conn));
        groups.push(Group { at, dead, survived });
    }
    groups
}
