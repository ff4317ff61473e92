//! Makes a failing plan smaller while it still fails in the same way.

use crate::check::Failure;
use crate::plan::{Chaining, Node, Op, Plan, Port, SourcePlan, SplitPlan, Watermarks, facts};
use crate::record::mix;
use crate::trial::try_plan;

/// A plan fails on some schedules only: each candidate is tried on so many.
const SCHEDULES: u64 = 6;

/// Tries smaller plans until none fails any more or `tries_max` were tried; returns the smallest and how it fails.
pub fn shrink(plan: &Plan, failure: &Failure, tries_max: usize) -> (Plan, Failure) {
    let mut best = (plan.clone(), failure.clone());
    let mut tries = 0;
    loop {
        let mut improved = false;
        for candidate in candidates(&best.0) {
            if tries >= tries_max {
                return best;
            }
            tries += 1;
            if facts(&candidate).is_err() {
                continue;
            }
            if let Some(found) = fails(&candidate, &best.1) {
                best = found;
                improved = true;
                break;
            }
        }
        if !improved {
            return best;
        }
    }
}

fn fails(candidate: &Plan, failure: &Failure) -> Option<(Plan, Failure)> {
    (0..SCHEDULES).find_map(|n| {
        let schedule = if n == 0 { candidate.schedule } else { mix(candidate.schedule, n) };
        let plan = Plan { schedule, ..candidate.clone() };
        let found = try_plan(&plan, matches!(failure, Failure::Unstable(_))).err()?;
        (found.kind() == failure.kind()).then_some((plan, found))
    })
}

/// Smaller plans, the smallest first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut found = Vec::new();
    let with = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        candidate
    };
    for idx in (0..plan.nodes.len()).rev() {
        found.extend(without_node(plan, idx));
    }
    for (idx, source) in plan.sources() {
        for smaller in smaller_sources(source) {
            found.push(with(&|plan| {
                if let Some(node) = plan.nodes.get_mut(idx) {
                    node.op = Op::Source(smaller.clone());
                }
            }));
        }
    }
    for (idx, node) in plan.nodes.iter().enumerate() {
        for smaller in smaller_nodes(node) {
            found.push(with(&|plan| {
                if let Some(node) = plan.nodes.get_mut(idx) {
                    *node = smaller.clone();
                }
            }));
        }
    }
    let config = &plan.config;
    let settings: [&dyn Fn(&mut Plan); 8] = [
        &|plan| plan.config.parallelism = 1,
        &|plan| plan.config.batch_size = 1024,
        &|plan| plan.config.gate_bytes = 4 << 20,
        &|plan| plan.config.buffer_timeout_ms = 100,
        &|plan| plan.config.granularity_ms = 1,
        &|plan| plan.config.idle_timeout_ms = 0,
        &|plan| plan.config.chaining = true,
        &|plan| plan.config.max_parallelism = 4096,
    ];
    found.extend(
        settings.iter().map(|setting| with(*setting)).filter(|candidate| candidate.config != *config),
    );
    found
}

/// The plan without an operator: whoever read from it reads its input, or it is the end of a stream.
fn without_node(plan: &Plan, gone: usize) -> Option<Plan> {
    let node = plan.nodes.get(gone)?;
    let input = node.inputs.first().copied();
    let is_read = plan.nodes.iter().any(|node| node.inputs.iter().any(|port| port.node == gone));
    if (is_read && input.is_none()) || plan.nodes.len() == 1 {
        return None;
    }
    let mut nodes: Vec<Node> = plan.nodes.clone();
    nodes.remove(gone);
    for port in nodes.iter_mut().flat_map(|node| &mut node.inputs) {
        if port.node == gone {
            *port = input?;
        }
        if port.node > gone {
            *port = Port { node: port.node - 1, ..*port };
        }
    }
    Some(Plan { nodes, ..plan.clone() })
}

fn smaller_sources(source: &SourcePlan) -> Vec<SourcePlan> {
    let mut found = Vec::new();
    if source.splits.len() > 1 {
        found.extend((0..source.splits.len()).map(|gone| {
            let mut smaller = source.clone();
            smaller.splits.remove(gone);
            smaller
        }));
    }
    for (idx, split) in source.splits.iter().enumerate() {
        for smaller_split in smaller_splits(split) {
            let mut smaller = source.clone();
            if let Some(split) = smaller.splits.get_mut(idx) {
                *split = smaller_split;
            }
            found.push(smaller);
        }
    }
    let simpler = [
        SourcePlan { alignment_ms: None, ..source.clone() },
        SourcePlan { yield_every: 0, ..source.clone() },
        SourcePlan { chunk_max: 5_000, ..source.clone() },
        SourcePlan { eager_end: false, ..source.clone() },
        SourcePlan { watermarks: Watermarks::Bounded, ..source.clone() },
    ];
    found.extend(simpler.into_iter().filter(|simpler| simpler != source));
    found
}

fn smaller_splits(split: &SplitPlan) -> Vec<SplitPlan> {
    let mut found = Vec::new();
    let n_records = split.records.len();
    let mut length = n_records;
    while length > 0 {
        found.extend((0..n_records).step_by(length).map(|from| without_records(split, from, length)));
        length /= 2;
    }
    found.extend((0..split.pauses.len()).map(|gone| {
        let mut smaller = split.clone();
        smaller.pauses.remove(gone);
        smaller
    }));
    found
}

fn without_records(split: &SplitPlan, from: usize, length: usize) -> SplitPlan {
    let mut smaller = split.clone();
    let until = (from + length).min(smaller.records.len());
    smaller.records.drain(from..until);
    for (at, _) in &mut smaller.pauses {
        *at -= (*at).clamp(from, until) - from;
    }
    smaller.pauses.dedup_by_key(|(at, _)| *at);
    smaller
}

fn smaller_nodes(node: &Node) -> Vec<Node> {
    let mut found = vec![
        Node { parallelism: 1, ..node.clone() },
        Node { parallelism: node.parallelism.min(2), ..node.clone() },
        Node { chaining: Chaining::Always, ..node.clone() },
        Node { tapped: false, ..node.clone() },
    ];
    match &node.op {
        Op::Stateless(steps) if steps.len() > 1 => found.extend((0..steps.len()).map(|gone| {
            let mut steps = steps.clone();
            steps.remove(gone);
            Node { op: Op::Stateless(steps), ..node.clone() }
        })),
        Op::Window(window) => {
            let mut simpler = window.clone();
            simpler.lateness_ms = 0;
            found.push(Node { op: Op::Window(simpler), ..node.clone() });
            let mut simpler = window.clone();
            simpler.trigger = crate::plan::WindowTrigger::Default;
            found.push(Node { op: Op::Window(simpler), ..node.clone() });
        }
        _ => {}
    }
    found.retain(|smaller| smaller != node);
    found
}
