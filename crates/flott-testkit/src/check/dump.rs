//! The state of all subtasks of an operator, in a form that does not depend on how they have divided it.

use flott_schema::{StateSchemas, Type};
use flott_state::{KEY_GROUP_WATERMARKS, OperatorSnapshot, STATE_SCHEMAS};
use flott_types::{KeyGroup, SubtaskIndex, key_group_range};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The state of all subtasks together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dump {
    keyed: BTreeMap<(String, KeyGroup), Vec<u8>>,
    /// The parts' entries in their order.
    list: BTreeMap<String, Vec<Vec<u8>>>,
    /// Without repetitions: each subtask may have all entries.
    union: BTreeMap<String, BTreeSet<Vec<u8>>>,
    broadcast: BTreeMap<String, Vec<u8>>,
    /// The schema of what is in a key group.
    schemas: BTreeMap<(String, KeyGroup), Type>,
}

/// Which differences between two dumps count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Strictness<'a> {
    /// All.
    Exact,
    /// All, but for the order of entries in key groups with several keys.
    Restored { crowded: &'a BTreeSet<KeyGroup> },
    /// As `Restored`, and the order of lists does not count.
    Rescaled { crowded: &'a BTreeSet<KeyGroup> },
}

impl Dump {
    /// Puts the snapshots of all subtasks together.
    #[track_caller]
    pub(super) fn new(parts: &[OperatorSnapshot], what: impl Fn() -> String) -> Self {
        let mut dump = Self {
            keyed: BTreeMap::new(),
            list: BTreeMap::new(),
            union: BTreeMap::new(),
            broadcast: BTreeMap::new(),
            schemas: BTreeMap::new(),
        };
        for (idx, part) in parts.iter().enumerate() {
            for (name, groups) in &part.keyed {
                let (max_parallelism, parallelism) = (part.max_parallelism, parts.len() as u32);
                let range = key_group_range(SubtaskIndex(idx as u32), max_parallelism, parallelism);
                for (group, bytes) in groups.iter().filter(|(_, bytes)| bytes.n_bytes() > 0) {
                    let is_own = range.contains(*group);
                    assert!(is_own, "{}: subtask {idx} has key group {group} of state '{name}'", what());
                    let bytes = bytes.to_vec().unwrap_or_else(|error| panic!("{}: {error}", what()));
                    dump.keyed.insert((name.clone(), *group), bytes);
                }
            }
            for (name, entries) in part.list.iter().filter(|(_, entries)| !entries.is_empty()) {
                dump.list.entry(name.clone()).or_default().extend(entries.iter().cloned());
            }
            dump.add_schemas(part, &what);
            // The record of schemas is of the key groups of a subtask: what counts is what it says of each.
            // What is said of key groups is cut where subtasks begin.
            let is_compared = |name: &str| name != STATE_SCHEMAS && name != KEY_GROUP_WATERMARKS;
            let unions = part.union.iter().filter(|(name, _)| is_compared(name));
            for (name, entries) in unions.filter(|(_, entries)| !entries.is_empty()) {
                dump.union.entry(name.clone()).or_default().extend(entries.iter().cloned());
            }
            for (name, bytes) in &part.broadcast {
                let known = dump.broadcast.entry(name.clone()).or_insert_with(|| bytes.clone());
                assert!(known == bytes, "{}: subtasks differ in the broadcast state '{name}'", what());
            }
        }
        dump
    }

    #[track_caller]
    fn add_schemas(&mut self, part: &OperatorSnapshot, what: impl Fn() -> String) {
        for bytes in part.union.get(STATE_SCHEMAS).into_iter().flatten() {
            let record = StateSchemas::decode(bytes);
            let Ok(Some(StateSchemas { key_groups: (start, end), entries })) = record else {
                panic!("{}: the record of schemas cannot be read: {record:?}", what())
            };
            for (name, schema) in entries {
                let groups = part.keyed.get(&name).into_iter().flat_map(|groups| groups.keys());
                for group in groups.filter(|group| (start..end).contains(&group.0)) {
                    let known = self.schemas.insert((name.clone(), *group), schema.clone());
                    assert!(
                        known.is_none(),
                        "{}: key group {group} of state '{name}' has two schemas",
                        what()
                    );
                }
            }
        }
    }

    /// Fails with the first state that differs.
    #[track_caller]
    pub(super) fn assert_same(&self, other: &Self, strictness: Strictness<'_>, what: impl Fn() -> String) {
        let (this, other) = (self.normal_form(strictness), other.normal_form(strictness));
        assert_same_map(
            "keyed",
            &this.keyed,
            &other.keyed,
            |(name, group)| format!("{name}, key group {group}"),
            &what,
        );
        assert_same_map("list", &this.list, &other.list, String::clone, &what);
        assert_same_map("union", &this.union, &other.union, String::clone, &what);
        assert_same_map("broadcast", &this.broadcast, &other.broadcast, String::clone, &what);
        assert_same_map(
            "schema of",
            &this.schemas,
            &other.schemas,
            |(name, group)| format!("{name}, key group {group}"),
            &what,
        );
    }

    fn normal_form(&self, strictness: Strictness<'_>) -> Self {
        let mut dump = self.clone();
        let (crowded, sort_lists) = match strictness {
            Strictness::Exact => return dump,
            Strictness::Restored { crowded } => (crowded, false),
            Strictness::Rescaled { crowded } => (crowded, true),
        };
        // Where entries end is not known here; that the bytes are the same in another order must do.
        let of_crowded = dump.keyed.iter_mut().filter(|((_, group), _)| crowded.contains(group));
        of_crowded.for_each(|(_, bytes)| bytes.sort_unstable());
        if sort_lists {
            dump.list.values_mut().for_each(|entries| entries.sort());
        }
        dump
    }
}

#[track_caller]
fn assert_same_map<K: Ord, V: PartialEq + fmt::Debug>(
    kind: &str,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    print: impl Fn(&K) -> String,
    what: impl Fn() -> String,
) {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let (before, after) = (before.get(key), after.get(key));
        assert!(
            before == after,
            "{}: the {kind} state '{}' is not the same\nbefore: {before:?}\nafter:  {after:?}",
            what(),
            print(key),
        );
    }
}
