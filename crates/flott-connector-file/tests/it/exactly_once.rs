//! From files to files: whatever dies, each line of the input is once in the committed output.

use flott_api::{AsyncFunction, AsyncRetryStrategy, UserResult, WatermarkStrategy};
use flott_connector_file::{Compression, FileSink, FileSource, PartitionCommit, RollingPolicy};
use flott_coordinator::JobStatus;
use flott_datastream::StreamExecutionEnvironment;
use flott_env::sim::{CrashMode, MemoryFs, SimRng, Simulation};
use flott_env::{Env, FileSystem};
use flott_operators::{AsyncOutputMode, AsyncWaitConfig};
use flott_types::{Configuration, RestartStrategyType, options};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

const N_LINES: u64 = 600;

/// Lets a record wait up to a few milliseconds.
#[derive(Clone)]
struct Pace(Env);

impl AsyncFunction<String, String> for Pace {
    fn async_invoke(&self, line: String) -> impl Future<Output = UserResult<Vec<String>>> + Send + 'static {
        let done = self.0.sleep(Duration::from_micros(self.0.random_u64() % 4000));
        async move {
            done.await;
            Ok(vec![line])
        }
    }
}

fn pace() -> AsyncWaitConfig {
    AsyncWaitConfig {
        output_mode: AsyncOutputMode::Ordered,
        capacity: 16,
        timeout: None,
        retry: AsyncRetryStrategy::NoRetry,
    }
}

fn put(disk: &MemoryFs, path: &str, content: &[u8]) {
    let mut file = disk.create(Path::new(path)).unwrap();
    file.write_all(content).unwrap();
    file.sync().unwrap();
}

/// Plain files, one of them read in ranges, and an archive.
fn input(disk: &MemoryFs) -> Vec<String> {
    disk.create_dir_all(Path::new("/in")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let lines: Vec<String> = (0..N_LINES).map(|n| format!("{}/{n}", n % 3)).collect();
    for (idx, part) in lines.chunks(N_LINES as usize / 3).enumerate() {
        let text = part.join("\n");
        match idx {
            0 => put(disk, "/in/a.txt", text.as_bytes()),
            1 => put(disk, "/in/b.zst", &zstd::encode_all(text.as_bytes(), 1).unwrap()),
            _ => put(disk, "/in/c.txt", text.as_bytes()),
        }
    }
    disk.sync_dir(Path::new("/in")).unwrap();
    let mut lines = lines;
    lines.sort();
    lines
}

/// All committed lines, sorted.
fn committed(disk: &MemoryFs) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, content) in disk.files() {
        let Ok(name) = path.strip_prefix("/out") else { continue };
        if name.starts_with(".flott") || name.ends_with("_SUCCESS") {
            continue;
        }
        let mut text = String::new();
        zstd::stream::read::Decoder::new(&content[..]).unwrap().read_to_string(&mut text).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

fn hidden(disk: &MemoryFs) -> usize {
    let is_part = |path: &Path| {
        path.starts_with("/out/.flott")
            && path.file_name().is_some_and(|name| name.to_str().unwrap().starts_with("part"))
    };
    disk.files().keys().filter(|path| is_part(path)).count()
}

fn environment(seed: u64, disk: &MemoryFs, parallelism: u32) -> (Simulation, StreamExecutionEnvironment) {
    let simulation = Simulation::new(seed).with_disk(disk.clone());
    let mut env = StreamExecutionEnvironment::with_env(simulation.env(), Configuration::default());
    env.set_parallelism(parallelism).enable_checkpointing(Duration::from_millis(10));
    env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::FixedDelay));
    env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 10);
    env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::from_millis(3));
    env.set(options::CHECKPOINTING_DIR, Some("/checkpoints".to_owned()));
    (simulation, env)
}

/// The job; it panics when these numbers of lines have passed.
fn build(env: &StreamExecutionEnvironment, kills: &[u64]) {
    let (passed, kills) = (Arc::new(AtomicU64::new(0)), kills.to_vec());
    let source = FileSource::lines("/in").split_bytes(300);
    let sink = FileSink::lines("/out")
        .rolling(RollingPolicy::never().max_part_size(100))
        .compression(Compression::Zstd)
        .partition_by(|line: &String| format!("part={}", line.split('/').next().unwrap()))
        .partition_commit(PartitionCommit::on_watermark(|_| None));
    env.from_source(source, WatermarkStrategy::no_watermarks(), "lines")
        .stream()
        .uid("lines")
        .async_wait(Pace(env.env().clone()), pace())
        .uid("pace")
        .map(move |line| {
            let n = passed.fetch_add(1, Ordering::Relaxed);
            assert!(!kills.contains(&n), "killed at line {n}");
            line
        })
        .rebalance()
        .sink_to(sink)
        .uid("files");
}

fn assert_complete(disk: &MemoryFs, expected: &[String], seed: u64) {
    assert_eq!(committed(disk), expected, "seed {seed}");
    assert_eq!(hidden(disk), 0, "seed {seed}: nothing is left over");
    let files = disk.files();
    for partition in 0..3 {
        assert!(files.contains_key(Path::new(&format!("/out/part={partition}/_SUCCESS"))), "seed {seed}");
    }
}

#[test]
fn a_job_whose_subtasks_die_has_each_line_once_in_committed_files() {
    for seed in 0..16 {
        let disk = MemoryFs::default();
        let expected = input(&disk);
        let mut rng = SimRng::new(seed);
        let (_simulation, env) = environment(seed, &disk, 1 + (seed % 3) as u32);
        let kills: Vec<u64> = (0..3).map(|_| rng.below(N_LINES)).collect();
        build(&env, &kills);
        let result = env.execute("files to files").unwrap();
        assert_eq!(result.status, JobStatus::Finished);
        assert!(result.restarts >= 1, "seed {seed}: nothing was killed");
        disk.crash(CrashMode::LoseUnsynced);
        assert_complete(&disk, &expected, seed);
    }
}

#[test]
fn a_process_that_dies_with_its_disk_has_each_line_once_in_committed_files() {
    let mut n_committed_between = 0;
    for seed in 0..16 {
        let disk = MemoryFs::default();
        let expected = input(&disk);
        let mut rng = SimRng::new(seed);
        let mut n_runs = 0;
        loop {
            let parallelism = 1 + ((seed + n_runs) % 3) as u32;
            let (simulation, env) = environment(seed * 1000 + n_runs, &disk, parallelism);
            build(&env, &[]);
            let client = env.execute_async("files to files").unwrap();
            n_runs += 1;
            let (world, killed_at) = (env.env().clone(), Duration::from_millis(15 + rng.below(40)));
            let ended = simulation.run(async move {
                let mut killed = world.sleep(killed_at);
                let mut ended = std::pin::pin!(client.result());
                std::future::poll_fn(|cx| {
                    if let Poll::Ready(result) = ended.as_mut().poll(cx) {
                        return Poll::Ready(Some(result));
                    }
                    killed.as_mut().poll(cx).map(|()| None)
                })
                .await
            });
            // What a reader has seen stays, and is never more than there is.
            let seen = committed(&disk);
            let modes = [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Random(n_runs)];
            disk.crash(modes[(seed + n_runs) as usize % 3]);
            let distinct: BTreeSet<&String> = seen.iter().collect();
            assert_eq!(distinct.len(), seen.len(), "seed {seed}: a line was seen twice");
            assert!(seen.iter().all(|line| expected.contains(line)));
            if let Some(result) = ended.unwrap() {
                assert_eq!(result.unwrap().status, JobStatus::Finished);
                break;
            }
            n_committed_between += usize::from(!seen.is_empty());
            assert!(n_runs < 60, "seed {seed}: no progress");
        }
        assert!(n_runs > 1, "seed {seed}: nothing was killed");
        assert_complete(&disk, &expected, seed);
    }
    assert!(n_committed_between > 16, "only {n_committed_between} deaths came between commits");
}
