//! What is where, when nothing goes wrong.

use super::*;
use crate::owner::JobEnding;
use crate::restore::open_snapshot;
use expect_test::expect;
use flott_env::FileSystem;
use flott_env::sim::CrashMode;

const CHECKPOINT: CheckpointKind = CheckpointKind::Checkpoint;

#[test]
fn checkpoints_and_savepoints_are_where_flink_has_them() {
    let disk = MemoryFs::default();
    let (_, storage) = process(&disk, 1);
    let Started { owner, restore_from, retained, next_checkpoint_id, .. } =
        storage.start(StartFrom::Latest).expect("started");
    assert!(restore_from.is_none() && retained.is_empty());
    assert_eq!(next_checkpoint_id, CheckpointId(1));
    take(&owner, CheckpointId(1), CHECKPOINT).expect("complete");
    take(&owner, CheckpointId(2), CheckpointKind::Savepoint).expect("complete");
    expect![[r#"
        checkpoints/job/chk-1/0-0.g1
        checkpoints/job/chk-1/0-1.g1
        checkpoints/job/chk-1/_metadata
        checkpoints/job/owner-1
        checkpoints/job/owner-1.start
        savepoints/savepoint-abcdef-28774723d06f/0-0.g1
        savepoints/savepoint-abcdef-28774723d06f/0-1.g1
        savepoints/savepoint-abcdef-28774723d06f/_metadata
    "#]]
    .assert_eq(&(files(&disk).join("\n") + "\n"));
    let directory = owner.directory(CheckpointId(2), CheckpointKind::Savepoint);
    assert!(files(&disk).contains(&format!("savepoints/{directory}/_metadata")), "every subtask can tell it");
}

#[test]
fn a_restart_goes_on_from_the_newest_checkpoint_and_numbers_go_on() {
    let disk = MemoryFs::default();
    let started = process(&disk, 1).1.start(StartFrom::Latest).expect("started");
    for id in 1..=2 {
        take(&started.owner, CheckpointId(id), CHECKPOINT).expect("complete");
    }
    // Under way when the process dies.
    write_parts(&started.owner, CheckpointId(3), CHECKPOINT).expect("written");
    take(&started.owner, CheckpointId(4), CheckpointKind::Savepoint).expect("complete");

    let (_, storage) = process(&disk, 2);
    let restarted = storage.start(StartFrom::Latest).expect("started");
    assert_eq!(check_restores(&restarted.restore_from.expect("there is one")), CheckpointId(2));
    assert_eq!(restarted.retained, [CheckpointId(1), CheckpointId(2)]);
    assert_eq!(restarted.next_checkpoint_id, CheckpointId(4));
    assert_eq!(restarted.owner.generation(), Generation(2));
    assert_eq!(restarted.owner.collect_garbage().expect("collected"), 2, "the parts of checkpoint 3");

    take(&restarted.owner, CheckpointId(4), CHECKPOINT).expect("complete");
    restarted.owner.subsume(&restarted.retained, &[]).expect("deleted");
    let latest = storage.latest().expect("readable").expect("there is one");
    assert_eq!(check_restores(&latest), CheckpointId(4));
    let left: Vec<_> = files(&disk).into_iter().filter(|file| file.contains("chk-")).collect();
    assert_eq!(
        left,
        ["chk-4/0-0.g2", "chk-4/0-1.g2", "chk-4/_metadata"].map(|n| format!("checkpoints/job/{n}"))
    );
}

#[test]
fn a_job_that_has_ended_begins_anew_and_leaves_retained_checkpoints_to_the_user() {
    for retain in [false, true] {
        let disk = MemoryFs::default();
        let started = process(&disk, 1).1.start(StartFrom::Latest).expect("started");
        take(&started.owner, CheckpointId(1), CHECKPOINT).expect("complete");
        started.owner.end(retain, None).expect("ended");
        let again = process(&disk, 2).1.start(StartFrom::Latest).expect("started");
        assert!(again.restore_from.is_none());
        again.owner.collect_garbage().expect("collected");
        take(&again.owner, again.next_checkpoint_id, CHECKPOINT).expect("complete");
        if retain {
            let path = format!("{CHECKPOINTS}/{JOB}/chk-1");
            let kept = open_snapshot(&process(&disk, 3).0, Path::new(&path)).expect("kept");
            assert_eq!(check_restores(&kept), CheckpointId(1));
        } else {
            assert_eq!(again.next_checkpoint_id, CheckpointId(1), "nothing is left");
        }
    }
}

#[test]
fn an_end_is_said_until_somebody_has_heard_of_it() {
    let disk = MemoryFs::default();
    let first = process(&disk, 1).1.start(StartFrom::Latest).expect("started");
    take(&first.owner, CheckpointId(1), CheckpointKind::Savepoint).expect("complete");
    let path = format!("{SAVEPOINTS}/{}", first.owner.directory(CheckpointId(1), CheckpointKind::Savepoint));
    let named = |seed| {
        let (env, storage) = process(&disk, seed);
        let snapshot = open_snapshot(&env, Path::new(&path)).expect("it is whole");
        (storage, StartFrom::Snapshot(snapshot))
    };
    let ending = JobEnding::new(false, 3, Some("savepoint-1".to_owned()));
    first.owner.end(false, Some(ending.clone())).expect("ended");
    for seed in 2..4 {
        let storage = process(&disk, seed).1;
        let ended =
            storage.unreported_end(&StartFrom::Latest).expect("readable").expect("nobody has heard of it");
        assert_eq!(ended.ending, ending);
        let error = storage.start(StartFrom::Latest).expect_err("what it was to do is done");
        assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    }
    // To start from a savepoint is another order than to start from nothing.
    let (storage, from) = named(4);
    assert!(storage.unreported_end(&from).expect("readable").is_none());
    let second = storage.start(from).expect("started");
    second.owner.end(true, Some(ending.clone())).expect("ended");
    let (storage, from) = named(5);
    let ended = storage.unreported_end(&from).expect("readable").expect("the same order");
    assert_eq!(ended.ending.restarts, 3);
    ended.report.told().expect("recorded");
    ended.report.told().expect("again");
    second.owner.end_report().told().expect("by two");
    assert!(storage.unreported_end(&from).expect("readable").is_none());
    assert!(storage.start(StartFrom::Latest).expect("begins anew").restore_from.is_none());
}

#[test]
fn the_same_command_starts_from_a_savepoint_once_and_then_goes_on() {
    let disk = MemoryFs::default();
    let first = process(&disk, 1).1.start(StartFrom::Latest).expect("started");
    take(&first.owner, CheckpointId(1), CheckpointKind::Savepoint).expect("complete");
    take(&first.owner, CheckpointId(2), CHECKPOINT).expect("complete");
    let path = format!("{SAVEPOINTS}/{}", first.owner.directory(CheckpointId(1), CheckpointKind::Savepoint));
    let start = |seed| {
        let (env, storage) = process(&disk, seed);
        let snapshot = open_snapshot(&env, Path::new(&path)).expect("it is whole");
        let started = storage.start(StartFrom::Snapshot(snapshot)).expect("started");
        let restored = check_restores(started.restore_from.as_ref().expect("from something"));
        started.owner.collect_garbage().expect("collected");
        (started, restored)
    };
    let (second, restored) = start(2);
    assert_eq!(restored, CheckpointId(1));
    assert_eq!(second.next_checkpoint_id, CheckpointId(3), "larger than any there is");
    let (third, restored) = start(3);
    assert_eq!(restored, CheckpointId(1), "nothing was complete since");
    take(&third.owner, third.next_checkpoint_id, CHECKPOINT).expect("complete");
    let (fourth, restored) = start(4);
    assert_eq!(restored, third.next_checkpoint_id, "not back to the savepoint");
    take(&fourth.owner, fourth.next_checkpoint_id, CHECKPOINT).expect("complete");
    assert_eq!(start(5).1, fourth.next_checkpoint_id);
}

#[test]
fn a_claimed_savepoint_is_the_jobs_first_checkpoint_and_goes_as_such() {
    let disk = MemoryFs::default();
    let first = process(&disk, 1).1.start(StartFrom::Latest).expect("started");
    take(&first.owner, CheckpointId(1), CheckpointKind::Savepoint).expect("complete");
    first.owner.end(false, None).expect("ended");
    let path = format!("{SAVEPOINTS}/{}", first.owner.directory(CheckpointId(1), CheckpointKind::Savepoint));
    let place = Location::from(Path::new(&path));
    let snapshot = |env: &Env| open_snapshot(env, Path::new(&path)).and_then(|it| it.claim(env, JOB));

    // Also if the job starts several times before it has a checkpoint of its own.
    for seed in 2..4 {
        let (env, storage) = process(&disk, seed);
        let from = StartFrom::Snapshot(snapshot(&env).expect("it is there"));
        let started = storage.start(from).expect("started");
        assert_eq!(check_restores(&started.restore_from.expect("it")), CheckpointId(1));
        assert_eq!(started.retained, [CheckpointId(1)]);
    }
    let (env, storage) = process(&disk, 4);
    assert!(storage.has_claimed(&place).expect("readable"));
    let started = storage.start(StartFrom::Latest).expect("started");
    take(&started.owner, CheckpointId(2), CHECKPOINT).expect("complete");
    // A crash in the middle of the deletion: the manifest is gone, the parts are not.
    disk.remove(&Path::new(&path).join("_metadata")).expect("removed");
    snapshot(&env).expect_err("it is not complete any more");
    let started = storage.start(StartFrom::Claimed(place.clone())).expect("started");
    assert_eq!(check_restores(&started.restore_from.expect("its own")), CheckpointId(2));
    assert_eq!(started.retained, [CheckpointId(1), CheckpointId(2)]);
    started.owner.subsume(&[CheckpointId(1)], &[]).expect("deleted");
    assert!(!files(&disk).iter().any(|file| file.contains("savepoint-")), "{:?}", files(&disk));
    // The same command goes on, until the job has ended and somebody knows that.
    let started = storage.start(StartFrom::Claimed(place.clone())).expect("started");
    assert_eq!(started.retained, [CheckpointId(2)]);
    started.owner.end(false, Some(JobEnding::new(false, 0, None))).expect("ended");
    assert!(storage.has_claimed(&place).expect("readable"));
    assert!(storage.unreported_end(&StartFrom::Claimed(place.clone())).expect("readable").is_some());
    started.owner.end_report().told().expect("recorded");
    assert!(!storage.has_claimed(&place).expect("readable"));
    assert_eq!(
        storage.start(StartFrom::Claimed(place)).expect_err("there is nothing").kind(),
        ErrorKind::UserError
    );
}

#[test]
fn a_claimed_savepoint_goes_with_the_job_unless_checkpoints_are_retained() {
    for retain in [false, true] {
        let disk = MemoryFs::default();
        let first = process(&disk, 1).1.start(StartFrom::Latest).expect("started");
        take(&first.owner, CheckpointId(1), CheckpointKind::Savepoint).expect("complete");
        first.owner.end(false, None).expect("ended");
        let path =
            format!("{SAVEPOINTS}/{}", first.owner.directory(CheckpointId(1), CheckpointKind::Savepoint));
        let (env, storage) = process(&disk, 2);
        let snapshot = open_snapshot(&env, Path::new(&path)).and_then(|it| it.claim(&env, JOB));
        // What somebody has put beside it is not the job's, and in nobody's way.
        let note = Path::new(&path).join("note.txt");
        disk.create(&note).expect("created").sync().expect("synced");
        // What a failed write has left is nobody's, and goes with it.
        let torn = Path::new(&path).join(".tmp-1-1");
        disk.create(&torn).expect("created").sync().expect("synced");
        let started = storage.start(StartFrom::Snapshot(snapshot.expect("claimed"))).expect("started");
        if !retain {
            take(&started.owner, started.next_checkpoint_id, CHECKPOINT).expect("complete");
            started.owner.subsume(&started.retained, &[]).expect("deleted");
            assert_eq!(
                storage.start(StartFrom::Latest).expect("started").retained,
                [started.next_checkpoint_id]
            );
        }
        let owner = storage.start(StartFrom::Latest).expect("started").owner;
        assert!(owner.end(retain, None).expect("ended").is_empty());
        assert_eq!(open_snapshot(&env, Path::new(&path)).is_ok(), retain);
        assert_eq!(disk.metadata(&torn).is_ok(), retain);
        disk.metadata(&note).expect("it is still there");
    }
}

#[test]
fn a_checkpoint_of_a_job_that_goes_on_cannot_be_claimed_by_another() {
    let disk = MemoryFs::default();
    let (env, storage) = process(&disk, 1);
    let started = storage.start(StartFrom::Latest).expect("started");
    take(&started.owner, CheckpointId(1), CHECKPOINT).expect("complete");
    let path = format!("{CHECKPOINTS}/{JOB}/chk-1");
    let open = || open_snapshot(&env, Path::new(&path)).expect("it is there");
    let refused = open().claim(&env, JobId(2)).expect_err("it is in use").to_string();
    assert!(refused.contains("cannot claim") && refused.contains("NO_CLAIM"), "{refused}");
    open().claim(&env, JOB).expect("a job may go back to a checkpoint of its own");
    started.owner.end(true, None).expect("ended");
    open().claim(&env, JobId(2)).expect("it is the user's");
}

#[test]
fn a_savepoint_that_stops_the_job_is_what_a_crash_during_its_commit_goes_on_from() {
    for kind in [CheckpointKind::SavepointSuspend, CheckpointKind::SavepointTerminate] {
        let disk = MemoryFs::default();
        let started = process(&disk, 1).1.start(StartFrom::Latest).expect("started");
        take(&started.owner, CheckpointId(1), CHECKPOINT).expect("complete");
        take(&started.owner, CheckpointId(2), kind).expect("complete");
        started.owner.subsume(&[CheckpointId(1)], &[]).expect("deleted");
        let restarted = process(&disk, 2).1.start(StartFrom::Latest).expect("started");
        assert_eq!(check_restores(&restarted.restore_from.expect("there is one")), CheckpointId(2));
        take(&restarted.owner, CheckpointId(3), CHECKPOINT).expect("complete");
        restarted.owner.subsume(&restarted.retained, &[]).expect("deleted");
        restarted.owner.collect_garbage().expect("collected");
        let savepoint = started.owner.directory(CheckpointId(2), kind);
        let path = PathBuf::from(format!("{SAVEPOINTS}/{savepoint}/_metadata"));
        let opened = open_snapshot(&process(&disk, 3).0, &path).expect("it is the user's");
        assert_eq!(check_restores(&opened), CheckpointId(2));
    }
}

#[test]
fn a_savepoint_can_be_moved() {
    let disk = MemoryFs::default();
    let (env, storage) = process(&disk, 1);
    let started = storage.start(StartFrom::Latest).expect("started");
    take(&started.owner, CheckpointId(1), CheckpointKind::Savepoint).expect("complete");
    env.fs().create_dir_all(Path::new("/elsewhere/mine")).expect("created");
    for path in disk.files().into_keys().filter(|path| path.starts_with(SAVEPOINTS)) {
        let target = Path::new("/elsewhere/mine").join(path.file_name().expect("a file"));
        env.fs().rename(&path, &target).expect("moved");
    }
    let moved = open_snapshot(&env, Path::new("/elsewhere/mine")).expect("it is whole");
    moved.verify().expect("all files are there");
    assert_eq!(check_restores(&moved), CheckpointId(1));
}

#[test]
fn aborted_checkpoints_and_late_parts_leave_nothing() {
    let disk = MemoryFs::default();
    let owner = process(&disk, 1).1.start(StartFrom::Latest).expect("started").owner;
    let before = files(&disk);
    for kind in [CHECKPOINT, CheckpointKind::Savepoint, CheckpointKind::SavepointTerminate] {
        let request = write_parts(&owner, CheckpointId(1), kind).expect("written");
        owner.discard(CheckpointId(1), kind).expect("deleted");
        assert_eq!(files(&disk), before);
        write_parts(&owner, CheckpointId(1), kind).expect("written too late");
        let late: Vec<_> = request.parts.into_values().filter_map(|part| part.file).collect();
        owner.delete_files(&late).expect("deleted");
        owner.delete_files(&late).expect("gone already");
        assert_eq!(files(&disk), before);
    }
}

#[test]
fn a_part_can_be_written_again_but_never_another_one_in_its_place() {
    let disk = MemoryFs::default();
    let owner = process(&disk, 1).1.start(StartFrom::Latest).expect("started").owner;
    let [subtask, _] = subtasks();
    let write = |at| {
        owner.write_part(CheckpointId(1), CHECKPOINT, subtask, &[(uid(), state(CheckpointId(at), subtask))])
    };
    let handle = write(1).expect("written");
    assert_eq!(write(1).expect("written already"), handle);
    assert_eq!(write(2).expect_err("another content").kind(), ErrorKind::Retry);
}

#[test]
fn on_a_real_disk_it_is_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let env = Env::real().expect("threads");
    let open = || {
        let (checkpoints, savepoints) = (folder.path().join("not/yet/c"), folder.path().join("s"));
        CheckpointStorage::local(&env, &checkpoints, &savepoints, JOB)
    };
    let first = open().start(StartFrom::Latest).expect("started");
    take(&first.owner, CheckpointId(1), CHECKPOINT).expect("complete");
    take(&first.owner, CheckpointId(2), CheckpointKind::Savepoint).expect("complete");
    write_parts(&first.owner, CheckpointId(3), CHECKPOINT).expect("written");
    let second = open().start(StartFrom::Latest).expect("started");
    assert_eq!(check_restores(&second.restore_from.expect("there is one")), CheckpointId(1));
    assert_eq!(
        take(&first.owner, CheckpointId(3), CHECKPOINT).expect_err("fenced").kind(),
        ErrorKind::Fenced
    );
    take(&second.owner, second.next_checkpoint_id, CHECKPOINT).expect("complete");
    second.owner.subsume(&second.retained, &[]).expect("deleted");
    assert_eq!(second.owner.collect_garbage().expect("collected"), 2);
    let dir = folder.path().join("not/yet/c").join(JOB.to_string());
    let names = list(&LocalStore::new(env.fs(), dir, 1), "").expect("listed");
    assert_eq!(names, ["chk-4", "owner-1", "owner-1.start", "owner-2", "owner-2.start"]);
}

/// Its manifest lies among the checkpoints, its files among the savepoints, which may be anywhere.
#[test]
fn the_checkpoint_of_a_stop_can_be_started_from_by_its_path() {
    let disk = MemoryFs::default();
    let (env, storage) = process(&disk, 1);
    let owner = storage.start(StartFrom::Latest).expect("started").owner;
    take(&owner, CheckpointId(1), CheckpointKind::SavepointSuspend).expect("complete");
    owner.end(true, None).expect("ended");

    let path = Path::new(CHECKPOINTS).join(storage.dir(CheckpointId(1)));
    let opened = open_snapshot(&env, &path).expect("it is whole");
    assert_eq!(check_restores(&opened), CheckpointId(1));
}

#[test]
fn a_start_makes_the_snapshot_durable_that_somebody_has_named() {
    for kind in [CHECKPOINT, CheckpointKind::Savepoint, CheckpointKind::SavepointSuspend] {
        let disk = MemoryFs::default();
        let (env, storage) = process(&disk, 1);
        let owner = storage.start(StartFrom::Latest).expect("started").owner;
        take(&owner, CheckpointId(1), kind).expect("complete");
        owner.end(true, None).expect("ended");
        // As if the writer had died before it could sync directories: their entries are made anew.
        let path = if kind == CheckpointKind::Savepoint {
            Path::new(SAVEPOINTS).join(owner.directory(CheckpointId(1), kind))
        } else {
            Path::new(CHECKPOINTS).join(storage.dir(CheckpointId(1)))
        };
        for name in disk.files().into_keys().filter(|name| name.starts_with(&path)) {
            let aside = name.with_extension("aside");
            env.fs().rename(&name, &aside).expect("moved");
            env.fs().sync_dir(&path).expect("synced");
            env.fs().rename(&aside, &name).expect("moved back");
        }

        let (env, storage) = process(&disk, 2);
        let snapshot = open_snapshot(&env, &path).expect("it is whole");
        storage.start(StartFrom::Snapshot(snapshot)).expect("started");
        disk.crash(CrashMode::LoseUnsynced);
        let again =
            process(&disk, 3).1.start(StartFrom::Latest).expect("what it went on from is still there");
        assert_eq!(check_restores(&again.restore_from.expect("from the snapshot")), CheckpointId(1));
    }
}
