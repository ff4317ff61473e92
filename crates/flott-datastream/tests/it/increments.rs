//! Incremental checkpoints: what is written is what has changed, and what is restored is everything.

use crate::checkpoints::{COUNT, Kills, N_SPLITS, configure, finished, kill_points, numbers, source};
use crate::support::{directory, real, simulated};
use crate::transactional::{Numbered, Transactions};
use flott_api::{Collector, KeyedContext, KeyedProcessFunction, UserResult};
use flott_checkpoint::{OpenSnapshot, open_snapshot, verify_snapshot};
use flott_datastream::StreamExecutionEnvironment;
use flott_env::Env;
use flott_state::ValueState;
use flott_types::{
    CheckpointStorageType, ExternalizedCheckpointRetention, MemorySize, RestartStrategyType,
    StateBackendType, options,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Keys that come once at the beginning, for each record of it.
const N_COLD: u64 = 20;

/// From here on records are of few keys, and every fifth clears what there is of one.
const HOT_FROM: u64 = 150;

/// A key and what happens to it.
fn changes(record: Numbered) -> Vec<(u64, bool)> {
    let (split, number) = (u64::from(record.0), record.1);
    if number < HOT_FROM {
        return (0..N_COLD).map(|idx| (((number * N_COLD + idx) << 2) | split, false)).collect();
    }
    vec![((number % 4) << 2 | split, false), ((number << 2) | split, number % 5 == 0)]
}

/// The number of records of a key since it was last cleared.
#[derive(Clone)]
struct Count(ValueState<u64>);

impl KeyedProcessFunction<u64, (u64, bool), (u64, u64)> for Count {
    fn process_element(
        &mut self,
        (key, clears): (u64, bool),
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        let count = self.0.get(ctx)?.copied().unwrap_or_default() + 1;
        if clears {
            self.0.clear(ctx)?;
        } else {
            self.0.set(ctx, count)?;
        }
        out.collect((key, count));
        Ok(())
    }
}

fn program(env: &StreamExecutionEnvironment, kills: &Kills, sink: &Transactions<(u64, u64)>) {
    let kills = kills.clone();
    source(env, N_SPLITS, COUNT, "numbers")
        .map(move |record| kills.pass(record))
        .flat_map(changes)
        .key_by(|(key, _): &(u64, bool)| *key)
        .process(Count(ValueState::new("count")))
        .uid("count")
        .sink_to(sink.clone())
        .uid("sink");
}

fn expected() -> Vec<(u64, u64)> {
    let mut counts = BTreeMap::<u64, u64>::new();
    let mut expected = Vec::new();
    for (key, clears) in numbers(N_SPLITS, COUNT).flat_map(changes) {
        let count = counts.entry(key).or_default();
        *count += 1;
        expected.push((key, *count));
        if clears {
            counts.remove(&key);
        }
    }
    expected.sort_unstable();
    expected
}

fn incremental(env: &mut StreamExecutionEnvironment, on_disk: bool, dir: &str) {
    configure(env, 10);
    env.set(options::CHECKPOINTING_INCREMENTAL, true);
    env.set(options::CHECKPOINTING_STORAGE, CheckpointStorageType::Filesystem);
    env.set(options::CHECKPOINTING_DIR, Some(format!("{dir}/checkpoints")));
    if on_disk {
        env.set(options::STATE_BACKEND, StateBackendType::Disk);
        env.set(options::STATE_DISK_MEMORY, MemorySize(20_000));
        env.set(options::STATE_LOCAL_DIR, Some(format!("{dir}/state")));
    }
}

#[test]
fn committed_counts_are_those_of_an_undisturbed_run_wherever_the_job_is_killed() {
    let expected = expected();
    for seed in 0..12 {
        let parallelism = 1 + seed as u32 % 3;
        let mut env = simulated(parallelism, seed);
        incremental(&mut env, seed % 2 == 0, "/data");
        let (kills, sink) = (Kills::at(&kill_points(seed)), Transactions::failing((seed % 3) as u32));
        program(&env, &kills, &sink);
        let result = finished(env.execute("counts"));
        assert_eq!(sink.committed(), expected, "seed {seed}");
        assert!(result.restarts >= 1, "seed {seed}: nothing was killed");
    }
}

#[test]
fn committed_counts_are_those_of_an_undisturbed_run_in_the_real_world() {
    let expected = expected();
    for on_disk in [false, true] {
        let mut env = real(2);
        let dir = directory(&env);
        incremental(&mut env, on_disk, &dir);
        let (kills, sink) = (Kills::at(&[400, 1000]), Transactions::new());
        program(&env, &kills, &sink);
        // Both kills may come in one attempt.
        assert!((1..=2).contains(&finished(env.execute("counts")).restarts));
        assert_eq!(sink.committed(), expected);
        // A part that a killed attempt was still writing may be there: the next start of the job would delete it.
        assert_eq!(manifests(env.env(), Path::new(&dir)), [""; 0], "every checkpoint is deleted at the end");
    }
}

/// The manifests of checkpoints below a directory.
fn manifests(env: &Env, dir: &Path) -> Vec<String> {
    let below = |entry: PathBuf| {
        let is_dir = env.fs().metadata(&entry).is_ok_and(|metadata| metadata.is_dir);
        let name = entry.to_string_lossy().into_owned();
        if is_dir {
            manifests(env, &entry)
        } else {
            Vec::from_iter(name.ends_with("_metadata").then_some(name))
        }
    };
    env.fs().list(dir).unwrap_or_default().into_iter().flat_map(below).collect()
}

fn newest_checkpoint(env: &Env, dir: &str) -> PathBuf {
    let jobs = env.fs().list(Path::new(&format!("{dir}/checkpoints"))).unwrap();
    let checkpoints = env.fs().list(&jobs[0]).unwrap().into_iter();
    let complete = checkpoints.filter(|path| env.fs().metadata(&path.join("_metadata")).is_ok());
    let number = |path: &PathBuf| path.to_string_lossy().rsplit('-').next().unwrap().parse::<u64>().unwrap();
    complete.max_by_key(number).unwrap()
}

/// Bytes that were written for the checkpoint, and bytes that it consists of.
fn bytes(snapshot: &OpenSnapshot) -> (u64, u64) {
    let manifest = snapshot.manifest();
    (manifest.parts().keys().map(|file| file.len).sum(), manifest.files().iter().map(|file| file.len).sum())
}

#[test]
fn a_checkpoint_has_what_has_changed_and_is_restored_by_others_at_another_parallelism() {
    let expected = expected();
    for on_disk in [false, true] {
        let mut n_small = 0;
        for seed in 0..4 {
            let mut env = simulated(2, seed);
            incremental(&mut env, on_disk, "/data");
            env.set(options::CHECKPOINTING_RETENTION, ExternalizedCheckpointRetention::RetainOnCancellation);
            env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::None));
            let sink = Transactions::new();
            program(&env, &Kills::at(&[1100]), &sink);
            env.execute("counts").unwrap_err();
            let path = newest_checkpoint(env.env(), "/data");
            let snapshot = open_snapshot(env.env(), path.as_path()).unwrap();
            let (written, whole) = bytes(&snapshot);
            n_small += u32::from(written * 5 < whole);
            verify_snapshot(&snapshot).unwrap();

            // Another job goes on from it, with whole checkpoints and a state that is elsewhere.
            incremental(&mut env, !on_disk, "/data");
            env.set(options::JOB_ID, Some(format!("{:032x}", 7)));
            env.set(options::CHECKPOINTING_INCREMENTAL, seed % 2 == 0);
            env.set(options::STATE_RECOVERY_PATH, Some(path.display().to_string()));
            env.set_parallelism(3);
            program(&env, &Kills::at(&[]), &sink);
            finished(env.execute("counts"));
            assert_eq!(sink.committed(), expected, "seed {seed}");
        }
        // A table whose map has just grown is written as a whole.
        assert!(n_small >= 3, "{n_small} of 4 checkpoints have a fifth of the state or less");
    }
}
