//! A partition with a position.

use crate::offsets::TopicPartition;
use flott_api::SourceSplit;
use flott_types::SplitId;
use serde::{Deserialize, Serialize};

/// A partition, the offset of the next record, and where it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaSplit {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of the next record, or less.
    pub offset: i64,
    /// The first offset that is not read any more.
    pub stopping_offset: Option<i64>,
}

impl KafkaSplit {
    /// Whether nothing is left to read, as far as offsets tell.
    pub(crate) fn is_read(&self) -> bool {
        self.stopping_offset.is_some_and(|stop| self.offset >= stop)
    }
}

impl SourceSplit for KafkaSplit {
    fn split_id(&self) -> SplitId {
        SplitId(self.partition.to_string())
    }
}
