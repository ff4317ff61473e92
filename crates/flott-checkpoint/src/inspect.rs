//! Looking at snapshots from outside of a job: what is in one, whether it is whole, what two differ in, which there are, and getting
//! rid of one. For tools; a job that runs uses none of it.
//!
//! * `describe`: operators, states, sizes. `kind`: what a state is, by its name and first byte.
//! * `verify`: every byte that can be compared with something is compared.
//! * `compare`: two descriptions side by side.
//! * `list`: the snapshots below a directory, complete or not.
//! * `dispose`: deletes exactly the files of one snapshot.
//!
//! Files are read one at a time, and keyed state section by section: a tool needs little memory. Nothing here takes ownership of a
//! job, so what is seen of a job that runs may be gone a moment later.

mod compare;
mod describe;
mod dispose;
mod kind;
mod list;
#[cfg(test)]
mod tests;
mod verify;

pub use compare::{
    Change, ListChange, OperatorDifference, SnapshotDifference, StateDifference, compare_snapshots,
};
pub use describe::{
    OperatorDescription, SnapshotDescription, StateDescription, SubtaskDescription, describe_snapshot,
};
pub(crate) use dispose::is_part;
pub use dispose::{Disposal, Refusal, plan_disposal};
pub use flott_state::{GroupBytes, STATE_SCHEMAS, SectionKind};
pub use kind::{Scope, StateKind};
pub use list::{Completeness, ListedSnapshot, list_snapshots};
pub use verify::{FileCheck, Verification, verify_snapshot};

use crate::restore::OpenSnapshot;
use flott_state::OperatorSnapshot;
use flott_types::{CheckpointKind, FileHandle, OperatorUid, Result, SubtaskIndex};
use std::collections::BTreeMap;

/// The name under which sources record their splits as JSON, for people and for other jobs: a list state from which nothing is restored.
pub const SOURCE_POSITIONS: &str = "_positions";

/// The list state with the splits of readers, each as bytes with its watermark; the type that is recorded is that of the bytes.
pub const SOURCE_SPLITS: &str = "_splits";

/// A snapshot's kind in the words of the command line.
pub(crate) const fn kind_name(kind: CheckpointKind) -> &'static str {
    match kind {
        CheckpointKind::Checkpoint => "checkpoint",
        CheckpointKind::Savepoint => "savepoint",
        CheckpointKind::SavepointSuspend => "savepoint (stop)",
        CheckpointKind::SavepointTerminate => "savepoint (stop with drain)",
    }
}

/// The operator subtasks whose snapshots are in a file, by the path of the file.
type Owners<'a> = BTreeMap<&'a str, BTreeMap<&'a OperatorUid, SubtaskIndex>>;

fn owners(snapshot: &OpenSnapshot) -> Owners<'_> {
    let mut owners = Owners::new();
    for operator in &snapshot.manifest().operators {
        for (idx, subtask) in (0..).zip(&operator.subtasks) {
            if let Some(part) = &subtask.part {
                owners.entry(&part.path).or_default().insert(&operator.uid, SubtaskIndex(idx));
            }
        }
    }
    owners
}

/// Reads the file of one subtask after the other, with those that it goes on from, compared with the manifest and decoded.
fn for_each_part(
    snapshot: &OpenSnapshot,
    mut each: impl FnMut(&FileHandle, BTreeMap<OperatorUid, OperatorSnapshot>) -> Result<()>,
) -> Result<()> {
    let mut parts = snapshot.manifest().parts().into_iter();
    parts.try_for_each(|(handle, bases)| each(handle, snapshot.part(handle, bases)?))
}

/// Calls `each` with what every subtask of every operator has in the snapshot, and reads each file once.
///
/// # Errors
/// As [`OpenSnapshot::verify`], or what `each` returns.
pub fn visit_operators(
    snapshot: &OpenSnapshot,
    mut each: impl FnMut(&OperatorUid, SubtaskIndex, OperatorSnapshot) -> Result<()>,
) -> Result<()> {
    let owners = owners(snapshot);
    for_each_part(snapshot, |handle, parts| {
        let subtasks = owners.get(handle.path.as_str());
        parts.into_iter().try_for_each(|(uid, part)| match subtasks.and_then(|subtasks| subtasks.get(&uid)) {
            Some(subtask) => each(&uid, *subtask, part),
            // What no operator of the manifest claims is for `verify_snapshot` to complain about.
            None => Ok(()),
        })
    })
}

/// Calls `each` with what every subtask of one operator has in the snapshot; those without a file are left out.
///
/// # Errors
/// As [`OpenSnapshot::verify`], or what `each` returns.
pub fn visit_operator(
    snapshot: &OpenSnapshot,
    uid: &str,
    mut each: impl FnMut(SubtaskIndex, OperatorSnapshot) -> Result<()>,
) -> Result<()> {
    let uid = OperatorUid(uid.to_owned());
    let operator = snapshot.manifest().operators.iter().find(|operator| operator.uid == uid);
    let subtasks = operator.into_iter().flat_map(|operator| (0..).zip(&operator.subtasks));
    for (idx, subtask) in subtasks {
        let Some(handle) = &subtask.part else { continue };
        if let Some(found) = snapshot.part(handle, &subtask.bases)?.remove(&uid) {
            each(SubtaskIndex(idx), found)?;
        }
    }
    Ok(())
}
