//! The state in a checkpoint that belongs to no key: lists, which are divided, and what is broadcast, which is the same everywhere.

use super::expected::Numbered;
use super::held::{LOGGED, RULES};
use super::plan::{Job, Shape};
use super::shapes::{KEYED, LOG};
use flott_checkpoint::{Manifest, RestoredState};
use flott_types::{Result, SubtaskIndex, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// State that belongs to no key.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnkeyedDump {
    /// The entries of all subtasks of the list.
    logged: Vec<Numbered>,
    /// What each subtask has of what is broadcast.
    rules: Vec<BTreeMap<Numbered, Timestamp>>,
    /// Whether a subtask with a list has ended, and its part of it is gone.
    has_ended: bool,
}

impl UnkeyedDump {
    /// Reads it, as the subtasks have left it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn read(manifest: &Manifest, state: &RestoredState) -> Result<Self> {
        let mut dump = Self::default();
        for operator in &manifest.operators {
            let uid = operator.uid.0.as_str();
            if uid != LOG && !KEYED.contains(&uid) {
                continue;
            }
            for subtask in (0..operator.parallelism).map(SubtaskIndex) {
                let Some(restored) = state.subtask(&operator.uid, subtask)? else { continue };
                dump.has_ended |= uid == LOG && restored.finished;
                for entry in restored.snapshot.list.get(LOGGED).into_iter().flatten() {
                    dump.logged.push(flott_state::decode("an entry of a list", entry)?);
                }
                if let Some(rules) = restored.snapshot.broadcast.get(RULES) {
                    dump.rules.push(flott_state::decode("rules", rules)?);
                }
            }
        }
        dump.logged.sort_unstable();
        Ok(dump)
    }

    /// Compares it with what `logged` and `seen` say of what their operators have seen. Returns how many entries were compared.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn compare(
        &self,
        job: &Job,
        logged: impl Iterator<Item = Numbered>,
        seen: impl Iterator<Item = Numbered>,
    ) -> std::result::Result<u64, String> {
        let logged: BTreeSet<Numbered> = logged.filter(|record| job.is_logged(record)).collect();
        if let Some([twice, _]) = self.logged.array_windows().find(|[a, b]| a == b) {
            return Err(format!("the list has {twice:?} twice"));
        }
        if let Some(early) = self.logged.iter().find(|record| !logged.contains(record)) {
            return Err(format!("the list has {early:?}, which was not read"));
        }
        if !self.has_ended && self.logged.len() != logged.len() {
            let lost = logged.iter().find(|record| self.logged.binary_search(record).is_err());
            return Err(format!("the list has lost {lost:?}"));
        }
        if matches!(job.shape, Shape::Rules { .. }) {
            let known = seen.filter(|record| job.is_right(record));
            let known: BTreeMap<Numbered, Timestamp> =
                known.map(|record| (record, job.timestamp(record))).collect();
            if let Some(wrong) = self.rules.iter().find(|rules| **rules != known) {
                return Err(format!("what is broadcast is {wrong:?}, and a replay says {known:?}"));
            }
        }
        Ok((self.logged.len() + self.rules.iter().map(BTreeMap::len).sum::<usize>()) as u64)
    }
}
