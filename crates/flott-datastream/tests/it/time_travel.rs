//! Jobs over a part of their sources: from a time, until a time, from given positions. What windows inside of that part say must be what
//! they say in a job that reads everything.

use crate::checkpoints::{
    COUNT, Kills, N_SPLITS, Row, WINDOW_MS, configure, expected_rows, finished, numbers, source, timestamp,
    windows,
};
use crate::support::{directory, simulated};
use crate::transactional::{ENDLESS, Numbered, PacedSource, PacedSplit, Transactions};
use flott_api::windowing::TumblingEventTimeWindows;
use flott_api::{
    Boundedness, EnumeratorInit, Source, SourceReader, SourceReaderContext, SplitEnumerator,
    SplitEnumeratorContext, SplitSource, StartingPosition, StaticSplitEnumerator, Until, WatermarkStrategy,
};
use flott_datastream::{AtStop, JobClient, StreamExecutionEnvironment};
use flott_env::sim::SimRng;
use flott_types::{Configuration, Result, SubtaskIndex, options};
use std::time::Duration;

/// A part of the sources of the tests: from when, until when.
type Span = (i64, i64);

/// Within the first `COUNT` records of each split, by far.
fn random_span(rng: &mut SimRng) -> Span {
    let from = rng.below(COUNT * 3) as i64;
    (from, from + 1 + rng.below(COUNT * 3 / 2) as i64)
}

fn within((from, until): Span, record: &Numbered) -> bool {
    (from..until).contains(&timestamp(record))
}

/// The windows over the records of a span.
fn expected_within(span: Span) -> Vec<Row> {
    expected_rows(numbers(N_SPLITS, 2 * COUNT).filter(|record| within(span, record)))
}

fn set_span(config: &mut Configuration, prefix: &str, (from, until): Span) {
    config.set(&format!("{prefix}.scan.startup.timestamp-millis"), &from.to_string()).unwrap();
    config.set(&format!("{prefix}.scan.bounded.timestamp-millis"), &until.to_string()).unwrap();
}

/// An environment with a span that is configured for all sources, or for one.
fn with_span(parallelism: u32, seed: u64, prefix: &str, span: Span) -> StreamExecutionEnvironment {
    let simulated = simulated(parallelism, seed);
    let mut config = simulated.configuration().clone();
    set_span(&mut config, prefix, span);
    let mut env = StreamExecutionEnvironment::with_env(simulated.env().clone(), config);
    env.set_parallelism(parallelism);
    env
}

#[test]
fn a_bounded_run_over_an_endless_source_has_the_windows_of_its_span_wherever_it_is_killed() {
    let (mut n_restarts, mut n_rows) = (0, 0);
    for seed in 0..40 {
        let parallelism = 1 + (seed % 3) as u32;
        let span = random_span(&mut SimRng::new(seed));
        let mut env = with_span(parallelism, seed, "source", span);
        configure(&mut env, 10 + seed % 7);
        let (sink, kills) =
            (Transactions::failing((seed % 3) as u32), Kills::at(&[seed, 90 + 5 * seed, 500]));
        windows(&source(&env, N_SPLITS, ENDLESS, "numbers"), &kills, &sink);
        let result = finished(env.execute("span"));
        let expected = expected_within(span);
        assert_eq!(sink.committed(), expected, "seed {seed}, parallelism {parallelism}, {span:?}");
        let of_everything = expected_rows(numbers(N_SPLITS, 2 * COUNT));
        let inside = |row: &&Row| row.1 >= span.0 && row.1 + WINDOW_MS <= span.1;
        assert!(of_everything.iter().filter(inside).all(|row| expected.contains(row)), "seed {seed}");
        n_restarts += result.restarts;
        n_rows += expected.len();
    }
    assert!(n_restarts > 40 && n_rows > 500, "{n_restarts} restarts, {n_rows} windows");
}

fn in_dir(
    env: &mut StreamExecutionEnvironment,
    dir: &str,
    from: Option<String>,
    sink: &Transactions<Row>,
) -> JobClient {
    env.set(options::CHECKPOINTING_SAVEPOINT_DIR, Some(dir.to_owned()));
    env.set(options::STATE_RECOVERY_PATH, from);
    windows(&source(env, N_SPLITS, ENDLESS, "numbers"), &Kills::at(&[]), sink);
    env.execute_async("travel").unwrap()
}

/// Stops the job after `ms` milliseconds.
fn stop(client: JobClient, env: &StreamExecutionEnvironment, ms: u64) -> String {
    let (handle, world) = (client.savepoints(), env.env().clone());
    let (path, ended) = env.env().block_on(async move {
        world.sleep(Duration::from_millis(ms)).await;
        (handle.stop_with_savepoint(None, AtStop::Suspend).await, client.result().await)
    });
    finished(ended);
    path.unwrap()
}

#[test]
fn a_restored_job_goes_on_from_its_positions_whatever_start_is_configured_and_ends_where_it_says_now() {
    for seed in 0..12 {
        let (before, after) = (1 + (seed % 3) as u32, 1 + (seed / 3 % 3) as u32);
        let (from, until) = (20 * seed as i64, 3_000 + seed as i64 * 31);
        let mut env = with_span(before, seed, "source", (from, i64::MAX));
        let (sink, dir) = (Transactions::new(), directory(&env));
        let path = stop(in_dir(&mut env, &dir, None, &sink), &env, 20);
        assert!(sink.n_commits() > 0, "it has stopped");
        // Another start would leave out records that the first job has not read.
        let mut config = env.configuration().clone();
        set_span(&mut config, "source", (until - 1, until));
        let mut env = StreamExecutionEnvironment::with_env(env.env().clone(), config);
        env.set_parallelism(after);
        configure(&mut env, 10);
        finished(in_dir(&mut env, &dir, Some(path), &sink).wait());
        assert_eq!(sink.committed(), expected_within((from, until)), "seed {seed}: {before} to {after}");
    }
}

#[test]
fn a_job_without_an_end_that_is_restored_with_one_behind_its_watermark_ends_at_once() {
    let mut env = simulated(2, 7);
    let (sink, dir) = (Transactions::new(), directory(&env));
    let path = stop(in_dir(&mut env, &dir, None, &sink), &env, 60);
    let n_committed = sink.committed().len();
    env.set(options::SOURCE_BOUNDED_TIMESTAMP, Some(flott_types::TimestampText(1)));
    let result = finished(in_dir(&mut env, &dir, Some(path), &sink).wait());
    assert_eq!(result.operators[0].records_out, 0);
    // What had been read was read: the windows that were open fire.
    assert!(sink.committed().len() > n_committed);
}

/// Late records, and windows that are corrected by them: at parallelism 1 with one split both runs are functions of the records alone.
#[test]
fn late_records_are_dropped_or_correct_their_window_as_in_a_run_over_everything() {
    let run = |until: Option<i64>, lateness_ms: u64| {
        let env = simulated(1, 3);
        let mut config = env.configuration().clone();
        config.set_option(options::WATERMARK_GRANULARITY, &Duration::from_millis(1));
        let env = StreamExecutionEnvironment::with_env(env.env().clone(), config);
        let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(5))
            .with_timestamp_assigner(|(_, number): &Numbered, _| (number * 5 + 90 - number * 37 % 89) as i64);
        let count = until.map_or(800, |_| ENDLESS);
        let paced = PacedSource { n_splits: 1, count, pause_ms_max: 1 };
        let stream = env.from_source(paced, strategy, "numbers");
        let stream = stream.until(until.map_or(Until::End, Until::Timestamp)).stream();
        let (sink, rows) = flott_api::sinks::collect_sink();
        stream
            .key_by(|record| record.1 % 2)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(50)))
            .allowed_lateness(Duration::from_millis(lateness_ms))
            .aggregate_with(crate::checkpoints::CountAndSum, |key: &u64, ctx, sums| {
                (ctx.window.end, *key, sums)
            })
            .sink_to(sink);
        finished(env.execute("late"));
        rows.take()
    };
    for lateness_ms in [0, 30, 60] {
        let live = run(None, lateness_ms);
        for until in [1, 50, 120, 300, 333, 1_000, 2_000] {
            let until_then = |rows: &[(i64, u64, (u64, u64))]| -> Vec<_> {
                rows.iter().filter(|(end, ..)| *end <= until).copied().collect()
            };
            assert_eq!(
                until_then(&run(Some(until), lateness_ms)),
                until_then(&live),
                "until {until}, lateness {lateness_ms}"
            );
        }
    }
}

#[test]
fn the_program_may_say_what_is_read_and_the_key_of_one_source_wins() {
    let run = |env: &StreamExecutionEnvironment, in_code: Span| {
        let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(60))
            .with_timestamp_assigner(|record: &Numbered, _| timestamp(record));
        let paced = PacedSource { n_splits: N_SPLITS, count: ENDLESS, pause_ms_max: 0 };
        let stream = env
            .from_source(paced, strategy, "numbers")
            .starting_at(StartingPosition::Timestamp(in_code.0))
            .until(Until::Timestamp(in_code.1))
            .stream()
            .uid("numbers");
        let (sink, records) = flott_api::sinks::collect_sink();
        stream.map(|record| timestamp(&record)).sink_to(sink);
        env.execute("code").map(|_| {
            let records = records.take();
            (records.iter().min().copied().unwrap(), records.iter().max().copied().unwrap())
        })
    };
    assert_eq!(run(&simulated(2, 1), (100, 300)).unwrap(), (100, 299));
    assert_eq!(run(&with_span(2, 1, "source", (500, 600)), (100, 300)).unwrap(), (100, 299));
    assert_eq!(run(&with_span(2, 1, "source.numbers", (502, 600)), (100, 300)).unwrap(), (502, 599));
    let error = run(&with_span(1, 1, "source.number", (5, 6)), (1, 2)).unwrap_err();
    assert!(error.to_string().contains("its sources: numbers"), "{error}");
    let error = run(&simulated(1, 1), (7, 7)).unwrap_err();
    assert!(error.to_string().contains("is read from 1970-01-01T00:00:00.007Z until"), "{error}");
}

#[test]
fn sources_without_event_time_refuse_and_say_what_is_missing() {
    let records = || PacedSource { n_splits: 1, count: 5, pause_ms_max: 0 };
    let env = with_span(1, 1, "source", (0, 5));
    env.from_source(records(), WatermarkStrategy::no_watermarks(), "timeless").map(|_| ()).for_each(|()| {});
    let error = env.execute("timeless").unwrap_err();
    assert!(error.report().contains("a timestamp assigner"), "{}", error.report());
    let env = with_span(1, 1, "source", (0, 5));
    env.from_source(records(), WatermarkStrategy::for_ingestion_time(), "now").map(|_| ()).for_each(|()| {});
    let error = env.execute("ingestion").unwrap_err();
    assert!(error.report().contains("cannot start at a time"), "{}", error.report());
}

#[test]
fn a_split_without_records_ends_when_its_time_is_over_and_it_has_been_silent_for_long() {
    let mut env = simulated(1, 4);
    env.set(options::SOURCE_IDLE_TIMEOUT, Duration::from_secs(20));
    // The time until which it is read, from now on, and what the job takes.
    for (until_ms, expected_s) in [(-60_000, 20), (60_000, 60)] {
        let until = env.env().processing_time() + until_ms;
        let (sender, source) = flott_api::sources::channel_source(8);
        (0..3).for_each(|n| assert!(sender.try_send(until - 10 + n).is_ok()));
        let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_secs(1))
            .with_timestamp_assigner(|at: &i64, _| *at);
        let (sink, records) = flott_api::sinks::collect_sink();
        let stream = env.from_source(source, strategy, "channel").until(Until::Timestamp(until)).stream();
        stream.sink_to(sink);
        let result = finished(env.execute("silent"));
        assert_eq!(records.take().len(), 3);
        assert_eq!(result.net_runtime.as_secs(), expected_s);
        drop(sender);
    }
}

/// Looks for new splits for ever.
#[derive(Clone)]
struct Watching(PacedSource);

struct WatchingEnumerator(StaticSplitEnumerator<PacedSplit>);

struct WithoutEnd<'a>(&'a mut dyn SplitEnumeratorContext<PacedSplit>);

impl SplitEnumeratorContext<PacedSplit> for WithoutEnd<'_> {
    fn parallelism(&self) -> u32 {
        self.0.parallelism()
    }
    fn assign_split(&mut self, subtask: SubtaskIndex, split: PacedSplit) {
        self.0.assign_split(subtask, split);
    }
    fn signal_no_more_splits(&mut self, _: SubtaskIndex) {}
}

impl SplitEnumerator<PacedSplit> for WatchingEnumerator {
    fn start(&mut self, ctx: &mut dyn SplitEnumeratorContext<PacedSplit>) -> Result<()> {
        self.0.start(&mut WithoutEnd(ctx))
    }
    fn add_splits_back(&mut self, splits: Vec<PacedSplit>, subtask: SubtaskIndex) {
        self.0.add_splits_back(splits, subtask);
    }
    fn discovery_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(1))
    }
    fn snapshot(&self) -> Result<Vec<u8>> {
        self.0.snapshot()
    }
}

impl Source for Watching {
    type Record = Numbered;
    type Split = PacedSplit;
    fn boundedness(&self) -> Boundedness {
        Boundedness::ContinuousUnbounded
    }
    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<PacedSplit>>> {
        Ok(Box::new(WatchingEnumerator(match init.restored {
            Some(bytes) => StaticSplitEnumerator::restore(&bytes)?,
            None => StaticSplitEnumerator::new(self.0.splits(init.parallelism)?),
        })))
    }
    fn create_reader(
        &self,
        ctx: SourceReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = Numbered, Split = PacedSplit>>> {
        self.0.create_reader(ctx)
    }
}

#[test]
fn a_source_that_looks_for_new_splits_for_ever_ends_when_what_there_is_was_read() {
    let until = 1_000;
    // Splits that reach beyond the end, and ones that do not: then the wall clock decides.
    for (count, is_by_clock) in [(COUNT, false), (100, true)] {
        for (seed, parallelism) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4)] {
            let mut env = simulated(parallelism, seed);
            configure(&mut env, 10);
            env.set(options::SOURCE_IDLE_TIMEOUT, Duration::from_millis(700));
            let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(60))
                .with_timestamp_assigner(|record: &Numbered, _| timestamp(record));
            let source = Watching(PacedSource { n_splits: N_SPLITS, count, pause_ms_max: 4 });
            let stream =
                env.from_source(source, strategy, "watching").until(Until::Timestamp(until)).stream();
            let sink = Transactions::new();
            windows(&stream, &Kills::at(&[50]), &sink);
            let result = finished(env.execute("watching"));
            let expected = expected_rows(numbers(N_SPLITS, count).filter(|record| timestamp(record) < until));
            assert_eq!(sink.committed(), expected, "seed {seed}, {count} records");
            let waited = result.net_runtime > Duration::from_millis(700);
            assert_eq!(waited, is_by_clock, "seed {seed}, {count} records, {:?}", result.net_runtime);
        }
    }
}

/// A region that goes back reads its splits to their end once more, and only then the source has been read.
#[test]
fn a_source_that_looks_for_new_splits_ends_when_regions_that_went_back_have_read_theirs_again() {
    let mut n_regions = 0;
    for seed in 0..30 {
        let until = 300 + 40 * seed as i64;
        let mut env = simulated(N_SPLITS, seed);
        configure(&mut env, 10 + seed % 7);
        env.set(options::SOURCE_IDLE_TIMEOUT, Duration::from_millis(700));
        let strategy = WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(60))
            .with_timestamp_assigner(|record: &Numbered, _| timestamp(record));
        let source = Watching(PacedSource { n_splits: N_SPLITS, count: COUNT, pause_ms_max: 4 });
        let records = env.from_source(source, strategy, "watching").until(Until::Timestamp(until)).stream();
        let expected: Vec<_> = numbers(N_SPLITS, COUNT).filter(|record| timestamp(record) < until).collect();
        // The last when some have read theirs, and wait for the others.
        let kills = Kills::at(&[seed, 90 + 5 * seed, expected.len() as u64 - 1 - seed % 20]);
        let sink = Transactions::failing((seed % 3) as u32);
        records.map(move |record| kills.pass(record)).sink_to(sink.clone()).uid("sink");
        let result = finished(env.execute("straight"));
        assert_eq!(sink.committed(), expected, "seed {seed}, until {until}");
        n_regions += result.counts.region_restarts;
    }
    assert!(n_regions > 30, "{n_regions}");
}

#[test]
fn a_source_starts_at_given_positions_of_its_splits() {
    let run = |positions: &str| {
        let mut config = Configuration::default();
        config.set("source.numbers.scan.startup.specific-positions", positions).unwrap();
        let env = StreamExecutionEnvironment::with_env(simulated(2, 1).env().clone(), config);
        let (sink, records) = flott_api::sinks::collect_sink();
        source(&env, N_SPLITS, 10, "numbers").sink_to(sink);
        env.execute("positions").map(|_| crate::support::sorted(records.take()))
    };
    assert_eq!(
        run(r#"[{"split": 2, "next": 8}, {"split": 0, "next": 9}]"#).unwrap(),
        [(0, 9), (2, 8), (2, 9)]
    );
    assert_eq!(run("[]").unwrap(), []);
    for (positions, expected) in [
        ("{}", "no JSON array of splits"),
        (r#"[{"offset": 8}]"#, "no position of a split of this source"),
        (r#"[{"split": 2, "next": 8}, {"split": 2, "next": 9}]"#, "split paced-2 has two positions"),
    ] {
        let error = run(positions).unwrap_err();
        assert!(error.report().contains(expected), "{}", error.report());
    }
}
