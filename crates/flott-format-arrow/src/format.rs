//! The format: messages are kept, and become rows of one batch when the reader flushes.

use crate::{ArrowBatch, raw};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use flott_api::message::{DecodeError, DeserializationSchema, MalformedMessage, MessageDecoder};
use flott_types::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// A format whose records are Arrow batches: what `JsonFormat::arrow` and its siblings return.
///
/// A batch has the messages that a reader has got at once, in order, at most as many as `execution.batch-size`; where one ends and the next begins
/// depends on the broker and is another after a restart, while the rows are the same. A batch has the least timestamp of its messages.
#[derive(Clone)]
pub struct ArrowFormat {
    schema: SchemaRef,
    make: Arc<dyn Fn() -> Result<Box<dyn BuildRows>> + Send + Sync>,
}

impl fmt::Debug for ArrowFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ArrowFormat").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Makes rows of messages.
pub trait BuildRows: Send {
    /// Whether a message says nothing and gives no row; an empty one, by default.
    fn is_nothing(&self, message: &[u8]) -> bool {
        message.is_empty()
    }

    /// Appends batches to `out` with the rows of the messages, in order; one each, as a rule.
    ///
    /// # Errors
    /// [`MalformedRow`]: the first message that gives none, and why. What was appended is taken away by the caller, who tries the others
    /// again without it.
    fn build(
        &mut self,
        messages: &[&[u8]],
        out: &mut Vec<RecordBatch>,
    ) -> std::result::Result<(), MalformedRow>;
}

/// The message that gives no row.
#[derive(Debug)]
pub struct MalformedRow {
    /// Its place among the messages.
    pub idx: usize,
    /// Why.
    pub why: DecodeError,
}

impl ArrowFormat {
    /// A format with these columns; `make` is called for each subtask.
    pub fn new(
        schema: SchemaRef,
        make: impl Fn() -> Result<Box<dyn BuildRows>> + Send + Sync + 'static,
    ) -> Self {
        Self { schema, make: Arc::new(make) }
    }

    /// Messages as they are, in one column of the type `Binary`.
    pub fn raw(column: impl Into<String>) -> Self {
        raw::format(column.into())
    }

    /// The columns of all batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

impl DeserializationSchema<ArrowBatch> for ArrowFormat {
    fn create_decoder(&self) -> Result<Box<dyn MessageDecoder<ArrowBatch>>> {
        Ok(Box::new(ArrowDecoder {
            rows: (self.make)()?,
            bytes: Vec::new(),
            kept: Vec::new(),
            n_messages: 0,
        }))
    }
}

struct ArrowDecoder {
    rows: Box<dyn BuildRows>,
    /// The kept messages, one behind the other.
    bytes: Vec<u8>,
    kept: Vec<Kept>,
    /// Those since the last flush, whether kept or not.
    n_messages: usize,
}

struct Kept {
    idx: usize,
    /// Where it ends in the bytes.
    end: usize,
}

impl MessageDecoder<ArrowBatch> for ArrowDecoder {
    fn decode(&mut self, message: &[u8], _: &mut Vec<ArrowBatch>) -> std::result::Result<(), DecodeError> {
        if !self.rows.is_nothing(message) {
            self.bytes.extend_from_slice(message);
            self.kept.push(Kept { idx: self.n_messages, end: self.bytes.len() });
        }
        self.n_messages += 1;
        Ok(())
    }

    fn flush(
        &mut self,
        out: &mut Vec<ArrowBatch>,
        malformed: &mut dyn FnMut(MalformedMessage<'_>),
    ) -> Result<()> {
        let mut start = 0;
        let messages: Vec<&[u8]> = self
            .kept
            .iter()
            .map(|kept| self.bytes.get(std::mem::replace(&mut start, kept.end)..kept.end).unwrap_or_default())
            .collect();
        let mut batches = Vec::new();
        build_good(self.rows.as_mut(), &messages, &mut batches, &mut |at, why| {
            let idx = self.kept.get(at).map_or(at, |kept| kept.idx);
            malformed(MalformedMessage { idx, message: messages.get(at).copied().unwrap_or_default(), why });
        })?;
        out.extend(into_one(batches).into_iter().map(ArrowBatch));
        self.bytes.clear();
        self.kept.clear();
        self.n_messages = 0;
        Ok(())
    }
}

/// Builds rows of all messages but the malformed ones: what lies between two of these is built a second time, so no message more than twice.
fn build_good(
    rows: &mut dyn BuildRows,
    messages: &[&[u8]],
    out: &mut Vec<RecordBatch>,
    malformed: &mut dyn FnMut(usize, String),
) -> Result<()> {
    let mut first = 0;
    while let Some(unread @ [_, ..]) = messages.get(first..) {
        let n_batches = out.len();
        let Err(MalformedRow { idx, why }) = rows.build(unread, out) else { return Ok(()) };
        let why = match why {
            DecodeError::Malformed(why) => why,
            DecodeError::Failed(error) => return Err(error),
        };
        out.truncate(n_batches);
        if let Some(good @ [_, ..]) = unread.get(..idx)
            && let Err(again) = rows.build(good, out)
        {
            return Err(Error::subtask(format!(
                "messages that were read are none when read again: {again:?}"
            )));
        }
        malformed(first + idx, why);
        first += idx + 1;
    }
    Ok(())
}

/// One batch, if they fit into one: a column of texts holds 2 GB.
fn into_one(batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
    match batches.as_slice() {
        [first, _, ..] => match arrow_select::concat::concat_batches(&first.schema(), &batches) {
            Ok(batch) => vec![batch],
            Err(_) => batches,
        },
        [] | [_] => batches,
    }
}
