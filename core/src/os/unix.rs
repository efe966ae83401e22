//! Unix-domain sockets.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

/// Connects to a Unix-domain socket, without waiting: the operating system says at once yes or no. The stream is
/// non-blocking.
///
/// # Errors
/// The operating system's error; [`WouldBlock`](io::ErrorKind::WouldBlock) if the server has more connections to accept
/// than it wants to queue.
pub fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}
