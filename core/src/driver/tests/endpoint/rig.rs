//! An endpoint on the clock that is set by hand, and clients whose every byte is.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::super::{Held, ToyPool, World};
use crate::driver::fake::{FakeRuntime, FakeTimer, Script};
use crate::endpoint::{Endpoint, Listen, Listener, Serving};
use crate::runtime::{Abort, Address, Peek, Runtime, Stream};
use crate::time::Instant;

pub(super) struct Rig {
    pub(super) world: World,
    pub(super) pool: ToyPool,
    pub(super) door: Door,
    pub(super) serving: Option<Serving>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Rig::with(|endpoint| endpoint)
    }

    /// A pool of at most two connections, and an endpoint that shows it as `shop`.
    pub(super) fn with(set_up: impl FnOnce(Endpoint<Door>) -> Endpoint<Door>) -> Self {
        let mut world = World::default();
        let pool = world.pool(1, 2);
        let door = Door { inner: world.runtime.clone(), queue: Arc::default() };
        let endpoint = set_up(Endpoint::bind_on(door.clone(), "127.0.0.1:0").pool("shop", &pool));
        let Poll::Ready(serving) = Held::new(endpoint.serve()).poll() else { panic!("nothing to wait for") };
        let mut rig = Rig { world, pool, door, serving: Some(serving.expect("it listens")) };
        rig.world.run();
        rig
    }

    /// A client that connects; it takes whatever is sent to it.
    pub(super) fn client(&mut self) -> Client {
        self.client_with_room(usize::MAX)
    }

    /// A client that takes so many bytes and no more.
    pub(super) fn client_with_room(&mut self, room: usize) -> Client {
        let client = Client { pipe: Arc::new(Mutex::new(Pipe { room, ..Pipe::default() })) };
        self.door.enqueue(Ok(Wire { pipe: client.pipe.clone() }));
        self.world.run();
        client
    }

    /// What a client gets that asks once.
    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"))
    }

    pub(super) fn ask(&mut self, request: &str) -> Answer {
        let client = self.client();
        client.send(request.as_bytes());
        self.world.run();
        let answer = Answer::parse(&client.take());
        client.end();
        self.world.run();
        assert!(client.is_closed(), "after its end");
        answer
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        (0..seconds * 4).for_each(|_| self.world.advance(Duration::from_millis(250)));
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer: {text:?}"));
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(super) fn json(&self) -> serde_json::Value {
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The runtime, with a door at which clients stand in line.
#[derive(Clone, Debug)]
pub(super) struct Door {
    inner: FakeRuntime,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    clients: VecDeque<io::Result<Wire>>,
    waker: Option<Waker>,
    asked: u32,
    closed: bool,
}

impl Door {
    pub(super) fn enqueue(&self, client: io::Result<Wire>) {
        let mut queue = self.queue.lock().unwrap();
        queue.clients.push_back(client);
        let waker = queue.waker.take();
        drop(queue);
        waker.into_iter().for_each(Waker::wake);
    }

    /// How often the next connection was asked for.
    pub(super) fn asked(&self) -> u32 {
        self.queue.lock().unwrap().asked
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.lock().unwrap().closed
    }
}

impl Listen for Door {
    type Listener = Doorman;

    fn listen(&self, _address: SocketAddr) -> io::Result<Doorman> {
        Ok(Doorman { queue: self.queue.clone() })
    }
}

#[derive(Debug)]
pub(super) struct Doorman {
    queue: Arc<Mutex<Queue>>,
}

impl Listener for Doorman {
    type Stream = Wire;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 9187).into())
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Wire>> {
        let mut queue = self.queue.lock().unwrap();
        queue.asked += 1;
        match queue.clients.pop_front() {
            Some(client) => Poll::Ready(client),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Doorman {
    fn drop(&mut self) {
        self.queue.lock().unwrap().closed = true;
    }
}

impl Runtime for Door {
    type Stream = Script;
    type Timer = FakeTimer;

    fn current() -> Self {
        Door { inner: FakeRuntime::current(), queue: Arc::default() }
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn unix_time(&self) -> Duration {
        self.inner.unix_time()
    }

    fn seed(&self) -> u64 {
        self.inner.seed()
    }

    fn timer(&self, deadline: Instant) -> FakeTimer {
        self.inner.timer(deadline)
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.spawn(name, task);
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.inner.resolve(host, port).await
    }

    async fn connect(&self, address: &Address) -> io::Result<Script> {
        self.inner.connect(address).await
    }
}

/// What is on its way between a client and the endpoint.
#[derive(Debug, Default)]
struct Pipe {
    to_endpoint: VecDeque<u8>,
    client_ended: bool,
    to_client: Vec<u8>,
    /// So much does the client still take.
    room: usize,
    /// The endpoint has said that nothing more comes.
    ended: bool,
    /// The endpoint has dropped its side.
    dropped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The endpoint's side.
#[derive(Debug)]
pub(super) struct Wire {
    pipe: Arc<Mutex<Pipe>>,
}

/// The client's side.
#[derive(Debug)]
pub(super) struct Client {
    pipe: Arc<Mutex<Pipe>>,
}

impl Client {
    pub(super) fn send(&self, bytes: &[u8]) {
        let mut pipe = self.pipe.lock().unwrap();
        pipe.to_endpoint.extend(bytes);
        wake(pipe, |pipe| &mut pipe.reader);
    }

    pub(super) fn end(&self) {
        let mut pipe = self.pipe.lock().unwrap();
        pipe.client_ended = true;
        wake(pipe, |pipe| &mut pipe.reader);
    }

    /// Takes so many bytes more.
    pub(super) fn makes_room(&self, bytes: usize) {
        let mut pipe = self.pipe.lock().unwrap();
        pipe.room += bytes;
        wake(pipe, |pipe| &mut pipe.writer);
    }

    /// What has come.
    pub(super) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.pipe.lock().unwrap().to_client)).expect("in letters")
    }

    /// Whether the endpoint has said that nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.pipe.lock().unwrap().ended
    }

    /// Whether the endpoint is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.pipe.lock().unwrap().dropped
    }
}

fn wake(mut pipe: MutexGuard<'_, Pipe>, which: impl Fn(&mut Pipe) -> &mut Option<Waker>) {
    let waker = which(&mut pipe).take();
    drop(pipe);
    waker.into_iter().for_each(Waker::wake);
}

impl Stream for Wire {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.pipe.lock().unwrap();
        if pipe.to_endpoint.is_empty() && !pipe.client_ended {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.len().min(pipe.to_endpoint.len());
        buffer.iter_mut().zip(pipe.to_endpoint.drain(..count)).for_each(|(to, from)| *to = from);
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.pipe.lock().unwrap();
        let count = bytes.len().min(pipe.room);
        if count == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.room -= count;
        pipe.to_client.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.lock().unwrap().ended = true;
        Poll::Ready(Ok(()))
    }

    fn peek(&self) -> Peek {
        if self.pipe.lock().unwrap().to_endpoint.is_empty() { Peek::Quiet } else { Peek::Readable }
    }

    fn abort_handle(&self) -> Arc<dyn Abort> {
        unreachable!("an endpoint asks for none")
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.pipe.lock().unwrap().dropped = true;
    }
}
