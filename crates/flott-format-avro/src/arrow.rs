//! Messages become rows of Arrow batches.

use crate::AvroFormat;
use crate::format::Writer;
use crate::schemas::{Prepared, look_up};
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use flott_api::message::DecodeError;
use flott_format_arrow::array::RecordBatch;
use flott_format_arrow::{ArrowFormat, BuildRows, MalformedRow};
use flott_schema_registry::SchemaRegistry;
use flott_schema_registry::wire::decode_frame;
use flott_types::{Error, Result};
use std::collections::BTreeMap;

/// What stands in for the id of a schema that messages do not name.
const UNNAMED: u32 = 0;

impl AvroFormat {
    /// Messages as rows of Arrow batches, whose columns are the fields of the schema: a record. An `enum` is a dictionary of its symbols,
    /// a union with `null` a column that may be null.
    ///
    /// A message whose schema uses others of the registry fails the job, and one that takes no bytes is malformed: a record without
    /// fields, or with nothing but nulls of the type `null`.
    ///
    /// # Errors
    /// If there is no Arrow type for the schema.
    pub fn arrow(self) -> Result<ArrowFormat> {
        let schema = new_decoder(UNNAMED, &self.schema, &self.schema)?.schema();
        Ok(ArrowFormat::new(schema, move || {
            let (writer, registry) = match &self.writer {
                Writer::Known(writer) => (writer.clone(), None),
                Writer::Registry { registry, .. } => (self.schema.clone(), Some(registry.clone())),
            };
            // Looks at the schemas before the first message does.
            let known = Rows::new(UNNAMED, vec![writer], &self.schema)?;
            let rows = if registry.is_none() { BTreeMap::from([(UNNAMED, known)]) } else { BTreeMap::new() };
            Ok(Box::new(AvroRows { schema: self.schema.clone(), registry, rows }))
        }))
    }
}

/// The decoder of messages that were written with the schema `id`, which is `writer`.
fn new_decoder(id: u32, writer: &str, reader: &str) -> Result<Decoder> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    let stored = store.set(Fingerprint::Id(id), AvroSchema::new(writer.to_owned()));
    let decoder = stored.and_then(|_| {
        ReaderBuilder::new()
            .with_writer_schema_store(store)
            .with_reader_schema(AvroSchema::new(reader.to_owned()))
            .with_batch_size(ROWS_MAX)
            .build_decoder()
    });
    decoder.map_err(|error| Error::user("cannot make Arrow columns of an Avro schema").with_source(error))
}

/// Rows of one batch at most; a reader flushes much earlier.
const ROWS_MAX: usize = 1 << 20;

struct AvroRows {
    schema: String,
    registry: Option<SchemaRegistry>,
    /// By the id of the schema that messages were written with.
    rows: BTreeMap<u32, Rows>,
}

/// Reads messages of one schema.
struct Rows {
    id: u32,
    prepared: Prepared,
    writer: String,
    /// None after a message that it could not read, of which it has the first columns.
    decoder: Option<Decoder>,
}

impl Rows {
    fn new(id: u32, writer: Vec<String>, reader: &str) -> Result<Self> {
        let prepared = Prepared::new(&writer, reader)?;
        let Ok([writer]) = <[String; 1]>::try_from(writer) else {
            return Err(Error::user(
                "the schema uses others of the registry, which is not read to Arrow: write messages with a schema that contains them, or decode \
                 them to a serde type",
            ));
        };
        let decoder = Some(new_decoder(id, &writer, reader)?);
        Ok(Self { id, prepared, writer, decoder })
    }

    fn append(&mut self, payload: &[u8], reader: &str) -> Result<(), DecodeError> {
        self.prepared.scan(payload).map_err(DecodeError::Malformed)?;
        if payload.is_empty() {
            return Err(DecodeError::malformed("a record that takes no bytes is not read to Arrow"));
        }
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => new_decoder(self.id, &self.writer, reader)?,
        };
        let [a, b, c, d] = self.id.to_be_bytes();
        let decoded = decoder.decode(&[0, a, b, c, d]).and_then(|_| decoder.decode(payload));
        let n_read = decoded.map_err(|error| DecodeError::Malformed(error.to_string()))?;
        if n_read != payload.len() {
            return Err(DecodeError::Malformed(format!("{n_read} bytes were read of {}", payload.len())));
        }
        self.decoder = Some(decoder);
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<RecordBatch>) -> Result<()> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let batch = decoder.flush().map_err(|error| {
            Error::subtask("cannot make an Arrow batch of Avro messages").with_source(error)
        })?;
        out.extend(batch);
        Ok(())
    }
}

impl BuildRows for AvroRows {
    fn build(&mut self, messages: &[&[u8]], out: &mut Vec<RecordBatch>) -> Result<(), MalformedRow> {
        let mut last = None;
        for (idx, message) in messages.iter().enumerate() {
            if let Err(why) = self.append(message, &mut last, out) {
                // They have rows of messages that come again.
                self.rows.values_mut().for_each(|rows| rows.decoder = None);
                return Err(MalformedRow { idx, why });
            }
        }
        self.flush(last, out).map_err(|error| MalformedRow { idx: 0, why: DecodeError::Failed(error) })
    }
}

impl AvroRows {
    fn append(
        &mut self,
        message: &[u8],
        last: &mut Option<u32>,
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), DecodeError> {
        let (id, payload) = match &self.registry {
            Some(_) => decode_frame(message).map_err(DecodeError::Malformed)?,
            None => (UNNAMED, message),
        };
        if last.is_some_and(|last| last != id) {
            self.flush(last.take(), out)?;
        }
        *last = Some(id);
        let Self { schema, registry, rows } = self;
        if !rows.contains_key(&id)
            && let Some(registry) = registry
        {
            let new = Rows::new(id, look_up(registry, id)?, schema).map_err(|error| {
                error.context(format!("cannot read messages that were written with schema {id}"))
            })?;
            rows.insert(id, new);
        }
        let Some(rows) = rows.get_mut(&id) else {
            return Err(Error::subtask("Avro without a schema").into());
        };
        rows.append(payload, schema).map_err(|why| match why {
            DecodeError::Malformed(why) if registry.is_some() => {
                DecodeError::Malformed(format!("written with schema {id}: {why}"))
            }
            why => why,
        })
    }

    fn flush(&mut self, id: Option<u32>, out: &mut Vec<RecordBatch>) -> Result<()> {
        id.and_then(|id| self.rows.get_mut(&id)).map_or(Ok(()), |rows| rows.flush(out))
    }
}
