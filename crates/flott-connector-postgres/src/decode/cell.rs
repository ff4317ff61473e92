//! One value.

use super::DecodeError;
use super::array::elements;
use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use std::str::FromStr;

/// Numbers of types in the server's catalog, which never change.
const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const INTEGERS: [u32; 4] = [20, 21, 23, 26];
const FLOATS: [u32; 2] = [700, 701];
const JSON: [u32; 2] = [114, 3802];

/// A value as text, `None` for `NULL`; of which type, or 0 if that is not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'a> {
    pub(super) text: Option<&'a str>,
    pub(super) type_oid: u32,
}

impl<'a> Cell<'a> {
    fn parse<T: FromStr>(self) -> Result<Option<T>, DecodeError> {
        let parse = |text: &str| {
            let name = std::any::type_name::<T>();
            let shown: String = text.chars().take(100).collect();
            text.parse().map_err(|_| DecodeError(format!("'{shown}' is no {name}")))
        };
        self.text.map(parse).transpose()
    }

    fn bytes(self) -> Result<Option<Vec<u8>>, DecodeError> {
        let Some(text) = self.text else { return Ok(None) };
        let Some(hex) = text.strip_prefix("\\x") else { return Ok(Some(text.as_bytes().to_vec())) };
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Some).ok_or_else(|| DecodeError("a bytea that is not hexadecimal".to_owned()))
    }

    /// As JSON, if it begins like it.
    fn json<'de, V: Visitor<'de>>(text: &str, visitor: V) -> Result<V::Value, DecodeError> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| DecodeError(format!("no JSON: {error}")))?;
        value.deserialize_any(visitor).map_err(|error| DecodeError(error.to_string()))
    }

    fn is_json(self) -> bool {
        JSON.contains(&self.type_oid)
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty,)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.parse::<$type>()? {
                Some(value) => visitor.$visit(value),
                None => visitor.visit_none(),
            }
        })+
    };
}

macro_rules! text {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.text {
                Some(text) => visitor.visit_str(text),
                None => visitor.visit_none(),
            }
        })+
    };
}

impl<'de> Deserializer<'de> for Cell<'_> {
    type Error = DecodeError;

    parsed! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_i128 visit_i128 i128, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_u128 visit_u128 u128, deserialize_f32 visit_f32 f32,
        deserialize_f64 visit_f64 f64, deserialize_char visit_char char,
    }

    text! { deserialize_str deserialize_string deserialize_identifier }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match (self.text, self.type_oid) {
            (None, _) => visitor.visit_unit(),
            (_, BOOL) => self.deserialize_bool(visitor),
            (_, BYTEA) => self.deserialize_byte_buf(visitor),
            (_, oid) if INTEGERS.contains(&oid) => self.deserialize_i64(visitor),
            (_, oid) if FLOATS.contains(&oid) => self.deserialize_f64(visitor),
            (Some(text), _) if self.is_json() => Self::json(text, visitor),
            (Some(text), _) => visitor.visit_str(text),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.text {
            Some("t" | "true") => visitor.visit_bool(true),
            Some("f" | "false") => visitor.visit_bool(false),
            Some(text) => Err(DecodeError(format!("'{text}' is no bool"))),
            None => visitor.visit_none(),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.bytes()? {
            Some(bytes) => visitor.visit_byte_buf(bytes),
            None => visitor.visit_none(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.text.is_some() { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let Some(text) = self.text else { return visitor.visit_none() };
        if self.is_json() {
            return Self::json(text, visitor);
        }
        if self.type_oid == BYTEA {
            let bytes = self.bytes()?.unwrap_or_default();
            return visitor.visit_seq(SeqDeserializer::new(bytes.into_iter()));
        }
        let elements = elements(text)?;
        let cells = elements.iter().map(|it| Cell { text: it.as_deref(), type_oid: 0 });
        visitor.visit_seq(SeqDeserializer::new(cells))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.text {
            Some(text) => Self::json(text, visitor),
            None => visitor.visit_none(),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Some(text) = self.text else { return visitor.visit_none() };
        if self.is_json() {
            let value: serde_json::Value =
                serde_json::from_str(text).map_err(|error| DecodeError(format!("no JSON: {error}")))?;
            return value
                .deserialize_enum(name, variants, visitor)
                .map_err(|error| DecodeError(error.to_string()));
        }
        let text: StrDeserializer<'_, DecodeError> = text.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }
}

impl<'de> IntoDeserializer<'de, DecodeError> for Cell<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
