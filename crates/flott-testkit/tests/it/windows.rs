//! Windows of all kinds, by all window operators.

use crate::support::{LENGTH, SEEDS, keyed, keyed_stream};
use expect_test::expect;
use flott_api::windowing::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountEvictor, CountTrigger, DeltaEvictor,
    DeltaTrigger, EventTimeSessionWindows, EventTimeTrigger, EventTimeoutTrigger, GlobalWindow,
    GlobalWindows, ProcessingTimeSessionWindows, ProcessingTimeoutTrigger, PurgingTrigger,
    SlidingEventTimeWindows, SlidingProcessingTimeWindows, TimeEvictor, TimeWindow, TumblingEventTimeWindows,
    TumblingProcessingTimeWindows, WindowAssigner,
};
use flott_api::{AggregateFunction, Collector, OutputTag, UserResult, WindowContext};
use flott_operators::{CoGroupWindowFunction, Either, JoinWindowFunction};
use flott_testkit::{KeyValue, SnapshotCheck, TestDriver, WindowDriver, parse_stream, random_stream};
use std::fmt::Debug;
use std::time::Duration;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// All values, in order of size: nothing is lost or doubled unseen.
#[derive(Clone)]
struct Values;

impl AggregateFunction<KeyValue> for Values {
    type Accumulator = Vec<i64>;
    type Output = Vec<i64>;

    fn create_accumulator(&self) -> Vec<i64> {
        Vec::new()
    }
    fn add(&self, accumulator: &mut Vec<i64>, record: &KeyValue) {
        accumulator.push(record.value);
        accumulator.sort();
    }
    fn get_result(&self, accumulator: &Vec<i64>) -> Vec<i64> {
        accumulator.clone()
    }
    fn merge(&self, accumulator: &mut Vec<i64>, other: &Vec<i64>) {
        accumulator.extend(other);
        accumulator.sort();
    }
}

/// How a window is shown.
trait Show: Debug {
    fn show(&self) -> String;
}

impl Show for TimeWindow {
    fn show(&self) -> String {
        format!("{}..{}", self.start, self.end)
    }
}

impl Show for GlobalWindow {
    fn show(&self) -> String {
        "all".to_owned()
    }
}

fn show<W: Show>(key: &String, ctx: &WindowContext<'_, W>, values: Vec<i64>) -> String {
    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
    format!("{key}/{}/{}", ctx.window.show(), values.join("+"))
}

fn show_records<W: Show>(
    key: &String,
    ctx: &WindowContext<'_, W>,
    records: Vec<KeyValue>,
    out: &mut Collector<'_, String>,
) -> UserResult {
    out.collect(show(key, ctx, records.iter().map(|record| record.value).collect()));
    Ok(())
}

type Windows<A> = WindowDriver<String, KeyValue, fn(&KeyValue) -> String, A>;

fn windows<A: WindowAssigner<KeyValue>>(assigner: A) -> Windows<A> {
    TestDriver::window(KeyValue::key_of as fn(&KeyValue) -> String, assigner)
}

fn late() -> OutputTag<KeyValue> {
    OutputTag::new("late")
}

/// Checks an aggregation on random streams; with and without a side output for late records.
#[track_caller]
fn check<A: WindowAssigner<KeyValue, Window: Show>>(make: impl Fn() -> Windows<A>) {
    for seed in SEEDS {
        match seed % 3 {
            0 => {
                let aggregate = || make().aggregate_with(Values, show);
                TestDriver::check_snapshots(aggregate, &keyed_stream(seed), &SnapshotCheck::default())
            }
            1 => {
                let with_late = || {
                    let windows = make().side_output_late_data(&late());
                    windows.aggregate_with(Values, show).print_side_output(&late())
                };
                TestDriver::check_snapshots(with_late, &keyed_stream(seed), &SnapshotCheck::default())
            }
            _ => {
                let process = || make().process(show_records);
                TestDriver::check_snapshots(process, &keyed_stream(seed), &SnapshotCheck::default())
            }
        };
    }
}

/// The outputs of each element, in any order.
fn outputs_per_element(mut driver: TestDriver<KeyValue, String>, seed: u64) -> Vec<Vec<String>> {
    let elements = random_stream(seed, 200, keyed);
    let outputs = elements.into_iter().map(|element| {
        driver.push_element(element).unwrap();
        let mut outputs: Vec<_> = driver.take_text().split(' ').map(String::from).collect();
        outputs.sort();
        outputs
    });
    outputs.collect()
}

/// Checks windows for which there is a fast operator: it gives what the general one gives.
#[track_caller]
fn check_fast<A: WindowAssigner<KeyValue, Window: Show>>(make: impl Fn() -> Windows<A>) {
    check(&make);
    check(|| make().with_general_operator());
    for seed in SEEDS {
        let with_late = |windows: Windows<A>| {
            windows.side_output_late_data(&late()).aggregate_with(Values, show).print_side_output(&late())
        };
        let fast = outputs_per_element(with_late(make()), seed);
        assert_eq!(fast, outputs_per_element(with_late(make().with_general_operator()), seed), "seed {seed}");
    }
}

#[test]
fn tumbling_windows() {
    check_fast(|| windows(TumblingEventTimeWindows::of(ms(10))));
    check_fast(|| windows(TumblingEventTimeWindows::of(ms(7)).with_offset_ms(-3)));
    check(|| windows(TumblingEventTimeWindows::of(ms(10))).allowed_lateness(ms(6)));
    let make = || {
        windows(TumblingEventTimeWindows::of(ms(10)))
            .side_output_late_data(&late())
            .aggregate_with(Values, show)
            .print_side_output(&late())
    };
    let input =
        parse_stream("+a=1@-1 +a=2@0 +b=3@9 W-1 +a=4@9 +a=5@-3 W8 W9 +a=6@9 +b=7@25 W+inf E").unwrap();
    expect![[r#"
        +a=1@-1
        +a=2@0
        +b=3@9
        W-1 => +"a/-10..0/1"@-1 W-1
        +a=4@9
        +a=5@-3 => late:+a=5@-3
        W8 => W8
        W9 => +"b/0..10/3"@9 +"a/0..10/2+4"@9 W9
        +a=6@9 => late:+a=6@9
        +b=7@25
        W+inf => +"b/20..30/7"@29 W+inf
        E => E
    "#]]
    .assert_eq(&TestDriver::check_snapshots(make, &input, &SnapshotCheck::default()));
}

#[test]
fn late_records_are_counted() {
    let mut driver = windows(TumblingEventTimeWindows::of(ms(10))).aggregate_with(Values, show);
    assert_eq!(
        driver.run("+a=1@5 W9 +a=2@6 +b=3@7 +b=4@10 W19").unwrap(),
        "+a/0..10/1@9 W9 +b/10..20/4@19 W19"
    );
    assert_eq!(driver.metrics().late_records_dropped, 2);
}

#[test]
fn sliding_windows() {
    check_fast(|| windows(SlidingEventTimeWindows::of(ms(10), ms(5))));
    check_fast(|| windows(SlidingEventTimeWindows::of(ms(10), ms(3))));
    check_fast(|| windows(SlidingEventTimeWindows::of(ms(4), ms(10))));
    check_fast(|| windows(SlidingEventTimeWindows::of(ms(30), ms(2)).with_offset_ms(1)));
    check(|| windows(SlidingEventTimeWindows::of(ms(10), ms(5))).allowed_lateness(ms(8)));
}

#[test]
fn session_windows() {
    let gap_of = |record: &KeyValue| ms(record.value.unsigned_abs());
    check_fast(|| windows(EventTimeSessionWindows::with_gap(ms(4))));
    check_fast(|| windows(EventTimeSessionWindows::with_dynamic_gap(gap_of)));
    check(|| windows(EventTimeSessionWindows::with_gap(ms(4))).allowed_lateness(ms(5)));
    let make = || windows(EventTimeSessionWindows::with_gap(ms(5))).aggregate_with(Values, show);
    let input =
        parse_stream("+a=1@1 +a=2@20 +a=3@10 +b=4@3 W4 +a=5@6 +a=6@15 W7 +b=7@4 W24 +a=8@25 E").unwrap();
    expect![[r#"
        +a=1@1
        +a=2@20
        +a=3@10
        +b=4@3
        W4 => W4
        +a=5@6
        +a=6@15
        W7 => +"b/3..8/4"@7 W7
        +b=7@4
        W24 => +"b/4..9/7"@8 +"a/1..25/1+2+3+5+6"@24 W24
        +a=8@25
        E => E
    "#]]
    .assert_eq(&TestDriver::check_snapshots(make, &input, &SnapshotCheck::default()));
}

#[test]
fn processing_time_windows() {
    check(|| windows(TumblingProcessingTimeWindows::of(ms(10))));
    check(|| windows(SlidingProcessingTimeWindows::of(ms(20), ms(7))));
    check(|| windows(ProcessingTimeSessionWindows::with_gap(ms(9))));
    let make = || windows(TumblingProcessingTimeWindows::of(ms(10))).aggregate_with(Values, show);
    let input = parse_stream("+a=1 P5 +a=2 P9 +b=3 P10 +a=4 P30 E").unwrap();
    expect![[r#"
        +a=1
        P5
        +a=2
        P9
        +b=3
        P10 => +"b/0..10/3"@9 +"a/0..10/1+2"@9
        +a=4
        P30 => +"a/10..20/4"@19
        E => E
    "#]]
    .assert_eq(&TestDriver::check_snapshots(make, &input, &SnapshotCheck::default()));
}

/// What comes out when the input ends, as the watermark says or the end of data itself.
#[track_caller]
fn check_end(make: impl Fn() -> TestDriver<KeyValue, String>, input: &str, expected: &str) {
    for (end, outputs) in [("W+inf E", format!("{expected} W+inf E")), ("E", format!("{expected} E"))] {
        let input = parse_stream(&format!("{input} {end}")).unwrap();
        TestDriver::check_snapshots(&make, &input, &SnapshotCheck::default());
        let mut driver = make();
        input.into_iter().for_each(|element| driver.push_element(element).unwrap());
        assert_eq!(driver.take_text(), outputs.trim_start());
    }
}

#[test]
fn what_waits_for_the_wall_clock_fires_in_the_order_of_time_when_the_input_ends() {
    let input = "P5 +b=1 P7 +a=2 +b=3";
    let tumbling = || windows(TumblingProcessingTimeWindows::of(ms(10)));
    let sliding = || windows(SlidingProcessingTimeWindows::of(ms(10), ms(5)));
    let of_sliding = "+b/0..10/1+3@9 +a/0..10/2@9 +b/5..15/1+3@14 +a/5..15/2@14";
    let sessions = || windows(ProcessingTimeSessionWindows::with_gap(ms(4)));
    let of_sessions = "+a/7..11/2@10 +b/5..11/1+3@10";
    check_end(|| tumbling().process(show_records), input, "+b/0..10/1+3@9 +a/0..10/2@9");
    check_end(
        || tumbling().evictor(CountEvictor::of(1)).process(show_records),
        input,
        "+b/0..10/3@9 +a/0..10/2@9",
    );
    check_end(|| sliding().process(show_records), input, of_sliding);
    check_end(|| sliding().with_general_operator().aggregate_with(Values, show), input, of_sliding);
    check_end(|| sessions().process(show_records), input, of_sessions);
    check_end(|| sessions().aggregate_with(Values, show), input, of_sessions);
    let slices = || tumbling().aggregate_with(Values, show);
    check_end(slices, "P5 +a=1 P7 +a=2", "+a/0..10/1+2@9");
    // A window is cleaned up at its end. What its trigger would never have fired is not fired.
    check_end(|| tumbling().trigger(CountTrigger::of(2)).process(show_records), "+a=1", "");
}

#[test]
fn the_end_of_the_input_ends_what_triggers_wait_for() {
    let timeout = || ProcessingTimeoutTrigger::of(CountTrigger::of(3), ms(10));
    let counts = || windows(GlobalWindows).trigger(PurgingTrigger::of(timeout()));
    let input = "P5 +a=1 P7 +b=2 +b=3 +b=4 +b=5 +a=6";
    let end = "+b/all/2+3+4@9223372036854775807 +a/all/1+6@9223372036854775807 +b/all/5@9223372036854775807";
    check_end(|| counts().process(show_records), input, end);
    check_end(|| counts().aggregate_with(Values, show), input, end);
    // One that fires again and again fires once more: there is no time after the end.
    let always = || windows(GlobalWindows).trigger(ContinuousProcessingTimeTrigger::of(ms(10)));
    check_end(|| always().process(show_records), "P5 +a=1", "+a/all/1@9223372036854775807");
    // In the middle of a window: nothing comes between the firing it waits for and its end.
    let hour = || windows(TumblingProcessingTimeWindows::of(Duration::from_hours(1)));
    let often = || hour().trigger(ContinuousProcessingTimeTrigger::of(ms(10)));
    check_end(|| often().process(show_records), "P5 +a=1", "+a/0..3600000/1@3599999");
}

#[test]
fn count_windows() {
    check(|| windows(GlobalWindows).trigger(PurgingTrigger::of(CountTrigger::of(2))));
    check(|| windows(GlobalWindows).trigger(CountTrigger::of(2)).evictor(CountEvictor::of(3)));
    check(|| {
        windows(GlobalWindows).trigger(CountTrigger::of(2)).evictor(CountEvictor::of(2).do_evict_after())
    });
    let counts = || PurgingTrigger::of(CountTrigger::of(3));
    check(|| windows(GlobalWindows).trigger(ProcessingTimeoutTrigger::of(counts(), ms(15))));
    check(|| windows(GlobalWindows).trigger(EventTimeoutTrigger::of(counts(), ms(15))));
    check(|| {
        let trigger = ProcessingTimeoutTrigger::of(counts(), ms(15));
        windows(GlobalWindows).trigger(trigger.with_reset_on_each_record().without_clear_on_timeout())
    });
    let make = || {
        let trigger = PurgingTrigger::of(ProcessingTimeoutTrigger::of(CountTrigger::of(3), ms(10)));
        windows(GlobalWindows).trigger(trigger).aggregate_with(Values, show)
    };
    let input = parse_stream("+a=1 +a=2 +b=3 P5 +a=4 +a=5 P10 P15 +b=6 E").unwrap();
    expect![[r#"
        +a=1
        +a=2
        +b=3
        P5
        +a=4 => +"a/all/1+2+4"@9223372036854775807
        +a=5
        P10
        P15 => +"b/all/3"@9223372036854775807
        +b=6
        E => +"a/all/5"@9223372036854775807 +"b/all/6"@9223372036854775807 E
    "#]]
    .assert_eq(&TestDriver::check_snapshots(make, &input, &SnapshotCheck::default()));
}

#[test]
fn triggers() {
    let tumbling = || windows(TumblingEventTimeWindows::of(ms(20)));
    check(|| tumbling().trigger(EventTimeTrigger));
    check(|| tumbling().trigger(ContinuousEventTimeTrigger::of(ms(6))));
    check(|| tumbling().trigger(ContinuousProcessingTimeTrigger::of(ms(8))).allowed_lateness(ms(3)));
    check(|| tumbling().trigger(CountTrigger::of(2)));
    check(|| windows(EventTimeSessionWindows::with_gap(ms(6))).trigger(CountTrigger::of(3)));
    check(|| {
        windows(EventTimeSessionWindows::with_gap(ms(6))).trigger(ContinuousEventTimeTrigger::of(ms(5)))
    });
    check(|| windows(EventTimeSessionWindows::with_gap(ms(6))).trigger(PurgingTrigger::of(EventTimeTrigger)));
    let delta = |last: &KeyValue, next: &KeyValue| (next.value - last.value) as f64;
    check(|| windows(GlobalWindows).trigger(PurgingTrigger::of(DeltaTrigger::of(3.0, delta))));
    check(|| windows(GlobalWindows).trigger(DeltaTrigger::of(3.0, delta)));
}

#[test]
fn evictors() {
    let tumbling = || windows(TumblingEventTimeWindows::of(ms(20)));
    let delta = |last: &KeyValue, next: &KeyValue| (next.value - last.value) as f64;
    check(|| tumbling().evictor(TimeEvictor::of(ms(8))));
    check(|| tumbling().evictor(DeltaEvictor::of(2.0, delta)));
    check(|| tumbling().evictor(TimeEvictor::of(ms(8)).do_evict_after()).allowed_lateness(ms(9)));
    check(|| windows(SlidingEventTimeWindows::of(ms(10), ms(5))).evictor(CountEvictor::of(1)));
    check(|| windows(EventTimeSessionWindows::with_gap(ms(6))).evictor(CountEvictor::of(2)));
}

type Side = Either<KeyValue, KeyValue>;

fn key_of_either(record: &Side) -> String {
    record.either(KeyValue::key_of, KeyValue::key_of)
}

#[test]
fn window_joins_and_co_groups() {
    let either = |seed| {
        random_stream(seed, LENGTH, |rng| {
            let record = keyed(rng);
            if rng.one_in(2) { Either::Left(record) } else { Either::Right(record) }
        })
    };
    let join = || {
        let join = |left: &KeyValue, right: &KeyValue, out: &mut Collector<'_, String>| {
            out.collect(format!("{}:{}+{}", left.key, left.value, right.value));
            UserResult::Ok(())
        };
        TestDriver::window(key_of_either, TumblingEventTimeWindows::of(ms(10)))
            .process(JoinWindowFunction::new(join))
    };
    let co_group = || {
        let co_group = |key: &String,
                        ctx: &WindowContext<'_, TimeWindow>,
                        left: Vec<KeyValue>,
                        right: Vec<KeyValue>,
                        out: &mut Collector<'_, String>| {
            out.collect(format!("{key}/{}/{left:?}/{right:?}", ctx.window.show()));
            UserResult::Ok(())
        };
        TestDriver::window(key_of_either, SlidingEventTimeWindows::of(ms(10), ms(5)))
            .process(CoGroupWindowFunction::new(co_group))
    };
    for seed in SEEDS {
        TestDriver::check_snapshots(join, &either(seed), &SnapshotCheck::default());
        TestDriver::check_snapshots(co_group, &either(seed), &SnapshotCheck::default());
    }
}
