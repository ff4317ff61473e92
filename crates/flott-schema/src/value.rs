//! Values without their Rust type: for people, and for formats that describe themselves.

use crate::migrate::{Input, Scope};
use crate::schema::{Content, Field, Type};
use crate::{DEPTH_MAX, DecodeError};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// A value of some type. Serialized, it is what serde makes of the Rust value in JSON; a map whose keys are no text is a list of pairs.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "variants without a comment are what `Type` has under the same name")]
pub enum Value {
    Unit,
    Bool(bool),
    /// Any signed integer.
    Signed(i128),
    /// Any unsigned integer.
    Unsigned(u128),
    F32(f32),
    F64(f64),
    Char(char),
    String(String),
    Bytes(Vec<u8>),
    Option(Option<Box<Value>>),
    Sequence(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Tuple(Vec<Value>),
    /// Fields in their order.
    Struct(Vec<(String, Value)>),
    /// A variant by name, with what it holds.
    Variant(String, Box<Value>),
}

/// Reads a value, which must fill `bytes`.
///
/// # Errors
/// If the bytes are not a value of the schema.
pub fn decode(ty: &Type, bytes: &[u8]) -> Result<Value, DecodeError> {
    match decode_prefix(ty, bytes)? {
        (value, []) => Ok(value),
        (_, rest) => Err(DecodeError::Trailing(rest.len())),
    }
}

/// Reads the value at the start of `bytes`; returns it and what follows.
///
/// # Errors
/// As [`decode`].
pub fn decode_prefix<'b>(ty: &Type, bytes: &'b [u8]) -> Result<(Value, &'b [u8]), DecodeError> {
    let mut input = Input::new(bytes);
    let value = value(&mut input, ty, None, 0)?;
    Ok((value, input.rest()?))
}

type Outer<'a> = Option<&'a Scope<'a>>;

fn value(input: &mut Input<'_>, ty: &Type, outer: Outer<'_>, depth: usize) -> Result<Value, DecodeError> {
    if depth >= DEPTH_MAX {
        return Err(DecodeError::TooDeep);
    }
    input.spend()?;
    let down = depth + 1;
    Ok(match ty {
        Type::Unit => Value::Unit,
        Type::Bool => Value::Bool(input.read()?),
        Type::I8 => Value::Signed(input.read::<i8>()?.into()),
        Type::I16 => Value::Signed(input.read::<i16>()?.into()),
        Type::I32 => Value::Signed(input.read::<i32>()?.into()),
        Type::I64 => Value::Signed(input.read::<i64>()?.into()),
        Type::I128 => Value::Signed(input.read()?),
        Type::U8 => Value::Unsigned(input.read::<u8>()?.into()),
        Type::U16 => Value::Unsigned(input.read::<u16>()?.into()),
        Type::U32 => Value::Unsigned(input.read::<u32>()?.into()),
        Type::U64 => Value::Unsigned(input.read::<u64>()?.into()),
        Type::U128 => Value::Unsigned(input.read()?),
        Type::F32 => Value::F32(input.read()?),
        Type::F64 => Value::F64(input.read()?),
        Type::Char => Value::Char(input.read()?),
        Type::String => Value::String(input.read()?),
        Type::Bytes => Value::Bytes(input.bytes()?.to_vec()),
        Type::Option(inner) => match input.is_some()? {
            true => Value::Option(Some(Box::new(value(input, inner, outer, down)?))),
            false => Value::Option(None),
        },
        Type::Sequence(element) => {
            let len = input.len()?;
            Value::Sequence((0..len).map(|_| value(input, element, outer, down)).collect::<Result<_, _>>()?)
        }
        Type::Map(key, of_key) => {
            let len = input.len()?;
            let mut entry = || Ok((value(input, key, outer, down)?, value(input, of_key, outer, down)?));
            Value::Map((0..len).map(|_| entry()).collect::<Result<_, DecodeError>>()?)
        }
        Type::Tuple(types) => Value::Tuple(tuple(input, types, outer, down)?),
        Type::Struct { fields, .. } => structure(input, fields, Some(&Scope { ty, outer }), down)?,
        Type::Enum { .. } => {
            let variant = input.variant(ty)?;
            let scope = Some(&Scope { ty, outer });
            let content = match &variant.content {
                Content::Unit => Value::Unit,
                Content::Newtype(inner) => value(input, inner, scope, down)?,
                Content::Tuple(types) => Value::Tuple(tuple(input, types, scope, down)?),
                Content::Struct(fields) => structure(input, fields, scope, down)?,
            };
            Value::Variant(variant.name.clone(), Box::new(content))
        }
        Type::Enclosing(level) => {
            let found = Scope::enclosing(outer, *level)?;
            value(input, found.ty, found.outer, down)?
        }
    })
}

fn tuple(
    input: &mut Input<'_>,
    types: &[Type],
    outer: Outer<'_>,
    depth: usize,
) -> Result<Vec<Value>, DecodeError> {
    types.iter().map(|ty| value(input, ty, outer, depth)).collect()
}

fn structure(
    input: &mut Input<'_>,
    fields: &[Field],
    outer: Outer<'_>,
    depth: usize,
) -> Result<Value, DecodeError> {
    let field = |field: &Field| Ok((field.name.clone(), value(input, &field.ty, outer, depth)?));
    fields.iter().map(field).collect::<Result<_, _>>().map(Value::Struct)
}

impl Value {
    /// Whether it can be the name of a member of a JSON object.
    fn is_text(&self) -> bool {
        match self {
            Self::Bool(_) | Self::Signed(_) | Self::Unsigned(_) | Self::Char(_) | Self::String(_) => true,
            Self::Variant(_, content) => **content == Self::Unit,
            Self::Unit | Self::F32(_) | Self::F64(_) | Self::Bytes(_) | Self::Option(_) => false,
            Self::Sequence(_) | Self::Map(_) | Self::Tuple(_) | Self::Struct(_) => false,
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unit => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            // Formats know integers of 64 bits; larger ones are rarer than formats that refuse them.
            Self::Signed(value) => match i64::try_from(*value) {
                Ok(value) => serializer.serialize_i64(value),
                Err(_) => serializer.serialize_i128(*value),
            },
            Self::Unsigned(value) => match u64::try_from(*value) {
                Ok(value) => serializer.serialize_u64(value),
                Err(_) => serializer.serialize_u128(*value),
            },
            Self::F32(value) => serializer.serialize_f32(*value),
            Self::F64(value) => serializer.serialize_f64(*value),
            Self::Char(value) => serializer.serialize_char(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_bytes(value),
            Self::Option(None) => serializer.serialize_none(),
            Self::Option(Some(value)) => serializer.serialize_some(value),
            Self::Sequence(values) | Self::Tuple(values) => {
                let mut elements = serializer.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| elements.serialize_element(value))?;
                elements.end()
            }
            Self::Map(entries) if entries.iter().all(|(key, _)| key.is_text()) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
            }
            Self::Map(entries) => serializer.collect_seq(entries),
            Self::Struct(fields) => serializer.collect_map(fields.iter().map(|(name, value)| (name, value))),
            Self::Variant(name, content) if **content == Self::Unit => serializer.serialize_str(name),
            Self::Variant(name, content) => {
                let mut object = serializer.serialize_map(Some(1))?;
                object.serialize_entry(name, content)?;
                object.end()
            }
        }
    }
}
