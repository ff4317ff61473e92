use crate::log::reader::LogReader;
use crate::log::{Log, Shared};
use flott_env::FileSystem;
use flott_env::sim::{CrashMode, Fault, FaultEffect, MemoryFs, SimRng};
use flott_types::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Waker};

const DIRECTORY: &str = "/data/log";

/// Small, so that files change often.
const SEGMENT_BYTES: u64 = 100;

fn open(disk: &MemoryFs) -> flott_types::Result<Log> {
    Ok(Log::open(Arc::new(disk.clone()), Path::new(DIRECTORY), SEGMENT_BYTES)?.expect("nobody else has it"))
}

/// What can be read now, from a position on, in batches of a size.
fn read(shared: &Arc<Shared>, position: Option<u64>, records_max: usize) -> flott_types::Result<Vec<String>> {
    let mut reader = LogReader::new(Arc::clone(shared), position)?;
    let mut records = Vec::new();
    while reader.is_ready(&mut Context::from_waker(Waker::noop()))? {
        reader.read(records_max, |_, record| {
            records.push(String::from_utf8(record.to_vec()).expect("as written"))
        })?;
    }
    Ok(records)
}

/// What was promised, and how far a checkpoint is.
#[derive(Default)]
struct Model {
    acknowledged: Vec<String>,
    /// Appended without an answer: they may be there, from the first on.
    unanswered: Vec<String>,
    checkpoint: usize,
    n_made: usize,
}

impl Model {
    /// One life of a process: it opens the log, looks whether all is there, appends, reads and deletes until something fails.
    fn live(&mut self, disk: &MemoryFs, rng: &mut SimRng, n_steps: usize) -> flott_types::Result<()> {
        let mut log = open(disk)?;
        self.check(log.shared(), rng)?;
        for _ in 0..n_steps {
            match rng.below(4) {
                0 => {
                    let n_read = self.acknowledged.len() - self.checkpoint;
                    self.checkpoint += rng.below(n_read as u64 + 1) as usize;
                    // Whoever deletes tries again later.
                    drop(log.shared().delete_before(self.checkpoint as u64));
                }
                1 => self.check(log.shared(), rng)?,
                _ => self.append(&mut log, rng)?,
            }
        }
        Ok(())
    }

    fn append(&mut self, log: &mut Log, rng: &mut SimRng) -> flott_types::Result<()> {
        let n_more = rng.below(3);
        let make = |_| {
            self.n_made += 1;
            format!("{}{}", self.n_made, "x".repeat(rng.below(60) as usize))
        };
        self.unanswered = (0..=n_more).map(make).collect();
        let appended = log.append(self.unanswered.iter().map(String::as_bytes));
        appended.map_err(|error| flott_types::Error::subtask("no answer").with_source(error))?;
        self.acknowledged.append(&mut self.unanswered);
        Ok(())
    }

    /// All that was acknowledged is there once, in order, from the checkpoint on; and of what was not answered a first part, which then counts.
    fn check(&mut self, shared: &Arc<Shared>, rng: &mut SimRng) -> flott_types::Result<()> {
        let records = read(shared, Some(self.checkpoint as u64), rng.below(5) as usize)?;
        let expected = &self.acknowledged[self.checkpoint..];
        assert_eq!(records.get(..expected.len()), Some(expected), "what was acknowledged is there");
        let more = &records[expected.len()..];
        assert_eq!(Some(more), self.unanswered.get(..more.len()), "and nothing that nobody has posted");
        self.acknowledged.extend_from_slice(more);
        self.unanswered.clear();
        Ok(())
    }
}

#[test]
fn what_was_acknowledged_is_read_once_after_a_power_failure_at_any_operation() {
    let live = |disk: &MemoryFs, model: &mut Model, seed| model.live(disk, &mut SimRng::new(seed), 25);
    let undisturbed = MemoryFs::default();
    live(&undisturbed, &mut Model::default(), 1).unwrap();
    let n_operations = undisturbed.operations();
    assert!(n_operations > 60, "{n_operations}");
    for at in 0..n_operations {
        for effect in [FaultEffect::Before, FaultEffect::After, FaultEffect::AppliedButError] {
            for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Random(at)] {
                let (disk, mut model) = (MemoryFs::default(), Model::default());
                disk.set_fault(Some(Fault { at, effect, halts: true }));
                drop(live(&disk, &mut model, 1));
                disk.crash(mode);
                live(&disk, &mut model, 2).unwrap();
                // What was read counts, so it must be there after a second failure, too.
                disk.crash(CrashMode::LoseUnsynced);
                live(&disk, &mut model, 3).unwrap();
            }
        }
    }
}

#[test]
fn what_was_acknowledged_is_read_once_after_many_random_power_failures() {
    for seed in 0..200 {
        let (disk, mut model, mut rng) = (MemoryFs::default(), Model::default(), SimRng::new(seed));
        for _ in 0..12 {
            let at = disk.operations() + rng.below(60);
            let effect = match rng.below(3) {
                0 => FaultEffect::Before,
                1 => FaultEffect::After,
                _ => FaultEffect::AppliedButError,
            };
            disk.set_fault(Some(Fault { at, effect, halts: true }));
            drop(model.live(&disk, &mut rng, 15));
            let mode = match rng.below(3) {
                0 => CrashMode::LoseUnsynced,
                1 => CrashMode::KeepUnsynced,
                _ => CrashMode::Random(rng.next_u64()),
            };
            disk.crash(mode);
        }
        model.live(&disk, &mut rng, 10).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    }
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let disk = MemoryFs::default();
    let mut log = open(&disk).unwrap();
    log.append([b"one".as_slice(), b"two"]).unwrap();
    drop(log);
    let (path, whole) =
        disk.files().into_iter().find(|(path, _)| path.ends_with("00000000000000000000.log")).unwrap();
    for len in 0..whole.len() {
        let disk = disk.fork();
        disk.crash(CrashMode::KeepUnsynced);
        disk.corrupt(&path, [&whole[..len], &[0xff; 7]].concat());
        let mut log = open(&disk).unwrap();
        let n_whole = match len {
            0..31 => 0,
            31..46 => 1,
            _ => 2,
        };
        assert_eq!(read(log.shared(), None, 10).unwrap(), ["one", "two"][..n_whole], "{len}");
        log.append([b"three".as_slice()]).unwrap();
        assert_eq!(read(log.shared(), Some(n_whole as u64), 10).unwrap(), ["three"]);
    }
}

#[test]
fn a_damaged_file_that_is_not_the_last_is_an_error_and_no_end() {
    let disk = MemoryFs::default();
    let mut log = open(&disk).unwrap();
    for record in ["a".repeat(100), "b".repeat(100), "c".to_owned()] {
        log.append([record.as_bytes()]).unwrap();
    }
    let first = disk.files().into_iter().find(|(path, _)| path.extension().is_some()).unwrap();
    let (path, mut bytes) = first;
    bytes[50] ^= 1;
    disk.corrupt(&path, bytes);
    let error = read(log.shared(), None, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains("record 0"), "{error}");
    assert_eq!(read(log.shared(), Some(1), 10).unwrap(), ["b".repeat(100), "c".to_owned()]);
}

#[test]
fn files_are_deleted_only_before_the_position_and_a_position_before_them_is_refused() {
    let disk = MemoryFs::default();
    let mut log = open(&disk).unwrap();
    for n in 0..6 {
        log.append([n.to_string().repeat(60).as_bytes()]).unwrap();
    }
    // Two records a file.
    let n_files = || disk.files().keys().filter(|path| path.extension().is_some()).count();
    for (position, expected) in [(0, 3), (1, 3), (2, 2), (3, 2), (6, 1)] {
        log.shared().delete_before(position).unwrap();
        assert_eq!(n_files(), expected, "{position}");
    }
    assert_eq!(read(log.shared(), None, 10).unwrap().len(), 2);
    for position in [0, 3, 7] {
        let error = read(log.shared(), Some(position), 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(error.to_string().contains("from 4 to 6"), "{error}");
    }
}

#[test]
fn one_has_the_log_at_a_time() {
    let disk = MemoryFs::default();
    let fs: Arc<dyn FileSystem> = Arc::new(disk);
    let first = Log::open(Arc::clone(&fs), Path::new(DIRECTORY), SEGMENT_BYTES).unwrap();
    assert!(first.is_some());
    assert!(Log::open(Arc::clone(&fs), Path::new(DIRECTORY), SEGMENT_BYTES).unwrap().is_none());
    drop(first);
    assert!(Log::open(fs, Path::new(DIRECTORY), SEGMENT_BYTES).unwrap().is_some());
}
