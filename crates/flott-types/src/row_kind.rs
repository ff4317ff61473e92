//! What a record says of a table that changes.

use serde::{Deserialize, Serialize};

/// What a record of a changelog does to a row: the four kinds of Flink's `RowKind`, with its short names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RowKind {
    /// `+I`: the row is new.
    #[default]
    Insert,
    /// `-U`: the row as it was before an update, of which the other half follows.
    UpdateBefore,
    /// `+U`: the row as it is after an update.
    UpdateAfter,
    /// `-D`: the row is gone; it is as it was last.
    Delete,
}

impl RowKind {
    /// The two letters that Flink prints before a row.
    pub const fn short_string(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }

    /// Whether the row is there behind it.
    pub const fn is_addition(self) -> bool {
        matches!(self, Self::Insert | Self::UpdateAfter)
    }
}

/// A record of a changelog: a row, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowChange<T> {
    /// What becomes of it.
    pub kind: RowKind,
    /// The row.
    pub row: T,
}
