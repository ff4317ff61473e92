//! postcard bytes of an old schema, read as a new Rust type: a deserializer that describes itself, as JSON's does.
//!
//! Names come from the schema and values from the bytes, and the rest is serde's own: aliases, defaults of missing fields,
//! conversions of numbers.

use crate::schema::{Content, Field, Type, Variant};
use crate::{DEPTH_MAX, DecodeError};
use postcard::de_flavors::Slice;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};
use std::fmt;

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Malformed(message.to_string())
    }
}

/// Reads the value at the start of `bytes`; returns it and what follows.
pub(crate) fn decode_prefix<'b, T: DeserializeOwned>(
    old: &Type,
    bytes: &'b [u8],
) -> Result<(T, &'b [u8]), DecodeError> {
    let mut input = Input::new(bytes);
    let value = T::deserialize(Old { input: &mut input, ty: old, outer: None, depth: 0 })?;
    Ok((value, input.rest()?))
}

/// postcard bytes, and how many values may still be made of them.
pub(crate) struct Input<'b> {
    bytes: postcard::Deserializer<'b, Slice<'b>>,
    /// Values without bytes (units) would let a few bytes announce any number of them.
    budget: usize,
    len: usize,
}

impl<'b> Input<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        let budget = bytes.len().saturating_mul(64).saturating_add(1 << 16);
        Self { bytes: postcard::Deserializer::from_bytes(bytes), budget, len: bytes.len() }
    }

    pub(crate) fn rest(self) -> Result<&'b [u8], DecodeError> {
        self.bytes.finalize().map_err(de::Error::custom)
    }

    pub(crate) fn read<T: Deserialize<'b>>(&mut self) -> Result<T, DecodeError> {
        T::deserialize(&mut self.bytes).map_err(de::Error::custom)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'b [u8], DecodeError> {
        self.read()
    }

    /// Counts a value.
    pub(crate) fn spend(&mut self) -> Result<(), DecodeError> {
        let left = self.budget.checked_sub(1);
        self.budget =
            left.ok_or_else(|| DecodeError::Malformed("more values than the bytes can hold".to_owned()))?;
        Ok(())
    }

    /// The number of elements that follow.
    pub(crate) fn len(&mut self) -> Result<u64, DecodeError> {
        let len = self.read()?;
        if len > self.budget as u64 {
            return Err(DecodeError::TooLong { len, left: self.len });
        }
        Ok(len)
    }

    pub(crate) fn is_some(&mut self) -> Result<bool, DecodeError> {
        match self.read::<u8>()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Malformed(format!("an option begins with {other}"))),
        }
    }

    /// Which variant of the enum `ty` follows.
    pub(crate) fn variant<'t>(&mut self, ty: &'t Type) -> Result<&'t Variant, DecodeError> {
        let idx: u32 = self.read()?;
        let Type::Enum { variants, name } = ty else { return Err(DecodeError::BadSchema) };
        let found = usize::try_from(idx).ok().and_then(|idx| variants.get(idx));
        found.ok_or_else(|| DecodeError::Malformed(format!("enum {name} has no variant {idx}")))
    }
}

/// A struct or enum around a place, and what is around that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) ty: &'a Type,
    pub(crate) outer: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    pub(crate) fn enclosing(innermost: Option<&'a Self>, level: u32) -> Result<&'a Self, DecodeError> {
        let mut scope = innermost;
        for _ in 0..level {
            scope = scope.and_then(|scope| scope.outer);
        }
        scope.ok_or(DecodeError::BadSchema)
    }
}

/// A value of the old schema, to be read.
struct Old<'i, 'b, 't> {
    input: &'i mut Input<'b>,
    ty: &'t Type,
    outer: Option<&'t Scope<'t>>,
    depth: usize,
}

impl<'b> Old<'_, 'b, '_> {
    /// Reads named fields: in order if the new type has the same, so that also types that know no names can be read, else by name.
    fn fields<V: Visitor<'b>>(
        self,
        fields: &[Field],
        expected: Option<&[&str]>,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let is_same = expected
            .is_some_and(|names| fields.iter().map(|field| field.name.as_str()).eq(names.iter().copied()));
        let types: Vec<_> = fields.iter().map(|field| &field.ty).collect();
        let Self { input, outer, depth, .. } = self;
        if is_same {
            return visitor.visit_seq(Several { input, types: types.into_iter(), outer, depth });
        }
        visitor.visit_map(Named { input, fields: fields.iter(), ty: None, outer, depth })
    }

    fn tuple<V: Visitor<'b>>(self, types: &[Type], visitor: V) -> Result<V::Value, DecodeError> {
        let Self { input, outer, depth, .. } = self;
        let types: Vec<_> = types.iter().collect();
        visitor.visit_seq(Several { input, types: types.into_iter(), outer, depth })
    }

    /// Reads whatever the schema says is there.
    fn any<V: Visitor<'b>>(self, expected: Option<&[&str]>, visitor: V) -> Result<V::Value, DecodeError> {
        if self.depth >= DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        let Self { input, ty, outer, depth } = self;
        input.spend()?;
        let depth = depth + 1;
        match ty {
            Type::Unit => visitor.visit_unit(),
            Type::Bool => visitor.visit_bool(input.read()?),
            Type::I8 => visitor.visit_i8(input.read()?),
            Type::I16 => visitor.visit_i16(input.read()?),
            Type::I32 => visitor.visit_i32(input.read()?),
            Type::I64 => visitor.visit_i64(input.read()?),
            Type::I128 => visitor.visit_i128(input.read()?),
            Type::U8 => visitor.visit_u8(input.read()?),
            Type::U16 => visitor.visit_u16(input.read()?),
            Type::U32 => visitor.visit_u32(input.read()?),
            Type::U64 => visitor.visit_u64(input.read()?),
            Type::U128 => visitor.visit_u128(input.read()?),
            Type::F32 => visitor.visit_f32(input.read()?),
            Type::F64 => visitor.visit_f64(input.read()?),
            Type::Char => visitor.visit_char(input.read()?),
            Type::String => visitor.visit_borrowed_str(input.read()?),
            Type::Bytes => visitor.visit_borrowed_bytes(input.bytes()?),
            Type::Option(ty) => match input.is_some()? {
                true => visitor.visit_some(Old { input, ty, outer, depth }),
                false => visitor.visit_none(),
            },
            Type::Sequence(element) => {
                let left = input.len()?;
                visitor.visit_seq(Many { input, left, first: element, second: None, outer, depth })
            }
            Type::Map(key, value) => {
                let left = input.len()?;
                visitor.visit_map(Many { input, left, first: key, second: Some(value), outer, depth })
            }
            Type::Tuple(types) => Old { input, ty, outer, depth }.tuple(types, visitor),
            Type::Struct { fields, .. } => {
                let scope = Scope { ty, outer };
                Old { input, ty, outer: Some(&scope), depth }.fields(fields, expected, visitor)
            }
            Type::Enum { .. } => {
                let variant = input.variant(ty)?;
                let scope = Scope { ty, outer };
                visitor.visit_enum(Chosen { old: Old { input, ty, outer: Some(&scope), depth }, variant })
            }
            Type::Enclosing(level) => {
                let found = Scope::enclosing(outer, *level)?;
                Old { input, ty: found.ty, outer: found.outer, depth }.any(expected, visitor)
            }
        }
    }
}

impl<'de> Deserializer<'de> for Old<'_, 'de, '_> {
    type Error = DecodeError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.any(None, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.any(Some(fields), visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Values of different types in a row: a tuple, or fields whose names do not matter.
struct Several<'i, 'b, 't> {
    input: &'i mut Input<'b>,
    types: std::vec::IntoIter<&'t Type>,
    outer: Option<&'t Scope<'t>>,
    depth: usize,
}

impl<'b> SeqAccess<'b> for Several<'_, 'b, '_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'b>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        let Some(ty) = self.types.next() else { return Ok(None) };
        seed.deserialize(Old { input: self.input, ty, outer: self.outer, depth: self.depth }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.types.len())
    }
}

/// Fields by name.
struct Named<'i, 'b, 't> {
    input: &'i mut Input<'b>,
    fields: std::slice::Iter<'t, Field>,
    /// Of the field whose name was given last.
    ty: Option<&'t Type>,
    outer: Option<&'t Scope<'t>>,
    depth: usize,
}

impl<'b> MapAccess<'b> for Named<'_, 'b, '_> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'b>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        self.ty = Some(&field.ty);
        let name: StrDeserializer<'_, DecodeError> = field.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'b>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let ty = self.ty.ok_or(DecodeError::BadSchema)?;
        seed.deserialize(Old { input: self.input, ty, outer: self.outer, depth: self.depth })
    }
}

/// Any number of elements, or of keys and values.
struct Many<'i, 'b, 't> {
    input: &'i mut Input<'b>,
    left: u64,
    first: &'t Type,
    second: Option<&'t Type>,
    outer: Option<&'t Scope<'t>>,
    depth: usize,
}

impl<'b> Many<'_, 'b, '_> {
    fn first<S: DeserializeSeed<'b>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let Self { input, first, outer, depth, .. } = self;
        seed.deserialize(Old { input, ty: first, outer: *outer, depth: *depth }).map(Some)
    }
}

impl<'b> SeqAccess<'b> for Many<'_, 'b, '_> {
    type Error = DecodeError;

    fn next_element_seed<S: DeserializeSeed<'b>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, DecodeError> {
        self.first(seed)
    }
}

impl<'b> MapAccess<'b> for Many<'_, 'b, '_> {
    type Error = DecodeError;

    fn next_key_seed<S: DeserializeSeed<'b>>(&mut self, seed: S) -> Result<Option<S::Value>, DecodeError> {
        self.first(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'b>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let ty = self.second.ok_or(DecodeError::BadSchema)?;
        seed.deserialize(Old { input: self.input, ty, outer: self.outer, depth: self.depth })
    }
}

/// A variant that was read, with what it holds still to come.
struct Chosen<'i, 'b, 't> {
    old: Old<'i, 'b, 't>,
    variant: &'t Variant,
}

impl<'b> EnumAccess<'b> for Chosen<'_, 'b, '_> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'b>>(self, seed: S) -> Result<(S::Value, Self), DecodeError> {
        let name: StrDeserializer<'_, DecodeError> = self.variant.name.as_str().into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'b> VariantAccess<'b> for Chosen<'_, 'b, '_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.variant.content {
            Content::Unit => Ok(()),
            Content::Newtype(_) | Content::Tuple(_) | Content::Struct(_) => Err(DecodeError::BadSchema),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'b>>(self, seed: S) -> Result<S::Value, DecodeError> {
        let Content::Newtype(ty) = &self.variant.content else { return Err(DecodeError::BadSchema) };
        seed.deserialize(Old { ty, ..self.old })
    }

    fn tuple_variant<V: Visitor<'b>>(self, _: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let Content::Tuple(types) = &self.variant.content else { return Err(DecodeError::BadSchema) };
        self.old.tuple(types, visitor)
    }

    fn struct_variant<V: Visitor<'b>>(
        self,
        expected: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Content::Struct(fields) = &self.variant.content else { return Err(DecodeError::BadSchema) };
        self.old.fields(fields, Some(expected), visitor)
    }
}
