//! The other end of a connection: what a suite's streams talk to.

use std::fmt::Debug;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pgweir_core::config::TcpOptions;
use pgweir_core::os;
use pgweir_core::runtime::Address;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use socket2::{Domain, SockAddr, SockRef, Type};
use tempfile::TempDir;

use super::database::{Database, RealPostgres};

/// Where peers live: behind real sockets, or in the simulator's network.
pub trait World: 'static {
    /// Its database.
    type Database: Database;
    /// Whether code of the runtime's may be called from any thread.
    const THREADS: bool;
    /// A database for tests that do it no harm.
    fn database() -> Self::Database;
    /// A peer that does this with every connection.
    fn serve(place: Place, acts: Vec<Act>) -> Peer;
    /// An address in `place` that refuses connections, as a server that has ended leaves it.
    fn refusing(place: Place) -> Peer;
    /// A Unix-domain socket that listens and that this thread may not use, where there are permissions.
    fn forbidden() -> Option<Peer>;
    /// A Unix-domain socket with more connections to accept than it wants to queue, where queues have an end.
    fn crowded() -> Option<Peer>;
}

/// The kind of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Tcp,
    /// A Unix-domain socket.
    Unix,
}

impl Place {
    /// Both.
    pub const ALL: [Place; 2] = [Place::Tcp, Place::Unix];
}

/// One thing that a peer does with a connection. After the last it closes, unless it has reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Neither reads nor writes until it is released.
    Wait,
    /// Sends bytes.
    Say(Vec<u8>),
    /// Sends back what it gets, until the client's end.
    Echo,
    /// Reads and keeps everything until the client's end.
    Read,
    /// Resets the connection.
    Reset,
}

/// A peer that listens, until it is dropped.
#[derive(Debug)]
pub struct Peer {
    /// Where.
    pub address: Address,
    /// What a test has to do with it.
    pub control: Arc<dyn Control>,
}

/// What a test has to do with a peer.
pub trait Control: Debug + Send + Sync {
    /// Nothing more is taken from the clients, until the release. (Behind a real socket a peer that waits does so
    /// anyway.)
    fn stall(&self) {}
    /// Lets every connection go on that waits, and all later ones.
    fn release(&self);
    /// What was read so far, by [`Act::Read`].
    fn received(&self) -> Vec<u8>;
    /// How many connections have seen the client's end, or its reset.
    fn ended(&self) -> usize;
}

/// Threads on real sockets.
#[derive(Clone, Copy, Debug)]
pub struct RealSockets;

impl World for RealSockets {
    type Database = RealPostgres;

    const THREADS: bool = true;

    fn database() -> RealPostgres {
        RealPostgres
    }

    fn serve(place: Place, acts: Vec<Act>) -> Peer {
        let shared = Arc::new(Shared { acts, ..Shared::default() });
        let for_thread = shared.clone();
        let (address, folder) = match place {
            Place::Tcp => {
                let (listener, address) = tcp();
                thread::spawn(move || for_thread.accept(|| Ok(Socket::Tcp(listener.accept()?.0))));
                (address, None)
            }
            Place::Unix => {
                let (listener, folder, address) = unix();
                thread::spawn(move || for_thread.accept(|| Ok(Socket::Unix(listener.accept()?.0))));
                (address, Some(folder))
            }
        };
        Peer { address, control: Arc::new(Threads { shared, _folder: folder }) }
    }

    fn refusing(place: Place) -> Peer {
        // The listeners end here: of a Unix-domain socket its file stays.
        let (address, folder) = match place {
            Place::Tcp => (tcp().1, None),
            Place::Unix => {
                let (_listener, folder, address) = unix();
                (address, Some(folder))
            }
        };
        Peer { address, control: Arc::new(Useless(folder)) }
    }

    fn forbidden() -> Option<Peer> {
        let peer = RealSockets::serve(Place::Unix, vec![Act::Read]);
        let Address::Unix(path) = &peer.address else { unreachable!("a Unix-domain socket was asked for") };
        fs::set_permissions(path, Permissions::from_mode(0o000)).expect("its owner may say so");
        let powers = Powers::lay_down();
        Some(Peer { address: peer.address, control: Arc::new(Useless((peer.control, powers))) })
    }

    fn crowded() -> Option<Peer> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        listener.bind(&SockAddr::unix(&path).expect("a short path")).expect("a free path");
        listener.listen(0).expect("it listens");
        let queued = os::connect_unix(&path).expect("there is room for one");
        Some(Peer { address: Address::Unix(path), control: Arc::new(Useless((folder, listener, queued))) })
    }
}

/// A peer that is no use: it refuses, forbids or is full, for as long as this holds what makes it so.
#[derive(Debug)]
struct Useless<T>(#[allow(dead_code, reason = "it is only held")] T);

impl<T: Debug + Send + Sync> Control for Useless<T> {
    fn release(&self) {}

    fn received(&self) -> Vec<u8> {
        Vec::new()
    }

    fn ended(&self) -> usize {
        0
    }
}

fn tcp() -> (TcpListener, Address) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("it is bound");
    (listener, Address::Tcp(address, TcpOptions::default()))
}

fn unix() -> (UnixListener, TempDir, Address) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    (UnixListener::bind(&path).expect("a socket"), folder, Address::Unix(path))
}

#[derive(Debug)]
struct Threads {
    shared: Arc<Shared>,
    _folder: Option<TempDir>,
}

#[derive(Debug, Default)]
struct Shared {
    acts: Vec<Act>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    released: bool,
    over: bool,
    received: Vec<u8>,
    ended: usize,
}

impl Control for Threads {
    fn release(&self) {
        self.shared.lock().released = true;
        self.shared.changed.notify_all();
    }

    fn received(&self) -> Vec<u8> {
        self.shared.lock().received.clone()
    }

    fn ended(&self) -> usize {
        self.shared.lock().ended
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves connections until the process ends: a listener's thread is all that it leaves behind.
    fn accept(self: &Arc<Self>, mut accept: impl FnMut() -> io::Result<Socket>) {
        while let Ok(socket) = accept() {
            let shared = self.clone();
            thread::spawn(move || {
                // Whatever the client does, its connection just ends.
                let _ = shared.play(&socket);
            });
        }
    }

    fn play(&self, mut socket: &Socket) -> io::Result<()> {
        let mut ended = false;
        for act in &self.acts {
            match act {
                Act::Wait => self.wait(),
                Act::Say(bytes) => socket.write_all(bytes)?,
                Act::Echo => self.read(socket, &mut ended, |bytes| (&*socket).write_all(bytes))?,
                Act::Read => self.read(socket, &mut ended, |bytes| {
                    self.lock().received.extend_from_slice(bytes);
                    Ok(())
                })?,
                Act::Reset => return socket.reset(),
            }
        }
        socket.raw().shutdown(Shutdown::Write)?;
        // Closed with unread input a socket would reset, and its last words might be lost.
        self.read(socket, &mut ended, |_| Ok(()))
    }

    /// Reads to the client's end, or its reset, which counts once.
    fn read(
        &self,
        mut socket: &Socket,
        ended: &mut bool,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = socket.read(&mut buffer);
            if !matches!(read, Ok(1..)) && !std::mem::replace(ended, true) {
                self.lock().ended += 1;
            }
            match read? {
                0 => return Ok(()),
                n => take(&buffer[..n])?,
            }
        }
    }

    fn wait(&self) {
        let mut state = self.lock();
        while !state.released && !state.over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// This thread's power to pass over permissions, as root has it, laid down until the drop.
#[derive(Debug)]
struct Powers(CapabilitySets);

impl Powers {
    fn lay_down() -> Powers {
        let all = capabilities(None).expect("the thread's capabilities");
        let mut few = all;
        few.effective.remove(CapabilitySet::DAC_OVERRIDE);
        set_capabilities(None, few).expect("a thread may lay down what it has");
        Powers(all)
    }
}

impl Drop for Powers {
    fn drop(&mut self) {
        set_capabilities(None, self.0).expect("and take it up again");
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn raw(&self) -> SockRef<'_> {
        match self {
            Socket::Tcp(stream) => SockRef::from(stream),
            Socket::Unix(stream) => SockRef::from(stream),
        }
    }

    /// TCP resets what is closed without lingering. A Unix-domain socket resets when it is closed with unread input, for
    /// which it waits.
    fn reset(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(_) => self.raw().set_linger(Some(Duration::ZERO)),
            Socket::Unix(_) => self.raw().peek(&mut [std::mem::MaybeUninit::uninit()]).map(drop),
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.raw()).read(buffer)
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.raw()).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
