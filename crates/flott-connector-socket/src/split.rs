//! The split: the connection.

use flott_api::SourceSplit;
use flott_types::SplitId;
use serde::{Deserialize, Serialize};

/// The connection, after a number of lines. After a restart it goes on with whatever comes then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketSplit {
    pub(crate) address: String,
    pub(crate) n_lines: u64,
}

impl SourceSplit for SocketSplit {
    fn split_id(&self) -> SplitId {
        SplitId(self.address.clone())
    }
}
