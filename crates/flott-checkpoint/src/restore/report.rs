//! What of a snapshot a job uses, and what it does not.

use crate::manifest::{Manifest, OperatorManifest};
use crate::part;
use crate::plan::CheckpointPlan;
use flott_state::OperatorSnapshot;
use flott_types::{Error, OperatorUid};
use std::collections::BTreeSet;
use std::fmt;

/// What happened to each operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Which snapshot.
    pub path: String,
    /// Operators that go on with their state.
    pub reused: Vec<OperatorUid>,
    /// Operators of the job that the snapshot does not know: they begin empty.
    pub added: Vec<OperatorUid>,
    /// State that no operator of the job claims.
    pub dropped: Vec<DroppedState>,
}

/// State that is left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedState {
    /// Whose it was.
    pub uid: OperatorUid,
    /// What people called it.
    pub name: String,
    /// Names of the states, sorted.
    pub states: Vec<String>,
    /// Bytes in them.
    pub len: u64,
}

impl fmt::Display for DroppedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, name, states, len } = self;
        write!(f, "operator '{name}' (uid '{uid}'): {} ({len} bytes)", states.join(", "))
    }
}

impl fmt::Display for RestoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, reused, added, dropped } = self;
        write!(f, "snapshot '{path}': {} operators reused, {} added", reused.len(), added.len())?;
        dropped.iter().try_for_each(|dropped| write!(f, "\n  dropped: {dropped}"))
    }
}

impl RestoreReport {
    pub(super) fn new(path: String, plan: &CheckpointPlan, manifest: &Manifest) -> Self {
        let known: BTreeSet<_> = manifest.operators.iter().map(|operator| &operator.uid).collect();
        let uids = plan.operators.iter().map(|operator| operator.uid.clone());
        let (reused, added) = uids.partition(|uid| known.contains(uid));
        Self { path, reused, added, dropped: Vec::new() }
    }

    pub(super) fn drop_state(&mut self, operator: &OperatorManifest, parts: &[OperatorSnapshot]) {
        let names = |part: &OperatorSnapshot| {
            let lists = part.list.keys().chain(part.union.keys());
            lists.chain(part.keyed.keys()).chain(part.broadcast.keys()).cloned().collect::<Vec<_>>()
        };
        let mut states: BTreeSet<_> = parts.iter().flat_map(names).collect();
        if operator.enumerator.is_some() {
            states.insert("split enumerator".to_owned());
        }
        let enumerator_len = operator.enumerator.as_ref().map_or(0, Vec::len);
        let len = enumerator_len + parts.iter().map(part::state_len).sum::<usize>();
        self.dropped.push(DroppedState {
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            states: states.into_iter().collect(),
            len: len as u64,
        });
    }

    /// Why the restore does not go on.
    pub(super) fn refusal(&self) -> Error {
        let lines: String = self.dropped.iter().map(|dropped| format!("\n  {dropped}")).collect();
        Error::user(format!(
            "snapshot '{}' has state that no operator of the job claims:{lines}\ngive the operators their uids back, or \
             allow non-restored state ('execution.state-recovery.ignore-unclaimed-state') to leave it behind",
            self.path
        ))
    }
}
