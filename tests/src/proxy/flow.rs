//! One direction of a connection: what was read and has to be written, when.

use super::Cut;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// The most that waits in one direction; more is left in the kernel.
const MAX_QUEUED: usize = 1 << 20;
const READ: usize = 16 << 10;

/// What is done to a direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings {
    pub(super) delay: Duration,
    /// Bytes a second.
    pub(super) rate: Option<u64>,
    /// How many bytes still pass before the cut.
    pub(super) cut: Option<(u64, Cut)>,
}

#[derive(Debug)]
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    written: usize,
}

/// What came of a round of writing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    Fine,
    Cut(Cut),
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) settings: Settings,
    queue: VecDeque<Chunk>,
    queued: usize,
    /// The source has ended.
    ended: bool,
    /// When the source's end is to be passed on.
    end_due: Option<Instant>,
    /// The end was passed on.
    pub(super) shut: bool,
    /// The target's socket is full.
    pub(super) blocked: bool,
    /// The throttle's next moment.
    next_write: Instant,
}

impl Flow {
    pub(super) fn new(settings: Settings, now: Instant) -> Flow {
        Flow {
            settings,
            queue: VecDeque::new(),
            queued: 0,
            ended: false,
            end_due: None,
            shut: false,
            blocked: false,
            next_write: now,
        }
    }

    pub(super) fn wants_input(&self) -> bool {
        !self.ended && self.queued < MAX_QUEUED
    }

    /// When there is something to do without any input, if the target takes it.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.blocked {
            return None;
        }
        match self.queue.front() {
            Some(chunk) => Some(chunk.due.max(self.next_write)),
            None => self.end_due.filter(|_| !self.shut),
        }
    }

    /// Reads what is there, and shows it to `sniff`.
    pub(super) fn read(&mut self, source: &TcpStream, now: Instant, mut sniff: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = [0; READ];
        match { source }.read(&mut buffer) {
            Ok(0) => {
                self.ended = true;
                self.end_due = Some(now + self.settings.delay);
            }
            Ok(n) => {
                let bytes = buffer[..n].to_vec();
                sniff(&bytes);
                self.queued += n;
                self.queue.push_back(Chunk { due: now + self.settings.delay, bytes, written: 0 });
            }
            Err(error) if is_later(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes what is due, and adds what it wrote to `total`.
    pub(super) fn write(&mut self, target: &TcpStream, now: Instant, total: &mut u64) -> io::Result<Wrote> {
        while self.next().is_some_and(|due| due <= now) {
            let Some(chunk) = self.queue.front_mut() else {
                self.shut = true;
                // A target that is gone needs no end.
                let _ = target.shutdown(Shutdown::Write);
                break;
            };
            let rest = &chunk.bytes[chunk.written..];
            let mut allowed = rest.len() as u64;
            if let Some(rate) = self.settings.rate {
                // A twentieth of a second's worth at a time.
                allowed = allowed.min((rate / 20).max(1));
            }
            if let Some((left, cut)) = self.settings.cut {
                if left == 0 {
                    return Ok(Wrote::Cut(cut));
                }
                allowed = allowed.min(left);
            }
            match { target }.write(&rest[..allowed as usize]) {
                Ok(n) => {
                    chunk.written += n;
                    if chunk.written == chunk.bytes.len() {
                        self.queue.pop_front();
                    }
                    self.account(n, now, total);
                }
                Err(error) if is_later(&error) => self.blocked = true,
                Err(error) => return Err(error),
            }
            if let Some((0, cut)) = self.settings.cut {
                return Ok(Wrote::Cut(cut));
            }
        }
        Ok(Wrote::Fine)
    }

    fn account(&mut self, n: usize, now: Instant, total: &mut u64) {
        self.queued -= n;
        *total += n as u64;
        if let Some(rate) = self.settings.rate {
            self.next_write = now + Duration::from_secs_f64(n as f64 / rate as f64);
        }
        if let Some((left, _)) = &mut self.settings.cut {
            *left -= (n as u64).min(*left);
        }
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
