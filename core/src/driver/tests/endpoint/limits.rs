//! What clients may do to it: malformed, oversized, slow, many; and how it ends.

use std::io;

use super::super::Held;
use super::rig::{Answer, Client, Rig};
use crate::endpoint::Endpoint;

const GET: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: h\r\n\r\n";

/// A client is told what is wrong, and then the connection is over: at once for one that listens, after a second for one
/// that goes on sending.
fn refused(request: &[u8], status: u16) {
    let mut rig = Rig::new();
    let client = rig.client();
    client.send(request);
    rig.world.run();
    let text = client.take();
    let shown = String::from_utf8_lossy(&request[..request.len().min(80)]).into_owned();
    assert_eq!(Answer::parse(&text).status, status, "{shown:?}");
    assert!(client.has_ended(), "{shown:?}");
    rig.pass(2);
    assert!(client.is_closed(), "{shown:?}");
    assert_eq!(rig.get("/health/live").status, 200, "it goes on after {shown:?}");
}

#[test]
fn malformed_requests_are_answered_400() {
    let requests: [&[u8]; 10] = [
        b"\0\0\0\x08\x04\xd2\x16\x2f\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET  /health HTTP/1.1\r\nhost: h\r\n\r\n",
        b"GET /health HTTP/9.9\r\nhost: h\r\n\r\n",
        b"GET /health HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /health HTTP/1.1\r\nna\0me: value\r\n\r\n",
        b"GET /health HTTP/1.1\r\ncontent-length: many\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
    ];
    requests.into_iter().for_each(|request| refused(request, 400));
}

#[test]
fn oversized_heads_are_answered_431() {
    let long = |bytes: usize| format!("GET /health HTTP/1.1\r\nhost: h\r\nlong: {}\r\n\r\n", "x".repeat(bytes));
    refused(long(20 * 1024).as_bytes(), 431);
    // Longer than anything is kept of.
    refused(long(1024 * 1024).as_bytes(), 431);
    let many: String = (0..100).map(|index| format!("name-{index}: value\r\n")).collect();
    refused(format!("GET /health HTTP/1.1\r\n{many}\r\n").as_bytes(), 431);
    let mut rig = Rig::new();
    assert_eq!(rig.ask(&long(8 * 1024)).status, 200, "large, but within the limit");
}

#[test]
fn bodies_are_refused() {
    for header in ["content-length: 5", "transfer-encoding: chunked", "content-length: 999999999999"] {
        let request = format!("POST /health HTTP/1.1\r\nhost: h\r\n{header}\r\n\r\nhello");
        refused(request.as_bytes(), 413);
        refused(request.replace("POST", "GET").as_bytes(), 413);
    }
    let expecting = b"POST /health HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    refused(expecting, 413);
    let mut rig = Rig::new();
    assert_eq!(rig.ask("GET /health HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n").status, 200);
}

/// Damaged requests of every kind: whatever is sent, the connection is over when its client ends or its time is up.
#[test]
fn no_request_leaves_a_task_behind() {
    let whole = b"GET /debug/pool?limit=3&pool=shop HTTP/1.1\r\nhost: h\r\naccept: */*\r\ncontent-length: 0\r\n\r\n";
    let mut rig = Rig::new();
    let mut seed: u64 = 42;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut clients = Vec::new();
    for turn in 0..600 {
        let mut bytes = whole.to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.drain(at..(at + random(20)).min(bytes.len()))),
                _ => bytes.insert(at, random(256) as u8),
            }
            if bytes.is_empty() {
                bytes.push(b'G');
            }
        }
        let client = rig.client();
        client.send(&bytes);
        rig.world.run();
        if turn % 2 == 0 {
            client.end();
        }
        clients.push(client);
        if turn % 100 == 99 {
            // A whole request and then nothing: that is the longest that anything may stay.
            rig.pass(86);
            assert!(clients.iter().all(Client::is_closed), "after the longest patience");
        }
    }
    assert_eq!(rig.get("/health/live").status, 200);
}

#[test]
fn a_head_must_come_in_time() {
    let mut rig = Rig::new();
    let (silent, slow) = (rig.client(), rig.client());
    slow.send(b"GET /health HTTP/1.1\r\n");
    for second in 0..9 {
        rig.pass(1);
        slow.send(format!("x-{second}: y\r\n").as_bytes());
        assert!(!silent.is_closed() && !slow.is_closed(), "after {second} s");
    }
    rig.pass(2);
    assert!(silent.is_closed() && slow.is_closed(), "each byte in time, but not the whole");
    // One that has asked before has no more time for its next head.
    let regular = rig.client();
    regular.send(GET);
    rig.pass(30);
    assert_eq!(Answer::parse(&regular.take()).status, 200);
    regular.send(b"GET /heal");
    rig.pass(9);
    assert!(!regular.is_closed());
    rig.pass(2);
    assert!(regular.is_closed());
}

#[test]
fn an_idle_connection_is_closed() {
    let mut rig = Rig::new();
    let client = rig.client();
    for _ in 0..3 {
        client.send(GET);
        rig.pass(74);
        assert_eq!(Answer::parse(&client.take()).status, 200);
        assert!(!client.is_closed());
    }
    rig.pass(2);
    assert!(client.is_closed());
}

#[test]
fn an_answer_must_be_taken_in_time() {
    let mut rig = Rig::new();
    // One that takes nothing, one that takes ten bytes a second, and one that has asked a hundred times at once.
    let (deaf, slow, greedy) = (rig.client_with_room(0), rig.client_with_room(10), rig.client_with_room(100));
    deaf.send(b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n");
    slow.send(b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n");
    greedy.send(&GET.repeat(100));
    for _ in 0..9 {
        rig.pass(1);
        slow.makes_room(10);
        assert!(![&deaf, &slow, &greedy].iter().any(|client| client.is_closed()));
    }
    rig.pass(2);
    assert!([&deaf, &slow, &greedy].iter().all(|client| client.is_closed()));
    assert_eq!(slow.take().len(), 100);
    // In time is in time, however late.
    let late = rig.client_with_room(0);
    late.send(GET);
    rig.pass(9);
    late.makes_room(usize::MAX);
    rig.pass(60);
    assert_eq!(Answer::parse(&late.take()).status, 200);
    assert!(!late.is_closed());
}

#[test]
fn one_connection_too_many_is_closed_at_once() {
    let mut rig = Rig::with(|endpoint| endpoint.max_connections(3));
    let clients: Vec<Client> = (0..3).map(|_| rig.client()).collect();
    let one_more = rig.client();
    assert!(one_more.is_closed());
    assert!(clients.iter().all(|client| !client.is_closed()));
    clients[1].end();
    rig.world.run();
    assert_eq!(rig.get("/health/live").status, 200, "there is room again");
}

#[test]
fn accept_errors_are_waited_out() {
    let mut rig = Rig::new();
    let before = rig.door.asked();
    (0..20).for_each(|_| rig.door.enqueue(Err(io::Error::from_raw_os_error(24))));
    rig.pass(5);
    let asked = rig.door.asked() - before;
    // 10, 20, 40 .. 640 ms, then every second.
    assert!((8..=14).contains(&asked), "asked {asked} times in 5 s");
    rig.pass(20);
    assert_eq!(rig.get("/health/live").status, 200, "it recovers");
    // A client that is gone already is no reason to wait.
    let before = rig.door.asked();
    (0..20).for_each(|_| rig.door.enqueue(Err(io::ErrorKind::ConnectionAborted.into())));
    rig.world.run();
    assert!(rig.door.asked() - before >= 20);
}

#[test]
fn a_stop_lets_answers_finish() {
    let mut rig = Rig::new();
    let (idle, answered) = (rig.client(), rig.client_with_room(0));
    idle.send(GET);
    answered.send(GET);
    rig.world.run();
    assert_eq!(Answer::parse(&idle.take()).status, 200);
    let mut stop = Held::new(rig.serving.take().expect("it serves").stop());
    stop.waits();
    rig.world.run();
    assert!(rig.door.is_closed() && idle.is_closed() && !answered.is_closed());
    stop.waits();
    answered.makes_room(usize::MAX);
    rig.world.run();
    let answer = Answer::parse(&answered.take());
    assert!(answer.status == 200 && answer.body.contains("alive"), "{answer:?}");
    assert!(answered.is_closed());
    stop.ready();
}

#[test]
fn a_stop_waits_for_nobody_for_long() {
    let mut rig = Rig::new();
    let clients = [rig.client_with_room(0), rig.client()];
    clients[0].send(GET);
    clients[1].send(b"GET /hea");
    rig.world.run();
    let mut stop = Held::new(rig.serving.take().expect("it serves").stop());
    stop.waits();
    rig.pass(12);
    stop.ready();
    assert!(clients.iter().all(Client::is_closed));
}

#[test]
fn a_dropped_handle_stops_it() {
    let mut rig = Rig::new();
    let client = rig.client();
    client.send(GET);
    rig.world.run();
    rig.serving = None;
    rig.world.run();
    assert!(rig.door.is_closed() && client.is_closed());
    // So does the end of the runtime, and whoever waits hears of it.
    let mut rig = Rig::new();
    let client = rig.client();
    let mut stop = Held::new(rig.serving.take().expect("it serves").stop());
    stop.waits();
    rig.world.stop();
    stop.ready();
    assert!(rig.door.is_closed() && client.is_closed());
}

#[test]
fn the_default_is_loopback_only() {
    let endpoint = format!("{:?}", Endpoint::<super::rig::Door>::default());
    assert!(endpoint.contains("127.0.0.1:9187"), "{endpoint}");
}
