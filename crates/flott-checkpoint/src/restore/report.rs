//! What of a snapshot a job uses, and what it does not.

use crate::manifest::{Manifest, OperatorManifest};
use crate::part;
use crate::plan::{CheckpointPlan, PlannedOperator};
use crate::restore::RestoreOptions;
use flott_state::{OperatorSnapshot, STATE_SCHEMAS, StateFit};
use flott_types::{Error, OperatorUid, Result};
use std::collections::BTreeSet;
use std::fmt;

/// What becomes of each operator, and of what is in the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Which snapshot.
    pub path: String,
    /// Operators that go on with their state.
    pub reused: Vec<OperatorUid>,
    /// Operators of the job that the snapshot does not know: they begin empty.
    pub added: Vec<OperatorUid>,
    /// States, and records in flight, whose type has changed, and which are read as the new one.
    pub migrated: Vec<ChangedState>,
    /// State that no operator of the job claims.
    pub dropped: Vec<DroppedState>,
    /// States whose type has changed in a way that would lose something, and everything else that keeps an operator from going on: the
    /// restore refuses.
    pub refused: Vec<String>,
}

/// A state that is read as another type than the one as which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedState {
    /// Whose it is.
    pub uid: OperatorUid,
    /// What people call it.
    pub operator: String,
    /// Its name.
    pub state: String,
    /// What has changed, field by field.
    pub changes: Vec<String>,
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

impl fmt::Display for ChangedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, operator, state, changes } = self;
        write!(f, "operator '{operator}' (uid '{uid}'), state '{state}': {}", changes.join(", "))
    }
}

impl fmt::Display for DroppedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, name, states, len } = self;
        write!(f, "operator '{name}' (uid '{uid}'): {} ({len} bytes)", states.join(", "))
    }
}

impl fmt::Display for RestoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, reused, added, .. } = self;
        write!(f, "snapshot '{path}': {} operators reused, {} added", reused.len(), added.len())?;
        self.lines().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Bytes of the states of these names.
fn len_of(part: &OperatorSnapshot, names: &BTreeSet<String>) -> u64 {
    let OperatorSnapshot { keyed, list, union, broadcast, .. } = part;
    let groups = keyed.iter().filter(|(name, _)| names.contains(*name)).flat_map(|(_, groups)| groups);
    let lists = list.iter().chain(union).filter(|(name, _)| names.contains(*name));
    let entries = lists.flat_map(|(_, entries)| entries);
    let broadcast = broadcast.iter().filter(|(name, _)| names.contains(*name)).map(|(_, entry)| entry);
    let entries = entries.chain(broadcast).map(|entry| entry.len() as u64);
    groups.map(|(_, bytes)| bytes.n_bytes()).chain(entries).sum()
}

impl RestoreReport {
    pub(super) fn new(path: String, plan: &CheckpointPlan, manifest: &Manifest) -> Self {
        let known: BTreeSet<_> = manifest.operators.iter().map(|operator| &operator.uid).collect();
        let uids = plan.operators.iter().map(|operator| operator.uid.clone());
        let (reused, added) = uids.partition(|uid| known.contains(uid));
        Self { path, reused, added, ..Self::default() }
    }

    /// Everything but what goes on as it was; the reasons to refuse first.
    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let refused = self.refused.iter().map(|refused| format!("refused: {refused}"));
        let migrated = self.migrated.iter().map(|migrated| format!("migrated: {migrated}"));
        let dropped = self.dropped.iter().map(|dropped| format!("dropped: {dropped}"));
        refused.chain(dropped).chain(migrated)
    }

    /// Notes how the types of an operator's states fit those of the program.
    pub(super) fn compare(
        &mut self,
        operator: &OperatorManifest,
        planned: &PlannedOperator,
        parts: &[OperatorSnapshot],
    ) -> Result<()> {
        let Some(types) = &planned.states else { return Ok(()) };
        let StateFit { migrated, refused, unclaimed } = types.compare(parts)?;
        let OperatorManifest { uid, name, .. } = operator;
        self.migrated.extend(migrated.into_iter().map(|(state, changes)| ChangedState {
            uid: uid.clone(),
            operator: name.clone(),
            state,
            changes: changes.into_iter().collect(),
        }));
        let refused = refused.into_iter().map(|reason| format!("operator '{name}' (uid '{uid}'): {reason}"));
        self.refused.extend(refused);
        if !unclaimed.is_empty() {
            let len = parts.iter().map(|part| len_of(part, &unclaimed)).sum();
            let (uid, name, states) = (uid.clone(), name.clone(), unclaimed.into_iter().collect());
            self.dropped.push(DroppedState { uid, name, states, len });
        }
        Ok(())
    }

    pub(super) fn drop_state(&mut self, operator: &OperatorManifest, parts: &[OperatorSnapshot]) {
        let names = |part: &OperatorSnapshot| {
            let lists = part.list.keys().chain(part.union.keys());
            let lists = lists.filter(|name| *name != STATE_SCHEMAS);
            lists.chain(part.keyed.keys()).chain(part.broadcast.keys()).cloned().collect::<Vec<_>>()
        };
        let mut states: BTreeSet<_> = parts.iter().flat_map(names).collect();
        if operator.enumerator.is_some() {
            states.insert("split enumerator".to_owned());
        }
        let enumerator_len = operator.enumerator.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let len = enumerator_len + parts.iter().map(part::state_len).sum::<u64>();
        self.dropped.push(DroppedState {
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            states: states.into_iter().collect(),
            len,
        });
    }

    /// Why the restore does not go on: everything that keeps it from that, and what would become of the rest.
    pub(super) fn refusal(&self, options: RestoreOptions) -> Error {
        let Self { path, reused, added, .. } = self;
        let lines = self.lines().map(|line| format!("\n  {line}"));
        let listed = |what: &str, uids: &[OperatorUid]| match uids {
            [] => String::new(),
            uids => format!(
                "\n  {what}: {}",
                uids.iter().map(|uid| format!("'{uid}'")).collect::<Vec<_>>().join(", ")
            ),
        };
        let remedy = match self.dropped.as_slice() {
            [] => "",
            _ if options.allow_non_restored_state => "",
            _ => {
                "\ngive the operators of dropped state their uids back, or allow non-restored state \
                 ('execution.state-recovery.ignore-unclaimed-state') to leave it behind"
            }
        };
        Error::user(format!(
            "snapshot '{path}' does not fit the job:{}{}{}{remedy}",
            lines.collect::<String>(),
            listed("reused", reused),
            listed("rebuilt (begins empty)", added)
        ))
    }
}
