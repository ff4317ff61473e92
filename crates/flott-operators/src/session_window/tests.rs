//! The session operator does what the model says.

use super::{SessionWindowConfig, SessionWindowOperator};
use crate::operator::Operator;
use crate::test_support::{Harness, changes, check_overtaking, one, route};
use crate::window::tests::model::{Model, Windows, dynamic_gap, strategies};
use crate::window::tests::support::{
    Element, Fired, Gather, Rec, Step, elements, key, late_tag, run_everywhere, show,
};
use flott_api::windowing::{EventTimeSessionWindows, TimeWindow, WindowAssigner};
use proptest::prelude::*;
use std::time::Duration;

fn sessions<A: WindowAssigner<Rec, Window = TimeWindow>>(assigner: &A) -> impl Operator<Rec, Fired> + use<A> {
    let config = SessionWindowConfig {
        key_selector: key as fn(&Rec) -> char,
        assigner: assigner.clone(),
        function: Gather,
        then: show(),
        late_records: Some(late_tag()),
    };
    SessionWindowOperator::new(config).unwrap()
}

fn run<A: WindowAssigner<Rec, Window = TimeWindow>>(assigner: &A, elements: &[Element]) -> Vec<Step> {
    run_everywhere(|| sessions(assigner), elements)
}

#[test]
fn a_checkpoint_has_the_keys_whose_sessions_have_changed_and_those_that_are_gone() {
    type Entries = Vec<(char, ((i64, i64), Vec<u32>))>;
    let assigner = EventTimeSessionWindows::with_gap(Duration::from_millis(10));
    let mut harness = Harness::new(one(sessions(&assigner)));
    let mut written = |text: &str, at: (u64, Option<u64>)| {
        elements(text).iter().for_each(|element| harness.feed(element).unwrap());
        changes::<_, _, _, Entries, Vec<char>>(&mut harness, "_windows/sessions", at)
    };
    let whole = [
        "Whole: [('a', ((1, 11), [1])), ('a', ((30, 40), [2]))]",
        "Whole: [('b', ((2, 12), [3]))]",
        "Whole: [('c', ((4, 14), [4]))]",
    ];
    assert_eq!(written("a1@1 a2@30 b3@2 c4@4", (1, None)), whole);
    assert_eq!(
        written("a5@31", (2, Some(1))),
        ["Changed: [('a', ((1, 11), [1])), ('a', ((30, 41), [2, 5]))]"]
    );
    let closed = ["Changed: [('a', ((30, 41), [2, 5]))]", "gone: ['b']"];
    assert_eq!(written("W11", (3, Some(2))), closed);
    // The third has failed.
    assert_eq!(written("", (4, Some(2))), closed);
    assert_eq!(written("b6@90", (5, Some(4))), ["Changed: [('b', ((90, 100), [6]))]"]);
    assert_eq!(written("", (6, Some(5))), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn sessions_are_as_in_the_model(windows in strategies::sessions(), elements in strategies::elements()) {
        let Windows::Session { gap, is_dynamic } = windows else { unreachable!() };
        let ms = |ms: i64| Duration::from_millis(ms as u64);
        let ran = if is_dynamic {
            let gap = move |record: &Rec| ms(dynamic_gap(gap, record));
            run(&EventTimeSessionWindows::with_dynamic_gap(gap), &elements)
        } else {
            run(&EventTimeSessionWindows::with_gap(ms(gap)), &elements)
        };
        prop_assert_eq!(ran, Model::new(windows, 0).run(&elements));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn sessions_fire_once_though_subtasks_were_not_equally_far(
        gap in 1..20_u64, elements in strategies::elements(),
    ) {
        let assigner = EventTimeSessionWindows::with_gap(Duration::from_millis(gap));
        check_overtaking(
            |ctx| Harness::at(one(sessions(&assigner)), ctx).with_side(&late_tag()),
            &elements,
            |record: &Rec, parallelism| route(&record.key, parallelism),
            |(), _| 0,
        );
    }
}
