//! Hosts for the tests, and what is done with a stream.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use pgweir_core::config::TcpOptions;
use pgweir_core::runtime::{Address, Runtime, Stream};
use pgweir_core::time::Instant;
use pgweir_sim::net::{Accept, Host, LinkId, Output, SimStream};
use pgweir_sim::scenario::Dist;
use pgweir_sim::{Sim, SimRuntime};

/// Sends back what it gets, and says goodbye to whoever sends no more. Panics if it is told to.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    pub(crate) links: BTreeSet<LinkId>,
    pub(crate) received: Vec<u8>,
    /// Sizes of what came in.
    pub(crate) pieces: Vec<usize>,
    pub(crate) accepted: usize,
    pub(crate) ended: usize,
    pub(crate) resets: usize,
    /// Takes what comes and says nothing.
    pub(crate) mute: bool,
    pub(crate) out: Vec<(LinkId, Output)>,
}

impl Echo {
    /// Does this to every connection.
    pub(crate) fn all(&mut self, output: &Output) {
        self.out.extend(self.links.iter().map(|link| (*link, output.clone())));
        if !matches!(output, Output::Bytes(_)) {
            self.links.clear();
        }
    }
}

impl Host for Echo {
    fn accept(&mut self, _: Instant, link: LinkId) -> Accept {
        self.accepted += 1;
        self.links.insert(link);
        Accept::Open
    }

    fn receive(&mut self, _: Instant, link: LinkId, bytes: &[u8]) {
        assert!(self.links.contains(&link), "{link:?} is unknown");
        assert!(bytes != b"panic", "the host was told to");
        self.received.extend_from_slice(bytes);
        self.pieces.push(bytes.len());
        if !self.mute {
            self.out.push((link, Output::Bytes(bytes.to_vec())));
        }
    }

    fn end(&mut self, _: Instant, link: LinkId) {
        self.ended += 1;
        if self.links.remove(&link) {
            self.out.push((link, Output::Close));
        }
    }

    fn reset(&mut self, _: Instant, link: LinkId) {
        self.resets += 1;
        self.links.remove(&link);
    }

    fn tick(&mut self, _: Instant) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn drain(&mut self, out: &mut Vec<(LinkId, Output)>) {
        out.append(&mut self.out);
    }
}

/// A simulation whose network takes 1 ms each way, whole reads and writes, and timers without slack: the times are
/// exact.
pub(crate) fn exact() -> Sim {
    let builder = Sim::builder().timer_slack(Dist::Fixed(Duration::ZERO));
    let builder = builder.path(|path| {
        path.to_host = Dist::Fixed(millis(1));
        path.to_client = Dist::Fixed(millis(1));
        path.retransmission = Dist::Fixed(millis(100));
        path.partial = 0.0;
    });
    let sim = builder.build();
    sim.set_dns_latency(Dist::Fixed(millis(1)));
    sim
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

pub(crate) async fn connect(name: &str, port: u16) -> io::Result<SimStream> {
    connect_with(name, port, TcpOptions::default()).await
}

pub(crate) async fn connect_with(name: &str, port: u16, options: TcpOptions) -> io::Result<SimStream> {
    let runtime = SimRuntime::current();
    let address = runtime.resolve(name, port).await?[0];
    runtime.connect(&Address::Tcp(address, options)).await
}

/// Writes all of it.
pub(crate) async fn write(stream: &mut SimStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = poll_fn(|cx| stream.poll_write(cx, bytes)).await?;
        bytes = &bytes[n..];
    }
    Ok(())
}

/// Reads once.
pub(crate) async fn read(stream: &mut SimStream) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 4096];
    let n = poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await?;
    Ok(buffer[..n].to_vec())
}

/// Reads so many bytes.
pub(crate) async fn read_exact(stream: &mut SimStream, n: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < n {
        let more = read(stream).await?;
        if more.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend(more);
    }
    Ok(bytes)
}

pub(crate) async fn close(stream: &mut SimStream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_close(cx)).await
}
