//! Messages become rows of Arrow batches.

mod wire;

use crate::ProtobufFormat;
use crate::decoder::FramedDecoder;
use crate::format::Framing;
use flott_api::message::DecodeError;
use flott_format_arrow::array::RecordBatch;
use flott_format_arrow::schema::{DataType, Field, Fields, Schema, SchemaRef};
use flott_format_arrow::{ArrowFormat, BuildRows, Column, Columns, MalformedRow, Scalar};
use flott_types::{Error, Result};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use std::sync::Arc;

/// How deep messages may be in each other, and a message that contains itself is deeper.
const DEPTH_MAX: usize = 32;

impl<M> ProtobufFormat<M> {
    /// Messages as rows of Arrow batches, whose columns are the fields of the message `name` (with its package) in a set of files as `protoc
    /// --descriptor_set_out --include_imports` or `prost-build` write it. `M` does not matter: `ProtobufFormat::<()>::new().arrow(…)`.
    ///
    /// A field whose absence can be told (`optional`, `oneof`, messages) may be null; others have their default. An `enum` is its number,
    /// a map is ordered by its keys.
    ///
    /// # Errors
    /// If the set cannot be read, does not have the message, or this contains itself: it has no end of columns.
    pub fn arrow(self, file_descriptor_set: &[u8], name: &str) -> Result<ArrowFormat> {
        let pool = DescriptorPool::decode(file_descriptor_set).map_err(|error| {
            Error::user("cannot read a set of files of Protocol Buffers").with_source(error)
        })?;
        let descriptor = pool.get_message_by_name(name).ok_or_else(|| {
            Error::user(format!("the set of files of Protocol Buffers has no message '{name}'"))
        })?;
        let schema = Arc::new(Schema::new(columns(&descriptor, 0)?));
        let framing = self.framing;
        Ok(ArrowFormat::new(Arc::clone(&schema), move || {
            let framed = match &framing {
                Framing::None => None,
                Framing::Registry(framing) => Some(FramedDecoder::new(framing.clone())),
            };
            Ok(Box::new(ProtobufRows { schema: Arc::clone(&schema), descriptor: descriptor.clone(), framed }))
        }))
    }
}

fn columns(message: &MessageDescriptor, depth: usize) -> Result<Fields> {
    if depth > DEPTH_MAX {
        return Err(Error::user(format!(
            "message '{}' contains itself, or is more than {DEPTH_MAX} levels deep: Arrow has no columns for that",
            message.full_name()
        )));
    }
    message
        .fields()
        .map(|field| {
            let value = kind(&field.kind(), depth)?;
            Ok(if field.is_list() {
                let item = Field::new("item", value, false);
                Field::new(field.name(), DataType::List(Arc::new(item)), false)
            } else if field.is_map() {
                let entries = Arc::new(Field::new("entries", map_entry(&field, depth)?, false));
                Field::new(field.name(), DataType::Map(entries, true), false)
            } else {
                Field::new(field.name(), value, field.supports_presence())
            })
        })
        .collect()
}

fn map_entry(field: &FieldDescriptor, depth: usize) -> Result<DataType> {
    let Kind::Message(entry) = field.kind() else { return Err(Error::subtask("a map without entries")) };
    let key = Field::new("key", kind(&entry.map_entry_key_field().kind(), depth)?, false);
    let value = Field::new("value", kind(&entry.map_entry_value_field().kind(), depth)?, false);
    Ok(DataType::Struct(vec![key, value].into()))
}

fn kind(kind: &Kind, depth: usize) -> Result<DataType> {
    Ok(match kind {
        Kind::Double => DataType::Float64,
        Kind::Float => DataType::Float32,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Enum(_) => DataType::Int32,
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => DataType::Int64,
        Kind::Uint32 | Kind::Fixed32 => DataType::UInt32,
        Kind::Uint64 | Kind::Fixed64 => DataType::UInt64,
        Kind::Bool => DataType::Boolean,
        Kind::String => DataType::Utf8,
        Kind::Bytes => DataType::Binary,
        Kind::Message(message) => DataType::Struct(columns(message, depth + 1)?),
    })
}

struct ProtobufRows {
    schema: SchemaRef,
    descriptor: MessageDescriptor,
    framed: Option<FramedDecoder>,
}

impl BuildRows for ProtobufRows {
    fn is_nothing(&self, message: &[u8]) -> bool {
        message.is_empty() && self.framed.is_some()
    }

    fn build(&mut self, messages: &[&[u8]], out: &mut Vec<RecordBatch>) -> Result<(), MalformedRow> {
        let failed = |error| MalformedRow { idx: 0, why: DecodeError::Failed(error) };
        let mut columns = Columns::new(&self.schema).map_err(failed)?;
        for (idx, message) in messages.iter().enumerate() {
            self.append(&mut columns, message).map_err(|why| MalformedRow { idx, why })?;
        }
        out.push(columns.finish().map_err(failed)?);
        Ok(())
    }
}

impl ProtobufRows {
    fn append(&mut self, columns: &mut Columns, message: &[u8]) -> Result<(), DecodeError> {
        let descriptor = &self.descriptor;
        let mut read = |payload: &[u8]| {
            wire::check(descriptor, payload)?;
            let message =
                DynamicMessage::decode(descriptor.clone(), payload).map_err(|error| error.to_string())?;
            append_fields(columns.start_row(), &message)
        };
        match &mut self.framed {
            None => read(message).map_err(DecodeError::Malformed),
            Some(framed) => framed.read(message, read),
        }
    }
}

fn append_fields(columns: &mut [Column], message: &DynamicMessage) -> Result<(), String> {
    let descriptor = message.descriptor();
    for (column, field) in columns.iter_mut().zip(descriptor.fields()) {
        if field.supports_presence() && !message.has_field(&field) {
            column.append_null();
        } else {
            append(column, message.get_field(&field).as_ref())
                .map_err(|why| format!("field '{}': {why}", field.name()))?;
        }
    }
    Ok(())
}

fn append(column: &mut Column, value: &Value) -> Result<(), String> {
    column.append(match value {
        Value::Bool(value) => Scalar::Boolean(*value),
        Value::I32(value) | Value::EnumNumber(value) => Scalar::Integer((*value).into()),
        Value::I64(value) => Scalar::Integer(*value),
        Value::U32(value) => Scalar::Integer((*value).into()),
        Value::U64(value) => Scalar::Unsigned(*value),
        Value::F32(value) => Scalar::Float((*value).into()),
        Value::F64(value) => Scalar::Float(*value),
        Value::String(value) => Scalar::Text(value),
        Value::Bytes(value) => Scalar::Bytes(value),
        Value::Message(message) => return append_fields(column.start_struct()?, message),
        Value::List(items) => {
            return column.append_list(|column| items.iter().try_for_each(|item| append(column, item)));
        }
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            return column.append_map(|keys, values| {
                entries.into_iter().try_for_each(|(key, value)| {
                    append_key(keys, key)?;
                    append(values, value)
                })
            });
        }
    })
}

fn append_key(column: &mut Column, key: &MapKey) -> Result<(), String> {
    column.append(match key {
        MapKey::Bool(key) => Scalar::Boolean(*key),
        MapKey::I32(key) => Scalar::Integer((*key).into()),
        MapKey::I64(key) => Scalar::Integer(*key),
        MapKey::U32(key) => Scalar::Integer((*key).into()),
        MapKey::U64(key) => Scalar::Unsigned(*key),
        MapKey::String(key) => Scalar::Text(key),
    })
}
