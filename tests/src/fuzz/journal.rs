//! Any bytes as a journal: read, and run again as far as it was read.
//!
//! Bytes at random never get past a check sum. So the check sums, the machine's seal and the prefix are put right first:
//! what is read then is what somebody would forge, or what a bug of the writer would leave behind. (An odd first byte
//! leaves the bytes as they are.)

use std::time::Duration;

use pgweir_core::config::PoolConfig;
use pgweir_core::journal::{Header, Journal, Replay, Why, Writer};
use pgweir_core::pool::Machine;
use pgweir_core::time::{Instant, Wall};

/// Magic and version.
const PREFIX: usize = 10;

/// Reads and replays a journal.
pub fn journal(bytes: &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let forged = if how.is_multiple_of(2) { forge(bytes) } else { bytes.to_vec() };
    let journal = match Journal::read(&forged) {
        Ok(journal) => journal,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    if let Some(loss) = journal.loss() {
        assert!(!loss.to_string().is_empty() && loss.at + loss.bytes == forged.len());
    }
    let _ = journal.header().wall.iso(Instant::MAX);
    let mut replay = Replay::new(&journal);
    while let Some(step) = replay.step() {
        let machine = step.machine;
        let _ = (step.agrees(), machine.counts(), machine.deadline(), machine.health(machine.now()).reasons.len());
    }
    let _ = replay.machine().stats(Instant::MAX);
    is_written_as_it_was_read(&journal);
}

/// What was read, written and read again, is the same.
fn is_written_as_it_was_read(journal: &Journal) {
    let mut writer = Writer::new(journal.header(), journal.start());
    writer.sites(journal.sites());
    journal.entries().iter().for_each(|entry| writer.entry(entry.at, &entry.event, entry.check));
    let again = Journal::read(&writer.finish()).expect("what was read can be written");
    assert_eq!(again.loss(), None);
    assert!(again.start() == journal.start() && again.sites() == journal.sites());
    assert_eq!(again.entries(), journal.entries());
}

/// The bytes with a right prefix, right check sums and a right seal, as far as they are blocks.
fn forge(bytes: &[u8]) -> Vec<u8> {
    let mut out = empty().drain(..PREFIX).collect::<Vec<u8>>();
    let mut rest = bytes.get(PREFIX..).unwrap_or_default();
    while let Some((frame, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_le_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize;
        let body = &after[..length.min(after.len())];
        rest = after.get(body.len() + 4..).unwrap_or_default();
        match (frame[0], postcard::from_bytes::<(u64, Machine)>(body)) {
            (b'M', Ok((_, machine))) => out.extend(sealed(&machine)),
            (kind, _) => out.extend(block(kind, body)),
        }
    }
    out
}

/// The block of this machine, as the writer writes it.
fn sealed(machine: &Machine) -> Vec<u8> {
    let journal = begun(machine);
    let header = u32::from_le_bytes(journal[PREFIX + 1..PREFIX + 5].try_into().expect("four bytes")) as usize;
    journal[PREFIX + 5 + header + 4..].to_vec()
}

fn block(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut block = vec![kind];
    block.extend((body.len() as u32).to_le_bytes());
    block.extend(body);
    let sum = crc32fast::hash(&block);
    block.extend(sum.to_le_bytes());
    block
}

fn empty() -> Vec<u8> {
    begun(&Machine::new(&PoolConfig::default(), 0, Instant::ZERO))
}

fn begun(machine: &Machine) -> Vec<u8> {
    let header = Header {
        version: "fuzz".to_owned(),
        config: machine.config().clone(),
        wall: Wall { at: Instant::ZERO, unix: Duration::ZERO },
        why: Why::Demand,
        written: Instant::ZERO,
    };
    Writer::new(&header, machine).take()
}
