//! The vocabulary of Flott: what every crate above speaks.
//!
//! Time ([`Timestamp`], [`Watermark`]), what travels through an exchange ([`StreamElement`],
//! [`RecordBatch`]), how keys map to subtasks ([`key_hash`], [`KeyGroup`]), ids, errors and the
//! configuration keys. It is *not* the place for behaviour: no IO, no async runtime, no operators.
//!
//! Invariants: the key hash and the mapping from hash to key group to subtask are part of the
//! snapshot format and never change silently ([`KEY_HASH_VERSION`]).
//!
//! Reading order: `time`, `element`, `key`, `id`, `error`, `config`, `checkpoint`.

#![deny(missing_docs)]

mod checkpoint;
mod config;
mod element;
mod error;
mod id;
mod key;
mod row_kind;
mod stable;
mod time;
mod timestamp_text;

pub use checkpoint::{
    CheckpointStorageType, CheckpointingMode, ExternalizedCheckpointRetention, FailoverStrategy, FileHandle,
    RecoveryClaimMode, RestartStrategyType, SourceBoundedMode, SourceStartupMode, StateBackendType,
};
pub use config::{ConfigOption, ConfigValue, Configuration, MemorySize, options};
pub use element::{
    CheckpointBarrier, CheckpointKind, Increment, RecordBatch, RecordBatchIter, StreamElement, StreamStatus,
};
pub use error::{Error, ErrorKind, Result};
pub use id::{CheckpointId, JobId, NodeId, OperatorUid, SplitId, SubtaskIndex, TagId};
pub use key::{
    DEFAULT_MAX_PARALLELISM, KEY_HASH_VERSION, KeyGroup, KeyGroupRange, MAX_MAX_PARALLELISM, key_group,
    key_group_range, key_hash, subtask_for_key_group,
};
pub use row_kind::{RowChange, RowKind};
pub use stable::{StableBuildHasher, StableHasher, approximate_size};
pub use time::{NO_TIMESTAMP, Timestamp, Watermark, duration_ms};
pub use timestamp_text::TimestampText;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a record must be to travel through a dataflow.
///
/// Records are moved, not shared, between operators of one process; `Clone` is used only where a
/// stream fans out. `Serialize` lets the engine hash keys, measure batches for flow control, write
/// state into snapshots and, across processes, ship records.
pub trait Data: Clone + Send + Serialize + DeserializeOwned + 'static {}
impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Data for T {}

/// What a key must be: data with equality and a hash.
///
/// The engine never uses the `Hash` implementation to place a key: see [`key_hash`].
pub trait Key: Data + Eq + std::hash::Hash {}
impl<K: Data + Eq + std::hash::Hash> Key for K {}
