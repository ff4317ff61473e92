//! Whether what a snapshot holds fits the types of a program, before anything runs.

use super::StateTypes;
use super::entries::migration;
use super::recorded::Recorded;
use super::types::KnownOperatorState;
use crate::in_flight::{IN_FLIGHT, decode_parts};
use crate::operator_state::Distribution;
use crate::snapshot::OperatorSnapshot;
use flott_schema::compatible;
use flott_types::{Error, KeyGroupRange, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of the states of one operator.
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
    fn note(&mut self, name: &str, changes: Result<BTreeSet<String>, String>) {
        match changes {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => self.migrated.entry(name.to_owned()).or_default().extend(changes),
            Err(reason) => drop(self.refused.insert(reason)),
        }
    }

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

impl KnownOperatorState {
    /// Refuses changes of a type that may not have any.
    fn check(&self, name: &str, changes: BTreeSet<String>) -> Result<BTreeSet<String>, String> {
        if self.evolves || changes.is_empty() {
            return Ok(changes);
        }
        let changes: Vec<_> = changes.into_iter().collect();
        Err(format!(
            "the type of state '{name}' has changed, which splits of a source may not: {}",
            changes.join(", ")
        ))
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
                fit.note(name, changes);
            }
            self.compare_operator_states(part, &mut fit);
            self.compare_in_flight(part, &mut fit)?;
        }
        Ok(fit)
    }

    /// List, union and broadcast states.
    fn compare_operator_states(&self, part: &OperatorSnapshot, fit: &mut StateFit) {
        let lists = part.list.iter().filter(|(_, entries)| !entries.is_empty()).map(|(name, _)| name);
        let unions = part.union.iter().filter(|(_, entries)| !entries.is_empty()).map(|(name, _)| name);
        let schemas = &part.schemas;
        let states = lists.map(|name| (name, Distribution::List, &schemas.list));
        let states = states.chain(unions.map(|name| (name, Distribution::Union, &schemas.union)));
        let broadcasts = part.broadcast.keys();
        let broadcasts = broadcasts.map(|name| (name, Distribution::Broadcast, &schemas.broadcast));
        for (name, distribution, recorded) in states.chain(broadcasts) {
            let Some(known) = self.operator_state(name) else {
                if !self.claims_operator_state(name) {
                    fit.unclaimed.insert(name.clone());
                }
                continue;
            };
            if known.distribution != distribution {
                let reason =
                    format!("the {distribution} state '{name}' is used as {} state", known.distribution);
                fit.refused.insert(reason);
                continue;
            }
            // A type without schema reads what it can, as it did before there were schemas.
            let Some(schema) = &known.schema else { continue };
            for written in recorded.types_of(name) {
                let changes = migration(name, written, schema);
                let changes = changes.map(|it| it.changes().iter().cloned().collect::<BTreeSet<_>>());
                fit.note(name, changes.and_then(|changes| known.check(name, changes)));
            }
        }
    }

    /// Records that barriers had overtaken.
    fn compare_in_flight(&self, part: &OperatorSnapshot, fit: &mut StateFit) -> Result<()> {
        let entries = part.list.get(IN_FLIGHT).map(Vec::as_slice).unwrap_or_default();
        for in_flight in decode_parts(entries)? {
            for (edge, written) in in_flight.edges_with_records() {
                let (Some(written), Some(schema)) = (written, self.input(edge.input)) else { continue };
                let changes = compatible(written, schema).map_err(|refused| {
                    format!("the type of the records in flight {edge} has changed: {refused}")
                });
                fit.note(IN_FLIGHT, changes.map(|it| it.changes().iter().cloned().collect()));
            }
        }
        Ok(())
    }
}
