//! PgBouncer between a pool and a server.

use crate::ports::Port;
use crate::postgres::{install, user};
use crate::wait::{LIMIT, poll_until};
use crate::{Client, ClientConfig, Endpoint, Error, LocalPostgres, Result};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};

/// A PgBouncer in transaction mode in front of a [`LocalPostgres`], on a port of 127.0.0.1 of its own. Everybody is let
/// in, as the server's superuser.
///
/// As root on Debian or Ubuntu without PgBouncer it is installed with apt-get. Dropping this ends it, and so does the
/// end of the process, however it comes. Drop it before the server.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    pipe: Option<ChildStdin>,
    port: Port,
    log: PathBuf,
}

/// Runs PgBouncer until the end of its own input, which comes with the end of the process that holds the other end.
const SCRIPT: &str = r#""$1" "$2" & pid=$!; cat > /dev/null; kill "$pid"; wait "$pid""#;

impl PgBouncer {
    /// Starts one that opens at most `server_connections` to the server; returns when it serves.
    ///
    /// # Errors
    /// [`Error::NoPostgres`] with the command that installs it, [`Error::Failed`] with its log, or the operating
    /// system's refusal.
    pub fn start(server: &LocalPostgres, server_connections: u32) -> Result<PgBouncer> {
        let program = find()?;
        let port = Port::reserve()?;
        let (ini, log) = ["ini", "log"].map(|end| format!("pgbouncer-{}.{end}", port.number())).into();
        let (ini, log) = (server.folder().join(ini), server.folder().join(log));
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = {}\n\
             max_client_conn = 500\n",
            server.port(),
            server.user(),
            port.number(),
            server_connections,
        );
        fs::write(&ini, text).map_err(Error::io(format!("write {}", ini.display())))?;
        let open = || File::options().append(true).create(true).open(&log).map_err(Error::io("open PgBouncer's log"));
        let mut child = user::command("sh".as_ref(), server.run_as(), server.folder())
            .args(["-c", SCRIPT, "pgweir-tests-pgbouncer"])
            .arg(program)
            .arg(ini)
            .stdin(Stdio::piped())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .map_err(Error::io("start sh"))?;
        let pipe = child.stdin.take();
        let bouncer = PgBouncer { child, pipe, port, log };
        let client = ClientConfig {
            endpoint: Endpoint::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, bouncer.port()))),
            ..server.client_config()
        };
        let ready =
            poll_until(LIMIT, || Client::connect(&client).and_then(|mut client| client.query("SELECT 1")).is_ok());
        if ready {
            return Ok(bouncer);
        }
        Err(Error::Failed { what: "PgBouncer does not serve".into(), output: bouncer.log() })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or(String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.child.wait();
    }
}

fn find() -> Result<PathBuf> {
    let look = || {
        let folders = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
        let usual = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"].map(PathBuf::from);
        folders.into_iter().flatten().chain(usual).map(|folder| folder.join("pgbouncer")).find(|file| file.is_file())
    };
    if look().is_none() {
        install::install_pgbouncer(|| look().is_some())?;
    }
    look().ok_or_else(|| Error::NoPostgres("the package pgbouncer was installed but brought no program".into()))
}
