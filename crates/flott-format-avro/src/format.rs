//! The format and its options.

use flott_schema_registry::SchemaRegistry;
use flott_types::{Error, Result};

/// Messages that are Avro: `avro` and `avro-confluent` of Flink.
///
/// The schema says how the record's type stands in messages; serde finds fields by name. Messages that were written with another schema are
/// resolved against it as Avro says: fields by name or alias, defaults for those that lack, wider numbers. An empty message (a
/// tombstone) gives no record.
#[derive(Clone, Debug)]
pub struct AvroFormat {
    pub(crate) schema: String,
    pub(crate) writer: Writer,
}

/// How the schema that a message was written with is known.
#[derive(Clone, Debug)]
pub(crate) enum Writer {
    /// It is the same for all.
    Known(String),
    /// The message begins with its id.
    Registry { registry: SchemaRegistry, subject: Option<String> },
}

impl AvroFormat {
    /// Messages without a frame that were all written with `schema`, in JSON.
    pub fn new(schema: impl Into<String>) -> Self {
        let schema = schema.into();
        Self { writer: Writer::Known(schema.clone()), schema }
    }

    /// Messages that begin with the id of the schema that they were written with, and are read as `schema`: the frame of Confluent's
    /// serializers. To write, say also the [`AvroFormat::subject`].
    pub fn confluent(registry: SchemaRegistry, schema: impl Into<String>) -> Self {
        Self { schema: schema.into(), writer: Writer::Registry { registry, subject: None } }
    }

    /// `avro-confluent.subject`: what the schema is registered under when messages are written, most often the topic and `-value`.
    #[must_use]
    pub fn subject(mut self, name: impl Into<String>) -> Self {
        if let Writer::Registry { subject, .. } = &mut self.writer {
            *subject = Some(name.into());
        }
        self
    }

    /// For messages without a frame: the schema that they were written with, if it is not the one that they are read and written as.
    ///
    /// # Errors
    /// If messages have a frame, which says it.
    pub fn writer_schema(self, schema: impl Into<String>) -> Result<Self> {
        match self.writer {
            Writer::Known(_) => Ok(Self { writer: Writer::Known(schema.into()), ..self }),
            Writer::Registry { .. } => Err(Error::user(
                "writer_schema is for Avro without a registry: with one, each message says what it was written with",
            )),
        }
    }
}
