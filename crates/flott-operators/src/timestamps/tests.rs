use super::*;
use crate::test_support::{Feed, Harness, check_everywhere, one};
use flott_env::sim::WALL_CLOCK_START_MS as START;
use flott_types::NO_TIMESTAMP;
use proptest::prelude::*;

const SETTINGS: WatermarkSettings = WatermarkSettings {
    auto_interval: Duration::from_millis(200),
    granularity: Duration::from_millis(1),
    idle_timeout: Duration::from_secs(8),
};

fn harness(strategy: WatermarkStrategy<i64>) -> Harness<i64, (), i64> {
    Harness::new(one(TimestampsAndWatermarksOperator::new(strategy, SETTINGS)))
}

fn bounded(bound_ms: u64) -> WatermarkStrategy<i64> {
    WatermarkStrategy::for_bounded_out_of_orderness(Duration::from_millis(bound_ms))
        .with_timestamp_assigner(|record, _| *record)
}

fn records(records: &[i64]) -> Feed<i64> {
    Feed::Batch1(records.iter().map(|record| (*record, NO_TIMESTAMP)).collect())
}

#[test]
fn a_batch_is_sliced_where_the_watermark_jumps() {
    let mut harness = harness(bounded(5));
    let seen = harness.run(&[
        records(&[10, 12, 11, 20, 4]),
        records(&[21]),
        Feed::Watermark(i64::MAX),
        Feed::EndOfData,
    ]);
    assert_eq!(seen.join(" "), "+10@10 W4 +12@12 W6 +11@11 +20@20 W14 +4@4 +21@21 W15 W+inf end");
}

proptest! {
    #[test]
    fn the_watermark_after_each_record_is_that_of_the_bound(
        batches in prop::collection::vec(prop::collection::vec(-50_i64..200, 1..8), 1..6),
        bound in 0_u64..20,
    ) {
        let mut expected = Vec::new();
        let (mut max, mut watermark) = (i64::MIN, i64::MIN);
        for record in batches.iter().flatten() {
            expected.push(format!("+{record}@{record}"));
            max = max.max(*record);
            if max - bound as i64 - 1 > watermark {
                watermark = max - bound as i64 - 1;
                expected.push(format!("W{watermark}"));
            }
        }
        let elements: Vec<_> = batches.iter().map(|batch| records(batch)).collect();
        let mut harness = harness(bounded(bound));
        prop_assert_eq!(harness.run(&elements), expected.clone());
        let singles = crate::test_support::rebatch(&elements, 1);
        prop_assert_eq!(self::harness(bounded(bound)).run(&singles), expected);
    }
}

#[test]
fn watermarks_and_status_from_upstream_are_ignored_but_the_last() {
    let elements = [
        Feed::Watermark(1000),
        Feed::Status(StreamStatus::Idle),
        records(&[10]),
        Feed::Watermark(2000),
        Feed::Watermark(i64::MAX),
    ];
    assert_eq!(check_everywhere(|| harness(bounded(0)), &elements).join(" "), "+10@10 W9 W+inf");
}

#[test]
fn a_restored_watermark_does_not_go_back() {
    let mut before = harness(bounded(0));
    before.run(&[records(&[100])]);
    let mut after = harness(bounded(0));
    after.restore(&before.snapshot());
    assert_eq!(after.run(&[records(&[50, 100, 101])]).join(" "), "+50@50 +100@100 +101@101 W100");
}

#[test]
fn punctuation_works_on_records_without_timestamps() {
    let strategy = WatermarkStrategy::for_punctuated(|record: &i64, _| (record % 10 == 0).then_some(*record));
    let elements = [records(&[1, 10, 3, 30, 20, 5])];
    assert_eq!(
        check_everywhere(|| harness(strategy.clone()), &elements).join(" "),
        "+1 +10 W10 +3 +30 W30 +20 +5"
    );
}

#[test]
fn ingestion_time_is_the_clock() {
    let mut harness = harness(WatermarkStrategy::for_ingestion_time());
    let elements = [records(&[7]), Feed::ProcessingTime(START + 3), records(&[8, 9])];
    let seen = harness.run(&elements).join(" ");
    assert_eq!(seen, format!("+7@{START} W{} +8@{now} W{} +9@{now}", START - 1, START + 2, now = START + 3));
}

/// Knows a watermark only when it is asked.
struct Periodic(Option<i64>);

impl WatermarkGenerator<i64> for Periodic {
    fn on_record(&mut self, record: &i64, _: Timestamp) -> Option<Watermark> {
        self.0 = Some(*record);
        None
    }
    fn on_periodic_emit(&mut self) -> Option<Watermark> {
        self.0.map(Watermark)
    }
}

#[test]
fn a_periodic_generator_is_asked_every_interval() {
    let mut harness = harness(WatermarkStrategy::for_generator(|_| Periodic(None)).without_idleness());
    assert_eq!(harness.next_timer(), Some(START + 200));
    let elements = [
        Feed::ProcessingTime(START + 200),
        records(&[5, 9]),
        Feed::ProcessingTime(START + 399),
        Feed::ProcessingTime(START + 400),
        Feed::ProcessingTime(START + 650),
        records(&[4, 12]),
        Feed::ProcessingTime(START + 849),
        Feed::ProcessingTime(START + 850),
    ];
    assert_eq!(harness.run(&elements).join(" "), "+5 +9 W9 +4 +12 W12");
    assert_eq!(harness.next_timer(), Some(START + 1050));
}

#[test]
fn a_stream_without_records_becomes_idle_and_active_again() {
    let mut harness = harness(bounded(0));
    let tick = |seconds: i64| Feed::ProcessingTime(START + seconds * 1000);
    let mut elements = vec![records(&[1])];
    elements.extend((1..=9).map(tick));
    assert_eq!(harness.run(&elements).join(" "), "+1@1 W0 idle");
    assert_eq!(
        harness.run(&[tick(20), records(&[5]), Feed::Watermark(i64::MAX)]).join(" "),
        "active +5@5 W4 W+inf"
    );
}

#[test]
fn time_in_which_the_subtask_did_not_run_does_not_make_the_stream_idle() {
    let mut harness = harness(bounded(0));
    let seen = harness.run(&[records(&[1]), Feed::ProcessingTime(START + 3_600_000), records(&[2])]);
    assert_eq!(seen.join(" "), "+1@1 W0 +2@2 W1");
}

#[test]
fn the_end_of_event_time_wakes_an_idle_stream() {
    let mut harness = harness(bounded(0).with_idleness(Duration::from_millis(8)));
    let mut elements: Vec<_> = (1..=8).map(|ms| Feed::ProcessingTime(START + ms)).collect();
    elements.push(Feed::Watermark(i64::MAX));
    assert_eq!(harness.run(&elements).join(" "), "idle active W+inf");
}

#[test]
fn settings_come_from_the_configuration() {
    let mut configuration = Configuration::default();
    configuration.set("pipeline.source-idle-timeout", "5 s").unwrap();
    let settings = WatermarkSettings::from_configuration(&configuration);
    let default = WatermarkSettings { granularity: Duration::from_millis(100), ..SETTINGS };
    assert_eq!(settings, WatermarkSettings { idle_timeout: Duration::from_secs(5), ..default });
}
