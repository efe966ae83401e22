//! How a server is to be set up.

use super::LocalPostgres;
use super::binaries::Binaries;
use super::postmaster::Postmaster;
use super::template::{self, PASSWORD};
use super::user::{self, RunAs};
use super::watcher::Watcher;
use super::{Server, State};
use crate::ports::Port;
use crate::state;
use crate::{Error, Result};
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// How the server authenticates everybody, over TCP and over the Unix socket (the method of `pg_hba.conf`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// No password is asked for.
    #[default]
    Trust,
    /// The password in clear text.
    Password,
    /// MD5; passwords are also stored that way, since the server would ask for SCRAM otherwise.
    Md5,
    /// SCRAM-SHA-256.
    ScramSha256,
}

impl Auth {
    pub(super) fn method(self) -> &'static str {
        match self {
            Auth::Trust => "trust",
            Auth::Password => "password",
            Auth::Md5 => "md5",
            Auth::ScramSha256 => "scram-sha-256",
        }
    }
}

/// Sets up and starts a [`LocalPostgres`].
#[derive(Clone)]
pub struct LocalPostgresBuilder {
    auth: Auth,
    password: String,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    tls: Option<(String, String)>,
    binaries: Option<PathBuf>,
}

impl fmt::Debug for LocalPostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalPostgresBuilder")
            .field("auth", &self.auth)
            .field("settings", &self.settings)
            .field("hba", &self.hba)
            .field("tls", &self.tls.is_some())
            .field("binaries", &self.binaries)
            .finish_non_exhaustive()
    }
}

impl Default for LocalPostgresBuilder {
    fn default() -> Self {
        let settings = [
            ("listen_addresses", "127.0.0.1"),
            // A commit need not survive the machine, only the server (so synchronous_commit stays on: a commit that was
            // answered is there after a crash).
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
            ("autovacuum", "off"),
            ("shared_buffers", "16MB"),
            ("max_connections", "100"),
            ("jit", "off"),
            // In files, so that a killed server leaves nothing behind outside its folder.
            ("dynamic_shared_memory_type", "mmap"),
            ("unix_socket_permissions", "0777"),
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
            ("log_line_prefix", "%m [%p] %q%u@%d/%a "),
            ("lc_messages", "C"),
        ];
        LocalPostgresBuilder {
            auth: Auth::default(),
            password: PASSWORD.to_owned(),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            hba: Vec::new(),
            tls: None,
            binaries: None,
        }
    }
}

impl LocalPostgresBuilder {
    /// How everybody authenticates; trust unless told.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// The password of the superuser `postgres`.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = password.into();
        self
    }

    /// One setting of `postgresql.conf`; the last one of a name counts.
    pub fn setting(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// The setting `max_connections`, three of which are the superuser's.
    pub fn max_connections(self, count: u32) -> Self {
        self.setting("max_connections", count)
    }

    /// A line for `pg_hba.conf` before those of the authentication method, for example
    /// `host all intruder 127.0.0.1/32 reject`.
    pub fn hba_line(mut self, line: impl Into<String>) -> Self {
        self.hba.push(line.into());
        self
    }

    /// Offers TLS with this certificate and key (PEM).
    pub fn tls(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.tls = Some((certificate.into(), key.into()));
        self
    }

    /// The folder with `postgres` and `initdb`, instead of the search that [`LocalPostgres`] describes.
    pub fn binaries(mut self, folder: impl Into<PathBuf>) -> Self {
        self.binaries = Some(folder.into());
        self
    }

    /// Makes the cluster and starts the server; returns when it accepts connections.
    ///
    /// # Errors
    /// [`Error::NoPostgres`] with the command that installs it, [`Error::Failed`] with the end of the log, or the
    /// operating system's refusal.
    pub fn start(self) -> Result<LocalPostgres> {
        let mut run_as = user::server_user()?;
        let binaries = match &self.binaries {
            Some(folder) => Binaries::at(folder, run_as.as_ref())?,
            None => Binaries::find(run_as.as_ref())?,
        };
        // An installation brings the user `postgres` with it.
        run_as = user::server_user()?;
        let server = self.prepare(binaries, run_as)?;
        server.first_start(&self)?;
        Ok(server)
    }

    fn prepare(&self, binaries: Binaries, run_as: Option<RunAs>) -> Result<LocalPostgres> {
        let base = state::base_folder(run_as.is_some());
        let folder = tempfile::Builder::new()
            .prefix("pgw")
            .rand_bytes(8)
            .tempdir_in(&base)
            .map_err(Error::io(format!("make a folder in {}", base.display())))?;
        template::give(folder.path(), run_as.as_ref())?;
        let data = folder.path().join("data");
        template::instantiate(&binaries, run_as.as_ref(), self.auth, &base, &data)?;
        if let Some((certificate, key)) = &self.tls {
            write_for_server(&data.join("server.crt"), certificate, run_as.as_ref())?;
            write_for_server(&data.join("server.key"), key, run_as.as_ref())?;
        }
        let watcher = Watcher::start(folder.path())?;
        let server = Server { folder: folder.keep(), binaries, run_as, port: Port::reserve()? };
        Ok(LocalPostgres {
            server,
            password: self.password.clone(),
            state: Mutex::new(State { postmaster: None, paused: false, watcher }),
        })
    }
}

impl LocalPostgres {
    fn first_start(&self, wanted: &LocalPostgresBuilder) -> Result<()> {
        let mut text = String::from("\n# pgweir-tests\n");
        for (name, value) in &wanted.settings {
            text.push_str(&setting_line(name, value));
        }
        text.push_str(&setting_line("port", &self.port().to_string()));
        text.push_str(&setting_line("unix_socket_directories", &self.socket_folder().display().to_string()));
        let encryption = if wanted.auth == Auth::Md5 { "md5" } else { "scram-sha-256" };
        text.push_str(&setting_line("password_encryption", encryption));
        if wanted.tls.is_some() {
            text.push_str(&setting_line("ssl", "on"));
        }
        self.append_configuration(&text)?;
        self.write_hba(wanted.auth, &wanted.hba)?;
        self.start_again()?;
        if wanted.password != PASSWORD {
            let config = crate::ClientConfig { password: PASSWORD.to_owned(), ..self.client_config() };
            let literal = wanted.password.replace('\'', "''");
            crate::Client::connect(&config)?.query(&format!(
                "SET standard_conforming_strings = on; SET log_statement = none; \
                 ALTER ROLE postgres PASSWORD '{literal}'"
            ))?;
        }
        Ok(())
    }

    pub(super) fn write_hba(&self, auth: Auth, first: &[String]) -> Result<()> {
        let method = auth.method();
        let mut text: String = first.iter().map(|line| format!("{line}\n")).collect();
        text.push_str(&format!(
            "local all all {method}\nhost all all 127.0.0.1/32 {method}\nhost all all ::1/128 {method}\n"
        ));
        write_for_server(&self.data().join("pg_hba.conf"), &text, self.server.run_as.as_ref())
    }

    pub(super) fn append_configuration(&self, text: &str) -> Result<()> {
        use std::io::Write;
        let path = self.data().join("postgresql.conf");
        let append = || fs::OpenOptions::new().append(true).open(&path)?.write_all(text.as_bytes());
        append().map_err(Error::io(format!("write {}", path.display())))
    }

    pub(super) fn spawn_postmaster(&self) -> Result<Postmaster> {
        let server = &self.server;
        Postmaster::spawn(&server.binaries, server.run_as.as_ref(), &server.folder, &self.log_file())
    }
}

pub(super) fn setting_line(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"))
}

fn write_for_server(path: &Path, text: &str, run_as: Option<&RunAs>) -> Result<()> {
    let write = || {
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
    };
    write().map_err(Error::io(format!("write {}", path.display())))?;
    template::give(path, run_as)
}
