//! A plan from a seed.
//!
//! Topology, settings, input and schedule come from streams of random numbers of their own, so that a change to one
//! does not change the others.

use super::{
    AsyncPlan, Chaining, Config, CountWindowPlan, Exchange, KeyedFunction, Node, Op, Plan, Port, PortFacts,
    SourcePlan, SplitPlan, Step, Watermarks, WindowFunction, WindowPlan, WindowTrigger, Windows, facts,
};
use crate::record::mix;
use flott_env::sim::SimRng;

/// A stream of records is not made longer than about this.
const RECORDS_MAX: f64 = 2_500.0;
const OPERATORS_MAX: u64 = 9;

/// The plan that `seed` means.
///
/// # Panics
/// If the generator makes a plan that makes no sense.
pub fn generate(seed: u64) -> Plan {
    let stream = |name: u64| Dice(SimRng::new(mix(seed, name)));
    let config = config(&mut stream(1));
    let mut plan = Plan { seed, schedule: mix(seed, 2), config, nodes: Vec::new() };
    let mut workload = stream(3);
    let mut topology = stream(4);
    let n_sources = topology.weighted(&[(5, 1), (4, 2), (1, 3)]);
    for _ in 0..n_sources {
        let source = Op::Source(source(&mut workload, &plan.config));
        let node = node(&mut topology, &plan.config, source, Vec::new());
        plan.nodes.push(node);
    }
    let n_operators = 1 + topology.0.below(OPERATORS_MAX);
    for _ in 0..n_operators * 3 {
        if plan.nodes.len() as u64 >= n_sources + n_operators {
            break;
        }
        extend(&mut plan, &mut topology);
    }
    if let Err(what) = facts(&plan) {
        panic!("the generator made a plan that makes no sense: {what}: {plan:?}");
    }
    plan
}

/// Adds a random operator if it makes sense.
fn extend(plan: &mut Plan, dice: &mut Dice) {
    let known = facts(plan).expect("the plan made sense so far");
    let ports: Vec<Port> = known
        .iter()
        .enumerate()
        .flat_map(|(node, outputs)| (0..outputs.len()).map(move |output| Port { node, output }))
        .collect();
    // Mostly go on where nothing reads yet.
    let open: Vec<Port> = ports.iter().copied().filter(|port| !plan.is_read(*port)).collect();
    let input = |dice: &mut Dice| {
        let from = if open.is_empty() || dice.one_in(5) { &ports } else { &open };
        dice.pick(from)
    };
    let first = input(dice);
    let Some(first_facts) = known.get(first.node).and_then(|outputs| outputs.get(first.output)) else {
        return;
    };
    let op = op(dice, first_facts);
    let mut inputs = vec![first];
    if op.n_inputs() == 2 {
        inputs.push(input(dice));
    }
    let mut new = node(dice, &plan.config, op, inputs);
    match &new.op {
        Op::Window(WindowPlan { over_all: true, .. }) => new.parallelism = 1,
        Op::Exchange(Exchange::Forward) => new.parallelism = first_facts.parallelism,
        _ => {}
    }
    plan.nodes.push(new);
    let makes_sense = facts(plan).is_ok_and(|known| {
        let size = known.last().and_then(|outputs| outputs.first()).map_or(0.0, |facts| facts.size);
        size <= RECORDS_MAX
    });
    if !makes_sense {
        plan.nodes.pop();
    }
}

fn node(dice: &mut Dice, config: &Config, op: Op, inputs: Vec<Port>) -> Node {
    let parallelism = dice.weighted(&[(3, 1), (4, 2), (2, 3), (2, 4)]) as u32;
    Node {
        op,
        inputs,
        parallelism: parallelism.min(config.max_parallelism),
        chaining: dice.pick(&[Chaining::Always; 6].into_iter().chain(RARE_CHAINING).collect::<Vec<_>>()),
        tapped: dice.one_in(4),
    }
}

const RARE_CHAINING: [Chaining; 3] = [Chaining::Head, Chaining::Never, Chaining::Group];

fn config(dice: &mut Dice) -> Config {
    Config {
        parallelism: 1 + dice.0.below(4) as u32,
        max_parallelism: dice.pick(&[4, 5, 7, 128, 4096, 4096]),
        batch_size: match dice.0.below(4) {
            0 => 1,
            1 => 1024,
            2 => 1 + dice.0.below(1024) as u32,
            _ => 1 + dice.0.below(64) as u32,
        },
        gate_bytes: dice.pick(&[1, 64, 500, 4_096, 4 << 20, 4 << 20]),
        buffer_timeout_ms: dice.pick(&[0, 1, 10, 100]),
        granularity_ms: dice.pick(&[1, 1, 7, 100, 1_000]),
        auto_watermark_ms: dice.pick(&[1, 20, 200]),
        idle_timeout_ms: dice.pick(&[0, 0, 20, 30_000]),
        chaining: !dice.one_in(4),
    }
}

fn source(dice: &mut Dice, config: &Config) -> SourcePlan {
    let n_splits = 1 + dice.0.below(4) as usize;
    let disorder = dice.pick(&[0, 0, 5, 50, 300]);
    // Some strategies promise less disorder than there is.
    let bound_ms =
        if dice.one_in(4) { dice.0.below(disorder + 1) } else { disorder + dice.pick(&[0, 0, 1, 40]) };
    let start = dice.pick(&[0, 0, -1_000, -123_457, 1_600_000_000_000]);
    let pace = dice.pick(&[1, 5, 20, 100]);
    let keys = dice.pick(&[1, 2, 7, 40]);
    let keys_of_splits = dice.one_in(2);
    let splits = (0..n_splits).map(|split| {
        let key_of = |dice: &mut Dice| {
            let key = dice.0.below(keys) as u32;
            if keys_of_splits { key * n_splits as u32 + split as u32 } else { key }
        };
        split_plan(dice, start, pace, disorder, key_of)
    });
    let mut source = SourcePlan {
        splits: splits.collect(),
        watermarks: dice.pick(&[
            Watermarks::Bounded,
            Watermarks::Bounded,
            Watermarks::Bounded,
            Watermarks::Punctuated,
            Watermarks::Periodic,
            Watermarks::None,
        ]),
        bound_ms,
        idle_timeout_ms: dice.pick(&[None, None, None, Some(0), Some(15)]),
        alignment_ms: dice.one_in(6).then(|| dice.pick(&[1, 50, 1_000])),
        chunk_max: dice.pick(&[1, 3, 10, 5_000]),
        yield_every: dice.pick(&[0, 0, 1, 2, 5]),
        eager_end: dice.one_in(2),
    };
    if source.may_wake(config) && dice.one_in(2) {
        // Sources whose records are on time are worth more.
        source.idle_timeout_ms = Some(0);
    }
    source
}

fn split_plan(
    dice: &mut Dice,
    start: i64,
    pace: i64,
    disorder: u64,
    key_of: impl Fn(&mut Dice) -> u32,
) -> SplitPlan {
    let n_records = match dice.0.below(8) {
        0 => 0,
        1 => 1,
        2 => 100 + dice.0.below(150),
        _ => 1 + dice.0.below(50),
    };
    let mut now = start + if dice.one_in(3) { dice.0.range(0..=2_000) } else { 0 };
    let has_gaps = dice.one_in(3);
    let mut records = Vec::new();
    for _ in 0..n_records {
        now += dice.0.range(0..=pace);
        if has_gaps && dice.one_in(15) {
            now += dice.0.range(0..=5_000);
        }
        let back = if disorder > 0 && !dice.one_in(3) { dice.0.range(0..=disorder as i64) } else { 0 };
        records.push((key_of(dice), now - back, dice.0.range(-100..=100)));
    }
    let mut pauses = std::collections::BTreeMap::new();
    if dice.one_in(4) {
        pauses.insert(0, 1 + dice.0.below(400));
    }
    if dice.one_in(3) {
        for _ in 0..dice.0.below(4) {
            pauses.insert(dice.0.below(n_records + 1) as usize, 1 + dice.0.below(100));
        }
    }
    SplitPlan { records, pauses: pauses.into_iter().collect() }
}

fn op(dice: &mut Dice, input: &PortFacts) -> Op {
    match dice.weighted(&[
        (5, 0),
        (5, 1),
        (3, 2),
        (3, 3),
        (5, 4),
        (2, 5),
        (2, 6),
        (4, 7),
        (12, 8),
        (3, 9),
        (3, 10),
        (2, 11),
        (2, 12),
        (4, 13),
        (3, 14),
        (1, 15),
    ]) {
        0 => Op::Stateless((0..1 + dice.0.below(3)).map(|_| step(dice)).collect()),
        1 => Op::Exchange(dice.pick(&[
            Exchange::Forward,
            Exchange::Rebalance,
            Exchange::Rescale,
            Exchange::Shuffle,
            Exchange::Broadcast,
            Exchange::Global,
            Exchange::Custom,
        ])),
        2 => Op::Union,
        3 => Op::Reduce,
        4 => Op::Keyed(match dice.0.below(4) {
            0 => KeyedFunction::Running,
            1 => KeyedFunction::Groups { delay_ms: dice.pick(&[0, 1, 100]) },
            2 => KeyedFunction::Quiet { gap_ms: dice.pick(&[1, 10, 150]) },
            _ => KeyedFunction::Distinct { modulus: dice.pick(&[1, 3, 20]) },
        }),
        5 => Op::CoProcess,
        6 => Op::KeyedJoin,
        7 => {
            let lower_ms = dice.0.range(-200..=50);
            let upper_ms = lower_ms + dice.pick(&[0, 1, 20, 200]);
            Op::IntervalJoin { lower_ms, upper_ms, late_output: !input.on_time || dice.one_in(2) }
        }
        8 => Op::Window(window(dice)),
        9 => Op::CountWindow(count_window(dice)),
        10 => Op::WindowJoin { windows: windows(dice), co_group: dice.one_in(2) },
        11 => Op::BroadcastJoin,
        12 => Op::BroadcastSeen,
        13 => Op::Async(async_plan(dice)),
        14 => Op::SideOutput { modulus: dice.pick(&[1, 2, 5]) },
        _ => Op::Reassign { bound_ms: dice.pick(&[0, 20, 300]) },
    }
}

fn step(dice: &mut Dice) -> Step {
    match dice.0.below(5) {
        0 | 1 => Step::Add(dice.0.range(-5..=5)),
        2 => Step::Rekey(dice.pick(&[1, 3, 16])),
        3 => Step::Filter(dice.pick(&[1, 2, 5])),
        _ => Step::Expand(1 + dice.0.below(3)),
    }
}

fn windows(dice: &mut Dice) -> Windows {
    let size_ms = dice.pick(&[1, 7, 100, 250, 1_000]);
    match dice.0.below(5) {
        0 | 1 => Windows::Tumbling { size_ms, offset_ms: dice.pick(&[0, 0, 3, -1]) },
        2 => {
            let slide_ms = match dice.0.below(4) {
                0 => size_ms * 2,
                1 => (size_ms / 3).max(1),
                2 => (size_ms / 2).max(1),
                _ => (size_ms / 7).max(1),
            };
            Windows::Sliding { size_ms, slide_ms, offset_ms: dice.pick(&[0, 0, 5]) }
        }
        3 => Windows::Session { gap_ms: dice.pick(&[1, 10, 60, 500]) },
        _ => Windows::DynamicSession { gap_ms: dice.pick(&[1, 20]), step_ms: dice.pick(&[1, 30]) },
    }
}

fn window(dice: &mut Dice) -> WindowPlan {
    let windows = windows(dice);
    let trigger = match dice.0.below(8) {
        0 => WindowTrigger::Purging,
        1 if !windows.is_session() => WindowTrigger::Continuous { interval_ms: dice.pick(&[10, 90]) },
        2 if !windows.is_session() => WindowTrigger::Count { n: 1 + dice.0.below(4) },
        _ => WindowTrigger::Default,
    };
    WindowPlan {
        windows,
        trigger,
        lateness_ms: if dice.one_in(3) { dice.pick(&[1, 40, 500]) } else { 0 },
        late_output: !dice.one_in(3),
        function: dice.pick(&[
            WindowFunction::Aggregate,
            WindowFunction::AggregateWith,
            WindowFunction::Reduce,
            WindowFunction::Process,
        ]),
        over_all: dice.one_in(5),
    }
}

fn count_window(dice: &mut Dice) -> CountWindowPlan {
    let size = 1 + dice.0.below(6);
    match dice.0.below(3) {
        0 => CountWindowPlan {
            size,
            slide: Some(1 + dice.0.below(6)),
            timeout_ms: None,
            process: dice.one_in(2),
        },
        1 => {
            let timeout_ms = Some(dice.pick(&[1, 50, 2_000]));
            CountWindowPlan { size, slide: None, timeout_ms, process: dice.one_in(2) }
        }
        _ => CountWindowPlan { size, slide: None, timeout_ms: None, process: dice.one_in(2) },
    }
}

fn async_plan(dice: &mut Dice) -> AsyncPlan {
    let mode = dice.0.below(3);
    AsyncPlan {
        ordered: dice.one_in(2),
        capacity: dice.pick(&[1, 2, 10, 100]),
        delay_max_ms: dice.pick(&[0, 1, 20]),
        retry: mode == 1,
        timeout_ms: (mode == 2).then_some(200),
    }
}

/// Random choices.
struct Dice(SimRng);

impl Dice {
    fn one_in(&mut self, n: u64) -> bool {
        self.0.one_in(n)
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let idx = self.0.below(from.len() as u64) as usize;
        from.get(idx).cloned().expect("there is something to choose from")
    }

    fn weighted(&mut self, choices: &[(u64, u64)]) -> u64 {
        let total = choices.iter().map(|(weight, _)| weight).sum();
        let mut die = self.0.below(total);
        for (weight, choice) in choices {
            if die < *weight {
                return *choice;
            }
            die -= weight;
        }
        0
    }
}
