//! The bugs that random seeds have found, as small plans.

use crate::plans::{CALLS, node, plan, source, split, window};
use flott_sim::plan::{AsyncPlan, Op, Windows};
use flott_sim::{Plan, try_plan};

/// A bug shows on some schedules only.
fn check(plan: &Plan) {
    for schedule in 0..15 {
        let plan = Plan { schedule, ..plan.clone() };
        if let Err(failure) = try_plan(&plan, false) {
            panic!("{plan}\n{failure}\n{}", plan.to_json());
        }
    }
}

/// One subtask had read its split and ended; with the other idle, event time ended for all, and what the other split still
/// brought was late.
#[test]
fn the_end_of_one_split_does_not_make_late_what_an_idle_one_brings() {
    let splits = vec![split([0, 1], &[]), split([5, 10, 30], &[(1, 100)])];
    check(&plan(vec![
        node(source(0, 15, splits), &[], 2),
        node(window(Windows::Tumbling { size_ms: 7, offset_ms: 0 }), &[0], 2),
    ]));
}

/// A reader had put out the first batch of one split before it looked at the other, whose records were then late.
#[test]
fn all_splits_of_a_reader_hold_event_time_back_from_the_start() {
    let splits = vec![split(0..50, &[]), split(0..50, &[]), split(0..50, &[(0, 20)])];
    check(&plan(vec![
        node(source(0, 0, splits), &[], 1),
        node(window(Windows::Tumbling { size_ms: 7, offset_ms: 0 }), &[0], 2),
    ]));
}

/// Calls timed out while the operator was pushed back by another, although they would have been answered long before.
#[test]
fn calls_that_are_answered_do_not_time_out_by_back_pressure() {
    let slow = AsyncPlan { ordered: true, capacity: 1, delay_max_ms: 20, retry: true, timeout_ms: None };
    let mut plan = plan(vec![
        node(source(0, 0, vec![split(0..100, &[])]), &[], 1),
        node(Op::Async(CALLS), &[0], 1),
        node(Op::Async(slow), &[1], 1),
    ]);
    plan.config.gate_bytes = 64;
    plan.config.batch_size = 3;
    check(&plan);
    plan.config.chaining = false;
    check(&plan);
}

/// A session takes in a record that begins in the millisecond in which it ends, and the watermark that closes it comes
/// before that record: what comes of it depends on the schedule, but nothing is lost and nothing counts twice.
#[test]
fn sessions_that_touch_are_one_or_two() {
    let times = (0..24).map(|idx| idx / 2);
    for gap_ms in [1, 2] {
        check(&plan(vec![
            node(source(0, 0, vec![split(times.clone(), &[]), split(times.clone(), &[])]), &[], 2),
            node(window(Windows::Session { gap_ms }), &[0], 2),
            node(Op::WindowJoin { windows: Windows::Session { gap_ms }, co_group: false }, &[0, 0], 2),
        ]));
    }
}
