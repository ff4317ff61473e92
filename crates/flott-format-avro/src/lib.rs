//! Messages that are Avro, plain or with the id of their schema in a registry, to and from serde types.
//!
//! It is *not* about Avro's own files, which have their schema in them.
//!
//! Invariants: a message is walked through before it is decoded (`scan`), so that none makes the decoder take more memory or stack than a
//! small multiple of its size; bytes that are left over are an error; a registry that does not answer is no property of a message.
//!
//! Reading order: `format` (what users see), `schemas` (texts to schemas that decoders share), `scan`, `decoder`, `encoder`; `arrow` (with the feature of
//! that name: rows of Arrow batches).

#![deny(missing_docs)]

#[cfg(feature = "arrow")]
mod arrow;
mod decoder;
mod encoder;
mod format;
mod scan;
mod schemas;
#[cfg(test)]
mod tests;

pub use format::AvroFormat;
