//! `_SUCCESS` comes when all subtasks have passed the end of a partition and committed its files, not before.

use super::harness::{self, Attempt, BASE, visible};
use crate::{FileSink, PartitionCommit, RollingPolicy};
use flott_api::{Committable, CommittableId, Sink, SinkContext, SinkWriter};
use flott_env::sim::{CrashMode, MemoryFs, Simulation};
use flott_testkit::sink_steps::SinkCheckpoint;
use flott_types::{CheckpointId, RecordBatch, SubtaskIndex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Partitions `even` and `odd`, which end at 100 and 200.
fn sink() -> FileSink<String> {
    let end = |partition: &str| match partition {
        "even" => Some(100),
        "odd" => Some(200),
        _ => None,
    };
    FileSink::lines(BASE)
        .rolling(RollingPolicy::never())
        .partition_by(|record: &String| record.split('-').next().unwrap_or_default().to_owned())
        .partition_commit(PartitionCommit::on_watermark(end))
}

fn start(disk: &MemoryFs, parallelism: u32, run: u64, from: Option<&SinkCheckpoint>) -> Attempt {
    harness::start(&sink(), disk, parallelism, run, from).expect("starts")
}

fn complete(disk: &MemoryFs) -> Vec<String> {
    let of = |name: &String| name.strip_suffix("/_SUCCESS").map(str::to_owned);
    visible(disk).keys().filter_map(of).collect()
}

#[test]
fn a_partition_is_complete_when_the_last_subtask_has_committed_it() {
    let disk = MemoryFs::default();
    let mut attempt = start(&disk, 2, 1, None);
    attempt.write().expect("written");
    attempt.watermark(0, 99).expect("passed");
    attempt.watermark(1, 98).expect("not yet");
    attempt.barrier(1, false).expect("prepared");
    attempt.commit().expect("committed");
    assert_eq!(complete(&disk), [""; 0]);
    attempt.watermark(1, 99).expect("passed");
    attempt.barrier(2, false).expect("prepared");
    attempt.subtasks[0].commit().expect("committed");
    assert_eq!(
        complete(&disk),
        [""; 0],
        "the other has passed the end, but not committed what it had before"
    );
    attempt.subtasks[1].commit().expect("committed");
    assert_eq!(complete(&disk), ["even"]);
    attempt.finish().expect("finished");
    attempt.barrier(3, true).expect("prepared");
    attempt.subtasks[1].commit().expect("committed");
    attempt.subtasks[0].commit().expect("committed");
    assert_eq!(complete(&disk), ["even", "odd"], "at the end all are, also if who waits was not the last");
    disk.crash(CrashMode::LoseUnsynced);
    assert_eq!(complete(&disk), ["even", "odd"]);
}

#[test]
fn success_is_said_after_the_files_are_durable() {
    let disk = MemoryFs::default();
    let mut attempt = start(&disk, 1, 1, None);
    attempt.write().expect("written");
    attempt.watermark(0, 250).expect("passed");
    attempt.barrier(1, false).expect("prepared");
    disk.record(true);
    attempt.commit().expect("committed");
    let order: Vec<String> = disk
        .recorded()
        .iter()
        .filter(|operation| operation.path.starts_with(format!("{BASE}/even")))
        .map(|operation| operation.name.to_owned())
        .collect();
    assert_eq!(order, ["create_dir_all", "hard_link", "sync_dir", "create", "sync", "sync_dir"]);
}

#[test]
fn partitions_that_wait_are_remembered_whatever_fails_and_however_many_subtasks_go_on() {
    for (before, after) in [(2, 2), (2, 1), (1, 3), (3, 2)] {
        let disk = MemoryFs::default();
        let mut attempt = start(&disk, before, 1, None);
        attempt.write().expect("written");
        (0..before as usize).for_each(|idx| attempt.watermark(idx, 150).expect("passed"));
        let checkpoint = attempt.barrier(1, false).expect("prepared");
        drop(attempt);
        disk.crash(CrashMode::LoseUnsynced);
        // What was committed by others than those who have passed the end says nothing in this attempt.
        let mut attempt = start(&disk, after, 2, Some(&checkpoint));
        assert_eq!(complete(&disk), [""; 0]);
        (0..after as usize).for_each(|idx| attempt.watermark(idx, 150).expect("passed"));
        attempt.barrier(2, false).expect("prepared");
        attempt.commit().expect("committed");
        assert_eq!(complete(&disk), ["even"], "from {before} to {after}");
        attempt.finish().expect("finished");
        let last = attempt.barrier(3, true).expect("prepared");
        attempt.subtasks[0].commit().expect("committed");
        drop(attempt);
        disk.crash(CrashMode::LoseUnsynced);
        let mut attempt = start(&disk, after, 3, Some(&last));
        attempt.finish().expect("finished");
        attempt.barrier(4, true).expect("prepared");
        attempt.commit().expect("committed");
        assert_eq!(complete(&disk), ["even", "odd"], "from {before} to {after}");
    }
}

#[test]
fn by_process_time_a_partition_is_complete_so_long_after_it_was_begun() {
    let disk = MemoryFs::default();
    let simulation = Simulation::new(1).with_disk(disk.clone());
    let env = simulation.env();
    let calls = Arc::new(AtomicU32::new(0));
    let of_policy = Arc::clone(&calls);
    let policy = PartitionCommit::on_process_time().delay(Duration::from_hours(1)).policy(move |directory| {
        assert!(directory.ends_with("even"), "{}", directory.display());
        // Once it fails, and is called again with the next commit.
        if of_policy.fetch_add(1, Ordering::Relaxed) == 0 { Err("not now".into()) } else { Ok(()) }
    });
    let sink = FileSink::lines(BASE).partition_by(|_: &String| "even").partition_commit(policy);
    let mut ctx = SinkContext::new(env.clone(), SubtaskIndex(0), 1, 1);
    ctx.has_checkpoints = true;
    let mut writer = sink.create_writer(ctx.clone()).expect("a writer");
    let mut committer = sink.create_committer(ctx).expect("a committer").expect("one");
    writer.restore(Vec::new(), None).expect("restored");
    let mut checkpoint = |id: u64| {
        writer.write(RecordBatch::untimed(vec!["0".to_owned()])).expect("written");
        let prepared = writer.prepare_commit(CheckpointId(id), false).expect("prepared");
        let committable = |payload| {
            let (subtask, checkpoint_id) = (SubtaskIndex(0), CheckpointId(id));
            Committable { id: CommittableId(u128::from(id)), checkpoint_id, subtask, payload }
        };
        let committables: Vec<_> = prepared.into_iter().map(committable).collect();
        committer.commit(&committables).map_err(|error| error.to_string())
    };
    let wait = |time: Duration| simulation.run(env.sleep(time)).expect("it ends");
    assert_eq!(checkpoint(1), Ok(()));
    wait(Duration::from_mins(50));
    assert_eq!(checkpoint(2), Ok(()));
    assert_eq!(complete(&disk), [""; 0], "a later record does not put it off, but it is not an hour yet");
    wait(Duration::from_mins(11));
    assert!(checkpoint(3).expect_err("the policy refuses").contains("not now"));
    assert_eq!(complete(&disk), [""; 0]);
    assert_eq!(checkpoint(4), Ok(()));
    assert_eq!((complete(&disk), calls.load(Ordering::Relaxed)), (vec!["even".to_owned()], 2));
}
