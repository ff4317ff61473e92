//! Operators of a snapshot and of a job that has changed.

use super::*;
use expect_test::expect;
use flott_types::ErrorKind;
use std::collections::BTreeSet;

#[test]
fn at_the_same_parallelism_each_subtask_gets_what_it_had() {
    let restored = open(&savepoint(&MemoryFs::default(), &[]), &plan(2)).expect("it fits");
    assert_eq!(restored.checkpoint_id(), CheckpointId(1));
    assert_eq!(restored.enumerator(&uid("source")), Some(&b"position"[..]));
    for subtask in 0..2 {
        let get = |name: &str| {
            restored.subtask(&uid(name), SubtaskIndex(subtask)).expect("divided").expect("known")
        };
        let union = [("all".to_owned(), vec![vec![0], vec![1]])].into();
        assert_eq!(get("source").snapshot, OperatorSnapshot { union, ..listed(subtask) });
        assert_eq!(get("count").snapshot, keyed(subtask, 2));
        assert!(!get("count").finished);
    }
}

#[test]
fn at_another_parallelism_state_is_divided_anew() {
    let snapshot = savepoint(&MemoryFs::default(), &[]);
    for parallelism in [1, 3, 8] {
        let restored = open(&snapshot, &plan(parallelism)).expect("it fits");
        let (mut splits, mut groups) = (Vec::new(), BTreeSet::new());
        for subtask in 0..parallelism {
            let get = |name: &str| {
                restored.subtask(&uid(name), SubtaskIndex(subtask)).expect("divided").expect("known")
            };
            splits.extend(get("source").snapshot.list["splits"].clone());
            let count = get("count").snapshot;
            assert_eq!(count, keyed(subtask, parallelism));
            groups.extend(count.keyed["sum"].keys().copied());
        }
        splits.sort();
        assert_eq!(splits, [[0, 0], [0, 1], [1, 0], [1, 1]]);
        assert_eq!(groups.len(), 8);
    }
    assert_eq!(
        open(&snapshot, &plan(9))
            .expect("known at once or per subtask")
            .subtask(&uid("count"), SubtaskIndex(0))
            .expect_err("8 key groups")
            .kind(),
        ErrorKind::UserError
    );
}

#[test]
fn state_that_nobody_claims_refuses_with_a_list_or_is_named_as_dropped() {
    let snapshot = savepoint(&MemoryFs::default(), &[]);
    let mut changed = plan(2);
    changed.operators.retain(|operator| operator.uid == uid("map"));
    changed.operators.push(operator("new", 1, 2, 8));
    let error = open(&snapshot, &changed).expect_err("two operators are gone");
    assert_eq!(error.kind(), ErrorKind::UserError);
    let path = snapshot.path();
    expect![[r#"
        snapshot 'PATH' does not fit the job:
          dropped: operator 'The count' (uid 'count'): sum (24 bytes)
          dropped: operator 'The source' (uid 'source'): all, rules, split enumerator, splits (20 bytes)
          reused: 'map'
          rebuilt (begins empty): 'new'
        give the operators of dropped state their uids back, or allow non-restored state ('execution.state-recovery.ignore-unclaimed-state') to leave it behind"#]].assert_eq(&error.to_string().replace(&path, "PATH"));
    let options = RestoreOptions { allow_non_restored_state: true };
    let restored = RestoredState::open(&snapshot, &changed, options).expect("allowed");
    expect![[r#"
        snapshot 'PATH': 1 operators reused, 1 added
          dropped: operator 'The count' (uid 'count'): sum (24 bytes)
          dropped: operator 'The source' (uid 'source'): all, rules, split enumerator, splits (20 bytes)"#]]
    .assert_eq(&restored.report().to_string().replace(&path, "PATH"));
    assert_eq!(restored.report().added, [uid("new")]);
    assert_eq!(restored.subtask(&uid("new"), SubtaskIndex(0)).expect("fine"), None);
    assert_eq!(restored.subtask(&uid("count"), SubtaskIndex(0)).expect("fine"), None);
}

#[test]
fn an_operator_without_state_may_go() {
    let mut changed = plan(2);
    changed.operators.retain(|operator| operator.uid != uid("map"));
    open(&savepoint(&MemoryFs::default(), &[]), &changed).expect("nothing is lost");
}

#[test]
fn another_chaining_changes_nothing() {
    let mut changed = plan(2);
    for operator in &mut changed.operators {
        operator.vertex = VertexId(5);
    }
    let restored = open(&savepoint(&MemoryFs::default(), &[]), &changed).expect("uids count, not places");
    assert_eq!(restored.report().reused.len(), 3);
}

#[test]
fn another_number_of_key_groups_refuses_and_says_what_to_set() {
    let snapshot = savepoint(&MemoryFs::default(), &[]);
    let mut changed = plan(2);
    for operator in &mut changed.operators {
        operator.max_parallelism = 16;
    }
    let error = open(&snapshot, &changed).expect_err("8 are not 16");
    assert_refused(
        &error,
        "operator 'The count' (uid 'count') has keyed state in 8 key groups and the job has 16: set the max parallelism \
         of the operator, or 'pipeline.max-parallelism', to 8",
    );
    changed.operators[2].max_parallelism = 8;
    open(&snapshot, &changed).expect("the others have no keyed state");
}

#[test]
fn what_had_finished_is_restored_as_finished() {
    let all = [id(0, 0), id(0, 1), id(1, 0), id(1, 1)];
    let finished = |snapshot: &OpenSnapshot, parallelism: u32, name: &str| {
        let restored = open(snapshot, &plan(parallelism)).expect("it fits");
        let get =
            |subtask| restored.subtask(&uid(name), SubtaskIndex(subtask)).expect("divided").expect("known");
        (0..parallelism).map(|subtask| get(subtask).finished).collect::<Vec<_>>()
    };
    let snapshot = savepoint(&MemoryFs::default(), &all);
    assert_eq!(finished(&snapshot, 2, "count"), [true; 2]);
    assert_eq!(finished(&snapshot, 3, "count"), [true; 3]);
    // One of two sources: its operator goes on at the same parallelism, and reads on at another.
    let snapshot = savepoint(&MemoryFs::default(), &[id(0, 1)]);
    assert_eq!(finished(&snapshot, 2, "source"), [false, true]);
    assert_eq!(finished(&snapshot, 3, "source"), [false; 3]);
}

#[test]
fn keyed_state_of_which_a_part_has_finished_stays_at_its_parallelism() {
    let snapshot = savepoint(&MemoryFs::default(), &[id(1, 0)]);
    open(&snapshot, &plan(2)).expect("the same parallelism");
    let error = open(&snapshot, &plan(3)).expect_err("windows would fire twice");
    assert_refused(
        &error,
        "operator 'The count' (uid 'count') has keyed state, and 1 of its 2 subtasks have finished: it can only be restored \
         at parallelism 2",
    );
}

#[track_caller]
fn assert_refused(error: &Error, reason: &str) {
    let text = error.to_string();
    assert!(text.contains(&format!("\n  refused: {reason}\n")), "{text}");
}
