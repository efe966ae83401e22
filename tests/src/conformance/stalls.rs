//! Streams whose peer does not read: writes that wait.

use std::task::Poll;

use pgweir_core::runtime::{Runtime, Stream};

use super::io::{close, connect, ms, pattern, poll_read, poll_write, read, read_all, until, within, write_all};
use super::wakers::Woken;
use super::{Act, Peer, Place, World};
use crate::kit::{sleep, spawn};

/// More than the buffers of both ends hold.
const MUCH: usize = 16 << 20;

/// Writes until there is no room; how many bytes that took.
async fn fill<R: Runtime>(stream: &mut R::Stream, bytes: &[u8]) -> usize {
    let (_, waker) = Woken::new();
    let mut written = 0;
    // Twice, because room may appear while the peer's buffer grows.
    for _ in 0..5 {
        while let Poll::Ready(result) = poll_write(stream, &waker, &bytes[written..]) {
            written += result.expect("no error");
            assert!(written < bytes.len(), "the peer does not read, and {written} bytes were taken");
        }
        sleep(&R::current(), ms(10)).await;
    }
    while let Poll::Ready(result) = poll_write(stream, &waker, &bytes[written..]) {
        written += result.expect("no error");
    }
    written
}

async fn stalled<R: Runtime, W: World>(place: Place, acts: Vec<Act>) -> (Peer, R::Stream) {
    let peer = W::serve(place, acts);
    let stream = connect::<R>(&peer).await;
    peer.control.stall();
    (peer, stream)
}

/// A write waits until there is room, and then goes on; nothing is lost, nothing comes twice.
pub async fn a_write_waits_for_a_slow_reader<R: Runtime, W: World>() {
    let bytes = pattern(MUCH);
    for place in Place::ALL {
        let (peer, mut stream) = stalled::<R, W>(place, vec![Act::Wait, Act::Read]).await;
        let written = fill::<R>(&mut stream, &bytes).await;
        let (rest, control) = (bytes[written..].to_vec(), peer.control.clone());
        let writer = spawn(&R::current(), async move {
            write_all(&mut stream, &rest).await.expect("no error");
            close(&mut stream).await.expect("closed");
            read_all(&mut stream).await.expect("the peer's end")
        });
        sleep(&R::current(), ms(5)).await;
        assert!(!writer.is_finished(), "{place:?}: the peer does not read yet");
        control.release();
        within::<R, _>("all is written", writer).await.expect("no panic");
        assert!(peer.control.received() == bytes, "{place:?}: {} bytes arrived", peer.control.received().len());
    }
}

/// The task that writes may change between two polls: the waker of the latest one is woken.
pub async fn wake_the_writer_of_the_latest_poll<R: Runtime, W: World>() {
    let bytes = pattern(MUCH);
    for place in Place::ALL {
        let (peer, mut stream) = stalled::<R, W>(place, vec![Act::Wait, Act::Read]).await;
        fill::<R>(&mut stream, &bytes).await;
        let ((_, first), (second, second_waker)) = (Woken::new(), Woken::new());
        for waker in [&first, &second_waker] {
            assert!(poll_write(&mut stream, waker, b"more").is_pending());
            sleep(&R::current(), ms(2)).await;
        }
        peer.control.release();
        until::<R>("the second waker is woken", || second.once()).await;
        within::<R, _>("there is room", write_all(&mut stream, b"more")).await.expect("no error");
    }
}

/// The two directions have wakers of their own: while a write waits, who reads is woken by what arrives.
pub async fn a_reader_is_woken_while_a_write_waits<R: Runtime, W: World>() {
    let bytes = pattern(MUCH);
    for place in Place::ALL {
        let (peer, mut stream) = stalled::<R, W>(place, vec![Act::Wait, Act::Say(b"!".to_vec()), Act::Read]).await;
        let ((reader, read_waker), (writer, write_waker)) = (Woken::new(), Woken::new());
        let mut buffer = [0; 8];
        fill::<R>(&mut stream, &bytes).await;
        assert!(poll_read(&mut stream, &read_waker, &mut buffer).is_pending());
        assert!(poll_write(&mut stream, &write_waker, b"more").is_pending());
        peer.control.release();
        until::<R>("who reads is woken", || reader.once()).await;
        until::<R>("who writes is woken", || writer.once()).await;
        let got = within::<R, _>("the byte", read(&mut stream, &mut buffer)).await.expect("no error");
        assert_eq!(&buffer[..got], b"!");
    }
}

/// An abort ends a write that waits for a peer that never reads.
pub async fn a_write_that_waits_is_aborted<R: Runtime, W: World>() {
    let bytes = pattern(MUCH);
    for place in Place::ALL {
        let (_peer, mut stream) = stalled::<R, W>(place, vec![Act::Wait]).await;
        let handle = stream.abort_handle();
        fill::<R>(&mut stream, &bytes).await;
        let writer = spawn(&R::current(), async move { write_all(&mut stream, b"more").await });
        sleep(&R::current(), ms(5)).await;
        assert!(!writer.is_finished());
        handle.abort();
        within::<R, _>("the write ends", writer).await.expect("no panic").expect_err("it was aborted");
    }
}
