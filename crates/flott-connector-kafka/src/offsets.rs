//! Where a partition is read from, and until where.

use crate::client::{Client, OffsetPosition};
use flott_types::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The number of the partition.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of `topic`.
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What stands in for a committed offset that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetResetStrategy {
    /// The first record.
    Earliest,
    /// Behind the last record.
    Latest,
    /// Nothing: the job fails.
    None,
}

/// How offsets are found when a job starts: Flink's `OffsetsInitializer`, the modes of `scan.startup.mode` and `scan.bounded.mode`.
///
/// They are found once, when the job starts from nothing, and are in a checkpoint before anything is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetsInitializer(Mode);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    At(OffsetPosition),
    Committed(OffsetResetStrategy),
    Specific(BTreeMap<TopicPartition, i64>, OffsetResetStrategy),
}

impl OffsetsInitializer {
    /// The first record that there is: `earliest-offset`.
    pub fn earliest() -> Self {
        Self(Mode::At(OffsetPosition::Earliest))
    }

    /// Behind the last record: `latest-offset`. Under `read_committed` that is before the first open transaction.
    pub fn latest() -> Self {
        Self(Mode::At(OffsetPosition::Latest))
    }

    /// The first record whose timestamp is not less than `timestamp_ms`, milliseconds since the epoch: `timestamp`. Behind the last record if there
    /// is none.
    pub fn timestamp(timestamp_ms: i64) -> Self {
        Self(Mode::At(OffsetPosition::Timestamp(timestamp_ms)))
    }

    /// What the consumer group has committed: `group-offsets`; `otherwise` for partitions without.
    pub fn committed_offsets(otherwise: OffsetResetStrategy) -> Self {
        Self(Mode::Committed(otherwise))
    }

    /// These offsets: `specific-offsets`. Partitions that are not named are read from their first record, as in Flink.
    pub fn offsets(offsets: impl IntoIterator<Item = (TopicPartition, i64)>) -> Self {
        Self(Mode::Specific(offsets.into_iter().collect(), OffsetResetStrategy::Earliest))
    }

    /// Whether the user has named a time of the broker.
    pub(crate) fn is_timestamp(&self) -> bool {
        matches!(self.0, Mode::At(OffsetPosition::Timestamp(_)))
    }

    /// Finds the offsets: one for each partition.
    pub(crate) fn resolve(
        &self,
        client: &dyn Client,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        match &self.0 {
            Mode::At(position) => client.offsets(partitions, *position),
            Mode::Committed(otherwise) => {
                let committed = client.committed_offsets(partitions)?;
                fill(client, committed, partitions, *otherwise)
            }
            Mode::Specific(offsets, otherwise) => {
                let known = |partition: &&TopicPartition| offsets.contains_key(*partition);
                let found = partitions.iter().filter(known).map(|it| (it.clone(), offsets[it]));
                fill(client, found.collect(), partitions, *otherwise)
            }
        }
    }
}

/// Adds what is missing.
fn fill(
    client: &dyn Client,
    mut found: BTreeMap<TopicPartition, i64>,
    partitions: &[TopicPartition],
    otherwise: OffsetResetStrategy,
) -> Result<BTreeMap<TopicPartition, i64>> {
    let missing: Vec<_> =
        partitions.iter().filter(|partition| !found.contains_key(*partition)).cloned().collect();
    let Some(first) = missing.first() else { return Ok(found) };
    let position = match otherwise {
        OffsetResetStrategy::Earliest => OffsetPosition::Earliest,
        OffsetResetStrategy::Latest => OffsetPosition::Latest,
        OffsetResetStrategy::None => {
            return Err(Error::user(format!(
                "there is no offset for partition {first} (and {} others): start at earliest() or latest(), or say what stands in for a missing one",
                missing.len() - 1
            )));
        }
    };
    found.extend(client.offsets(&missing, position)?);
    Ok(found)
}
