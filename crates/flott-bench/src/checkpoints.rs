//! What checkpoints cost: how long records stand still at a barrier, and how much slower a job is that takes one each second.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use flott_api::windowing::TumblingEventTimeWindows;
use flott_env::Env;
use flott_state::{
    BegunSnapshot, ChainSnapshot, GroupLayout, KeyedTable, LocalState, SnapshotProgress, StateSettings,
    TimerService,
};
use flott_types::{
    CheckpointBarrier, CheckpointId, CheckpointKind, FileHandle, Increment, StateBackendType, SubtaskIndex,
    key_hash, options,
};

use crate::clock;
use crate::engine::{self, BlockSource, Count, WATERMARK_GRANULARITY};
use crate::keyed_tumbling::WINDOW_SIZE;
use crate::records::record;

const KEY_GROUPS: u32 = 128;

/// As between two batches of a job.
const PLACES_PER_STEP: usize = 8192;

/// Keys that change before each checkpoint, out of all.
const CHANGED_SHARE: u64 = 100;

/// The pauses of some checkpoints of one table.
#[derive(Debug)]
pub(crate) struct Pauses {
    of: &'static str,
    n_keys: u64,
    at_barrier: Vec<Duration>,
    longest_step: Duration,
    /// Bytes of the first checkpoint and of the last.
    n_bytes: Option<(usize, usize)>,
}

impl fmt::Display for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let n = self.at_barrier.len() as u32;
        let mean = self.at_barrier.iter().sum::<Duration>() / n.max(1);
        let max = self.at_barrier.iter().max().copied().unwrap_or_default();
        write!(
            f,
            "{} of {} keys: at the barrier {:.3} ms on average and {:.3} ms at most ({n} checkpoints), later steps {:.3} ms at most",
            self.of,
            self.n_keys,
            ms(mean),
            ms(max),
            ms(self.longest_step)
        )?;
        match self.n_bytes {
            Some((first, last)) => write!(f, ", {first} bytes, then {last}"),
            None => Ok(()),
        }
    }
}

/// Takes `n` snapshots of a table of `n_keys`, a hundredth of which change in between, while another thread serializes; if they are
/// incremental, each goes on from the one before.
pub(crate) fn pauses(backend: StateBackendType, n_keys: u64, n: usize, is_incremental: bool) -> Pauses {
    let dir = tempfile::tempdir().expect("a directory");
    let mut table = table(backend, n_keys, dir.path());
    let add = |table: &mut KeyedTable<u64, u64>, key: u64| {
        let hash = key_hash(&key);
        table.load_mut(hash, &key).expect("the disk works").upsert(hash, &key, || 0, |count| *count += 1);
    };
    (0..n_keys).for_each(|key| add(&mut table, key));
    let of = match (backend, is_incremental) {
        (StateBackendType::Disk, false) => "a table on disk",
        (StateBackendType::Disk, true) => "increments of a table on disk",
        (StateBackendType::Hashmap, false) => "a table in memory",
        (StateBackendType::Hashmap, true) => "increments of a table in memory",
    };
    let mut pauses =
        Pauses { of, n_keys, at_barrier: Vec::new(), longest_step: Duration::ZERO, n_bytes: None };
    let mut n_bytes = Vec::new();
    for round in 0..n as u64 {
        let mut begun = begun(round, is_incremental);
        let (pause, ()) = clock::measure(|| {
            let stream = begun.stream("counts", KEY_GROUPS, GroupLayout::Entries);
            table.begin_snapshot_of_pairs(&stream).expect("the disk works");
        });
        pauses.at_barrier.push(pause);
        let writer = on_a_thread(begun);
        let mut key = round;
        loop {
            let (pause, progress) = clock::measure(|| table.snapshot_step(PLACES_PER_STEP));
            pauses.longest_step = pauses.longest_step.max(pause);
            if progress == SnapshotProgress::Complete {
                break;
            }
            // What a batch changes meanwhile.
            for _ in 0..PLACES_PER_STEP as u64 / CHANGED_SHARE {
                key = (key + CHANGED_SHARE) % n_keys;
                add(&mut table, key);
            }
        }
        if is_incremental {
            (0..n_keys / CHANGED_SHARE).for_each(|key| add(&mut table, key * CHANGED_SHARE + round));
        }
        let written = writer.join().expect("the writer works");
        // A key and its count take two bytes or more.
        assert!(is_incremental && round > 0 || written >= n_keys as usize * 2, "bytes of a snapshot");
        n_bytes.push(written);
    }
    if let (true, [first, .., last]) = (is_incremental, n_bytes.as_slice()) {
        pauses.n_bytes = Some((*first, *last));
    }
    pauses
}

/// A snapshot for the checkpoint of that number.
fn begun(number: u64, is_incremental: bool) -> BegunSnapshot {
    let increment = match (is_incremental, number.checked_sub(1)) {
        (false, _) => Increment::None,
        (true, None) => Increment::Base,
        (true, Some(before)) => Increment::Since(CheckpointId(before)),
    };
    let (id, kind) = (CheckpointId(number), CheckpointKind::Checkpoint);
    let barrier = CheckpointBarrier { id, timestamp: 0, kind, increment };
    ChainSnapshot::new(&barrier, vec![FileHandle { path: String::new(), len: 0, checksum: 0 }]).begin()
}

/// The same of timers, one for each key, of which a few fire and are set again in between.
pub(crate) fn pauses_of_timers(n_keys: u64, n: usize) -> Pauses {
    let mut timers = TimerService::<u64, ()>::default();
    let second_of = |key: u64| (key % 3600) as i64 * 1000;
    (0..n_keys).for_each(|key| timers.event.register(second_of(key), &key, &()));
    let (of, longest_step) = ("timers", Duration::ZERO);
    let mut pauses = Pauses { of, n_keys, at_barrier: Vec::new(), longest_step, n_bytes: None };
    for _ in 0..n {
        let mut begun = BegunSnapshot::default();
        let (pause, begin) = clock::measure(|| timers.begin_snapshot(KEY_GROUPS, &mut begun));
        begin.expect("event time can be serialized");
        pauses.at_barrier.push(pause);
        let writer = on_a_thread(begun);
        loop {
            let (pause, progress) = clock::measure(|| timers.snapshot_step(PLACES_PER_STEP));
            pauses.longest_step = pauses.longest_step.max(pause);
            if progress == SnapshotProgress::Complete {
                break;
            }
            if let Some((at, key, ())) = timers.event.pop_due(i64::MAX) {
                timers.event.register(at + 3_600_000, &key, &());
            }
        }
        assert!(writer.join().expect("the writer works") >= n_keys as usize * 2, "bytes of a snapshot");
    }
    pauses
}

fn table(backend: StateBackendType, n_keys: u64, dir: &Path) -> KeyedTable<u64, u64> {
    let memory_bytes = n_keys * 16 / 4;
    let settings = StateSettings { backend, memory_bytes, local_dir: dir.to_owned(), section_bytes: 1 << 20 };
    let env = Env::real().expect("an environment").with_settings(settings);
    LocalState::open(&env, "bench", SubtaskIndex(0)).expect("a directory").table()
}

/// Serializes a snapshot, as the writer of a subtask does; returns the number of its bytes.
#[expect(clippy::disallowed_methods, reason = "a table without the engine has a writer of its own")]
fn on_a_thread(begun: BegunSnapshot) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let env = Env::real().expect("an environment");
        env.block_on(async move {
            let mut n_bytes = 0;
            for mut stream in begun.streams {
                stream.begin(1 << 20);
                let mut sink = |_, _, bytes: Vec<u8>| {
                    n_bytes += bytes.len();
                    Ok(())
                };
                while let Some(piece) = stream.next().await {
                    stream.write(piece, &mut sink).expect("numbers can be serialized");
                }
                stream.finish(&mut sink).expect("the table is there");
            }
            n_bytes
        })
    })
}

/// Runs of the keyed count benchmark with and without checkpoints.
#[derive(Debug)]
pub(crate) struct Throughput {
    n_keys: u64,
    /// Records per second, without and with.
    pairs: Vec<(f64, f64)>,
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ratios: Vec<f64> = self.pairs.iter().map(|(without, with)| with / without).collect();
        ratios.sort_by(f64::total_cmp);
        let median = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
        let millions: Vec<String> = self
            .pairs
            .iter()
            .map(|(without, with)| format!("{:.1}/{:.1}", without / 1e6, with / 1e6))
            .collect();
        write!(
            f,
            "keyed count of {} keys: with a checkpoint each second {median:.3} of the throughput without (median of {}; M records/s: {})",
            self.n_keys,
            ratios.len(),
            millions.join(", ")
        )
    }
}

/// Alternates runs without and with a checkpoint each second.
pub(crate) fn throughput(n_keys: u64, records: u64, parallelism: usize, n_pairs: usize) -> Throughput {
    let rate = |interval| {
        let (elapsed, ()) = clock::measure(|| count(n_keys, records, parallelism, interval));
        records as f64 / elapsed.as_secs_f64()
    };
    let second = Some(Duration::from_secs(1));
    let pair = |n| {
        // In turn, so that neither is always the one that finds the caches warm.
        if n % 2 == 0 {
            let without = rate(None);
            (without, rate(second))
        } else {
            let with = rate(second);
            (rate(None), with)
        }
    };
    Throughput { n_keys, pairs: (0..n_pairs).map(pair).collect() }
}

fn count(n_keys: u64, records: u64, parallelism: usize, interval: Option<Duration>) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut env = engine::environment(parallelism);
    env.set(options::WATERMARK_GRANULARITY, Duration::from_millis(WATERMARK_GRANULARITY));
    env.set(options::CHECKPOINTING_INTERVAL, interval);
    env.set(options::CHECKPOINTING_DIR, Some(dir.path().display().to_string()));
    let counts = BlockSource::timed(records, move |index| record(index, n_keys))
        .stream(&env)
        .key_by(|key| *key)
        .window(TumblingEventTimeWindows::of(Duration::from_millis(WINDOW_SIZE as u64)))
        .aggregate_with(Count, |key, ctx, count| (*key, ctx.window.end, count));
    let sum = engine::run(&env, &counts, |sum, (key, window_end, count)| sum.add(*key, *window_end, *count));
    std::hint::black_box(sum);
}
