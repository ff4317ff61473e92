//! What one operator subtask leaves in a snapshot, and how new subtasks divide it.

use flott_types::{KEY_HASH_VERSION, KeyGroup, KeyGroupRange, SubtaskIndex, key_group_range};
use flott_types::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The entries of one keyed state, by key group, each a run of encoded entries.
pub type KeyGroupBytes = BTreeMap<KeyGroup, Vec<u8>>;

/// One subtask's part of a snapshot of one operator.
///
/// *Keyed* state is divided by key group, *list* state entry by entry over all subtasks, *union* state goes whole to
/// each, *broadcast* state is the same everywhere and is taken from any one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What `subtask` of `parallelism` restores from the snapshots that all subtasks of the operator left.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if the parts do not fit together (two numbers of key groups, a key group in two
    /// parts), [`ErrorKind::UserError`] if `parallelism` exceeds the number of key groups or the key hash is of
    /// another version.
    pub fn reassign(parts: &[Self], subtask: SubtaskIndex, parallelism: u32) -> Result<Self> {
        let mut restored = Self::default();
        for part in parts {
            if part.key_hash_version != KEY_HASH_VERSION {
                return Err(Error::user(format!(
                    "snapshot uses version {} of the key hash, this build version {KEY_HASH_VERSION}",
                    part.key_hash_version
                )));
            }
            if part.max_parallelism != 0 {
                if restored.max_parallelism != 0 && restored.max_parallelism != part.max_parallelism {
                    return Err(Error::new(
                        ErrorKind::Corruption,
                        format!("parts with {} and {} key groups", restored.max_parallelism, part.max_parallelism),
                    ));
                }
                restored.max_parallelism = part.max_parallelism;
            }
        }
        if restored.max_parallelism != 0 && parallelism > restored.max_parallelism {
            return Err(Error::user(format!(
                "parallelism {parallelism} exceeds the {} key groups of the snapshot",
                restored.max_parallelism
            )));
        }
        let range = match restored.max_parallelism {
            0 => KeyGroupRange { start: 0, end: 0 },
            max_parallelism => key_group_range(subtask, max_parallelism, parallelism),
        };
        let mut next_list_entry = 0_u64;
        for part in parts {
            for (name, groups) in &part.keyed {
                let state = restored.keyed.entry(name.clone()).or_default();
                for (group, bytes) in groups.iter().filter(|(group, _)| range.contains(**group)) {
                    if state.insert(*group, bytes.clone()).is_some() {
                        return Err(Error::new(
                            ErrorKind::Corruption,
                            format!("key group {group} of state '{name}' is in two parts"),
                        ));
                    }
                }
            }
            for (name, entries) in &part.list {
                let state = restored.list.entry(name.clone()).or_default();
                for entry in entries {
                    if next_list_entry % u64::from(parallelism) == u64::from(subtask.0) {
                        state.push(entry.clone());
                    }
                    next_list_entry += 1;
                }
            }
            for (name, entries) in &part.union {
                restored.union.entry(name.clone()).or_default().extend(entries.iter().cloned());
            }
            for (name, bytes) in &part.broadcast {
                restored.broadcast.entry(name.clone()).or_insert_with(|| bytes.clone());
            }
        }
        Ok(restored)
    }
}
