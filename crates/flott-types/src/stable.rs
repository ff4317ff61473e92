//! A hash over the serialized form of a value, without writing the serialized form anywhere.
//!
//! `std::hash` promises nothing across releases of the compiler, so keys are not placed by it. Here
//! serde walks the value and each primitive goes into a folded 64 by 64 to 128 bit multiplication
//! (the mixing step of wyhash, Wang Yi 2019). A `u64` key costs one multiplication: all bits of the folded product depend
//! on all bits of the key, and dense integers even spread better than random ones (Knuth's multiplicative hashing).

use serde::ser::{self, Serialize};
use std::fmt;
use std::hash::{BuildHasher, Hasher};

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: u64 = 0xa076_1d64_78bd_642f;

#[inline(always)]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The state of the stable hash; also a `std::hash::Hasher` for maps whose order must repeat.
#[derive(Clone, Copy, Debug)]
pub struct StableHasher(u64);

impl Default for StableHasher {
    #[inline]
    fn default() -> Self {
        Self(SEED)
    }
}

impl StableHasher {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, MIX);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.word(u64::from_le_bytes(chunk.try_into().expect("a chunk of eight bytes")));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.word(u64::from_le_bytes(last));
        }
    }

    #[inline(always)]
    pub(crate) fn hash(self) -> u64 {
        self.0
    }
}

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        self.hash()
    }
    fn write(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
    }
    fn write_u8(&mut self, i: u8) {
        self.word(i.into());
    }
    fn write_u32(&mut self, i: u32) {
        self.word(i.into());
    }
    fn write_u64(&mut self, i: u64) {
        self.word(i);
    }
    fn write_usize(&mut self, i: usize) {
        self.word(i as u64);
    }
}

/// Builds [`StableHasher`]s: the same iteration order in every run.
#[derive(Clone, Copy, Debug, Default)]
pub struct StableBuildHasher;

impl BuildHasher for StableBuildHasher {
    type Hasher = StableHasher;
    fn build_hasher(&self) -> StableHasher {
        StableHasher::default()
    }
}

/// Roughly the bytes that `value` takes: its strings and sequences, not only its inline size.
///
/// Flow control multiplies it by the length of a batch; one record of a batch is measured.
pub fn approximate_size<T: Serialize>(value: &T) -> usize {
    let mut size = SizeOf(0);
    // A value that refuses to be serialized still has its inline size.
    match value.serialize(Walk(&mut size)) {
        Ok(()) | Err(Refused(_)) => size.0.max(size_of::<T>()),
    }
}

pub(crate) fn stable_hash<T: Serialize + ?Sized>(value: &T) -> u64 {
    let mut hasher = StableHasher::default();
    value.serialize(Walk(&mut hasher)).expect("the Serialize implementation of a key failed");
    hasher.hash()
}

/// Receives the primitives of a value in order.
trait Visit {
    fn word(&mut self, word: u64);
    fn bytes(&mut self, bytes: &[u8]);
}

impl Visit for StableHasher {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        StableHasher::word(self, word);
    }
    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) {
        StableHasher::bytes(self, bytes);
    }
}

struct SizeOf(usize);

impl Visit for SizeOf {
    fn word(&mut self, _: u64) {
        self.0 += 8;
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 += 24 + bytes.len();
    }
}

struct Walk<'a, V>(&'a mut V);

#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Refused {}
impl ser::Error for Refused {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Self(msg.to_string())
    }
}

macro_rules! words {
    ($($method:ident $type:ty),* $(,)?) => {
        $(#[inline(always)] fn $method(self, v: $type) -> Result<(), Refused> { self.0.word(v as u64); Ok(()) })*
    };
}

impl<'a, V: Visit> ser::Serializer for Walk<'a, V> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    words! { serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64,
    serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_char char }

    fn serialize_i128(self, v: i128) -> Result<(), Refused> {
        self.0.word(v as u64);
        self.0.word((v >> 64) as u64);
        Ok(())
    }
    fn serialize_u128(self, v: u128) -> Result<(), Refused> {
        self.serialize_i128(v as i128)
    }
    fn serialize_f32(self, v: f32) -> Result<(), Refused> {
        self.0.word(v.to_bits().into());
        Ok(())
    }
    fn serialize_f64(self, v: f64) -> Result<(), Refused> {
        self.0.word(v.to_bits());
        Ok(())
    }
    #[inline]
    fn serialize_str(self, v: &str) -> Result<(), Refused> {
        self.0.bytes(v.as_bytes());
        Ok(())
    }
    #[inline]
    fn serialize_bytes(self, v: &[u8]) -> Result<(), Refused> {
        self.0.bytes(v);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Refused> {
        self.0.word(0);
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        self.0.word(1);
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refused> {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, idx: u32, _: &'static str) -> Result<(), Refused> {
        self.0.word(idx.into());
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, v: &T) -> Result<(), Refused> {
        v.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        idx: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.0.word(idx.into());
        value.serialize(self)
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Refused> {
        self.0.word(len.unwrap_or(usize::MAX) as u64);
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        idx: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        self.0.word(idx.into());
        Ok(self)
    }
    fn serialize_map(self, len: Option<usize>) -> Result<Self, Refused> {
        self.serialize_seq(len)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        idx: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Refused> {
        self.0.word(idx.into());
        Ok(self)
    }
    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! sequences {
    ($($trait:ident $method:ident),* $(,)?) => {
        $(impl<V: Visit> ser::$trait for Walk<'_, V> {
            type Ok = ();
            type Error = Refused;
            #[inline(always)]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                value.serialize(Walk(self.0))
            }
            fn end(self) -> Result<(), Refused> {
                Ok(())
            }
        })*
    };
}

sequences! { SerializeSeq serialize_element, SerializeTuple serialize_element,
SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field }

macro_rules! structs {
    ($($trait:ident),* $(,)?) => {
        $(impl<V: Visit> ser::$trait for Walk<'_, V> {
            type Ok = ();
            type Error = Refused;
            #[inline(always)]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Refused> {
                value.serialize(Walk(self.0))
            }
            fn end(self) -> Result<(), Refused> {
                Ok(())
            }
        })*
    };
}

structs! { SerializeStruct, SerializeStructVariant }

impl<V: Visit> ser::SerializeMap for Walk<'_, V> {
    type Ok = ();
    type Error = Refused;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        key.serialize(Walk(self.0))
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        value.serialize(Walk(self.0))
    }
    fn end(self) -> Result<(), Refused> {
        Ok(())
    }
}
