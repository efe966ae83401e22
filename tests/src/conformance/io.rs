//! A stream's polls as futures, and waiting for what the runtime does not tell.

use std::future::poll_fn;
use std::io;
use std::panic::Location;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pgweir_core::runtime::{Runtime, Stream};

use super::peer::Peer;
use crate::kit::{sleep, timeout};

/// How long anything may take. Generous, and free: what works takes milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) async fn read<S: Stream>(stream: &mut S, buffer: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_read(cx, buffer)).await
}

/// Reads to the end.
pub(crate) async fn read_all<S: Stream>(stream: &mut S) -> io::Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 10_000]);
    loop {
        match read(stream, &mut buffer).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
}

pub(crate) async fn write_all<S: Stream>(stream: &mut S, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| stream.poll_write(cx, bytes)).await?;
        assert!(written > 0, "a write of nothing");
        bytes = &bytes[written..];
    }
    Ok(())
}

pub(crate) async fn close<S: Stream>(stream: &mut S) -> io::Result<()> {
    poll_fn(|cx| stream.poll_close(cx)).await
}

/// One poll for reading with this waker.
pub(crate) fn poll_read<S: Stream>(stream: &mut S, waker: &Waker, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    stream.poll_read(&mut Context::from_waker(waker), buffer)
}

/// One poll for writing with this waker.
pub(crate) fn poll_write<S: Stream>(stream: &mut S, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
    stream.poll_write(&mut Context::from_waker(waker), bytes)
}

/// A connection to `peer`.
pub(crate) async fn connect<R: Runtime>(peer: &Peer) -> R::Stream {
    within::<R, _>("a connection", R::current().connect(&peer.address)).await.expect("the peer listens")
}

/// Waits for what comes soon.
#[track_caller]
pub(crate) fn within<R: Runtime, T>(what: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let done = timeout(&R::current(), LIMIT, work).await;
        done.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?} ({caller})"))
    }
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn until<R: Runtime>(what: &str, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    within::<R, _>(what, async move {
        while !condition() {
            sleep(&R::current(), ms(1)).await;
        }
    })
}

/// Bytes in which a piece that is lost, doubled or moved is seen.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
