//! What a whole-stack run has beyond its scenario: the network's manners, and how clients log in.

use std::time::Duration;

use crate::Server;
use crate::net::Path;
use crate::rng::Rng;
use crate::scenario::Dist;
use crate::server::{Auth, Config};

/// The stream of their randomness.
const KNOBS: u64 = 9 << 40;

/// The network's manners, and how clients log in.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Knobs {
    /// The share of reads and writes that do less than they could; `None` is the network's default.
    pub partial: Option<f64>,
    /// The largest segment, in bytes.
    pub segment: Option<usize>,
    /// Bytes that a client may have on their way, and that may wait for it.
    pub buffers: Option<usize>,
    /// Bytes per second in each direction of a connection.
    pub bandwidth: Option<u64>,
    /// How clients log in. Default: trust.
    pub auth: Auth,
    /// How long a statement takes. Default: no time.
    pub query_time: Option<Dist>,
    /// The server sends a notice to somebody so often.
    pub notices: Option<Duration>,
}

impl Knobs {
    /// Those of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed, KNOBS);
        let mut one_of = |share: f64, choices: &[u64]| {
            let (chosen, index) = (rng.chance(share), rng.below(choices.len() as u64));
            chosen.then(|| choices[index as usize])
        };
        let partial = one_of(0.7, &[0, 10, 50, 100]).map(|percent| percent as f64 / 100.0);
        let segment = one_of(0.3, &[1, 7, 64, 1400]).map(|bytes| bytes as usize);
        let buffers = one_of(0.3, &[16, 512, 4096]).map(|bytes| bytes as usize);
        let bandwidth = one_of(0.2, &[100_000, 1_000_000]);
        let auth = match one_of(0.5, &[0, 1, 2]) {
            None => Auth::Trust,
            Some(0) => Auth::Cleartext,
            Some(1) => Auth::Md5,
            Some(_) => Auth::Scram,
        };
        let query_time = one_of(0.5, &[20, 300, 3000]).map(|micros| Dist::Exponential(Duration::from_micros(micros)));
        let notices = one_of(0.2, &[30, 700]).map(Duration::from_millis);
        Knobs { partial, segment, buffers, bandwidth, auth, query_time, notices }
    }

    pub(super) fn network(&self, path: &mut Path) {
        path.partial = self.partial.unwrap_or(path.partial);
        path.segment = self.segment.unwrap_or(path.segment);
        let buffers = self.buffers.unwrap_or(path.send_buffer);
        (path.send_buffer, path.receive_buffer) = (buffers, buffers);
        path.bandwidth = self.bandwidth.or(path.bandwidth);
    }

    pub(super) fn server(&self, config: &mut Config) {
        config.auth = self.auth;
        if let Some(time) = &self.query_time {
            config.query_time = time.clone();
        }
    }

    pub(super) fn begin(&self, server: &Server, lasts: Duration) {
        if let Some(every) = self.notices {
            server.with(|server, now| server.send_notices(now, Dist::Exponential(every), lasts));
        }
    }
}
