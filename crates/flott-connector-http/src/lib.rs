//! A source that listens: clients post JSON lines by HTTP, and are answered when their records are in a durable log.
//!
//! [`HttpSource`] is for those who have no broker. The log is its split, a position the number of a record; so what was acknowledged is read
//! exactly once, whatever crashes, as long as the log's directory survives.
//!
//! It is *not* encrypted: put something in front that ends TLS, if others than this machine connect.
//!
//! Invariants: no success is answered before the records are synced; nothing is deleted from the log before a complete checkpoint is past
//! it; one process writes to a log at a time.
//!
//! Reading order: `config` (what users see), `split`, `reader`; `log` (with `log::segment` and `log::reader`) is what nothing is lost in;
//! `keys` (requests that come again), `ingest` (requests to the log), `server` (HTTP).

#![deny(missing_docs)]

mod config;
#[doc(hidden)]
pub mod fuzzing;
mod ingest;
mod keys;
mod log;
mod reader;
mod server;
mod split;
#[cfg(test)]
mod tests;

pub use config::HttpSource;
pub use log::read_log;
pub use reader::HttpReader;
pub use split::HttpSplit;
