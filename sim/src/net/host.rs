//! What lives at an address of the simulated network.

use pgweir_core::time::Instant;

/// One connection to a host. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What a host answers to a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// It listens: the connection is open.
    Open,
    /// Nobody listens: refused.
    Refused,
}

/// What a host does to a connection. The network carries it to the client, in order and after its latency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Bytes for the client.
    Bytes(Vec<u8>),
    /// The host sends no more: the client reads the rest, then the end. The host forgets the connection.
    Close,
    /// The host drops the connection: the client's reads and writes fail with a reset. The host forgets it.
    Reset,
}

/// Something that listens at an address of the simulated network, or behind a real socket: bytes in, bytes out, no
/// clock of its own.
///
/// After every call take what it does with [`drain`](Host::drain), and [`tick`](Host::tick) it no later than
/// [`deadline`](Host::deadline). Time never goes back.
pub trait Host: Send {
    /// A client wants to connect as `link`.
    fn accept(&mut self, now: Instant, link: LinkId) -> Accept;
    /// Bytes arrive from a client. Unknown links are ignored: they were closed a moment ago.
    fn receive(&mut self, now: Instant, link: LinkId, bytes: &[u8]);
    /// A client sends no more.
    fn end(&mut self, now: Instant, link: LinkId);
    /// A client's connection was reset, or the network has given it up.
    fn reset(&mut self, now: Instant, link: LinkId);
    /// The network holds much that `link`'s client has not read yet, or no longer does. A host that sends a lot waits
    /// meanwhile.
    fn congested(&mut self, now: Instant, link: LinkId, congested: bool) {
        let _ = (now, link, congested);
    }
    /// Time has passed. A spurious tick is a no-op.
    fn tick(&mut self, now: Instant);
    /// When it must be ticked at the latest.
    fn deadline(&self) -> Option<Instant>;
    /// Moves what it has done since the last call into `out`, in order.
    fn drain(&mut self, out: &mut Vec<(LinkId, Output)>);
}
