//! A TCP proxy that can be a bad network.

mod engine;
mod flow;
mod handshake;
mod link;

use crate::ports::Port;
use crate::{Error, Result};
use engine::{Command, Engine};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What the client sends.
    ToServer,
    /// What the server sends.
    ToClient,
}

/// Which connections a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that are open now.
    Existing,
    /// Those that come from now on.
    New,
    /// Both.
    All,
}

/// How a connection is cut, on both of its sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// An orderly end (FIN).
    Close,
    /// A reset (RST).
    Reset,
}

/// What went through a proxy so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// When each connection was accepted, in order: the schedule of the client's attempts.
    pub accepted: Vec<Instant>,
    /// Connections that are open now.
    pub open: usize,
    /// The most that were open at once.
    pub peak_open: usize,
    /// Connections now between their accept and the server's first ReadyForQuery or ErrorResponse. (A session that
    /// turns to TLS is opaque and counts as through from the server's consent on; a CancelRequest does not count.)
    pub handshaking: usize,
    /// The most that were in that phase at once.
    pub peak_handshaking: usize,
    /// CancelRequests seen.
    pub cancel_requests: usize,
    /// Connections that [`Proxy::cut_after`] has cut.
    pub cuts: usize,
    /// Connections reset because the server refused ours.
    pub upstream_refused: usize,
    /// Bytes passed on to the server.
    pub to_server: u64,
    /// Bytes passed on to clients.
    pub to_client: u64,
}

/// A TCP proxy between clients and a server, on a port of 127.0.0.1 that stays its own; controllable while it runs.
///
/// It begins as a plain wire. Every control call returns after it took effect. Dropping the proxy resets what is open.
///
/// One thread serves all connections. While the server itself refuses connections, an accepted client is reset; use
/// [`Proxy::refuse`] where the client is to see ECONNREFUSED.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    commands: Sender<Command>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy to a server's address.
    ///
    /// # Errors
    /// If no port, socket or thread is to be had.
    pub fn start(upstream: SocketAddr) -> Result<Proxy> {
        let port = Port::reserve()?;
        let (waker, woken) = UnixStream::pair().map_err(Error::io("make a pair of sockets"))?;
        waker.set_nonblocking(true).map_err(Error::io("configure a socket"))?;
        woken.set_nonblocking(true).map_err(Error::io("configure a socket"))?;
        let (commands, inbox) = mpsc::channel();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let mut engine = Engine::new(address, upstream, inbox, woken);
        engine.listen().map_err(Error::io(format!("listen on {address}")))?;
        let thread = thread::Builder::new()
            .name(format!("proxy {}", port.number()))
            .spawn(move || engine.run())
            .map_err(Error::io("start the proxy's thread"))?;
        Ok(Proxy { port, commands, waker, thread: Some(thread) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The address to connect to.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// Makes it a plain wire again: listening, nothing held back, no delay, throttle or cut, for new and existing
    /// connections.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn pass(&self) -> Result<()> {
        self.call(|engine| {
            engine.settings = Default::default();
            engine.each_flow(|flow| flow.settings = Default::default());
            engine.release();
            engine.listen()
        })
        .map_err(Error::io(format!("listen on {}", self.address())))
    }

    /// Closes the listener: new connections see ECONNREFUSED. Existing ones stay.
    pub fn refuse(&self) {
        self.call(|engine| engine.stop_listening());
    }

    /// Listens again after [`Proxy::refuse`].
    ///
    /// # Errors
    /// If it cannot.
    pub fn listen(&self) -> Result<()> {
        self.call(Engine::listen).map_err(Error::io(format!("listen on {}", self.address())))
    }

    /// Resets all connections on both sides (RST); how many there were.
    pub fn reset_all(&self) -> usize {
        self.call(|engine| engine.end_all(Cut::Reset))
    }

    /// Closes all connections on both sides (FIN); how many there were. Nothing in flight is passed on.
    pub fn close_all(&self) -> usize {
        self.call(|engine| engine.end_all(Cut::Close))
    }

    /// Makes the connections black holes until [`Proxy::resume`] or [`Proxy::pass`]: accepted, never read, nothing
    /// passed on, not even an end. New ones do not reach the server before they are resumed.
    pub fn black_hole(&self, scope: Scope) {
        self.call(move |engine| engine.hold(scope));
    }

    /// Ends all black holes: what was held back flows on, as after a network partition.
    pub fn resume(&self) {
        self.call(Engine::release);
    }

    /// Delays everything that comes from now on in this direction, in new and existing connections.
    pub fn set_delay(&self, direction: Direction, delay: Duration) {
        self.call(move |engine| {
            engine.settings[direction as usize].delay = delay;
            engine.each_flow_of(direction, |flow| flow.settings.delay = delay);
        });
    }

    /// Limits this direction of every connection to so many bytes a second; `None` lifts the limit.
    pub fn set_throttle(&self, direction: Direction, bytes_per_second: Option<u64>) {
        let rate = bytes_per_second.map(|rate| rate.max(1));
        self.call(move |engine| {
            engine.settings[direction as usize].rate = rate;
            engine.each_flow_of(direction, |flow| flow.settings.rate = rate);
        });
    }

    /// Cuts every connection once `bytes` more have been passed on in this direction: counted from now in existing
    /// connections, from their start in new ones. With 0, an existing connection is cut at its next byte.
    pub fn cut_after(&self, direction: Direction, bytes: u64, cut: Cut) {
        self.call(move |engine| {
            engine.settings[direction as usize].cut = Some((bytes, cut));
            engine.each_flow_of(direction, |flow| flow.settings.cut = Some((bytes, cut)));
        });
    }

    /// What went through so far.
    pub fn stats(&self) -> ProxyStats {
        self.call(|engine| engine.stats())
    }

    /// Runs something in the proxy's thread, between two rounds of input and output.
    fn call<T: Send + 'static>(&self, f: impl FnOnce(&mut Engine) -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        let command: Command = Box::new(move |engine| {
            // The caller waits for it below.
            let _ = answer.send(f(engine));
        });
        let sent = self.commands.send(command);
        self.wake();
        sent.ok().and_then(|()| answered.recv().ok()).expect("the proxy's thread runs as long as the proxy")
    }

    fn wake(&self) {
        // A full pipe wakes as well.
        let _ = (&self.waker).write(&[1]);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.commands.send(Box::new(Engine::quit));
        self.wake();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
