//! A digest over everything that goes into and comes out of a machine: two runs are the same if their digests are.
//!
//! It is a serde serializer that hashes what it is given, so no field of an event can be forgotten, and it depends on
//! nothing but the values: neither on the platform nor on the standard library's hashers.
//!
//! A journal needs two variants of it. The check of an entry must agree although a message was not recorded, so it
//! leaves text for people out; the seal of a machine must tell when a field was added, dropped, renamed or moved, so it
//! hashes the names as well.

use std::fmt;

use serde::ser::{self, Serialize};

/// A chained 64-bit hash. Not cryptographic: it compares runs, it does not protect them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Digest(0x243f_6a88_85a3_08d3)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Digest {
    /// Chains `value`.
    pub fn add<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.feed(value, false, true);
    }

    /// Chains `value` without what is text for people in it: a fault's message, the reason of a change of state.
    pub(crate) fn add_facts<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.feed(value, false, false);
    }

    /// Chains `value` with the names of its types, fields and variants.
    pub(crate) fn add_with_names<T: Serialize + ?Sized>(&mut self, value: &T) {
        self.feed(value, true, true);
    }

    /// The 64 bits.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    fn feed<T: Serialize + ?Sized>(&mut self, value: &T, names: bool, text: bool) {
        let mut hasher = Hasher { state: self.0, names, text, prose: false };
        value.serialize(&mut hasher).expect("hashing does not fail");
        self.0 = hasher.state;
    }
}

/// One step of the chain.
#[inline]
pub(crate) fn chain(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ ((product >> 64) as u64) ^ state.rotate_left(23)
}

/// What serde is given.
struct Hasher {
    state: u64,
    /// Whether names count.
    names: bool,
    /// Whether text for people counts.
    text: bool,
    /// Whether a `reason` is such text.
    prose: bool,
}

impl Hasher {
    #[inline]
    fn word(&mut self, word: u64) {
        self.state = chain(self.state, word);
    }

    fn name(&mut self, name: &str) {
        if self.names {
            self.bytes(name.as_bytes());
        }
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Never> {
        self.name(key);
        let skipped = !self.text && (key == "message" || (key == "reason" && self.prose));
        if skipped { Ok(()) } else { value.serialize(self) }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }
}

/// Cannot happen; serde wants a type.
#[derive(Debug)]
pub struct Never(String);

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Never {}

impl ser::Error for Never {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Never(message.to_string())
    }
}

macro_rules! words {
    ($($name:ident: $type:ty),*) => {$(
        #[inline]
        fn $name(self, value: $type) -> Result<(), Never> {
            self.word(value as u64);
            Ok(())
        }
    )*};
}

impl ser::Serializer for &mut Hasher {
    type Ok = ();
    type Error = Never;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    words!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_char: char
    );

    fn serialize_f32(self, value: f32) -> Result<(), Never> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Never> {
        self.word(value.to_bits());
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Never> {
        self.bytes(value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Never> {
        self.bytes(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Never> {
        self.word(0);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Never> {
        self.word(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, variant: &'static str) -> Result<(), Never> {
        self.name(variant);
        self.word(u64::from(index));
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Never> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        self.name(variant);
        self.word(u64::from(index));
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self, Never> {
        self.word(length.unwrap_or_default() as u64);
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, Never> {
        self.name(variant);
        self.word(u64::from(index));
        Ok(self)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self, Never> {
        self.serialize_seq(length)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Self, Never> {
        self.name(name);
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, Never> {
        self.name(variant);
        self.prose = variant == "StateChanged";
        self.word(u64::from(index));
        Ok(self)
    }
}

macro_rules! sequences {
    ($($trait:ident: $method:ident),*) => {$(
        impl ser::$trait for &mut Hasher {
            type Ok = ();
            type Error = Never;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Never> {
                Ok(())
            }
        }
    )*};
}
sequences!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
);

macro_rules! structs {
    ($($trait:ident),*) => {$(
        impl ser::$trait for &mut Hasher {
            type Ok = ();
            type Error = Never;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Never> {
                self.field(key, value)
            }

            fn end(self) -> Result<(), Never> {
                Ok(())
            }
        }
    )*};
}
structs!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for &mut Hasher {
    type Ok = ();
    type Error = Never;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Never> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{
        Action, CloseHow, CloseReason, ConnId, Event, Fate, Fault, FaultClass, Notice, Reject, SqlState, State,
        WaiterId,
    };
    use crate::time::Instant;

    fn of(events: &[Event]) -> Digest {
        let mut digest = Digest::default();
        events.iter().for_each(|event| digest.add(event));
        digest
    }

    #[test]
    fn every_field_counts() {
        let conn = ConnId { slot: 1, generation: 2 };
        let lost = |text: &str| Event::Lost { conn, fault: Box::new(Fault::plain(FaultClass::Transient, text)) };
        let release = |queries| Event::Release { conn, fate: Fate::Clean, queries, fault: None };
        let all = [
            of(&[]),
            of(&[Event::Tick]),
            of(&[Event::Tick, Event::Tick]),
            of(&[Event::Pause]),
            of(&[Event::Cancel { waiter: WaiterId(1) }]),
            of(&[Event::Cancel { waiter: WaiterId(2) }]),
            of(&[release(1)]),
            of(&[release(2)]),
            of(&[lost("reset by peer")]),
            of(&[lost("reset by peers")]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| other != one), "{index}");
        }
    }

    #[test]
    fn it_is_the_same_everywhere() {
        assert_eq!(of(&[Event::Tick, Event::Cancel { waiter: WaiterId(7) }]).to_string(), "98b7b805a60ac36b");
    }

    #[test]
    fn facts_are_all_but_text_for_people() {
        let of = |message: &str, code: &str, to: State, reason: &str| {
            let fault = Fault { sqlstate: SqlState::parse(code), ..Fault::plain(FaultClass::Transient, message) };
            let lost = Event::Lost { conn: ConnId { slot: 1, generation: 2 }, fault: Box::new(fault) };
            let changed = Notice::StateChanged { from: State::Healthy, to, reason: reason.to_owned() };
            let mut digest = Digest::default();
            digest.add_facts(&lost);
            digest.add_facts(&Action::Notice(Box::new(changed)));
            digest
        };
        let one = of("reset", "57P01", State::Degraded, "because");
        assert_eq!(of("refused", "57P01", State::Degraded, "of something else"), one);
        assert_ne!(of("reset", "57P02", State::Degraded, "because"), one);
        assert_ne!(of("reset", "57P01", State::Unhealthy, "because"), one);
    }

    #[test]
    fn the_reason_of_a_close_or_a_reject_is_a_fact() {
        let of = |action: &Action| {
            let mut digest = Digest::default();
            digest.add_facts(action);
            digest
        };
        let conn = ConnId { slot: 1, generation: 2 };
        let close = |reason| Action::Close { conn, reason, how: CloseHow::Abort, deadline: Instant::ZERO };
        let reject = |reason| Action::Reject { waiter: WaiterId(1), reason };
        assert_ne!(of(&close(CloseReason::Lifetime)), of(&close(CloseReason::Recycle)));
        assert_ne!(of(&reject(Reject::Closed)), of(&reject(Reject::WouldBlock)));
    }

    #[test]
    fn names_tell_two_layouts_of_the_same_values_apart() {
        #[derive(serde::Serialize)]
        struct Before {
            first: u32,
            second: u32,
        }
        #[derive(serde::Serialize)]
        #[serde(rename = "Before")]
        struct After {
            second: u32,
            first: u32,
        }
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.add_with_names(&Before { first: 1, second: 2 });
        other.add_with_names(&After { second: 1, first: 2 });
        assert_ne!(one, other);
    }
}
