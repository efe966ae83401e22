//! The simulated PostgreSQL on a real port: psql talks to it, and it comes back where it was.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pgweir_sim::scenario::Crash;
use pgweir_sim::server::{Config, TcpServer};

/// psql of the PATH, or of Debian's folders.
fn psql() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::var_os("PG_BIN").map(PathBuf::from).into_iter().collect();
    folders.extend(std::env::split_paths(&path));
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    let found = folders.into_iter().map(|folder| folder.join("psql")).find(|program| program.is_file());
    found.expect("psql is needed: apt-get install postgresql-client")
}

fn ask(address: &str, sql: &str) -> Output {
    let (host, port) = address.rsplit_once(':').expect("host and port");
    let mut command = Command::new(psql());
    command.args(["-X", "-A", "-t", "-h", host, "-p", port, "-U", "app", "-d", "app", "-c", sql]);
    command.env("PGPASSWORD", "secret").env("PGCONNECT_TIMEOUT", "10").output().expect("psql runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned() + String::from_utf8_lossy(&output.stderr).trim()
}

/// `pgweir-sim serve`; killed when dropped.
struct Served {
    child: Child,
    stdin: ChildStdin,
    lines: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Served {
    fn start(args: &[&str]) -> Served {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgweir-sim"));
        command.args(["serve", "--port", "0"]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the command runs");
        let stdin = child.stdin.take().expect("piped");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut served = Served { child, stdin, lines, address: String::new() };
        let first = served.line();
        let address = first.split(' ').nth(4).and_then(|word| word.strip_suffix(':'));
        served.address = address.unwrap_or_else(|| panic!("no address: {first}")).to_owned();
        served
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// What it says first to a command. Rows of a status before that are of sessions that were still ending.
    fn tell(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").expect("it reads");
        loop {
            let said = self.line();
            if !said.starts_with("  ") {
                return said;
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn psql_connects_and_selects_1() {
    for auth in ["trust", "password", "md5", "scram-sha-256"] {
        let served = Served::start(&["--auth", auth]);
        assert_eq!(said(&ask(&served.address, "select 1")), "1", "{auth}");
    }
}

#[test]
fn lines_typed_at_it_break_it_and_mend_it() {
    let mut served = Served::start(&["--until-eof"]);
    assert!(served.tell("status").starts_with("Up primary: 0 sessions"));
    assert!(served.tell("crash 10m").starts_with("Down"));
    let output = ask(&served.address, "select 1");
    assert!(!output.status.success() && said(&output).contains("refused"), "{}", said(&output));
    assert!(served.tell("start 10m").starts_with("Starting"));
    let output = ask(&served.address, "select 1");
    assert!(said(&output).contains("the database system is"), "{}", said(&output));
    assert!(served.tell("start").starts_with("Up"));
    assert_eq!(said(&ask(&served.address, "show transaction_read_only")), "off");
    assert!(served.tell("standby").starts_with("Up standby"));
    assert_eq!(said(&ask(&served.address, "show transaction_read_only")), "on");
    assert_eq!(served.tell("boom"), "`boom` is not known; --help lists what is");
    assert_eq!(served.tell("crash soon"), "`soon` is no duration: write 5s");
    writeln!(served.stdin, "quit").expect("it reads");
    assert!(served.child.wait().expect("it ends").success());
}

#[test]
fn scripts_answer_and_crashes_come_by_schedule() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("script.yaml");
    let text = "- {query: SELECT price FROM items, columns: [price int8], rows: [[250], [null]]}\n";
    std::fs::write(&file, text).expect("a file");
    let file = file.to_str().expect("a plain path");
    let mut served = Served::start(&["--script", file, "--crash-at", "1s", "--down", "1ms", "--every", "100ms"]);
    assert_eq!(said(&ask(&served.address, "select price from items")), "250");
    assert_eq!((served.line(), served.line()), ("crashed".to_owned(), "crashed".to_owned()));

    std::fs::write(file, "- {query: a, rows: 5}\n").expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgweir-sim"));
    let output = command.args(["serve", "--port", "0", "--script", file]).output().expect("the command runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("script.yaml:1:"), "{}", said(&output));
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

#[test]
fn a_server_in_a_test_is_down_where_it_was_and_comes_back_there() {
    let server = TcpServer::start(Config::default()).expect("a port");
    let address = server.address();
    let mut stream = connect(address).expect("it listens");
    stream.write_all(b"\0\0\0\x12\0\x03\0\0user\0app\0\0").expect("it reads");
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("an answer");
    assert_eq!(&byte, b"R");
    server.with(|postgres, now| {
        postgres.crash(now, &Crash { down: Duration::from_millis(300), recovering: Duration::ZERO })
    });
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end");
    assert!(String::from_utf8_lossy(&rest).contains("57P02"));
    let began = Instant::now();
    let mut refused = false;
    // It says so within a moment, and is back soon after 300 ms.
    loop {
        match connect(address) {
            Err(_) => refused = true,
            Ok(_) if refused => break,
            Ok(_) => {}
        }
        assert!(began.elapsed() < Duration::from_secs(20), "refused: {refused}");
        // Between two looks at a condition with a generous limit.
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(server);
    assert!(connect(address).is_err());
}
