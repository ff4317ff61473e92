//! Small files become one before anybody sees them: each record once, whatever fails, whenever.

use super::crashes::run_to_end;
use super::harness::{self, Attempt, BASE, Job, hidden, lines, records, visible};
use crate::{
    Compression, FileCompactStrategy, FileSink, FileSource, JsonFormat, PartitionCommit, RollingPolicy,
};
use flott_api::{Sink, SinkContext, SinkWriter};
use flott_env::sim::{CrashMode, Fault, FaultEffect, MemoryFs, Simulation};
use flott_testkit::sink_steps::SinkCheckpoint;
use flott_types::{CheckpointId, JobId, RecordBatch, SubtaskIndex};
use serde::{Deserialize, Serialize};

const TOTAL: u64 = 4;

fn partitioned() -> FileSink<String> {
    FileSink::lines(BASE)
        .rolling(RollingPolicy::never().max_part_size(30))
        .partition_by(|record: &String| record.split('-').next().unwrap_or_default().to_owned())
}

fn job(strategy: FileCompactStrategy, disk: MemoryFs, deaths: &[u64]) -> Job {
    let mut job = Job::new(partitioned().enable_compact(strategy), disk, TOTAL, deaths);
    job.holds_back = true;
    job
}

const STRATEGIES: [FileCompactStrategy; 3] = [
    FileCompactStrategy { checkpoints: 1, size_threshold: u64::MAX },
    FileCompactStrategy { checkpoints: 2, size_threshold: u64::MAX },
    FileCompactStrategy { checkpoints: 100, size_threshold: 120 },
];

#[test]
fn a_death_between_any_two_steps_loses_and_doubles_nothing() {
    for strategy in STRATEGIES {
        let mut undisturbed = job(strategy, MemoryFs::default(), &[]);
        run_to_end(&mut undisturbed, CrashMode::LoseUnsynced, 2);
        for first in 0..undisturbed.steps.steps {
            for second in first + 1..first + 8 {
                let mut job = job(strategy, MemoryFs::default(), &[first, second]);
                run_to_end(&mut job, CrashMode::Random(first), 2);
            }
        }
    }
}

#[test]
fn a_power_failure_at_any_operation_on_the_disk_loses_and_doubles_nothing() {
    for strategy in STRATEGIES {
        let mut undisturbed = job(strategy, MemoryFs::default(), &[]);
        run_to_end(&mut undisturbed, CrashMode::LoseUnsynced, 2);
        for at in 0..undisturbed.disk.operations() {
            for effect in [FaultEffect::Before, FaultEffect::After, FaultEffect::AppliedButError] {
                for (halts, mode) in [
                    (true, CrashMode::LoseUnsynced),
                    (true, CrashMode::Random(at)),
                    (false, CrashMode::KeepUnsynced),
                ] {
                    if !halts && effect == FaultEffect::After {
                        continue;
                    }
                    let disk = MemoryFs::default();
                    disk.set_fault(Some(Fault { at, effect, halts }));
                    run_to_end(&mut job(strategy, disk, &[]), mode, 2);
                }
            }
        }
    }
}

fn start(
    sink: &FileSink<String>,
    disk: &MemoryFs,
    parallelism: u32,
    run: u64,
    from: Option<&SinkCheckpoint>,
) -> Attempt {
    harness::start(sink, disk, parallelism, run, from).expect("starts")
}

/// Writes a chunk, and commits it with a checkpoint.
fn step(attempt: &mut Attempt, id: u64) -> SinkCheckpoint {
    attempt.write().expect("written");
    let checkpoint = attempt.barrier(id, false).expect("prepared");
    attempt.commit().expect("committed");
    checkpoint
}

#[test]
fn files_are_held_back_until_there_are_enough_of_them() {
    let disk = MemoryFs::default();
    let sink = FileSink::lines(BASE).enable_compact(FileCompactStrategy::on_checkpoint(3));
    let mut attempt = start(&sink, &disk, 1, 1, None);
    step(&mut attempt, 1);
    step(&mut attempt, 2);
    assert_eq!((visible(&disk).len(), hidden(&disk).len()), (0, 2));
    step(&mut attempt, 3);
    assert_eq!((visible(&disk).len(), hidden(&disk).len()), (1, 0));
    assert!(visible(&disk).keys().all(|name| name.starts_with("compacted-part-0-")));
    assert_eq!(lines(&disk), records(3));
    // A single file stays as it is.
    step(&mut attempt, 4);
    attempt.finish().expect("finished");
    attempt.barrier(5, true).expect("prepared");
    attempt.commit().expect("committed");
    assert_eq!(visible(&disk).keys().filter(|name| name.starts_with("part-")).count(), 1);
    assert_eq!((lines(&disk), hidden(&disk).len()), (records(4), 0));
}

/// A snapshot holds files back that have become one since: they are not lost, and not committed again.
#[test]
fn an_older_snapshot_can_be_gone_back_to_after_its_files_have_become_one() {
    for parallelism in [1, 2] {
        let disk = MemoryFs::default();
        let sink = FileSink::lines(BASE).enable_compact(FileCompactStrategy::on_checkpoint(2));
        let mut attempt = start(&sink, &disk, 1, 1, None);
        let older = step(&mut attempt, 1);
        step(&mut attempt, 2);
        assert_eq!((visible(&disk).len(), lines(&disk)), (1, records(2)));
        drop(attempt);
        let mut attempt = start(&sink, &disk, parallelism, 2, Some(&older));
        attempt.finish().expect("finished");
        attempt.barrier(9, true).expect("prepared");
        attempt.commit().expect("committed");
        assert_eq!(lines(&disk), records(2), "what was committed later stays");
        // A file that is in none of both places is lost.
        let name = visible(&disk).into_keys().next().expect("one");
        let env = Simulation::new(1).with_disk(disk.clone()).env();
        env.fs().remove(&std::path::Path::new(BASE).join(name)).expect("removed");
        let error = harness::start(&sink, &disk, parallelism, 3, Some(&older)).expect_err("lost");
        assert!(error.to_string().contains("is lost"), "{error}");
    }
}

#[test]
fn success_is_said_behind_the_compaction() {
    let disk = MemoryFs::default();
    let end = |partition: &str| (partition == "even").then_some(100);
    let strategy = FileCompactStrategy::on_checkpoint(100);
    let sink = partitioned().enable_compact(strategy).partition_commit(PartitionCommit::on_watermark(end));
    let mut attempt = start(&sink, &disk, 2, 1, None);
    let held = step(&mut attempt, 1);
    drop(attempt);
    // Held files and the partition that waits for them may come to different subtasks.
    for after in [1, 2, 3] {
        let disk = disk.fork();
        let mut attempt = start(&sink, &disk, after, 2, Some(&held));
        (0..after as usize).for_each(|idx| attempt.watermark(idx, 100).expect("passed"));
        disk.record(true);
        attempt.barrier(2, false).expect("prepared");
        attempt.commit().expect("committed");
        let named = disk
            .recorded()
            .iter()
            .filter(|it| it.path.starts_with(format!("{BASE}/even")) && it.name != "create_dir_all")
            .map(|it| it.name.to_owned())
            .collect::<Vec<_>>();
        let success = named.iter().position(|name| name == "create").expect("_SUCCESS");
        assert!(named[success..].iter().all(|name| name != "hard_link"), "{named:?}");
        assert_eq!(lines(&disk).iter().filter(|line| line.starts_with("even")).count(), 9, "{after}");
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sale {
    country: String,
    amount: u32,
}

/// The bytes of the only file that a sink makes of two checkpoints with a record each.
fn compacted(sink: &FileSink<Sale>) -> (String, Vec<u8>) {
    let disk = MemoryFs::default();
    let env = Simulation::new(1).with_disk(disk.clone()).env();
    let mut ctx = SinkContext::new(env, SubtaskIndex(0), 1, 1);
    (ctx.job_id, ctx.has_checkpoints) = (JobId(7), true);
    let mut writer = sink.create_writer(ctx.clone()).expect("a writer");
    let mut committer = sink.create_committer(ctx).expect("a committer").expect("one");
    writer.restore(Vec::new(), None).expect("restored");
    let mut pending = Vec::new();
    for (id, country) in [(1, "NO"), (2, "a \"b\",\nc")] {
        let sale = Sale { country: country.to_owned(), amount: id as u32 };
        writer.write(RecordBatch::untimed(vec![sale])).expect("written");
        for payload in writer.prepare_commit(CheckpointId(id), id == 2).expect("prepared") {
            let (id, subtask) = (flott_api::CommittableId(u128::from(id)), SubtaskIndex(0));
            pending.push(flott_api::Committable { id, checkpoint_id: CheckpointId(2), subtask, payload });
        }
    }
    committer.commit(&pending).expect("committed");
    committer.commit(&pending).expect("committing again is committing once");
    let mut visible = visible(&disk);
    assert_eq!((visible.len(), hidden(&disk).len()), (1, 0));
    visible.pop_first().expect("one")
}

#[test]
fn a_header_stands_at_the_beginning_of_the_file_only() {
    let strategy = FileCompactStrategy::on_checkpoint(100);
    let (_, bytes) = compacted(&FileSink::csv(BASE).enable_compact(strategy));
    let expected = "country,amount\nNO,1\n\"a \"\"b\"\",\nc\",2\n";
    assert_eq!(String::from_utf8(bytes).expect("UTF-8"), expected);
    for compression in [Compression::Gzip, Compression::Zstd] {
        for (sink, expected) in [
            (FileSink::csv(BASE), expected),
            (
                FileSink::json(BASE),
                "{\"country\":\"NO\",\"amount\":1}\n{\"country\":\"a \\\"b\\\",\\nc\",\"amount\":2}\n",
            ),
        ] {
            let (name, bytes) = compacted(&sink.compression(compression).enable_compact(strategy));
            assert!(name.ends_with(compression.suffix()), "{name}");
            let mut text = String::new();
            let mut reader =
                compression.decompress(Box::new(std::io::Cursor::new(bytes))).expect("an archive");
            std::io::Read::read_to_string(&mut reader, &mut text).expect("readable");
            assert_eq!(text, expected);
        }
    }
}

#[test]
fn records_can_be_read_and_written_again() {
    let strategy = FileCompactStrategy::on_checkpoint(100);
    let sink = FileSink::<Sale>::json(BASE).enable_compact_with(strategy, JsonFormat::new());
    let (_, bytes) = compacted(&sink);
    assert_eq!(String::from_utf8(bytes).expect("UTF-8").lines().count(), 2);
    let _source: FileSource<Sale> = FileSource::json(BASE);
}

#[test]
fn a_job_without_checkpoints_cannot_hold_files_back() {
    let env = Simulation::new(1).env();
    let sink = FileSink::<String>::lines(BASE).enable_compact(FileCompactStrategy::on_size(1 << 20));
    let error = sink.create_writer(SinkContext::new(env, SubtaskIndex(0), 1, 1)).expect_err("refused");
    assert!(error.to_string().contains("remove enable_compact"), "{error}");
}
