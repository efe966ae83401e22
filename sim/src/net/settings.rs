//! What a path through the network is like.

use std::time::Duration;

use crate::scenario::Dist;

/// The path to a host, and the sockets at its ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// How long a segment takes to the host. Segments never overtake each other.
    pub to_host: Dist,
    /// How long a segment takes to the client.
    pub to_client: Dist,
    /// What opening a connection takes on top of a round trip.
    pub connect: Dist,
    /// Bytes per second, in each direction of each connection; `None` is without a limit.
    pub bandwidth: Option<u64>,
    /// The largest segment, in bytes: longer writes arrive in pieces.
    pub segment: usize,
    /// The share of a client's reads and writes that do less than they could, as a real socket's may at any time: by a
    /// random length, at least one byte.
    pub partial: f64,
    /// Bytes of a client that may be on their way before its writes have to wait.
    pub send_buffer: usize,
    /// Bytes that wait for a client, or are on their way to it, before its host's have to wait.
    pub receive_buffer: usize,
    /// After a silence of the network: until what was lost in it is sent again, on top of the latency.
    pub retransmission: Dist,
    /// After this long without a word from a client that the network cuts off, the host's side gives a connection up.
    /// Linux's default is 2 h 11 min 15 s.
    pub host_gives_up: Duration,
}

impl Default for Path {
    /// A local network: 50 to 150 µs each way, no limit of bandwidth, and one read or write in ten cut short.
    fn default() -> Self {
        let latency = Dist::Uniform(Duration::from_micros(50), Duration::from_micros(150));
        Path {
            to_host: latency,
            to_client: latency,
            connect: Dist::Fixed(Duration::ZERO),
            bandwidth: None,
            segment: 16 * 1024,
            partial: 0.1,
            send_buffer: 64 * 1024,
            receive_buffer: 64 * 1024,
            retransmission: Dist::Uniform(Duration::ZERO, Duration::from_millis(200)),
            host_gives_up: Duration::from_secs(2 * 3600 + 11 * 60 + 15),
        }
    }
}

impl Path {
    /// # Panics
    /// If it cannot be.
    #[track_caller]
    pub(crate) fn check(&self) {
        let dists = [
            ("to_host", self.to_host),
            ("to_client", self.to_client),
            ("connect", self.connect),
            ("retransmission", self.retransmission),
        ];
        for (name, dist) in dists {
            check_dist(name, dist);
        }
        assert!(
            self.bandwidth != Some(0),
            "bandwidth: at least one byte per second, or None; use partition() for nothing"
        );
        assert!((0.0..=1.0).contains(&self.partial), "partial: a share between 0 and 1, not {}", self.partial);
        for (name, bytes) in
            [("segment", self.segment), ("send_buffer", self.send_buffer), ("receive_buffer", self.receive_buffer)]
        {
            assert!(bytes > 0, "{name}: at least one byte");
        }
    }
}

/// # Panics
/// If nothing can be drawn from `dist`.
#[track_caller]
pub(crate) fn check_dist(name: &str, dist: Dist) {
    if let Dist::Uniform(least, most) = dist {
        assert!(least <= most, "{name}: uniform between {least:?} and {most:?} is empty");
    }
}
