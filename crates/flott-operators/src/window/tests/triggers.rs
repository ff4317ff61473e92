//! Triggers and evictors, by example: the lines are what each element made.

use super::against_model::ms;
use super::support::{Gather, Rec, elements, key, late_tag, run_everywhere, show, text};
use crate::{Aggregate, AggregateRecords, KeepRecords, WindowConfig, WindowOperator};
use expect_test::{Expect, expect};
use flott_api::windowing::{
    ContinuousEventTimeTrigger, CountEvictor, CountTrigger, DeltaTrigger, EventTimeSessionWindows,
    EventTimeTrigger, Evictor, GlobalWindow, GlobalWindows, ProcessingTimeoutTrigger, PurgingTrigger,
    Trigger, TumblingEventTimeWindows, WindowAssigner,
};

fn tumbling(
    trigger: impl Trigger<Rec, flott_api::windowing::TimeWindow> + 'static,
    lateness: i64,
    input: &str,
    expected: Expect,
) {
    let make = || {
        WindowOperator::new(WindowConfig {
            key_selector: key as fn(&Rec) -> char,
            trigger: trigger.clone_box(),
            assigner: TumblingEventTimeWindows::of(ms(10)),
            allowed_lateness_ms: lateness,
            late_records: Some(late_tag()),
            logic: Aggregate { function: Gather, then: show() },
        })
        .unwrap()
    };
    expected.assert_eq(&text(&run_everywhere(make, &elements(input))));
}

fn global(
    trigger: impl Trigger<Rec, GlobalWindow> + 'static,
    evictor: Option<Box<dyn Evictor<Rec, GlobalWindow>>>,
    input: &str,
    expected: Expect,
) {
    let make = || {
        WindowOperator::new(WindowConfig {
            key_selector: key as fn(&Rec) -> char,
            trigger: trigger.clone_box(),
            assigner: GlobalWindows,
            allowed_lateness_ms: 0,
            late_records: Some(late_tag()),
            logic: KeepRecords {
                then: AggregateRecords { function: Gather, then: show() },
                evictor: evictor.clone(),
            },
        })
        .unwrap()
    };
    expected.assert_eq(&text(&run_everywhere(make, &elements(input))));
}

#[test]
fn event_time_fires_at_the_end_and_again_for_each_late_record_that_is_allowed() {
    tumbling(
        EventTimeTrigger,
        5,
        "a1@3 b2@4 W8 W9 a3@5 W13 a4@6 W14 a5@7 a6@12 W+inf",
        expect![[r#"
        +a[0,10)=1@9 +b[0,10)=2@9
        +a[0,10)=1,3@9
        +a[0,10)=1,3,4@9
        +a[10,20)=6@19 late:+a5@7
    "#]],
    );
}

#[test]
fn late_by_one_millisecond() {
    tumbling(
        EventTimeTrigger,
        0,
        "a1@9 W8 a2@0 W9 a3@9 a4@10 W+inf",
        expect![[r#"
        +a[0,10)=1,2@9
        +a[10,20)=4@19 late:+a3@9
    "#]],
    );
}

#[test]
fn negative_timestamps_and_empty_windows() {
    tumbling(
        EventTimeTrigger,
        0,
        "a1@-1 a2@-10 a3@-11 W-12 W-11 W-1 W50 a4@60 W+inf",
        expect![[r#"
        +a[-20,-10)=3@-11
        +a[-10,0)=1,2@-1
        +a[60,70)=4@69
    "#]],
    );
}

#[test]
fn continuous_event_time_fires_in_between() {
    tumbling(
        ContinuousEventTimeTrigger::of(ms(4)),
        0,
        "a1@1 W2 W3 a2@2 W4 W7 a3@8 W9 W+inf",
        expect![[r#"
        +a[0,10)=1,2@9
        +a[0,10)=1,2,3@9 +a[0,10)=1,2,3@9
    "#]],
    );
}

#[test]
fn counts_fire_and_purge() {
    global(
        CountTrigger::of(2),
        None,
        "a1@1 b9@1 a2@2 a3@3 a4@4 W+inf",
        expect![[r#"
        +a[all]=1,2,3,4@9223372036854775807 +a[all]=1,2@9223372036854775807
    "#]],
    );
    global(
        PurgingTrigger::of(CountTrigger::of(2)),
        None,
        "a1@1 b9@1 a2@2 a3@3 a4@4 a5@5 W+inf",
        expect![[r#"
        +a[all]=1,2@9223372036854775807 +a[all]=3,4@9223372036854775807
    "#]],
    );
}

#[test]
fn a_sliding_count_window_keeps_the_last_records() {
    let evictor: Box<dyn Evictor<Rec, GlobalWindow>> = Box::new(CountEvictor::of(3));
    global(
        CountTrigger::of(2),
        Some(evictor),
        "a1@1 a2@2 a3@3 a4@4 a5@5 a6@6 W+inf",
        expect![[r#"
        +a[all]=1,2@9223372036854775807 +a[all]=2,3,4@9223372036854775807 +a[all]=4,5,6@9223372036854775807
    "#]],
    );
}

#[test]
fn a_count_window_that_never_fills_fires_by_time_out() {
    let trigger = PurgingTrigger::of(ProcessingTimeoutTrigger::of(CountTrigger::of(3), ms(100)));
    global(
        trigger,
        None,
        "P1000 a1@1 P1050 a2@2 P1100 P1101 a3@3 P1150 a4@4 a5@5 P1300 W+inf",
        expect![[r#"
            +a[all]=1,2@9223372036854775807
            +a[all]=3,4,5@9223372036854775807
        "#]],
    );
}

#[test]
fn delta_fires_when_a_value_is_far_from_the_last_that_fired() {
    let trigger =
        DeltaTrigger::of(4.0, |last: &Rec, next: &Rec| f64::from(next.value) - f64::from(last.value));
    global(
        trigger,
        None,
        "a1@1 a3@2 a5@3 a6@4 a9@5 a11@6 W+inf",
        expect![[r#"
        +a[all]=1,3,5,6,9,11@9223372036854775807 +a[all]=1,3,5,6@9223372036854775807
    "#]],
    );
}

#[test]
fn a_record_merges_three_sessions_into_one() {
    let assigner = EventTimeSessionWindows::with_gap(ms(10));
    let make = || {
        WindowOperator::new(WindowConfig {
            key_selector: key as fn(&Rec) -> char,
            trigger: WindowAssigner::<Rec>::default_trigger(&assigner),
            assigner,
            allowed_lateness_ms: 0,
            late_records: Some(late_tag()),
            logic: Aggregate { function: Gather, then: show() },
        })
        .unwrap()
    };
    let steps = run_everywhere(make, &elements("a1@0 a2@18 a3@9 b4@5 a5@40 W30 W+inf"));
    expect![[r#"
        +a[0,28)=1,2,3@27 +b[5,15)=4@14
        +a[40,50)=5@49
    "#]]
    .assert_eq(&text(&steps));
}
