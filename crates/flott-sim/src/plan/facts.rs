//! What follows from a plan about its streams before anything runs.

use super::{Exchange, KeyedFunction, Node, Op, Plan, Port, Step, Watermarks, WindowPlan, WindowTrigger};
use crate::record::Record;
use std::collections::BTreeSet;

/// In what order the records of a split (or of an operator that makes records) come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// In any.
    Any,
    /// Those of one key in order.
    Keyed,
    /// All in order.
    Split,
}

/// What is known of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct PortFacts {
    /// The order within a split.
    pub order: Order,
    /// No record is behind the watermark, ever.
    pub on_time: bool,
    /// Timestamps mean something: those of count windows do not.
    pub timed: bool,
    /// The records are those of sources, with their origin, position and horizon.
    pub lineage: bool,
    /// Something that it depends on may be idle, and then wake up or end. What an operator makes by its watermark then may
    /// be late downstream: other streams may have gone ahead.
    pub wakes: bool,
    /// A record may come several times with the same uid: a window fired again with nothing new.
    pub repeats: bool,
    /// The sources that it comes from.
    pub sources: BTreeSet<usize>,
    /// Number of subtasks.
    pub parallelism: u32,
    /// About how many records, for plans that stay small.
    pub size: f64,
}

/// The facts of every output of every operator.
///
/// # Errors
/// If the plan makes no sense; the text says where.
pub fn facts(plan: &Plan) -> Result<Vec<Vec<PortFacts>>, String> {
    let mut all: Vec<Vec<PortFacts>> = Vec::new();
    for (idx, node) in plan.nodes.iter().enumerate() {
        let of_node = node_facts(plan, &all, idx, node).map_err(|what| format!("n{idx}: {what}"))?;
        all.push(of_node);
    }
    if plan.config.batch_size == 0 || plan.config.max_parallelism == 0 {
        return Err("a setting is zero".to_owned());
    }
    Ok(all)
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn node_facts(
    plan: &Plan,
    all: &[Vec<PortFacts>],
    idx: usize,
    node: &Node,
) -> Result<Vec<PortFacts>, String> {
    let p = node.parallelism;
    ensure((1..=plan.config.max_parallelism.min(64)).contains(&p), "parallelism is out of range")?;
    ensure(node.inputs.len() == node.op.n_inputs(), "wrong number of inputs")?;
    let mut inputs = Vec::new();
    for Port { node, output } in &node.inputs {
        let facts = all.get(*node).and_then(|outputs| outputs.get(*output));
        inputs.push(facts.ok_or("reads an output that is not there")?);
    }
    let main = match inputs.as_slice() {
        [] => source_facts(plan, idx, node)?,
        [input] => one_input(input, node)?,
        [left, right, ..] => two_inputs(left, right, node)?,
    };
    let copes =
        matches!(node.op, Op::Stateless(_) | Op::Exchange(_) | Op::SideOutput { .. } | Op::Reassign { .. });
    ensure(copes || inputs.iter().all(|input| !input.repeats), "reads a window that repeats itself")?;
    let mut outputs = vec![main];
    match &node.op {
        Op::Window(WindowPlan { late_output: true, .. }) => {
            let input = *inputs.first().ok_or("a window without input")?;
            outputs.push(late(input, after_hash(input.order, p), p));
        }
        Op::IntervalJoin { late_output: true, .. } => {
            outputs.extend(inputs.iter().map(|input| late(input, after_hash(input.order, p), p)));
        }
        Op::SideOutput { .. } => {
            let side = outputs.first().cloned();
            outputs.extend(side);
        }
        _ => {}
    }
    Ok(outputs)
}

fn late(input: &PortFacts, order: Order, parallelism: u32) -> PortFacts {
    PortFacts { on_time: false, order, parallelism, size: 1.0 + input.size / 10.0, ..input.clone() }
}

fn source_facts(plan: &Plan, idx: usize, node: &Node) -> Result<PortFacts, String> {
    let Op::Source(source) = &node.op else { return Err("an operator without input".to_owned()) };
    ensure(!source.splits.is_empty() && source.splits.len() <= 16, "1 to 16 splits are needed")?;
    ensure(source.chunk_max > 0, "a reader that returns nothing")?;
    for split in &source.splits {
        let sorted = split.pauses.windows(2).all(|pair| pair[0].0 < pair[1].0);
        ensure(
            sorted && split.pauses.iter().all(|(at, _)| *at <= split.records.len()),
            "pauses out of order",
        )?;
    }
    let in_time = |record: &Record| record.timestamp > record.horizon;
    let bounded =
        (0..source.splits.len()).all(|split| source.records(idx, split, &plan.config).iter().all(in_time));
    Ok(PortFacts {
        order: Order::Split,
        on_time: bounded && !source.may_wake(&plan.config),
        timed: true,
        lineage: true,
        repeats: false,
        wakes: source.may_be_idle(&plan.config),
        sources: BTreeSet::from([idx]),
        parallelism: node.parallelism,
        size: source.splits.iter().map(|split| split.records.len() as f64).sum(),
    })
}

/// The order behind an edge that nobody has divided: forward, or rebalance if the parallelism changes.
fn after_plain(order: Order, from: u32, to: u32) -> Order {
    if from == to || to == 1 { order } else { Order::Any }
}

fn after_hash(order: Order, to: u32) -> Order {
    if to == 1 { order } else { order.min(Order::Keyed) }
}

fn after_exchange(exchange: Exchange, order: Order, from: u32, to: u32) -> Order {
    match exchange {
        Exchange::Forward | Exchange::Global => order,
        Exchange::Custom => after_hash(order, to),
        Exchange::Rescale if from >= to => order,
        Exchange::Rebalance | Exchange::Rescale | Exchange::Shuffle | Exchange::Broadcast => {
            if to == 1 {
                order
            } else {
                Order::Any
            }
        }
    }
}

fn one_input(input: &PortFacts, node: &Node) -> Result<PortFacts, String> {
    let p = node.parallelism;
    let plain =
        PortFacts { order: after_plain(input.order, input.parallelism, p), parallelism: p, ..input.clone() };
    let hashed = PortFacts { order: after_hash(input.order, p), ..plain.clone() };
    // Results of an operator's own have no place in a split.
    let made = PortFacts { order: Order::Any, lineage: false, ..plain.clone() };
    Ok(match &node.op {
        Op::Stateless(steps) => {
            ensure((1..=3).contains(&steps.len()), "1 to 3 steps are needed")?;
            let rekeys = steps.iter().any(|step| matches!(step, Step::Rekey(_)));
            let order = if rekeys && plain.order == Order::Keyed { Order::Any } else { plain.order };
            let grows =
                steps.iter().map(|step| if let Step::Expand(most) = step { *most as f64 / 2.0 } else { 1.0 });
            let size = input.size * grows.product::<f64>();
            PortFacts { order, size, ..plain }
        }
        Op::Exchange(exchange) => {
            ensure(
                *exchange != Exchange::Forward || input.parallelism == p,
                "forward to another parallelism",
            )?;
            let order = after_exchange(*exchange, input.order, input.parallelism, p);
            let copies = if *exchange == Exchange::Broadcast { f64::from(p) } else { 1.0 };
            PortFacts { order, size: input.size * copies, ..plain }
        }
        Op::Reduce | Op::Keyed(KeyedFunction::Running | KeyedFunction::Distinct { .. }) => hashed,
        Op::Keyed(KeyedFunction::Groups { .. } | KeyedFunction::Quiet { .. }) => {
            ensure(input.timed, "timers without timestamps")?;
            PortFacts { on_time: input.on_time && !input.wakes, ..made }
        }
        Op::Window(window) => {
            ensure(input.timed, "windows without timestamps")?;
            ensure(!window.over_all || p == 1, "windows over all records in several subtasks")?;
            let on_time = (input.on_time || window.lateness_ms == 0) && !input.wakes;
            let copies = match window.windows {
                super::Windows::Sliding { size_ms, slide_ms, .. } => {
                    (size_ms as f64 / slide_ms as f64).max(1.0)
                }
                _ => 1.0,
            };
            let repeats = matches!(window.trigger, WindowTrigger::Continuous { .. });
            PortFacts { on_time, repeats, size: input.size * copies, ..made }
        }
        Op::CountWindow(window) => {
            ensure(input.timed || window.timeout_ms.is_none(), "a time-out without timestamps")?;
            PortFacts { timed: false, on_time: false, ..made }
        }
        Op::Async(call) => {
            ensure(call.capacity > 0, "no capacity")?;
            PortFacts { order: if call.ordered { plain.order } else { Order::Any }, ..plain }
        }
        Op::SideOutput { .. } => plain,
        Op::Reassign { .. } => {
            ensure(input.timed, "watermarks without timestamps")?;
            // What order records of several splits or subtasks come in is not known.
            PortFacts { on_time: false, wakes: true, ..plain }
        }
        Op::Source(_)
        | Op::Union
        | Op::CoProcess
        | Op::KeyedJoin
        | Op::IntervalJoin { .. }
        | Op::WindowJoin { .. }
        | Op::BroadcastJoin
        | Op::BroadcastSeen => return Err("wrong number of inputs".to_owned()),
    })
}

fn two_inputs(left: &PortFacts, right: &PortFacts, node: &Node) -> Result<PortFacts, String> {
    let p = node.parallelism;
    let disjoint = left.sources.is_disjoint(&right.sources);
    let order =
        after_plain(left.order, left.parallelism, p).min(after_plain(right.order, right.parallelism, p));
    let both = PortFacts {
        order: if disjoint { order } else { Order::Any },
        on_time: left.on_time && right.on_time,
        timed: left.timed && right.timed,
        lineage: left.lineage && right.lineage,
        repeats: false,
        wakes: left.wakes || right.wakes,
        sources: left.sources.union(&right.sources).copied().collect(),
        parallelism: p,
        size: left.size + right.size,
    };
    let pairs = PortFacts { order: Order::Any, lineage: false, size: left.size * right.size, ..both.clone() };
    Ok(match &node.op {
        Op::Union | Op::CoProcess => both,
        Op::KeyedJoin => pairs,
        Op::IntervalJoin { lower_ms, upper_ms, late_output } => {
            ensure(both.timed, "an interval join without timestamps")?;
            ensure(lower_ms <= upper_ms, "an empty interval")?;
            ensure(both.on_time || *late_output, "late records that nobody sees")?;
            PortFacts { on_time: !both.wakes, ..pairs }
        }
        Op::WindowJoin { co_group, .. } => {
            ensure(both.timed && both.on_time, "a window join of records that may be late")?;
            let pairs = PortFacts { on_time: !both.wakes, ..pairs };
            if *co_group { PortFacts { size: both.size, ..pairs } } else { pairs }
        }
        Op::BroadcastJoin => {
            ensure(left.timed, "timers without timestamps")?;
            let order = Order::Any;
            PortFacts { order, lineage: false, on_time: false, timed: left.timed, size: left.size, ..both }
        }
        Op::BroadcastSeen => {
            let order = after_plain(left.order, left.parallelism, p);
            // The watermark is that of both, and the records are those of the left.
            PortFacts {
                order,
                timed: left.timed,
                on_time: left.on_time,
                size: left.size,
                lineage: left.lineage,
                ..both
            }
        }
        _ => return Err("wrong number of inputs".to_owned()),
    })
}

/// Whether a plan's results do not depend on schedule and batches at all: one split, and everything that minds the order
/// of records, or when a watermark passes, reads from one subtask.
pub(crate) fn is_deterministic(plan: &Plan) -> bool {
    let Ok(known) = facts(plan) else { return false };
    let n_splits: usize = plan.sources().map(|(_, source)| source.splits.len()).sum();
    let by_records = plan.sources().all(|(_, source)| {
        !source.may_be_idle(&plan.config)
            && matches!(source.watermarks, Watermarks::Bounded | Watermarks::Punctuated)
    });
    let sources_are_single =
        plan.nodes.iter().all(|node| !matches!(node.op, Op::Source(_)) || node.parallelism == 1);
    let is_steady = |node: &Node| {
        let input = node.inputs.first().and_then(|port| known.get(port.node)?.get(port.output));
        let Some(input) = input else { return matches!(node.op, Op::Source(_)) };
        let in_order = input.order > Order::Any && input.lineage;
        // A source's subtask without a split holds event time back until it has said that it is idle or has ended.
        let one_path = in_order && input.parallelism == 1 && sources_are_single;
        match &node.op {
            Op::Stateless(_) | Op::SideOutput { .. } => true,
            Op::Reduce | Op::Keyed(KeyedFunction::Running | KeyedFunction::Distinct { .. }) => in_order,
            Op::Keyed(KeyedFunction::Groups { .. }) => input.on_time || one_path,
            Op::Keyed(KeyedFunction::Quiet { .. }) => one_path,
            Op::Window(window)
                if window.trigger == WindowTrigger::Default && !window.windows.is_session() =>
            {
                input.on_time || one_path
            }
            Op::Window(_) => one_path,
            Op::CountWindow(window) => {
                if window.timeout_ms.is_none() {
                    in_order
                } else {
                    one_path
                }
            }
            _ => false,
        }
    };
    n_splits == 1 && by_records && plan.nodes.iter().all(is_steady)
}
