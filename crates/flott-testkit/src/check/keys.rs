//! The keys of an input.

use crate::route::Route;
use crate::subtask::Records;
use crate::subtasks::Step;
use flott_types::{KeyGroup, key_group};
use std::collections::{BTreeMap, BTreeSet};

/// The hashes of all keys; none if the keys are not known.
pub(super) fn hashes<A: 'static, B: 'static>(
    steps: &[Step<A, B>],
    first: &Route<A>,
    second: &Route<B>,
) -> BTreeSet<u64> {
    let mut hashes = BTreeSet::new();
    for step in steps {
        match (step, &first.hash, &second.hash) {
            (Step::Records(Records::First(records)), Some(hash), _) => {
                hashes.extend(records.iter().map(|(record, _)| hash(record)));
            }
            (Step::Records(Records::Second(records)), _, Some(hash)) => {
                hashes.extend(records.iter().map(|(record, _)| hash(record)));
            }
            _ => {}
        }
    }
    hashes
}

/// The key groups with several keys. Tables have no order of keys, so that only of other groups the bytes are known.
pub(super) fn crowded_groups(hashes: &BTreeSet<u64>, max_parallelism: u32) -> BTreeSet<KeyGroup> {
    let mut n_keys = BTreeMap::<KeyGroup, usize>::new();
    for hash in hashes {
        *n_keys.entry(key_group(*hash, max_parallelism)).or_default() += 1;
    }
    n_keys.into_iter().filter(|(_, n_keys)| *n_keys > 1).map(|(group, _)| group).collect()
}

/// The steps without the records of other keys than the one with this hash.
pub(super) fn records_of_key<A: Clone, B: Clone>(
    steps: &[Step<A, B>],
    first: &Route<A>,
    second: &Route<B>,
    wanted: u64,
) -> Vec<Step<A, B>> {
    let is_kept = |step: &&Step<A, B>| match (step, &first.hash, &second.hash) {
        (Step::Records(Records::First(records)), Some(hash), _) => {
            records.iter().all(|(record, _)| hash(record) == wanted)
        }
        (Step::Records(Records::Second(records)), _, Some(hash)) => {
            records.iter().all(|(record, _)| hash(record) == wanted)
        }
        _ => true,
    };
    steps.iter().filter(is_kept).cloned().collect()
}
