//! The deserializer of a pass: gives each type what it asks for, and writes that down.

use super::access::{Elements, OneEntry};
use super::error::TraceError;
use super::memory::{BYTES, NUMBERS, STRINGS};
use super::probe::Pass;
use crate::schema::Type;
use serde::de::{Deserializer, Visitor};

/// Gives one value of a pass, and writes down what was asked for.
#[derive(Debug)]
pub(super) struct Probe<'p, 'm> {
    pass: &'p mut Pass<'m>,
    out: &'p mut Option<Type>,
}

impl<'p, 'm> Probe<'p, 'm> {
    pub(super) fn new(pass: &'p mut Pass<'m>, out: &'p mut Option<Type>) -> Self {
        Self { pass, out }
    }

    fn unsupported<T>(what: &str) -> Result<T, TraceError> {
        Err(TraceError::Unsupported(what.to_owned()))
    }
}

macro_rules! numbers {
    ($($method:ident, $visit:ident, $type:ident;)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
            *self.out = Some(Type::$type);
            let number = NUMBERS.get(self.pass.candidate()).copied().unwrap_or_default();
            visitor.$visit(number.into())
        })+
    };
}

macro_rules! signed {
    ($($method:ident, $visit:ident, $type:ident;)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
            *self.out = Some(Type::$type);
            let number = NUMBERS.get(self.pass.candidate()).copied().unwrap_or_default();
            visitor.$visit(number as _)
        })+
    };
}

impl<'de> Deserializer<'de> for Probe<'_, '_> {
    type Error = TraceError;

    fn is_human_readable(&self) -> bool {
        false
    }

    numbers! {
        deserialize_u8, visit_u8, U8; deserialize_u16, visit_u16, U16; deserialize_u32, visit_u32, U32;
        deserialize_u64, visit_u64, U64; deserialize_u128, visit_u128, U128; deserialize_i16, visit_i16, I16;
        deserialize_i32, visit_i32, I32; deserialize_i64, visit_i64, I64; deserialize_i128, visit_i128, I128;
        deserialize_f32, visit_f32, F32; deserialize_f64, visit_f64, F64;
    }
    signed! { deserialize_i8, visit_i8, I8; }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, TraceError> {
        Self::unsupported("only self-describing formats can hold it")
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, TraceError> {
        Self::unsupported("only self-describing formats can hold it")
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, TraceError> {
        Self::unsupported("only self-describing formats can hold it")
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Some(Type::Bool);
        let candidate = self.pass.candidate();
        visitor.visit_bool(candidate == 1)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Some(Type::Char);
        self.pass.candidate();
        visitor.visit_char('a')
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Some(Type::String);
        let candidate = self.pass.candidate();
        visitor.visit_str(STRINGS.get(candidate).copied().unwrap_or_default())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Some(Type::Bytes);
        let len = BYTES.get(self.pass.candidate()).copied().unwrap_or_default();
        visitor.visit_bytes(&vec![0; len])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Some(Type::Unit);
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let Self { pass, out } = self;
        pass.down(0, |pass| visitor.visit_newtype_struct(Probe { pass, out }))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        if self.pass.is_closing() {
            return visitor.visit_none();
        }
        let mut inner = None;
        let value = self.pass.down(0, |pass| visitor.visit_some(Probe::new(pass, &mut inner)))?;
        *self.out = inner.map(|inner| Type::Option(Box::new(inner)));
        Ok(value)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        let len = usize::from(!self.pass.is_closing());
        let mut elements = Elements::new(self.pass, len);
        let value = visitor.visit_seq(&mut elements)?;
        *self.out = elements.types.pop().map(|element| Type::Sequence(Box::new(element)));
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, TraceError> {
        let mut elements = Elements::new(self.pass, len);
        let value = visitor.visit_seq(&mut elements)?;
        *self.out = Some(Type::Tuple(elements.types));
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        let mut entry = OneEntry::new(self.pass);
        let value = visitor.visit_map(&mut entry)?;
        let types = entry.key.zip(entry.value);
        *self.out = types.map(|(key, value)| Type::Map(Box::new(key), Box::new(value)));
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let (value, ty) = self.pass.structure(name, fields, visitor)?;
        *self.out = Some(ty);
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let (value, ty) = self.pass.alternatives(name, variants, visitor)?;
        *self.out = Some(ty);
        Ok(value)
    }
}
