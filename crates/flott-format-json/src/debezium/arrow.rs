//! Changes of tables become rows of Arrow batches.

use super::{DebeziumJsonFormat, Envelope, NO_PAYLOAD, Present};
use crate::parse::{explain, path_in_value, to_text};
use flott_api::message::DecodeError;
use flott_format_arrow::array::{ArrayRef, RecordBatch, StringArray};
use flott_format_arrow::schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use flott_format_arrow::select::interleave::interleave_record_batch;
use flott_format_arrow::{ArrowFormat, BuildRows, Columns, FieldRules, MalformedRow};
use flott_types::{Error, Result, RowChange};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::sync::Arc;

/// The column that says what a row of a batch of changes means: `+I`, `-U`, `+U` or `-D`, as Flink prints them.
pub const ROW_KIND: &str = "row_kind";

impl DebeziumJsonFormat {
    /// Messages as rows of Arrow batches: these columns, which are found by name in the rows that a message has, and behind them the column
    /// [`ROW_KIND`], a text that is never null.
    ///
    /// The rows are those of the serde types, in the same order, and values are as strict as in [`JsonFormat::arrow`](crate::JsonFormat::arrow). If
    /// one of the columns has the name [`ROW_KIND`] itself, the job does not start.
    #[must_use]
    pub fn arrow(self, schema: SchemaRef) -> ArrowFormat {
        let kind = Arc::new(Field::new(ROW_KIND, DataType::Utf8, false));
        let fields = schema.fields().iter().cloned().chain([kind]);
        let of_changes =
            Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()));
        ArrowFormat::new(Arc::clone(&of_changes), move || {
            if schema.column_with_name(ROW_KIND).is_some() {
                return Err(Error::user(format!(
                    "a column of the table has the name '{ROW_KIND}', which is that of the kind of change: leave the column out, or decode to a serde type"
                )));
            }
            // Says at once what types it does not have.
            Columns::new(&schema)?;
            let (of_table, of_changes) = (Arc::clone(&schema), Arc::clone(&of_changes));
            Ok(Box::new(ChangeRows { format: self, of_table, of_changes }))
        })
    }
}

struct ChangeRows {
    format: DebeziumJsonFormat,
    of_table: SchemaRef,
    of_changes: SchemaRef,
}

impl BuildRows for ChangeRows {
    fn build(
        &mut self,
        messages: &[&[u8]],
        out: &mut Vec<RecordBatch>,
    ) -> std::result::Result<(), MalformedRow> {
        let failed = |error| MalformedRow { idx: 0, why: DecodeError::Failed(error) };
        let mut sides = Sides::new(&self.of_table).map_err(failed)?;
        let mut changes = Vec::with_capacity(messages.len());
        for (idx, message) in messages.iter().enumerate() {
            sides
                .read(self.format, message, &mut changes)
                .map_err(|why| MalformedRow { idx, why: DecodeError::Malformed(why) })?;
        }
        if !changes.is_empty() {
            out.push(sides.finish(&self.of_changes, &changes).map_err(failed)?);
        }
        Ok(())
    }
}

/// The rows of both sides of changes, which are appended as they are found: what a row means, and whether it is one, is known at the end of its
/// message. So they are chosen and put in order when all are there.
struct Sides {
    before: Side,
    after: Side,
}

struct Side {
    columns: Columns,
    n_rows: usize,
}

impl Sides {
    fn new(schema: &SchemaRef) -> Result<Self> {
        let side = || Ok(Side { columns: Columns::new(schema)?, n_rows: 0 });
        Ok(Self { before: side()?, after: side()? })
    }

    /// Appends what a message says: the rows to the sides, and to `changes` which of them count.
    fn read(
        &mut self,
        DebeziumJsonFormat { schema_include }: DebeziumJsonFormat,
        message: &[u8],
        changes: &mut Vec<RowChange<usize>>,
    ) -> std::result::Result<(), String> {
        let text = to_text(message)?;
        let mut parser = serde_json::Deserializer::from_str(text);
        let seed = MessageSeed { sides: self, schema_include };
        let parsed = seed.deserialize(&mut parser).and_then(|read| parser.end().map(|()| read));
        let envelope = parsed.map_err(|error| {
            explain(text, &error, |parser| {
                let mut track = serde_path_to_error::Track::new();
                let tracked = serde_path_to_error::Deserializer::new(parser, &mut track);
                MessageSeed { sides: self, schema_include }.deserialize(tracked).err()?;
                path_in_value(&track.path())
            })
        })?;
        let envelope = envelope.ok_or_else(|| NO_PAYLOAD.to_owned())?;
        envelope.map_or(Ok(()), |envelope| envelope.changes(changes))
    }

    fn finish(&mut self, schema: &SchemaRef, changes: &[RowChange<usize>]) -> Result<RecordBatch> {
        let sides = [self.before.columns.finish()?, self.after.columns.finish()?];
        let place = |change: &RowChange<usize>| (usize::from(change.kind.is_addition()), change.row);
        let places: Vec<_> = changes.iter().map(place).collect();
        let kinds: ArrayRef =
            Arc::new(StringArray::from_iter_values(changes.iter().map(|it| it.kind.short_string())));
        let batch = |sides: [&RecordBatch; 2]| {
            let rows = interleave_record_batch(&sides, &places)?;
            let columns = rows.columns().iter().cloned().chain([kinds]);
            RecordBatch::try_new(Arc::clone(schema), columns.collect())
        };
        let [before, after] = &sides;
        batch([before, after])
            .map_err(|error: ArrowError| Error::subtask("cannot make an Arrow batch").with_source(error))
    }
}

/// Reads a message: what it says, if it says anything; `None` if its schema ought to be with it and is not.
struct MessageSeed<'a> {
    sides: &'a mut Sides,
    schema_include: bool,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = Option<Option<Envelope<usize>>>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Self::Value, D::Error> {
        if self.schema_include {
            deserializer.deserialize_option(WithSchemaVisitor(self.sides))
        } else {
            EnvelopeSeed(self.sides).deserialize(deserializer).map(Some)
        }
    }
}

struct WithSchemaVisitor<'a>(&'a mut Sides);

impl<'de> Visitor<'de> for WithSchemaVisitor<'_> {
    type Value = Option<Option<Envelope<usize>>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a schema and a payload")
    }

    fn visit_none<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(Some(None))
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(Some(None))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Self::Value, A::Error> {
        let mut payload = None;
        while let Some(name) = access.next_key()? {
            match name {
                Name::Payload => {
                    let read = access.next_value_seed(EnvelopeSeed(&mut *self.0))?;
                    once(&mut payload, read, "payload")?;
                }
                Name::Before | Name::After | Name::Op | Name::Other => {
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(payload)
    }
}

/// Reads an envelope, whose rows are numbers of rows of the sides.
struct EnvelopeSeed<'a>(&'a mut Sides);

impl<'de> DeserializeSeed<'de> for EnvelopeSeed<'_> {
    type Value = Option<Envelope<usize>>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for EnvelopeSeed<'_> {
    type Value = Option<Envelope<usize>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a change of a row, as an object")
    }

    fn visit_none<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Self::Value, A::Error> {
        let Self(Sides { before: before_side, after: after_side }) = self;
        let (mut before, mut after, mut op, mut payload) = (None, None, None, None);
        while let Some(name) = access.next_key()? {
            match name {
                Name::Before => {
                    let row = access.next_value_seed(&mut *before_side)?;
                    once(&mut before, row, "before")?;
                }
                Name::After => {
                    let row = access.next_value_seed(&mut *after_side)?;
                    once(&mut after, row, "after")?;
                }
                Name::Op => {
                    let is = access.next_value::<Option<String>>()?;
                    once(&mut op, is, "op")?;
                }
                Name::Payload => {
                    let is = access.next_value::<Option<Present>>()?;
                    once(&mut payload, is, "payload")?;
                }
                Name::Other => {
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Some(Envelope {
            before: before.flatten(),
            after: after.flatten(),
            op: op.flatten(),
            payload: payload.flatten(),
        }))
    }
}

/// The fields that are looked at.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    Before,
    After,
    Op,
    Payload,
    #[serde(other)]
    Other,
}

fn once<T, E: serde::de::Error>(
    found: &mut Option<T>,
    value: T,
    name: &'static str,
) -> std::result::Result<(), E> {
    match found.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
}

/// Appends a row if there is one, and gives its number.
impl<'de> DeserializeSeed<'de> for &mut Side {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for &mut Side {
    type Value = Option<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a row, as an object")
    }

    fn visit_none<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        self.columns.row_seed(FieldRules::default()).deserialize(deserializer)?;
        self.n_rows += 1;
        Ok(Some(self.n_rows - 1))
    }
}
