//! What two snapshots differ in: operators and states added and removed, parallelism, bytes, key groups.

use crate::inspect::describe::{OperatorDescription, SnapshotDescription, StateDescription};
use crate::inspect::kind::{Scope, StateKind};
use flott_schema::{Type, compatible, compatible_entry};
use serde::Serialize;
use std::collections::BTreeSet;

/// What two snapshots differ in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotDifference {
    /// Where the older one is.
    pub old: String,
    /// Where the newer one is.
    pub new: String,
    /// Whether they are of the same job.
    pub same_job: bool,
    /// Bytes in parts.
    pub bytes: Change<u64>,
    /// Operators that are in one only, or not the same in both; by uid.
    pub operators: Vec<OperatorDifference>,
}

/// A number before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Change<T> {
    /// In the older snapshot.
    pub old: T,
    /// In the newer one.
    pub new: T,
}

impl<T: PartialEq> Change<T> {
    /// Whether the two are different.
    pub fn is_change(&self) -> bool {
        self.old != self.new
    }
}

/// Where something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ListChange {
    /// In the newer snapshot only.
    Added,
    /// In the older snapshot only.
    Removed,
    /// In both, and different.
    Changed,
}

/// An operator that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorDifference {
    /// Its uid.
    pub uid: String,
    /// As people call it, in the newer snapshot if it is there.
    pub name: String,
    /// Where it is.
    pub change: ListChange,
    /// Subtasks; 0 where it is not.
    pub parallelism: Change<u32>,
    /// Key groups; 0 where it is not.
    pub max_parallelism: Change<u32>,
    /// Splits with positions, 0 if it is no source or not there.
    pub positions: Change<u64>,
    /// Bytes of state.
    pub bytes: Change<u64>,
    /// States that are not the same in both.
    pub states: Vec<StateDifference>,
}

/// A state that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateDifference {
    /// Its name.
    pub name: String,
    /// How it is divided among subtasks.
    pub scope: Scope,
    /// Where it is.
    pub change: ListChange,
    /// What it is used as, where it is.
    pub kind: Change<Option<StateKind>>,
    /// Bytes; 0 where it is not.
    pub bytes: Change<u64>,
    /// Key groups with at least one entry; 0 where it is not, or not keyed.
    pub key_groups: Change<usize>,
    /// What changed in the type of its entries; empty if it is the same, or not recorded in both.
    pub types: Vec<String>,
    /// Key groups that are in one only or have other bytes. A restore may write the same entries in another order.
    pub key_groups_changed: usize,
}

/// Compares two snapshots, operators by uid and states by name.
pub fn compare_snapshots(old: &SnapshotDescription, new: &SnapshotDescription) -> SnapshotDifference {
    let find = |snapshot: &'_ SnapshotDescription, uid: &str| {
        snapshot.operators.iter().find(|operator| operator.uid == uid).cloned()
    };
    let both = old.operators.iter().chain(&new.operators);
    let uids: BTreeSet<&str> = both.map(|operator| operator.uid.as_str()).collect();
    let compared =
        uids.into_iter().map(|uid| operator(uid, find(old, uid).as_ref(), find(new, uid).as_ref()));
    SnapshotDifference {
        old: old.path.clone(),
        new: new.path.clone(),
        same_job: old.job_id == new.job_id,
        bytes: Change { old: old.bytes, new: new.bytes },
        operators: compared.flatten().collect(),
    }
}

fn list_change<T>(old: Option<&T>, new: Option<&T>) -> ListChange {
    match (old, new) {
        (None, _) => ListChange::Added,
        (_, None) => ListChange::Removed,
        (Some(_), Some(_)) => ListChange::Changed,
    }
}

fn operator(
    uid: &str,
    old: Option<&OperatorDescription>,
    new: Option<&OperatorDescription>,
) -> Option<OperatorDifference> {
    let both = old.into_iter().chain(new).flat_map(|operator| &operator.states);
    let names: BTreeSet<(&str, Scope)> = both.map(|state| (state.name.as_str(), state.scope)).collect();
    let find = |operator: Option<&OperatorDescription>, (name, scope): (&str, Scope)| {
        let mut states = operator.into_iter().flat_map(|operator| &operator.states);
        states.find(|state| state.name == name && state.scope == scope).cloned()
    };
    let states: Vec<_> = names
        .into_iter()
        .filter_map(|name| state(name, find(old, name).as_ref(), find(new, name).as_ref()))
        .collect();
    let number = |number: fn(&OperatorDescription) -> u32| Change {
        old: old.map_or(0, number),
        new: new.map_or(0, number),
    };
    let large = |number: fn(&OperatorDescription) -> u64| Change {
        old: old.map_or(0, number),
        new: new.map_or(0, number),
    };
    let difference = OperatorDifference {
        uid: uid.to_owned(),
        name: new.or(old).map(|operator| operator.name.clone()).unwrap_or_default(),
        change: list_change(old, new),
        parallelism: number(|operator| operator.parallelism),
        max_parallelism: number(|operator| operator.max_parallelism),
        positions: large(|operator| operator.positions.unwrap_or_default()),
        bytes: large(|operator| operator.bytes),
        states,
    };
    let is_same = difference.change == ListChange::Changed
        && !difference.parallelism.is_change()
        && !difference.max_parallelism.is_change()
        && !difference.bytes.is_change()
        && difference.states.is_empty();
    (!is_same).then_some(difference)
}

/// What becomes of entries of the old types when they are read as the new one, or why they cannot be.
fn type_changes(old: Option<&StateDescription>, new: Option<&StateDescription>) -> Vec<String> {
    let (Some(old), Some(new)) = (old, new) else { return Vec::new() };
    let pairs = old.types.iter().flat_map(|old| new.types.iter().map(move |new| (old, new)));
    let compare = |old_type: &Type, new_type: &Type| match old.scope {
        Scope::Keyed => compatible_entry(old_type, new_type),
        Scope::List | Scope::Union | Scope::Broadcast => compatible(old_type, new_type),
    };
    let changes = pairs.flat_map(|(old, new)| match compare(old, new) {
        Ok(migration) if migration.is_unchanged() && old != new => vec![format!("{old} -> {new}")],
        Ok(migration) => migration.changes().to_vec(),
        Err(refused) => vec![refused.to_string()],
    });
    changes.collect::<BTreeSet<_>>().into_iter().collect()
}

fn state(
    (name, scope): (&str, Scope),
    old: Option<&StateDescription>,
    new: Option<&StateDescription>,
) -> Option<StateDifference> {
    let groups = old.into_iter().chain(new).flat_map(|state| state.groups.keys());
    let content =
        |state: Option<&StateDescription>, group| state.and_then(|state| state.groups.get(group).copied());
    let groups: BTreeSet<_> = groups.collect();
    let key_groups_changed =
        groups.into_iter().filter(|group| content(old, group) != content(new, group)).count();
    let types = type_changes(old, new);
    let is_same = key_groups_changed == 0
        && types.is_empty()
        && matches!((old, new), (Some(old), Some(new))
            if (old.kind, old.bytes, old.entries, old.checksum) == (new.kind, new.bytes, new.entries, new.checksum));
    (!is_same).then(|| StateDifference {
        name: name.to_owned(),
        scope,
        change: list_change(old, new),
        kind: Change { old: old.map(|state| state.kind), new: new.map(|state| state.kind) },
        bytes: Change { old: old.map_or(0, |state| state.bytes), new: new.map_or(0, |state| state.bytes) },
        key_groups: Change {
            old: old.map_or(0, |state| state.groups.len()),
            new: new.map_or(0, |state| state.groups.len()),
        },
        types,
        key_groups_changed,
    })
}
