//! A split of one of the sources.

use crate::source::{SourceSplit, SplitSpan};
use flott_types::SplitId;
use serde::{Deserialize, Serialize};

/// A split of one of the sources of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HybridSplit {
    /// The source, counted from the first.
    pub(super) source: u32,
    pub(super) span: SplitSpan,
    pub(super) part: SplitPart,
}

/// What the split is in its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SplitPart {
    /// A split to read.
    Split(InnerSplit),
    /// No split: says to a reader that this source is the current one. Never part of a snapshot, since an enumerator says it at its start.
    Current,
}

/// A split of any source: as JSON, so that people can read its position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InnerSplit {
    pub(super) id: SplitId,
    pub(super) json: String,
}

impl SourceSplit for InnerSplit {
    fn split_id(&self) -> SplitId {
        self.id.clone()
    }
}

/// The id in the chain of the split `id` of source number `source`.
pub(super) fn outer_id(source: u32, id: &SplitId) -> SplitId {
    SplitId(format!("{source}/{}", id.0))
}

/// The id in source number `source` of a split of the chain, if it is one of that source.
pub(super) fn inner_id(source: u32, id: &SplitId) -> Option<SplitId> {
    let (number, inner) = id.0.split_once('/')?;
    (number.parse() == Ok(source)).then(|| SplitId(inner.to_owned()))
}

impl SourceSplit for HybridSplit {
    fn split_id(&self) -> SplitId {
        match &self.part {
            SplitPart::Split(InnerSplit { id, .. }) => outer_id(self.source, id),
            SplitPart::Current => SplitId(format!("{} is current", self.source)),
        }
    }

    fn span(&self) -> SplitSpan {
        self.span
    }
}
