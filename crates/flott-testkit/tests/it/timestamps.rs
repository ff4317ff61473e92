//! Timestamps and watermarks in the middle of a stream.

use crate::support::{LENGTH, SEEDS};
use expect_test::expect;
use flott_api::WatermarkStrategy;
use flott_operators::{TimestampsAndWatermarksOperator, WatermarkSettings};
use flott_testkit::{SnapshotCheck, TestDriver, parse_stream, random_stream};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

fn driver(strategy: WatermarkStrategy<i64>) -> TestDriver<i64, i64> {
    let settings = WatermarkSettings { auto_interval: 10 * MS, granularity: 5 * MS, idle_timeout: 40 * MS };
    TestDriver::new(move || TimestampsAndWatermarksOperator::new(strategy.clone(), settings))
}

fn strategies() -> [WatermarkStrategy<i64>; 4] {
    let assigned = |strategy: WatermarkStrategy<i64>| strategy.with_timestamp_assigner(|record, _| *record);
    [
        assigned(WatermarkStrategy::for_bounded_out_of_orderness(3 * MS)),
        assigned(WatermarkStrategy::for_monotonous_timestamps()).with_idleness(15 * MS),
        assigned(WatermarkStrategy::for_punctuated(|record, timestamp| {
            (record % 3 == 0).then_some(timestamp)
        })),
        WatermarkStrategy::no_watermarks().without_idleness(),
    ]
}

#[test]
fn bounded_out_of_orderness() {
    let [strategy, ..] = strategies();
    let make = || driver(strategy.clone());
    let input = parse_stream("+10 +14 +12 W3 P30 +18 +30 I P80 +31@1 +43 W+inf E").unwrap();
    expect![[r#"
        +10 => +10@10 W4
        +14 => +14@14 W9
        +12 => +12@12
        W3
        P30
        +18 => +18@18 W14
        +30 => +30@30 W24
        I
        P80 => I
        +31@1 => A +31@31
        +43 => +43@43 W39
        W+inf => W+inf
        E => E
    "#]]
    .assert_eq(&TestDriver::check_snapshots(make, &input, &SnapshotCheck::of_one_subtask()));
}

#[test]
fn idle_times_show() {
    let [_, monotonous, ..] = strategies();
    let mut driver = driver(monotonous);
    expect!["+10@10 W9 I A +20@20 W19 I A +30@30 W29"]
        .assert_eq(&driver.run("+10 P16 +20 W7 I P50 +30").unwrap());
}

#[test]
fn strategies_on_random_streams() {
    for strategy in strategies() {
        for seed in SEEDS {
            let input = random_stream(seed, LENGTH, |rng| rng.range(0..=60));
            TestDriver::check_snapshots(
                || driver(strategy.clone()),
                &input,
                &SnapshotCheck::of_one_subtask(),
            );
        }
    }
}

#[test]
fn default_settings() {
    let strategy =
        WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(|record, _| *record);
    let mut driver = TestDriver::assign_timestamps_and_watermarks(strategy);
    expect!["+1000@1000 W999 +999@999 +2000@2000 W1999 E"]
        .assert_eq(&driver.run("+1000 +999 +2000 E").unwrap());
}
