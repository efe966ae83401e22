//! What the endpoint does on any runtime.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pgweir_core::client::Postgres;
use pgweir_core::config::Config;
use pgweir_core::driver::Pool;
use pgweir_core::endpoint::{Endpoint, Listen, ServeError, Serving};
use pgweir_tests::http::{self, Answer};
use pgweir_tests::{Auth, LIMIT, LocalPostgres, kit};

pub(crate) type PgPool<R> = Pool<R, Postgres<R>>;

const SECRET: &str = "Tr0ub4dor-and-3";
const PAGES: [&str; 7] = ["/", "/health", "/health/live", "/health/ready", "/stats", "/metrics", "/debug/pool"];

/// A server, a pool of four and an endpoint.
struct Rig<R: Listen> {
    server: LocalPostgres,
    pool: PgPool<R>,
    serving: Serving,
    address: SocketAddr,
}

impl<R: Listen> Rig<R> {
    async fn start(set_up: impl FnOnce(Endpoint<R>) -> Endpoint<R>) -> Self {
        let server = LocalPostgres::builder().auth(Auth::ScramSha256).password(SECRET).start().expect("a server");
        let config = Config::builder()
            .database_url(server.url())
            .password(SECRET)
            .application_name("endpoint")
            .min_size(2)
            .max_size(4)
            .outage_grace(Duration::from_millis(100))
            .build()
            .expect("valid");
        let pool = PgPool::<R>::builder(config).open().await.expect("the pool opens");
        let endpoint = set_up(Endpoint::bind("localhost:0").pool("shop", &pool));
        let serving = endpoint.serve().await.expect("it listens");
        let address = serving.local_addr();
        assert!(address.ip().is_loopback() && address.port() != 0);
        Rig { server, pool, serving, address }
    }

    /// What a client does that blocks, while the runtime goes on.
    async fn meanwhile<T: Send + 'static>(&self, client: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
        let address = self.address;
        kit::off_thread(&R::current(), move || client(address)).await
    }

    async fn get(&self, path: &'static str) -> Answer {
        self.meanwhile(move |address| http::get(address, path).expect("an answer")).await
    }
}

pub(crate) async fn every_page_is_answered_and_holds_no_secret<R: Listen>() {
    let rig = Rig::<R>::start(|endpoint| endpoint).await;
    let mut lease = rig.pool.get().await.expect("a connection");
    lease.query_one("SELECT $1::text", &[&SECRET]).await.expect("an answer");
    lease.batch_execute(&format!("SELECT '{SECRET}', nothing")).await.expect_err("no such column");
    let said_of = |answer: &Answer| format!("{}\n{}", answer.head, answer.body);
    for page in PAGES {
        let answer = rig.get(page).await;
        assert_eq!(answer.status, 200, "{page}: {answer:?}");
        assert!(!said_of(&answer).contains(SECRET), "{page}: {answer:?}");
    }
    let debug: serde_json::Value = serde_json::from_str(&rig.get("/debug/pool").await.body).expect("JSON");
    let location = debug["holders"][0]["location"].as_str().expect("the holder's line");
    assert!(location.contains(file!()), "{location}");
    assert!(debug["events"].as_array().is_some_and(|events| !events.is_empty()));
    // The password changes: the server's own words about it are no secret.
    rig.server.query("ALTER ROLE postgres PASSWORD 'another'").expect("altered");
    rig.pool.recycle();
    drop(lease);
    let refused = |health: &Answer| health.body.contains("28P01");
    let end = Instant::now() + LIMIT;
    let health = loop {
        let health = rig.get("/health").await;
        if refused(&health) {
            break health;
        }
        assert!(Instant::now() < end, "{health:?}");
        let _ = rig.pool.get_timeout(Duration::from_millis(50)).await;
    };
    assert!(!said_of(&health).contains(SECRET), "{health:?}");
    for page in PAGES {
        assert!(!said_of(&rig.get(page).await).contains(SECRET), "{page}");
    }
}

/// Eight clients ask without a break while the database crashes and comes back: every one of their requests is answered.
pub(crate) async fn scrapes_go_on_through_an_outage<R: Listen>() {
    let rig = Rig::<R>::start(|endpoint| endpoint).await;
    let (address, stop, answered) =
        (rig.address, AtomicBool::new(false).into_shared(), AtomicU32::new(0).into_shared());
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (stop, answered) = (stop.clone(), answered.clone());
            thread::spawn(move || {
                let page = PAGES[client % PAGES.len()];
                let able = page == "/health" || page == "/health/ready";
                while !stop.load(Ordering::Relaxed) {
                    let answer = http::get(address, page).expect("an answer");
                    assert!(answer.status == 200 || (able && answer.status == 503), "{page}: {answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let until = async |what: &str, state: &str| {
        let (end, before) = (Instant::now() + LIMIT, answered.load(Ordering::Relaxed));
        while rig.pool.health().status.as_str() != state || answered.load(Ordering::Relaxed) < before + 100 {
            assert!(Instant::now() < end, "{what}");
            kit::sleep(&R::current(), Duration::from_millis(5)).await;
        }
    };
    until("they are served", "healthy").await;
    rig.server.crash().expect("it crashes");
    until("they are served without a database", "unhealthy").await;
    let (health, ready) = (rig.get("/health").await, rig.get("/health/ready").await);
    assert_eq!((health.status, ready.status, rig.get("/health/live").await.status), (503, 503, 200));
    let outage: serde_json::Value = serde_json::from_str(&health.body).expect("JSON");
    assert!(outage["outage"]["cause"].is_string(), "{outage}");
    rig.server.start_again().expect("it starts");
    let end = Instant::now() + LIMIT;
    while rig.get("/health/ready").await.status != 200 {
        assert!(Instant::now() < end, "it recovers");
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().expect("every request is answered"));
}

trait IntoShared: Sized {
    fn into_shared(self) -> std::sync::Arc<Self> {
        std::sync::Arc::new(self)
    }
}

impl<T> IntoShared for T {}

pub(crate) async fn a_connection_asks_many_times<R: Listen>() {
    let rig = Rig::<R>::start(|endpoint| endpoint).await;
    rig.meanwhile(|address| {
        let mut stream = connect(address);
        for round in 0..200 {
            let method = if round % 2 == 0 { "GET" } else { "HEAD" };
            stream.write_all(format!("{method} /stats HTTP/1.1\r\nhost: h\r\n\r\n").as_bytes()).expect("sent");
            let (head, body) = one_answer(&mut stream, method == "HEAD");
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            assert_eq!(body.is_empty(), method == "HEAD");
        }
        // All at once, and all answered.
        stream.write_all("GET /health/live HTTP/1.1\r\nhost: h\r\n\r\n".repeat(50).as_bytes()).expect("sent");
        for _ in 0..50 {
            assert!(one_answer(&mut stream, false).1.contains("alive"));
        }
    })
    .await;
}

pub(crate) async fn bad_requests_are_answered_and_ended<R: Listen>() {
    let rig = Rig::<R>::start(|endpoint| endpoint).await;
    rig.meanwhile(|address| {
        let status = |request: &[u8]| {
            let bytes = http::exchange(address, request).expect("everything is read, so nothing is reset");
            Answer::parse(&bytes).expect("an answer").status
        };
        assert_eq!(status(b"\0\0\0\x08\x04\xd2\x16\x2f\r\n\r\n"), 400, "what psql would send");
        assert_eq!(status(b"GET /health HTTP/1.1\r\nno colon\r\n\r\n"), 400);
        let long = format!("GET / HTTP/1.1\r\nlong: {}\r\n\r\n", "x".repeat(100_000));
        assert_eq!(status(long.as_bytes()), 431);
        let body = format!("POST /health HTTP/1.1\r\nhost: h\r\ncontent-length: 50000\r\n\r\n{}", "x".repeat(50_000));
        assert_eq!(status(body.as_bytes()), 413);
        assert_eq!(status(b"DELETE / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"), 405);
    })
    .await;
    assert_eq!(rig.get("/health/live").await.status, 200);
}

pub(crate) async fn slow_clients_lose_their_connection<R: Listen>() {
    let short = Duration::from_millis(150);
    let set_up = |endpoint: Endpoint<R>| endpoint.head_timeout(short).answer_timeout(short).idle_timeout(short);
    let rig = Rig::<R>::start(set_up).await;
    rig.meanwhile(move |address| {
        let begun = Instant::now();
        let (mut silent, mut half, mut idle) = (connect(address), connect(address), connect(address));
        half.write_all(b"GET /health HTTP/1.1\r\nhost:").expect("sent");
        idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: h\r\n\r\n").expect("sent");
        assert!(one_answer(&mut idle, false).1.contains("alive"));
        for stream in [&mut silent, &mut half, &mut idle] {
            let mut rest = Vec::new();
            // The end, or a reset where something was sent in vain.
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        }
        assert!(begun.elapsed() >= short, "not before their time");
        // One that asks and asks and never reads.
        let mut deaf = connect(address);
        let requests = "GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n".repeat(100);
        while deaf.write_all(requests.as_bytes()).is_ok() {}
    })
    .await;
    assert_eq!(rig.get("/health/live").await.status, 200);
}

pub(crate) async fn many_connections_at_once<R: Listen>() {
    let rig = Rig::<R>::start(|endpoint| endpoint.max_connections(100)).await;
    rig.meanwhile(|address| {
        let mut streams: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
        for stream in &mut streams {
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: h\r\n\r\n").expect("sent");
        }
        for stream in &mut streams {
            assert!(one_answer(stream, false).0.starts_with("HTTP/1.1 200"));
        }
        let mut one_more = connect(address);
        assert!(matches!(one_more.read(&mut [0]), Ok(0) | Err(_)), "it is closed");
        drop(streams);
        pgweir_tests::eventually("there is room again", LIMIT, || http::get(address, "/health/live").is_ok());
    })
    .await;
}

pub(crate) async fn a_stop_closes_everything<R: Listen>() {
    let rig = Rig::<R>::start(|endpoint| endpoint).await;
    let address = rig.address;
    let mut idle = rig
        .meanwhile(|address| {
            let mut stream = connect(address);
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: h\r\n\r\n").expect("sent");
            one_answer(&mut stream, false);
            stream
        })
        .await;
    rig.serving.stop().await;
    assert_eq!(idle.read(&mut [0]).expect("its end"), 0);
    TcpStream::connect(address).expect_err("nobody listens");
    assert!(!rig.pool.is_closed(), "the pool goes on");
    // Again at the same port; dropped, and the pool with it.
    let serving = Endpoint::<R>::bind(address.to_string()).pool("shop", &rig.pool).serve().await.expect("it is free");
    drop(serving);
    let end = Instant::now() + LIMIT;
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < end, "it stops");
        kit::sleep(&R::current(), Duration::from_millis(2)).await;
    }
}

pub(crate) async fn an_address_in_use_is_an_error<R: Listen>() {
    let rig = Rig::<R>::start(|endpoint| endpoint).await;
    let endpoint = Endpoint::<R>::bind(rig.address.to_string()).pool("shop", &rig.pool);
    match endpoint.serve().await {
        Err(ServeError::Listen { address, source }) => {
            assert_eq!((address, source.kind()), (rig.address.to_string(), std::io::ErrorKind::AddrInUse));
        }
        other => panic!("an address in use was expected, not {other:?}"),
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LIMIT).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    stream.set_write_timeout(Some(LIMIT)).expect("set");
    stream
}

/// The next answer of a connection that stays open.
fn one_answer(stream: &mut TcpStream, head_only: bool) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("in letters");
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; if head_only { 0 } else { length.expect("its length") }];
    stream.read_exact(&mut body).expect("its body");
    (head, String::from_utf8(body).expect("in letters"))
}
