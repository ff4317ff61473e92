//! A split: a file, or a range of a big one.

use flott_api::SourceSplit;
use flott_api::format::{ByteRange, ReadPosition};
use flott_types::SplitId;
use serde::{Deserialize, Serialize};

/// A file or a range of it, with the position of the next record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSplit {
    path: String,
    range: ByteRange,
    /// `None` until a reader has opened it.
    position: Option<ReadPosition>,
}

impl FileSplit {
    pub(crate) fn new(path: String, range: ByteRange) -> Self {
        Self { path, range, position: None }
    }

    pub(crate) fn at(self, position: ReadPosition) -> Self {
        Self { position: Some(position), ..self }
    }

    /// The file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The part of it.
    pub fn range(&self) -> ByteRange {
        self.range
    }

    /// Where reading goes on; `None` if it has not begun.
    pub fn position(&self) -> Option<ReadPosition> {
        self.position
    }
}

impl SourceSplit for FileSplit {
    fn split_id(&self) -> SplitId {
        SplitId(match self.range {
            ByteRange { start: 0, end: None } => self.path.clone(),
            ByteRange { start, end: Some(end) } => format!("{}[{start}..{end}]", self.path),
            ByteRange { start, end: None } => format!("{}[{start}..]", self.path),
        })
    }
}
