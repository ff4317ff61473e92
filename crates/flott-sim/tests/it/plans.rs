//! Small plans, written by hand.

use flott_sim::plan::{
    AsyncPlan, Chaining, Config, Node, Op, Plan, Port, SourcePlan, SplitPlan, Watermarks, WindowFunction,
    WindowPlan, WindowTrigger, Windows,
};

/// A plan with ordinary settings.
pub(crate) fn plan(nodes: Vec<Node>) -> Plan {
    let config = Config {
        parallelism: 1,
        max_parallelism: 128,
        batch_size: 1024,
        gate_bytes: 4 << 20,
        buffer_timeout_ms: 100,
        granularity_ms: 1,
        auto_watermark_ms: 200,
        idle_timeout_ms: 0,
        chaining: true,
    };
    Plan { seed: 0, schedule: 1, config, nodes }
}

/// An operator that reads the main outputs of `inputs`.
pub(crate) fn node(op: Op, inputs: &[usize], parallelism: u32) -> Node {
    let inputs = inputs.iter().map(|node| Port { node: *node, output: 0 }).collect();
    Node { op, inputs, parallelism, chaining: Chaining::Always, tapped: true }
}

/// A source of splits with bounded out-of-orderness.
pub(crate) fn source(bound_ms: u64, idle_timeout_ms: u64, splits: Vec<SplitPlan>) -> Op {
    Op::Source(SourcePlan {
        watermarks: Watermarks::Bounded,
        bound_ms,
        idle_timeout_ms: Some(idle_timeout_ms),
        alignment_ms: None,
        chunk_max: 5_000,
        yield_every: 0,
        eager_end: false,
        splits,
    })
}

/// A split of records at these times, all with the same key, and its pauses.
pub(crate) fn split(times: impl IntoIterator<Item = i64>, pauses: &[(usize, u64)]) -> SplitPlan {
    let records = times.into_iter().enumerate().map(|(idx, at)| (7, at, idx as i64)).collect();
    SplitPlan { records, pauses: pauses.to_vec() }
}

/// A window with the late records at its side.
pub(crate) fn window(windows: Windows) -> Op {
    Op::Window(WindowPlan {
        windows,
        trigger: WindowTrigger::Default,
        lateness_ms: 0,
        late_output: true,
        function: WindowFunction::AggregateWith,
        over_all: false,
    })
}

/// Calls that take up to 20 ms; one in seven never comes back and times out.
pub(crate) const CALLS: AsyncPlan =
    AsyncPlan { ordered: false, capacity: 100, delay_max_ms: 20, retry: false, timeout_ms: Some(200) };
