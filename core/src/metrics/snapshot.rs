//! Everything that is exported, at one instant.

use crate::pool::{Health, HostStatus, Stats};

/// All numbers of a pool at one instant: what [`text`](super::text) writes. See
/// [`Pool::metrics`](crate::driver::Pool::metrics).
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) stats: Stats,
    pub(crate) health: Health,
    pub(crate) hosts: Vec<HostStatus>,
    /// Beside the hosts.
    pub(crate) host_names: Vec<String>,
}
