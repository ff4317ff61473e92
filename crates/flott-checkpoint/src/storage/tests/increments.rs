//! Checkpoints that go on from earlier ones: their files stay as long as somebody needs them, and no longer.

use super::*;
use crate::inspect::{list_snapshots, plan_disposal, verify_snapshot, visit_operators};
use crate::restore::open_snapshot;
use expect_test::expect;
use flott_env::FileSystem;

const CHECKPOINT: CheckpointKind = CheckpointKind::Checkpoint;

/// Takes checkpoints, each of which goes on from the one before.
fn take_chain(owner: &CheckpointOwner, ids: impl Iterator<Item = u64>) {
    let mut base: Option<ManifestRequest> = None;
    for id in ids.map(CheckpointId) {
        let request = write_parts_over(owner, id, CHECKPOINT, base.as_ref()).expect("written");
        owner.complete(&manifest(owner, &request)).expect("complete");
        base = Some(request);
    }
}

fn start(disk: &MemoryFs, seed: u64) -> Started {
    process(disk, seed).1.start(StartFrom::Latest).expect("started")
}

fn ids(ids: impl IntoIterator<Item = u64>) -> Vec<CheckpointId> {
    ids.into_iter().map(CheckpointId).collect()
}

/// Files of checkpoints, of the first subtask.
fn left(disk: &MemoryFs) -> String {
    let of_first = |file: &String| file.contains("chk-") && !file.contains("0-1.g");
    let names = files(disk).into_iter().filter(of_first);
    names.map(|file| file.replace("checkpoints/job/", "") + "\n").collect()
}

#[test]
fn files_that_a_newer_checkpoint_goes_on_from_stay_until_it_goes() {
    let disk = MemoryFs::default();
    let Started { owner, .. } = start(&disk, 1);
    take_chain(&owner, 1..=3);
    owner.subsume(&ids([1, 2]), &ids([3])).expect("deleted");
    expect![[r#"
        chk-1/0-0.g1
        chk-2/0-0.g1
        chk-3/0-0.g1
        chk-3/_metadata
    "#]]
    .assert_eq(&left(&disk));
    let (env, _) = process(&disk, 3);
    let listed = list_snapshots(&env, Path::new(CHECKPOINTS)).expect("listed");
    assert_eq!(listed.len(), 1, "what 3 goes on from is a part of it");
    let of_first = Path::new(CHECKPOINTS).join(JOB.to_string()).join("chk-1");
    plan_disposal(&env, of_first.as_path()).expect_err("there is nothing of its own");
    let restarted = start(&disk, 2);
    assert_eq!(restarted.owner.collect_garbage().expect("collected"), 0);
    assert_eq!(check_restores(&restarted.restore_from.expect("there is one")), CheckpointId(3));
    take_chain(&restarted.owner, 4..=5);
    restarted.owner.subsume(&ids([3, 4]), &ids([5])).expect("deleted");
    expect![[r#"
        chk-4/0-0.g2
        chk-5/0-0.g2
        chk-5/_metadata
    "#]]
    .assert_eq(&left(&disk));
    restarted.owner.end(false, None).expect("ended");
    assert_eq!(left(&disk), "");
}

#[test]
fn files_that_nobody_goes_on_from_are_collected() {
    let disk = MemoryFs::default();
    let first = start(&disk, 1);
    take_chain(&first.owner, 1..=2);
    let request = write_parts_over(&first.owner, CheckpointId(3), CHECKPOINT, None).expect("written");
    first.owner.complete(&manifest(&first.owner, &request)).expect("complete");
    // The process dies in the middle of the deletion of 1 and 2.
    for id in [1, 2] {
        let path = format!("{CHECKPOINTS}/{JOB}/chk-{id}/_metadata");
        FileSystem::remove(&disk, Path::new(&path)).expect("removed");
    }
    let second = start(&disk, 2);
    assert_eq!(second.owner.collect_garbage().expect("collected"), 4);
    expect![[r#"
        chk-3/0-0.g1
        chk-3/_metadata
    "#]]
    .assert_eq(&left(&disk));
}

#[test]
fn a_base_that_is_missing_or_damaged_is_named() {
    for damage in [false, true] {
        let disk = MemoryFs::default();
        let Started { owner, .. } = start(&disk, 1);
        take_chain(&owner, 1..=3);
        let path = format!("{CHECKPOINTS}/{JOB}/chk-2/0-1.g1");
        if damage {
            let mut bytes = disk.files()[Path::new(&path)].clone();
            bytes[20] ^= 1;
            disk.corrupt(Path::new(&path), bytes);
        } else {
            FileSystem::remove(&disk, Path::new(&path)).expect("removed");
        }
        let (env, storage) = process(&disk, 2);
        let latest = storage.latest().expect("readable").expect("there is one");
        let by_path =
            open_snapshot(&env, Path::new(&format!("{CHECKPOINTS}/{JOB}/chk-3"))).expect("a manifest");
        for snapshot in [latest, by_path] {
            let restored = RestoredState::open(&snapshot, &plan(), RestoreOptions::default()).map(drop);
            for result in [restored, snapshot.verify(), verify_snapshot(&snapshot).map(drop)] {
                let error = result.expect_err("2 is needed");
                assert_eq!(error.kind(), ErrorKind::Corruption);
                assert!(error.to_string().contains("chk-2/0-1.g1"), "{error}");
            }
        }
    }
}

#[test]
fn changes_of_what_is_in_no_file_are_damage() {
    let disk = MemoryFs::default();
    let Started { owner, .. } = start(&disk, 1);
    take_chain(&owner, 1..=2);
    let path = format!("{CHECKPOINTS}/{JOB}/chk-2/_metadata");
    let bytes = disk.files()[Path::new(&path)].clone();
    let mut without_bases = Manifest::decode("m", &bytes).expect("whole");
    without_bases.operators[0].subtasks.iter_mut().for_each(|subtask| subtask.bases.clear());
    disk.corrupt(Path::new(&path), without_bases.encode());
    let snapshot = process(&disk, 2).1.latest().expect("readable").expect("there is one");
    let error = snapshot.verify().expect_err("the base is missing");
    let message = error.to_string().replace(&JOB.to_string(), "job");
    expect![
        "file 'job/chk-2/0-0.g1' has changes of state 'log' of operator 'counter', which is in no file before"
    ]
    .assert_eq(&message);
}

#[test]
fn a_retained_checkpoint_is_disposed_of_with_what_only_it_goes_on_from() {
    let disk = MemoryFs::default();
    let Started { owner, .. } = start(&disk, 1);
    take_chain(&owner, 1..=3);
    owner.subsume(&ids([1]), &ids([2, 3])).expect("deleted");
    owner.end(true, None).expect("ended");
    let (env, _) = process(&disk, 2);
    let dispose = |id: u64| {
        let path = format!("{CHECKPOINTS}/{JOB}/chk-{id}");
        let disposal = plan_disposal(&env, Path::new(&path)).expect("planned");
        disposal.execute(&env).expect("deleted");
    };
    dispose(2);
    expect![[r#"
        chk-1/0-0.g1
        chk-2/0-0.g1
        chk-3/0-0.g1
        chk-3/_metadata
    "#]]
    .assert_eq(&left(&disk));
    let path = format!("{CHECKPOINTS}/{JOB}/chk-3");
    let snapshot = open_snapshot(&env, Path::new(&path)).expect("a checkpoint");
    assert_eq!(check_restores(&snapshot), CheckpointId(3));
    assert_eq!(verify_snapshot(&snapshot).expect("whole").files.len(), 6);
    let mut n_operators = 0;
    visit_operators(&snapshot, |_, _, part| {
        n_operators += 1;
        assert!(part.keyed["log"].values().all(|group| group.has_changes()));
        Ok(())
    })
    .expect("readable");
    assert_eq!(n_operators, 2);
    dispose(3);
    assert_eq!(left(&disk), "");
}

#[test]
fn a_job_that_claims_a_checkpoint_deletes_it_with_its_bases() {
    let disk = MemoryFs::default();
    let first = start(&disk, 1);
    take_chain(&first.owner, 1..=3);
    first.owner.subsume(&ids([1, 2]), &ids([3])).expect("deleted");
    first.owner.end(true, None).expect("ended");
    let (env, storage) = process(&disk, 2);
    let path = format!("{CHECKPOINTS}/{JOB}/chk-3");
    let snapshot = open_snapshot(&env, Path::new(&path)).expect("there").claim(&env, JOB).expect("claimed");
    let started = storage.start(StartFrom::Snapshot(snapshot)).expect("started");
    assert_eq!(started.retained, ids([3]));
    take_chain(&started.owner, 4..=4);
    started.owner.subsume(&ids([3]), &ids([4])).expect("deleted");
    expect![[r#"
        chk-4/0-0.g2
        chk-4/_metadata
    "#]]
    .assert_eq(&left(&disk));
}
