//! `serve`: the simulated PostgreSQL on a port, for any driver.

use std::io::{self, BufRead, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant as WallClock};

use clap::{Args, ValueEnum};
use pgweir_sim::scenario::{Crash, Dist, Restart};
use pgweir_sim::server::{Auth, Config, Role, Script, TcpServer};

use super::complain;

/// Serves a simulated PostgreSQL on a real port, and breaks it as told: by options, or by lines typed at it.
///
/// The lines: crash [DOWN [RECOVERING]], restart [DOWN], power-off, start, freeze, thaw, kill [PID], standby, promote,
/// max-connections N, login-cost TIME, query-time TIME, status, quit.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The port; 0 is a free one, which is printed.
    #[arg(long, default_value_t = 5433)]
    port: u16,
    /// The address.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// How clients log in.
    #[arg(long, value_enum, default_value_t = Method::Trust)]
    auth: Method,
    /// The only role there is; any by default.
    #[arg(long)]
    user: Option<String>,
    /// Every role's password.
    #[arg(long, default_value = "secret")]
    password: String,
    /// Sessions it allows.
    #[arg(long, default_value_t = 100)]
    max_connections: u32,
    /// How long a login takes, as in 5ms.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5ms")]
    login_cost: Duration,
    /// How long every statement takes, as in 5ms.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    query_time: Duration,
    /// It is a standby.
    #[arg(long)]
    standby: bool,
    /// Answers to statements, in YAML.
    #[arg(long)]
    script: Option<PathBuf>,
    /// Crash so long after the start.
    #[arg(long, value_parser = humantime::parse_duration)]
    crash_at: Option<Duration>,
    /// How long nobody listens in such a crash.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s", requires = "crash_at")]
    down: Duration,
    /// How long clients are told "in recovery mode" after that.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s", requires = "crash_at")]
    recovering: Duration,
    /// Crash again so long after each crash.
    #[arg(long, value_parser = humantime::parse_duration, requires = "crash_at")]
    every: Option<Duration>,
    /// End when the standard input does, even if it is no terminal.
    #[arg(long)]
    until_eof: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Method {
    Trust,
    Password,
    Md5,
    #[value(name = "scram-sha-256")]
    ScramSha256,
}

impl Arguments {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let scripts = match self.scripts() {
            Ok(scripts) => scripts,
            Err(problem) => return Ok(complain(&problem)),
        };
        let address = SocketAddr::new(self.host, self.port);
        let server = match TcpServer::start_at(self.config(), address) {
            Ok(server) => server,
            Err(error) => return Ok(complain(&format_args!("cannot serve at {address}: {error}"))),
        };
        server.with(|postgres, _| {
            for script in scripts {
                postgres.script(script);
            }
        });
        let at = server.address();
        say(&format!("a simulated PostgreSQL at {at}: psql -h {} -p {} -U {}", at.ip(), at.port(), self.role()))?;
        let ends = self.until_eof || io::stdin().is_terminal();
        let lines = lines(ends)?;
        let mut crash_at = self.crash_at.map(|after| WallClock::now() + after);
        loop {
            let wait = crash_at.map(|at| at.saturating_duration_since(WallClock::now()));
            match next(&lines, wait) {
                Ok(line) => match command(&server, &line) {
                    Ok(Some(text)) => say(&text)?,
                    Ok(None) => return Ok(ExitCode::SUCCESS),
                    Err(problem) => say(&problem)?,
                },
                Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::SUCCESS),
                Err(RecvTimeoutError::Timeout) => {
                    let crash = Crash { down: self.down, recovering: self.recovering };
                    server.with(|postgres, now| postgres.crash(now, &crash));
                    say("crashed")?;
                    crash_at = crash_at.and_then(|at| Some(at + self.every?));
                }
            }
        }
    }

    fn role(&self) -> &str {
        self.user.as_deref().unwrap_or("postgres")
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.auth = match self.auth {
            Method::Trust => Auth::Trust,
            Method::Password => Auth::Cleartext,
            Method::Md5 => Auth::Md5,
            Method::ScramSha256 => Auth::Scram,
        };
        config.password.clone_from(&self.password);
        if let Some(user) = &self.user {
            let role = Role { password: self.password.clone(), connection_limit: None };
            config.roles.insert(user.clone(), role);
        }
        config.max_connections = self.max_connections;
        config.connect = Dist::Fixed(self.login_cost);
        config.query_time = Dist::Fixed(self.query_time);
        config.standby = self.standby;
        config
    }

    fn scripts(&self) -> Result<Vec<Script>, String> {
        let Some(file) = &self.script else { return Ok(Vec::new()) };
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
        Script::from_yaml(&name, &text).map_err(|bad| bad.to_string())
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// The lines of the standard input. Without `ends` its end is nothing.
fn lines(ends: bool) -> io::Result<Receiver<String>> {
    let (sender, receiver) = channel();
    thread::Builder::new().name("pgweir-sim stdin".to_owned()).spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
        if !ends {
            // The channel stays open: whoever started it so wants it to serve.
            loop {
                thread::park();
            }
        }
    })?;
    Ok(receiver)
}

fn next(lines: &Receiver<String>, wait: Option<Duration>) -> Result<String, RecvTimeoutError> {
    match wait {
        Some(wait) => lines.recv_timeout(wait),
        None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// Does what a line says; `None`: it is to end.
fn command(server: &TcpServer, line: &str) -> Result<Option<String>, String> {
    let mut words = line.split_whitespace();
    let Some(verb) = words.next() else { return Ok(Some(status(server))) };
    let rest: Vec<&str> = words.collect();
    let time = |index: usize| match rest.get(index) {
        None => Ok(Duration::ZERO),
        Some(text) => humantime::parse_duration(text).map_err(|_| format!("`{text}` is no duration: write 5s")),
    };
    let number = || match rest.first() {
        Some(text) => text.parse::<u32>().map_err(|_| format!("`{text}` is no number")),
        None => Err(format!("{verb} needs a number")),
    };
    match verb {
        "quit" | "exit" => return Ok(None),
        "status" => {}
        "crash" => {
            let crash = Crash { down: time(0)?, recovering: time(1)? };
            server.with(|postgres, now| postgres.crash(now, &crash));
        }
        "restart" => {
            let restart = Restart { stopping: Duration::ZERO, down: time(0)?, starting: Duration::ZERO };
            server.with(|postgres, now| postgres.restart(now, &restart));
        }
        "power-off" => server.with(|postgres, now| postgres.power_off(now)),
        "start" => {
            let starting = time(0)?;
            server.with(|postgres, now| postgres.start(now, starting));
        }
        "freeze" => server.with(|postgres, now| postgres.freeze(now)),
        "thaw" => server.with(|postgres, now| postgres.thaw(now)),
        "kill" if rest.is_empty() => {
            let killed = server.with(|postgres, now| postgres.kill_some(now, 1.0));
            return Ok(Some(format!("{killed} sessions terminated")));
        }
        "kill" => {
            let pid = number()?;
            if !server.with(|postgres, now| postgres.kill(now, pid.try_into().unwrap_or(0))) {
                return Err(format!("there is no session {pid}"));
            }
        }
        "standby" => server.with(|postgres, now| postgres.demote(now)),
        "promote" => server.with(|postgres, now| postgres.promote(now)),
        "max-connections" => {
            let allowed = number()?;
            server.with(|postgres, now| postgres.set_max_connections(now, allowed));
        }
        "login-cost" => {
            let cost = time(0)?;
            server.with(|postgres, now| postgres.set_login_cost(now, Dist::Fixed(cost)));
        }
        "query-time" => {
            let takes = time(0)?;
            server.with(|postgres, now| postgres.set_query_time(now, Dist::Fixed(takes)));
        }
        other => return Err(format!("`{other}` is not known; --help lists what is")),
    }
    Ok(Some(status(server)))
}

fn status(server: &TcpServer) -> String {
    server.with(|postgres, _| {
        let role = if postgres.is_standby() { "standby" } else { "primary" };
        let frozen = if postgres.is_frozen() { ", frozen" } else { "" };
        let mut text = format!(
            "{:?} {role}{frozen}: {} sessions, {} logins under way, {} statements so far",
            postgres.state(),
            postgres.sessions().len(),
            postgres.logins(),
            postgres.counts().queries
        );
        for session in postgres.sessions() {
            text.push_str(&format!(
                "\n  {} {} {}: {}",
                session.pid, session.application_name, session.state, session.query
            ));
        }
        text
    })
}
