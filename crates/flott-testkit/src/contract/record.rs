//! What the kits know of a record.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A record, as the kits see it: the `number`-th of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// Within a partition records have an order.
    pub partition: u32,
    /// Counted from 0.
    pub number: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.number)
    }
}

/// A few of them, for messages.
pub(super) fn list(records: impl IntoIterator<Item = RecordId>) -> String {
    const SHOWN_MAX: usize = 12;
    let mut texts: Vec<String> = records.into_iter().map(|record| record.to_string()).collect();
    let n_hidden = texts.len().saturating_sub(SHOWN_MAX);
    texts.truncate(SHOWN_MAX);
    let more = if n_hidden > 0 { format!(" and {n_hidden} more") } else { String::new() };
    format!("{}{more}", texts.join(" "))
}
