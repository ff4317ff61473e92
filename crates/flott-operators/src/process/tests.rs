use super::*;
use crate::test_support::{
    Feed, Harness, Text, check_everywhere, check_overtaking, check_rescaling, context, one, route, text,
};
use expect_test::expect;
use flott_api::{KeyedContext, OutputTag, RuntimeContext, TimeDomain};
use flott_env::sim::{Simulation, WALL_CLOCK_START_MS};
use flott_state::{ListState, MapState, OperatorListState, ValueState};
use flott_types::ErrorKind;
use proptest::prelude::*;

type Record = (u8, i64);

/// Counts the records of a key; each that is not late sets a timer 10 ms after itself.
#[derive(Clone)]
struct Counter {
    count: ValueState<u64>,
    fired: ListState<i64>,
    /// Whether a timer sets another one, and when.
    next: fn(Timestamp) -> Option<Timestamp>,
}

impl KeyedProcessFunction<u8, Record, Text> for Counter {
    fn process_element(
        &mut self,
        (key, value): Record,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut Collector<'_, Text>,
    ) -> UserResult {
        assert_eq!(*ctx.current_key(), key);
        let count = *self.count.update_or(ctx, 0, |count| *count += 1)?;
        if ctx.timestamp() > ctx.current_watermark().timestamp() {
            ctx.register_event_time_timer(ctx.timestamp() + 10);
        }
        if value < 0 {
            ctx.delete_event_time_timer(-value);
        }
        out.collect(Text(format!("{key}:{value}#{count}")));
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut Collector<'_, Text>,
    ) -> UserResult {
        assert_eq!((ctx.time_domain(), ctx.timestamp()), (TimeDomain::EventTime, timestamp));
        if let Some(next) = (self.next)(timestamp) {
            ctx.register_event_time_timer(next);
        }
        self.fired.add(ctx, timestamp)?;
        let key = *ctx.current_key();
        let count = self.count.get(ctx)?.copied().unwrap_or(0);
        out.collect(Text(format!("{key}!{count} of {:?}", self.fired.get(ctx)?.collect::<Vec<_>>())));
        Ok(())
    }
}

fn counter(next: fn(Timestamp) -> Option<Timestamp>) -> impl Operator<Record, Text> {
    let function = Counter { count: ValueState::new("count"), fired: ListState::new("fired"), next };
    KeyedProcessOperator::new(|record: &Record| record.0, function)
}

fn records(records: &[(u8, i64)]) -> Feed<Record> {
    Feed::Batch1(records.iter().map(|(key, at)| ((*key, *at), *at)).collect())
}

#[test]
fn due_timers_fire_in_time_order_before_the_watermark_also_those_that_timers_set() {
    let elements = [
        records(&[(1, 0), (2, 4), (1, 3)]),
        Feed::Watermark(12),
        Feed::Watermark(13),
        Feed::Watermark(i64::MAX),
    ];
    let next: fn(i64) -> Option<i64> = |at| (at % 2 == 0).then_some(at + 5);
    let seen = check_everywhere(|| Harness::new(one(counter(next))), &elements);
    expect![[r#"
        +1:0#1@0
        +2:4#1@4
        +1:3#2@3
        +1!2 of [10]@10
        W12
        +1!2 of [10, 13]@13
        W13
        +2!1 of [14]@14
        +1!2 of [10, 13, 15]@15
        +2!1 of [14, 19]@19
        W+inf
    "#]]
    .assert_eq(&text(&seen));
}

#[test]
fn a_deleted_timer_does_not_fire() {
    let mut harness = Harness::new(one(counter(|_| None)));
    let deleting = Feed::Batch1(vec![((1, 7), 7), ((1, -17), 8), ((2, -17), 9)]);
    let seen = harness.run(&[deleting, Feed::Watermark(18)]);
    assert_eq!(seen[3..], ["+1!2 of [18]@18", "W18"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn keyed_state_and_timers_survive_restores_and_rescaling(
        batches in prop::collection::vec(prop::collection::vec((0_u8..6, 0_i64..60), 1..4), 1..5),
        steps in prop::collection::vec(0_i64..20, 5),
    ) {
        let mut watermark = 0;
        let mut elements = Vec::new();
        // Timers of different keys at one time have no order; here the last digit tells the key.
        for (batch, step) in batches.iter().zip(steps) {
            let batch: Vec<_> = batch.iter().map(|(key, at)| (*key, at * 10 + i64::from(*key))).collect();
            watermark += step * 10;
            elements.extend([records(&batch), Feed::Watermark(watermark)]);
        }
        elements.extend([Feed::Watermark(i64::MAX), Feed::EndOfData]);
        let next: fn(i64) -> Option<i64> = |at| (at / 10 % 3 == 0).then_some(at + 10);
        check_everywhere(|| Harness::new(one(counter(next))), &elements);
        let route = |record: &Record, parallelism| Some(route(&record.0, parallelism));
        check_rescaling(|ctx| Harness::at(one(counter(next)), ctx), &elements, route, |(), _| None);
    }
}

/// Sets a processing-time timer at the value of each record and emits what the clock is.
struct Clock;

impl KeyedProcessFunction<u8, Record, Text> for Clock {
    fn process_element(
        &mut self,
        (_, at): Record,
        ctx: &mut KeyedContext<'_, u8>,
        _: &mut Collector<'_, Text>,
    ) -> UserResult {
        ctx.register_processing_time_timer(at);
        if at % 10 == 1 {
            ctx.delete_processing_time_timer(at - 1);
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut Collector<'_, Text>,
    ) -> UserResult {
        assert_eq!(ctx.time_domain(), TimeDomain::ProcessingTime);
        out.collect(Text(format!("{}!{timestamp}/{}", ctx.current_key(), ctx.current_processing_time())));
        Ok(())
    }
}

#[test]
fn processing_time_timers_fire_with_the_clock_and_emit_no_event_time() {
    let make = || Harness::new(one(KeyedProcessOperator::new(|record: &Record| record.0, Clock)));
    let elements = [
        Feed::Batch1(vec![((1, 100), 3), ((2, 50), 3), ((2, 200), 3), ((3, 80), 3), ((3, 81), 3)]),
        Feed::Watermark(1000),
        Feed::ProcessingTime(99),
        Feed::ProcessingTime(100),
        Feed::EndOfData,
    ];
    let seen = check_everywhere(make, &elements);
    assert_eq!(seen, ["W1000", "+2!50/99", "+3!81/99", "+1!100/100", "end"]);
    let mut harness = make();
    assert_eq!(harness.next_timer(), None);
    harness.run(&elements[..1]);
    assert_eq!(harness.next_timer(), Some(50));
    harness.run(&elements[..4]);
    assert_eq!(harness.next_timer(), Some(200));
}

#[test]
fn a_key_of_another_subtask_is_a_broken_partitioner() {
    let ctx = context(Simulation::new(1).env(), 0, 2);
    let key = (0..=u8::MAX).find(|key| route(key, 2) == 1).expect("subtask 1 has keys");
    let mut harness = Harness::at(one(counter(|_| None)), &ctx);
    let caught =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| harness.feed(&records(&[(key, 0)]))))
            .unwrap_err();
    assert!(
        caught.downcast_ref::<String>().is_some_and(|text| text.contains("is outside of this subtask's"))
    );
}

/// Keeps every third record in list state, says what it sees, and fails at 13.
#[derive(Clone)]
struct Every {
    tag: OutputTag<u32>,
    seen: OperatorListState<u32>,
}

fn every() -> Every {
    Every { tag: OutputTag::new("third"), seen: OperatorListState::new("seen") }
}

impl ProcessFunction<u32, Text> for Every {
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        assert_eq!(ctx.operator, "tested");
        Ok(())
    }

    fn process_element(
        &mut self,
        record: u32,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Text>,
    ) -> UserResult {
        if record.is_multiple_of(3) {
            self.seen.add(ctx.state, record)?;
            out.output(&self.tag, record);
        }
        let clock = ctx.processing_time - WALL_CLOCK_START_MS;
        out.collect(Text(format!("{record} {} {clock} {:?}", ctx.watermark, self.seen.get(ctx.state)?)));
        if record == 13 { Err("unlucky".into()) } else { Ok(()) }
    }

    fn close(&mut self, out: &mut Collector<'_, Text>) -> UserResult {
        out.collect(Text("bye".to_owned()));
        Ok(())
    }
}

#[test]
fn a_process_function_sees_time_and_state_and_writes_side_outputs() {
    let elements = [
        Feed::Batch1(vec![(1, 10), (3, 30), (6, 60)]),
        Feed::Watermark(40),
        Feed::Batch1(vec![(9, 50)]),
        Feed::Watermark(i64::MAX),
        Feed::EndOfData,
    ];
    let make = || Harness::new(one(ProcessOperator::new(every()))).with_side(&every().tag);
    let mut seen = make().run(&elements);
    // A side output keeps its order, but not relative to the main one.
    seen.retain(|line| line.starts_with("third:"));
    assert_eq!(seen.join(" ").replace("third:", ""), "+3@30 +6@60 W40 +9@50 W+inf end");
    let seen = check_everywhere(|| Harness::new(one(ProcessOperator::new(every()))), &elements);
    expect![[r#"
        +1 W-inf 0 []@10
        +3 W-inf 0 [3]@30
        +6 W-inf 0 [3, 6]@60
        W40
        +9 W40 0 [3, 6, 9]@50
        W+inf
        +bye
        end
    "#]]
    .assert_eq(&text(&seen));
}

#[test]
fn an_error_of_a_function_comes_after_what_it_emitted_and_names_the_record() {
    let mut harness = Harness::new(one(ProcessOperator::new(every())));
    harness.feed(&Feed::ProcessingTime(WALL_CLOCK_START_MS + 5)).unwrap();
    let error = harness.feed(&Feed::Batch1(vec![(1, 10), (2, 20), (13, 30), (4, 40)])).unwrap_err();
    assert_eq!(error.report(), "the process function failed: unlucky");
    assert_eq!(error.kind(), ErrorKind::UserError);
    assert_eq!(harness.progress(), 2);
    assert_eq!(harness.take(), ["+1 W-inf 5 []@10", "+2 W-inf 5 []@20", "+13 W-inf 5 []@30"]);
}

#[test]
fn an_error_of_the_engine_keeps_its_kind() {
    let mut first = Harness::new(one(counter(|_| None)));
    first.run(&[records(&[(1, 1)])]);
    let mut snapshot = first.snapshot();
    for bytes in snapshot.keyed.get_mut("count").unwrap().values_mut() {
        *bytes = bytes.to_vec().unwrap()[..1].to_vec().into();
    }
    let mut second = Harness::new(one(counter(|_| None)));
    second.restore(&snapshot);
    let error = second.feed(&records(&[(1, 2)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(
        error.report().starts_with("the process function failed: restoring state 'count': "),
        "{}",
        error.report()
    );
}

#[test]
fn a_timer_that_fires_very_often_is_sent_in_pieces() {
    let mut harness = Harness::new(one(counter(|at| (at < 5000).then_some(at + 1))));
    let seen = harness.run(&[records(&[(1, 0)]), Feed::Watermark(6000)]);
    assert_eq!(seen.len(), 1 + 4991 + 1);
}

/// Collects the values of a key until the next multiple of 10 ms has passed.
struct Collecting {
    values: MapState<i64, Vec<i64>>,
}

impl KeyedProcessFunction<u8, Record, Text> for Collecting {
    fn process_element(
        &mut self,
        (_, value): Record,
        ctx: &mut KeyedContext<'_, u8>,
        _: &mut Collector<'_, Text>,
    ) -> UserResult {
        assert!(ctx.timestamp() > ctx.current_watermark().timestamp(), "no record is late");
        let at = (ctx.timestamp().div_euclid(10) + 1) * 10;
        let mut values = self.values.get(ctx, &at)?.cloned().unwrap_or_default();
        values.push(value);
        self.values.put(ctx, at, values)?;
        ctx.register_event_time_timer(at);
        Ok(())
    }

    fn on_timer(
        &mut self,
        at: Timestamp,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut Collector<'_, Text>,
    ) -> UserResult {
        assert!(at <= ctx.current_watermark().timestamp());
        let mut values = self.values.get(ctx, &at)?.cloned().ok_or("a timer fires for the second time")?;
        self.values.remove(ctx, &at)?;
        values.sort_unstable();
        out.collect(Text(format!("{} {values:?}", ctx.current_key())));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn timers_fire_once_though_subtasks_were_not_equally_far(
        steps in prop::collection::vec((0_u8..5, 0_i64..60, prop::bool::weighted(0.3)), 1..40),
    ) {
        let mut elements = Vec::new();
        for (idx, (key, at, is_watermark)) in steps.into_iter().enumerate() {
            let at = at + idx as i64 * 3;
            elements.push(if is_watermark { Feed::Watermark(at) } else { records(&[(key, at)]) });
        }
        elements.push(Feed::Watermark(Timestamp::MAX));
        let make = || {
            let function = Collecting { values: MapState::new("values") };
            KeyedProcessOperator::new(|record: &Record| record.0, function)
        };
        let route = |record: &Record, parallelism| route(&record.0, parallelism);
        check_overtaking(|ctx| Harness::at(one(make()), ctx), &elements, route, |(), _| 0);
    }
}
