use super::*;
use crate::test_support::{
    Feed, Harness, Text, check_everywhere, check_overtaking, check_rescaling, route, two,
};
use flott_state::GroupBytes;
use proptest::prelude::*;

/// Key and number of a record.
type Record = (u8, usize);

fn join(interval: JoinInterval) -> impl TwoInputOperator<Record, Record, Text> {
    let function = |left: &Record, right: &Record, out: &mut Collector<'_, Text>| -> UserResult {
        assert_eq!(left.0, right.0);
        out.collect(Text(format!("{} {}", left.1, right.1)));
        Ok(())
    };
    IntervalJoinOperator::new(|left: &Record| left.0, |right: &Record| right.0, interval, function)
}

/// What comes in: the records of one side, with their times after the watermark, or an advance of the watermark.
#[derive(Clone, Debug)]
enum Step {
    Left(Vec<(u8, i64)>),
    Right(Vec<(u8, i64)>),
    Advance(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let records = || prop::collection::vec((0_u8..2, -2_i64..12), 1..4);
    let step = prop_oneof![
        records().prop_map(Step::Left),
        records().prop_map(Step::Right),
        (0_i64..8).prop_map(Step::Advance),
    ];
    prop::collection::vec(step, 1..20)
}

fn elements(steps: &[Step]) -> Vec<Feed<Record, Record>> {
    let mut watermark = -40;
    let mut n = 0;
    let mut number = |records: &[(u8, i64)], watermark: i64| -> Vec<(Record, Timestamp)> {
        let numbered = records.iter().map(|(key, after)| {
            n += 1;
            ((*key, n), watermark + after)
        });
        numbered.collect()
    };
    let elements = steps.iter().map(|step| match step {
        Step::Left(records) => Feed::Batch1(number(records, watermark)),
        Step::Right(records) => Feed::Batch2(number(records, watermark)),
        Step::Advance(by) => {
            watermark += by;
            Feed::Watermark(watermark)
        }
    });
    elements.chain([Feed::Watermark(i64::MAX)]).collect()
}

/// The nested loop: all pairs of records that were not late.
fn reference(elements: &[Feed<Record, Record>], lower_ms: i64, upper_ms: i64) -> Vec<String> {
    let mut watermark = i64::MIN;
    let (mut lefts, mut rights) = (Vec::new(), Vec::new());
    for element in elements {
        match element {
            Feed::Batch1(records) => lefts.extend(records.iter().filter(|(_, at)| *at > watermark)),
            Feed::Batch2(records) => rights.extend(records.iter().filter(|(_, at)| *at > watermark)),
            Feed::Watermark(at) => watermark = *at,
            other => panic!("{other:?} is not made by steps"),
        }
    }
    let mut pairs = Vec::new();
    for (left, left_at) in &lefts {
        for (right, right_at) in &rights {
            if left.0 == right.0 && (lower_ms..=upper_ms).contains(&(right_at - left_at)) {
                pairs.push(format!("+{} {}@{}", left.1, right.1, left_at.max(right_at)));
            }
        }
    }
    pairs.sort();
    pairs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_pairs_are_those_of_the_nested_loop(steps in steps(), lower in -8_i64..8, width in 0_i64..10) {
        let (elements, upper) = (elements(&steps), lower + width);
        let make = || Harness::new(two(join(JoinInterval::new(lower..=upper).unwrap())));
        let mut seen = check_everywhere(make, &elements);
        seen.retain(|line| line.starts_with('+'));
        seen.sort();
        prop_assert_eq!(seen, reference(&elements, lower, upper));
    }

    #[test]
    fn nothing_is_kept_after_the_end_of_event_time(steps in steps(), lower in -8_i64..8, width in 0_i64..10) {
        let mut harness = Harness::new(two(join(JoinInterval::new(lower..=lower + width).unwrap())));
        harness.run(&elements(&steps));
        let snapshot = harness.snapshot();
        prop_assert!(snapshot.keyed.values().all(|groups| groups.is_empty()), "{:?}", snapshot.keyed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn buffers_move_to_other_subtasks(steps in steps()) {
        check_rescaling(
            |ctx| Harness::at(two(join(JoinInterval::new(-4..6).unwrap())), ctx),
            &elements(&steps),
            |record, parallelism| Some(route(&record.0, parallelism)),
            |record, parallelism| Some(route(&record.0, parallelism)),
        );
    }

    #[test]
    fn records_are_joined_once_though_subtasks_were_not_equally_far(steps in steps()) {
        check_overtaking(
            |ctx| Harness::at(two(join(JoinInterval::new(-4..6).unwrap())), ctx),
            &elements(&steps),
            |record, parallelism| route(&record.0, parallelism),
            |record, parallelism| route(&record.0, parallelism),
        );
    }
}

#[test]
fn bounds_are_inclusive_or_exclusive_as_written() {
    let millis =
        |bounds: (Bound<i64>, Bound<i64>)| JoinInterval::new(bounds).map(|i| (i.lower_ms, i.upper_ms));
    assert_eq!(millis((Bound::Included(-5), Bound::Included(5))).unwrap(), (-5, 5));
    assert_eq!(millis((Bound::Excluded(-5), Bound::Excluded(5))).unwrap(), (-4, 4));
    for bounds in [
        (Bound::Included(1), Bound::Excluded(1)),
        (Bound::Unbounded, Bound::Included(1)),
        (Bound::Included(1), Bound::Unbounded),
        (Bound::Excluded(i64::MAX), Bound::Included(i64::MAX)),
    ] {
        assert!(millis(bounds).is_err(), "{bounds:?}");
    }
}

#[test]
fn a_record_at_the_watermark_is_late_and_one_after_it_is_not() {
    let interval = JoinInterval::new(-10..=10).unwrap();
    let late = Feed::Batch2(vec![((1, 7), 10), ((1, 8), 11)]);
    let elements = [Feed::Watermark(10), late, Feed::Batch1(vec![((1, 1), 11), ((1, 2), 9)])];
    let mut harness = Harness::new(two(join(interval)));
    assert_eq!(harness.run(&elements), ["W10", "+1 8@11"]);
    assert_eq!(harness.metrics.late_records_dropped.load(Ordering::Relaxed), 2);

    let (left, right) = (OutputTag::new("left"), OutputTag::new("right"));
    let function = |_: &Record, _: &Record, _: &mut Collector<'_, Text>| -> UserResult { Ok(()) };
    let operator = IntervalJoinOperator::new(|l: &Record| l.0, |r: &Record| r.0, interval, function);
    let operator = operator.with_late_left(left.clone()).with_late_right(right.clone());
    let mut harness = Harness::new(two(operator)).with_side(&left).with_side(&right);
    let seen = harness.run(&elements).join(" ");
    assert_eq!(seen, "W10 left:W10 right:W10 right:+(1, 7)@10 left:+(1, 2)@9");
    assert_eq!(harness.metrics.late_records_dropped.load(Ordering::Relaxed), 0);
}

#[test]
fn a_record_without_a_timestamp_is_refused() {
    let mut harness = Harness::new(two(join(JoinInterval::new(0..=1).unwrap())));
    let error = harness.feed(&Feed::Batch1(vec![((1, 1), 5), ((1, 2), NO_TIMESTAMP)])).unwrap_err();
    assert!(error.to_string().contains("needs timestamps"), "{error}");
    assert_eq!(harness.progress(), 1);
}

#[test]
fn an_error_of_the_function_comes_after_the_pairs_before_it() {
    let function = |left: &u8, right: &u8, out: &mut Collector<'_, u8>| -> UserResult {
        out.collect(left + right);
        if *right == 2 { Err("two".into()) } else { Ok(()) }
    };
    let interval = JoinInterval::new(0..=10).unwrap();
    let operator = IntervalJoinOperator::new(|_: &u8| (), |_: &u8| (), interval, function);
    let mut harness = Harness::new(two(operator));
    harness.feed(&Feed::Batch1(vec![(10, 0)])).unwrap();
    let error = harness.feed(&Feed::Batch2(vec![(1, 1), (2, 2), (3, 3)])).unwrap_err();
    assert_eq!(error.report(), "the join function failed: two");
    assert_eq!(harness.take(), ["+11@1", "+12@2"]);
}

#[test]
fn the_watermark_drops_what_can_find_no_partner() {
    let interval = JoinInterval::new(-5..=10).unwrap();
    let function = |_: &u8, _: &u8, _: &mut Collector<'_, u8>| -> UserResult { Ok(()) };
    let operator = IntervalJoinOperator::new(|_: &u8| (), |_: &u8| (), interval, function);
    let mut harness = Harness::new(two(operator));
    harness.run(&[Feed::Batch1(vec![(1, 0), (2, 20)]), Feed::Batch2(vec![(3, 1), (4, 30)])]);
    let size = |harness: &mut Harness<u8, u8, u8>| {
        harness.snapshot().keyed[BUFFERS].values().map(GroupBytes::n_bytes).sum::<u64>()
    };
    let full = size(&mut harness);
    // The left record at 0 waits for right ones up to 10, the right one at 1 for left ones up to 6.
    harness.run(&[Feed::Watermark(9)]);
    assert!(size(&mut harness) <= full);
    harness.run(&[Feed::Watermark(10)]);
    let half = size(&mut harness);
    assert!(half < full, "{half} of {full} bytes");
    harness.run(&[Feed::Watermark(35)]);
    assert_eq!(size(&mut harness), 0);
}
