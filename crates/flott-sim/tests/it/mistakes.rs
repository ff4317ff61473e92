//! The checker finds what it is there to find: a mistake that is built into a program does not go unnoticed.

use crate::plans::{node, plan, source, split, window};
use flott_sim::plan::{Op, Step, WindowPlan, WindowTrigger, Windows};
use flott_sim::{Failure, Mistake, Plan, Sabotage, generate, try_plan, try_sabotaged};

/// Windows that fire early: a firing more or less may be right.
fn may_fire_early(op: &Op) -> bool {
    matches!(
        op,
        Op::Window(WindowPlan {
            trigger: WindowTrigger::Continuous { .. } | WindowTrigger::Count { .. },
            ..
        })
    )
}

/// The failure that the mistake was noticed by; `None` if it came to no effect.
fn caught(plan: &Plan, sabotage: Sabotage) -> Option<Failure> {
    match try_sabotaged(plan, sabotage) {
        Ok(false) => None,
        Ok(true) => panic!("{sabotage:?} went unnoticed in\n{plan}\n{}", plan.to_json()),
        Err(failure) => Some(failure),
    }
}

#[test]
fn records_that_are_lost_doubled_false_or_delayed_are_noticed() {
    let mistakes = [Mistake::Lose, Mistake::Double, Mistake::Falsify, Mistake::Delay];
    let mut n_caught = [0; 4];
    for seed in 0..6 {
        let mut plan = generate(seed);
        for idx in 0..plan.nodes.len() {
            if may_fire_early(&plan.nodes[idx].op) {
                continue;
            }
            plan.nodes[idx].tapped = true;
            for (mistake, n_caught) in mistakes.into_iter().zip(&mut n_caught) {
                let at = (seed + idx as u64) % 3;
                *n_caught += usize::from(caught(&plan, Sabotage { mistake, node: idx, at }).is_some());
            }
        }
    }
    assert!(n_caught.iter().all(|n| *n > 5), "few mistakes came to an effect: {n_caught:?}");
}

#[test]
fn a_lost_last_record_is_noticed_by_what_follows_too() {
    let mut plan = plan(vec![
        node(source(0, 0, vec![split(0..20, &[])]), &[], 1),
        node(Op::Stateless(vec![Step::Add(1)]), &[0], 1),
        node(window(Windows::Tumbling { size_ms: 5, offset_ms: 0 }), &[1], 2),
    ]);
    plan.nodes[0].tapped = false;
    plan.nodes[1].tapped = false;
    assert!(try_plan(&plan, true).is_ok());
    let failure = caught(&plan, Sabotage { mistake: Mistake::Lose, node: 1, at: 19 }).unwrap();
    let Failure::Wrong { operator, what } = failure else { panic!("{failure}") };
    assert!(
        operator.starts_with("n2 window") && what.contains("1 missing") && what.contains("1 extra"),
        "{operator}: {what}"
    );
}

#[test]
fn a_changed_order_is_noticed() {
    let plan = plan(vec![
        node(source(0, 0, vec![split(0..20, &[])]), &[], 1),
        node(Op::Stateless(vec![Step::Add(1)]), &[0], 1),
        node(Op::Reduce, &[1], 2),
    ]);
    let failure = caught(&plan, Sabotage { mistake: Mistake::Swap, node: 1, at: 4 }).unwrap();
    assert!(failure.to_string().contains("out of order"), "{failure}");
}

#[test]
fn watermarks_that_run_ahead_are_noticed() {
    let disordered = (0..100).map(|idx| idx * 10 - (idx * 37) % 60);
    let plan = plan(vec![
        node(source(60, 0, vec![split(disordered, &[])]), &[], 1),
        node(window(Windows::Tumbling { size_ms: 10, offset_ms: 0 }), &[0], 2),
    ]);
    assert_eq!(try_plan(&plan, true).unwrap().n_late, 0);
    let failure = try_sabotaged(&plan, Sabotage { mistake: Mistake::Hurry, node: 0, at: 0 }).unwrap_err();
    assert!(failure.to_string().contains("of an on-time stream were late"), "{failure}");
}
