//! Change data capture: the rows of a table, then what becomes of them.
//!
//! The log comes through a replication slot, with `pgoutput`. The snapshot is read in chunks, in the order of the primary key, while the log goes on.
//! A chunk is read in one transaction, whose snapshot the server tells: so of each transaction of the log it is known exactly whether the chunk
//! has it. With that, for the frontier up to which keys have been read:
//!
//! * changes of keys behind the frontier are dropped: a later chunk has them. That this is so is checked when it is read;
//! * changes of keys in the last chunk are emitted if the chunk's snapshot does not see their transaction;
//! * changes of keys before are emitted.
//!
//! The next chunk is read when the log has passed the place where it was when the last one was read; from there on nothing is left to decide
//! about that. So nothing is written to the database, no transaction stays open, there is no gap and nothing twice, and a
//! snapshot that was interrupted goes on behind its frontier.

mod config;
mod enumerator;
mod log;
pub(crate) mod pgoutput;
mod reader;
mod snapshot;
mod split;
mod stream;

pub use config::{ChangelogMode, PostgresCdcSource, StartupMode};
pub use reader::PostgresCdcReader;
pub use split::PostgresCdcSplit;

/// What tests of the log need.
#[cfg(test)]
pub(crate) mod simulation {
    pub(crate) use super::log::{Item, Log};
    pub(crate) use super::pgoutput::{LogMessage, Old, RawChange, Relation, Value};
    pub(crate) use super::snapshot::Region;
    pub(crate) use super::split::{Chunk, Frontier, Lsn, PostgresCdcSplit, Progress, Seen};
}
