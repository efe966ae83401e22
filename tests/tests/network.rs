//! The testkit's own tests: its proxy and its scripted server.

use pgweir_tests::{
    Client, ClientConfig, Cut, Direction, Endpoint, Error, LIMIT, LocalPostgres, Proxy, Scope, Script, ScriptedServer,
    Step, eventually, wire,
};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Sends back what it gets, on any number of connections.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || io::copy(&mut &stream, &mut &stream));
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, bytes);
    Ok(())
}

/// That nothing comes for a moment: the one place where a test has to let time pass.
fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let error = stream.read(&mut [0; 1]).expect_err("silence");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    stream.set_read_timeout(Some(LIMIT)).unwrap();
}

#[test]
fn passes_everything_and_counts() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    let big: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let sent = big.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    writing.join().unwrap();
    assert!(back == big, "{} bytes came back", back.len());
    eventually("the end of the connection", LIMIT, || proxy.stats().open == 0);
    let stats = proxy.stats();
    assert_eq!((stats.to_server, stats.to_client, stats.accepted.len()), (3_000_000, 3_000_000, 1));
}

#[test]
fn refuses_and_listens_again_on_the_same_port() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut existing = connect(&proxy);
    exchange(&mut existing, b"before").unwrap();
    proxy.refuse();
    assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    exchange(&mut existing, b"meanwhile").unwrap();
    proxy.listen().unwrap();
    exchange(&mut connect(&proxy), b"after").unwrap();
}

#[test]
fn resets_and_closes_everything() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut streams: Vec<TcpStream> = (0..3).map(|_| connect(&proxy)).collect();
    streams.iter_mut().for_each(|stream| exchange(stream, b"hello").unwrap());
    assert_eq!(proxy.reset_all(), 3);
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let mut stream = connect(&proxy);
    exchange(&mut stream, b"hello").unwrap();
    assert_eq!(proxy.close_all(), 1);
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(proxy.stats().open, 0);
}

#[test]
fn black_holes_hold_everything_back_until_resumed() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut existing = connect(&proxy);
    exchange(&mut existing, b"hello").unwrap();
    proxy.black_hole(Scope::Existing);
    existing.write_all(b"lost?").unwrap();
    assert_silent(&mut existing);
    let mut third = connect(&proxy);
    exchange(&mut third, b"new ones pass").unwrap();
    proxy.black_hole(Scope::New);
    let mut new = connect(&proxy);
    new.write_all(b"new").unwrap();
    assert_silent(&mut new);
    proxy.resume();
    for (stream, expected) in [(&mut existing, &b"lost?"[..]), (&mut new, b"new")] {
        let mut back = vec![0; expected.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, expected);
    }
    proxy.black_hole(Scope::All);
    assert_eq!(proxy.reset_all(), 3, "black holes can be reset");
    assert!(existing.read(&mut [0; 1]).is_err());
}

#[test]
fn delays_each_way() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    exchange(&mut stream, b"warm").unwrap();
    proxy.set_delay(Direction::ToServer, Duration::from_millis(40));
    proxy.set_delay(Direction::ToClient, Duration::from_millis(60));
    let begin = Instant::now();
    for byte in b"several" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut back = [0; 7];
    stream.read_exact(&mut back).unwrap();
    let took = begin.elapsed();
    assert_eq!(&back, b"several");
    assert!(took >= Duration::from_millis(100), "{took:?}");
    proxy.pass().unwrap();
    exchange(&mut stream, b"fast again").unwrap();
}

#[test]
fn throttles_to_a_rate() {
    let proxy = Proxy::start(echo()).unwrap();
    let mut stream = connect(&proxy);
    proxy.set_throttle(Direction::ToServer, Some(100_000));
    let begin = Instant::now();
    exchange(&mut stream, &[7; 20_000]).unwrap();
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(140), "20 kB at 100 kB/s took {took:?}");
    proxy.set_throttle(Direction::ToServer, None);
    exchange(&mut stream, &[7; 20_000]).unwrap();
}

#[test]
fn cuts_after_exactly_so_many_bytes() {
    let proxy = Proxy::start(echo()).unwrap();
    proxy.cut_after(Direction::ToClient, 5, Cut::Close);
    let mut stream = connect(&proxy);
    stream.write_all(b"0123456789").unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"01234");
    proxy.pass().unwrap();
    let mut stream = connect(&proxy);
    exchange(&mut stream, b"whole").unwrap();
    proxy.cut_after(Direction::ToServer, 3, Cut::Reset);
    stream.write_all(b"0123456789").unwrap();
    let error = stream.read_to_end(&mut back).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let stats = proxy.stats();
    assert_eq!((stats.cuts, stats.to_server, stats.open), (2, 10 + 5 + 3, 0));
}

#[test]
fn a_server_that_refuses_resets_the_client() {
    let nobody = Proxy::start(echo()).unwrap();
    nobody.refuse();
    let proxy = Proxy::start(nobody.address()).unwrap();
    assert_eq!(connect(&proxy).read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.stats().upstream_refused, 1);
}

#[test]
fn handshakes_with_a_real_server_are_counted() {
    let server = LocalPostgres::start().unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let config = ClientConfig { endpoint: Endpoint::Tcp(proxy.address()), ..server.client_config() };
    proxy.black_hole(Scope::New);
    let connecting: Vec<_> = (0..4)
        .map(|_| {
            let config = config.clone();
            thread::spawn(move || Client::connect(&config))
        })
        .collect();
    eventually("four handshakes", LIMIT, || proxy.stats().handshaking == 4);
    proxy.resume();
    let mut clients: Vec<Client> = connecting.into_iter().map(|client| client.join().unwrap().unwrap()).collect();
    assert_eq!(clients[0].query("SELECT 5").unwrap()[0].text(0), "5");
    let stats = proxy.stats();
    assert_eq!((stats.handshaking, stats.peak_handshaking, stats.open), (0, 4, 4));
    server.stop_fast().unwrap();
    assert!(clients[1].receive().is_err());
}

fn connect_to(server: &ScriptedServer, timeout: Duration) -> Result<Client, Error> {
    Client::connect(&ClientConfig {
        endpoint: Endpoint::Tcp(server.address()),
        user: "postgres".into(),
        password: "secret".into(),
        database: "postgres".into(),
        application_name: "test".into(),
        timeout,
    })
}

#[test]
fn scripts_answer_as_told() {
    let server = ScriptedServer::start(Script::refuse("57P03", "the database system is starting up")).unwrap();
    assert_eq!(connect_to(&server, LIMIT).unwrap_err().sqlstate(), Some("57P03"));
    server.set_script(Script::garbage());
    assert!(matches!(connect_to(&server, LIMIT).unwrap_err(), Error::Protocol(_)));
    server.set_script(Script::huge_length());
    assert!(matches!(connect_to(&server, LIMIT).unwrap_err(), Error::Protocol(_)));
    server.set_script(Script::close());
    assert_eq!(connect_to(&server, LIMIT).unwrap_err().io_kind(), Some(ErrorKind::UnexpectedEof));
    server.set_script(Script::reset());
    assert!(matches!(connect_to(&server, LIMIT).unwrap_err(), Error::Io { .. }));
    server.set_script(Script::never_answer());
    let silent = connect_to(&server, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(silent.io_kind(), Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{silent}");
    server.set_script(Script::answer_every_message(wire::one_row("7")));
    let mut client = connect_to(&server, LIMIT).unwrap();
    for _ in 0..3 {
        assert_eq!(client.query("SELECT anything").unwrap()[0].text(0), "7");
    }
    assert_eq!(server.accepted().len(), 7);
    eventually("the others' ends", LIMIT, || server.open() == 1);
}

#[test]
fn scripts_hang_until_released_and_remember_what_they_were_sent() {
    let script = Script(vec![
        Step::ReadStartup,
        Step::Send(wire::authentication_cleartext()),
        Step::ReadMessage,
        Step::Hang,
        Step::Send(wire::welcome()),
        Step::Swallow,
    ]);
    let server = ScriptedServer::start(script).unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(|| connect_to(&server, LIMIT));
        let has_password = || server.received().windows(6).any(|bytes| bytes == b"secret");
        eventually("the password", LIMIT, has_password);
        server.release();
        assert_eq!(client.join().unwrap().unwrap().process_id(), 4_242);
    });
}
