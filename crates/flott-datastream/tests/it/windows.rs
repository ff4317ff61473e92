//! Windows in whole programs.

use crate::support::{real, simulated};
use flott_api::sinks::collect_sink;
use flott_api::sources::CollectionSource;
use flott_api::windowing::{
    ContinuousProcessingTimeTrigger, CountEvictor, CountTrigger, EventTimeSessionWindows, GlobalWindow,
    GlobalWindows, ProcessingTimeSessionWindows, ProcessingTimeoutTrigger, PurgingTrigger,
    SlidingEventTimeWindows, TimeWindow, TumblingEventTimeWindows, TumblingProcessingTimeWindows, Window,
};
use flott_api::{
    AggregateFunction, Collector, OutputTag, ProcessWindowFunction, UserResult, WatermarkStrategy,
    WindowContext,
};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use std::time::Duration;

#[derive(Clone)]
struct Count;

impl<T: 'static> AggregateFunction<T> for Count {
    type Accumulator = u64;
    type Output = u64;
    fn create_accumulator(&self) -> u64 {
        0
    }
    fn add(&self, accumulator: &mut u64, _: &T) {
        *accumulator += 1;
    }
    fn get_result(&self, accumulator: &u64) -> u64 {
        *accumulator
    }
    fn merge(&self, accumulator: &mut u64, other: &u64) {
        *accumulator += other;
    }
}

const N: i64 = 5_000;

fn timed(env: &StreamExecutionEnvironment) -> DataStream<(i64, i64)> {
    let records: Vec<(i64, i64)> = (0..N).map(|i| (i % 5, i * 10)).collect();
    let strategy = WatermarkStrategy::for_monotonous_timestamps()
        .with_timestamp_assigner(|record: &(i64, i64), _| record.1);
    env.from_source(CollectionSource::new(records), strategy, "records").stream()
}

fn check(
    run: impl Fn(&StreamExecutionEnvironment) -> Vec<(i64, i64, u64)>,
    expected: impl Fn() -> Vec<(i64, i64, u64)>,
) {
    let mut expected = expected();
    expected.sort();
    for parallelism in [1, 2] {
        for env in [real(parallelism), simulated(parallelism, 7)] {
            let mut results = run(&env);
            results.sort();
            assert_eq!(results, expected, "parallelism {parallelism}");
        }
    }
}

#[test]
fn tumbling_counts() {
    check(
        |env| {
            let (sink, results) = collect_sink();
            timed(env)
                .key_by(|record| record.0)
                .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
                .aggregate_with(Count, |key, ctx, count| (*key, ctx.window.start, count))
                .sink_to(sink);
            let done = env.execute("tumbling").unwrap();
            assert!(done.operators.iter().all(|operator| operator.late_records_dropped == 0));
            results.take()
        },
        || (0..5).flat_map(|key| (0..N / 100).map(move |window| (key, window * 1000, 20))).collect(),
    );
}

#[test]
fn sliding_counts() {
    check(
        |env| {
            let (sink, results) = collect_sink();
            timed(env)
                .key_by(|record| record.0)
                .window(SlidingEventTimeWindows::of(Duration::from_secs(1), Duration::from_millis(250)))
                .aggregate_with(Count, |key, ctx, count| (*key, ctx.window.start, count))
                .sink_to(sink);
            env.execute("sliding").unwrap();
            results.take()
        },
        || {
            let mut counts = std::collections::BTreeMap::new();
            for i in 0..N {
                let (key, at) = (i % 5, i * 10);
                let last = at - at.rem_euclid(250);
                for start in (0..4).map(|back| last - back * 250) {
                    *counts.entry((key, start)).or_insert(0) += 1;
                }
            }
            counts.into_iter().map(|((key, start), count)| (key, start, count)).collect()
        },
    );
}

#[test]
fn sessions_and_count_windows() {
    check(
        |env| {
            let (sink, results) = collect_sink();
            timed(env)
                .filter(|record| record.1 % 1_000 < 500)
                .key_by(|record| record.0)
                .window(EventTimeSessionWindows::with_gap(Duration::from_millis(200)))
                .aggregate_with(Count, |key, ctx, count| (*key, ctx.window.start / 1_000, count))
                .sink_to(sink);
            env.execute("sessions").unwrap();
            results.take()
        },
        || (0..5).flat_map(|key| (0..N / 100).map(move |second| (key, second, 10))).collect(),
    );
    check(
        |env| {
            let (sink, results) = collect_sink();
            timed(env)
                .key_by(|record| record.0)
                .count_window(100)
                .aggregate_with(Count, |key, _, count| (*key, 0, count))
                .sink_to(sink);
            env.execute("count windows").unwrap();
            results.take()
        },
        || (0..5).flat_map(|key| (0..N / 500).map(move |_| (key, 0, 100))).collect(),
    );
}

#[test]
fn windows_over_all_records_run_in_one_subtask_and_late_records_come_out_at_the_side() {
    let env = real(2);
    let late = OutputTag::<(i64, i64)>::new("late");
    let strategy = WatermarkStrategy::for_monotonous_timestamps()
        .with_timestamp_assigner(|record: &(i64, i64), _| record.1);
    let records = vec![(0, 100), (1, 2_000), (2, 50), (3, 2_100)];
    let windows = env
        .from_source(CollectionSource::new(records), strategy, "records")
        .set_parallelism(1)
        .window_all(TumblingEventTimeWindows::of(Duration::from_secs(1)))
        .side_output_late_data(&late)
        .aggregate_with(Count, |(), ctx, count| (ctx.window.start, count));
    let ((sink, results), (late_sink, late_results)) = (collect_sink(), collect_sink());
    windows.sink_to(sink);
    windows.side_output(&late).sink_to(late_sink);
    env.execute("over all").unwrap();
    let mut results = results.take();
    results.sort();
    assert_eq!(results, [(0, 1), (2_000, 2)]);
    assert_eq!(late_results.take(), [(2, 50)]);
}

#[test]
fn a_window_join_pairs_records_of_a_key_and_window() {
    for env in [real(2), simulated(2, 3)] {
        let (sink, results) = collect_sink();
        let orders = timed(&env).filter(|record| record.1 < 2_000).key_by(|record| record.0);
        let others = timed(&env).map(|(key, at)| (key, at + 1)).filter(|record| record.1 < 1_000);
        let others = others.key_by(|record| record.0);
        orders
            .join(&others)
            .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
            .apply_join(|left, right, out| {
                out.collect((left.1, right.1));
                Ok(())
            })
            .sink_to(sink);
        env.execute("join").unwrap();
        let results = results.take();
        assert_eq!(results.len(), 5 * 20 * 20);
        assert!(results.iter().all(|(left, right)| left % 50 == (right - 1) % 50 && *left < 1_000));
    }
}

/// Two records for each window of an even key, at its start and its end; none for those of others.
#[derive(Clone)]
struct EvenTwice;

impl ProcessWindowFunction<u64, (i64, i64, u64), i64, TimeWindow> for EvenTwice {
    fn process(
        &mut self,
        key: &i64,
        ctx: &WindowContext<'_, TimeWindow>,
        counts: Vec<u64>,
        out: &mut Collector<'_, (i64, i64, u64)>,
    ) -> UserResult {
        assert_eq!(counts.len(), 1, "the one result of the aggregation");
        assert!(ctx.watermark.timestamp() >= ctx.window.end - 1, "the window is complete");
        for count in counts.iter().filter(|_| key % 2 == 0) {
            out.collect((*key, ctx.window.start, *count));
            out.collect((*key, ctx.window.end, *count));
        }
        Ok(())
    }
}

#[test]
fn a_process_window_function_gets_the_result_of_an_aggregation_and_emits_any_number() {
    let expected = || -> Vec<(i64, i64, u64)> {
        let windows = (0..N / 100).flat_map(|window| [window * 1_000, (window + 1) * 1_000]);
        windows.flat_map(|at| [0, 2, 4].map(|key| (key, at, 20))).collect()
    };
    let window = TumblingEventTimeWindows::of(Duration::from_secs(1));
    // By slices, and by the general operator, which windows with allowed lateness have.
    for lateness in [Duration::ZERO, Duration::from_secs(1)] {
        check(
            |env| {
                let (sink, results) = collect_sink();
                timed(env)
                    .key_by(|record| record.0)
                    .window(window)
                    .allowed_lateness(lateness)
                    .aggregate_process(Count, EvenTwice)
                    .sink_to(sink);
                env.execute("aggregate and process").unwrap();
                results.take()
            },
            expected,
        );
    }
    // And of sessions.
    check(
        |env| {
            let (sink, results) = collect_sink();
            timed(env)
                .key_by(|record| record.0)
                .window(EventTimeSessionWindows::with_gap(Duration::from_secs(1)))
                .aggregate_process(Count, EvenTwice)
                .sink_to(sink);
            env.execute("sessions").unwrap();
            results.take()
        },
        || {
            [0, 2, 4]
                .iter()
                .flat_map(|key| [(*key, key * 10, 1_000), (*key, N * 10 - 50 + key * 10 + 1_000, 1_000)])
                .collect()
        },
    );
}

/// So long that no end of a window comes while a test runs.
const AGES: Duration = Duration::from_hours(24 * 10_000);

fn count_records<W: Window>(
    key: &i64,
    _: &WindowContext<'_, W>,
    records: Vec<(i64, i64)>,
    out: &mut Collector<'_, (i64, i64, u64)>,
) -> UserResult {
    out.collect((*key, 0, records.len() as u64));
    Ok(())
}

/// What `counts` makes of windows that only the wall clock would end: every record of the bounded input is in one.
fn check_at_the_end(counts: impl Fn(&StreamExecutionEnvironment) -> DataStream<(i64, i64, u64)>) {
    let run = |env: &StreamExecutionEnvironment| {
        let (sink, results) = collect_sink();
        counts(env).sink_to(sink);
        env.execute("wall clock").unwrap();
        results.take()
    };
    check(run, || (0..5).map(|key| (key, 0, N as u64 / 5)).collect());
}

#[test]
fn windows_over_the_wall_clock_that_are_open_when_the_input_ends_fire() {
    let keyed = |env: &StreamExecutionEnvironment| timed(env).key_by(|record| record.0);
    let tumbling = || TumblingProcessingTimeWindows::of(AGES);
    let sessions = || ProcessingTimeSessionWindows::with_gap(AGES);
    check_at_the_end(|env| {
        keyed(env).window(tumbling()).aggregate_with(Count, |key, _, count| (*key, 0, count))
    });
    check_at_the_end(|env| keyed(env).window(tumbling()).process(count_records::<TimeWindow>));
    check_at_the_end(|env| {
        let windows = keyed(env).window(tumbling()).evictor(CountEvictor::of(N as usize));
        windows.aggregate_with(Count, |key, _, count| (*key, 0, count))
    });
    check_at_the_end(|env| {
        let windows = keyed(env).window(tumbling()).trigger(ContinuousProcessingTimeTrigger::of(AGES));
        windows.aggregate_with(Count, |key, _, count| (*key, 0, count))
    });
    check_at_the_end(|env| {
        keyed(env).window(sessions()).aggregate_with(Count, |key, _, count| (*key, 0, count))
    });
    check_at_the_end(|env| keyed(env).window(sessions()).process(count_records::<TimeWindow>));
    check_at_the_end(|env| {
        let full_or_late = ProcessingTimeoutTrigger::of(CountTrigger::of(N as u64), AGES);
        let windows = keyed(env).window(GlobalWindows).trigger(PurgingTrigger::of(full_or_late));
        windows.process(count_records::<GlobalWindow>)
    });
    check_at_the_end(|env| {
        let windows = keyed(env).join(&keyed(env)).window(tumbling());
        windows.apply_co_group(|key, _, left, right, out| {
            assert_eq!(left.len(), right.len());
            out.collect((*key, 0, left.len() as u64));
            Ok(())
        })
    });
    check_at_the_end(|env| {
        // One record of a key on the left is paired with each on the right.
        let first = timed(env).filter(|record| record.1 < 50).key_by(|record| record.0);
        let pairs = first.join(&keyed(env)).window(tumbling()).apply_join(|left, right, out| {
            assert_eq!(left.0, right.0);
            out.collect(*right);
            Ok(())
        });
        let pairs = pairs.key_by(|record| record.0).window(tumbling());
        pairs.aggregate_with(Count, |key, _, count| (*key, 0, count))
    });
}

#[test]
fn what_the_end_of_the_input_fires_is_not_late_for_what_follows() {
    // Windows of event time over the results of windows of the wall clock, by the general operator and by slices.
    check_at_the_end(|env| {
        let wall_clock = timed(env).key_by(|record| *record).window(TumblingProcessingTimeWindows::of(AGES));
        let ones = wall_clock.process(
            |key: &(i64, i64), _: &WindowContext<'_, TimeWindow>, _, out: &mut Collector<'_, _>| {
                out.collect(*key);
                Ok(())
            },
        );
        let event_time = ones.key_by(|record| record.0).window(TumblingEventTimeWindows::of(AGES));
        event_time.aggregate_with(Count, |key, _, count| (*key, 0, count))
    });
    check_at_the_end(|env| {
        let wall_clock = timed(env).key_by(|record| *record).window(TumblingProcessingTimeWindows::of(AGES));
        let ones = wall_clock.aggregate_with(Count, |key, _, _| *key);
        let event_time = ones.key_by(|record| record.0).window(TumblingEventTimeWindows::of(AGES));
        event_time.aggregate_with(Count, |key, _, count| (*key, 0, count))
    });
}
