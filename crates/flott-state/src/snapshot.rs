//! What one operator subtask leaves in a snapshot, and how new subtasks divide it.

mod groups;

pub use groups::{GroupBytes, KeyGroupBytes, SectionKind, StoredSection, groups_in_memory};

use crate::in_flight::IN_FLIGHT;
use flott_types::{Error, ErrorKind, KEY_HASH_VERSION, Result, SubtaskIndex, key_group_range};
use std::collections::BTreeMap;

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
        }
    }
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
            }
            for (name, bytes) in &part.broadcast {
                restored.broadcast.entry(name.clone()).or_insert_with(|| bytes.clone());
            }
        }
        restored.list = deal_lists(parts, subtask, parallelism);
        Ok(restored)
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

/// The entries of list states that fall to `subtask`: each state is one list, the parts' in their order, and is dealt
/// out entry by entry.
fn deal_lists(
    parts: &[OperatorSnapshot],
    subtask: SubtaskIndex,
    parallelism: u32,
) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut lists = BTreeMap::<String, Vec<Vec<u8>>>::new();
    for name in parts.iter().flat_map(|part| part.list.keys()) {
        // What is in flight is divided by who reads it: see `assign_in_flight`.
        if !lists.contains_key(name) && name != IN_FLIGHT {
            let entries = parts.iter().filter_map(|part| part.list.get(name)).flatten();
            let dealt = entries.skip(subtask.as_usize()).step_by(parallelism as usize);
            lists.insert(name.clone(), dealt.cloned().collect());
        }
    }
    lists
}

#[cfg(test)]
mod tests;
