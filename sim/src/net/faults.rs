//! What a test does to the path to a host.

use std::sync::Arc;

use super::Net;
use super::link::{Direction, Phase, Segment};
use super::state::{Call, Happening};
use crate::scenario::Dist;

/// A host as the network sees it: how it is reached, and what goes wrong on the way. All ports of a name are one host.
///
/// The methods return the handle itself, so that they can be chained.
#[derive(Clone, Debug)]
pub struct HostNet {
    net: Arc<Net>,
    machine: usize,
}

impl HostNet {
    pub(super) fn new(net: Arc<Net>, machine: usize) -> Self {
        HostNet { net, machine }
    }

    /// Changes the path, also for connections that are open.
    ///
    /// # Panics
    /// If the path is then an impossible one.
    #[track_caller]
    pub fn path(&self, change: impl FnOnce(&mut super::Path)) -> &Self {
        let mut path = self.net.lock_state().machines[self.machine].path.clone();
        change(&mut path);
        path.check();
        self.net.lock_state().machines[self.machine].path = path;
        self
    }

    /// How long a segment takes, in each direction.
    ///
    /// # Panics
    /// If nothing can be drawn from it.
    #[track_caller]
    pub fn latency(&self, latency: Dist) -> &Self {
        self.path(|path| (path.to_host, path.to_client) = (latency.clone(), latency))
    }

    /// Bytes per second in each direction of each connection; `None` is without a limit.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn bandwidth(&self, bandwidth: Option<u64>) -> &Self {
        self.path(|path| path.bandwidth = bandwidth)
    }

    /// The network swallows whatever goes this way, without a word to anybody: connects hang, requests or answers do
    /// not arrive. What is swallowed is sent again when the network has [healed](HostNet::heal).
    ///
    /// Kernels give a silent connection up as [`TcpOptions`](pgweir_core::config::TcpOptions) asks, by default as Linux
    /// does: a connect after 127 s, an unacknowledged write after 924 s, and an idle one with keepalive.
    pub fn black_hole(&self, direction: Direction) -> &Self {
        self.cut(&[direction])
    }

    /// Cuts the host off: a [black hole](HostNet::black_hole) in both directions.
    pub fn partition(&self) -> &Self {
        self.cut(&Direction::BOTH)
    }

    fn cut(&self, directions: &[Direction]) -> &Self {
        let mut state = self.net.lock_state();
        let now = state.executor.now();
        state.fault(self.machine, "cut");
        let machine = &mut state.machines[self.machine];
        machine.cuts += 1;
        for direction in directions {
            machine.cut[*direction as usize] = true;
        }
        let (cuts, host_gives_up) = (machine.cuts, machine.path.host_gives_up);
        for id in state.links_to(self.machine) {
            if let Some(link) = state.links.get_mut(&id) {
                link.refresh(now);
                if link.to_host.bytes > 0 {
                    link.client.unacknowledged.get_or_insert(now);
                }
            }
            state.queue.push(now + host_gives_up, Happening::HostGivesUp(id, Some(cuts)));
            state.watch(id);
        }
        drop(state);
        self
    }

    /// Nobody listens: connects are refused. Open connections stay.
    pub fn refuse(&self) -> &Self {
        let mut state = self.net.lock_state();
        state.fault(self.machine, "refuse");
        state.machines[self.machine].refuses = true;
        drop(state);
        self
    }

    /// Connects are not answered. Open connections stay.
    pub fn hang(&self) -> &Self {
        let mut state = self.net.lock_state();
        state.fault(self.machine, "hang");
        state.machines[self.machine].hangs = true;
        drop(state);
        self
    }

    /// Ends a partition, black holes, refusal and hanging; the path's figures stay. What was swallowed arrives after
    /// the path's retransmission time.
    pub fn heal(&self) -> &Self {
        let mut state = self.net.lock_state();
        state.fault(self.machine, "heal");
        let machine = &mut state.machines[self.machine];
        machine.cut = [false; 2];
        (machine.refuses, machine.hangs) = (false, false);
        for id in state.links_to(self.machine) {
            if let Some(link) = state.links.get_mut(&id) {
                link.client.unacknowledged = None;
            }
            for direction in Direction::BOTH {
                state.resend(id, direction);
            }
            state.watch(id);
        }
        drop(state);
        self
    }

    /// Something on the way, a firewall that restarts for instance, resets every open connection: both ends are told.
    pub fn reset_all(&self) -> &Self {
        let mut state = self.net.lock_state();
        state.fault(self.machine, "reset");
        for id in state.links_to(self.machine) {
            let link = state.links.get_mut(&id).filter(|link| link.host_open);
            if let Some(link) = link {
                link.backlog.clear();
                state.launch(id, Direction::ToClient, Segment::Reset);
            }
        }
        drop(state);
        self.forget();
        self
    }

    /// The host loses every connection without a word to anybody, as a machine does whose power fails: what clients
    /// write after that, and their kernels' probes, are answered by a reset.
    pub fn vanish(&self) -> &Self {
        self.net.lock_state().fault(self.machine, "vanish");
        self.forget();
        let mut state = self.net.lock_state();
        let now = state.executor.now();
        for id in state.links_to(self.machine) {
            if let Some(link) = state.links.get_mut(&id) {
                link.backlog.clear();
                link.refresh(now);
            }
            state.watch(id);
        }
        drop(state);
        self
    }

    /// The host's side of every open connection is gone.
    fn forget(&self) {
        let links = self.net.lock_state().links_to(self.machine);
        for id in links {
            let service = {
                let mut state = self.net.lock_state();
                let link = state.links.get_mut(&id).filter(|link| link.host_open);
                let service = link.and_then(|link| {
                    link.host_open = false;
                    link.service
                });
                state.settle(id);
                service
            };
            if let Some(service) = service {
                self.net.deliver(service, id, Call::Reset);
            }
        }
    }

    /// The connections that clients hold open.
    pub fn connections(&self) -> usize {
        let state = self.net.lock_state();
        let links = state.links.values();
        links.filter(|link| link.machine == self.machine && link.client.is_open()).count()
    }

    /// Whether a client still holds this connection.
    pub(crate) fn is_held(&self, link: super::LinkId) -> bool {
        self.net.lock_state().links.get(&link).is_some_and(|link| !link.client.gone && !link.client.aborted)
    }

    /// Whether the client's kernel knows that this connection has ended, so that a look at the socket shows it.
    pub(crate) fn has_heard_the_end(&self, link: super::LinkId) -> bool {
        let state = self.net.lock_state();
        state.links.get(&link).is_some_and(|link| link.client.eof || matches!(link.client.phase, Phase::Failed(_)))
    }

    /// The name that it was registered with; the path of a Unix-domain socket.
    pub fn name(&self) -> String {
        self.net.lock_state().machines[self.machine].name.clone()
    }
}
