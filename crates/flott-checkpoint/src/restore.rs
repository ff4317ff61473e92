//! From a complete checkpoint or savepoint to the state of new subtasks.
//!
//! Everything is checked before anything is handed out: a job either starts with all of its state or not at all. What is large is read again
//! by the subtasks, key group by key group.

mod open;
mod report;

pub(crate) use open::directory_of;
pub use open::{OpenSnapshot, open_snapshot};
pub use report::{ChangedState, DroppedState, RestoreReport};

use crate::manifest::{Manifest, OperatorManifest};
use crate::plan::{CheckpointPlan, PlannedOperator};
use flott_env::canary;
use flott_state::{IN_FLIGHT, OperatorSnapshot, STATE_SCHEMAS, assign_in_flight};
use flott_types::{CheckpointId, Error, ErrorKind, KEY_HASH_VERSION, OperatorUid, Result, SubtaskIndex};
use std::collections::BTreeMap;

/// What a restore may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// State that no operator of the job claims is left behind; otherwise it refuses.
    /// (`execution.state-recovery.ignore-unclaimed-state`, `--allow-non-restored-state`)
    pub allow_non_restored_state: bool,
}

/// The state of a checkpoint, matched to the operators of a job; in memory, but for keyed state of large parts.
#[derive(Debug)]
pub struct RestoredState {
    manifest: Manifest,
    operators: BTreeMap<OperatorUid, OperatorState>,
    report: RestoreReport,
}

/// The state of one operator that the job has, too.
#[derive(Debug)]
struct OperatorState {
    parts: Vec<OperatorSnapshot>,
    finished: Vec<bool>,
    parallelism: u32,
    max_parallelism: u32,
}

/// What one subtask of an operator begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredSubtask {
    /// Its state.
    pub snapshot: OperatorSnapshot,
    /// Whether it had processed all its input, end of data included: it must not run the end of its input again.
    pub finished: bool,
}

impl RestoredState {
    /// Checks every file of `snapshot`, reads what is small, and matches operators by uid with those of `plan`.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] that names the file and what is wrong with it (missing, of another length, of another checksum, not decodable).
    /// [`ErrorKind::UserError`] if the snapshot does not fit the job, with all that does not: state that no operator claims; types of
    /// state that have changed in a way that would lose something; another number of key groups; another key hash; a parallelism that finished subtasks do not allow. [`ErrorKind::Retry`] if the store does not answer.
    pub fn open(snapshot: &OpenSnapshot, plan: &CheckpointPlan, options: RestoreOptions) -> Result<Self> {
        let manifest = snapshot.manifest().clone();
        if manifest.key_hash_version != KEY_HASH_VERSION {
            return Err(Error::user(format!(
                "snapshot '{}' uses version {} of the key hash, this build version {KEY_HASH_VERSION}",
                snapshot.path(),
                manifest.key_hash_version
            )));
        }
        let mut parts = read_parts(snapshot)?;
        let planned: BTreeMap<_, _> =
            plan.operators.iter().map(|operator| (&operator.uid, operator)).collect();
        let mut report = RestoreReport::new(snapshot.path(), plan, &manifest);
        let mut operators = BTreeMap::new();
        for operator in &manifest.operators {
            let parts = parts.remove(&operator.uid).unwrap_or_default();
            match planned.get(&operator.uid) {
                Some(planned) => {
                    report.compare(operator, planned, &parts)?;
                    match OperatorState::new(operator, parts, planned) {
                        Ok(state) => drop(operators.insert(operator.uid.clone(), state)),
                        Err(refused) => report.refused.push(refused),
                    }
                }
                None if operator.enumerator.is_some() || parts.iter().any(has_state) => {
                    report.drop_state(operator, &parts);
                }
                // Nothing is lost with an operator without state.
                None => {}
            }
        }
        if !report.refused.is_empty() || !report.dropped.is_empty() && !options.allow_non_restored_state {
            return Err(report.refusal(options));
        }
        Ok(Self { manifest, operators, report })
    }

    /// The checkpoint that the state is from.
    pub fn checkpoint_id(&self) -> CheckpointId {
        self.manifest.checkpoint_id
    }

    /// Whether all input had been processed: nothing is left to do but to commit.
    pub fn is_final(&self) -> bool {
        self.manifest.is_final
    }

    /// What of the snapshot is used and what is not.
    pub fn report(&self) -> &RestoreReport {
        &self.report
    }

    /// What the split enumerator of a source remembered.
    pub fn enumerator(&self, uid: &OperatorUid) -> Option<&[u8]> {
        let operator = self.manifest.operators.iter().find(|operator| operator.uid == *uid);
        operator.and_then(|operator| operator.enumerator.as_deref())
    }

    /// What the subtasks of an operator of the job have left, by index, as it was written; `None` if the snapshot does not know the operator.
    pub fn parts(&self, uid: &OperatorUid) -> Option<&[OperatorSnapshot]> {
        self.operators.get(uid).map(|state| state.parts.as_slice())
    }

    /// What `subtask` of an operator of the job begins with; `None` if the snapshot does not know the operator.
    ///
    /// At the parallelism of the snapshot each subtask gets what it had; otherwise keyed state moves by key group, and entries of list state
    /// are dealt out anew.
    ///
    /// # Errors
    /// As [`OperatorSnapshot::reassign`].
    pub fn subtask(&self, uid: &OperatorUid, subtask: SubtaskIndex) -> Result<Option<RestoredSubtask>> {
        let Some(state) = self.operators.get(uid) else { return Ok(None) };
        let during = || format!("cannot divide the state of operator '{uid}'");
        let divided_by = state.parallelism + u32::from(canary("wrong-key-group-ranges"));
        let mut snapshot = OperatorSnapshot::reassign(&state.parts, subtask, divided_by)
            .map_err(|error| error.context(during()))?;
        if canary("forget-timers") {
            snapshot.keyed.retain(|name, _| !name.contains("timer"));
        }
        let is_rescaled = state.parts.len() != state.parallelism as usize;
        if !is_rescaled && let Some(own) = state.parts.get(subtask.as_usize()) {
            // Dealing them out again would give splits to a subtask that has finished.
            snapshot = snapshot.with_lists_of(own);
        } else {
            let in_flight = Self::in_flight(state, subtask).map_err(|error| error.context(during()))?;
            if !in_flight.is_empty() {
                snapshot.list.insert(IN_FLIGHT.to_owned(), in_flight);
            }
        }
        if snapshot.max_parallelism != 0 {
            // Equal if there is keyed state; where there is none the job's counts.
            snapshot.max_parallelism = state.max_parallelism;
        }
        let finished = if is_rescaled {
            state.finished.iter().all(|finished| *finished)
        } else {
            state.finished.get(subtask.as_usize()).copied().unwrap_or_default()
        };
        Ok(Some(RestoredSubtask { snapshot, finished }))
    }
}

impl RestoredState {
    /// What may be in flight to `subtask` at another parallelism.
    fn in_flight(state: &OperatorState, subtask: SubtaskIndex) -> Result<Vec<Vec<u8>>> {
        let parts = state.parts.iter().filter_map(|part| part.list.get(IN_FLIGHT)).map(Vec::as_slice);
        assign_in_flight(parts, subtask, state.parallelism, state.max_parallelism)
    }
}

impl OperatorState {
    fn new(
        operator: &OperatorManifest,
        parts: Vec<OperatorSnapshot>,
        planned: &PlannedOperator,
    ) -> Result<Self, String> {
        let groups = parts.iter().filter(|part| has_keyed_state(part)).map(|part| part.max_parallelism).max();
        let max_parallelism = planned.max_parallelism;
        if let Some(groups) = groups.filter(|groups| *groups != max_parallelism) {
            return Err(format!(
                "operator '{}' (uid '{}') has keyed state in {groups} key groups and the job has {max_parallelism}: \
                 set the max parallelism of the operator, or 'pipeline.max-parallelism', to {groups}",
                operator.name, operator.uid
            ));
        }
        let finished: Vec<_> = operator.subtasks.iter().map(|subtask| subtask.finished).collect();
        let n_finished = finished.iter().filter(|finished| **finished).count();
        let is_rescaled = operator.parallelism != planned.parallelism;
        // Its windows have fired and its end of input has run; the subtask that took over its key groups would do so again.
        let mut finished_parts = parts.iter().zip(&finished).filter(|(_, finished)| **finished);
        if is_rescaled && n_finished < finished.len() && finished_parts.any(|(part, _)| has_keyed_state(part))
        {
            return Err(format!(
                "operator '{}' (uid '{}') has keyed state, and {n_finished} of its {} subtasks have finished: it can only be \
                 restored at parallelism {}",
                operator.name,
                operator.uid,
                finished.len(),
                operator.parallelism
            ));
        }
        Ok(Self { parts, finished, parallelism: planned.parallelism, max_parallelism })
    }
}

/// The parts of each operator, by subtask; an operator of a subtask that had finished has an empty one.
fn read_parts(snapshot: &OpenSnapshot) -> Result<BTreeMap<OperatorUid, Vec<OperatorSnapshot>>> {
    let mut files = BTreeMap::new();
    for (handle, bases) in snapshot.manifest().parts() {
        files.insert(handle.path.clone(), snapshot.part(handle, bases)?);
    }
    let mut parts = BTreeMap::new();
    for operator in &snapshot.manifest().operators {
        let of_operator: &mut Vec<_> = parts.entry(operator.uid.clone()).or_default();
        for subtask in &operator.subtasks {
            let Some(handle) = &subtask.part else {
                of_operator.push(OperatorSnapshot::default());
                continue;
            };
            let found = files.get_mut(&handle.path).and_then(|file| file.remove(&operator.uid));
            of_operator.push(found.ok_or_else(|| {
                let message = format!("file '{}' has no state of operator '{}'", handle.path, operator.uid);
                Error::new(ErrorKind::Corruption, message)
            })?);
        }
    }
    let left = files.iter().find_map(|(path, file)| Some((path, file.keys().next()?)));
    if let Some((path, uid)) = left {
        let message =
            format!("file '{path}' has state of operator '{uid}', which the manifest does not know");
        return Err(Error::new(ErrorKind::Corruption, message));
    }
    Ok(parts)
}

fn has_keyed_state(snapshot: &OperatorSnapshot) -> bool {
    snapshot.keyed.values().any(|groups| !groups.is_empty())
}

fn has_state(snapshot: &OperatorSnapshot) -> bool {
    // With the schemas of states nothing is lost if the states are empty.
    let unions = snapshot.union.iter().filter(|(name, _)| *name != STATE_SCHEMAS).map(|(_, entries)| entries);
    has_keyed_state(snapshot)
        || snapshot.list.values().chain(unions).any(|entries| !entries.is_empty())
        || !snapshot.broadcast.is_empty()
}

#[cfg(test)]
mod tests;
