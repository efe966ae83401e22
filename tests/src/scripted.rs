//! A server that does what a test says, however wrong.

use crate::ports::Port;
use crate::{Error, Result, wire};
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// One thing that a [`ScriptedServer`] does with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Reads a startup packet. Requests for encryption before it are declined with `N`.
    ReadStartup,
    /// Reads an SSLRequest, or whatever eight bytes come.
    ReadSslRequest,
    /// Reads one message of any type.
    ReadMessage,
    /// Sends bytes; [`wire`] makes them.
    Send(Vec<u8>),
    /// Sends the same bytes over and over until the client has gone.
    SendForever(Vec<u8>),
    /// Does nothing, and reads nothing, until [`ScriptedServer::release`] or the end.
    Hang,
    /// Reads and discards everything until the client closes.
    Swallow,
    /// Goes on with the first step after the last startup, for example to answer every query the same way.
    Repeat,
    /// Resets the connection. (The end of the script closes it.)
    Reset,
}

/// What a [`ScriptedServer`] does with each connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script(pub Vec<Step>);

impl Script {
    /// Accepts and never answers; reads what it is sent.
    pub fn never_answer() -> Script {
        Script(vec![Step::Swallow])
    }

    /// Accepts and closes at once.
    pub fn close() -> Script {
        Script(Vec::new())
    }

    /// Accepts and resets at once.
    pub fn reset() -> Script {
        Script(vec![Step::Reset])
    }

    /// Answers the startup with these bytes and then hangs.
    pub fn answer(bytes: impl Into<Vec<u8>>) -> Script {
        Script(vec![Step::ReadStartup, Step::Send(bytes.into()), Step::Swallow])
    }

    /// Answers the startup with what no PostgreSQL would say.
    pub fn garbage() -> Script {
        Script::answer("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    }

    /// Answers the startup with a message that declares 2 GB and never comes.
    pub fn huge_length() -> Script {
        Script::answer(wire::declared_length(b'R', 0x7fff_ffff))
    }

    /// Refuses the startup with a FATAL error of this SQLSTATE, such as 57P03, 53300 or 28P01, and closes.
    pub fn refuse(sqlstate: &str, message: &str) -> Script {
        Script(vec![Step::ReadStartup, Step::Send(wire::error("FATAL", sqlstate, message))])
    }

    /// Lets everybody in, and answers every message with these bytes. (A client that pipelines several messages gets
    /// as many answers: meant for the simple query protocol.)
    pub fn answer_every_message(bytes: impl Into<Vec<u8>>) -> Script {
        let answer = Step::Send(bytes.into());
        Script(vec![Step::ReadStartup, Step::Send(wire::welcome()), Step::ReadMessage, answer, Step::Repeat])
    }

    /// Lets everybody in and never answers anything more.
    pub fn welcome_then_silence() -> Script {
        Script::answer(wire::welcome())
    }

    fn repeat_from(&self) -> usize {
        let mut steps = self.0.iter();
        let startup = steps.rposition(|step| matches!(step, Step::ReadStartup)).map_or(0, |index| index + 1);
        // The welcome belongs to the startup.
        startup + usize::from(startup > 0 && matches!(self.0.get(startup), Some(Step::Send(_))))
    }
}

/// A listener on a port of 127.0.0.1 that stays its own; every connection gets the script that is current when it is
/// accepted. Dropping it closes everything.
#[derive(Debug)]
pub struct ScriptedServer {
    port: Port,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    script: Script,
    accepted: Vec<Instant>,
    received: Vec<u8>,
    open: Vec<(u64, TcpStream)>,
    threads: Vec<JoinHandle<()>>,
    releases: u64,
    over: bool,
}

/// What is kept of the bytes that clients sent.
const MAX_RECEIVED: usize = 1 << 20;
/// The longest message read whole.
const MAX_MESSAGE: usize = 16 << 20;

impl ScriptedServer {
    /// Starts to listen.
    ///
    /// # Errors
    /// If no port or thread is to be had.
    pub fn start(script: Script) -> Result<ScriptedServer> {
        let port = Port::reserve()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number()))
            .map_err(Error::io(format!("listen on port {}", port.number())))?;
        let shared =
            Arc::new(Shared { state: Mutex::new(State { script, ..State::default() }), changed: Condvar::new() });
        let for_thread = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name(format!("script {}", port.number()))
            .spawn(move || for_thread.accept(&listener))
            .map_err(Error::io("start a thread"))?;
        Ok(ScriptedServer { port, shared, acceptor: Some(acceptor) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The address to connect to.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// A URL for it, with the password `secret`.
    pub fn url(&self) -> String {
        format!("postgresql://postgres:secret@{}/postgres", self.address())
    }

    /// What connections get from now on; those that are open keep their script.
    pub fn set_script(&self, script: Script) {
        self.shared.lock().script = script;
    }

    /// Lets every connection that hangs now, or has yet to come to its first [`Step::Hang`], go on with the next step.
    pub fn release(&self) {
        self.shared.lock().releases += 1;
        self.shared.changed.notify_all();
    }

    /// When each connection was accepted, in order.
    pub fn accepted(&self) -> Vec<Instant> {
        self.shared.lock().accepted.clone()
    }

    /// How many connections are open on this side.
    pub fn open(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// What clients have sent, all connections together as it came (the first MB): to look for a password, say.
    pub fn received(&self) -> Vec<u8> {
        self.shared.lock().received.clone()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        for (_, stream) in &state.open {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
        // The acceptor waits for a connection: here is its last one.
        let _ = TcpStream::connect_timeout(&self.address(), Duration::from_secs(5));
        let _ = self.acceptor.take().map(JoinHandle::join);
        let threads = std::mem::take(&mut self.shared.lock().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for id in 0.. {
            let accepted = listener.accept();
            let mut state = self.lock();
            if state.over {
                return;
            }
            let Ok((stream, _)) = accepted else { continue };
            state.accepted.push(Instant::now());
            let Ok(handle) = stream.try_clone() else { continue };
            state.open.push((id, handle));
            state.threads.retain(|thread| !thread.is_finished());
            let script = state.script.clone();
            let shared = Arc::clone(self);
            let releases = state.releases;
            let thread = thread::Builder::new().name(format!("script connection {id}")).spawn(move || {
                let mut session = Session { shared: &shared, stream, releases };
                // Whatever the client does, its connection just ends.
                let _ = session.play(&script);
                shared.lock().open.retain(|(open, _)| *open != id);
            });
            state.threads.extend(thread);
        }
    }
}

struct Session<'a> {
    shared: &'a Shared,
    stream: TcpStream,
    releases: u64,
}

impl Session<'_> {
    fn play(&mut self, script: &Script) -> io::Result<()> {
        let mut next = 0;
        while let Some(step) = script.0.get(next) {
            next += 1;
            match step {
                Step::ReadStartup => self.read_startup()?,
                Step::ReadSslRequest => drop(self.read(8)?),
                Step::ReadMessage => {
                    self.read(1)?;
                    self.read_body()?;
                }
                Step::Send(bytes) => self.stream.write_all(bytes)?,
                Step::SendForever(bytes) => loop {
                    self.stream.write_all(bytes)?;
                },
                Step::Hang => self.hang()?,
                Step::Swallow => self.swallow()?,
                Step::Repeat => next = script.repeat_from(),
                Step::Reset => SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?,
            }
            if *step == Step::Reset {
                return Ok(());
            }
        }
        self.stream.shutdown(Shutdown::Write)?;
        // What the client still sends is read: closing with unread input would reset, and it might lose our last words.
        self.swallow()
    }

    fn read_startup(&mut self) -> io::Result<()> {
        loop {
            let body = self.read_body()?;
            let code = body.first_chunk().map(|code| u32::from_be_bytes(*code));
            // SSLRequest and GSSENCRequest.
            if !matches!(code, Some(80_877_103 | 80_877_104)) {
                return Ok(());
            }
            self.stream.write_all(b"N")?;
        }
    }

    /// A length that counts itself, and as much as it says.
    fn read_body(&mut self) -> io::Result<Vec<u8>> {
        let head = self.read(4)?;
        let length = head.first_chunk().map_or(0, |head| u32::from_be_bytes(*head)) as usize;
        match length.checked_sub(4) {
            Some(length) if length <= MAX_MESSAGE => self.read(length),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn read(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes)?;
        self.keep(&bytes);
        Ok(bytes)
    }

    fn swallow(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer)? {
                0 => return Ok(()),
                n => self.keep(&buffer[..n]),
            }
        }
    }

    fn hang(&mut self) -> io::Result<()> {
        let mut state = self.shared.lock();
        while state.releases == self.releases && !state.over {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.releases = state.releases;
        if state.over { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    fn keep(&self, bytes: &[u8]) {
        let mut state = self.shared.lock();
        let room = MAX_RECEIVED - state.received.len();
        state.received.extend(bytes.iter().take(room));
    }
}
