//! What one operator subtask leaves in a snapshot, and how new subtasks divide it.

mod groups;

pub use groups::{GroupBytes, KeyGroupBytes, SectionKind, StoredSection, groups_in_memory};

use crate::in_flight::IN_FLIGHT;
use flott_schema::{EntrySchemas, OperatorSchemas, Type};
use flott_types::{Error, ErrorKind, KEY_HASH_VERSION, Result, SubtaskIndex, key_group_range};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One subtask's part of a snapshot of one operator.
///
/// *Keyed* state is divided by key group, *list* state entry by entry over all subtasks, *union* state goes whole to
/// each, *broadcast* state is the same everywhere and is taken from any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorSnapshot {
    /// The version of the key hash with which key groups were computed.
    pub key_hash_version: u32,
    /// The number of key groups; 0 if the operator has no keyed state.
    pub max_parallelism: u32,
    /// Keyed states by name.
    pub keyed: BTreeMap<String, KeyGroupBytes>,
    /// List states by name: encoded entries.
    pub list: BTreeMap<String, Vec<Vec<u8>>>,
    /// Union states by name: encoded entries.
    pub union: BTreeMap<String, Vec<Vec<u8>>>,
    /// Broadcast states by name.
    pub broadcast: BTreeMap<String, Vec<u8>>,
    /// Of which types the entries of list, union and broadcast states are, as far as that is known.
    pub schemas: OperatorSchemas,
}

impl Default for OperatorSnapshot {
    fn default() -> Self {
        Self {
            key_hash_version: KEY_HASH_VERSION,
            max_parallelism: 0,
            keyed: BTreeMap::new(),
            list: BTreeMap::new(),
            union: BTreeMap::new(),
            broadcast: BTreeMap::new(),
            schemas: OperatorSchemas::default(),
        }
    }
}

/// The entries of a state with their types.
fn typed<'a>(
    name: &str,
    entries: &'a [Vec<u8>],
    schemas: &'a EntrySchemas,
) -> impl Iterator<Item = (&'a Vec<u8>, Option<&'a Arc<Type>>)> {
    entries.iter().zip(schemas.of(name))
}

impl OperatorSnapshot {
    /// The same with all keyed state in memory.
    ///
    /// # Errors
    /// If something is in a file that cannot be read.
    pub fn in_memory(&self) -> Result<Self> {
        let mut snapshot = self.clone();
        for bytes in snapshot.keyed.values_mut().flat_map(BTreeMap::values_mut) {
            *bytes = bytes.in_memory()?;
        }
        Ok(snapshot)
    }

    /// What `subtask` of `parallelism` restores from the snapshots that all subtasks of the operator left.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if the parts do not fit together (two numbers of key groups, a key group in two
    /// parts or beyond the number of key groups), [`ErrorKind::UserError`] if `parallelism` exceeds the number of
    /// key groups or the key hash is of another version.
    ///
    /// # Panics
    /// If `subtask` is not less than `parallelism`.
    pub fn reassign(parts: &[Self], subtask: SubtaskIndex, parallelism: u32) -> Result<Self> {
        assert!(subtask.0 < parallelism, "subtask {subtask} at parallelism {parallelism}");
        let max_parallelism = common_max_parallelism(parts)?;
        if max_parallelism != 0 && parallelism > max_parallelism {
            return Err(Error::user(format!(
                "parallelism {parallelism} exceeds the {max_parallelism} key groups of the snapshot"
            )));
        }
        let mut restored = Self { max_parallelism, ..Self::default() };
        for part in parts {
            restored.add_keyed(part, subtask, parallelism)?;
            for (name, entries) in &part.union {
                restored.union.entry(name.clone()).or_default().extend(entries.iter().cloned());
                for (_, schema) in typed(name, entries, &part.schemas.union) {
                    restored.schemas.union.push(name, 1, schema);
                }
            }
            restored.add_broadcast(part);
        }
        restored.deal_lists(parts, subtask, parallelism);
        restored.schemas.strip();
        Ok(restored)
    }

    /// The same with the list and broadcast states of `own`.
    #[must_use]
    pub fn with_lists_of(mut self, own: &Self) -> Self {
        self.list.clone_from(&own.list);
        self.schemas.list.clone_from(&own.schemas.list);
        self.broadcast.clone_from(&own.broadcast);
        self.schemas.broadcast.clone_from(&own.schemas.broadcast);
        self
    }

    /// Adds the broadcast states that no part before had.
    fn add_broadcast(&mut self, part: &Self) {
        for (name, bytes) in &part.broadcast {
            if !self.broadcast.contains_key(name) {
                self.broadcast.insert(name.clone(), bytes.clone());
                self.schemas.broadcast.push(name, 1, part.schemas.broadcast.of(name).next().flatten());
            }
        }
    }

    /// Adds the entries of list states that fall to `subtask`: each state is one list, the parts' in their order, and is dealt
    /// out entry by entry.
    fn deal_lists(&mut self, parts: &[Self], subtask: SubtaskIndex, parallelism: u32) {
        for name in parts.iter().flat_map(|part| part.list.keys()) {
            // What is in flight is divided by who reads it: see `assign_in_flight`.
            if self.list.contains_key(name) || name == IN_FLIGHT {
                continue;
            }
            let lists = parts.iter().filter_map(|part| Some((part.list.get(name)?, &part.schemas.list)));
            let entries = lists.flat_map(|(entries, schemas)| typed(name, entries, schemas));
            let dealt = self.list.entry(name.clone()).or_default();
            for (entry, schema) in entries.skip(subtask.as_usize()).step_by(parallelism as usize) {
                dealt.push(entry.clone());
                self.schemas.list.push(name, 1, schema);
            }
        }
    }

    /// Adds the key groups of `part` that belong to `subtask`.
    fn add_keyed(&mut self, part: &Self, subtask: SubtaskIndex, parallelism: u32) -> Result<()> {
        let max_parallelism = self.max_parallelism;
        for (name, groups) in &part.keyed {
            let state = self.keyed.entry(name.clone()).or_default();
            for (group, bytes) in groups {
                if group.0 >= max_parallelism {
                    let message = format!("state '{name}' has key group {group} of {max_parallelism}");
                    return Err(Error::new(ErrorKind::Corruption, message));
                }
                let range = key_group_range(subtask, max_parallelism, parallelism);
                if range.contains(*group) && state.insert(*group, bytes.clone()).is_some() {
                    let message = format!("key group {group} of state '{name}' is in two parts");
                    return Err(Error::new(ErrorKind::Corruption, message));
                }
            }
        }
        Ok(())
    }
}

fn common_max_parallelism(parts: &[OperatorSnapshot]) -> Result<u32> {
    let mut common = 0;
    for part in parts {
        if part.key_hash_version != KEY_HASH_VERSION {
            return Err(Error::user(format!(
                "snapshot uses version {} of the key hash, this build version {KEY_HASH_VERSION}",
                part.key_hash_version
            )));
        }
        if common != 0 && part.max_parallelism != 0 && common != part.max_parallelism {
            let message = format!("parts with {common} and {} key groups", part.max_parallelism);
            return Err(Error::new(ErrorKind::Corruption, message));
        }
        common = common.max(part.max_parallelism);
    }
    Ok(common)
}

#[cfg(test)]
mod tests;
