//! A machine's canonical form: two machines of one form do the same from here on, but for names.
//!
//! The machine is serialised, and on the way what is only a name or only counted is left out or made relative: moments
//! to now (everything that lies more than a minute back is as good as one), waiters to their order, recycle marks and
//! suspicion to the pool's own. A field that the machine gains is part of the form until it is named here.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

use pgweir_core::pool::Machine;
use serde::ser::{self, Serialize};

/// Counted or told, and nothing is decided by it. (max_queries, jitter, slow acquires and leaks are off.)
const LEFT_OUT: &[&str] = &[
    "config",
    "created",
    "now",
    "next_waiter",
    "rng",
    "last_error",
    "totals",
    "slow_waits",
    "limits",
    "message",
    "site",
    "generation",
    "attempts",
    "queries",
    "report",
    "reports",
    "started",
    "leak_next",
    "leak_after",
];

/// Moments.
const MOMENTS: &[&str] = &[
    "opened",
    "renew",
    "expires",
    "checked",
    "since",
    "idle_since",
    "arrival",
    "deadline",
    "failed_at",
    "good_since",
    "next",
    "demand",
    "young_lost_at",
    "died_at",
    "dry_since",
    "recovered_at",
    "recent_fault",
    "hard",
    "at",
];

/// Grow without end, and only whether they are 0, 1 or more matters.
const FEW: &[&str] = &["failures", "step", "young_losses"];

/// Faults are remembered for a minute; nothing looks further back.
const LONG_AGO: u64 = 60_000_000_001;

/// 128 bits over the form.
pub(super) fn form(machine: &Machine) -> u128 {
    let mut former = Former { now: machine.now().as_nanos(), ..Former::default() };
    let config = machine.config();
    former.word(u64::from(config.min_size()));
    former.word(u64::from(config.max_size()));
    machine.serialize(&mut former).expect("a machine can always be serialised");
    former.finish()
}

#[derive(Default)]
struct Former {
    now: u64,
    /// The field whose value is being written.
    field: &'static str,
    bytes: Vec<u8>,
    /// Where waiters are named, and which.
    waiters: Vec<(usize, u64)>,
    /// Where marks are, and which; the pool's own comes last.
    recycles: Vec<(usize, u64)>,
    suspicions: Vec<(usize, u64)>,
}

impl Former {
    fn finish(mut self) -> u128 {
        let mut names: Vec<u64> = self.waiters.iter().map(|(_, name)| *name).collect();
        names.sort_unstable();
        names.dedup();
        for (place, name) in std::mem::take(&mut self.waiters) {
            let rank = names.binary_search(&name).unwrap_or_default() as u64;
            self.bytes[place..place + 8].copy_from_slice(&rank.to_le_bytes());
        }
        for marks in [std::mem::take(&mut self.recycles), std::mem::take(&mut self.suspicions)] {
            let own = marks.last().map_or(0, |(_, mark)| *mark);
            for (place, mark) in marks {
                self.bytes[place..place + 8].copy_from_slice(&u64::from(mark != own).to_le_bytes());
            }
        }
        let half = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            (salt, &self.bytes).hash(&mut hasher);
            hasher.finish()
        };
        (u128::from(half(1)) << 64) | u128::from(half(2))
    }

    fn word(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn moment(&mut self, at: u64) {
        let relative = match at {
            u64::MAX => u64::MAX,
            at if at >= self.now => at - self.now,
            at => (self.now - at).min(LONG_AGO) | (1 << 63),
        };
        self.word(relative);
    }

    fn number(&mut self, value: u64) {
        let place = self.bytes.len();
        match self.field {
            "queue" | "waiter" | "id" => self.waiters.push((place, value)),
            "recycle" => self.recycles.push((place, value)),
            "suspicion" => self.suspicions.push((place, value)),
            field if MOMENTS.contains(&field) => return self.moment(value),
            field if FEW.contains(&field) => return self.word(value.min(2)),
            _ => {}
        }
        self.word(value);
    }
}

/// Nothing that a machine is made of cannot be written.
#[derive(Debug)]
struct Unwritable(String);

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unwritable {}

impl ser::Error for Unwritable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Unwritable(message.to_string())
    }
}

/// A sequence, a tuple or a struct that is being written, and the field that it is the value of.
struct Within<'a> {
    former: &'a mut Former,
    field: &'static str,
}

impl Within<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.former.field = self.field;
        value.serialize(&mut *self.former)
    }

    fn named<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unwritable> {
        if LEFT_OUT.contains(&name) {
            return Ok(());
        }
        self.former.field = name;
        value.serialize(&mut *self.former)
    }
}

impl<'a> ser::Serializer for &'a mut Former {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = Within<'a>;
    type SerializeTuple = Within<'a>;
    type SerializeTupleStruct = Within<'a>;
    type SerializeTupleVariant = Within<'a>;
    type SerializeMap = Within<'a>;
    type SerializeStruct = Within<'a>;
    type SerializeStructVariant = Within<'a>;

    fn serialize_bool(self, value: bool) -> Result<(), Unwritable> {
        self.bytes.push(u8::from(value));
        Ok(())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Unwritable> {
        self.number(value);
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Unwritable> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Unwritable> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Unwritable> {
        self.serialize_u64(value.into())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Unwritable> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Unwritable> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Unwritable> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Unwritable> {
        self.word(value.cast_unsigned());
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Unwritable> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Unwritable> {
        self.word(value.to_bits());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Unwritable> {
        self.word(u64::from(u32::from(value)));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Unwritable> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Unwritable> {
        self.word(value.len() as u64);
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Unwritable> {
        self.serialize_bool(false)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        self.bytes.push(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Unwritable> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unwritable> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Unwritable> {
        self.word(index.into());
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Unwritable> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        self.word(index.into());
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Within<'a>, Unwritable> {
        self.word(length.unwrap_or_default() as u64);
        let field = self.field;
        Ok(Within { former: self, field })
    }

    fn serialize_tuple(self, length: usize) -> Result<Within<'a>, Unwritable> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Within<'a>, Unwritable> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        length: usize,
    ) -> Result<Within<'a>, Unwritable> {
        self.word(index.into());
        self.serialize_seq(Some(length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Within<'a>, Unwritable> {
        self.serialize_seq(length)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Within<'a>, Unwritable> {
        let field = self.field;
        Ok(Within { former: self, field })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        _: &'static str,
        length: usize,
    ) -> Result<Within<'a>, Unwritable> {
        self.word(index.into());
        self.serialize_struct(name, length)
    }
}

macro_rules! within {
    ($($kind:ident: $element:ident,)*) => {
        $(impl ser::$kind for Within<'_> {
            type Ok = ();
            type Error = Unwritable;

            fn $element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
                self.element(value)
            }

            fn end(self) -> Result<(), Unwritable> {
                Ok(())
            }
        })*
    };
}
within! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

impl ser::SerializeMap for Within<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unwritable> {
        self.element(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.element(value)
    }

    fn end(self) -> Result<(), Unwritable> {
        Ok(())
    }
}

macro_rules! within_named {
    ($($kind:ident)*) => {
        $(impl ser::$kind for Within<'_> {
            type Ok = ();
            type Error = Unwritable;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Unwritable> {
                self.named(name, value)
            }

            fn end(self) -> Result<(), Unwritable> {
                Ok(())
            }
        })*
    };
}
within_named! { SerializeStruct SerializeStructVariant }
