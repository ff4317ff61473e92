//! A message becomes a record.

use crate::AvroFormat;
use crate::format::Writer;
use crate::scan::{DEPTH_MAX, DEPTH_RESOLVED_MAX, scan};
use crate::schemas::{Prepared, look_up};
use apache_avro::Schema;
use apache_avro::error::Details;
use flott_api::message::{DecodeError, DeserializationSchema, MessageDecoder};
use flott_schema_registry::SchemaRegistry;
use flott_schema_registry::wire::decode_frame;
use flott_types::Result;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

impl<T: DeserializeOwned + 'static> DeserializationSchema<T> for AvroFormat {
    fn create_decoder(&self) -> Result<Box<dyn MessageDecoder<T>>> {
        Ok(match &self.writer {
            Writer::Known(writer) => Box::new(Prepared::new(std::slice::from_ref(writer), &self.schema)?),
            Writer::Registry { registry, .. } => {
                // Looks at the schema before the first message does.
                Prepared::new(std::slice::from_ref(&self.schema), &self.schema)?;
                let (registry, schema) = (registry.clone(), self.schema.clone());
                Box::new(FramedDecoder { registry, schema, prepared: BTreeMap::new() })
            }
        })
    }
}

impl<T: DeserializeOwned> MessageDecoder<T> for Prepared {
    fn decode(&mut self, message: &[u8], out: &mut Vec<T>) -> Result<(), DecodeError> {
        if !message.is_empty() {
            out.push(self.read(message).map_err(DecodeError::Malformed)?);
        }
        Ok(())
    }
}

impl Prepared {
    /// Says what is wrong with a message before it is read.
    pub(crate) fn scan(&self, message: &[u8]) -> Result<(), String> {
        let depth_max = if self.is_same { DEPTH_MAX } else { DEPTH_RESOLVED_MAX };
        scan(message, self.writer, self.names.get_names(), depth_max)
    }

    /// The library reads straight into a type only if its structs are called as the records of the schema. What it reads by way of a value is found by
    /// the names of fields alone, as resolved messages are: a type that is called otherwise is read like that from then on. Nothing else that is refused
    /// is tried again, for that way is less strict with damaged messages.
    fn read<T: DeserializeOwned>(&mut self, message: &[u8]) -> Result<T, String> {
        self.scan(message)?;
        if !self.by_value {
            let read = self.reader.read_deser(&mut &*message);
            if !read.as_ref().is_err_and(is_called_otherwise) {
                return read.map_err(|error| error.to_string());
            }
            self.by_value = true;
        }
        scan(message, self.writer, self.names.get_names(), DEPTH_RESOLVED_MAX)?;
        let value = self.reader.read_value(&mut &*message);
        value.and_then(|value| apache_avro::from_value(&value)).map_err(|error| error.to_string())
    }
}

/// Whether a struct met a record of another name.
fn is_called_otherwise(error: &apache_avro::Error) -> bool {
    matches!(
        error.details(),
        Details::DeserializeSchemaAware { value_type: "struct", schema: Schema::Record(_), .. }
    )
}

/// Messages that say what they were written with.
struct FramedDecoder {
    registry: SchemaRegistry,
    schema: String,
    /// By the id of the schema that messages were written with.
    prepared: BTreeMap<u32, Prepared>,
}

impl<T: DeserializeOwned> MessageDecoder<T> for FramedDecoder {
    fn decode(&mut self, message: &[u8], out: &mut Vec<T>) -> Result<(), DecodeError> {
        if message.is_empty() {
            return Ok(());
        }
        let (id, payload) = decode_frame(message).map_err(DecodeError::Malformed)?;
        let explained = |why| DecodeError::Malformed(format!("written with schema {id}: {why}"));
        if let Some(prepared) = self.prepared.get_mut(&id) {
            out.push(prepared.read(payload).map_err(explained)?);
            return Ok(());
        }
        let texts = look_up(&self.registry, id)?;
        let mut prepared = Prepared::new(&texts, &self.schema).map_err(|error| {
            error.context(format!("cannot read messages that were written with schema {id}"))
        })?;
        let record = prepared.read(payload).map_err(explained);
        self.prepared.insert(id, prepared);
        out.push(record?);
        Ok(())
    }
}
