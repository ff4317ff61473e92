//! The schemas that a snapshot records for the keyed states of an operator.

use anyhow::{Context, Result};
use flott_schema::{StateSchemas, Type};
use std::collections::BTreeMap;

/// The schemas of states by name, each with the key groups that it is of. There are several of one state if its type has changed and not
/// all subtasks have read it since.
#[derive(Clone, Debug, Default)]
pub(super) struct Schemas(BTreeMap<String, Vec<Ranged>>);

/// The first key group and one past the last, and the schema of what is in them.
type Ranged = ((u32, u32), Type);

impl Schemas {
    /// What the records of subtasks say. A record of a later version is left out.
    pub(super) fn read<'a>(records: impl Iterator<Item = &'a [u8]>) -> Result<Self> {
        let mut schemas = Self::default();
        for record in records {
            let record = StateSchemas::decode(record).context("the record of schemas is damaged")?;
            let StateSchemas { key_groups, entries } = record.unwrap_or_default();
            for (name, ty) in entries {
                schemas.0.entry(name).or_default().push((key_groups, ty));
            }
        }
        Ok(schemas)
    }

    /// The schema of what a key group of a state holds.
    pub(super) fn of_group(&self, name: &str, group: u32) -> Option<&Type> {
        let mut schemas = self.0.get(name)?.iter();
        schemas.find(|((start, end), _)| *start <= group && group < *end).map(|(_, ty)| ty)
    }

    /// The types of each state, without repetitions.
    pub(super) fn types(&self) -> BTreeMap<&str, Vec<&Type>> {
        self.0.keys().map(|name| (name.as_str(), self.types_of(name))).collect()
    }

    /// The types of one state, without repetitions.
    pub(super) fn types_of(&self, name: &str) -> Vec<&Type> {
        let mut types: Vec<&Type> = Vec::new();
        for (_, ty) in self.0.get(name).into_iter().flatten() {
            if !types.contains(&ty) {
                types.push(ty);
            }
        }
        types
    }
}
