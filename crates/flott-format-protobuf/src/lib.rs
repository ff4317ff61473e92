//! Messages that are Protocol Buffers, plain or with the id of their schema in a registry, to and from types of prost.
//!
//! Types come from `prost-build`, or are written by hand with `#[derive(prost::Message)]`; nothing here reads `.proto` files, and `protoc`
//! is not needed.
//!
//! Invariants: nesting is limited (100 levels, by prost); a registry that does not answer is no property of a message.
//!
//! Reading order: `format` (what users see), `frame`, `decoder`, `encoder`; `arrow` (with the feature of that name: rows of
//! Arrow batches).

#![deny(missing_docs)]

#[cfg(feature = "arrow")]
mod arrow;
mod decoder;
mod encoder;
mod format;
mod frame;
#[cfg(test)]
mod tests;

pub use format::ProtobufFormat;
