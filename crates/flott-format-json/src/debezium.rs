//! Changes of tables as Debezium says them.

#[cfg(feature = "arrow")]
mod arrow;

#[cfg(feature = "arrow")]
pub use arrow::ROW_KIND;

use crate::parse::{FieldRules, parse};
use flott_api::UserResult;
use flott_api::message::{
    DecodeError, DeserializationSchema, MessageDecoder, MessageEncoder, SerializationSchema,
};
use flott_types::{Error, Result, RowChange, RowKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Messages that Debezium writes with its JSON converter, as changes of rows: `debezium-json` of Flink.
///
/// A row that is created (`c`) or read in a snapshot (`r`) is `+I`; one that is updated (`u`) is two records, `-U` with the row as it was
/// and `+U` with the row as it is; one that is deleted (`d`) is `-D`. Tombstones and messages of the database's own log (`m`) give no
/// record. A truncated table (`t`) is malformed: which rows it had cannot be known.
///
/// Encoded are single changes, as Flink does: `+I` and `+U` as `c`, `-U` and `-D` as `d`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebeziumJsonFormat {
    schema_include: bool,
}

impl DebeziumJsonFormat {
    /// Messages without a schema (`value.converter.schemas.enable=false` of Kafka Connect).
    pub fn new() -> Self {
        Self::default()
    }

    /// `debezium-json.schema-include`: each message has its schema with it. For reading only, as with Flink.
    #[must_use]
    pub fn schema_include(mut self, include: bool) -> Self {
        self.schema_include = include;
        self
    }
}

/// What Debezium says of a change. Where it comes from (`source`, `ts_ms`, `transaction`) is left out.
#[derive(Deserialize)]
struct Envelope<T> {
    before: Option<T>,
    after: Option<T>,
    op: Option<String>,
    /// Only there if the message is not an envelope but has one in it.
    payload: Option<Present>,
}

/// A value of any kind.
#[derive(Deserialize)]
struct Present {}

/// An envelope with its schema, which nothing is read from.
#[derive(Deserialize)]
struct WithSchema<T> {
    #[serde(default = "none", deserialize_with = "some", bound(deserialize = "T: DeserializeOwned"))]
    payload: Option<Option<Envelope<T>>>,
}

fn none<T>() -> Option<T> {
    None
}

/// Tells `null`, of a tombstone, from a field that is not there.
fn some<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<T: DeserializeOwned + 'static> DeserializationSchema<RowChange<T>> for DebeziumJsonFormat {
    fn create_decoder(&self) -> Result<Box<dyn MessageDecoder<RowChange<T>>>> {
        Ok(Box::new(*self))
    }
}

impl<T: DeserializeOwned> MessageDecoder<RowChange<T>> for DebeziumJsonFormat {
    fn decode(&mut self, message: &[u8], out: &mut Vec<RowChange<T>>) -> Result<(), DecodeError> {
        if message.is_empty() {
            return Ok(());
        }
        let envelope = self.envelope(message).map_err(DecodeError::Malformed)?;
        envelope.map_or(Ok(()), |envelope| envelope.changes(out)).map_err(DecodeError::Malformed)
    }
}

impl DebeziumJsonFormat {
    /// What the message says, if it says anything.
    fn envelope<T: DeserializeOwned>(&self, message: &[u8]) -> Result<Option<Envelope<T>>, String> {
        if !self.schema_include {
            return parse(message, FieldRules::NONE);
        }
        match parse::<Option<WithSchema<T>>>(message, FieldRules::NONE)? {
            None => Ok(None),
            Some(WithSchema { payload: Some(envelope) }) => Ok(envelope),
            Some(WithSchema { payload: None }) => Err(NO_PAYLOAD.to_owned()),
        }
    }
}

/// What to do about messages that ought to have their schema with them.
const NO_PAYLOAD: &str = "no field 'payload': the message has no schema with it, so leave schema_include off";

/// What to do about rows whose earlier content the database does not tell.
const REPLICA_IDENTITY: &str = "field 'before' is null or lacks: for PostgreSQL, set REPLICA IDENTITY FULL for the table \
                                (ALTER TABLE … REPLICA IDENTITY FULL), so that it tells the row as it was";

impl<T> Envelope<T> {
    fn changes(self, out: &mut Vec<RowChange<T>>) -> Result<(), String> {
        let Self { before, after, op, payload } = self;
        let Some(op) = op else {
            return Err(match payload {
                Some(Present {}) => "no field 'op', but a 'payload': the message has its schema with it, so use schema_include(true)".to_owned(),
                None => "no field 'op': not a message of Debezium, or one that was transformed".to_owned(),
            });
        };
        let before = || before.ok_or_else(|| format!("op '{op}': {REPLICA_IDENTITY}"));
        let after = || after.ok_or_else(|| format!("op '{op}': field 'after' is null or lacks"));
        let mut put = |kind, row| out.push(RowChange { kind, row });
        match op.as_str() {
            "c" | "r" => put(RowKind::Insert, after()?),
            "u" => {
                let (before, after) = (before()?, after()?);
                put(RowKind::UpdateBefore, before);
                put(RowKind::UpdateAfter, after);
            }
            "d" => put(RowKind::Delete, before()?),
            "m" => {}
            "t" => {
                return Err("op 't': the table was truncated, and which rows it had is not said; leave truncations out of the stream with \
                            skipped.operations=t of the connector, or start again from a snapshot"
                    .to_owned());
            }
            _ => return Err(format!("unknown op '{op}'")),
        }
        Ok(())
    }
}

impl<T: Serialize + 'static> SerializationSchema<RowChange<T>> for DebeziumJsonFormat {
    fn create_encoder(&self) -> Result<Box<dyn MessageEncoder<RowChange<T>>>> {
        if self.schema_include {
            return Err(Error::user(
                "cannot write Debezium JSON with schema_include: messages are written without their schema, so leave it off",
            ));
        }
        Ok(Box::new(*self))
    }
}

/// An envelope that is written.
#[derive(Serialize)]
struct EnvelopeOf<'a, T> {
    before: Option<&'a T>,
    after: Option<&'a T>,
    op: &'static str,
}

impl<T: Serialize> MessageEncoder<RowChange<T>> for DebeziumJsonFormat {
    fn encode(&mut self, record: &RowChange<T>, out: &mut Vec<u8>) -> UserResult {
        let row = Some(&record.row);
        let envelope = match record.kind {
            RowKind::Insert | RowKind::UpdateAfter => EnvelopeOf { before: None, after: row, op: "c" },
            RowKind::UpdateBefore | RowKind::Delete => EnvelopeOf { before: row, after: None, op: "d" },
        };
        Ok(serde_json::to_writer(out, &envelope)?)
    }
}
