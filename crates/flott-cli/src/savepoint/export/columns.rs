//! Rows as columns of Arrow: numbers, text, structs and lists as such; what has no column of its own as JSON text.

use super::rows::{Layout, Row};
use anyhow::{Context, Result};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use flott_schema::{Content, Type, Value};
use std::sync::Arc;

/// The columns of a layout, the key group or subtask first.
pub(super) fn schema_of(layout: &Layout) -> SchemaRef {
    let group = Field::new(layout.place, DataType::UInt32, false);
    let columns = layout.columns.iter().map(|(name, ty)| column(name, ty));
    Arc::new(Schema::new(std::iter::once(group).chain(columns).collect::<Vec<_>>()))
}

/// The values of a row as its columns take them.
pub(super) fn fitted(layout: &Layout, row: Row) -> Result<Row> {
    let mut values = row.0.into_iter();
    let group = values.next().context("a row without its place")?;
    let fitted = values.zip(&layout.columns).map(|((name, value), (_, ty))| Ok((name, fit(value, ty)?)));
    Ok(Row(std::iter::once(Ok(group)).chain(fitted).collect::<Result<_>>()?))
}

fn column(name: &str, ty: &Type) -> Field {
    match ty {
        Type::Option(inner) => column(name, inner).with_nullable(true),
        Type::Unit => Field::new(name, DataType::Utf8, true),
        _ => Field::new(name, data_type(ty), false),
    }
}

fn data_type(ty: &Type) -> DataType {
    match ty {
        Type::Bool => DataType::Boolean,
        Type::I8 => DataType::Int8,
        Type::I16 => DataType::Int16,
        Type::I32 => DataType::Int32,
        Type::I64 => DataType::Int64,
        Type::U8 => DataType::UInt8,
        Type::U16 => DataType::UInt16,
        Type::U32 => DataType::UInt32,
        Type::U64 => DataType::UInt64,
        Type::F32 => DataType::Float32,
        Type::F64 => DataType::Float64,
        Type::Bytes => DataType::Binary,
        _ if is_json(ty) => DataType::Utf8,
        Type::Sequence(element) => DataType::List(Arc::new(column("element", element))),
        Type::Tuple(types) => {
            let fields = types.iter().enumerate().map(|(idx, ty)| column(&idx.to_string(), ty));
            DataType::Struct(fields.collect())
        }
        Type::Struct { fields, .. } => {
            DataType::Struct(fields.iter().map(|field| column(&field.name, &field.ty)).collect::<Fields>())
        }
        _ => DataType::Utf8,
    }
}

/// Whether values of it are written as JSON: 128-bit numbers, maps, variants that hold something, options of options, what has no fields,
/// and all that refers to itself.
fn is_json(ty: &Type) -> bool {
    let is_plain_enum = |ty: &Type| match ty {
        Type::Enum { variants, .. } => variants.iter().all(|variant| variant.content == Content::Unit),
        _ => false,
    };
    match ty {
        Type::I128 | Type::U128 | Type::Map(..) => true,
        Type::Enum { .. } => !is_plain_enum(ty),
        Type::Tuple(types) => types.is_empty() || types.iter().any(refers_out),
        Type::Struct { fields, .. } => fields.is_empty() || fields.iter().any(|field| refers_out(&field.ty)),
        Type::Sequence(element) => refers_out(element),
        Type::Option(inner) => matches!(**inner, Type::Option(_) | Type::Unit) || is_json(inner),
        Type::Enclosing(_) => true,
        _ => false,
    }
}

/// Whether a reference to an enclosing type is anywhere in it.
fn refers_out(ty: &Type) -> bool {
    match ty {
        Type::Enclosing(_) => true,
        Type::Option(inner) | Type::Sequence(inner) => refers_out(inner),
        Type::Tuple(types) => types.iter().any(refers_out),
        Type::Struct { fields, .. } => fields.iter().any(|field| refers_out(&field.ty)),
        // Text already.
        _ => false,
    }
}

fn fit(value: Value, ty: &Type) -> Result<Value> {
    Ok(match (ty, value) {
        (Type::Unit, _) => Value::Option(None),
        (Type::Option(inner), Value::Option(value)) if !is_json(ty) => {
            Value::Option(value.map(|value| fit(*value, inner)).transpose()?.map(Box::new))
        }
        (Type::Char, Value::Char(letter)) => Value::String(letter.to_string()),
        (ty, value) if is_json(ty) => match value {
            Value::Option(None) => Value::Option(None),
            value => {
                Value::String(serde_json::to_string(&value).context("a value cannot be written as JSON")?)
            }
        },
        (Type::Sequence(element), Value::Sequence(values)) => {
            Value::Sequence(values.into_iter().map(|value| fit(value, element)).collect::<Result<_>>()?)
        }
        (Type::Tuple(types), Value::Tuple(values)) => {
            let fields = values.into_iter().zip(types).enumerate();
            let field = |(idx, (value, ty)): (usize, (Value, &Type))| Ok((idx.to_string(), fit(value, ty)?));
            Value::Struct(fields.map(field).collect::<Result<_>>()?)
        }
        (Type::Struct { fields, .. }, Value::Struct(values)) => {
            let field = |((name, value), of): ((String, Value), &flott_schema::Field)| {
                Ok((name, fit(value, &of.ty)?))
            };
            Value::Struct(values.into_iter().zip(fields).map(field).collect::<Result<_>>()?)
        }
        (_, value) => value,
    })
}
