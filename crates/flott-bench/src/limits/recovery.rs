//! How long a region that has failed does not run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flott_api::sinks::BlackholeSink;
use flott_api::sources::GeneratorSource;
use flott_api::{Collector, ProcessContext, ProcessFunction, UserResult, WatermarkStrategy};
use flott_env::{Env, Instant};
use flott_types::{RestartStrategyType, options};

use crate::engine::environment;

/// Time between failures, and a few checkpoints.
const RUNS_FOR: Duration = Duration::from_millis(250);

const RECORDS_PER_SECOND: f64 = 10_000.0;

/// Two pipelines, one of which fails again and again: from the failure until it processes its next record, which waits for its region to be
/// stopped, for another owner of the job and for its checkpoint. The pause of the restart strategy is 0.
pub(super) fn recovery(duration: Duration) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut env = environment(1);
    env.set(options::CHECKPOINTING_INTERVAL, Some(RUNS_FOR / 5));
    env.set(options::CHECKPOINTING_DIR, Some(dir.path().display().to_string()));
    env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::FixedDelay));
    env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, u32::MAX);
    env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::ZERO);
    let failures = Failures::default();
    let source = || GeneratorSource::new(|index| index, None).rate_per_second(RECORDS_PER_SECOND);
    env.from_source(source(), WatermarkStrategy::no_watermarks(), "fails")
        .stream()
        .process(Failing { clock: env.env().clone(), failures: failures.clone() })
        .sink_to(BlackholeSink::new());
    env.from_source(source(), WatermarkStrategy::no_watermarks(), "goes on")
        .map(|index| index)
        .sink_to(BlackholeSink::new());
    let job = env.execute_async("recovery").expect("the job starts");
    let clock = env.env();
    clock.block_on(clock.sleep(duration));
    let pauses = failures.0.lock().unwrap_or_else(PoisonError::into_inner).pauses.clone();
    println!("{:.3}", super::median(pauses));
    drop(job);
    drop(dir);
    std::process::exit(0);
}

/// What all attempts know.
#[derive(Clone, Debug, Default)]
struct Failures(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    /// Until the next record is processed.
    failed_at: Option<Instant>,
    runs_since: Option<Instant>,
    /// In milliseconds.
    pauses: Vec<f64>,
}

#[derive(Clone, Debug)]
struct Failing {
    clock: Env,
    failures: Failures,
}

impl ProcessFunction<u64, u64> for Failing {
    fn process_element(
        &mut self,
        index: u64,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        let now = self.clock.now();
        let mut times = self.failures.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed_at) = times.failed_at.take() {
            times.pauses.push((now - failed_at).as_secs_f64() * 1e3);
            times.runs_since = Some(now);
        }
        let runs_since = *times.runs_since.get_or_insert(now);
        if now - runs_since < RUNS_FOR {
            out.collect(index);
            return Ok(());
        }
        times.failed_at = Some(now);
        Err("as it is to".into())
    }
}
