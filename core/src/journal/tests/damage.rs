//! Every truncation, every changed byte, and bytes that were never a journal.

use quickcheck::{Gen, QuickCheck};

use super::super::format::{END, ENTRIES, SITES, put};
use super::super::{Journal, JournalError, Part, Replay};
use super::{Tape, tape};
use crate::tests::{EACH, STRIDE, cases};

/// What could be read is the beginning of what was written.
fn is_beginning(journal: &Journal, tape: &Tape) -> bool {
    journal.entries().len() <= tape.told.len()
        && journal
            .entries()
            .iter()
            .zip(&tape.told)
            .all(|(entry, (at, event, check))| (entry.at, &entry.event, entry.check) == (*at, event, *check))
}

#[test]
fn a_journal_cut_anywhere_gives_what_is_before_the_cut() {
    let tape = tape(11, 100);
    let (mut most, whole) = (0, tape.bytes.len());
    for end in (0..whole).step_by(STRIDE).chain([whole - 1]) {
        match Journal::read(&tape.bytes[..end]) {
            Err(error) => {
                assert!(most == 0, "cut at {end}: {error}, but a shorter one could be read");
                let expected = matches!(
                    error,
                    JournalError::NotAJournal | JournalError::Truncated { part: Part::Header | Part::Machine, .. }
                );
                assert!(expected, "cut at {end}: {error}");
            }
            Ok(journal) => {
                assert!(is_beginning(&journal, &tape) && journal.entries().len() >= most, "cut at {end}");
                most = journal.entries().len();
                let loss = journal.loss().unwrap_or_else(|| panic!("cut at {end}: nothing is missing"));
                assert_eq!(loss.at + loss.bytes, end);
                assert_eq!(loss.what, Part::Truncated);
                assert_eq!(Replay::new(&journal).verify(), None, "cut at {end}");
            }
        }
    }
    assert_eq!(most, tape.told.len());
}

#[test]
fn a_changed_byte_is_noticed_wherever_it_is() {
    let tape = tape(12, 80);
    for at in (0..tape.bytes.len()).step_by(STRIDE) {
        for flip in [0x01, 0x80, 0xff].into_iter().step_by(EACH) {
            let mut bytes = tape.bytes.clone();
            bytes[at] ^= flip;
            match Journal::read(&bytes) {
                Err(_) => {}
                Ok(journal) => {
                    let loss = journal.loss().unwrap_or_else(|| panic!("byte {at} ^ {flip:x} was not noticed"));
                    assert!(loss.at <= at, "byte {at} ^ {flip:x}: {loss}");
                    assert!(is_beginning(&journal, &tape), "byte {at} ^ {flip:x}");
                }
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "blocks are filled by thousands of events, which take minutes")]
fn damage_costs_its_block_and_what_follows() {
    let tape = tape(13, 8_000);
    let whole = Journal::read(&tape.bytes).expect("whole");
    let mut bytes = tape.bytes.clone();
    let at = bytes.len() / 2;
    bytes[at] ^= 0x10;
    let journal = Journal::read(&bytes).expect("its beginning is whole");
    let read = journal.entries().len();
    let loss = journal.loss().expect("noticed");
    assert!(read > whole.entries().len() / 4 && read < whole.entries().len() * 3 / 4, "{read}");
    assert_eq!(loss.missing, Some((whole.entries().len() - read) as u64));
    assert_eq!(journal.sites(), whole.sites(), "source lines are taken from behind the damage too");
    let text = loss.to_string();
    assert!(text.starts_with(&format!("the journal is damaged in the block at byte {}; ", loss.at)), "{text}");
}

#[test]
fn random_bytes_are_no_journal() {
    fn property(bytes: Vec<u8>) -> bool {
        Journal::read(&bytes).is_err()
    }
    QuickCheck::new().rng(Gen::new(2_000)).tests(cases(500)).quickcheck(property as fn(Vec<u8>) -> bool);
}

/// With check sums that fit: what postcard is given then is as hostile as it gets, lengths above all.
#[test]
fn hostile_blocks_are_a_loss_and_no_panic() {
    fn property(blocks: Vec<(u8, Vec<u8>)>) -> bool {
        let tape = tape(14, 40);
        let whole = Journal::read(&tape.bytes).expect("whole").entries().len();
        // Without its end.
        let mut bytes = tape.bytes[..tape.bytes.len() - 10].to_vec();
        for (kind, mut body) in blocks {
            let kind = [ENTRIES, SITES, END, b'?'][usize::from(kind) % 4];
            if body.len() % 2 == 0 {
                // A length of some exabytes.
                body.splice(0..0, [0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
            }
            put(&mut bytes, kind, &body);
        }
        match Journal::read(&bytes) {
            Ok(journal) => journal.loss().is_some() || journal.entries().len() >= whole,
            Err(error) => panic!("its beginning is whole: {error}"),
        }
    }
    QuickCheck::new().rng(Gen::new(40)).tests(cases(300)).quickcheck(property as fn(Vec<(u8, Vec<u8>)>) -> bool);
}
