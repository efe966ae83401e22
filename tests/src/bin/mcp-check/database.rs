//! The database of the check, which does as it is told.

use pgweir_tests::{Client, LIMIT, LocalPostgres, Result, poll_until};

/// The sessions of the server under test.
const NAME: &str = "mcp-check";

/// A PostgreSQL, and a session that can take the example's table away from everybody.
pub(crate) struct Database {
    server: LocalPostgres,
    lock: Option<Client>,
}

impl Database {
    pub(crate) fn start() -> Result<Database> {
        Ok(Database { server: LocalPostgres::start()?, lock: None })
    }

    pub(crate) fn url(&self) -> String {
        format!("{}?application_name={NAME}", self.server.url())
    }

    /// Does what the client asks for: `ok`, or what went wrong.
    pub(crate) fn obey(&mut self, command: &str) -> String {
        match self.run(command) {
            Ok(true) => "ok".to_owned(),
            Ok(false) => format!("{command}: not within {LIMIT:?}"),
            Err(error) => format!("{command}: {error}").replace('\n', " "),
        }
    }

    fn run(&mut self, command: &str) -> Result<bool> {
        match command {
            "crash" => self.server.crash()?,
            "start" => self.server.start_again()?,
            "lock" => {
                let mut session = self.server.client()?;
                session.query("BEGIN; LOCK TABLE code_search.file IN ACCESS EXCLUSIVE MODE")?;
                self.lock = Some(session);
            }
            "unlock" => self.lock = None,
            "wait-for-blocked" => {
                return Ok(self.wait(|wait_events| wait_events.iter().any(|at| at.starts_with("Lock/"))));
            }
            "wait-for-none" => return Ok(self.wait(|wait_events| wait_events.is_empty())),
            _ => return Err(pgweir_tests::Error::Protocol(format!("the client asks for {command:?}"))),
        }
        Ok(true)
    }

    /// Waits until what the sessions wait for is as it should be.
    fn wait(&self, is_right: impl Fn(&[String]) -> bool) -> bool {
        let wait_events = |backends: Vec<pgweir_tests::Backend>| -> Vec<String> {
            backends.into_iter().map(|backend| backend.wait_event).collect()
        };
        poll_until(LIMIT, || self.server.backends(NAME).is_ok_and(|backends| is_right(&wait_events(backends))))
    }
}
