//! The slice operator does what the model says.

use super::grid::SliceGrid;
use super::{SliceWindowConfig, SliceWindowOperator};
use crate::test_support::{Feed, Harness, changes, check_overtaking, one, route};
use crate::window::MapResult;
use crate::window::tests::model::{Model, Windows, strategies};
use crate::window::tests::support::{
    Fired, Gather, Rec, by_the_clock, elements, key, late_tag, run_everywhere, show,
};
use flott_api::windowing::{Slicing, TimeWindow};
use flott_api::{TimeDomain, WindowContext};
use flott_state::OperatorSnapshot;
use flott_types::{ErrorKind, Watermark};
use proptest::prelude::*;

type Show = MapResult<fn(&char, &WindowContext<'_, TimeWindow>, Vec<u32>) -> Fired>;

fn config(windows: Windows, domain: TimeDomain) -> SliceWindowConfig<Rec, fn(&Rec) -> char, Gather, Show> {
    let Windows::Sliding { size, slide, offset } = windows else { unreachable!() };
    SliceWindowConfig {
        key_selector: key,
        slicing: Slicing { size_ms: size, slide_ms: slide, offset_ms: offset },
        domain,
        function: Gather,
        then: show(),
        late_records: Some(late_tag()),
    }
}

#[test]
fn windows_by_the_clock_fire_at_the_end_of_the_input_and_never_twice_when_the_clock_goes_back() {
    let windows = Windows::Sliding { size: 10, slide: 10, offset: 0 };
    let operator = SliceWindowOperator::new(config(windows, TimeDomain::ProcessingTime));
    let mut harness = Harness::new(one(operator));
    for element in elements("P5 a1@0 P12 a2@0 P3 a3@0") {
        harness.feed(&element).unwrap();
    }
    assert_eq!(harness.take(), ["+a[0,10)=1@9"]);
    harness.feed(&Feed::EndOfData).unwrap();
    assert_eq!(harness.take(), ["+a[10,20)=2,3@19", "end"]);
}

fn sliding(size: i64, slide: i64) -> Harness<Rec, (), Fired> {
    let config = config(Windows::Sliding { size, slide, offset: 0 }, TimeDomain::EventTime);
    Harness::new(one(SliceWindowOperator::<_, _, _, TimeWindow, _, _, _>::new(config)))
}

fn snapshot_after(mut harness: Harness<Rec, (), Fired>, text: &str) -> OperatorSnapshot {
    elements(text).iter().for_each(|element| harness.feed(element).unwrap());
    harness.snapshot()
}

#[test]
fn slices_of_other_windows_are_refused() {
    let snapshot = snapshot_after(sliding(10, 10), "a1@12");
    sliding(5, 5).restore(&snapshot);
    let error = sliding(7, 7).try_restore(&snapshot).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UserError);
    assert!(error.to_string().contains("windows have changed"), "{error}");
}

#[test]
fn slices_of_longer_windows_that_have_fired_do_not_stop_shorter_ones() {
    let snapshot = snapshot_after(sliding(30, 10), "a1@12 W25 a2@31");
    let mut harness = sliding(10, 10);
    harness.restore(&snapshot);
    harness.feed(&Feed::Watermark(i64::MAX)).unwrap();
    assert_eq!(harness.take(), ["+a[30,40)=2@39", "W+inf"]);
}

/// What a checkpoint has that goes on from another one.
fn written(harness: &mut Harness<Rec, (), Fired>, id: u64, base: Option<u64>) -> Vec<String> {
    type Entries = Vec<(char, (i64, Vec<u32>))>;
    changes::<_, _, _, Entries, Vec<i64>>(harness, "_windows/slices", (id, base))
}

fn feed(harness: &mut Harness<Rec, (), Fired>, text: &str) {
    elements(text).iter().for_each(|element| harness.feed(element).unwrap());
}

#[test]
fn a_checkpoint_has_what_came_since_another_and_until_when_slices_are_gone() {
    let mut harness = sliding(10, 10);
    feed(&mut harness, "a1@1 b2@2 c3@11");
    let whole = ["Whole: [('a', (10, [1]))]", "Whole: [('b', (10, [2]))]", "Whole: [('c', (20, [3]))]"];
    assert_eq!(written(&mut harness, 1, None), whole);
    feed(&mut harness, "a4@3 d5@12");
    let changed = ["Changed: [('a', (10, [1, 4]))]", "Changed: [('d', (20, [5]))]"];
    assert_eq!(written(&mut harness, 2, Some(1)), changed);
    feed(&mut harness, "W9");
    assert_eq!(written(&mut harness, 3, Some(2)), ["gone: [10]"]);
    // The third has failed.
    feed(&mut harness, "c6@12");
    assert_eq!(written(&mut harness, 4, Some(2)), ["Changed: [('c', (20, [3, 6]))]", "gone: [10]"]);
    assert_eq!(written(&mut harness, 5, Some(4)), Vec::<String>::new());
}

#[test]
fn a_slice_is_written_once_more_when_it_is_closed_and_then_only_what_is_late() {
    let mut harness = sliding(30, 10);
    feed(&mut harness, "a1@1 b2@2");
    written(&mut harness, 1, None);
    feed(&mut harness, "a3@3");
    assert_eq!(written(&mut harness, 2, Some(1)), ["Changed: [('a', (10, [1, 3]))]"]);
    feed(&mut harness, "W9");
    let closed = ["Changed: [('a', (10, [1, 3]))]", "Changed: [('b', (10, [2]))]", "gone: [-10]"];
    assert_eq!(written(&mut harness, 3, Some(2)), closed);
    // The third has failed.
    assert_eq!(written(&mut harness, 4, Some(2)), closed);
    assert_eq!(written(&mut harness, 5, Some(4)), Vec::<String>::new());
    feed(&mut harness, "a4@5 c5@6");
    let late = ["Changed: [('a', (10, [1, 3, 4]))]", "Changed: [('c', (10, [5]))]"];
    assert_eq!(written(&mut harness, 6, Some(5)), late);
    feed(&mut harness, "W29");
    assert_eq!(written(&mut harness, 7, Some(6)), ["gone: [10]"]);
}

#[test]
fn the_last_window_of_time_fires_once() {
    let mut harness = sliding(30, 10);
    elements("a1@9223372036854775806").iter().for_each(|element| harness.feed(element).unwrap());
    harness.feed(&Feed::Watermark(i64::MAX)).unwrap();
    assert_eq!(harness.take().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn windows_are_as_in_the_model(
        windows in prop_oneof![1 => strategies::tumbling(), 3 => strategies::sliding()], elements in strategies::elements(),
    ) {
        let make = |domain| move || SliceWindowOperator::<_, _, _, TimeWindow, _, _, _>::new(config(windows, domain));
        let event_time = make(TimeDomain::EventTime);
        prop_assert_eq!(run_everywhere(event_time, &elements), Model::new(windows, 0).run(&elements));
        let (by_watermark, by_clock) = by_the_clock(&elements);
        let processing_time = make(TimeDomain::ProcessingTime);
        prop_assert_eq!(run_everywhere(processing_time, &by_clock), Model::new(windows, 0).run(&by_watermark));
    }

    #[test]
    fn a_grid_is_made_of_the_windows_of_its_layout(
        size in 1..40_i64, slide in 1..40_i64, offset in -50..50_i64, time in -200..200_i64,
    ) {
        let grid = SliceGrid::new(Slicing { size_ms: size, slide_ms: slide, offset_ms: offset });
        let is_end = |end: i64| (end - size - offset).rem_euclid(slide) == 0;
        let start = grid.slice_start(time);
        let slice = start..start + grid.slice_ms();
        prop_assert!(slice.contains(&time));
        prop_assert!((slice.start + 1..slice.end).all(|cut| !is_end(cut) && !is_end(cut + size)), "{slice:?} is cut");
        let last = (time + 1..=time + size).filter(|end| is_end(*end)).max();
        prop_assert_eq!(grid.last_window_end(start), last);
        prop_assert_eq!(grid.has_slice_until(slice.end), last.is_some());
        prop_assert!((slice.start + 1..slice.end).all(|cut| !grid.has_slice_until(cut)));
        prop_assert_eq!(grid.first_window_end_from(time), (time..).find(|end| is_end(*end)).unwrap());
        let fired = grid.complete_until(Watermark(time));
        for start in (time - 100..time + 100).map(|time| grid.slice_start(time)) {
            if let Some(last) = grid.last_window_end(start) {
                let end = start + grid.slice_ms();
                prop_assert_eq!(last <= fired, end <= grid.next_window_start(fired), "the slice until {}", end);
            }
        }
        let complete = (time - slide..=time + 1).rev().find(|end| is_end(*end)).unwrap();
        prop_assert_eq!(grid.complete_until(Watermark(time)), complete);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn windows_fire_once_though_subtasks_were_not_equally_far(
        windows in prop_oneof![1 => strategies::tumbling(), 3 => strategies::sliding()], elements in strategies::elements(),
    ) {
        let make = || SliceWindowOperator::<_, _, _, TimeWindow, _, _, _>::new(config(windows, TimeDomain::EventTime));
        check_overtaking(
            |ctx| Harness::at(one(make()), ctx).with_side(&late_tag()),
            &elements,
            |record: &Rec, parallelism| route(&record.key, parallelism),
            |(), _| 0,
        );
    }
}
