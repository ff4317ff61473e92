//! The jobs of the child processes. Each prints its number.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flott_api::WatermarkStrategy;
use flott_api::sinks::{BlackholeSink, FnSink};
use flott_api::sources::{GeneratorSource, channel_source};
use flott_api::windowing::TumblingEventTimeWindows;
use flott_datastream::StreamExecutionEnvironment;

use crate::engine::{BlockSource, Count, environment};

/// What the trivial job computes.
pub(super) const FIRST_RESULT: &str = "42";

const LATENCY_RECORDS_PER_SECOND: f64 = 10_000.0;

/// Each record is the time at which it was made; with its own clock the source makes it when it is due.
pub(super) fn latency(duration: Duration) {
    let env = environment(2);
    let clock = env.env().clone();
    let started = clock.now();
    let source_clock = clock.clone();
    let n_records = (duration.as_secs_f64() * LATENCY_RECORDS_PER_SECOND) as u64;
    let make = move |index| (index, (source_clock.now() - started).as_micros() as u64);
    let source = GeneratorSource::new(make, Some(n_records)).rate_per_second(LATENCY_RECORDS_PER_SECOND);
    let latencies = Arc::new(Mutex::new(Vec::with_capacity(n_records as usize)));
    let of_job = Arc::clone(&latencies);
    env.from_source(source, WatermarkStrategy::no_watermarks(), "records")
        .key_by(|(index, _)| *index % 100)
        .reduce(|latest, record| *latest = record)
        .sink_to(FnSink::new(move |(_, made_at): (u64, u64)| {
            let now = (clock.now() - started).as_micros() as u64;
            latencies.lock().unwrap_or_else(PoisonError::into_inner).push(now - made_at);
        }));
    execute(&env);
    let mut latencies = of_job.lock().unwrap_or_else(PoisonError::into_inner);
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or(u64::MAX);
    println!("{:.3}", p99 as f64 / 1e3);
}

/// A window over one record, which the end of the input fires.
pub(super) fn startup() {
    let env = environment(1);
    let result = BlockSource::timed(42, |index| (index, index as i64))
        .stream(&env)
        .key_by(|_| 0_u64)
        .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
        .aggregate(Count);
    result.sink_to(FnSink::new(|count: u64| println!("{count}")));
    execute(&env);
}

/// An unbounded keyed program with parallelism 2 whose input says nothing.
pub(super) fn idle_memory(duration: Duration) {
    let env = environment(2);
    let (_sender, source) = channel_source::<u64>(1_000);
    env.from_source(source, WatermarkStrategy::for_monotonous_timestamps(), "records")
        .key_by(|record| *record)
        .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
        .aggregate(Count)
        .sink_to(BlackholeSink::new());
    run_for(&env, duration, |peak_mb| println!("{peak_mb:.1}"));
}

/// A fast source, an exchange, and a sink that takes a record each 100 ms.
pub(super) fn stalled_sink(duration: Duration) {
    let env = environment(2);
    BlockSource::timed(1_000_000_000, |index| (index, index as i64))
        .stream(&env)
        .rebalance()
        .map(|index| index)
        .start_new_chain()
        .sink_to(FnSink::new(|_| nap()));
    run_for(&env, duration, |peak_mb| println!("{peak_mb:.1}"));
}

#[expect(clippy::disallowed_methods, reason = "a sink that blocks, as user code may")]
fn nap() {
    std::thread::sleep(Duration::from_millis(100));
}

fn execute(env: &StreamExecutionEnvironment) {
    if let Err(error) = env.execute("limit") {
        panic!("the job failed: {}", error.report());
    }
}

/// Lets an endless job run for a while and reports the most memory that was resident meanwhile.
fn run_for(env: &StreamExecutionEnvironment, duration: Duration, report: impl FnOnce(f64)) {
    let job = match env.execute_async("limit") {
        Ok(job) => job,
        Err(error) => panic!("the job did not start: {}", error.report()),
    };
    let clock = env.env().clone();
    let (started, mut peak_mb) = (clock.now(), 0.0_f64);
    while clock.now() - started < duration {
        clock.block_on(clock.sleep(Duration::from_millis(50)));
        peak_mb = peak_mb.max(resident_mb());
    }
    report(peak_mb);
    // The sink may sleep for long: the process ends without it.
    drop(job);
    std::process::exit(0);
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file of the operating system about this process, not of the engine"
)]
/// Resident memory of this process; not a number where the operating system does not tell.
fn resident_mb() -> f64 {
    const PAGE_BYTES: f64 = 4096.0;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.map_or(f64::NAN, |pages| pages * PAGE_BYTES / 1e6)
}
