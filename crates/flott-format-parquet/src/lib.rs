//! Parquet files as records of serde types, through Arrow.
//!
//! [`ParquetFormat`] plugs into whatever reads and writes files by [`DecodeFormat`](flott_api::format::DecodeFormat)
//! and [`EncodeFormat`](flott_api::format::EncodeFormat):
//! `FileSource::<Flight>::format(path, ParquetFormat::new())`, `FileSink::format(path, ParquetFormat::new())`.
//!
//! It is *not* a columnar execution path: records are rows of a Rust type, or whole batches ([`ParquetFormat::arrow`]).
//!
//! Reading order: `format` (what users see), `schema` (columns of a type), `file` (bytes of a file), `decoder`,
//! `batches` (files to Arrow batches), `encoder`.

#![deny(missing_docs)]

mod batches;
mod decoder;
mod encoder;
mod file;
mod format;
mod schema;
#[cfg(test)]
mod tests;

pub use batches::ParquetArrowFormat;
pub use format::{ParquetCompression, ParquetFormat};
