//! The interval join.

use crate::support::{SEEDS, two_keyed_streams};
use expect_test::expect;
use flott_api::{Collector, OutputTag, UserResult};
use flott_operators::{IntervalJoinOperator, JoinInterval};
use flott_testkit::{KeyValue, SnapshotCheck, TwoInputTestDriver, parse_stream};

fn pair(left: &KeyValue, right: &KeyValue, out: &mut Collector<'_, String>) -> UserResult {
    out.collect(format!("{}:{}+{}", left.key, left.value, right.value));
    Ok(())
}

fn join(interval: JoinInterval) -> TwoInputTestDriver<KeyValue, KeyValue, String> {
    TwoInputTestDriver::interval_join(KeyValue::key_of, KeyValue::key_of, interval, pair)
}

fn join_with_late_outputs(interval: JoinInterval) -> TwoInputTestDriver<KeyValue, KeyValue, String> {
    let (left, right) = (OutputTag::new("left"), OutputTag::new("right"));
    let (late_left, late_right) = (left.clone(), right.clone());
    let make = move || {
        IntervalJoinOperator::new(KeyValue::key_of, KeyValue::key_of, interval, pair)
            .with_late_left(late_left.clone())
            .with_late_right(late_right.clone())
    };
    TwoInputTestDriver::new(make)
        .with_key_selectors(KeyValue::key_of, KeyValue::key_of)
        .print_side_output::<KeyValue>(&left)
        .print_side_output::<KeyValue>(&right)
}

#[test]
fn interval_join() {
    let make = || join_with_late_outputs(JoinInterval::new(-2..=5).unwrap());
    let line = "1:+a=1@10 2:+a=2@8 2:+a=3@15 2:+a=4@16 2:+b=5@10 W9 1:+a=6@11 1:+b=7@9 2:+b=8@12 W12 2:+a=9@13 W20 E";
    let input = parse_stream(line).unwrap();
    expect![[r#"
        +a=1@10
        2:+a=2@8 => +"a:1+2"@10
        2:+a=3@15 => +"a:1+3"@15
        2:+a=4@16
        2:+b=5@10
        W9 => W9
        +a=6@11 => +"a:6+3"@15 +"a:6+4"@16
        +b=7@9 => left:+b=7@9
        2:+b=8@12
        W12 => W12
        2:+a=9@13 => +"a:1+9"@13 +"a:6+9"@13
        W20 => W20
        E => E
    "#]]
    .assert_eq(&TwoInputTestDriver::check_snapshots(make, &input, &SnapshotCheck::default()));
}

#[test]
fn interval_joins_of_random_streams() {
    for (lower, upper) in [(-3, 3), (0, 8), (-10, -2), (2, 6), (0, 0)] {
        let interval = JoinInterval::new(lower..=upper).unwrap();
        for seed in SEEDS {
            let (make, make_with_late) = (|| join(interval), || join_with_late_outputs(interval));
            TwoInputTestDriver::check_snapshots(make, &two_keyed_streams(seed), &SnapshotCheck::default());
            TwoInputTestDriver::check_snapshots(
                make_with_late,
                &two_keyed_streams(seed),
                &SnapshotCheck::default(),
            );
        }
    }
}
