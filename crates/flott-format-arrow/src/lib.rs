//! Arrow batches as records ([`ArrowBatch`]), and what formats of messages need to make them.
//!
//! A format says how one message becomes a row ([`BuildRows`]); [`ArrowFormat`] collects the messages that a reader has polled and hands out one
//! batch for all of them. [`Columns`] are what rows are appended to, from a serde deserializer, from texts or value by value.
//!
//! It is *not* an engine on columns: a batch is one record to all operators.
//!
//! Invariants: a batch is of messages of one split, between two of its positions; a message gives its row or is told as malformed, and
//! takes nothing with it; no value is rounded or cut to fit its column.
//!
//! Reading order: `batch`, `format` (what users see), `columns`, then `columns::serde`, `columns::text`, `raw`.

#![deny(missing_docs)]

mod batch;
mod columns;
mod format;
mod raw;

pub use arrow_array as array;
pub use arrow_schema as schema;
pub use arrow_select as select;
pub use batch::ArrowBatch;
pub use columns::{Column, Columns, FieldRules, Scalar};
pub use format::{ArrowFormat, BuildRows, MalformedRow};
