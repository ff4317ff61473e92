//! A client of schema registries that speak the protocol of Confluent's: schemas by id, and ids by schema.
//!
//! [`SchemaRegistry`] is the client, [`wire`] the frame around messages that says which schema they were written with. Formats that use it
//! are `flott-format-avro` and `flott-format-protobuf`.
//!
//! It is *not* a parser of schemas: they are texts here.
//!
//! Invariants: what is not answered is an error that may be tried again, never "no such schema"; secrets are in no error and no `Debug`;
//! an id never changes its schema, so what was looked up is kept.
//!
//! Reading order: `registry` (what users see), `config`, `schema`, `client` (what is asked and what answers mean), `http`, [`wire`],
//! [`testing`].

#![deny(missing_docs)]

mod client;
mod config;
mod http;
mod registry;
mod schema;
pub mod testing;
#[cfg(test)]
mod tests;
pub mod wire;

pub use registry::SchemaRegistry;
pub use schema::{Reference, Schema, SchemaType};
