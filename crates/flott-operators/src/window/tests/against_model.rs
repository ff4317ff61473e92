//! The general operator does what the model says.

use super::model::{Model, Windows, dynamic_gap, strategies};
use super::support::{Element, Fired, Gather, Rec, Step, by_the_clock, key, late_tag, run_everywhere, show};
use crate::operator::Operator;
use crate::test_support::{Feed, Harness, check_overtaking, one, route};
use crate::{Aggregate, KeepRecords, ProcessRecords, WindowConfig, WindowOperator};
use flott_api::windowing::{
    EventTimeSessionWindows, ProcessingTimeSessionWindows, SlidingEventTimeWindows,
    SlidingProcessingTimeWindows, TimeWindow, WindowAssigner,
};
use flott_api::{Collector, UserResult, WindowContext};
use flott_types::Timestamp;
use proptest::prelude::*;
use std::time::Duration;

pub(crate) const fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

fn gathering<A: WindowAssigner<Rec, Window = TimeWindow>>(
    assigner: &A,
    lateness: i64,
) -> impl Operator<Rec, Fired> + use<A> {
    let config = WindowConfig {
        key_selector: key as fn(&Rec) -> char,
        trigger: assigner.default_trigger(),
        assigner: assigner.clone(),
        allowed_lateness_ms: lateness,
        late_records: Some(late_tag()),
        logic: Aggregate { function: Gather, then: show() },
    };
    WindowOperator::new(config).unwrap()
}

fn run<A: WindowAssigner<Rec, Window = TimeWindow>>(
    assigner: &A,
    lateness: i64,
    elements: &[Element],
) -> Vec<Step> {
    run_everywhere(|| gathering(assigner, lateness), elements)
}

fn run_lists<A: WindowAssigner<Rec, Window = TimeWindow>>(
    assigner: &A,
    lateness: i64,
    elements: &[Element],
) -> Vec<Step> {
    let process = |key: &char,
                   ctx: &WindowContext<'_, TimeWindow>,
                   records: Vec<Rec>,
                   out: &mut Collector<'_, Fired>|
     -> UserResult {
        out.collect(Fired::new(*key, ctx.window, records.iter().map(|record| record.value).collect()));
        Ok(())
    };
    let make = || {
        WindowOperator::new(WindowConfig {
            key_selector: key as fn(&Rec) -> char,
            trigger: assigner.default_trigger(),
            assigner: assigner.clone(),
            allowed_lateness_ms: lateness,
            late_records: Some(late_tag()),
            logic: KeepRecords { then: ProcessRecords(process), evictor: None },
        })
        .unwrap()
    };
    run_everywhere(make, elements)
}

fn check(windows: Windows, lateness: i64, elements: &[Element]) {
    let expected = Model::new(windows, lateness).run(elements);
    match windows {
        Windows::Sliding { size, slide, offset } => {
            let assigner = SlidingEventTimeWindows::of(ms(size), ms(slide)).with_offset_ms(offset);
            assert_eq!(run(&assigner, lateness, elements), expected);
            assert_eq!(run_lists(&assigner, lateness, elements), expected);
        }
        Windows::Session { gap, is_dynamic: false } => {
            let assigner = EventTimeSessionWindows::with_gap(ms(gap));
            assert_eq!(run(&assigner, lateness, elements), expected);
            assert_eq!(run_lists(&assigner, lateness, elements), expected);
        }
        Windows::Session { gap, is_dynamic: true } => {
            let assigner =
                EventTimeSessionWindows::with_dynamic_gap(move |record: &Rec| ms(dynamic_gap(gap, record)));
            assert_eq!(run(&assigner, lateness, elements), expected);
        }
    }
}

/// The same with the wall clock in the place of the watermark.
fn check_processing_time(windows: Windows, elements: &[Element]) {
    let (by_watermark, mut by_clock) = by_the_clock(elements);
    let expected = Model::new(windows, 0).run(&by_watermark);
    let run = |by_clock: &[Element]| match windows {
        Windows::Sliding { size, slide, offset } => {
            run(&SlidingProcessingTimeWindows::of(ms(size), ms(slide)).with_offset_ms(offset), 0, by_clock)
        }
        Windows::Session { gap, is_dynamic: false } => {
            run(&ProcessingTimeSessionWindows::with_gap(ms(gap)), 0, by_clock)
        }
        Windows::Session { gap, is_dynamic: true } => {
            let gap = move |record: &Rec| ms(dynamic_gap(gap, record));
            run(&ProcessingTimeSessionWindows::with_dynamic_gap(gap), 0, by_clock)
        }
    };
    assert_eq!(run(&by_clock), expected);
    // The end of the input is for windows what the end of all time on the wall would be.
    assert!(matches!(by_clock.pop(), Some(Feed::ProcessingTime(Timestamp::MAX))));
    by_clock.push(Feed::Watermark(Timestamp::MAX));
    assert_eq!(run(&by_clock), expected, "by the end of the input");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn tumbling_windows_are_as_in_the_model(
        windows in strategies::tumbling(), lateness in prop_oneof![Just(0), 0..30_i64], elements in strategies::elements(),
    ) {
        check(windows, lateness, &elements);
    }

    #[test]
    fn sliding_windows_are_as_in_the_model(
        windows in strategies::sliding(), lateness in prop_oneof![Just(0), 0..30_i64], elements in strategies::elements(),
    ) {
        check(windows, lateness, &elements);
    }

    #[test]
    fn sessions_are_as_in_the_model(
        windows in strategies::sessions(), lateness in prop_oneof![Just(0), 0..30_i64], elements in strategies::elements(),
    ) {
        check(windows, lateness, &elements);
    }

    #[test]
    fn processing_time_windows_are_event_time_windows_by_another_clock(
        windows in prop_oneof![strategies::sliding(), strategies::sessions()], elements in strategies::elements(),
    ) {
        check_processing_time(windows, &elements);
    }
}

fn check_overtaken<A: WindowAssigner<Rec, Window = TimeWindow>>(
    assigner: &A,
    lateness: i64,
    elements: &[Element],
) {
    check_overtaking(
        |ctx| Harness::at(one(gathering(assigner, lateness)), ctx).with_side(&late_tag()),
        elements,
        |record: &Rec, parallelism| route(&record.key, parallelism),
        |(), _| 0,
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn windows_fire_once_though_subtasks_were_not_equally_far(
        size in 1..30_i64, slide in 1..30_i64, lateness in prop_oneof![Just(0), 0..30_i64], elements in strategies::elements(),
    ) {
        check_overtaken(&SlidingEventTimeWindows::of(ms(size), ms(slide)), lateness, &elements);
        check_overtaken(&EventTimeSessionWindows::with_gap(ms(size)), lateness, &elements);
    }
}
