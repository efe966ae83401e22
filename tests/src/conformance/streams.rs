//! Streams: bytes, ends, wakers.

use std::io::ErrorKind;
use std::task::Poll;

use pgweir_core::runtime::{Peek, Runtime, Stream};

use super::io::{close, connect, ms, pattern, poll_read, read, read_all, until, within, write_all};
use super::wakers::Woken;
use super::{Act, Peer, Place, World};
use crate::kit::{sleep, spawn, timeout};

fn say(bytes: &[u8]) -> Act {
    Act::Say(bytes.to_vec())
}

/// A connection whose read is pending.
async fn silent<R: Runtime, W: World>(place: Place, then: impl IntoIterator<Item = Act>) -> (Peer, R::Stream) {
    let peer = W::serve(place, [Act::Wait].into_iter().chain(then).collect());
    let stream = connect::<R>(&peer).await;
    (peer, stream)
}

/// Many bytes in both directions at once, in pieces of whatever size: each arrives once and in order.
pub async fn carry_bytes_both_ways<R: Runtime, W: World>() {
    for place in Place::ALL {
        let peer = W::serve(place, vec![Act::Echo]);
        let mut stream = connect::<R>(&peer).await;
        for length in [1, 2, 100, 70_000] {
            let bytes = pattern(length);
            within::<R, _>("written", write_all(&mut stream, &bytes)).await.expect("no error");
            let mut back = vec![0; length];
            let mut got = 0;
            while got < length {
                let end = length.min(got + 1 + got % 4096);
                let read = within::<R, _>("read", read(&mut stream, &mut back[got..end])).await.expect("no error");
                assert!(read > 0 && got + read <= end, "{read} bytes into {} bytes", end - got);
                got += read;
            }
            assert!(back == bytes, "{place:?}: {length} bytes came back changed");
        }
        let mut nothing = [];
        assert!(matches!(
            poll_read(&mut stream, std::task::Waker::noop(), &mut nothing),
            Poll::Ready(Ok(0)) | Poll::Pending
        ));
        close(&mut stream).await.expect("closed");
        assert_eq!(within::<R, _>("the end", read_all(&mut stream)).await.expect("no error"), b"");
    }
}

/// The end comes after the last byte, and stays.
pub async fn end_once_and_for_all<R: Runtime, W: World>() {
    for place in Place::ALL {
        let bytes = pattern(100_000);
        let peer = W::serve(place, vec![say(&bytes)]);
        let mut stream = connect::<R>(&peer).await;
        let all = within::<R, _>("the end", read_all(&mut stream)).await.expect("no error");
        assert!(all == bytes, "{} bytes", all.len());
        for _ in 0..3 {
            assert_eq!(within::<R, _>("the end", read(&mut stream, &mut [0; 8])).await.expect("no error"), 0);
        }
        assert_eq!(stream.peek(), Peek::Ended);
    }
}

/// A reset is an error for who reads, with its own kind, and later for who writes.
pub async fn report_a_reset<R: Runtime, W: World>() {
    for place in Place::ALL {
        let (peer, mut stream) = silent::<R, W>(place, [Act::Reset]).await;
        // Unread input is what makes a Unix-domain socket reset.
        write_all(&mut stream, b"never read").await.expect("it is open");
        peer.control.release();
        let error = within::<R, _>("the reset", read_all(&mut stream)).await.expect_err("it was reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{place:?}: {error:?}");
        let bytes = pattern(10_000);
        let writes = async {
            loop {
                if let Err(error) = write_all(&mut stream, &bytes).await {
                    return error;
                }
            }
        };
        let error = within::<R, _>("an error", writes).await;
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{place:?}: {error:?}");
    }
}

/// [`Stream::poll_close`] ends one direction: the peer sees the end after the last byte, and its answer still arrives.
pub async fn close_one_direction<R: Runtime, W: World>() {
    for place in Place::ALL {
        let peer = W::serve(place, vec![Act::Read, say(b"goodbye")]);
        let mut stream = connect::<R>(&peer).await;
        let bytes = pattern(50_000);
        within::<R, _>("written", write_all(&mut stream, &bytes)).await.expect("no error");
        within::<R, _>("closed", close(&mut stream)).await.expect("no error");
        let answer = within::<R, _>("the answer", read_all(&mut stream)).await.expect("no error");
        assert_eq!(answer, b"goodbye");
        assert!(peer.control.received() == bytes, "{place:?}: {} bytes arrived", peer.control.received().len());
        assert!(write_all(&mut stream, b"more").await.is_err(), "it may not send any more");
    }
}

/// The task that reads may change between two polls: the waker of the latest one is woken.
pub async fn wake_the_reader_of_the_latest_poll<R: Runtime, W: World>() {
    for place in Place::ALL {
        let (peer, mut stream) = silent::<R, W>(place, [say(b"x"), Act::Read]).await;
        let ((_, first), (second, second_waker)) = (Woken::new(), Woken::new());
        let mut buffer = [0; 8];
        for waker in [&first, &second_waker] {
            for _ in 0..2 {
                assert!(poll_read(&mut stream, waker, &mut buffer).is_pending());
                // What the runtime does meanwhile must not use up the registration.
                sleep(&R::current(), ms(2)).await;
            }
        }
        peer.control.release();
        until::<R>("the second waker is woken", || second.once()).await;
        let read = within::<R, _>("the byte", read(&mut stream, &mut buffer)).await.expect("no error");
        assert_eq!(&buffer[..read], b"x");
    }
}

/// [`Stream::peek`] asks whether something is there, takes nothing, and knows the end; also of a stream that nobody
/// has polled.
pub async fn peek_tells_what_has_arrived<R: Runtime, W: World>() {
    for place in Place::ALL {
        for polled in [false, true] {
            let (peer, mut stream) = silent::<R, W>(place, [say(b"news")]).await;
            if polled {
                assert!(poll_read(&mut stream, std::task::Waker::noop(), &mut [0; 8]).is_pending());
            }
            assert_eq!(stream.peek(), Peek::Quiet);
            peer.control.release();
            until::<R>("it arrives", || stream.peek() != Peek::Quiet).await;
            assert_eq!([stream.peek(), stream.peek()], [Peek::Readable; 2], "{place:?}");
            let mut buffer = [0; 8];
            let read = within::<R, _>("the bytes", read(&mut stream, &mut buffer)).await.expect("no error");
            assert_eq!(&buffer[..read], b"news");
            until::<R>("the end", || stream.peek() == Peek::Ended).await;
        }
    }
}

/// A reset that nobody has read yet is no silence.
pub async fn peek_tells_a_reset<R: Runtime, W: World>() {
    for place in Place::ALL {
        let (peer, mut stream) = silent::<R, W>(place, [Act::Reset]).await;
        write_all(&mut stream, b"never read").await.expect("it is open");
        peer.control.release();
        until::<R>("it is seen", || stream.peek() != Peek::Quiet).await;
        assert_eq!(stream.peek(), Peek::Ended, "{place:?}");
    }
}

/// [`Abort`](pgweir_core::runtime::Abort) ends a read that waits in another task, and the connection with it.
pub async fn are_aborted_while_a_read_waits<R: Runtime, W: World>() {
    let runtime = R::current();
    for place in Place::ALL {
        let peer = W::serve(place, vec![Act::Read]);
        let mut stream = connect::<R>(&peer).await;
        let handle = stream.abort_handle();
        let reader = spawn(&runtime, async move { (read(&mut stream, &mut [0; 8]).await, stream) });
        sleep(&runtime, ms(5)).await;
        assert!(!reader.is_finished());
        handle.abort();
        let (result, stream) = within::<R, _>("the read ends", reader).await.expect("no panic");
        assert!(matches!(result, Ok(0) | Err(_)), "{place:?}: {result:?}");
        until::<R>("the peer sees it", || peer.control.ended() == 1).await;
        assert_eq!(stream.peek(), Peek::Ended);
    }
}

/// Again, after the peer's end, after the stream is gone, from a thread of its own: an abort does no harm.
pub async fn are_aborted_at_any_time<R: Runtime, W: World>() {
    for place in Place::ALL {
        let peer = W::serve(place, vec![]);
        let mut stream = connect::<R>(&peer).await;
        let handle = stream.abort_handle();
        within::<R, _>("the peer's end", read_all(&mut stream)).await.expect("no error");
        handle.abort();
        handle.abort();
        assert_eq!(within::<R, _>("still the end", read(&mut stream, &mut [0; 8])).await.unwrap_or(0), 0);
        drop(stream);
        handle.abort();
        if W::THREADS {
            let handle = handle.clone();
            std::thread::spawn(move || handle.abort()).join().expect("no panic");
        }
        drop(handle);
    }
}

/// A stream that is dropped is closed, once its abort handle is gone too.
pub async fn dropped_are_closed<R: Runtime, W: World>() {
    for place in Place::ALL {
        let peer = W::serve(place, vec![Act::Read]);
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(connect::<R>(&peer).await);
        }
        let mut buffer = [0; 8];
        for stream in &mut streams {
            assert!(poll_read(stream, std::task::Waker::noop(), &mut buffer).is_pending());
        }
        drop(streams.pop());
        until::<R>("one has ended", || peer.control.ended() == 1).await;
        if W::THREADS {
            std::thread::spawn(move || drop(streams)).join().expect("no panic");
        } else {
            drop(streams);
        }
        until::<R>("all have ended", || peer.control.ended() == 3).await;
    }
}

/// A stream is opened in one task, written in another and read in a third.
pub async fn may_be_moved_between_tasks<R: Runtime, W: World>() {
    let runtime = R::current();
    for place in Place::ALL {
        let peer = W::serve(place, vec![Act::Echo]);
        let address = peer.address.clone();
        let opening = spawn(&runtime, async move { R::current().connect(&address).await });
        let mut stream = within::<R, _>("opened", opening).await.expect("no panic").expect("a connection");
        // A read of this task's that is given up leaves nothing behind.
        assert!(timeout(&runtime, ms(2), read(&mut stream, &mut [0; 8])).await.is_err());
        let writing = spawn(&runtime, async move {
            write_all(&mut stream, b"around").await.expect("written");
            stream
        });
        let mut stream = within::<R, _>("written", writing).await.expect("no panic");
        let reading = spawn(&runtime, async move {
            let mut buffer = [0; 6];
            let mut got = 0;
            while got < buffer.len() {
                got += read(&mut stream, &mut buffer[got..]).await.expect("read");
            }
            buffer
        });
        assert_eq!(&within::<R, _>("read", reading).await.expect("no panic"), b"around");
    }
}
