//! The database of a suite, real or simulated.

use std::sync::OnceLock;

use crate::{LocalPostgres, Signal};

/// A database that tests share and do no harm: what they see of it from outside.
pub trait Database: Clone + Send + Sync + 'static {
    /// The URL of it.
    fn url(&self) -> String;
    /// The process ids of the sessions of this name, in ascending order.
    fn sessions(&self, application_name: &str) -> Vec<i32>;
    /// Ends a session, as an administrator does (57P01).
    fn terminate(&self, pid: i32);
}

/// A PostgreSQL server of this process's own. (Its watcher ends it after the last test.)
#[derive(Clone, Copy, Debug)]
pub struct RealPostgres;

impl RealPostgres {
    /// The server.
    pub fn server(self) -> &'static LocalPostgres {
        static SERVER: OnceLock<LocalPostgres> = OnceLock::new();
        SERVER.get_or_init(|| LocalPostgres::builder().max_connections(300).start().expect("a server"))
    }
}

impl Database for RealPostgres {
    fn url(&self) -> String {
        self.server().url()
    }

    fn sessions(&self, application_name: &str) -> Vec<i32> {
        let backends = self.server().backends(application_name).expect("the server answers");
        let mut pids: Vec<i32> = backends.into_iter().map(|backend| backend.pid as i32).collect();
        pids.sort_unstable();
        pids
    }

    fn terminate(&self, pid: i32) {
        self.server().kill_backend(pid as u32, Signal::TERM).expect("a signal is sent");
    }
}
