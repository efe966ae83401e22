// A complete runtime: one thread that polls every task, timer and socket, on the standard library, socket2 and poll(2).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use pgweir_core::os;
use pgweir_core::runtime::{Abort, Address, Peek, Runtime, Stream, Timer};
use pgweir_core::time::Instant;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};

/// The runtime. All handles are the same one; its thread starts with the first and ends with the process.
#[derive(Clone)]
pub struct OneThread {
    shared: Arc<Shared>,
}

struct Shared {
    tasks: Mutex<VecDeque<Arc<Task>>>,
    timers: Mutex<BTreeMap<(Instant, u64), Waker>>,
    waits: Mutex<BTreeMap<u64, Wait>>,
    next_id: AtomicU64,
    /// Wakes the thread out of poll(2): one byte at a time.
    bell: UnixStream,
    is_rung: AtomicBool,
}

/// Who waits for a socket, by direction.
struct Wait {
    socket: Arc<Socket>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl OneThread {
    fn start() -> io::Result<Self> {
        os::prepare_clock();
        let (bell, heard) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            tasks: Mutex::default(),
            timers: Mutex::default(),
            waits: Mutex::default(),
            next_id: AtomicU64::new(0),
            bell,
            is_rung: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("one-thread".to_owned()).spawn(move || of_thread.run(&heard))?;
        Ok(OneThread { shared })
    }

    fn id(&self) -> u64 {
        self.shared.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

impl Runtime for OneThread {
    type Stream = OneStream;
    type Timer = OneTimer;

    fn current() -> Self {
        static RUNTIME: OnceLock<OneThread> = OnceLock::new();
        RUNTIME.get_or_init(|| OneThread::start().expect("a thread and a pair of sockets")).clone()
    }

    fn now(&self) -> Instant {
        os::now()
    }

    fn unix_time(&self) -> Duration {
        os::unix_time()
    }

    fn seed(&self) -> u64 {
        os::seed()
    }

    fn timer(&self, deadline: Instant) -> OneTimer {
        OneTimer { shared: Arc::clone(&self.shared), deadline, id: self.id() }
    }

    fn spawn(&self, _name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let future = Mutex::new(Some(Box::pin(task) as Pin<Box<dyn Future<Output = ()> + Send>>));
        Arc::new(Task { future, is_queued: AtomicBool::new(false), shared: Arc::clone(&self.shared) }).wake();
    }

    /// The standard library's resolver blocks, so it has a thread of its own.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let answer = Arc::new(Mutex::new((None, None::<Waker>)));
        let (name, to_give) = (host.to_owned(), Arc::clone(&answer));
        thread::Builder::new().spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
            let waker = {
                let mut answer = lock(&to_give);
                answer.0 = Some(found);
                answer.1.take()
            };
            waker.into_iter().for_each(Waker::wake);
        })?;
        poll_fn(|cx| {
            let mut answer = lock(&answer);
            match answer.0.take() {
                Some(found) => Poll::Ready(found),
                None => {
                    answer.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    async fn connect(&self, address: &Address) -> io::Result<OneStream> {
        let stream = |socket| OneStream { shared: Arc::clone(&self.shared), id: self.id(), socket: Arc::new(socket) };
        let (address, options) = match address {
            Address::Tcp(address, options) => (*address, options),
            Address::Unix(path) => return Ok(stream(Socket::from(os::connect_unix(path)?))),
        };
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        // From here on a drop closes it.
        let stream = stream(socket);
        match stream.socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => stream.connected().await?,
            result => result?,
        }
        os::set_up_tcp(&SockRef::from(&*stream.socket), options)?;
        Ok(stream)
    }
}

impl fmt::Debug for OneThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneThread").finish_non_exhaustive()
    }
}

impl Shared {
    /// The thread.
    fn run(&self, heard: &UnixStream) {
        loop {
            // In this order: a ring from now on is heard by the next poll, one from before has its work in the queues.
            while (&mut &*heard).read(&mut [0; 64]).is_ok() {}
            self.is_rung.store(false, Ordering::SeqCst);
            let batch = std::mem::take(&mut *lock(&self.tasks));
            batch.iter().for_each(|task| task.run());
            // Not within the statement above: a task's end may run its owner's code.
            drop(batch);
            let next = self.fire_timers();
            self.wait_for_sockets(heard, next);
        }
    }

    /// Makes the thread look at what has changed.
    fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::SeqCst) {
            // There is always room for the one byte.
            let _ = (&self.bell).write(&[1]);
        }
    }

    /// Wakes whoever is due. Until when the thread may sleep.
    fn fire_timers(&self) -> Option<Instant> {
        let now = os::now();
        let (due, next) = {
            let mut timers = lock(&self.timers);
            let later = timers.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut *timers, later);
            (due, timers.keys().next().map(|(at, _)| *at))
        };
        due.into_values().for_each(Waker::wake);
        next
    }

    fn wait_for_sockets(&self, heard: &UnixStream, next: Option<Instant>) {
        let waits: Vec<(u64, Arc<Socket>, PollFlags)> =
            lock(&self.waits).iter().map(|(id, wait)| (*id, Arc::clone(&wait.socket), wait.flags())).collect();
        let mut fds = vec![PollFd::new(heard, PollFlags::IN)];
        fds.extend(waits.iter().map(|(_, socket, flags)| PollFd::new(&**socket, *flags)));
        let left = next.map(|next| Timespec::try_from(next - os::now()).expect("within range"));
        // An error is an interruption: then nothing is ready.
        let _ = poll(&mut fds, left.as_ref());
        let seen: Vec<PollFlags> = fds.iter().skip(1).map(PollFd::revents).collect();
        for ((id, ..), seen) in waits.iter().zip(seen) {
            self.wake_waiting(*id, seen);
        }
    }

    fn wake_waiting(&self, id: u64, seen: PollFlags) {
        let ended = seen.intersects(PollFlags::ERR | PollFlags::HUP);
        let mut waits = lock(&self.waits);
        let Some(wait) = waits.get_mut(&id) else { return };
        let reader = wait.reader.take_if(|_| ended || seen.intersects(PollFlags::IN));
        let writer = wait.writer.take_if(|_| ended || seen.intersects(PollFlags::OUT));
        if wait.reader.is_none() && wait.writer.is_none() {
            waits.remove(&id);
        }
        drop(waits);
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }
}

impl Wait {
    fn flags(&self) -> PollFlags {
        let reads = if self.reader.is_some() { PollFlags::IN } else { PollFlags::empty() };
        let writes = if self.writer.is_some() { PollFlags::OUT } else { PollFlags::empty() };
        reads | writes
    }
}

struct Task {
    /// Gone when it has ended.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    is_queued: AtomicBool,
    shared: Arc<Shared>,
}

impl Task {
    /// Polls it once. A panic ends the task and not the thread.
    fn run(self: &Arc<Self>) {
        self.is_queued.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(self));
        let mut slot = lock(&self.future);
        let Some(future) = &mut *slot else { return };
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        if !matches!(polled, Ok(Poll::Pending)) {
            let ended = slot.take();
            drop(slot);
            let _ = catch_unwind(AssertUnwindSafe(|| drop(ended)));
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::SeqCst) {
            let shared = Arc::clone(&self.shared);
            lock(&shared.tasks).push_back(self);
            shared.ring();
        }
    }
}

/// A timer: an entry in the thread's list while somebody waits for it.
pub struct OneTimer {
    shared: Arc<Shared>,
    deadline: Instant,
    id: u64,
}

impl OneTimer {
    fn forget(&self) {
        let stale = lock(&self.shared.timers).remove(&(self.deadline, self.id));
        // Not under the lock: a waker may own a task, and with it other timers.
        drop(stale);
    }
}

impl Future for OneTimer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if os::now() >= self.deadline {
            self.forget();
            return Poll::Ready(());
        }
        let stale = lock(&self.shared.timers).insert((self.deadline, self.id), cx.waker().clone());
        drop(stale);
        self.shared.ring();
        Poll::Pending
    }
}

impl Timer for OneTimer {
    fn reset(&mut self, deadline: Instant) {
        self.forget();
        self.deadline = deadline;
    }
}

impl Drop for OneTimer {
    fn drop(&mut self) {
        self.forget();
    }
}

/// A socket: an entry in the thread's list while somebody waits for it.
pub struct OneStream {
    shared: Arc<Shared>,
    id: u64,
    socket: Arc<Socket>,
}

impl OneStream {
    /// Waits for the end of a connect.
    async fn connected(&self) -> io::Result<()> {
        poll_fn(|cx| {
            if let Some(error) = self.socket.take_error()? {
                return Poll::Ready(Err(error));
            }
            match self.socket.peer_addr() {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    self.wait(|wait| wait.writer.replace(cx.waker().clone()));
                    Poll::Pending
                }
                result => Poll::Ready(result.map(drop)),
            }
        })
        .await
    }

    /// Registers a waker, in the place of the one from the poll before.
    fn wait(&self, register: impl FnOnce(&mut Wait) -> Option<Waker>) {
        let stale = {
            let mut waits = lock(&self.shared.waits);
            let new = || Wait { socket: Arc::clone(&self.socket), reader: None, writer: None };
            register(waits.entry(self.id).or_insert_with(new))
        };
        drop(stale);
        self.shared.ring();
    }
}

impl Stream for OneStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match (&*self.socket).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(|wait| wait.reader.replace(cx.waker().clone()));
                    return Poll::Pending;
                }
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match (&*self.socket).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(|wait| wait.writer.replace(cx.waker().clone()));
                    return Poll::Pending;
                }
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }

    fn peek(&self) -> Peek {
        os::peek(&SockRef::from(&*self.socket))
    }

    fn abort_handle(&self) -> Arc<dyn Abort> {
        Arc::new(OneAbort(Arc::clone(&self.socket)))
    }
}

impl Drop for OneStream {
    fn drop(&mut self) {
        let wait = lock(&self.shared.waits).remove(&self.id);
        if wait.is_some() {
            // The thread may be in poll(2) with the socket in its hands.
            self.shared.ring();
        }
    }
}

impl fmt::Debug for OneStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneStream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct OneAbort(Arc<Socket>);

impl Abort for OneAbort {
    fn abort(&self) {
        os::abort(&SockRef::from(&*self.0));
    }
}

/// Runs a future on the calling thread, for `main` and for tests. (The pool does not need it.)
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
