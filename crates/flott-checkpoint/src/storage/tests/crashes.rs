//! A crash at every operation on the disk, and a second one at every operation of the recovery.

use super::*;
use crate::owner::JobEnding;
use flott_env::sim::{CrashMode, Fault, FaultEffect};
use std::collections::BTreeSet;

/// What a process knows when it dies.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The newest checkpoint that was reported complete.
    complete: Option<CheckpointId>,
    /// Checkpoints whose manifest may have been written.
    tried: BTreeSet<CheckpointId>,
    /// Savepoints that were reported complete.
    savepoints: BTreeSet<String>,
}

/// One process: starts, takes two checkpoints, of which the second goes on from the first, and a savepoint, gives one up, deletes the oldest,
/// and dies at the end or before. An error is answered as the coordinator would.
fn live(disk: &MemoryFs, seed: u64, known: &mut Known) -> Result<()> {
    let (_, storage) = process(disk, seed);
    let Started { owner, restore_from, mut retained, next_checkpoint_id, .. } =
        storage.start(StartFrom::Latest)?;
    check_base(restore_from.as_ref(), known);
    check_retained(&storage, &retained);
    // May fail without harm.
    let _unused = owner.collect_garbage();
    let mut next = next_checkpoint_id.0;
    let mut base = None;
    for kind in [CheckpointKind::Checkpoint, CheckpointKind::Savepoint, CheckpointKind::Checkpoint] {
        let id = CheckpointId(next);
        next += 1;
        let base_of_kind = base.as_ref().filter(|_| !kind.is_savepoint());
        let Ok(request) = write_parts_over(&owner, id, kind, base_of_kind) else {
            let _unused = owner.discard(id, kind);
            continue;
        };
        if kind.commits() {
            known.tried.insert(id);
        }
        match owner.complete(&manifest(&owner, &request)) {
            Ok(()) if kind.commits() => {
                known.complete = Some(id);
                let _unused = owner.subsume(&retained, &[id]);
                retained = vec![id];
                base = Some(request);
            }
            Ok(()) => {
                known.savepoints.insert(owner.directory(id, kind));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Retry, "{}", error.report());
                if !kind.commits() {
                    let _unused = owner.discard(id, kind);
                }
            }
        }
    }
    let id = CheckpointId(next);
    if write_parts(&owner, id, CheckpointKind::Checkpoint).is_ok() {
        let _unused = owner.discard(id, CheckpointKind::Checkpoint);
    }
    Ok(())
}

/// What a start goes on from is whole, and not older than what was reported complete.
fn check_base(restore_from: Option<&OpenSnapshot>, known: &Known) {
    let restored = restore_from.map(check_restores);
    assert!(restored >= known.complete, "{restored:?} is older than {:?}", known.complete);
    if let Some(id) = restored {
        assert!(known.tried.contains(&id), "{id} was never tried");
    }
}

/// Everything that counts as complete is complete, also what is about to be deleted.
fn check_retained(storage: &CheckpointStorage, retained: &[CheckpointId]) {
    for id in retained {
        let (manifest, checksum) = storage.manifest(*id).expect("readable").expect("complete");
        OpenSnapshot::of_job(storage, manifest, checksum).verify().expect("all files are whole");
    }
}

/// After any number of crashes: a process starts, works, and nothing is left that nobody needs.
fn check_recovers(disk: &MemoryFs, seed: u64, known: &mut Known) {
    for savepoint in &known.savepoints {
        let path = format!("{SAVEPOINTS}/{savepoint}");
        let opened =
            crate::restore::open_snapshot(&process(disk, seed).0, Path::new(&path)).expect("a savepoint");
        check_restores(&opened);
    }
    live(disk, seed + 1, known).expect("nothing fails any more");
    let storage = process(disk, seed + 2).1;
    let started = storage.start(StartFrom::Latest).expect("started");
    check_base(started.restore_from.as_ref(), known);
    started.owner.collect_garbage().expect("collected");
    check_no_orphans(disk, &storage, &started.retained);
    assert_eq!(started.retained.len(), 1);
}

/// There are the files of these checkpoints, with those that they go on from, and no others.
fn check_no_orphans(disk: &MemoryFs, storage: &CheckpointStorage, retained: &[CheckpointId]) {
    let mut needed = BTreeSet::new();
    for id in retained {
        let (manifest, _) = storage.manifest(*id).expect("readable").expect("complete");
        let named = manifest.files().into_iter().map(|file| file.path.clone());
        let manifest = format!("{}/{MANIFEST_NAME}", storage.dir(*id));
        needed.extend(named.chain([manifest]).map(|file| file.replace(&JOB.to_string(), "checkpoints/job")));
    }
    let is_record = |file: &String| file.starts_with("checkpoints/job/owner-") && !file.contains(".tmp-");
    let is_other = |file: &String| is_record(file) || file.starts_with("savepoints/");
    let found: BTreeSet<_> = files(disk).into_iter().filter(|file| !is_other(file)).collect();
    assert_eq!(found, needed);
}

const KINDS: [(FaultEffect, bool); 5] = [
    (FaultEffect::Before, true),
    (FaultEffect::After, true),
    (FaultEffect::AppliedButError, true),
    // The process lives on: an error or a lost answer, and then a crash at its end.
    (FaultEffect::Before, false),
    (FaultEffect::AppliedButError, false),
];

const MODES: [CrashMode; 4] =
    [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Random(1), CrashMode::Random(2)];

/// A disk with the past of two processes, so that there is something to restore and to delete.
fn disk_with_past() -> (MemoryFs, Known) {
    let (disk, mut known) = (MemoryFs::default(), Known::default());
    for seed in [100, 200] {
        live(&disk, seed, &mut known).expect("nothing fails");
        disk.crash(CrashMode::LoseUnsynced);
    }
    (disk, known)
}

/// Lives with a fault and crashes; how many operations it took.
fn live_and_die(disk: &MemoryFs, seed: u64, fault: Option<Fault>, mode: CrashMode, known: &mut Known) -> u64 {
    disk.set_fault(fault);
    let before = disk.operations();
    let result = live(disk, seed, known);
    assert!(result.is_ok() || fault.is_some(), "{result:?}");
    let taken = disk.operations() - before;
    disk.crash(mode);
    taken
}

fn count_operations(past: &MemoryFs, of_past: &Known) -> u64 {
    live_and_die(&past.fork(), 300, None, CrashMode::KeepUnsynced, &mut of_past.clone())
}

/// One life for every operation and mode.
fn sweep(effect: FaultEffect, halts: bool) {
    let (past, of_past) = disk_with_past();
    let n_operations = count_operations(&past, &of_past);
    assert!(n_operations > 80, "{n_operations}");
    for mode in MODES {
        for at in 0..n_operations {
            let (disk, mut known) = (past.fork(), of_past.clone());
            let fault = Fault { at: disk.operations() + at, effect, halts };
            live_and_die(&disk, 300, Some(fault), mode, &mut known);
            check_recovers(&disk, 400, &mut known);
        }
    }
}

#[test]
fn a_crash_before_any_operation_loses_nothing_that_was_complete_and_restores_nothing_that_was_not() {
    sweep(FaultEffect::Before, true);
}

#[test]
fn a_crash_after_any_operation_loses_nothing_that_was_complete_and_restores_nothing_that_was_not() {
    sweep(FaultEffect::After, true);
}

#[test]
fn a_crash_with_an_answer_lost_loses_nothing_that_was_complete_and_restores_nothing_that_was_not() {
    sweep(FaultEffect::AppliedButError, true);
}

#[test]
fn an_operation_that_fails_loses_nothing_that_was_complete_and_restores_nothing_that_was_not() {
    sweep(FaultEffect::Before, false);
}

#[test]
fn an_answer_that_is_lost_loses_nothing_that_was_complete_and_restores_nothing_that_was_not() {
    sweep(FaultEffect::AppliedButError, false);
}

#[test]
fn a_second_crash_at_any_operation_of_the_recovery_changes_nothing() {
    let (past, of_past) = disk_with_past();
    let n_operations = count_operations(&past, &of_past);
    let mut n_pairs = 0;
    for first in (0..n_operations).step_by(3) {
        // In step with the first, so that over all of them each operation meets each effect.
        for second in ((first % 5)..n_operations).step_by(5) {
            let (disk, mut known) = (past.fork(), of_past.clone());
            for (round, at) in [first, second].into_iter().enumerate() {
                let number = (first + second) as usize + round;
                let (effect, halts) = KINDS[number % KINDS.len()];
                let fault = Fault { at: disk.operations() + at, effect, halts };
                let mode = MODES[(number / KINDS.len()) % MODES.len()];
                live_and_die(&disk, 300 + 10 * round as u64, Some(fault), mode, &mut known);
            }
            check_recovers(&disk, 400, &mut known);
            n_pairs += 1;
        }
    }
    assert!(n_pairs > 500, "{n_pairs}");
}

#[test]
fn a_crash_while_a_job_ends_leaves_it_running_or_ended_and_no_orphans() {
    let (past, of_past) = disk_with_past();
    let end = |disk: &MemoryFs| {
        let before = disk.operations();
        let started = process(disk, 300).1.start(StartFrom::Latest);
        let ended =
            started.and_then(|started| started.owner.end(false, Some(JobEnding::new(false, 0, None))));
        (disk.operations() - before, ended)
    };
    let (n_operations, ended) = end(&past.fork());
    ended.expect("nothing fails");
    let mut seen = BTreeSet::new();
    for (effect, halts) in KINDS {
        for mode in MODES {
            for at in 0..n_operations {
                let disk = past.fork();
                disk.set_fault(Some(Fault { at: disk.operations() + at, effect, halts }));
                let (_, ended) = end(&disk);
                disk.crash(mode);
                let storage = process(&disk, 301).1;
                // Ended and said, or not ended and going on: nothing is between.
                let unheard = storage.unreported_end(&StartFrom::Latest).expect("readable");
                assert!(ended.is_err() || unheard.is_some(), "a job that had ended is run again");
                if let Some(unheard) = unheard {
                    unheard.report.told().expect("recorded");
                }
                let started = storage.start(StartFrom::Latest).expect("started");
                let restored = started.restore_from.as_ref().map(check_restores);
                assert!(restored.is_none() || restored == of_past.complete);
                assert!(restored.is_none() || ended.is_err(), "a job that had ended goes on");
                seen.insert(restored);
                started.owner.collect_garbage().expect("collected");
                check_no_orphans(&disk, &storage, &started.retained);
            }
        }
    }
    assert_eq!(seen.len(), 2, "both were seen");
}

/// The sweep sees what it is to see: without the directory's sync it fails.
#[test]
fn without_a_sync_a_complete_checkpoint_would_be_lost() {
    let (disk, mut known) = disk_with_past();
    disk.record(true);
    let (_, storage) = process(&disk, 300);
    let started = storage.start(StartFrom::Latest).expect("started");
    known.tried.insert(started.next_checkpoint_id);
    take(&started.owner, started.next_checkpoint_id, CheckpointKind::Checkpoint).expect("complete");
    let names: Vec<_> = disk.recorded().into_iter().map(|operation| operation.name).collect();
    let put = ["create", "write", "sync", "hard_link", "remove", "sync_dir", "sync_dir"];
    assert!(names.ends_with(&put), "the last thing is a published manifest: {names:?}");

    // The same without the last step.
    let (disk, _) = disk_with_past();
    let owner = process(&disk, 300).1.start(StartFrom::Latest).expect("started").owner;
    let id = started.next_checkpoint_id;
    let request = write_parts(&owner, id, CheckpointKind::Checkpoint).expect("written");
    let fault = Fault { at: disk.operations() + 5, effect: FaultEffect::Before, halts: true };
    disk.set_fault(Some(fault));
    owner.complete(&manifest(&owner, &request)).expect_err("it died");
    disk.crash(CrashMode::LoseUnsynced);
    let restarted = process(&disk, 301).1.start(StartFrom::Latest).expect("started");
    assert!(check_restores(&restarted.restore_from.expect("an older one")) < id);
}
