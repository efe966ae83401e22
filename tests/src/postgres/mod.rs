//! Throw-away PostgreSQL servers.

mod binaries;
mod builder;
pub(crate) mod install;
mod postmaster;
mod session;
mod template;
pub(crate) mod user;
mod watcher;

pub use builder::{Auth, LocalPostgresBuilder};
pub use session::Backend;

use crate::ports::Port;
use crate::wait::LIMIT;
use crate::{Error, Result, Signal, processes};
use binaries::Binaries;
use postmaster::Postmaster;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, fs};
use user::RunAs;
use watcher::Watcher;

/// How to stop a server, named as in `pg_ctl stop -m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// SIGTERM: takes no new sessions and waits until every client has left.
    Smart,
    /// SIGINT: ends the sessions (57P01), rolls back, checkpoints.
    Fast,
    /// SIGQUIT: the backends quit at once (a warning 57P01, then the end); the next start recovers.
    Immediate,
}

impl StopMode {
    fn signal(self) -> Signal {
        match self {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        }
    }
}

/// A throw-away PostgreSQL server on 127.0.0.1 and on a Unix socket.
///
/// The binaries are those of `PG_BIN`, else of `pg_config --bindir`, else of the newest version in the usual folders,
/// else of the PATH. As root the server runs as the user `postgres` (or `nobody`), because PostgreSQL refuses root; as
/// root on Debian or Ubuntu without PostgreSQL it is installed with apt-get, and stderr says so.
///
/// The cluster is a folder of its own in the system's temporary folder. Dropping this kills the server and removes the
/// folder, after a panic as well. If the process ends without dropping (`exit`, an abort, SIGKILL), a watcher does the
/// same: a `sh` that waits for the end of a pipe from this process. Ctrl-C reaches neither the server nor the watcher
/// directly.
///
/// The port stays reserved while the server is stopped: no other user of this testkit takes it, and it lies outside the
/// range that the kernel hands out.
///
/// Methods take `&self` and may be used from several threads. Those that wait do so for up to a minute.
pub struct LocalPostgres {
    server: Server,
    password: String,
    state: Mutex<State>,
}

impl fmt::Debug for LocalPostgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalPostgres")
            .field("server", &self.server)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Server {
    folder: PathBuf,
    binaries: Binaries,
    run_as: Option<RunAs>,
    port: Port,
}

#[derive(Debug)]
struct State {
    postmaster: Option<Postmaster>,
    paused: bool,
    watcher: Watcher,
}

impl LocalPostgres {
    /// Starts a server with the defaults: trust authentication, 100 connections, no durability.
    ///
    /// # Errors
    /// As [`LocalPostgresBuilder::start`].
    pub fn start() -> Result<LocalPostgres> {
        LocalPostgres::builder().start()
    }

    /// A server with other settings.
    pub fn builder() -> LocalPostgresBuilder {
        LocalPostgresBuilder::default()
    }

    /// What `postgres --version` says.
    pub fn version(&self) -> &str {
        &self.server.binaries.version
    }

    /// The folder of this server: `data` is the cluster, `log` the log, the Unix socket is in it.
    pub fn folder(&self) -> &Path {
        &self.server.folder
    }

    /// The process id of the postmaster, if the server runs.
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.state().live().map(|postmaster| postmaster.pid())
    }

    /// Whether the postmaster's process lives (paused or not).
    pub fn is_running(&self) -> bool {
        self.postmaster_pid().is_some()
    }

    /// Starts a stopped or crashed server again, on the same port, and waits until it accepts connections. Does nothing
    /// but wait if it runs.
    ///
    /// # Errors
    /// [`Error::Failed`] with the end of the log, or [`Error::Timeout`] after a minute.
    pub fn start_again(&self) -> Result<()> {
        self.begin_start()?;
        self.wait_ready()
    }

    /// Starts a stopped server without waiting: it answers 57P03 until it is ready.
    ///
    /// # Errors
    /// If its program cannot be run.
    pub fn begin_start(&self) -> Result<()> {
        let mut state = self.state();
        if state.live().is_some() {
            return Ok(());
        }
        let postmaster = self.spawn_postmaster()?;
        state.watcher.watch(Some(postmaster.pid()));
        state.postmaster = Some(postmaster);
        state.paused = false;
        Ok(())
    }

    /// Waits until the server accepts connections.
    ///
    /// # Errors
    /// As [`LocalPostgres::start_again`].
    pub fn wait_ready(&self) -> Result<()> {
        let data = self.data();
        let outcome = self.poll(LIMIT, |state| match state.postmaster.as_mut() {
            None => Some(Err("the server was not started".to_owned())),
            Some(postmaster) => match postmaster.ended() {
                Some(status) => Some(Err(format!("the server ended while starting: {status}"))),
                None => postmaster.is_ready(&data).then_some(Ok(())),
            },
        });
        match outcome {
            Some(Ok(())) => Ok(()),
            Some(Err(what)) => Err(Error::Failed { what, output: self.log_tail() }),
            None => Err(self.timeout("a server that accepts connections")),
        }
    }

    /// Stops the server and waits until its process has ended. A paused server is resumed for it.
    ///
    /// # Errors
    /// [`Error::Timeout`] after a minute, which with [`StopMode::Smart`] means that clients have stayed.
    pub fn stop(&self, mode: StopMode) -> Result<()> {
        self.begin_stop(mode)?;
        self.wait_stopped(LIMIT)
    }

    /// [`LocalPostgres::stop`] in mode fast.
    ///
    /// # Errors
    /// As there.
    pub fn stop_fast(&self) -> Result<()> {
        self.stop(StopMode::Fast)
    }

    /// [`LocalPostgres::stop`] in mode smart.
    ///
    /// # Errors
    /// As there.
    pub fn stop_smart(&self) -> Result<()> {
        self.stop(StopMode::Smart)
    }

    /// [`LocalPostgres::stop`] in mode immediate.
    ///
    /// # Errors
    /// As there.
    pub fn stop_immediate(&self) -> Result<()> {
        self.stop(StopMode::Immediate)
    }

    /// Tells the server to stop without waiting: until it has, it answers 57P03 ("shutting down").
    ///
    /// # Errors
    /// If it cannot be signalled.
    pub fn begin_stop(&self, mode: StopMode) -> Result<()> {
        let mut state = self.state();
        state.resume()?;
        state.live().map_or(Ok(()), |postmaster| postmaster.signal(mode.signal()))
    }

    /// Waits until the server's process has ended.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `limit`.
    pub fn wait_stopped(&self, limit: Duration) -> Result<()> {
        let ended = self.poll(limit, |state| state.live().is_none().then_some(()));
        ended.ok_or_else(|| Error::Timeout {
            what: "the end of the server's process".into(),
            limit,
            detail: self.log_tail(),
        })
    }

    /// Kills the postmaster and every backend with SIGKILL, as a power cut would, and waits until they are gone. The
    /// next start recovers.
    ///
    /// # Errors
    /// If they cannot be signalled.
    pub fn crash(&self) -> Result<()> {
        let mut state = self.state();
        state.paused = false;
        let outcome = state.live().map_or(Ok(()), Postmaster::kill);
        state.live();
        outcome
    }

    /// [`LocalPostgres::stop_fast`], then [`LocalPostgres::start_again`].
    ///
    /// # Errors
    /// As those.
    pub fn restart(&self) -> Result<()> {
        self.stop_fast()?;
        self.start_again()
    }

    /// Stops the postmaster and all its processes in their tracks (SIGSTOP): connections stay open, the kernel still
    /// accepts new ones, and nobody answers.
    ///
    /// # Errors
    /// If they cannot be signalled.
    pub fn pause(&self) -> Result<()> {
        let mut state = self.state();
        if let Some(postmaster) = state.live() {
            postmaster.freeze()?;
            state.paused = true;
        }
        Ok(())
    }

    /// Ends a pause (SIGCONT).
    ///
    /// # Errors
    /// If they cannot be signalled.
    pub fn resume(&self) -> Result<()> {
        self.state().resume()
    }

    /// Sends a signal to one backend; false if there is no such process. Anything but a child of this server is
    /// refused. SIGKILL makes the postmaster end all others too (57P02) and recover.
    ///
    /// # Errors
    /// If the process is not one of this server's, or cannot be signalled.
    pub fn kill_backend(&self, pid: u32, signal: Signal) -> Result<bool> {
        let Some(postmaster) = self.postmaster_pid() else { return Ok(false) };
        if !processes::is_alive(pid) {
            return Ok(false);
        }
        if !processes::children(postmaster).iter().any(|child| child.pid == pid) {
            let source = std::io::Error::other("it is no process of this server");
            return Err(Error::io(format!("signal process {pid}"))(source));
        }
        processes::send(pid, signal)
    }

    /// Writes a setting into the configuration; it counts after [`LocalPostgres::reload`], or after a restart if it is
    /// one of those that need one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn configure(&self, name: &str, value: impl ToString) -> Result<()> {
        self.append_configuration(&builder::setting_line(name, &value.to_string()))
    }

    /// Changes how everybody authenticates, and drops the builder's extra lines; counts after
    /// [`LocalPostgres::reload`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_auth(&self, auth: Auth, first_lines: &[String]) -> Result<()> {
        self.write_hba(auth, first_lines)
    }

    /// The end of the server's log, for messages of failed tests.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("--- log of the server on port {} ---\n{tail}", self.port())
    }

    /// The whole log of the server, over all its starts.
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits up to a minute until `condition` holds.
    ///
    /// # Panics
    /// If it does not, with the end of the server's log.
    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(crate::poll_until(LIMIT, condition), "{what}: not within {LIMIT:?}\n{}", self.log_tail());
    }

    /// Whom the server's programs run as.
    pub(crate) fn run_as(&self) -> Option<&RunAs> {
        self.server.run_as.as_ref()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere must not keep the server from being stopped.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks again and again, giving the lock back in between.
    fn poll<T>(&self, limit: Duration, mut ask: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut found = None;
        crate::poll_until(limit, || {
            found = ask(&mut self.state());
            found.is_some()
        });
        found
    }

    fn timeout(&self, what: &str) -> Error {
        Error::Timeout { what: what.into(), limit: LIMIT, detail: self.log_tail() }
    }

    fn data(&self) -> PathBuf {
        self.server.folder.join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.server.folder.join("log")
    }

    fn socket_folder(&self) -> &Path {
        &self.server.folder
    }
}

impl State {
    /// The postmaster, if its process lives; forgets one that has ended.
    fn live(&mut self) -> Option<&mut Postmaster> {
        if self.postmaster.as_mut().is_some_and(|postmaster| postmaster.ended().is_some()) {
            self.postmaster = None;
            self.paused = false;
            self.watcher.watch(None);
        }
        self.postmaster.as_mut()
    }

    fn resume(&mut self) -> Result<()> {
        if std::mem::take(&mut self.paused)
            && let Some(postmaster) = self.live()
        {
            return postmaster.thaw();
        }
        Ok(())
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        let data = self.data();
        let folder = self.server.folder.clone();
        let mut state = self.state();
        // Each step is tried whatever became of the one before it: a test's end must leave nothing behind.
        let _ = state.resume();
        if let Some(postmaster) = state.live() {
            let _ = postmaster.signal(Signal::QUIT);
            if !postmaster.wait_ended(Duration::from_secs(10)) {
                let _ = postmaster.kill();
            }
        }
        postmaster::remove_shared_memory(&data);
        let removed = fs::remove_dir_all(&folder).is_ok() || !folder.exists();
        if state.live().is_none() && removed {
            state.watcher.dismiss();
        }
    }
}
