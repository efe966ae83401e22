//! One client's connection and the one to the server that belongs to it.

use super::flow::{Flow, Settings, Wrote};
use super::handshake::Handshake;
use super::{Cut, Direction};
use rustix::event::PollFlags;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// What came of a round.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Open,
    Gone,
    WasCut(Cut),
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not connected to the server yet, because it is held.
    Waiting,
    Connecting,
    Open,
    /// Both sides have been told the end; what they still say is thrown away until they close too. (Closing a socket
    /// with unread input would reset it.)
    Draining,
}

#[derive(Debug)]
pub(super) struct Link {
    /// The client's side and the server's.
    ends: [Option<TcpStream>; 2],
    phase: Phase,
    since: Instant,
    pub(super) held: bool,
    /// By [`Direction`]: the source of flow 0 is end 0, its target end 1, and the other way round.
    pub(super) flows: [Flow; 2],
    handshake: Handshake,
    counted_cancel: bool,
}

impl Link {
    pub(super) fn new(client: TcpStream, held: bool, settings: [Settings; 2], now: Instant) -> Link {
        Link {
            ends: [Some(client), None],
            phase: Phase::Waiting,
            since: now,
            held,
            flows: settings.map(|settings| Flow::new(settings, now)),
            handshake: Handshake::new(),
            counted_cancel: false,
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.phase != Phase::Draining && !self.handshake.is_over()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// True once, for a connection that brought a CancelRequest.
    pub(super) fn take_cancel(&mut self) -> bool {
        self.handshake.is_cancel() && !std::mem::replace(&mut self.counted_cancel, true)
    }

    /// The sockets to wait for, and what for.
    pub(super) fn interest(&self) -> impl Iterator<Item = (usize, &TcpStream, PollFlags)> {
        (0..2).filter_map(|end| {
            let stream = self.ends[end].as_ref()?;
            let flags = self.flags(end);
            (!flags.is_empty()).then_some((end, stream, flags))
        })
    }

    fn flags(&self, end: usize) -> PollFlags {
        let mut flags = PollFlags::empty();
        if self.held {
            return flags;
        }
        match self.phase {
            Phase::Waiting => {}
            Phase::Connecting => flags.set(PollFlags::OUT, end == SERVER),
            Phase::Open => {
                flags.set(PollFlags::IN, self.flows[end].wants_input());
                flags.set(PollFlags::OUT, self.flows[1 - end].blocked);
            }
            Phase::Draining => flags.insert(PollFlags::IN),
        }
        flags
    }

    /// When there is something to do without any input.
    pub(super) fn next(&self) -> Option<Instant> {
        match self.phase {
            _ if self.held => None,
            Phase::Waiting => Some(self.since),
            Phase::Open => self.flows.iter().filter_map(Flow::next).min(),
            Phase::Connecting | Phase::Draining => None,
        }
    }

    /// Moves on: `ready` says what was waited for and is there, by end.
    pub(super) fn advance(
        &mut self,
        ready: [PollFlags; 2],
        upstream: SocketAddr,
        now: Instant,
        totals: &mut [u64; 2],
    ) -> Outcome {
        if self.held {
            return Outcome::Open;
        }
        match self.phase {
            Phase::Waiting => self.connect(upstream),
            Phase::Connecting => self.connected(ready[SERVER]),
            Phase::Open => self.pump(ready, now, totals).unwrap_or_else(|_| {
                // One side has reset its connection: so do we the other.
                self.reset();
                Outcome::Gone
            }),
            Phase::Draining => self.drain(ready),
        }
    }

    /// Ends it on both sides; [`Outcome::Gone`] unless something is left to drain.
    pub(super) fn end(&mut self, cut: Cut) -> Outcome {
        if cut == Cut::Reset {
            self.reset();
            return Outcome::Gone;
        }
        self.held = false;
        self.phase = Phase::Draining;
        for stream in self.ends.iter().flatten() {
            // A side that is gone already needs no end.
            let _ = stream.shutdown(Shutdown::Write);
        }
        Outcome::Open
    }

    fn reset(&mut self) {
        for stream in self.ends.iter_mut().filter_map(Option::take) {
            // With a linger of zero the close, here on drop, sends RST.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    fn connect(&mut self, upstream: SocketAddr) -> Outcome {
        match open(upstream) {
            Ok(server) => {
                self.ends[SERVER] = Some(server);
                self.phase = Phase::Connecting;
                Outcome::Open
            }
            Err(_) => self.refuse(),
        }
    }

    fn connected(&mut self, ready: PollFlags) -> Outcome {
        let Some(server) = self.ends[SERVER].as_ref() else { return self.refuse() };
        if ready.is_empty() {
            return Outcome::Open;
        }
        if matches!(server.take_error(), Ok(None)) {
            self.phase = Phase::Open;
            return Outcome::Open;
        }
        self.refuse()
    }

    fn refuse(&mut self) -> Outcome {
        self.reset();
        Outcome::Refused
    }

    fn pump(&mut self, ready: [PollFlags; 2], now: Instant, totals: &mut [u64; 2]) -> io::Result<Outcome> {
        let [Some(client), Some(server)] = &self.ends else { return Ok(Outcome::Gone) };
        let ends = [client, server];
        for source in [CLIENT, SERVER] {
            let flow = &mut self.flows[source];
            if flow.wants_input() && ready[source].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                let handshake = &mut self.handshake;
                flow.read(ends[source], now, |bytes| match source {
                    CLIENT => handshake.client_sent(bytes),
                    _ => handshake.server_sent(bytes),
                })?;
            }
        }
        for source in [Direction::ToServer as usize, Direction::ToClient as usize] {
            let target = 1 - source;
            let flow = &mut self.flows[source];
            flow.blocked &= !ready[target].intersects(PollFlags::OUT | PollFlags::HUP | PollFlags::ERR);
            if let Wrote::Cut(cut) = flow.write(ends[target], now, &mut totals[source])? {
                self.end(cut);
                return Ok(Outcome::WasCut(cut));
            }
        }
        Ok(if self.flows.iter().all(|flow| flow.shut) { Outcome::Gone } else { Outcome::Open })
    }

    fn drain(&mut self, ready: [PollFlags; 2]) -> Outcome {
        let mut waste = [0; 16 << 10];
        for (end, ready) in self.ends.iter_mut().zip(ready) {
            if !ready.is_empty() && end.as_mut().is_some_and(|stream| has_ended(stream.read(&mut waste))) {
                *end = None;
            }
        }
        if self.ends.iter().all(Option::is_none) { Outcome::Gone } else { Outcome::Open }
    }
}

fn has_ended(read: io::Result<usize>) -> bool {
    match read {
        Ok(n) => n == 0,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

/// Begins a connect without waiting for it: a server that is stopped in its tracks may not even accept.
fn open(upstream: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(upstream), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&upstream.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}
