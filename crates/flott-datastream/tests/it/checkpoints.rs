//! Checkpoints, restarts, savepoints: the committed output must be that of a run that nothing has disturbed.

use crate::support::{directory, real, simulated};
use crate::transactional::{Numbered, PacedSource, Transactions};
use flott_api::windowing::{EventTimeSessionWindows, TumblingEventTimeWindows};
use flott_api::{
    AggregateFunction, AsyncRetryStrategy, CoProcessFunction, Collector, KeyedContext, KeyedProcessFunction,
    ProcessContext, ProcessFunction, UserResult, WatermarkStrategy,
};
use flott_coordinator::JobStatus;
use flott_datastream::{DataStream, JobExecutionResult, StreamExecutionEnvironment};
use flott_env::sim::{CrashMode, MemoryFs, Simulation};
use flott_operators::{AsyncOutputMode, AsyncWaitConfig};
use flott_state::MapState;
use flott_types::{CheckpointStorageType, CheckpointingMode, Configuration, RestartStrategyType, options};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

pub(crate) const N_SPLITS: u32 = 3;
pub(crate) const COUNT: u64 = 400;
pub(crate) const WINDOW_MS: i64 = 100;
const N_KEYS: u64 = 7;

/// Out of order by up to 60 ms, which the strategy allows.
pub(crate) fn timestamp((split, number): &Numbered) -> i64 {
    let jitter = (number * 7919 + u64::from(*split) * 31) % 60;
    *number as i64 * 5 + 60 - jitter as i64
}

fn key((split, number): &Numbered) -> u64 {
    (number * 31 + u64::from(*split)) % N_KEYS
}

/// `(key, window.window.start, count, sum of numbers)`
pub(crate) type Row = (u64, i64, u64, u64);

#[derive(Clone)]
pub(crate) struct CountAndSum;

impl AggregateFunction<Numbered> for CountAndSum {
    type Accumulator = (u64, u64);
    type Output = (u64, u64);
    fn create_accumulator(&self) -> (u64, u64) {
        (0, 0)
    }
    fn add(&self, accumulator: &mut (u64, u64), record: &Numbered) {
        accumulator.0 += 1;
        accumulator.1 += record.1;
    }
    fn get_result(&self, accumulator: &(u64, u64)) -> (u64, u64) {
        *accumulator
    }
    fn merge(&self, accumulator: &mut (u64, u64), other: &(u64, u64)) {
        accumulator.0 += other.0;
        accumulator.1 += other.1;
    }
}

pub(crate) fn numbers(n_splits: u32, count: u64) -> impl Iterator<Item = Numbered> {
    (0..n_splits).flat_map(move |split| (0..count).map(move |number| (split, number)))
}

/// The windows of all records, naively.
pub(crate) fn expected_rows(records: impl Iterator<Item = Numbered>) -> Vec<Row> {
    let mut rows = BTreeMap::<(u64, i64), (u64, u64)>::new();
    for record in records {
        let start = timestamp(&record).div_euclid(WINDOW_MS) * WINDOW_MS;
        let row = rows.entry((key(&record), start)).or_default();
        row.0 += 1;
        row.1 += record.1;
    }
    rows.into_iter().map(|((key, start), (count, sum))| (key, start, count, sum)).collect()
}

pub(crate) fn source(
    env: &StreamExecutionEnvironment,
    n_splits: u32,
    count: u64,
    name: &str,
) -> DataStream<Numbered> {
    let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(60))
        .with_timestamp_assigner(|record: &Numbered, _| timestamp(record));
    let source = PacedSource { n_splits, count, pause_ms_max: 4 };
    env.from_source(source, strategy, name).stream().uid(name)
}

/// Panics when the job has processed these numbers of records, counted over all attempts.
#[derive(Clone)]
pub(crate) struct Kills {
    at: Arc<Vec<u64>>,
    n_processed: Arc<AtomicU64>,
}

impl Kills {
    pub(crate) fn at(at: &[u64]) -> Self {
        Self { at: Arc::new(at.to_vec()), n_processed: Arc::default() }
    }

    /// Whether the next record kills.
    pub(crate) fn is_next(&self) -> bool {
        self.at.contains(&self.n_processed.load(Ordering::Relaxed))
    }

    pub(crate) fn pass(&self, record: Numbered) -> Numbered {
        let n = self.n_processed.fetch_add(1, Ordering::Relaxed);
        assert!(!self.at.contains(&n), "killed at record {n}");
        record
    }
}

pub(crate) fn windows(stream: &DataStream<Numbered>, kills: &Kills, sink: &Transactions<Row>) {
    let (kills, behind) = (kills.clone(), kills.clone());
    stream
        .map(move |record| kills.pass(record))
        .key_by(key)
        .window(TumblingEventTimeWindows::of(Duration::from_millis(WINDOW_MS as u64)))
        .aggregate_with(CountAndSum, |key: &u64, window, (count, sum): (u64, u64)| {
            (*key, window.window.start, count, sum)
        })
        .uid("windows")
        .map(move |row| {
            behind.pass((0, 0));
            row
        })
        .sink_to(sink.clone())
        .uid("sink");
}

pub(crate) fn configure(env: &mut StreamExecutionEnvironment, interval_ms: u64) {
    env.enable_checkpointing(Duration::from_millis(interval_ms));
    env.set(options::CHECKPOINTING_STORAGE, CheckpointStorageType::JobManager);
    env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::FixedDelay));
    env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 10);
    env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::from_millis(3));
}

pub(crate) fn finished(result: flott_types::Result<JobExecutionResult>) -> JobExecutionResult {
    let result = result.unwrap();
    assert_eq!(result.status, JobStatus::Finished);
    result
}

/// Numbers of records at which to kill, from a seed.
pub(crate) fn kill_points(seed: u64) -> Vec<u64> {
    let mut rng = flott_env::sim::SimRng::new(seed);
    let total = u64::from(N_SPLITS) * COUNT;
    (0..3).map(|_| rng.below(total * 5 / 4)).collect()
}

#[test]
fn committed_windows_are_those_of_an_undisturbed_run_wherever_the_job_is_killed() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    let mut n_restored = 0;
    for seed in 0..24 {
        for parallelism in 1..=3 {
            let mut env = simulated(parallelism, seed);
            configure(&mut env, 10 + seed);
            if seed % 3 == 0 {
                env.disable_operator_chaining();
            }
            let kills = Kills::at(&kill_points(seed * 4 + u64::from(parallelism)));
            let sink = Transactions::failing((seed % 5) as u32);
            windows(&source(&env, N_SPLITS, COUNT, "numbers"), &kills, &sink);
            let result = finished(env.execute("windows"));
            assert_eq!(sink.committed(), expected, "seed {seed}, parallelism {parallelism}");
            assert!(result.restarts >= 1, "seed {seed}: nothing was killed");
            n_restored += sink.attempts().iter().filter(|attempt| !attempt.contains("nothing")).count();
        }
    }
    assert!(n_restored > 50, "only {n_restored} writers went on from a checkpoint");
}

#[test]
fn committed_windows_are_those_of_an_undisturbed_run_in_the_real_world() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    for parallelism in 1..=3 {
        let mut env = real(parallelism);
        configure(&mut env, 10);
        let kills = Kills::at(&kill_points(u64::from(parallelism)));
        let sink = Transactions::failing(1);
        windows(&source(&env, N_SPLITS, COUNT, "numbers"), &kills, &sink);
        let result = finished(env.execute("windows"));
        assert_eq!(sink.committed(), expected, "parallelism {parallelism}");
        assert!(result.restarts >= 1);
        assert!(sink.n_commits() > 1, "commits come with checkpoints, not only at the end");
    }
}

#[test]
fn at_least_once_loses_nothing() {
    let all: Vec<_> = numbers(N_SPLITS, COUNT).collect();
    for seed in 0..8 {
        for parallelism in 1..=3 {
            let mut env = simulated(parallelism, seed);
            configure(&mut env, 10);
            env.set(options::CHECKPOINTING_MODE, CheckpointingMode::AtLeastOnce);
            let kills = Kills::at(&kill_points(seed));
            let sink = Transactions::new();
            let passing = kills.clone();
            source(&env, N_SPLITS, COUNT, "numbers")
                .rebalance()
                .map(move |record| passing.pass(record))
                .sink_to(sink.clone());
            finished(env.execute("at least once"));
            let mut committed = sink.committed();
            committed.dedup();
            assert_eq!(committed, all, "seed {seed}, parallelism {parallelism}");
        }
    }
}

/// Writes at once, whatever becomes of the job.
fn write_at_once(env: &StreamExecutionEnvironment, kills: &Kills) -> Arc<Mutex<Vec<Numbered>>> {
    let (written, kills) = (Arc::<Mutex<Vec<Numbered>>>::default(), kills.clone());
    let out = Arc::clone(&written);
    source(env, N_SPLITS, COUNT, "numbers")
        .rebalance()
        .map(move |record| kills.pass(record))
        .for_each(move |record| out.lock().unwrap().push(record));
    written
}

/// No mode at all: what was written stays, what is lost stays lost, and nothing is read twice.
#[test]
fn without_checkpoints_each_record_is_written_at_most_once_wherever_the_job_is_killed() {
    let n_all = u64::from(N_SPLITS) * COUNT;
    for (env, killed_at) in [
        (real(2), n_all / 2),
        (simulated(1, 1), 1),
        (simulated(2, 2), n_all / 3),
        (simulated(3, 3), n_all - 1),
    ] {
        let written = write_at_once(&env, &Kills::at(&[killed_at]));
        let error = env.execute("at most once").unwrap_err();
        assert!(error.report().contains("killed at record"), "{}", error.report());
        let written = std::mem::take(&mut *written.lock().unwrap());
        let distinct: BTreeSet<_> = written.iter().copied().collect();
        assert_eq!(distinct.len(), written.len(), "killed at {killed_at}: something was written twice");
        assert!(distinct.is_subset(&numbers(N_SPLITS, COUNT).collect()), "something was made up");
        assert!((distinct.len() as u64) < n_all, "killed at {killed_at}: nothing is missing");
    }
}

#[test]
fn at_least_once_loses_nothing_with_a_sink_that_writes_at_once() {
    let all: BTreeSet<_> = numbers(N_SPLITS, COUNT).collect();
    let n_all = u64::from(N_SPLITS) * COUNT;
    for mut env in [real(2), simulated(1, 1), simulated(2, 2), simulated(3, 3)] {
        configure(&mut env, 10);
        env.set(options::CHECKPOINTING_MODE, CheckpointingMode::AtLeastOnce);
        let written = write_at_once(&env, &Kills::at(&[n_all / 3, n_all / 2, n_all - 1]));
        let result = finished(env.execute("at least once"));
        assert!(result.restarts >= 1, "nothing was killed");
        let written = std::mem::take(&mut *written.lock().unwrap());
        assert_eq!(written.into_iter().collect::<BTreeSet<_>>(), all);
    }
}

#[test]
fn without_checkpoints_a_failure_is_the_end_and_a_configured_restart_begins_anew() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    for env in [real(2), simulated(2, 3)] {
        let sink = Transactions::new();
        windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[]), &sink);
        let result = finished(env.execute("undisturbed"));
        assert_eq!((sink.committed(), result.restarts), (expected.clone(), 0));
    }
    let mut env = simulated(2, 5);
    let sink = Transactions::new();
    windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[500]), &sink);
    let error = env.execute("killed").unwrap_err();
    assert!(error.report().contains("killed at record 500"), "{}", error.report());
    assert_eq!(sink.n_commits(), 0);
    env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::FixedDelay));
    windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[500]), &sink);
    assert_eq!(finished(env.execute("killed")).restarts, 1);
    assert_eq!(sink.committed(), expected);
}

#[test]
fn without_an_interval_of_its_own_the_last_checkpoint_commits_a_bounded_job() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    for (parallelism, env) in [(1, simulated(1, 1)), (2, simulated(2, 2)), (2, real(2))] {
        let mut env = env;
        configure(&mut env, 3_600_000);
        let dir = directory(&env);
        env.set(options::CHECKPOINTING_DIR, Some(dir));
        env.set(options::CHECKPOINTING_STORAGE, CheckpointStorageType::Filesystem);
        let sink = Transactions::failing(3);
        windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[]), &sink);
        finished(env.execute("final"));
        assert_eq!(sink.committed(), expected);
        assert_eq!(sink.n_final(), parallelism, "each writer was told that nothing follows, once");
        assert_eq!(sink.n_commits(), parallelism as usize);
    }
}

#[test]
fn a_failed_commit_fails_the_attempt_and_the_next_commits_before_it_writes() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    let mut env = simulated(1, 8);
    configure(&mut env, 10);
    // The last commit gives up after 8 attempts, and again; the third attempt gets through.
    let sink = Transactions::failing(20);
    windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[]), &sink);
    let result = finished(env.execute("refused"));
    assert_eq!(sink.committed(), expected);
    assert_eq!(result.restarts, 2);
    // And with no restart it is the failure of the job.
    env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::None));
    windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[]), &Transactions::failing(u32::MAX));
    let error = env.execute("refused").unwrap_err();
    assert!(error.report().contains("are not committed after 8 attempts"), "{}", error.report());
}

/// Passes the records of both streams on, and tells them apart.
#[derive(Clone)]
struct Both;

impl CoProcessFunction<Numbered, Numbered, Numbered> for Both {
    fn process_element1(
        &mut self,
        record: Numbered,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Numbered>,
    ) -> UserResult {
        out.collect(record);
        Ok(())
    }
    fn process_element2(
        &mut self,
        record: Numbered,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Numbered>,
    ) -> UserResult {
        out.collect((record.0 + N_SPLITS, record.1));
        Ok(())
    }
}

/// Emits something at the end of its input.
#[derive(Clone)]
struct AtClose;

impl ProcessFunction<Numbered, u64> for AtClose {
    fn process_element(
        &mut self,
        _: Numbered,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<'_, u64>,
    ) -> UserResult {
        Ok(())
    }
    fn close(&mut self, out: &mut Collector<'_, u64>) -> UserResult {
        out.collect(1);
        Ok(())
    }
}

#[test]
fn what_is_emitted_at_the_end_of_an_input_is_emitted_once_whatever_restarts_behind_it() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    for seed in 0..8 {
        let mut env = simulated(2, seed);
        configure(&mut env, 10);
        let (sink, closed) = (Transactions::new(), Transactions::new());
        windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[900, 1300]), &sink);
        source(&env, 2, COUNT / 4, "short").process(AtClose).sink_to(closed.clone());
        assert_eq!(finished(env.execute("closing")).restarts, 2);
        assert_eq!((sink.committed(), closed.committed()), (expected.clone(), vec![1, 1]), "seed {seed}");
    }
}

/// The process is killed, with what was not synced on its disk, and the program run again; and again.
#[test]
fn a_program_that_is_run_again_goes_on_from_its_last_checkpoint() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    let mut n_restored = 0;
    for seed in 0..24 {
        let parallelism = 1 + (seed % 3) as u32;
        let (sink, disk) = (Transactions::new(), MemoryFs::default());
        let mut n_runs = 0;
        loop {
            let simulation = Simulation::new(seed * 100 + n_runs).with_disk(disk.clone());
            let mut env = StreamExecutionEnvironment::with_env(simulation.env(), Configuration::default());
            env.set_parallelism(parallelism);
            configure(&mut env, 10);
            // In the directory that is taken when none is named.
            env.set(options::CHECKPOINTING_STORAGE, CheckpointStorageType::Filesystem);
            windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[]), &sink);
            let client = env.execute_async("run again").unwrap();
            n_runs += 1;
            // A job that is left alone takes 50 to 100 ms.
            let (world, killed_at) = (env.env().clone(), Duration::from_millis(20 + seed));
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
            disk.crash(CrashMode::Random(seed));
            if let Some(result) = ended.unwrap() {
                finished(result);
                break;
            }
            assert!(n_runs < 50, "seed {seed}: no progress");
        }
        assert_eq!(sink.committed(), expected, "seed {seed}");
        assert!(n_runs > 1, "seed {seed}: nothing was killed");
        n_restored += sink.attempts().iter().filter(|attempt| !attempt.contains("nothing")).count();
    }
    assert!(n_restored > 24, "only {n_restored} writers went on from a checkpoint");
}

/// What is late depends on the watermark, which a restart must not set back: at parallelism 1, with one split, it is a function of the
/// records alone.
#[test]
fn the_same_records_are_late_as_in_an_undisturbed_run() {
    let run = |seed: u64, kills: &Kills| {
        let mut env = simulated(1, seed);
        configure(&mut env, 10);
        env.set(options::WATERMARK_GRANULARITY, Duration::from_millis(1));
        let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(5))
            .with_timestamp_assigner(|(_, number): &Numbered, _| (number * 5 + 90 - number * 37 % 89) as i64);
        let paced = PacedSource { n_splits: 1, count: 1_000, pause_ms_max: 4 };
        let sink = Transactions::new();
        windows(&env.from_source(paced, strategy, "numbers").stream(), kills, &sink);
        let result = finished(env.execute("late"));
        (sink.committed(), result.restarts)
    };
    let (undisturbed, _) = run(0, &Kills::at(&[]));
    let counted: u64 = undisturbed.iter().map(|row| row.2).sum();
    assert!(counted < 950, "{counted} of 1000 records were in time");
    for seed in 0..24 {
        let (killed, restarts) = run(seed, &Kills::at(&kill_points(seed)));
        assert_eq!(killed, undisturbed, "seed {seed}");
        assert!(restarts >= 1, "seed {seed}: nothing was killed");
    }
}

/// Two sources of which one ends long before the other, and a task that reads both.
fn two_inputs(env: &StreamExecutionEnvironment, kills: &Kills, sink: &Transactions<Row>) {
    let short = source(env, 1, COUNT / 4, "short");
    let long = source(env, N_SPLITS, COUNT, "long");
    let kills = kills.clone();
    long.connect(&short)
        .process(Both)
        .map(move |record| kills.pass(record))
        .key_by(key)
        .window(TumblingEventTimeWindows::of(Duration::from_millis(WINDOW_MS as u64)))
        .aggregate_with(CountAndSum, |key: &u64, window, (count, sum): (u64, u64)| {
            (*key, window.window.start, count, sum)
        })
        .sink_to(sink.clone());
}

fn expected_of_two() -> Vec<Row> {
    // The timestamps are those of the short source, before its splits were renamed.
    let mut rows = BTreeMap::<(u64, i64), (u64, u64)>::new();
    let short = numbers(1, COUNT / 4).map(|record| (timestamp(&record), (record.0 + N_SPLITS, record.1)));
    for (timestamp, record) in
        numbers(N_SPLITS, COUNT).map(|record| (timestamp(&record), record)).chain(short)
    {
        let row = rows.entry((key(&record), timestamp.div_euclid(WINDOW_MS) * WINDOW_MS)).or_default();
        row.0 += 1;
        row.1 += record.1;
    }
    rows.into_iter().map(|((key, start), (count, sum))| (key, start, count, sum)).collect()
}

#[test]
fn checkpoints_go_on_when_one_source_has_finished_and_align_over_both_inputs() {
    let expected = expected_of_two();
    let mut n_late_restores = 0;
    for seed in 0..16 {
        for parallelism in 1..=3 {
            let mut env = simulated(parallelism, seed);
            configure(&mut env, 10);
            if seed % 2 == 0 {
                env.disable_operator_chaining();
            }
            // The second kill is certainly behind the end of the short source.
            let kills = Kills::at(&[200 + seed * 10, 900 + seed * 20]);
            let sink = Transactions::new();
            two_inputs(&env, &kills, &sink);
            let result = finished(env.execute("two inputs"));
            assert_eq!(sink.committed(), expected, "seed {seed}, parallelism {parallelism}");
            assert_eq!(result.restarts, 2);
            n_late_restores += sink
                .attempts()
                .iter()
                .filter(|it| it.starts_with("2 from") && !it.contains("nothing"))
                .count();
        }
    }
    assert!(n_late_restores > 48, "only {n_late_restores} restores behind the end of one source");
}

/// Records wait in asynchronous calls, sessions grow, and a function keeps timers while checkpoints are taken.
fn busy_program(env: &StreamExecutionEnvironment, kills: &Kills, sink: &Transactions<Row>) {
    let (kills, behind, world) = (kills.clone(), kills.clone(), env.env().clone());
    let config = AsyncWaitConfig {
        output_mode: AsyncOutputMode::Ordered,
        capacity: 20,
        timeout: None,
        retry: AsyncRetryStrategy::NoRetry,
    };
    source(env, N_SPLITS, COUNT, "numbers")
        .map(move |record| kills.pass(record))
        .async_wait(
            move |record: Numbered| {
                let world = world.clone();
                async move {
                    world.sleep(Duration::from_millis(world.random_u64() % 4)).await;
                    Ok(vec![record])
                }
            },
            config,
        )
        .filter(|record: &Numbered| record.1 % 50 < 35)
        .key_by(key)
        .window(EventTimeSessionWindows::with_gap(Duration::from_millis(60)))
        .aggregate_with(CountAndSum, |key: &u64, window, (count, sum): (u64, u64)| {
            (*key, window.window.start, count, sum)
        })
        .key_by(|row: &Row| row.0)
        .process(SumsAtTimers { sums: MapState::new("sums") })
        .map(move |row: Row| {
            behind.pass((0, 0));
            row
        })
        .sink_to(sink.clone());
}

/// Per key, sums up rows of 500 ms and emits the sum when event time has long passed them.
#[derive(Clone)]
struct SumsAtTimers {
    sums: MapState<i64, (u64, u64)>,
}

impl KeyedProcessFunction<u64, Row, Row> for SumsAtTimers {
    fn process_element(
        &mut self,
        (_, start, count, sum): Row,
        ctx: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, Row>,
    ) -> UserResult {
        let at = start.div_euclid(500) * 500 + 3_000;
        let (counted, summed) = self.sums.get(ctx, &at)?.copied().unwrap_or_default();
        self.sums.put(ctx, at, (counted + count, summed + sum))?;
        ctx.register_event_time_timer(at);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timestamp: i64,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Row>,
    ) -> UserResult {
        let (count, sum) = self.sums.get(ctx, &timestamp)?.copied().unwrap_or_default();
        self.sums.remove(ctx, &timestamp)?;
        out.collect((*ctx.current_key(), timestamp, count, sum));
        Ok(())
    }
}

#[test]
fn whatever_operators_hold_is_in_the_checkpoint() {
    let run = |parallelism: u32, seed: u64, kills: &Kills| {
        let mut env = simulated(parallelism, seed);
        configure(&mut env, 10);
        let sink = Transactions::new();
        busy_program(&env, kills, &sink);
        let result = finished(env.execute("busy"));
        (sink.committed(), result.restarts)
    };
    let (undisturbed, _) = run(1, 0, &Kills::at(&[]));
    let counted: u64 = undisturbed.iter().map(|row| row.2).sum();
    assert_eq!(counted, u64::from(N_SPLITS) * COUNT * 35 / 50);
    for seed in 0..16 {
        for parallelism in 1..=3 {
            let (killed, restarts) = run(parallelism, seed, &Kills::at(&kill_points(seed)));
            assert_eq!(killed, undisturbed, "seed {seed}, parallelism {parallelism}");
            assert!(restarts >= 1, "seed {seed}: nothing was killed");
        }
    }
}

#[test]
fn a_job_that_had_ended_when_its_process_died_says_so_and_does_not_run_again() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    let disk = MemoryFs::default();
    let sink = Transactions::new();
    let start = |seed| {
        let world = Simulation::new(seed).with_disk(disk.clone());
        let mut env = StreamExecutionEnvironment::with_env(world.env(), Configuration::default());
        configure(&mut env, 10);
        env.set(options::CHECKPOINTING_STORAGE, CheckpointStorageType::Filesystem);
        env.set(options::CHECKPOINTING_DIR, Some("/checkpoints".to_owned()));
        windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[]), &sink);
        let client = env.execute_async("windows").unwrap();
        (world, client)
    };
    let (world, client) = start(1);
    let mut status = client.status_changes();
    world.run(async move { drop(status.wait_for(|status| status.is_terminal()).await) }).expect("it ends");
    // The process dies: nothing of it is dropped.
    std::mem::forget((client, world));
    assert_eq!(sink.committed(), expected);
    let (_world, client) = start(2);
    let result = finished(client.wait());
    assert!(result.is_recorded);
    assert_eq!((sink.committed(), result.savepoint), (expected.clone(), None), "it has not run again");
    // Now it was told: the same command is a new order.
    let (_world, client) = start(3);
    assert!(!finished(client.wait()).is_recorded);
    assert_eq!(sink.committed().len(), 2 * expected.len());
    // Who lets the client fall does not want to hear it.
    let (_world, client) = start(4);
    assert!(!finished(client.wait()).is_recorded);
}
