//! A batch as a record.

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use serde::de::{Deserializer, Visitor};
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;

/// Rows in columns, as one record: an Arrow `RecordBatch` that can travel through a job and stand in its state.
///
/// A clone shares the columns. In snapshots it is a stream of Arrow's IPC format, which holds its schema; so batches are read by any later version.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrowBatch(pub RecordBatch);

impl Deref for ArrowBatch {
    type Target = RecordBatch;
    fn deref(&self) -> &RecordBatch {
        &self.0
    }
}

impl From<RecordBatch> for ArrowBatch {
    fn from(batch: RecordBatch) -> Self {
        Self(batch)
    }
}

fn to_ipc(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema())?;
    writer.write(batch)?;
    writer.into_inner()
}

fn from_ipc(bytes: &[u8]) -> Result<RecordBatch, String> {
    let mut reader = StreamReader::try_new(bytes, None).map_err(|error| error.to_string())?;
    match reader.next() {
        Some(batch) => batch.map_err(|error| error.to_string()),
        None => Err("it has no batch".to_owned()),
    }
}

impl Serialize for ArrowBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&to_ipc(&self.0).map_err(S::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for ArrowBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(IpcVisitor)
    }
}

struct IpcVisitor;

impl Visitor<'_> for IpcVisitor {
    type Value = ArrowBatch;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an Arrow batch in a snapshot (a format makes batches of messages when it was told to by its method `arrow`)")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<ArrowBatch, E> {
        let read = from_ipc(bytes).map_err(|why| E::custom(format!("cannot read an Arrow batch: {why}")))?;
        Ok(ArrowBatch(read))
    }
}
