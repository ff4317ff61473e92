//! The slice operator does what the model says.

use super::grid::SliceGrid;
use super::{SliceWindowConfig, SliceWindowOperator};
use crate::window::tests::model::{Model, Windows, strategies};
use crate::window::tests::support::{Gather, Rec, key, late_tag, run_everywhere, show};
use flott_api::windowing::{Slicing, TimeWindow};
use flott_types::Watermark;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn windows_are_as_in_the_model(
        windows in prop_oneof![1 => strategies::tumbling(), 3 => strategies::sliding()], elements in strategies::elements(),
    ) {
        let Windows::Sliding { size, slide, offset } = windows else { unreachable!() };
        let make = || SliceWindowOperator::<_, _, _, TimeWindow, _, _, _>::new(SliceWindowConfig {
            key_selector: key as fn(&Rec) -> char,
            slicing: Slicing { size_ms: size, slide_ms: slide, offset_ms: offset },
            function: Gather,
            then: show(),
            late_records: Some(late_tag()),
        });
        prop_assert_eq!(run_everywhere(make, &elements), Model::new(windows, 0).run(&elements));
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
        prop_assert_eq!(grid.first_window_end_from(time), (time..).find(|end| is_end(*end)).unwrap());
        let complete = (time - slide..=time + 1).rev().find(|end| is_end(*end)).unwrap();
        prop_assert_eq!(grid.complete_until(Watermark(time)), complete);
    }
}
