use super::*;
use crate::test_support::{
    Feed, Harness, Text, check_everywhere, check_rescaling, context, route, text, two,
};
use expect_test::expect;
use flott_api::{Collector, KeyedContext, ProcessContext, UserResult};
use flott_env::sim::Simulation;
use flott_state::{BroadcastState, OperatorListState, ValueState};

/// Prices of a currency, which the broadcast stream sets.
#[derive(Clone)]
struct Convert {
    rates: BroadcastState<String, u32>,
    converted: OperatorListState<u32>,
}

fn convert() -> Convert {
    Convert { rates: BroadcastState::new("rates"), converted: OperatorListState::new("converted") }
}

type Rate = (String, u32);

impl BroadcastProcessFunction<(String, u32), Rate, Text> for Convert {
    fn process_element(
        &mut self,
        (currency, amount): (String, u32),
        ctx: &mut ProcessContext<'_>,
        broadcast: &OperatorStateBackend,
        out: &mut Collector<'_, Text>,
    ) -> UserResult {
        if let Some(rate) = self.rates.get(broadcast, &currency)? {
            self.converted.add(ctx.state, amount * rate)?;
        }
        out.collect(Text(format!("{:?}", self.converted.get(ctx.state)?)));
        Ok(())
    }
    fn process_broadcast_element(
        &mut self,
        (currency, rate): Rate,
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, Text>,
    ) -> UserResult {
        self.rates.put(ctx.state, currency, rate)?;
        Ok(())
    }
}

fn amount(currency: &str, amount: u32) -> ((String, u32), Timestamp) {
    ((currency.to_owned(), amount), 1)
}

#[test]
fn records_see_the_broadcast_state_and_their_own() {
    let elements = [
        Feed::Batch1(vec![amount("EUR", 1)]),
        Feed::Batch2(vec![amount("EUR", 10), amount("USD", 9)]),
        Feed::Batch1(vec![amount("EUR", 2), amount("USD", 1)]),
        Feed::Batch2(vec![amount("EUR", 11)]),
        Feed::Batch1(vec![amount("EUR", 3)]),
        Feed::EndOfData,
    ];
    let make = || Harness::new(two(BroadcastProcessOperator::new(convert())));
    assert_eq!(
        check_everywhere(make, &elements),
        ["+[]@1", "+[20]@1", "+[20, 9]@1", "+[20, 9, 33]@1", "end"]
    );
}

#[test]
fn broadcast_state_is_the_same_on_all_subtasks_and_restores_on_new_ones() {
    let env = Simulation::new(1).env();
    let open = |subtask, parallelism| {
        let ctx = context(env.clone(), subtask, parallelism);
        Harness::at(two(BroadcastProcessOperator::new(convert())), &ctx)
    };
    let mut subtasks = [open(0, 2), open(1, 2)];
    let rates = Feed::Batch2(vec![amount("EUR", 10), amount("USD", 9)]);
    subtasks[0].run(&[Feed::Batch1(vec![amount("EUR", 1)]), rates.clone()]);
    subtasks[1].run(&[rates, Feed::Batch1(vec![amount("EUR", 1)])]);
    let parts = subtasks.map(|mut subtask| subtask.snapshot());
    assert_eq!(parts[0].broadcast, parts[1].broadcast);
    for idx in 0..3 {
        let mut subtask = open(idx, 3);
        subtask.restore(&OperatorSnapshot::reassign(&parts, SubtaskIndex(idx), 3).unwrap());
        let seen = subtask.run(&[Feed::Batch1(vec![amount("USD", 2)])]);
        let expected = if idx == 0 { "+[10, 18]@1" } else { "+[18]@1" };
        assert_eq!(seen, [expected], "subtask {idx}");
    }
}

#[test]
fn state_of_the_wrong_kind_is_refused_by_the_snapshot() {
    let mut operator = BroadcastProcessOperator::new(convert());
    let ctx = context(Simulation::new(1).env(), 0, 1);
    TwoInputOperator::<(String, u32), Rate, Text>::open(&mut operator, &ctx).unwrap();
    convert().converted.add(&mut operator.broadcast, 1).unwrap();
    let mut snapshot = OperatorSnapshot::default();
    let taken = TwoInputOperator::<(String, u32), Rate, Text>::snapshot(&mut operator, &mut snapshot);
    let expected = "list state 'converted' was written while a record of the broadcast stream was processed";
    assert_eq!(taken.unwrap_err().to_string(), expected);
}

/// Sums per key; the broadcast stream says how long after its first record a key's sum is due.
struct Sums {
    delay: BroadcastState<u8, i64>,
    sum: ValueState<u64>,
}

impl KeyedBroadcastProcessFunction<u8, (u8, u64), i64, Text> for Sums {
    fn process_element(
        &mut self,
        (_, value): (u8, u64),
        ctx: &mut KeyedContext<'_, u8>,
        broadcast: &OperatorStateBackend,
        _: &mut Collector<'_, Text>,
    ) -> UserResult {
        if self.sum.get(ctx)?.is_none() {
            let delay = self.delay.get(broadcast, &0)?.copied().unwrap_or(10);
            ctx.register_event_time_timer(ctx.timestamp() + delay);
        }
        self.sum.update_or(ctx, 0, |sum| *sum += value)?;
        Ok(())
    }
    fn process_broadcast_element(
        &mut self,
        delay: i64,
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, Text>,
    ) -> UserResult {
        self.delay.put(ctx.state, 0, delay)?;
        Ok(())
    }
    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, u8>,
        broadcast: &OperatorStateBackend,
        out: &mut Collector<'_, Text>,
    ) -> UserResult {
        let (sum, delay) = (self.sum.take(ctx)?, self.delay.get(broadcast, &0)?);
        out.collect(Text(format!("{} {sum:?} at {timestamp}, now {delay:?}", ctx.current_key())));
        Ok(())
    }
}

#[test]
fn keyed_records_and_timers_see_the_broadcast_state_at_any_parallelism() {
    let make = || {
        let function = Sums { delay: BroadcastState::new("delay"), sum: ValueState::new("sum") };
        two(KeyedBroadcastProcessOperator::new(|record: &(u8, u64)| record.0, function))
    };
    let elements = [
        Feed::Batch1(vec![((1, 1), 0), ((2, 2), 1)]),
        Feed::Batch2(vec![(20, 0)]),
        Feed::Batch1(vec![((1, 10), 2), ((3, 3), 3), ((4, 4), 4)]),
        Feed::Watermark(10),
        Feed::Batch2(vec![(30, 0)]),
        Feed::Batch1(vec![((1, 100), 12)]),
        Feed::Watermark(i64::MAX),
        Feed::EndOfData,
    ];
    let seen = check_everywhere(|| Harness::new(make()), &elements);
    expect![[r#"
        +1 Some(11) at 10, now Some(20)@10
        W10
        +2 Some(2) at 11, now Some(30)@11
        +3 Some(3) at 23, now Some(30)@23
        +4 Some(4) at 24, now Some(30)@24
        +1 Some(100) at 42, now Some(30)@42
        W+inf
        end
    "#]]
    .assert_eq(&text(&seen));
    check_rescaling(
        |ctx| Harness::at(make(), ctx),
        &elements,
        |record, parallelism| Some(route(&record.0, parallelism)),
        |_, _| None,
    );
}
