//! The split: the log.

use flott_api::SourceSplit;
use flott_types::SplitId;
use serde::{Deserialize, Serialize};

/// The log, from a record on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpSplit {
    pub(crate) directory: String,
    /// The number of the next record, counted from the log's beginning; `None` before a reader had it: the oldest that there is.
    pub(crate) position: Option<u64>,
}

impl SourceSplit for HttpSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("http:{}", self.directory))
    }
}
