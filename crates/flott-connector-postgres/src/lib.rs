//! PostgreSQL databases: sinks, bounded reads, lookups, and change data capture.
//!
//! [`PostgresSink`] writes each record as a row, in one of three ways that the user chooses:
//!
//! * **transactional** (the default): a subtask writes in one transaction from barrier to barrier, prepares it at the barrier, and commits it when
//!   the checkpoint is complete. In the transaction is a row of `flott_commits`, which tells one that was committed from one that is lost.
//! * **eager with rollback**: rows are in the target at once, marked with job, sink, subtask and checkpoint; a restart deletes those
//!   that are newer than its checkpoint. The view `<table>_committed` has those of complete checkpoints.
//! * **upsert by key**: a row replaces that of the same key, so that writing it again changes nothing.
//!
//! [`PostgresSource`] reads a table once, [`PostgresLookup`] looks up rows for records, and [`PostgresCdcSource`] reads a table and then what becomes of
//! it: `cdc` says how snapshot and log fit.
//!
//! It is *not* simulated: connections are real ones, also in a simulated world. In `tests` the sink has a simulated database, with `peer` as the seam, and
//! the sources have a server in memory that speaks the protocol, with the connection as the seam (`client::Dial`).
//!
//! Invariants: an attempt has claimed its subtask before it writes, and the sessions of those that had it before have ended by then, so that
//! what they were doing is done or undone; a session that broke is ended before another one takes its place; a transaction whose
//! session broke is never begun again, but the job is. What the server keeps for a replication slot it may forget when a complete checkpoint has
//! it, not before.
//!
//! Reading order: `config` (what users see), `value`, `gid`, `peer` (the steps), `writer`, `committer`, `session` and `schema` (the steps as
//! statements); `scan`, `lookup`, `cdc`, with `decode` (rows as records) and `catalog`; `client` (the connection), `options` (where to), `describe` (errors).

#![deny(missing_docs)]

mod catalog;
mod cdc;
mod client;
mod committer;
mod config;
mod decode;
mod describe;
#[doc(hidden)]
pub mod fuzzing;
mod gid;
mod link;
mod lookup;
mod options;
mod peer;
mod scan;
mod schema;
mod session;
#[cfg(test)]
mod tests;
mod value;
mod writer;

pub use cdc::{ChangelogMode, PostgresCdcReader, PostgresCdcSource, PostgresCdcSplit, StartupMode};
pub use config::PostgresSink;
pub use flott_connector_sql::WriteMode;
pub use lookup::{LookupFunction, PostgresLookup};
pub use scan::{PostgresReader, PostgresSource, PostgresSplit};
pub use value::PostgresValue;
pub use writer::PostgresWriter;
