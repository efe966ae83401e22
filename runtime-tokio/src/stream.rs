//! [`Stream`] over tokio's sockets.

use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pgweir_core::os;
use pgweir_core::runtime::{Abort, Address, Peek, Stream};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A TCP or Unix-domain socket. Shared with nobody but its abort handle, which only ever shuts it down.
#[derive(Debug)]
pub struct TokioStream {
    socket: Arc<Socket>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl TokioStream {
    pub(crate) async fn connect(address: &Address) -> io::Result<Self> {
        let socket = match address {
            Address::Tcp(address, options) => {
                let stream = TcpStream::connect(address).await?;
                os::set_up_tcp(&SockRef::from(&stream), options)?;
                Socket::Tcp(stream)
            }
            Address::Unix(path) => Socket::Unix(UnixStream::from_std(os::connect_unix(path)?)?),
        };
        Ok(TokioStream { socket: Arc::new(socket) })
    }

    /// A connection that came in. If it is gone again its first read says so.
    #[cfg(feature = "endpoint")]
    pub(crate) fn accepted(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        TokioStream { socket: Arc::new(Socket::Tcp(stream)) }
    }

    /// The same socket once more, to look at it or to end it: only one of the two may be polled.
    #[cfg(feature = "tokio-postgres")]
    pub(crate) fn share(&self) -> Self {
        TokioStream { socket: Arc::clone(&self.socket) }
    }

    /// Reads without asking tokio, which hears of what has arrived only when its reactor turns.
    #[cfg(feature = "tokio-postgres")]
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.socket.raw()).read(buffer)
    }
}

impl Socket {
    fn raw(&self) -> SockRef<'_> {
        match self {
            Socket::Tcp(stream) => SockRef::from(stream),
            Socket::Unix(stream) => SockRef::from(stream),
        }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Reads what is there. A short read means that the socket is drained: tokio is told so at once, which saves the
    /// next poll a system call that would only say "nothing yet".
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut drained = None;
        let read = || {
            let read = (&*self.raw()).read(buffer)?;
            if read == 0 || read == buffer.len() {
                return Ok(read);
            }
            drained = Some(read);
            Err(io::ErrorKind::WouldBlock.into())
        };
        let result = match self {
            Socket::Tcp(stream) => stream.try_io(Interest::READABLE, read),
            Socket::Unix(stream) => stream.try_io(Interest::READABLE, read),
        };
        drained.map_or(result, Ok)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => stream.poll_write_ready(cx),
            Socket::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(bytes),
            Socket::Unix(stream) => stream.try_write(bytes),
        }
    }
}

impl Stream for TokioStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_close(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.raw().shutdown(Shutdown::Write))
    }

    fn peek(&self) -> Peek {
        os::peek(&self.socket.raw())
    }

    fn abort_handle(&self) -> Arc<dyn Abort> {
        self.socket.clone()
    }
}

impl Abort for Socket {
    fn abort(&self) {
        os::abort(&self.raw());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pgweir_core::config::Config;
    use pgweir_core::runtime::{Address, Runtime};

    use crate::TokioRuntime;

    #[tokio::test]
    async fn socket_timers_of_the_url_reach_the_socket() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let url = "postgres://u@h?keepalives_idle=61&keepalives_interval=7&keepalives_count=3&tcp_user_timeout=1500";
        let config = Config::builder().database_url(url).build().expect("valid");
        let options = config.connect().tcp();
        let stream = TokioRuntime::current().connect(&Address::Tcp(address, options)).await.expect("connects");
        let socket = stream.socket.raw();
        assert!(socket.tcp_nodelay().expect("readable"));
        assert!(socket.keepalive().expect("readable"));
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().expect("readable"), Duration::from_secs(61));
            assert_eq!(socket.tcp_keepalive_interval().expect("readable"), Duration::from_secs(7));
            assert_eq!(socket.tcp_keepalive_retries().expect("readable"), 3);
            assert_eq!(socket.tcp_user_timeout().expect("readable"), Some(Duration::from_millis(1500)));
        }
    }
}
