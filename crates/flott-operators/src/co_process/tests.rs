use super::*;
use crate::test_support::{Feed, Harness, Text, check_everywhere, check_rescaling, route, text, two};
use expect_test::expect;
use flott_api::{Collector, KeyedContext, ProcessContext, UserResult};
use flott_state::{OperatorListState, ValueState};

/// Lets through what the second stream has allowed.
struct Gate(OperatorListState<u32>);

fn gate() -> CoProcessOperator<Gate> {
    CoProcessOperator::new(Gate(OperatorListState::new("allowed")))
}

impl CoProcessFunction<u32, String, Text> for Gate {
    fn process_element1(
        &mut self,
        record: u32,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, Text>,
    ) -> UserResult {
        if self.0.get(ctx.state)?.contains(&record) {
            out.collect(Text(format!("{record} at {}", ctx.watermark)));
        }
        Ok(())
    }
    fn process_element2(
        &mut self,
        record: String,
        ctx: &mut ProcessContext<'_>,
        _: &mut Collector<'_, Text>,
    ) -> UserResult {
        self.0.add(ctx.state, record.parse()?)?;
        Ok(())
    }
}

#[test]
fn both_inputs_share_operator_state() {
    let elements = [
        Feed::Batch1(vec![(1, 1), (2, 2)]),
        Feed::Batch2(vec![("2".to_owned(), 3), ("4".to_owned(), 4)]),
        Feed::Watermark(5),
        Feed::Batch1(vec![(1, 6), (2, 7), (4, 8)]),
        Feed::EndOfData,
    ];
    let seen = check_everywhere(|| Harness::new(two(gate())), &elements);
    assert_eq!(seen, ["W5", "+2 at W5@7", "+4 at W5@8", "end"]);
}

#[test]
fn an_error_of_the_second_input_names_its_record() {
    let mut harness = Harness::new(two(gate()));
    let error = harness.feed(&Feed::Batch2(vec![("1".to_owned(), 0), ("x".to_owned(), 0)])).unwrap_err();
    assert_eq!(error.report(), "the process function failed: invalid digit found in string");
    assert_eq!(harness.progress(), 1);
}

/// An order and its payment; an order that is not paid within 10 ms is given up.
struct Payments(ValueState<i64>);

impl KeyedCoProcessFunction<u8, (u8, i64), u8, Text> for Payments {
    fn process_element1(
        &mut self,
        (_, amount): (u8, i64),
        ctx: &mut KeyedContext<'_, u8>,
        _: &mut Collector<'_, Text>,
    ) -> UserResult {
        self.0.set(ctx, amount)?;
        ctx.register_event_time_timer(ctx.timestamp() + 10);
        Ok(())
    }
    fn process_element2(
        &mut self,
        order: u8,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut Collector<'_, Text>,
    ) -> UserResult {
        let paid = self.0.take(ctx)?;
        out.collect(Text(format!("{order} paid {paid:?}")));
        Ok(())
    }
    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, u8>,
        out: &mut Collector<'_, Text>,
    ) -> UserResult {
        if let Some(amount) = self.0.take(ctx)? {
            out.collect(Text(format!("{} not paid {amount} by {timestamp}", ctx.current_key())));
        }
        Ok(())
    }
}

fn payments() -> impl TwoInputOperator<(u8, i64), u8, Text> {
    let function = Payments(ValueState::new("amount"));
    KeyedCoProcessOperator::new(|order: &(u8, i64)| order.0, |order: &u8| *order, function)
}

#[test]
fn both_inputs_share_keyed_state_and_timers_at_any_parallelism() {
    let elements = [
        Feed::Batch1(vec![((1, 100), 0), ((2, 200), 1), ((3, 300), 2)]),
        Feed::Batch2(vec![(2, 5), (9, 6)]),
        Feed::Watermark(10),
        Feed::Batch1(vec![((4, 400), 20), ((5, 500), 21)]),
        Feed::Batch2(vec![(1, 11)]),
        Feed::Batch2(vec![(5, 22)]),
        Feed::Watermark(i64::MAX),
        Feed::EndOfData,
    ];
    let seen = check_everywhere(|| Harness::new(two(payments())), &elements);
    expect![[r#"
        +2 paid Some(200)@5
        +9 paid None@6
        +1 not paid 100 by 10@10
        W10
        +1 paid None@11
        +5 paid Some(500)@22
        +3 not paid 300 by 12@12
        +4 not paid 400 by 30@30
        W+inf
        end
    "#]]
    .assert_eq(&text(&seen));
    check_rescaling(
        |ctx| Harness::at(two(payments()), ctx),
        &elements,
        |(order, _), parallelism| Some(route(order, parallelism)),
        |order, parallelism| Some(route(order, parallelism)),
    );
}
