//! Each host by itself, for people: the links decide, this only remembers.

use serde::{Deserialize, Serialize};

use super::event::{Fault, HostId, Role};
use super::machine::Machine;
use super::slot::Slot;
use crate::time::Instant;

/// What is remembered of one host.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct HostRecord {
    /// What it said of itself when a session was last opened there.
    pub(super) role: Role,
    /// Connects begun.
    pub(super) attempts: u64,
    /// Connects that failed.
    pub(super) failures: u64,
    last_error: Option<(Fault, Instant)>,
}

impl HostRecord {
    pub(super) fn opened(&mut self, role: Role) {
        self.role = role;
    }

    /// A connect failed, or a connection was lost.
    pub(super) fn failed(&mut self, now: Instant, fault: &Fault) {
        self.last_error = Some((fault.clone(), now));
    }
}

/// One host at one instant.
#[derive(Clone, PartialEq, Debug)]
pub struct HostStatus {
    /// Which.
    pub host: HostId,
    /// What it said of itself when a session was last opened there.
    pub role: Role,
    /// Whether the last attempt to reach it succeeded, or none was made yet.
    pub reachable: bool,
    /// Connections open to it.
    pub connections: u32,
    /// Connections being opened to it.
    pub connecting: u32,
    /// Connects begun.
    pub attempts: u64,
    /// Connects that failed.
    pub failures: u64,
    /// The last failed connect or lost connection, and when.
    pub last_error: Option<(Fault, Instant)>,
}

impl Machine {
    /// Every host, in the order of the configuration.
    pub fn hosts(&self) -> Vec<HostStatus> {
        let host = |(index, record): (usize, &HostRecord)| HostStatus {
            host: HostId(index as u16),
            role: record.role,
            reachable: self.links[index].is_good(),
            connections: 0,
            connecting: 0,
            attempts: record.attempts,
            failures: record.failures,
            last_error: record.last_error.clone(),
        };
        let mut hosts: Vec<HostStatus> = self.hosts.iter().enumerate().map(host).collect();
        for (_, slot) in self.slots.iter() {
            if let Some(life) = slot.life() {
                hosts[usize::from(life.host.0)].connections += 1;
            } else if let Slot::Connecting { host, .. } = slot {
                hosts[usize::from(host.0)].connecting += 1;
            }
        }
        hosts
    }
}
