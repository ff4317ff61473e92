//! A job from numbers to files, with checkpoints in the object store.

use flott::connectors::file::FileSink;
use flott::prelude::*;
use flott::{AsyncFunction, AsyncOutputMode, AsyncRetryStrategy, AsyncWaitConfig, UserResult};
use flott_types::Configuration;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const N_RECORDS: u64 = 2_000;

/// A job of a test: the settings of the server, where in it, where its output goes.
pub(crate) struct Job<'a> {
    pub(crate) config: &'a Configuration,
    /// `s3://bucket/prefix`.
    pub(crate) place: &'a str,
    pub(crate) output: &'a Path,
    pub(crate) parallelism: u32,
    /// Fails once when this many records have passed.
    pub(crate) fails_at: Option<u64>,
}

/// Lets a record wait some milliseconds, so that checkpoints come in between.
#[derive(Clone)]
struct Pace(flott::env::Env);

impl AsyncFunction<u64, u64> for Pace {
    fn async_invoke(&self, number: u64) -> impl Future<Output = UserResult<Vec<u64>>> + Send + 'static {
        let done = self.0.sleep(Duration::from_millis(20));
        async move {
            done.await;
            Ok(vec![number])
        }
    }
}

impl Job<'_> {
    pub(crate) fn env(&self) -> StreamExecutionEnvironment {
        let mut env = StreamExecutionEnvironment::with_configuration(self.config.clone()).unwrap();
        env.set_parallelism(self.parallelism).enable_checkpointing(Duration::from_millis(100));
        env.set(options::CHECKPOINTING_DIR, Some(format!("{}/checkpoints", self.place)));
        env.set(options::CHECKPOINTING_SAVEPOINT_DIR, Some(format!("{}/savepoints", self.place)));
        env.set(options::CHECKPOINTING_TOLERABLE_FAILED, 1_000);
        env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 10);
        env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::from_millis(10));
        env.set(options::RESTART_STRATEGY, Some(flott_types::RestartStrategyType::FixedDelay));
        self.build(&env);
        env
    }

    fn build(&self, env: &StreamExecutionEnvironment) {
        let (passed, fails_at) = (Arc::new(AtomicU64::new(0)), self.fails_at);
        let pace = AsyncWaitConfig {
            output_mode: AsyncOutputMode::Ordered,
            capacity: 32,
            timeout: None,
            retry: AsyncRetryStrategy::NoRetry,
        };
        let numbers = GeneratorSource::new(|n| n, Some(N_RECORDS));
        env.from_source(numbers, WatermarkStrategy::no_watermarks(), "numbers")
            .stream()
            .uid("numbers")
            .async_wait(Pace(env.env().clone()), pace)
            .uid("pace")
            .map(move |number: u64| {
                let n = passed.fetch_add(1, Ordering::Relaxed);
                assert!(fails_at != Some(n), "killed at record {n}");
                number
            })
            .key_by(|number| number % 16)
            .reduce(|sum, number| *sum += number)
            .uid("sums")
            .map(|sum: u64| sum.to_string())
            .sink_to(FileSink::lines(self.output))
            .uid("files");
    }
}

/// The last sum of each key.
pub(crate) fn totals() -> Vec<String> {
    (0..16).map(|key| (0..N_RECORDS).filter(|number| number % 16 == key).sum::<u64>().to_string()).collect()
}

/// The sums in the order of each key, as the job must have written them, sorted.
pub(crate) fn expected() -> Vec<String> {
    let mut sums = [0; 16];
    let mut lines: Vec<_> = (0..N_RECORDS)
        .map(|number| {
            let sum: &mut u64 = &mut sums[(number % 16) as usize];
            *sum += number;
            sum.to_string()
        })
        .collect();
    lines.sort();
    lines
}

/// All committed lines, sorted.
pub(crate) fn committed(output: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(output).into_iter().flatten() {
        let path = entry.unwrap().path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && path.is_file() {
            lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

/// Settings as processes are given them, in the variable `FLOTT_PROPERTIES`.
pub(crate) fn properties(config: &Configuration) -> String {
    config.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
}

/// This binary as a process to be killed: `child PLACE OUTPUT`, with its settings in a variable.
pub(crate) fn child(arguments: &[String]) -> ExitCode {
    let [place, output] = arguments else { return ExitCode::from(2) };
    let env = flott::env::Env::real().unwrap();
    let config = flott::load_configuration(&env, |name| std::env::var(name).ok(), []).unwrap();
    let job = Job { config: &config, place, output: Path::new(output), parallelism: 2, fails_at: None };
    match job.env().execute("job") {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}
