//! Connecting and names: the errors are the operating system's, whatever the runtime, because they decide whether a
//! retry makes sense.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use pgweir_core::runtime::{Address, Runtime};

use super::io::{close, connect, ms, read_all, until, within, write_all};
use super::{Act, Place, World};
use crate::kit::{timeout, yield_now};

async fn error_of<R: Runtime>(address: &Address) -> std::io::Error {
    let connecting = R::current();
    let connected = within::<R, _>("an answer", connecting.connect(address)).await;
    connected.expect_err("nobody listens there")
}

/// Where nobody listens a connect is refused, with the system's code.
pub async fn refused<R: Runtime, W: World>() {
    let peer = W::refusing(Place::Tcp);
    let error = error_of::<R>(&peer.address).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error:?}");
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
}

/// A path that is not there is not found.
pub async fn of_no_such_socket<R: Runtime, W: World>() {
    let error = error_of::<R>(&Address::Unix(PathBuf::from("/no-such-folder/.s.PGSQL.5432"))).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
}

/// A socket's file whose server has ended refuses.
pub async fn of_a_socket_that_nobody_listens_on<R: Runtime, W: World>() {
    let peer = W::refusing(Place::Unix);
    let error = error_of::<R>(&peer.address).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error:?}");
}

/// A socket that may not be used is told apart from one that is not there.
pub async fn without_permission<R: Runtime, W: World>() {
    let Some(peer) = W::forbidden() else {
        // A world without permissions has nothing to tell apart.
        assert!(!W::THREADS, "real sockets have permissions");
        return;
    };
    let error = error_of::<R>(&peer.address).await;
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
}

/// A server that does not come to accepting is busy for now; a Unix-domain socket says so at once.
pub async fn to_a_crowded_socket<R: Runtime, W: World>() {
    let Some(peer) = W::crowded() else {
        assert!(!W::THREADS, "the queues of real sockets have an end");
        return;
    };
    let error = error_of::<R>(&peer.address).await;
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error:?}");
}

/// A connect that is dropped, after any number of polls, closes what it has opened.
pub async fn that_are_dropped_close<R: Runtime, W: World>() {
    let runtime = R::current();
    for place in Place::ALL {
        let peer = W::serve(place, vec![Act::Read]);
        let mut opened = 0;
        for polls in 0..20 {
            // Zero time is one poll; later ones give it more of a chance to succeed before it is dropped.
            let connecting = timeout(&runtime, ms(polls / 10), runtime.connect(&peer.address)).await;
            opened += usize::from(connecting.is_ok_and(|connected| connected.is_ok()));
            yield_now().await;
        }
        until::<R>("every connection ends", || peer.control.ended() >= opened).await;
        // And the runtime is none the worse for it.
        let stream = connect::<R>(&peer).await;
        drop(stream);
        until::<R>("the last one ends", || peer.control.ended() > opened).await;
    }
}

/// The local host has its name everywhere.
pub async fn names_are_resolved<R: Runtime, W: World>() {
    let runtime = R::current();
    let found = within::<R, _>("the addresses", runtime.resolve("localhost", 5432)).await.expect("a name");
    assert!(!found.is_empty());
    assert!(found.iter().all(|address| address.port() == 5432 && address.ip().is_loopback()), "{found:?}");
}

/// An address in letters needs no resolver.
pub async fn addresses_are_names_of_themselves<R: Runtime, W: World>() {
    let runtime = R::current();
    for (name, ip) in [
        ("127.0.0.1", IpAddr::from(Ipv4Addr::LOCALHOST)),
        ("192.0.2.7", IpAddr::from([192, 0, 2, 7])),
        ("::1", IpAddr::from(Ipv6Addr::LOCALHOST)),
    ] {
        let found = within::<R, _>("the address", runtime.resolve(name, 6543)).await.expect("an address");
        assert_eq!(found, [SocketAddr::new(ip, 6543)]);
    }
}

/// A name that nobody has is an error, or an empty list, which the driver takes for one; never a hang or a panic.
pub async fn unknown_names_are_errors<R: Runtime, W: World>() {
    let runtime = R::current();
    for name in ["no-such-host.invalid", "", "a name with spaces"] {
        let found = within::<R, _>("an answer", runtime.resolve(name, 5432)).await;
        assert!(found.as_ref().map_or(true, Vec::is_empty), "{name:?}: {found:?}");
    }
}

/// Both kinds of sockets reach the same peer, which needs no more than what was said.
pub async fn both_kinds_reach_their_peer<R: Runtime, W: World>() {
    for place in Place::ALL {
        let peer = W::serve(place, vec![Act::Say(b"hello".to_vec())]);
        let mut stream = connect::<R>(&peer).await;
        let said = within::<R, _>("what it says", read_all(&mut stream)).await.expect("no error");
        assert_eq!(said, b"hello");
    }
}

/// Whoever waits may be on any thread: names, connects, streams and timers work outside of the runtime's own.
pub async fn work_outside_of_the_runtime<R: Runtime, W: World>() {
    for place in Place::ALL {
        let peer = W::serve(place, vec![Act::Echo]);
        let (runtime, address) = (R::current(), peer.address.clone());
        let work = async move {
            runtime.resolve("localhost", 5432).await.expect("a name");
            let mut stream = runtime.connect(&address).await.expect("a connection");
            write_all(&mut stream, b"outside").await.expect("written");
            close(&mut stream).await.expect("closed");
            runtime.timer(runtime.now() + ms(2)).await;
            read_all(&mut stream).await.expect("read")
        };
        let echoed = if W::THREADS {
            let thread = std::thread::spawn(|| futures_lite::future::block_on(work));
            until::<R>("it is done", || thread.is_finished()).await;
            thread.join().expect("no panic")
        } else {
            work.await
        };
        assert_eq!(echoed, b"outside");
    }
}
