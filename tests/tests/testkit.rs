//! The testkit's own tests: its servers.

use pgweir_tests::{Auth, Client, ClientConfig, Endpoint, Error, LIMIT, LocalPostgres, Signal, StopMode, eventually};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

fn start() -> LocalPostgres {
    LocalPostgres::start().expect("a server")
}

/// Whether a process is there: signal 0 through the shell, so that this does not depend on what is under test.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    match stat {
        Ok(stat) => !stat.contains(") Z "),
        Err(_) if PathBuf::from("/proc/self").exists() => false,
        Err(_) => Command::new("kill").args(["-0", &pid.to_string()]).stderr(Stdio::null()).status().unwrap().success(),
    }
}

#[test]
fn starts_and_answers_over_tcp_and_unix_socket() {
    let server = start();
    assert_eq!(server.psql("SELECT 1, NULL, 'x'; SELECT 2").unwrap(), "1||x\n2");
    let unix = ClientConfig { endpoint: Endpoint::Unix(server.socket_path()), ..server.client_config() };
    let rows = Client::connect(&unix).unwrap().query("SELECT inet_client_addr() IS NULL").unwrap();
    assert_eq!(rows[0].text(0), "t");
    assert!(server.socket_path().as_os_str().len() < 107, "{:?}", server.socket_path());
    let error = server.psql("SELECT 1/0").unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"), "{error}");
    assert_eq!(server.psql("SHOW fsync").unwrap(), "off");
}

#[test]
fn settings_are_applied_and_reloaded() {
    let server = LocalPostgres::builder().max_connections(7).setting("work_mem", "1MB").start().unwrap();
    assert_eq!(server.psql("SHOW max_connections; SHOW work_mem").unwrap(), "7\n1MB");
    server.configure("work_mem", "2MB").unwrap();
    server.configure("application_name", "it's").unwrap();
    server.reload().unwrap();
    assert_eq!(server.psql("SHOW work_mem").unwrap(), "2MB");
    server.configure("max_connections", 9).unwrap();
    server.restart().unwrap();
    assert_eq!(server.psql("SHOW max_connections").unwrap(), "9");
}

#[test]
fn tls_is_offered_only_with_a_certificate() {
    let answer_to_ssl_request = |server: &LocalPostgres| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        char::from(answer[0])
    };
    // A self-signed certificate for localhost and 127.0.0.1 that serves nothing but tests.
    let (certificate, key) = (include_str!("data/localhost.crt"), include_str!("data/localhost.key"));
    let server = LocalPostgres::builder().tls(certificate, key).start().unwrap();
    assert_eq!(answer_to_ssl_request(&server), 'S');
    assert_eq!(answer_to_ssl_request(&start()), 'N');
}

#[test]
fn a_wrong_setting_fails_with_the_log() {
    let error = LocalPostgres::builder().setting("no_such_setting", 1).start().unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[test]
fn every_authentication_method_takes_only_the_right_password() {
    for auth in [Auth::Password, Auth::Md5, Auth::ScramSha256] {
        let server = LocalPostgres::builder().auth(auth).password("p@ss'word/ü").start().unwrap();
        assert_eq!(server.psql("SELECT 1").unwrap(), "1", "{auth:?}");
        let stored = server.psql("SELECT left(rolpassword, 3) FROM pg_authid WHERE rolname = 'postgres'").unwrap();
        assert_eq!(stored, if auth == Auth::Md5 { "md5" } else { "SCR" });
        for endpoint in [Endpoint::Tcp(server.address()), Endpoint::Unix(server.socket_path())] {
            let wrong = ClientConfig { password: "wrong".into(), endpoint, ..server.client_config() };
            assert_eq!(Client::connect(&wrong).unwrap_err().sqlstate(), Some("28P01"), "{auth:?}");
        }
        assert!(!format!("{server:?}").contains("p@ss'word"), "a password in Debug");
        server.set_auth(Auth::Trust, &["host all intruder 127.0.0.1/32 reject".into()]).unwrap();
        server.reload().unwrap();
        let trusted = ClientConfig { password: String::new(), ..server.client_config() };
        Client::connect(&trusted).expect("trusted after the reload");
        let intruder = ClientConfig { user: "intruder".into(), ..trusted };
        assert_eq!(Client::connect(&intruder).unwrap_err().sqlstate(), Some("28000"));
    }
}

#[test]
fn each_stop_mode_stops_its_way_and_the_port_comes_back() {
    let server = start();
    server.psql("CREATE TABLE t (x int)").unwrap();
    let port = server.port();
    for mode in [StopMode::Smart, StopMode::Fast, StopMode::Immediate] {
        server.psql("INSERT INTO t VALUES (1)").unwrap();
        let mut session = server.client().unwrap();
        server.begin_stop(mode).unwrap();
        if mode == StopMode::Smart {
            let refused = || server.psql("SELECT 1").is_err_and(|error| error.sqlstate() == Some("57P03"));
            server.wait_until("a refusal while shutting down", refused);
            assert_eq!(session.query("SELECT 1").unwrap().len(), 1, "a smart stop leaves sessions alone");
            assert!(server.is_running());
        } else {
            let error = session.receive().unwrap_err();
            assert!(matches!(error, Error::Server { .. } | Error::Io { .. }), "{error}");
        }
        drop(session);
        server.wait_stopped(LIMIT).unwrap();
        assert!(!server.is_running());
        assert_eq!(TcpStream::connect(server.address()).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        server.start_again().unwrap();
        assert_eq!(server.port(), port);
    }
    assert_eq!(server.psql("SELECT count(*) FROM t").unwrap(), "3");
    assert!(server.log().contains("database system was not properly shut down"), "{}", server.log_tail());
}

#[test]
fn a_crash_kills_everything_and_the_next_start_recovers() {
    let server = start();
    server.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS x").unwrap();
    let mut session = server.client().unwrap();
    let (postmaster, backend) = (server.postmaster_pid().unwrap(), session.process_id());
    session.send("SELECT pg_sleep(600)").unwrap();
    server.crash().unwrap();
    assert!(!is_alive(postmaster) && !is_alive(backend));
    assert!(session.receive().is_err());
    assert!(server.psql("SELECT 1").is_err());
    server.start_again().unwrap();
    assert_eq!(server.psql("SELECT count(*) FROM t").unwrap(), "1000");
    server.start_again().expect("nothing to do");
}

#[test]
fn a_pause_stops_every_process_in_its_tracks() {
    let server = start();
    let mut session = server.client().unwrap();
    server.pause().unwrap();
    session.send("SELECT 42").unwrap();
    let (answer, answered) = mpsc::channel();
    let waiting = thread::spawn(move || answer.send(session.receive().map(|rows| rows[0].text(0).to_owned())));
    let hurried = ClientConfig { timeout: Duration::from_millis(100), ..server.client_config() };
    let error = Client::connect(&hurried).expect_err("nobody answers");
    assert!(matches!(error.io_kind(), Some(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)), "{error}");
    assert!(answered.try_recv().is_err(), "a stopped backend answered");
    assert!(server.is_running());
    server.resume().unwrap();
    assert_eq!(answered.recv_timeout(LIMIT).unwrap().unwrap(), "42");
    waiting.join().unwrap().unwrap();
    server.pause().unwrap();
    server.stop_fast().expect("a paused server is resumed to be stopped");
}

#[test]
fn backends_are_listed_and_killed() {
    let server = start();
    let named = ClientConfig { application_name: "o'clock".into(), ..server.client_config() };
    let mut sessions: Vec<Client> = (0..3).map(|_| Client::connect(&named).unwrap()).collect();
    sessions[1].send("SELECT pg_sleep(600)").unwrap();
    server.wait_for_backends("o'clock", 3);
    server.wait_until("the query in the list", || {
        let backends = server.backends("o'clock").unwrap();
        backends[1].state == "active" && backends[1].wait_event == "Timeout/PgSleep" && backends[1].user == "postgres"
    });
    let listed: Vec<u32> = server.backends("").unwrap().iter().map(|backend| backend.pid).collect();
    assert_eq!(listed, sessions.iter().map(Client::process_id).collect::<Vec<_>>());
    assert!(server.kill_backend(std::process::id(), Signal::TERM).is_err(), "not one of the server's");
    assert!(server.kill_backend(sessions[0].process_id(), Signal::TERM).unwrap());
    server.wait_for_backends("o'clock", 2);
    assert_eq!(sessions[0].receive().unwrap_err().sqlstate(), Some("57P01"));
    // A backend that dies badly takes its siblings along, and the server recovers by itself.
    assert!(server.kill_backend(sessions[1].process_id(), Signal::KILL).unwrap());
    assert!(sessions[1].receive().is_err() && sessions[2].receive().is_err());
    server.wait_until("recovery", || server.psql("SELECT 1").is_ok());
}

#[test]
fn the_superuser_gets_in_when_all_connections_are_taken() {
    let server = LocalPostgres::builder().max_connections(5).start().unwrap();
    server.psql("CREATE ROLE app LOGIN").unwrap();
    let app = ClientConfig { user: "app".into(), ..server.client_config() };
    let full = || Client::connect(&app);
    let taken: Vec<Client> = std::iter::from_fn(|| full().ok()).take(5).collect();
    assert_eq!(taken.len(), 2);
    assert_eq!(full().unwrap_err().sqlstate(), Some("53300"));
    assert_eq!(server.backends("testkit").unwrap().len(), 2);
}

#[test]
fn servers_run_side_by_side_and_leave_nothing() {
    let servers: Vec<LocalPostgres> =
        [(); 2].map(|()| thread::spawn(start)).into_iter().map(|started| started.join().unwrap()).collect();
    assert_ne!(servers[0].port(), servers[1].port());
    servers[0].psql("CREATE TABLE only_here ()").unwrap();
    assert_eq!(servers[1].psql("SELECT to_regclass('only_here') IS NULL").unwrap(), "t");
    let left: Vec<(u32, PathBuf)> =
        servers.iter().map(|server| (server.postmaster_pid().unwrap(), server.folder().to_owned())).collect();
    servers[1].pause().unwrap();
    drop(servers);
    for (pid, folder) in left {
        assert!(!is_alive(pid) && !folder.exists(), "{pid} {folder:?}");
    }
}

#[test]
fn a_panic_leaves_nothing() {
    let (place, placed) = mpsc::channel();
    let panicked = thread::spawn(move || {
        let server = start();
        place.send((server.postmaster_pid().unwrap(), server.folder().to_owned())).unwrap();
        panic!("on purpose");
    });
    let (pid, folder) = placed.recv_timeout(LIMIT).unwrap();
    panicked.join().unwrap_err();
    assert!(!is_alive(pid) && !folder.exists());
}

#[test]
fn a_killed_test_process_leaves_nothing() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_local-postgres"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap()).lines().take(3).map(Result::unwrap).collect();
    let value = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)).unwrap();
    let (pid, folder) = (value("pid=").parse().unwrap(), PathBuf::from(value("folder=")));
    assert!(is_alive(pid) && folder.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the end of the server", LIMIT, || !is_alive(pid));
    eventually("the end of its folder", LIMIT, || !folder.exists());
}

#[test]
fn binaries_that_are_not_there_are_named() {
    let error = LocalPostgres::builder().binaries("/nowhere").start().unwrap_err();
    assert!(matches!(&error, Error::NoPostgres(text) if text.contains("/nowhere")), "{error}");
}
