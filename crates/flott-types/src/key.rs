//! How a key finds its subtask: key → 64-bit hash → key group → subtask.
//!
//! Hash and mapping are part of the snapshot format. The key group comes from bits 16 to 47 of the
//! hash, so that the keys of one subtask still differ in the low bits (the position in a hash table)
//! and in the top seven (its tags).

use crate::id::SubtaskIndex;
use crate::stable::stable_hash;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the hash and of the mapping to key groups, recorded in every snapshot.
pub const KEY_HASH_VERSION: u32 = 1;

/// The number of key groups of a job that does not say.
pub const DEFAULT_MAX_PARALLELISM: u32 = 4096;

/// The largest number of key groups.
pub const MAX_MAX_PARALLELISM: u32 = 65_536;

/// The unit in which keyed state moves between subtasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyGroup(pub u32);

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The contiguous key groups `start..end` of one subtask; empty if it owns none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyGroupRange {
    /// The first key group.
    pub start: u32,
    /// One past the last key group.
    pub end: u32,
}

impl KeyGroupRange {
    /// Whether `group` is in the range.
    pub const fn contains(self, group: KeyGroup) -> bool {
        self.start <= group.0 && group.0 < self.end
    }
}

/// The stable hash of a key: the same in every process, release and architecture.
///
/// # Panics
/// If the key's own `Serialize` implementation returns an error; derived ones do not.
#[inline]
pub fn key_hash<K: Serialize + ?Sized>(key: &K) -> u64 {
    stable_hash(key)
}

/// The key group of a key with hash `key_hash`, in `0..max_parallelism`.
#[inline]
pub const fn key_group(key_hash: u64, max_parallelism: u32) -> KeyGroup {
    let middle = (key_hash >> 16) as u32 as u64;
    KeyGroup(((middle * max_parallelism as u64) >> 32) as u32)
}

/// The subtask that owns `group`.
#[inline]
pub const fn subtask_for_key_group(group: KeyGroup, max_parallelism: u32, parallelism: u32) -> SubtaskIndex {
    SubtaskIndex((group.0 as u64 * parallelism as u64 / max_parallelism as u64) as u32)
}

/// The key groups that `subtask` owns; the ranges of all subtasks cover `0..max_parallelism` once.
pub const fn key_group_range(subtask: SubtaskIndex, max_parallelism: u32, parallelism: u32) -> KeyGroupRange {
    let (idx, max, par) = (subtask.0 as u64, max_parallelism as u64, parallelism as u64);
    KeyGroupRange { start: (idx * max).div_ceil(par) as u32, end: ((idx + 1) * max).div_ceil(par) as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_group_belongs_to_exactly_the_subtask_that_the_mapping_names() {
        for max_parallelism in [1, 2, 7, 128, 4096] {
            for parallelism in (1..=max_parallelism.min(9)).chain([max_parallelism]) {
                let mut next = 0;
                for idx in 0..parallelism {
                    let range = key_group_range(SubtaskIndex(idx), max_parallelism, parallelism);
                    assert_eq!(range.start, next);
                    for group in range.start..range.end {
                        let owner = subtask_for_key_group(KeyGroup(group), max_parallelism, parallelism);
                        assert_eq!(
                            owner,
                            SubtaskIndex(idx),
                            "group {group} of {max_parallelism} at {parallelism}"
                        );
                    }
                    next = range.end;
                }
                assert_eq!(next, max_parallelism);
            }
        }
    }

    /// The hash is part of the snapshot format: these figures may only change with its version.
    #[test]
    fn the_hash_of_version_one_is_pinned() {
        assert_eq!(KEY_HASH_VERSION, 1);
        let hashes =
            [key_hash(&0_u64), key_hash(&1_u64), key_hash("EWR"), key_hash(&("JFK", 7_i32, Some('x')))];
        expect_test::expect![[r#"
            670527f286862c69
            0093c56e1dcb401d
            99e98252d5ef13bd
            0494a6c353f6f2ad
        "#]]
        .assert_eq(&hashes.map(|hash| format!("{hash:016x}\n")).concat());
        assert_eq!(key_hash(&7_u32), key_hash(&7_u64), "widening a key keeps its place");
        assert_eq!(key_hash("abc"), key_hash(&"abc".to_owned()));
    }

    #[test]
    fn keys_spread_evenly_over_key_groups_and_table_positions() {
        let (n_keys, n_groups) = (100_000_u64, 64);
        let mut groups = vec![0_u32; n_groups as usize];
        let mut low_bits = vec![0_u32; 256];
        for key in 0..n_keys {
            let hash = key_hash(&key);
            groups[key_group(hash, n_groups).0 as usize] += 1;
            low_bits[(hash & 255) as usize] += 1;
        }
        let expected = n_keys as u32 / n_groups;
        assert!(groups.iter().all(|count| count.abs_diff(expected) < expected / 5), "{groups:?}");
        let expected = n_keys as u32 / 256;
        assert!(low_bits.iter().all(|count| count.abs_diff(expected) < expected / 3), "{low_bits:?}");
    }
}
