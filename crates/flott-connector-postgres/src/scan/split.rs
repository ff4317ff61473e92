//! A part of a table.

use flott_api::SourceSplit;
use flott_types::SplitId;
use serde::{Deserialize, Serialize};

/// The rows of a table whose partition column is in a range, from a position on. Part of the snapshot format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresSplit {
    pub(crate) idx: u32,
    /// The column by which the table is divided and ordered, and its type.
    pub(crate) column: String,
    pub(crate) type_name: String,
    /// Rows from here on belong to it.
    pub(crate) from: Option<String>,
    /// Rows behind belong to it: the end of the split before, or the last value that was read.
    pub(crate) after: Option<String>,
    /// Rows up to here belong to it.
    pub(crate) upto: Option<String>,
}

impl SourceSplit for PostgresSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("rows-{}", self.idx))
    }
}
