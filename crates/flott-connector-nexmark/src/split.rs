//! Splits: every so many-th record.

use crate::config::EVENTS_MAX;
use flott_api::SourceSplit;
use flott_types::{Error, ErrorKind, Result, SplitId};
use serde::{Deserialize, Serialize};

/// The records at the positions `idx`, `idx + stride`, `idx + 2 stride`, …; read on from `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NexmarkSplit {
    pub(crate) idx: u32,
    pub(crate) stride: u32,
    pub(crate) next: u64,
}

impl NexmarkSplit {
    /// The split `idx` of `stride`, from its start.
    pub(crate) const fn new(idx: u32, stride: u32) -> Self {
        Self { idx, stride, next: idx as u64 }
    }

    /// The split `idx` of `stride`, from the position `from` on.
    pub(crate) fn starting_at(idx: u32, stride: u32, from: u64) -> Self {
        let rounds = from.saturating_sub(idx.into()).div_ceil(stride.into());
        Self { idx, stride, next: u64::from(idx) + rounds * u64::from(stride) }
    }

    /// The position of the next record in the [`crate::Sequence`].
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Checks what came from a snapshot.
    pub(crate) fn checked(self) -> Result<Self> {
        let Self { idx, stride, next } = self;
        let is_in_range = idx < stride && next <= EVENTS_MAX + u64::from(stride);
        if is_in_range && next.checked_rem(stride.into()) == Some(idx.into()) {
            return Ok(self);
        }
        let message = format!("nexmark split {idx} of {stride} cannot be at position {next}");
        Err(Error::new(ErrorKind::Corruption, message))
    }
}

impl SourceSplit for NexmarkSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("nexmark-{}-of-{}", self.idx, self.stride))
    }
}
