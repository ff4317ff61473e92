//! How the parts of a snapshot are divided among new subtasks.

use super::*;
use expect_test::{Expect, expect};
use flott_types::KeyGroup;
use std::fmt::Write;

/// A part with key groups `groups` of one keyed state and the given entries.
fn part(max_parallelism: u32, groups: std::ops::Range<u32>) -> OperatorSnapshot {
    let groups = groups.map(|group| (KeyGroup(group), vec![group as u8].into())).collect();
    OperatorSnapshot {
        max_parallelism,
        keyed: BTreeMap::from([("keyed".to_owned(), groups)]),
        ..OperatorSnapshot::default()
    }
}

fn with_entries(list: &[(&str, &[u8])], union: &[u8], broadcast: &[(&str, u8)]) -> OperatorSnapshot {
    let entries = |bytes: &[u8]| bytes.iter().map(|byte| vec![*byte]).collect::<Vec<_>>();
    OperatorSnapshot {
        list: list.iter().map(|(name, bytes)| ((*name).to_owned(), entries(bytes))).collect(),
        union: BTreeMap::from([("union".to_owned(), entries(union))]),
        broadcast: broadcast.iter().map(|(name, byte)| ((*name).to_owned(), vec![*byte])).collect(),
        ..OperatorSnapshot::default()
    }
}

/// One line for each new subtask.
fn check(parts: &[OperatorSnapshot], parallelism: u32, expected: &Expect) {
    let mut actual = String::new();
    for subtask in (0..parallelism).map(SubtaskIndex) {
        let part = OperatorSnapshot::reassign(parts, subtask, parallelism).unwrap();
        write!(actual, "{subtask}:").unwrap();
        for (name, groups) in &part.keyed {
            let groups: Vec<_> = groups.keys().map(|group| group.0).collect();
            write!(actual, " {name} {groups:?}").unwrap();
        }
        for (name, entries) in part.list.iter().chain(&part.union) {
            write!(actual, " {name} {:?}", entries.concat()).unwrap();
        }
        for (name, bytes) in &part.broadcast {
            write!(actual, " {name} {bytes:?}").unwrap();
        }
        actual.push('\n');
    }
    expected.assert_eq(&actual);
}

#[test]
fn keyed_state_is_divided_by_key_group() {
    let parts = [part(8, 0..4), part(8, 4..8)];
    check(
        &parts,
        1,
        &expect![[r#"
        0: keyed [0, 1, 2, 3, 4, 5, 6, 7]
    "#]],
    );
    check(
        &parts,
        3,
        &expect![[r#"
        0: keyed [0, 1, 2]
        1: keyed [3, 4, 5]
        2: keyed [6, 7]
    "#]],
    );
    check(
        &[part(8, 0..0), part(8, 0..0)],
        2,
        &expect![[r#"
        0: keyed []
        1: keyed []
    "#]],
    );
}

#[test]
fn list_state_is_dealt_out_and_union_and_broadcast_state_go_to_all() {
    let parts = [
        with_entries(&[("a", &[1, 2, 3]), ("b", &[11])], &[21], &[("broadcast", 31)]),
        with_entries(&[("a", &[4]), ("b", &[12, 13])], &[], &[("broadcast", 31), ("late", 32)]),
        with_entries(&[("c", &[])], &[22, 23], &[]),
    ];
    check(
        &parts,
        1,
        &expect![[r#"
        0: a [1, 2, 3, 4] b [11, 12, 13] c [] union [21, 22, 23] broadcast [31] late [32]
    "#]],
    );
    check(
        &parts,
        2,
        &expect![[r#"
        0: a [1, 3] b [11, 13] c [] union [21, 22, 23] broadcast [31] late [32]
        1: a [2, 4] b [12] c [] union [21, 22, 23] broadcast [31] late [32]
    "#]],
    );
    check(
        &parts,
        5,
        &expect![[r#"
        0: a [1] b [11] c [] union [21, 22, 23] broadcast [31] late [32]
        1: a [2] b [12] c [] union [21, 22, 23] broadcast [31] late [32]
        2: a [3] b [13] c [] union [21, 22, 23] broadcast [31] late [32]
        3: a [4] b [] c [] union [21, 22, 23] broadcast [31] late [32]
        4: a [] b [] c [] union [21, 22, 23] broadcast [31] late [32]
    "#]],
    );
}

#[test]
fn nothing_is_divided_into_nothing() {
    check(
        &[],
        2,
        &expect![[r#"
        0:
        1:
    "#]],
    );
    check(
        &[OperatorSnapshot::default()],
        1,
        &expect![[r#"
        0:
    "#]],
    );
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let reassign = |parts: &[OperatorSnapshot], parallelism| {
        let error = OperatorSnapshot::reassign(parts, SubtaskIndex(0), parallelism).unwrap_err();
        format!("{:?}: {}\n", error.kind(), error.report())
    };
    let other_hash =
        OperatorSnapshot { key_hash_version: KEY_HASH_VERSION + 1, ..OperatorSnapshot::default() };
    let actual = [
        reassign(&[part(8, 0..4), part(16, 4..8)], 1),
        reassign(&[part(8, 0..4), part(8, 3..8)], 1),
        reassign(&[part(8, 0..9)], 1),
        reassign(&[part(0, 0..1)], 1),
        reassign(&[part(8, 0..8)], 9),
        reassign(&[other_hash], 1),
    ];
    expect![[r#"
        Corruption: parts with 8 and 16 key groups
        Corruption: key group 3 of state 'keyed' is in two parts
        Corruption: state 'keyed' has key group 8 of 8
        Corruption: state 'keyed' has key group 0 of 0
        UserError: parallelism 9 exceeds the 8 key groups of the snapshot
        UserError: snapshot uses version 2 of the key hash, this build version 1
    "#]]
    .assert_eq(&actual.concat());
}

#[test]
fn operators_without_keyed_state_know_no_limit_of_parallelism() {
    let parts = [with_entries(&[("a", &[1])], &[], &[]), part(0, 0..0)];
    let last = OperatorSnapshot::reassign(&parts, SubtaskIndex(99_999), 100_000).unwrap();
    assert_eq!(last.max_parallelism, 0);
    let mixed = [OperatorSnapshot::default(), part(8, 4..8)];
    assert_eq!(OperatorSnapshot::reassign(&mixed, SubtaskIndex(0), 2).unwrap().max_parallelism, 8);
}
