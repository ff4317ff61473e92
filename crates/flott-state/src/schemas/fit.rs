//! Whether what a snapshot holds fits the types of a program, before anything runs.

use super::StateTypes;
use super::recorded::Recorded;
use crate::snapshot::OperatorSnapshot;
use flott_types::{Error, KeyGroupRange, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of the keyed states of one operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateFit {
    /// States whose type has changed in a way that reads every old value, with what has changed.
    pub migrated: BTreeMap<String, BTreeSet<String>>,
    /// Which states have changed otherwise, with the field that does not fit.
    pub refused: BTreeSet<String>,
    /// States with entries that the operator does not go on with.
    pub unclaimed: BTreeSet<String>,
}

impl StateFit {
    /// The error of a restore that goes no further, if a state does not fit.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) with all fields that do not.
    pub fn check(&self) -> Result<()> {
        if self.refused.is_empty() {
            return Ok(());
        }
        let reasons: Vec<_> = self.refused.iter().map(String::as_str).collect();
        Err(Error::user(reasons.join("; ")))
    }
}

impl StateTypes {
    /// Compares what the subtasks of an operator have left in a snapshot with these types. States of which no key has anything fit
    /// whatever they were.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`](flott_types::ErrorKind::Corruption) if the record of schemas cannot be read.
    pub fn compare<'a>(&self, parts: impl IntoIterator<Item = &'a OperatorSnapshot>) -> Result<StateFit> {
        let everywhere = KeyGroupRange { start: 0, end: u32::MAX };
        let mut fit = StateFit::default();
        for part in parts {
            let recorded = Recorded::read(part, everywhere)?;
            for (name, groups) in part.keyed.iter().filter(|(_, groups)| !groups.is_empty()) {
                if !self.claims(name) {
                    fit.unclaimed.insert(name.clone());
                    continue;
                }
                let changes = match self.refuse_kind(name, groups) {
                    Some(reason) => Err(reason),
                    None => recorded.changes(name, self.get(name)),
                };
                match changes {
                    Ok(changes) if changes.is_empty() => {}
                    Ok(changes) => fit.migrated.entry(name.clone()).or_default().extend(changes),
                    Err(reason) => drop(fit.refused.insert(reason)),
                }
            }
        }
        Ok(fit)
    }
}
