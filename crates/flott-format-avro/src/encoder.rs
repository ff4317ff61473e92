//! A record becomes a message.

use crate::AvroFormat;
use crate::format::Writer;
use crate::schemas::intern;
use apache_avro::writer::datum::GenericDatumWriter;
use flott_api::UserResult;
use flott_api::message::{MessageEncoder, SerializationSchema};
use flott_schema_registry::wire::encode_frame;
use flott_schema_registry::{Schema, SchemaType};
use flott_types::{Error, Result};
use serde::Serialize;

impl<T: Serialize + 'static> SerializationSchema<T> for AvroFormat {
    fn create_encoder(&self) -> Result<Box<dyn MessageEncoder<T>>> {
        let schemas = intern(std::slice::from_ref(&self.schema))?;
        let writer = schemas.last().map(|schema| GenericDatumWriter::builder(schema).build());
        let writer = writer
            .transpose()
            .map_err(|error| Error::user("cannot resolve the names in an Avro schema").with_source(error))?;
        let writer = writer.ok_or_else(|| Error::user("an Avro schema without text"))?;
        let id = match &self.writer {
            Writer::Known(_) => None,
            Writer::Registry { subject: None, .. } => {
                return Err(Error::user(
                    "cannot write Avro with a schema registry: say the subject that the schema is registered under, with AvroFormat::subject",
                ));
            }
            Writer::Registry { registry, subject: Some(subject) } => {
                Some(registry.register(subject, &Schema::new(SchemaType::Avro, self.schema.clone()))?)
            }
        };
        Ok(Box::new(AvroEncoder { writer, id }))
    }
}

struct AvroEncoder {
    writer: GenericDatumWriter<'static>,
    id: Option<u32>,
}

impl<T: Serialize> MessageEncoder<T> for AvroEncoder {
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> UserResult {
        if let Some(id) = self.id {
            encode_frame(id, out);
        }
        self.writer.write_ser(out, record)?;
        Ok(())
    }
}
