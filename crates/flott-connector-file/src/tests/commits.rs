//! Committing again, committing what is not there, zombies, and going back.

use super::harness::{self, Attempt, BASE, hidden, lines, records, visible};
use crate::{Compression, CsvFormat, FileSink, JsonFormat, RollingPolicy};
use flott_api::SinkWriter;
use flott_api::UserResult;
use flott_api::format::{EncodeFormat, FileLayout, RecordEncoder};
use flott_env::FileSystem;
use flott_env::sim::{CrashMode, MemoryFs};
use flott_types::Result;
use std::path::Path;

fn sink() -> FileSink<String> {
    FileSink::lines(BASE).rolling(RollingPolicy::never())
}

fn start(disk: &MemoryFs, run: u64) -> Attempt {
    harness::start(&sink(), disk, 2, run, None).expect("starts")
}

#[test]
fn files_have_names_only_when_their_checkpoint_is_committed() {
    let disk = MemoryFs::default();
    let mut attempt = start(&disk, 1);
    attempt.write().expect("written");
    assert_eq!((visible(&disk).len(), hidden(&disk).len()), (0, 2));
    attempt.barrier(1, false).expect("prepared");
    attempt.write().expect("written");
    assert_eq!(
        (visible(&disk).len(), hidden(&disk).len()),
        (0, 4),
        "a barrier completes files and shows none"
    );
    attempt.commit().expect("committed");
    assert_eq!(lines(&disk), records(1));
    assert_eq!(hidden(&disk).len(), 2, "what came after the barrier is not committed with it");
    attempt.finish().expect("finished");
    assert_eq!(lines(&disk), records(1), "the end of the input shows nothing either");
    attempt.barrier(2, true).expect("prepared");
    attempt.barrier(3, true).expect("prepared again, as the last checkpoint was aborted");
    attempt.commit().expect("committed");
    assert_eq!((lines(&disk), hidden(&disk).len()), (records(2), 0));
}

#[test]
fn committing_twice_is_committing_once() {
    let disk = MemoryFs::default();
    let mut attempt = start(&disk, 1);
    attempt.write().expect("written");
    let checkpoint = attempt.barrier(1, false).expect("prepared");
    attempt.commit().expect("committed");
    let files = visible(&disk);
    // By the same, by a second attempt after a restart, and by one from an older snapshot when more has been written.
    attempt.subtasks[0]
        .committer
        .as_mut()
        .expect("it has one")
        .commit(&checkpoint.committables)
        .expect("committed again");
    assert_eq!(visible(&disk), files);
    for run in 2..4 {
        let mut attempt =
            harness::start(&sink(), &disk, 1 + run as u32, run, Some(&checkpoint)).expect("starts");
        assert_eq!(visible(&disk), files);
        attempt.write().expect("written");
    }
}

#[test]
fn what_is_neither_committed_nor_waiting_is_an_error_that_names_it() {
    let disk = MemoryFs::default();
    let mut attempt = start(&disk, 1);
    attempt.write().expect("written");
    let checkpoint = attempt.barrier(1, false).expect("prepared");
    let lost = hidden(&disk).remove(1);
    disk.remove(&Path::new(BASE).join(".flott").join(&lost)).expect("removed");
    let error = attempt.commit().expect_err("a file is lost").to_string();
    let name = lost.rsplit_once('.').expect("a suffix").0;
    assert!(error.contains(&format!("file '{BASE}/{name}' is lost")), "{error}");
    let restarted = harness::start(&sink(), &disk, 2, 2, Some(&checkpoint));
    assert!(restarted.expect_err("it is still lost").to_string().contains("is lost"));
}

#[test]
fn a_file_that_somebody_has_changed_is_an_error_before_and_after_it_is_committed() {
    let disk = MemoryFs::default();
    let mut attempt = start(&disk, 1);
    attempt.write().expect("written");
    attempt.barrier(1, false).expect("prepared");
    let path = Path::new(BASE).join(".flott").join(hidden(&disk).remove(0));
    let content = disk.files()[&path].clone();
    disk.corrupt(&path, content[..content.len() - 1].to_vec());
    let error = attempt.commit().expect_err("a file is torn").to_string();
    assert!(error.contains("somebody has changed it"), "{error}");
    disk.corrupt(&path, content);
    let committables = attempt.subtasks[0].pending.clone();
    attempt.commit().expect("committed");
    let committed = Path::new(BASE).join(visible(&disk).keys().next().expect("a file"));
    disk.corrupt(&committed, Vec::new());
    let error = attempt.subtasks[0]
        .committer
        .as_mut()
        .expect("it has one")
        .commit(&committables)
        .expect_err("it is empty")
        .to_string();
    assert!(error.contains("has 0 bytes instead of"), "{error}");
}

#[test]
fn a_writer_that_is_believed_dead_changes_nothing_that_its_successor_writes() {
    for zombie_writes_before_restore in [false, true] {
        let disk = MemoryFs::default();
        let mut zombie = start(&disk, 1);
        zombie.write().expect("written");
        let checkpoint = zombie.barrier(1, false).expect("prepared");
        if zombie_writes_before_restore {
            zombie.write().expect("written");
        }
        let mut successor = harness::start(&sink(), &disk, 2, 2, Some(&checkpoint)).expect("starts");
        successor.write().expect("written");
        // The zombie commits what is committed already, and goes on writing.
        zombie.commit().expect("a commit that comes too late does no harm");
        let _may_fail_as_its_files_are_gone = zombie.write().and_then(|()| zombie.barrier(2, false));
        let second = successor.barrier(2, false).expect("prepared");
        successor.commit().expect("committed");
        assert_eq!(lines(&disk), records(2));
        let mut third = harness::start(&sink(), &disk, 3, 3, Some(&second)).expect("starts");
        third.write().expect("written");
        third.barrier(3, true).expect("prepared");
        third.commit().expect("committed");
        assert_eq!(lines(&disk), records(3), "what the zombie has prepared is never seen");
    }
}

#[test]
fn an_attempt_that_wakes_up_after_its_successor_began_deletes_nothing_of_it() {
    let disk = MemoryFs::default();
    let mut first = start(&disk, 1);
    first.write().expect("written");
    let checkpoint = first.barrier(1, false).expect("prepared");
    let mut successor = harness::start(&sink(), &disk, 2, 3, Some(&checkpoint)).expect("starts");
    successor.write().expect("written");
    successor.barrier(2, false).expect("prepared");
    // It was to restore its sinks when it was taken for dead.
    harness::start(&sink(), &disk, 1, 2, Some(&checkpoint)).expect("nobody has told it");
    successor.commit().expect("its files are there");
    assert_eq!(lines(&disk), records(2));
}

#[test]
fn a_restore_deletes_what_this_sink_began_later_and_nothing_of_others() {
    let disk = MemoryFs::default();
    disk.create_dir_all(&Path::new(BASE).join(".flott")).expect("created");
    let foreign =
        [".flott/part-0-0-0.txt.0000000000000001-0-9", ".flott/mine", "part-0-0000000000000000-0.txt"];
    for name in foreign {
        disk.create(&Path::new(BASE).join(name)).expect("created").sync().expect("synced");
    }
    let mut attempt = start(&disk, 1);
    attempt.write().expect("written");
    let first = attempt.barrier(1, false).expect("prepared");
    attempt.write().expect("written");
    attempt.barrier(2, false).expect("prepared");
    attempt.write().expect("written");
    assert_eq!(hidden(&disk).len(), 2 + 6);
    // All hidden names are durable or gone, wherever they are.
    disk.crash(CrashMode::KeepUnsynced);
    harness::start(&sink(), &disk, 1, 2, Some(&first)).expect("starts");
    assert_eq!(hidden(&disk).len(), 2, "only those of others are left");
    assert_eq!(visible(&disk).len(), 2 + 1, "the files of the older checkpoint are committed");
    let mut other = FileSink::lines(BASE).rolling(RollingPolicy::never());
    other = other.file_prefix("other");
    let mut again = harness::start(&other, &disk, 2, 3, None).expect("starts");
    again.write().expect("written");
    assert_eq!(hidden(&disk).len(), 4);
    harness::start(&sink(), &disk, 2, 4, None).expect("starts from nothing");
    let mut left = hidden(&disk);
    left.sort();
    assert_eq!(left, ["mine", "part-0-0-0.txt.0000000000000001-0-9"]);
}

#[test]
fn what_a_restore_has_deleted_does_not_come_back_behind_the_next_checkpoint() {
    let disk = MemoryFs::default();
    let mut dies = start(&disk, 1);
    dies.write().expect("written");
    dies.barrier(1, false).expect("prepared");
    disk.crash(CrashMode::LoseUnsynced);
    assert_eq!(hidden(&disk).len(), 2, "what it has prepared is durable");
    let mut writes_nothing = start(&disk, 2);
    assert_eq!(hidden(&disk).len(), 0);
    let checkpoint = writes_nothing.barrier(1, false).expect("prepared");
    disk.crash(CrashMode::LoseUnsynced);
    harness::start(&sink(), &disk, 2, 3, Some(&checkpoint)).expect("starts");
    assert_eq!(hidden(&disk), [""; 0], "nobody would ever delete it");
}

#[test]
fn going_back_to_an_older_checkpoint_makes_what_was_not_committed_disappear() {
    let disk = MemoryFs::default();
    let mut attempt = start(&disk, 1);
    attempt.write().expect("written");
    let older = attempt.barrier(1, false).expect("prepared");
    attempt.write().expect("written");
    let newer = attempt.barrier(2, false).expect("prepared");
    let mut attempt = harness::start(&sink(), &disk, 2, 2, Some(&older)).expect("starts");
    assert_eq!(lines(&disk), records(1));
    attempt.write().expect("written");
    attempt.barrier(3, true).expect("prepared");
    attempt.commit().expect("committed");
    assert_eq!(lines(&disk), records(2), "once, from the second attempt");
    // The way back to the newer one is cut off, and that is said.
    let error = harness::start(&sink(), &disk, 2, 3, Some(&newer)).expect_err("its files are deleted");
    assert!(error.to_string().contains("is lost"), "{error}");
}

/// As Parquet: nothing is written before the end.
struct BulkFormat;

struct BulkEncoder(Vec<u8>);

impl EncodeFormat<String> for BulkFormat {
    fn extension(&self) -> &str {
        "bulk"
    }
    fn layout(&self) -> FileLayout {
        FileLayout::Bulk
    }
    fn start_file(&self) -> Result<Box<dyn RecordEncoder<String>>> {
        Ok(Box::new(BulkEncoder(Vec::new())))
    }
}

impl RecordEncoder<String> for BulkEncoder {
    fn encode(&mut self, record: &String, _: &mut Vec<u8>) -> UserResult {
        self.0.extend(record.as_bytes());
        self.0.push(b'\n');
        Ok(())
    }
    fn buffered_bytes(&self) -> u64 {
        self.0.len() as u64
    }
    fn finish(&mut self, out: &mut Vec<u8>) -> UserResult {
        out.append(&mut self.0);
        Ok(())
    }
}

#[test]
fn files_of_every_format_are_whole_at_the_barrier() {
    let sinks: [(&str, FileSink<String>); 6] = [
        (".txt", FileSink::lines(BASE)),
        (".txt.gz", FileSink::lines(BASE).compression(Compression::Gzip)),
        (".txt.zst", FileSink::lines(BASE).compression(Compression::Zstd)),
        (".csv", FileSink::format(BASE, CsvFormat::new().without_header())),
        (".jsonl", FileSink::format(BASE, JsonFormat::new())),
        (".bulk", FileSink::format(BASE, BulkFormat)),
    ];
    for (ending, sink) in sinks {
        let disk = MemoryFs::default();
        let mut attempt = harness::start(&sink, &disk, 2, 1, None).expect("starts");
        attempt.write().expect("written");
        let checkpoint = attempt.barrier(1, false).expect("prepared");
        attempt.write().expect("written");
        drop(attempt);
        disk.crash(CrashMode::LoseUnsynced);
        harness::start(&sink, &disk, 2, 2, Some(&checkpoint)).expect("committed");
        let mut read = Vec::new();
        for (name, content) in visible(&disk) {
            assert!(name.ends_with(ending), "{name}");
            let content: Box<dyn std::io::Read + Send> = Box::new(std::io::Cursor::new(content));
            let mut text = String::new();
            let mut content =
                Compression::from_path(Path::new(&name)).decompress(content).expect("an archive");
            std::io::Read::read_to_string(&mut content, &mut text).expect("UTF-8");
            read.extend(text.lines().map(|line| line.trim_matches('"').to_owned()));
        }
        read.sort();
        assert_eq!(read, records(1), "{ending}");
    }
}

#[test]
fn without_checkpoints_files_have_names_as_soon_as_they_are_complete() {
    let env = flott_env::sim::Simulation::new(1).env();
    let sink = FileSink::lines("/out").rolling(RollingPolicy::never().max_part_size(4));
    let mut writer = super::writer(&sink, &env, 0);
    SinkWriter::<i32>::restore(&mut writer, Vec::new(), None).expect("restored");
    writer.write(flott_types::RecordBatch::untimed(vec![1, 2, 3])).expect("written");
    let names = super::tree(&env, Path::new("/out"));
    assert_eq!(names.iter().filter(|name| !name.starts_with('.')).count(), 1);
    SinkWriter::<i32>::finish(&mut writer).expect("finished");
    assert_eq!(super::tree(&env, Path::new("/out")).len(), 2);
    let prepared =
        SinkWriter::<i32>::prepare_commit(&mut writer, flott_types::CheckpointId::END_OF_INPUT, true);
    assert!(prepared.expect("nothing").is_empty());
}
