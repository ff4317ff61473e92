//! Where snapshots go.

use crate::snapshot::{OperatorSnapshot, SectionKind};
use flott_types::{FileHandle, KeyGroup, OperatorUid, Result};

/// Writes what the operators of one subtask leave for a checkpoint, piece by piece.
///
/// For each operator: any number of states, each with [`state`](Self::state) and then its sections; then
/// [`operator`](Self::operator). At last [`finish`](Self::finish). Of a writer that is dropped before, or has failed, nothing is left. All
/// calls may block.
pub trait SnapshotWriter: Send {
    /// The sections that follow are of this keyed state of the operator that will be named; with `continues` they are changes of what the
    /// checkpoint before has of it.
    ///
    /// # Errors
    /// If the operator has had the state already.
    fn state(&mut self, name: &str, continues: bool) -> Result<()>;

    /// A section of a key group; of key groups in any order.
    ///
    /// # Errors
    /// If it cannot be written.
    fn section(&mut self, group: KeyGroup, kind: SectionKind, bytes: &[u8]) -> Result<()>;

    /// Whose the states are, and what else it leaves, with keyed states that are there as a whole.
    ///
    /// # Errors
    /// If it cannot be written, or a keyed state cannot be read.
    fn operator(&mut self, uid: &OperatorUid, snapshot: &OperatorSnapshot) -> Result<()>;

    /// Makes everything durable.
    ///
    /// # Errors
    /// If that fails, or it is not known whether it did.
    fn finish(self: Box<Self>) -> Result<FileHandle>;
}
