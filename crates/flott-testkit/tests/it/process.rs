//! Process functions of one stream, and reductions.

use crate::support::{SEEDS, keyed_stream};
use expect_test::expect;
use flott_api::{
    Collector, KeyedContext, KeyedProcessFunction, OutputTag, ProcessContext, ProcessFunction,
    RuntimeContext, TimeDomain, UserResult,
};
use flott_state::{
    AggregatingState, ListState, MapState, OperatorListState, ReducingState, StateTtlConfig, ValueState,
};
use flott_testkit::{Element, KeyValue, SnapshotCheck, TestDriver, parse_stream};
use flott_types::{NO_TIMESTAMP, Timestamp};
use std::time::Duration;

/// Every kind of keyed state and both kinds of timers.
#[derive(Clone)]
struct Ledger {
    sum: ValueState<i64>,
    last: ValueState<i64>,
    times: MapState<Timestamp, i64>,
    values: ListState<i64>,
    largest: ReducingState<i64>,
    average: AggregatingState<i64, (i64, i64), i64>,
    late: OutputTag<String>,
}

fn ledger() -> Ledger {
    Ledger {
        sum: ValueState::new("sum"),
        last: ValueState::new("last").with_ttl(StateTtlConfig::new(Duration::from_millis(25))),
        times: MapState::new("times"),
        values: ListState::new("values"),
        largest: ReducingState::new("largest", i64::max),
        average: AggregatingState::new(
            "average",
            || (0, 0),
            |(sum, n), value| (*sum, *n) = (*sum + value, *n + 1),
            |(sum, n)| 10 * sum / n,
        ),
        late: OutputTag::new("late"),
    }
}

impl KeyedProcessFunction<String, KeyValue, String> for Ledger {
    fn process_element(
        &mut self,
        KeyValue { key, value }: KeyValue,
        ctx: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let timestamp = ctx.timestamp();
        if timestamp != NO_TIMESTAMP && timestamp <= ctx.current_watermark().timestamp() {
            out.output(&self.late, key);
            return Ok(());
        }
        let sum = self.sum.get(ctx)?.copied().unwrap_or(0) + value;
        self.sum.set(ctx, sum)?;
        let last = self.last.get(ctx)?.copied();
        self.last.set(ctx, value)?;
        self.times.put(ctx, timestamp, value)?;
        self.values.add(ctx, value)?;
        self.largest.add(ctx, value)?;
        self.average.add(ctx, value)?;
        ctx.register_event_time_timer(timestamp + 5);
        if value % 2 == 0 {
            ctx.register_processing_time_timer(ctx.current_processing_time() + 10);
        }
        if value == 9 {
            ctx.delete_event_time_timer(timestamp + 4);
            ctx.delete_processing_time_timer(ctx.current_processing_time() + 9);
        }
        out.collect(format!("{key}:{sum}/{last:?}"));
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let key = ctx.current_key().clone();
        match ctx.time_domain() {
            TimeDomain::EventTime => {
                let times: Vec<_> =
                    self.times.range(ctx, ..timestamp)?.map(|(at, value)| (*at, *value)).collect();
                self.times.remove_range(ctx, ..timestamp)?;
                if times.len() > 1 {
                    ctx.register_event_time_timer(timestamp + 3);
                }
                out.collect(format!("{key}:times:{times:?}"));
            }
            TimeDomain::ProcessingTime => {
                let values = self.values.get(ctx)?.copied().collect::<Vec<_>>();
                let largest = self.largest.get(ctx)?.copied();
                let average = self.average.get(ctx)?;
                self.values.clear(ctx)?;
                self.largest.clear(ctx)?;
                if timestamp % 3 == 0 {
                    ctx.register_processing_time_timer(timestamp + 4);
                }
                out.collect(format!("{key}:values:{values:?}<={largest:?}~{average:?}"));
            }
        }
        Ok(())
    }
}

fn driver() -> TestDriver<KeyValue, String> {
    let function = ledger();
    let late = function.late.clone();
    TestDriver::keyed_process(KeyValue::key_of, function).print_side_output(&late)
}

#[test]
fn keyed_process_function_with_all_state_and_timers() {
    let input =
        parse_stream("+a=2@1 +b=4@2 +a=3@4 W5 +a=1@5 P9 W7 P10 +b=9@12 W17 P40 +b=1@20 W+inf E").unwrap();
    expect![[r#"
        +a=2@1 => +"a:2/None"@1
        +b=4@2 => +"b:4/None"@2
        +a=3@4 => +"a:5/Some(2)"@4
        W5 => W5
        +a=1@5 => late:+a@5
        P9
        W7 => +"a:times:[(1, 2), (4, 3)]"@6 +"b:times:[(2, 4)]"@7 W7
        P10 => +"a:values:[2, 3]<=Some(3)~Some(25)" +"b:values:[4]<=Some(4)~Some(40)"
        +b=9@12 => +"b:13/Some(4)"@12
        W17 => +"a:times:[]"@9 +"b:times:[(12, 9)]"@17 W17
        P40
        +b=1@20 => +"b:14/None"@20
        W+inf => +"b:times:[(20, 1)]"@25 W+inf
        E => E
    "#]]
    .assert_eq(&TestDriver::check_snapshots(driver, &input, &SnapshotCheck::default()));
}

#[test]
fn keyed_process_function_on_random_streams() {
    for seed in SEEDS {
        TestDriver::check_snapshots(driver, &keyed_stream(seed), &SnapshotCheck::default());
    }
}

/// Keeps two lists: one is divided, the other is the same everywhere.
#[derive(Clone)]
struct Lists {
    divided: OperatorListState<i64>,
    everywhere: OperatorListState<(u32, i64)>,
    subtask: u32,
}

impl ProcessFunction<i64, String> for Lists {
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        self.subtask = ctx.subtask.0;
        Ok(())
    }

    fn process_element(
        &mut self,
        record: i64,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        self.divided.add(ctx.state, record)?;
        let mut counts = self.everywhere.get(ctx.state)?.to_vec();
        let count = counts.iter().map(|(_, count)| *count).sum::<i64>() + 1;
        counts = vec![(self.subtask, count)];
        self.everywhere.update(ctx.state, counts)?;
        out.collect(format!("{record} of {:?}, {count}th", self.divided.get(ctx.state)?));
        Ok(())
    }

    fn close(&mut self, out: &mut Collector<'_, String>) -> UserResult {
        out.collect("closed".to_owned());
        Ok(())
    }
}

fn lists() -> TestDriver<i64, String> {
    TestDriver::process(Lists {
        divided: OperatorListState::new("divided"),
        everywhere: OperatorListState::union("everywhere"),
        subtask: 0,
    })
}

#[test]
fn process_function_with_operator_state() {
    let input = parse_stream("+1@1 W1 +2@2 +3 P5 +4@9 W+inf E").unwrap();
    expect![[r#"
        +1@1 => +"1 of [1], 1th"@1
        W1 => W1
        +2@2 => +"2 of [1, 2], 2th"@2
        +3 => +"3 of [1, 2, 3], 3th"
        P5
        +4@9 => +"4 of [1, 2, 3, 4], 4th"@9
        W+inf => W+inf
        E => +"closed" E
    "#]]
    .assert_eq(&TestDriver::check_snapshots(lists, &input, &SnapshotCheck::of_one_subtask()));
}

#[test]
fn list_state_is_dealt_to_subtasks() {
    let mut driver = lists();
    driver.run("+1 +2 +3").unwrap();
    driver.rescale(2).unwrap();
    expect![[r#"+"4 of [2, 4], 4th" +"5 of [1, 3, 5], 4th""#]].assert_eq(&driver.run("+4 +5").unwrap());
}

#[test]
fn reductions() {
    let make = || {
        TestDriver::reduce(KeyValue::key_of, |sum: &mut KeyValue, next| {
            sum.value = sum.value * 3 + next.value
        })
    };
    for seed in SEEDS {
        TestDriver::check_snapshots(make, &keyed_stream(seed), &SnapshotCheck::default());
    }
    let input: Vec<Element<KeyValue>> = parse_stream("+a=1@1 +b=1 +a=2@3 W3 E").unwrap();
    expect![[r#"
        +a=1@1 => +a=1@1
        +b=1 => +b=1
        +a=2@3 => +a=5@3
        W3 => W3
        E => E
    "#]]
    .assert_eq(&TestDriver::check_snapshots(make, &input, &SnapshotCheck::default()));
}
