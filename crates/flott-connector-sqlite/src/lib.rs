//! SQLite databases as sinks.
//!
//! [`SqliteSink`] writes each record as a row, in one of three ways that the user chooses:
//!
//! * **transactional** (the default): rows wait in a table of the sink in the same database, and move to the target in one transaction when
//!   their checkpoint is complete, together with a row in `flott_commits` that says so.
//! * **eager with rollback**: rows are in the target at once, marked with job, sink, subtask and checkpoint; a restart deletes those
//!   that are newer than its checkpoint. The view `<table>_committed` has those of complete checkpoints.
//! * **upsert by key**: a row replaces that of the same key, so that writing it again changes nothing.
//!
//! It is *not* simulated: SQLite opens files itself, so databases are real files, also in a simulated world.
//!
//! Invariants: a transaction is never open between two calls of the engine; what is prepared is in the database's log and synced; a
//! writer whose subtask another attempt has taken over writes nothing any more.
//!
//! Reading order: `config` (what users see), `value`, `schema`, `writer`, `committer`; `database` (connections and errors).

#![deny(missing_docs)]

mod committer;
mod config;
mod database;
mod schema;
#[cfg(test)]
mod tests;
mod value;
mod writer;

pub use config::SqliteSink;
pub use flott_connector_sql::WriteMode;
pub use value::SqliteValue;
pub use writer::SqliteWriter;
