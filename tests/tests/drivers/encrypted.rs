//! Connections behind a TLS connector: the pool watches what is decrypted. The connector here scrambles every byte and
//! has a server in front of PostgreSQL that does the same; what a real one does beyond that is its own affair.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use pgweir_core::config::PoolConfig;
use pgweir_tokio::tokio_postgres::{Manager, Pool, Wire, builder};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

use crate::common::{run, server};

const KEY: u8 = 0x5a;

/// The connector.
#[derive(Clone)]
struct Scramble;

/// Its stream: bytes are scrambled on the way out and restored on the way in.
struct Scrambled<S>(S);

impl MakeTlsConnect<Wire> for Scramble {
    type Stream = Scrambled<Wire>;
    type TlsConnect = Scramble;
    type Error = Infallible;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Scramble, Infallible> {
        assert_eq!(domain, "localhost", "the name of the configuration, not the address");
        Ok(Scramble)
    }
}

impl TlsConnect<Wire> for Scramble {
    type Stream = Scrambled<Wire>;
    type Error = Infallible;
    type Future = Ready<Result<Scrambled<Wire>, Infallible>>;

    fn connect(self, wire: Wire) -> Self::Future {
        ready(Ok(Scrambled(wire)))
    }
}

impl<S> TlsStream for Scrambled<S>
where
    Scrambled<S>: AsyncRead + AsyncWrite,
{
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Scrambled<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.0).poll_read(cx, buffer);
        buffer.filled_mut()[before..].iter_mut().for_each(|byte| *byte ^= KEY);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Scrambled<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let scrambled: Vec<u8> = bytes.iter().map(|byte| byte ^ KEY).collect();
        Pin::new(&mut self.0).poll_write(cx, &scrambled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Stands in front of the shared server and answers an SSLRequest.
async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.expect("a connection");
            tokio::spawn(pass(client));
        }
    });
    address
}

async fn pass(mut client: TcpStream) {
    let mut request = [0; 8];
    client.read_exact(&mut request).await.expect("an SSLRequest");
    assert_eq!(request, [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f], "nothing comes in the clear");
    client.write_all(b"S").await.expect("written");
    let mut upstream = TcpStream::connect(server().address()).await.expect("the server");
    // Either end may go away in the middle.
    let _ = tokio::io::copy_bidirectional(&mut Scrambled(client), &mut upstream).await;
}

async fn pool() -> Pool {
    let port = serve().await.port();
    let url = format!("user=postgres host=localhost hostaddr=127.0.0.1 port={port} sslmode=require");
    let config = PoolConfig::builder().max_size(1).build().expect("valid");
    builder(Manager::new(url.parse().expect("valid"), Scramble), config).open().await.expect("it opens")
}

#[test]
fn a_clean_encrypted_connection_is_lent_again_without_a_reset() {
    run(async {
        let pool = pool().await;
        for n in 0..20_i32 {
            let mut client = pool.get().await.expect("a connection");
            let transaction = client.transaction().await.expect("a transaction");
            assert_eq!(transaction.query_one("SELECT $1::int4", &[&n]).await.expect("a row").get::<_, i32>(0), n);
            transaction.commit().await.expect("committed");
            drop(client);
            assert_eq!((pool.status().resetting, pool.status().idle), (0, 1), "in round {n}");
        }
        assert_eq!(pool.stats().opened, 1);
        pool.close().await;
    });
}

#[test]
fn what_an_encrypted_connection_leaves_behind_is_settled() {
    run(async {
        let pool = pool().await;
        for _ in 0..3 {
            let client = pool.get().await.expect("a connection");
            client.batch_execute("BEGIN").await.expect("it runs");
            let sleeps = client.batch_execute("SELECT pg_sleep(600)");
            assert!(tokio::time::timeout(std::time::Duration::from_millis(30), sleeps).await.is_err());
            drop(client);
            let client = pool.get().await.expect("the same connection");
            client.batch_execute("SAVEPOINT nowhere").await.expect_err("the transaction is over");
        }
        assert_eq!(pool.stats().opened, 1);
        let client = pool.get().await.expect("a connection");
        let token = client.cancel_token();
        let (slept, sent) = tokio::join!(client.batch_execute("SELECT pg_sleep(600)"), async {
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            token.cancel_query(Scramble).await
        });
        assert_eq!(slept.expect_err("cancelled").code().expect("the server's").code(), "57014");
        sent.expect("sent");
        drop(client);
        pool.close().await;
    });
}
