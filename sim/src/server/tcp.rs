//! The server on a real port, with a real clock.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant as WallClock, SystemTime, UNIX_EPOCH};

use pgweir_core::time::Instant;
use socket2::SockRef;

use super::config::Config;
use super::postgres::Postgres;
use crate::net::{Accept, Host, LinkId, Output};
use crate::scenario::ServerState;

/// A client that has left this much unread is waited for.
const MUCH: usize = 1 << 20;
/// How long a client has to read the last words before the socket is closed under it.
const GRACE: Duration = Duration::from_millis(20);

/// A [`Postgres`] that listens on a port of this machine until it is dropped.
pub struct TcpServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for TcpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpServer").field("address", &self.address).finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    /// The next deadline, or whether to listen, may be another one.
    changed: Condvar,
}

struct State {
    postgres: Postgres,
    begun: WallClock,
    outlets: BTreeMap<LinkId, Outlet>,
    /// Every open socket, those included that the server has said farewell to.
    streams: BTreeMap<LinkId, TcpStream>,
    workers: Vec<JoinHandle<()>>,
    next_link: u64,
    /// Whether the port is bound.
    listening: bool,
    stopping: bool,
    address: SocketAddr,
}

/// Where a connection's output goes.
struct Outlet {
    sender: Sender<Output>,
    unsent: Arc<AtomicUsize>,
    congested: bool,
}

impl TcpServer {
    /// Starts a server on a free port of 127.0.0.1. Its wall clock is this machine's, whatever [`Config::epoch`] says.
    ///
    /// # Errors
    /// If no port can be bound, or a setting of `config` is not one.
    pub fn start(config: Config) -> io::Result<TcpServer> {
        TcpServer::start_at(config, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts a server on this address; port 0 is a free one.
    ///
    /// # Errors
    /// As [`TcpServer::start`].
    pub fn start_at(mut config: Config, address: SocketAddr) -> io::Result<TcpServer> {
        config.epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(config.epoch, |time| time.as_secs());
        let postgres = Postgres::new(config).map_err(|error| io::Error::other(error.message))?;
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let state = State {
            postgres,
            begun: WallClock::now(),
            outlets: BTreeMap::new(),
            streams: BTreeMap::new(),
            workers: Vec::new(),
            next_link: 0,
            listening: true,
            stopping: false,
            address,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (acceptor, ticker) = (shared.clone(), shared.clone());
        let threads = vec![
            spawn("pgweir-sim accept", move || acceptor.accept(listener))?,
            spawn("pgweir-sim tick", move || ticker.tick())?,
        ];
        Ok(TcpServer { shared, address, threads })
    }

    /// Where it listens, or would if it were not down.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does something with the server, at its present moment. Its connections wait meanwhile.
    pub fn with<T>(&self, act: impl FnOnce(&mut Postgres, Instant) -> T) -> T {
        self.shared.with(act)
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        let workers = {
            let mut state = self.shared.lock();
            state.stopping = true;
            state.outlets.clear();
            for stream in state.streams.values() {
                // One that has gone already is what is wanted.
                let _ = stream.shutdown(Shutdown::Both);
            }
            state.wake_acceptor();
            self.shared.changed.notify_all();
            std::mem::take(&mut state.workers)
        };
        for thread in self.threads.drain(..).chain(workers) {
            // A thread that has panicked has said so.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

impl State {
    fn now(&self) -> Instant {
        Instant::ZERO + self.begun.elapsed()
    }

    /// Hands out what the server has done.
    fn pump(&mut self) {
        let now = self.now();
        let mut out = Vec::new();
        self.postgres.drain(&mut out);
        for (link, output) in out {
            let last = !matches!(output, Output::Bytes(_));
            let Some(outlet) = self.outlets.get_mut(&link) else { continue };
            if let Output::Bytes(bytes) = &output {
                let unsent = outlet.unsent.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
                if unsent > MUCH && !outlet.congested {
                    outlet.congested = true;
                    self.postgres.congested(now, link, true);
                }
            }
            // A writer that is gone has lost its client.
            let _ = outlet.sender.send(output);
            if last {
                self.outlets.remove(&link);
            }
        }
        if self.listening && self.postgres.state() == ServerState::Down {
            self.listening = false;
            self.wake_acceptor();
        }
    }

    /// The acceptor waits for a connection: here is one.
    fn wake_acceptor(&self) {
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Postgres, Instant) -> T) -> T {
        let mut state = self.lock();
        let now = state.now();
        state.postgres.tick(now);
        let result = act(&mut state.postgres, now);
        state.pump();
        self.changed.notify_all();
        result
    }

    /// Lets time pass for the server.
    fn tick(&self) {
        let mut state = self.lock();
        while !state.stopping {
            let now = state.now();
            state.postgres.tick(now);
            state.pump();
            if !state.listening && state.postgres.state() != ServerState::Down {
                self.changed.notify_all();
            }
            state = match state.postgres.deadline() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let wait = at - state.now();
                    let waited = self.changed.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Takes connections while the server is not down; then nobody listens, so that they are refused.
    fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut listener = Some(listener);
        loop {
            let Some(bound) = &listener else {
                listener = self.listen_again();
                if listener.is_none() {
                    return;
                }
                continue;
            };
            let accepted = bound.accept();
            let mut state = self.lock();
            if state.stopping {
                return;
            }
            if state.postgres.state() == ServerState::Down {
                state.listening = false;
                listener = None;
                continue;
            }
            if !state.listening {
                // It was down for less time than it took to notice.
                state.listening = true;
                continue;
            }
            match accepted {
                Ok((stream, _)) => self.open(&mut state, stream),
                // Out of descriptors, most likely: there may be some again in a moment.
                Err(_) => {
                    drop(state);
                    // On the acceptor's own thread, with the lock given back: nobody waits for it.
                    thread::sleep(Duration::from_millis(10));
                }
            }
            self.changed.notify_all();
        }
    }

    /// The port, bound again once the server is not down any more; `None` if it stops for good.
    fn listen_again(&self) -> Option<TcpListener> {
        let mut state = self.lock();
        loop {
            if state.stopping {
                return None;
            }
            if state.postgres.state() == ServerState::Down {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Ok(listener) = TcpListener::bind(state.address) {
                state.listening = true;
                return Some(listener);
            }
            let wait = self.changed.wait_timeout(state, Duration::from_millis(10));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn open(self: &Arc<Self>, state: &mut State, stream: TcpStream) {
        state.next_link += 1;
        let (link, now) = (LinkId(state.next_link), state.now());
        if state.postgres.accept(now, link) == Accept::Refused {
            return;
        }
        let (sender, receiver) = channel();
        let unsent = Arc::new(AtomicUsize::new(0));
        let outlet = Outlet { sender, unsent: unsent.clone(), congested: false };
        state.outlets.insert(link, outlet);
        if self.serve(state, link, stream, receiver, unsent).is_err() {
            state.outlets.remove(&link);
            state.streams.remove(&link);
            state.postgres.reset(now, link);
        }
        state.pump();
        state.workers.retain(|worker| !worker.is_finished());
    }

    /// A thread that reads and one that writes.
    fn serve(
        self: &Arc<Self>,
        state: &mut State,
        link: LinkId,
        stream: TcpStream,
        receiver: Receiver<Output>,
        unsent: Arc<AtomicUsize>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (reading, writing) = (stream.try_clone()?, stream.try_clone()?);
        state.streams.insert(link, stream);
        let (reader, writer) = (self.clone(), self.clone());
        state.workers.push(spawn("pgweir-sim read", move || reader.read(link, &reading))?);
        state.workers.push(spawn("pgweir-sim write", move || writer.write(link, &writing, &receiver, &unsent))?);
        Ok(())
    }

    fn read(&self, link: LinkId, mut stream: &TcpStream) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.with(|postgres, now| postgres.end(now, link));
                    break;
                }
                Ok(length) => self.with(|postgres, now| postgres.receive(now, link, &buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.with(|postgres, now| postgres.reset(now, link));
                    break;
                }
            }
        }
        self.lock().streams.remove(&link);
    }

    fn write(&self, link: LinkId, mut stream: &TcpStream, receiver: &Receiver<Output>, unsent: &AtomicUsize) {
        while let Ok(output) = receiver.recv() {
            match output {
                Output::Bytes(bytes) => {
                    // The reader will notice a connection that is gone.
                    let _ = stream.write_all(&bytes);
                    let before = unsent.fetch_sub(bytes.len(), Ordering::Relaxed);
                    if before > MUCH / 2 && before - bytes.len() <= MUCH / 2 {
                        self.relieved(link);
                    }
                }
                Output::Close => {
                    let _ = stream.shutdown(Shutdown::Write);
                    // The writer's own thread: a socket dropped at once would reset what the client has not read yet.
                    thread::sleep(GRACE);
                    break;
                }
                Output::Reset => {
                    // The socket's last owner, the reader, closes it: with a reset.
                    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                    let _ = stream.shutdown(Shutdown::Read);
                    return;
                }
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    }

    fn relieved(&self, link: LinkId) {
        let mut state = self.lock();
        let relieved = state.outlets.get_mut(&link).is_some_and(|outlet| std::mem::take(&mut outlet.congested));
        drop(state);
        if relieved {
            self.with(|postgres, now| postgres.congested(now, link, false));
        }
    }
}
