//! The proxy's thread: one loop over all sockets.

use super::flow::{Flow, Settings};
use super::link::{Link, Outcome};
use super::{Cut, Direction, ProxyStats, Scope};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::time::Instant;

/// Something to do between two rounds.
pub(super) type Command = Box<dyn FnOnce(&mut Engine) + Send>;

pub(super) struct Engine {
    address: SocketAddr,
    upstream: SocketAddr,
    commands: Receiver<Command>,
    woken: UnixStream,
    listener: Option<TcpListener>,
    links: Vec<Link>,
    /// For new connections, by [`Direction`].
    pub(super) settings: [Settings; 2],
    hold_new: bool,
    stats: ProxyStats,
    totals: [u64; 2],
    over: bool,
}

/// What a round of waiting has found.
struct Ready {
    listener: bool,
    links: Vec<[PollFlags; 2]>,
}

impl Engine {
    pub(super) fn new(
        address: SocketAddr,
        upstream: SocketAddr,
        commands: Receiver<Command>,
        woken: UnixStream,
    ) -> Engine {
        Engine {
            address,
            upstream,
            commands,
            woken,
            listener: None,
            links: Vec::new(),
            settings: Default::default(),
            hold_new: false,
            stats: ProxyStats::default(),
            totals: [0; 2],
            over: false,
        }
    }

    pub(super) fn run(mut self) {
        while !self.over {
            let ready = self.wait();
            let now = Instant::now();
            self.advance(&ready.links, now);
            if ready.listener {
                self.accept(now);
            }
            self.count();
            while let Ok(command) = self.commands.try_recv() {
                command(&mut self);
                self.count();
            }
        }
        self.end_all(Cut::Reset);
    }

    pub(super) fn quit(&mut self) {
        self.over = true;
    }

    pub(super) fn listen(&mut self) -> io::Result<()> {
        if self.listener.is_none() {
            let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&self.address.into())?;
            socket.listen(1024)?;
            socket.set_nonblocking(true)?;
            self.listener = Some(socket.into());
        }
        Ok(())
    }

    pub(super) fn stop_listening(&mut self) {
        self.listener = None;
    }

    pub(super) fn hold(&mut self, scope: Scope) {
        self.hold_new |= scope != Scope::Existing;
        if scope != Scope::New {
            self.links.iter_mut().filter(|link| !link.is_draining()).for_each(|link| link.held = true);
        }
    }

    pub(super) fn release(&mut self) {
        self.hold_new = false;
        self.links.iter_mut().for_each(|link| link.held = false);
    }

    /// Ends all connections; how many there were.
    pub(super) fn end_all(&mut self, cut: Cut) -> usize {
        let open = self.links.iter().filter(|link| !link.is_draining()).count();
        self.links.retain_mut(|link| link.end(cut) != Outcome::Gone);
        open
    }

    pub(super) fn each_flow(&mut self, f: impl FnMut(&mut Flow)) {
        self.links.iter_mut().flat_map(|link| &mut link.flows).for_each(f);
    }

    pub(super) fn each_flow_of(&mut self, direction: Direction, mut f: impl FnMut(&mut Flow)) {
        self.links.iter_mut().for_each(|link| f(&mut link.flows[direction as usize]));
    }

    pub(super) fn stats(&self) -> ProxyStats {
        let [to_server, to_client] = self.totals;
        ProxyStats { to_server, to_client, ..self.stats.clone() }
    }

    /// Waits until a socket is ready, something is due, or a command has come.
    fn wait(&mut self) -> Ready {
        let mut ready = Ready { listener: false, links: vec![[PollFlags::empty(); 2]; self.links.len()] };
        let mut fds = vec![PollFd::new(&self.woken, PollFlags::IN)];
        fds.extend(self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        let first_link = fds.len();
        let mut places = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            for (end, stream, flags) in link.interest() {
                places.push((index, end));
                fds.push(PollFd::new(stream, flags));
            }
        }
        let timeout = self.links.iter().filter_map(Link::next).min().map(|due| {
            let left = due.saturating_duration_since(Instant::now());
            // A duration under a day always fits.
            Timespec { tv_sec: left.as_secs().min(86_400) as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        // Interrupted: nothing is marked ready, and the loop comes again.
        let _ = poll(&mut fds, timeout.as_ref());
        ready.listener = first_link == 2 && !fds[1].revents().is_empty();
        for (fd, (index, end)) in fds[first_link..].iter().zip(places) {
            ready.links[index][end] = fd.revents();
        }
        if !fds[0].revents().is_empty() {
            let _ = { &self.woken }.read(&mut [0; 256]);
        }
        ready
    }

    fn advance(&mut self, ready: &[[PollFlags; 2]], now: Instant) {
        let Engine { links, stats, totals, upstream, .. } = self;
        let mut ready = ready.iter();
        links.retain_mut(|link| {
            let flags = ready.next().copied().unwrap_or([PollFlags::empty(); 2]);
            let outcome = link.advance(flags, *upstream, now, totals);
            stats.cancel_requests += usize::from(link.take_cancel());
            stats.upstream_refused += usize::from(outcome == Outcome::Refused);
            stats.cuts += usize::from(matches!(outcome, Outcome::WasCut(_)));
            // What was cut by closing still has to be drained.
            matches!(outcome, Outcome::Open | Outcome::WasCut(Cut::Close))
        });
    }

    fn accept(&mut self, now: Instant) {
        let Some(listener) = &self.listener else { return };
        // Until none is left (or the system has no descriptor for it: then at the next round).
        while let Ok((client, _)) = listener.accept() {
            if client.set_nonblocking(true).and_then(|()| client.set_nodelay(true)).is_err() {
                continue;
            }
            self.stats.accepted.push(now);
            let mut link = Link::new(client, self.hold_new, self.settings, now);
            // Begins the connect to the server, unless it is held.
            let outcome = link.advance([PollFlags::empty(); 2], self.upstream, now, &mut self.totals);
            self.stats.upstream_refused += usize::from(outcome == Outcome::Refused);
            if outcome == Outcome::Open {
                self.links.push(link);
            }
        }
    }

    fn count(&mut self) {
        let stats = &mut self.stats;
        stats.open = self.links.iter().filter(|link| !link.is_draining()).count();
        stats.peak_open = stats.peak_open.max(stats.open);
        stats.handshaking = self.links.iter().filter(|link| link.is_handshaking()).count();
        stats.peak_handshaking = stats.peak_handshaking.max(stats.handshaking);
    }
}
