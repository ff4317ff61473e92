//! A job from numbers to a table, with checkpoints in a directory.

use flott::prelude::*;
use flott::{AsyncFunction, AsyncOutputMode, AsyncRetryStrategy, AsyncWaitConfig, UserResult};
use flott_connector_postgres::{PostgresSink, PostgresValue};
use flott_types::RestartStrategyType;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub(crate) const N_RECORDS: u64 = 2_000;

/// A job of a test.
pub(crate) struct Job<'a> {
    /// `transactional`, `eager` or `upsert`.
    pub(crate) mode: &'a str,
    pub(crate) url: &'a str,
    /// Where its checkpoints are.
    pub(crate) place: &'a Path,
    pub(crate) parallelism: u32,
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

pub(crate) fn environment(place: &Path, parallelism: u32) -> StreamExecutionEnvironment {
    let mut env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    env.set_parallelism(parallelism).enable_checkpointing(Duration::from_millis(50));
    env.set(options::CHECKPOINTING_DIR, Some(place.join("checkpoints").display().to_string()));
    env.set(options::CHECKPOINTING_TOLERABLE_FAILED, 1_000);
    env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::FixedDelay));
    env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 400);
    env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::from_millis(50));
    env
}

impl Job<'_> {
    pub(crate) fn sink(&self) -> PostgresSink<u64> {
        let row = |n: &u64| vec![PostgresValue::from(*n), PostgresValue::from(format!("number {n}"))];
        let sink = PostgresSink::with_row(self.url, "numbers", ["n", "name"], row)
            .buffer_flush_max_rows(50)
            .buffer_flush_interval(Duration::from_millis(10));
        match self.mode {
            "transactional" => sink.create_table("CREATE TABLE IF NOT EXISTS numbers(n bigint, name text)"),
            "eager" => sink.create_table("CREATE TABLE IF NOT EXISTS numbers(n bigint, name text)").eager(),
            _ => sink
                .create_table("CREATE TABLE IF NOT EXISTS numbers(n bigint PRIMARY KEY, name text)")
                .upsert_by(["n"]),
        }
    }

    pub(crate) fn env(&self) -> StreamExecutionEnvironment {
        let env = environment(self.place, self.parallelism);
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
            .rebalance()
            .sink_to(self.sink())
            .uid("table");
        env
    }
}

/// This binary as a process to be killed: `child MODE URL PLACE`.
pub(crate) fn child(arguments: &[String]) -> ExitCode {
    let [mode, url, place] = arguments else { return ExitCode::from(2) };
    let job = Job { mode, url, place: Path::new(place), parallelism: 2 };
    let env = if mode == "cdc" { crate::changes::env(url, Path::new(place)) } else { job.env() };
    match env.execute("job") {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}
