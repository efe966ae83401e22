//! One connection: two pipes, and what each end knows.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;
use std::time::Duration;

use pgweir_core::config::TcpOptions;
use pgweir_core::runtime::Peek;
use pgweir_core::time::Instant;
use serde::Serialize;

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Direction {
    /// From the client to the host.
    ToHost,
    /// From the host to the client.
    ToClient,
}

impl Direction {
    pub(super) const BOTH: [Direction; 2] = [Direction::ToHost, Direction::ToClient];
}

/// What travels through a pipe.
#[derive(Debug)]
pub(super) enum Segment {
    Connect,
    Accepted,
    /// Nobody is there to accept, for this reason.
    Refused(io::ErrorKind),
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl Segment {
    pub(super) fn len(&self) -> usize {
        match self {
            Segment::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// For the digest.
    pub(super) fn kind(&self) -> u8 {
        match self {
            Segment::Connect => 0,
            Segment::Accepted => 1,
            Segment::Refused(_) => 2,
            Segment::Bytes(_) => 3,
            Segment::End => 4,
            Segment::Reset => 5,
        }
    }
}

/// One direction: what is on its way, in order.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) flight: VecDeque<(Instant, Segment)>,
    /// The bytes of it.
    pub(super) bytes: usize,
    /// Whether the arrival of the first is in the network's queue. It is not while the direction is cut.
    pub(super) scheduled: bool,
    /// When the last segment arrives.
    last: Instant,
    /// When the wire is free for the next one.
    free: Instant,
}

impl Pipe {
    /// Puts a segment on its way.
    pub(super) fn push(&mut self, now: Instant, latency: Duration, bandwidth: Option<u64>, segment: Segment) {
        if let Some(bandwidth) = bandwidth {
            let nanos = (segment.len() as u128 * 1_000_000_000).div_ceil(u128::from(bandwidth));
            let lasts = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.free = self.free.max(now) + lasts;
        }
        self.last = self.last.max(self.free.max(now) + latency);
        self.bytes += segment.len();
        self.flight.push_back((self.last, segment));
    }

    pub(super) fn pop(&mut self) -> Option<Segment> {
        let (_, segment) = self.flight.pop_front()?;
        self.bytes -= segment.len();
        Some(segment)
    }

    /// What was lost is sent again: nothing arrives before `at`.
    pub(super) fn delay(&mut self, at: Instant) {
        self.last = self.last.max(at);
        for (arrives, _) in &mut self.flight {
            *arrives = at.max(*arrives);
        }
    }

    /// Drops what is on its way.
    pub(super) fn clear(&mut self) {
        self.flight.clear();
        self.bytes = 0;
    }
}

/// Bytes that were received and not yet read.
#[derive(Debug, Default)]
pub(super) struct Received {
    pieces: VecDeque<Vec<u8>>,
    /// What was read of the first piece.
    offset: usize,
    length: usize,
}

impl Received {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.length += bytes.len();
            self.pieces.push_back(bytes);
        }
    }

    /// Fills `buffer`, which is not longer than what is there.
    pub(super) fn read(&mut self, buffer: &mut [u8]) {
        let mut done = 0;
        while done < buffer.len()
            && let Some(piece) = self.pieces.front()
        {
            let n = (piece.len() - self.offset).min(buffer.len() - done);
            buffer[done..done + n].copy_from_slice(&piece[self.offset..self.offset + n]);
            done += n;
            self.offset += n;
            if self.offset == piece.len() {
                self.pieces.pop_front();
                self.offset = 0;
            }
        }
        self.length -= done;
    }

    pub(super) fn clear(&mut self) {
        *self = Received::default();
    }
}

/// How far the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Open,
    /// Reads and writes fail with this, after what was received before.
    Failed(io::ErrorKind),
}

/// The client's end.
#[derive(Debug)]
pub(super) struct ClientEnd {
    pub(super) phase: Phase,
    pub(super) received: Received,
    /// The host sends no more.
    pub(super) eof: bool,
    /// The client sends no more: it said so, or was aborted.
    pub(super) shut: bool,
    pub(super) aborted: bool,
    /// Nobody holds the stream any more.
    pub(super) gone: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    /// When it last heard something.
    pub(super) heard: Instant,
    /// Since when something that it sent is not acknowledged; only kept while the network is cut.
    pub(super) unacknowledged: Option<Instant>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) machine: usize,
    pub(super) service: Option<usize>,
    pub(super) options: Option<TcpOptions>,
    pub(super) to_host: Pipe,
    pub(super) to_client: Pipe,
    pub(super) client: ClientEnd,
    /// Whether the host knows it.
    pub(super) host_open: bool,
    /// What the host has sent and the client has no room for.
    pub(super) backlog: VecDeque<Segment>,
    /// Whether the host was told that there is one.
    pub(super) congested: bool,
    /// When the client's own timers are looked at next.
    pub(super) check_at: Instant,
}

/// How long Linux tries to connect, and to get through what was sent.
const CONNECT_LASTS: Duration = Duration::from_secs(127);
const RETRANSMISSION_LASTS: Duration = Duration::from_secs(924);
/// Linux's defaults for keepalive.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(7200);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(75);
const KEEPALIVE_COUNT: u32 = 9;

impl Link {
    pub(super) fn new(machine: usize, service: Option<usize>, options: Option<TcpOptions>, now: Instant) -> Self {
        Link {
            machine,
            service,
            options,
            to_host: Pipe::default(),
            to_client: Pipe::default(),
            client: ClientEnd {
                phase: Phase::Connecting,
                received: Received::default(),
                eof: false,
                shut: false,
                aborted: false,
                gone: false,
                reader: None,
                writer: None,
                heard: now,
                unacknowledged: None,
            },
            host_open: false,
            backlog: VecDeque::new(),
            congested: false,
            check_at: Instant::MAX,
        }
    }

    pub(super) fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::ToHost => &mut self.to_host,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// Both ends are done with it, and no connect is on its way that the host will answer.
    pub(super) fn is_over(&self) -> bool {
        let connecting = matches!(self.to_host.flight.front(), Some((_, Segment::Connect)));
        self.client.gone && !self.host_open && !(connecting && self.to_host.scheduled)
    }

    pub(super) fn peek(&self) -> Peek {
        let client = &self.client;
        if client.aborted {
            Peek::Ended
        } else if client.received.len() > 0 {
            Peek::Readable
        } else if client.eof || client.phase != Phase::Open {
            Peek::Ended
        } else {
            Peek::Quiet
        }
    }

    /// When the client's kernel gives the connection up, if nothing is heard until then.
    pub(super) fn gives_up_at(&self) -> Instant {
        let client = &self.client;
        match client.phase {
            Phase::Failed(_) => return Instant::MAX,
            Phase::Connecting => return client.heard + CONNECT_LASTS,
            Phase::Open => {}
        }
        let Some(options) = &self.options else { return Instant::MAX };
        if let Some(since) = client.unacknowledged {
            return since + options.user_timeout.unwrap_or(RETRANSMISSION_LASTS);
        }
        if options.keepalives == Some(false) {
            return Instant::MAX;
        }
        let interval = options.keepalives_interval.unwrap_or(KEEPALIVE_INTERVAL).max(Duration::from_secs(1));
        let probes = match options.user_timeout {
            // It takes the place of the count, and is looked at with each probe.
            Some(timeout) => {
                let rest = timeout.saturating_sub(self.idle());
                u32::try_from(rest.as_nanos().div_ceil(interval.as_nanos())).unwrap_or(u32::MAX).max(1)
            }
            None => options.keepalives_count.unwrap_or(KEEPALIVE_COUNT),
        };
        client.heard + self.idle() + interval.saturating_mul(probes)
    }

    /// On a path that works the client's kernel has heard an answer to each of its probes.
    pub(super) fn refresh(&mut self, now: Instant) {
        if self.client.phase == Phase::Open && self.probes_at() < now {
            let idle = u64::try_from(self.idle().as_nanos()).unwrap_or(u64::MAX).max(1);
            let silent = now.nanos_since(self.client.heard) % idle;
            self.client.heard = now.saturating_sub(Duration::from_nanos(silent));
        }
    }

    /// Whether the host has forgotten a connection that the client believes in, without a word on its way.
    pub(super) fn is_half_open(&self) -> bool {
        let client = &self.client;
        let silent = self.to_client.flight.is_empty() && self.backlog.is_empty();
        client.phase == Phase::Open && !client.eof && !self.host_open && silent
    }

    /// When the client's kernel asks after a silent host first.
    pub(super) fn probes_at(&self) -> Instant {
        match &self.options {
            Some(options) if options.keepalives != Some(false) => self.client.heard + self.idle(),
            _ => Instant::MAX,
        }
    }

    fn idle(&self) -> Duration {
        self.options.and_then(|options| options.keepalives_idle).unwrap_or(KEEPALIVE_IDLE)
    }
}

impl ClientEnd {
    /// Whether somebody holds it, and could use it as far as its kernel knows.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open && !self.gone && !self.aborted
    }

    /// The connection is over, as far as the client's kernel is concerned.
    pub(super) fn fail(&mut self, kind: io::ErrorKind, wakes: &mut Vec<Waker>) {
        if !matches!(self.phase, Phase::Failed(_)) {
            self.phase = Phase::Failed(kind);
        }
        wakes.extend(self.reader.take());
        wakes.extend(self.writer.take());
    }
}
