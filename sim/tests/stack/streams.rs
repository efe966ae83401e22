//! Streams: what `pgweir_core::runtime::Stream` promises.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use pgweir_core::runtime::{Address, Peek, Runtime, Stream};
use pgweir_sim::net::{Output, SimStream};
use pgweir_sim::scenario::Dist;
use pgweir_sim::{Sim, SimRuntime};

use crate::hosts::{Echo, at, close, connect, exact, millis, read, read_exact, write};

/// Counts its wakes.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Counter {
    fn pair() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Counter::default());
        (counter.clone(), Waker::from(counter))
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll_read(stream: &mut SimStream, waker: &Waker) -> Poll<io::Result<usize>> {
    stream.poll_read(&mut Context::from_waker(waker), &mut [0; 100])
}

#[test]
fn a_round_trip_takes_the_latency_twice() {
    let sim = exact();
    sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let mut stream = connect("db", 5432).await.expect("it listens");
        assert_eq!(sim.now(), at(3), "the name, and there and back");
        write(&mut stream, b"hello").await.expect("there is room");
        assert_eq!((stream.peek(), sim.now()), (Peek::Quiet, at(3)), "writing does not wait");
        assert_eq!(read(&mut stream).await.expect("an echo"), b"hello");
        assert_eq!((stream.peek(), sim.now()), (Peek::Quiet, at(5)));
    });
}

#[test]
fn bandwidth_makes_long_messages_slow() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo { mute: true, ..Echo::default() });
    db.net().bandwidth(Some(1_000_000)).latency(Dist::Fixed(millis(10)));
    sim.run(async |sim| {
        let mut stream = connect("db", 5432).await.expect("it listens");
        let before = sim.now();
        write(&mut stream, &[7; 50_000]).await.expect("there is room");
        while db.with(|echo, _| echo.received.len()) < 50_000 {
            sim.sleep(millis(1)).await;
        }
        assert_eq!(sim.now() - before, millis(60));
    });
}

#[test]
fn reads_and_writes_are_cut_short_and_nothing_is_lost_or_swapped() {
    Sim::seeds(1..=20, |_| {
        let sim = Sim::builder().path(|path| (path.partial, path.segment) = (0.5, 700)).build();
        let db = sim.host("db", 5432, Echo::default());
        sim.run(async |_| {
            let mut stream = connect("db", 5432).await.expect("it listens");
            let text: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
            write(&mut stream, &text).await.expect("it takes it");
            assert_eq!(read_exact(&mut stream, text.len()).await.expect("an echo"), text);
        });
        let sizes = db.with(|echo, _| echo.pieces.clone());
        assert!(sizes.iter().all(|size| *size <= 700), "{sizes:?}");
        assert!(sizes.iter().filter(|size| **size < 700).count() > 5, "{sizes:?}");
    });
}

#[test]
fn writes_wait_while_too_much_is_on_its_way() {
    let sim = Sim::builder().path(|path| (path.partial, path.send_buffer) = (0.0, 1000)).build();
    sim.host("db", 5432, Echo { mute: true, ..Echo::default() }).net().latency(Dist::Fixed(millis(1)));
    sim.run(async |sim| {
        let mut stream = connect("db", 5432).await.expect("it listens");
        let before = sim.now();
        let n = poll_fn(|cx| stream.poll_write(cx, &[1; 5000])).await.expect("there is room");
        assert_eq!(n, 1000);
        let pending = poll_fn(|cx| Poll::Ready(stream.poll_write(cx, &[1; 4000]).is_pending())).await;
        assert!(pending && sim.now() == before);
        write(&mut stream, &[1; 4000]).await.expect("there is room again and again");
        assert_eq!(sim.now() - before, millis(4));
    });
}

#[test]
fn a_host_that_sends_more_than_is_read_has_to_wait() {
    let sim = Sim::builder().path(|path| path.receive_buffer = 1000).build();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let mut stream = connect("db", 5432).await.expect("it listens");
        let text: Vec<u8> = (0..100_000_u32).map(|n| (n % 253) as u8).collect();
        db.with(|echo, _| {
            echo.all(&Output::Bytes(text.clone()));
            echo.all(&Output::Close);
        });
        sim.sleep(millis(1000)).await;
        let mut buffer = vec![0; 200_000];
        let n = poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await.expect("the first part");
        assert!(n <= 1000, "{n}");
        let mut all = buffer[..n].to_vec();
        loop {
            let more = read(&mut stream).await.expect("the rest");
            if more.is_empty() {
                break;
            }
            all.extend(more);
        }
        assert_eq!(all, text);
    });
}

#[test]
fn the_end_comes_after_the_rest_and_a_write_after_it_is_reset() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let mut stream = connect("db", 5432).await.expect("it listens");
        db.with(|echo, _| {
            echo.all(&Output::Bytes(b"last words".to_vec()));
            echo.all(&Output::Close);
        });
        assert_eq!(stream.peek(), Peek::Quiet);
        sim.sleep(millis(2)).await;
        assert_eq!(stream.peek(), Peek::Readable);
        write(&mut stream, b"too late").await.expect("nobody knows yet");
        sim.sleep(millis(5)).await;
        assert_eq!(read(&mut stream).await.expect("was there before the reset"), b"last words");
        assert_eq!(stream.peek(), Peek::Ended);
        assert_eq!(read(&mut stream).await.expect_err("reset").kind(), ErrorKind::ConnectionReset);
        assert_eq!(write(&mut stream, b"x").await.expect_err("reset").kind(), ErrorKind::ConnectionReset);

        let mut stream = connect("db", 5432).await.expect("it listens");
        db.with(|echo, _| echo.all(&Output::Close));
        assert_eq!(read(&mut stream).await.expect("the end"), b"");
        assert_eq!((read(&mut stream).await.expect("still"), stream.peek()), (b"".to_vec(), Peek::Ended));
    });
    assert_eq!(db.with(|echo, _| (echo.received.len(), echo.resets)), (0, 0), "the host has forgotten them");
}

#[test]
fn a_reset_wakes_whoever_reads_or_writes() {
    let sim = Sim::builder().path(|path| path.send_buffer = 10).build();
    let db = sim.host("db", 5432, Echo { mute: true, ..Echo::default() });
    sim.run(async |sim| {
        let mut stream = connect("db", 5432).await.expect("it listens");
        let reset = async {
            sim.sleep(millis(1)).await;
            db.with(|echo, _| echo.all(&Output::Reset));
            std::future::pending::<()>().await
        };
        let mut reset = pin!(reset);
        let error = poll_fn(|cx| {
            assert!(reset.as_mut().poll(cx).is_pending());
            stream.poll_read(cx, &mut [0; 10])
        });
        assert_eq!(error.await.expect_err("reset").kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn an_abort_shows_the_holder_the_end_and_tells_the_host() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let mut stream = connect("db", 5432).await.expect("it listens");
        let abort = stream.abort_handle();
        let (count, waker) = Counter::pair();
        assert!(poll_read(&mut stream, &waker).is_pending());
        abort.abort();
        abort.abort();
        assert_eq!((count.count(), stream.peek()), (1, Peek::Ended));
        assert!(matches!(poll_read(&mut stream, &waker), Poll::Ready(Ok(0))));
        assert_eq!(write(&mut stream, b"x").await.expect_err("shut").kind(), ErrorKind::BrokenPipe);
        sim.sleep(millis(2)).await;
        assert_eq!(db.with(|echo, _| (echo.ended, echo.links.len())), (1, 0));
        drop(stream);
        abort.abort();
        sim.sleep(millis(5)).await;
        assert_eq!(db.with(|echo, _| echo.resets), 0);
    });
}

#[test]
fn a_half_close_lets_the_answer_come() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |_| {
        let mut stream = connect("db", 5432).await.expect("it listens");
        write(&mut stream, b"goodbye").await.expect("there is room");
        close(&mut stream).await.expect("it is open");
        close(&mut stream).await.expect("twice is once");
        assert_eq!(read(&mut stream).await.expect("an echo"), b"goodbye");
        assert_eq!(read(&mut stream).await.expect("the end"), b"");
        assert_eq!(write(&mut stream, b"x").await.expect_err("shut").kind(), ErrorKind::BrokenPipe);
    });
    assert_eq!(db.with(|echo, _| (echo.ended, echo.resets)), (1, 0));
}

#[test]
fn a_dropped_stream_is_closed_and_one_with_unread_bytes_is_reset() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let stream = connect("db", 5432).await.expect("it listens");
        assert_eq!(db.net().connections(), 1);
        drop(stream);
        assert_eq!(db.net().connections(), 0);
        sim.sleep(millis(10)).await;
        assert_eq!(db.with(|echo, _| (echo.ended, echo.resets, echo.links.len())), (1, 0, 0));

        let mut stream = connect("db", 5432).await.expect("it listens");
        write(&mut stream, b"hello").await.expect("there is room");
        sim.sleep(millis(10)).await;
        drop(stream);
        sim.sleep(millis(10)).await;
        assert_eq!(db.with(|echo, _| (echo.ended, echo.resets, echo.links.len())), (1, 1, 0));
    });
}

#[test]
fn the_waker_of_the_latest_poll_is_woken_for_each_direction() {
    let sim = Sim::builder().path(|path| (path.send_buffer, path.partial) = (4, 0.0)).build();
    let db = sim.host("db", 5432, Echo { mute: true, ..Echo::default() });
    sim.run(async |sim| {
        let mut stream = connect("db", 5432).await.expect("it listens");
        let (first, first_waker) = Counter::pair();
        let (second, second_waker) = Counter::pair();
        let (writer, writer_waker) = Counter::pair();
        assert!(poll_read(&mut stream, &first_waker).is_pending());
        assert!(poll_read(&mut stream, &second_waker).is_pending());
        let mut cx = Context::from_waker(&writer_waker);
        assert!(stream.poll_write(&mut cx, b"full").is_ready());
        assert!(stream.poll_write(&mut cx, b"more").is_pending());
        sim.sleep(millis(1)).await;
        assert_eq!((first.count(), second.count(), writer.count()), (0, 0, 1), "room to write");
        db.with(|echo, _| echo.all(&Output::Bytes(b"news".to_vec())));
        sim.sleep(millis(1)).await;
        assert_eq!((first.count(), second.count(), writer.count()), (0, 1, 1), "something to read");
    });
}

#[test]
fn a_unix_socket_is_another_way_to_the_same_host() {
    let sim = exact();
    let db = sim.host("db", 5432, Echo::default());
    let socket = db.listen_unix("/run/postgresql/.s.PGSQL.5432");
    db.net().partition();
    sim.run(async |sim| {
        let runtime = SimRuntime::current();
        let address = Address::Unix("/run/postgresql/.s.PGSQL.5432".into());
        let mut stream = runtime.connect(&address).await.expect("it is local");
        write(&mut stream, b"hello").await.expect("there is room");
        assert_eq!(read_exact(&mut stream, 5).await.expect("an echo"), b"hello");
        assert_eq!(socket.connections(), 1);
        assert!(sim.now() < at(1));
        let missing = runtime.connect(&Address::Unix("/run/.s.PGSQL.1".into())).await;
        assert_eq!(missing.expect_err("is not there").kind(), ErrorKind::NotFound);
        socket.refuse();
        let refused = runtime.connect(&address).await;
        assert_eq!(refused.expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
    });
}
