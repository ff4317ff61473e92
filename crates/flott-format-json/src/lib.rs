//! Messages that are JSON: a value of the user's type ([`JsonFormat`]), or a change of a table as Debezium says it ([`DebeziumJsonFormat`]).
//!
//! It is *not* about files of JSON lines, which `flott-connector-file` reads.
//!
//! Invariants: a message gives its records or an error that names the field and its place, never something in between; nesting is limited
//! (128 levels), so that no message overflows the stack.
//!
//! Reading order: `json`, `debezium` (what users see), `parse` (bytes to values, and what is wrong with them), `strict` (fields that lack
//! or that nobody knows), `null_fields`; `arrow`, `debezium::arrow` (with the feature of that name: rows of Arrow batches).

#![deny(missing_docs)]

#[cfg(feature = "arrow")]
mod arrow;
mod debezium;
mod json;
mod null_fields;
mod parse;
mod strict;
#[cfg(test)]
mod tests;

pub use debezium::DebeziumJsonFormat;
#[cfg(feature = "arrow")]
pub use debezium::ROW_KIND;
pub use json::JsonFormat;
