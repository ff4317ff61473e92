//! The session operator does what the model says.

use super::{SessionWindowConfig, SessionWindowOperator};
use crate::operator::Operator;
use crate::test_support::{Harness, check_overtaking, one, route};
use crate::window::tests::model::{Model, Windows, dynamic_gap, strategies};
use crate::window::tests::support::{Element, Fired, Gather, Rec, Step, key, late_tag, run_everywhere, show};
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
