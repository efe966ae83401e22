//! Talking to the server: addresses, and the test's own sessions.

use super::LocalPostgres;
use crate::wait::LIMIT;
use crate::{Client, ClientConfig, Endpoint, Error, Result, Row};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// A client's backend, as `pg_stat_activity` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The process id.
    pub pid: u32,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// What the client called itself.
    pub application_name: String,
    /// `active`, `idle`, `idle in transaction` and so on; empty while starting.
    pub state: String,
    /// What it waits for, `type/event`; empty when it does not.
    pub wait_event: String,
    /// The current or last statement.
    pub query: String,
}

impl LocalPostgres {
    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port.number()
    }

    /// The address of TCP.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// The folder of the Unix socket: libpq's `host` for it.
    pub fn socket_dir(&self) -> PathBuf {
        self.socket_folder().to_owned()
    }

    /// The Unix socket itself.
    pub fn socket_path(&self) -> PathBuf {
        self.socket_folder().join(format!(".s.PGSQL.{}", self.port()))
    }

    /// The superuser's name.
    pub fn user(&self) -> &str {
        "postgres"
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The URL of the superuser in the database `postgres`, over TCP.
    pub fn url(&self) -> String {
        self.url_with(self.user(), &self.password, "postgres")
    }

    /// A URL over TCP for somebody else.
    pub fn url_with(&self, user: &str, password: &str, database: &str) -> String {
        url(user, password, &self.address().to_string(), database)
    }

    /// The superuser's URL through something that listens on another port of 127.0.0.1: a [`Proxy`](crate::Proxy).
    pub fn url_via(&self, port: u16) -> String {
        url(self.user(), &self.password, &format!("127.0.0.1:{port}"), "postgres")
    }

    /// The superuser's URL over the Unix socket, its folder percent-encoded in the host's place, as libpq takes it.
    pub fn unix_url(&self) -> String {
        let folder = encode(&self.socket_folder().display().to_string());
        url(self.user(), &self.password, &format!("{folder}:{}", self.port()), "postgres")
    }

    /// What [`Client::connect`] needs for the superuser, over TCP.
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig {
            endpoint: Endpoint::Tcp(self.address()),
            user: self.user().to_owned(),
            password: self.password.clone(),
            database: "postgres".to_owned(),
            application_name: "testkit".to_owned(),
            timeout: LIMIT,
        }
    }

    /// A session of the superuser, for whom the server keeps connections in reserve.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn client(&self) -> Result<Client> {
        Client::connect(&self.client_config())
    }

    /// Runs statements in a session of their own, as the superuser.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub fn query(&self, sql: &str) -> Result<Vec<Row>> {
        self.client()?.query(sql)
    }

    /// As [`LocalPostgres::query`], with the rows as `psql -At` prints them: one a line, columns joined by `|`.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub fn psql(&self, sql: &str) -> Result<String> {
        let line = |row: Row| row.0.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join("|");
        Ok(self.query(sql)?.into_iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    /// The backends of clients with this application name, or of all but the one that looks if it is empty, in the order
    /// of their start.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub fn backends(&self, application_name: &str) -> Result<Vec<Backend>> {
        let name = application_name.replace('\'', "''");
        let rows = self.query(&format!(
            "SELECT pid, usename, datname, application_name, state, wait_event_type || '/' || wait_event, query
             FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
               AND ('{name}' = '' OR application_name = '{name}')
             ORDER BY backend_start, pid"
        ))?;
        let backend = |row: Row| {
            let pid = row.text(0).parse().map_err(|_| Error::Protocol(format!("process id {:?}", row.text(0))))?;
            Ok(Backend {
                pid,
                user: row.text(1).to_owned(),
                database: row.text(2).to_owned(),
                application_name: row.text(3).to_owned(),
                state: row.text(4).to_owned(),
                wait_event: row.text(5).to_owned(),
                query: row.text(6).to_owned(),
            })
        };
        rows.into_iter().map(backend).collect()
    }

    /// Waits up to a minute until exactly `count` backends have this application name.
    ///
    /// # Panics
    /// If it does not come to that, with what there is and the end of the log.
    #[track_caller]
    pub fn wait_for_backends(&self, application_name: &str, count: usize) {
        let mut seen = Ok(Vec::new());
        let reached = crate::poll_until(LIMIT, || {
            seen = self.backends(application_name);
            seen.as_ref().is_ok_and(|backends| backends.len() == count)
        });
        assert!(reached, "{count} backends of {application_name:?} expected, seen {seen:?}\n{}", self.log_tail());
    }

    /// Makes the server read its configuration again (SIGHUP) and waits until new sessions see it.
    ///
    /// # Errors
    /// If the server cannot be asked, or [`Error::Timeout`].
    pub fn reload(&self) -> Result<()> {
        // Asked in a session that is there before, so that a change of the authentication cannot lock us out.
        let mut session = self.client()?;
        let loaded = "SELECT pg_conf_load_time()";
        let before = session.query(loaded)?;
        session.query("SELECT pg_reload_conf()")?;
        let mut last = Ok(Vec::new());
        let done = crate::poll_until(LIMIT, || {
            last = session.query(loaded);
            last.as_ref().map_or(true, |now| *now != before)
        });
        last?;
        if done { Ok(()) } else { Err(self.timeout("a reload of the configuration")) }
    }
}

fn url(user: &str, password: &str, host: &str, database: &str) -> String {
    format!("postgresql://{}:{}@{host}/{}", encode(user), encode(password), encode(database))
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if unreserved(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_encoded() {
        assert_eq!(
            url("a b", "p@ss/w:rd", "127.0.0.1:1", "ü"),
            "postgresql://a%20b:p%40ss%2Fw%3Ard@127.0.0.1:1/%C3%BC"
        );
    }
}
