//! Files and directories as source and sink.
//!
//! [`FileSource`] reads text lines ([`LinesFormat`]), CSV ([`CsvFormat`]), JSON lines ([`JsonFormat`]) and whatever
//! else implements [`DecodeFormat`](flott_api::format::DecodeFormat), from files that end in `.gz` or `.zst` too, once
//! or watching a directory. [`FileSink`] writes them, in parts that roll by size and time, in a directory per
//! partition.
//!
//! [`FileTailSource`] follows log files that grow and are rotated.
//!
//! It is *not* a file system: all access goes through `files`, which is [`Env::fs`](flott_env::Env::fs) and the object stores of the
//! environment, so the same code runs in memory under simulation.
//!
//! Invariants: a record that is not put out is a bad record or an error, never nothing; positions are exact; no record
//! makes a reader take more memory than a few times `max_record_bytes`.
//!
//! Reading order: `config` and `sink` (what users see); `split`, `enumerator`, `reader`; `format` and `input` (bytes to records);
//! `pending` (what exactly once rests on), `writer`, `part`, `committer`, `compaction`, `directory`, `partition`, `partition_commit`; `tail` by itself.

#![deny(missing_docs)]

mod committer;
mod compaction;
mod compression;
mod config;
mod directory;
mod enumerator;
mod files;
mod format;
mod input;
mod part;
mod partition;
mod partition_commit;
mod pending;
mod reader;
mod sink;
mod split;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use compaction::FileCompactStrategy;
pub use compression::Compression;
pub use config::FileSource;
pub use format::{CsvFormat, JsonFormat, LineParser, LinesFormat, LinesWriter};
pub use partition::PartitionPath;
pub use partition_commit::PartitionCommit;
pub use sink::{FileSink, RollingPolicy};
pub use split::FileSplit;
pub use tail::{FileTailSource, TailReader, TailSplit};
pub use writer::FileWriter;

/// How long a record may be: a longer one is a bad record.
pub const MAX_RECORD_BYTES_DEFAULT: usize = 16 << 20;

/// The size from which on a file is read in ranges.
pub const SPLIT_BYTES_DEFAULT: u64 = 64 << 20;
