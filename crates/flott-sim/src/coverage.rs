//! How often each feature occurred in the plans of a campaign.

use crate::plan::{
    Chaining, KeyedFunction, Op, Plan, Step, Watermarks, WindowPlan, WindowTrigger, Windows, facts,
};
use crate::trial::Trial;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Counts of plans by feature, and sums over all plans.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    plans: u64,
    features: BTreeMap<String, u64>,
    records_read: u64,
    records_processed: u64,
    records_late: u64,
    virtual_seconds: f64,
}

impl Coverage {
    /// Counts a plan that came out right.
    pub fn add(&mut self, plan: &Plan, trial: &Trial) {
        self.plans += 1;
        self.records_read += plan.n_records() as u64;
        self.records_processed += trial.n_processed;
        self.records_late += trial.n_late;
        self.virtual_seconds += trial.elapsed.as_secs_f64();
        let mut features = features(plan);
        if trial.n_late > 0 {
            features.insert("time: late records came".to_owned());
        }
        if trial.was_varied {
            features.insert("settings: also with batches of 1 and 1024".to_owned());
        }
        for feature in features {
            *self.features.entry(feature).or_default() += 1;
        }
    }

    /// Adds the counts of another campaign.
    pub fn merge(&mut self, other: &Self) {
        self.plans += other.plans;
        self.records_read += other.records_read;
        self.records_processed += other.records_processed;
        self.records_late += other.records_late;
        self.virtual_seconds += other.virtual_seconds;
        for (feature, count) in &other.features {
            *self.features.entry(feature.clone()).or_default() += count;
        }
    }

    /// Number of plans.
    pub fn plans(&self) -> u64 {
        self.plans
    }

    /// In how many plans a feature occurred.
    pub fn count(&self, feature: &str) -> u64 {
        self.features.get(feature).copied().unwrap_or(0)
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<48} {:>8} {:>6}", "feature", "plans", "share")?;
        for (feature, count) in &self.features {
            let share = *count as f64 * 100.0 / self.plans.max(1) as f64;
            writeln!(f, "{feature:<48} {count:>8} {share:>5.1}%")?;
        }
        let Self { plans, records_read, records_processed, records_late, virtual_seconds, .. } = self;
        write!(
            f,
            "{plans} plans, {records_read} records read, {records_processed} processed by operators, \
             {records_late} late, {virtual_seconds:.0} s of virtual time"
        )
    }
}

fn features(plan: &Plan) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut add = |feature: &str| {
        found.insert(feature.to_owned());
    };
    for (_, source) in plan.sources() {
        add(match source.watermarks {
            Watermarks::Bounded => "source: bounded out-of-orderness",
            Watermarks::Punctuated => "source: punctuated watermarks",
            Watermarks::Periodic => "source: periodic watermarks",
            Watermarks::None => "source: no watermarks",
        });
        if source.splits.len() > 1 {
            add("source: several splits");
        }
        if source.splits.iter().any(|split| split.records.is_empty()) {
            add("source: an empty split");
        }
        if source.splits.iter().any(|split| split.pauses.first().is_some_and(|(at, _)| *at == 0)) {
            add("source: a split starts late");
        }
        if source.splits.iter().any(|split| split.pauses.iter().any(|(at, _)| *at > 0)) {
            add("source: a split pauses");
        }
        if source.may_wake(&plan.config) {
            add("source: an idle split wakes up");
        }
        if source.alignment_ms.is_some() {
            add("source: aligned");
        }
        if source.yield_every > 0 {
            add("source: pending though there is more");
        }
    }
    match plan.sources().count() {
        1 => add("topology: one source"),
        _ => add("topology: several sources"),
    }
    match plan.config.batch_size {
        1 => add("settings: batches of 1"),
        1024 => add("settings: batches of 1024"),
        _ => add("settings: other batches"),
    }
    if plan.config.gate_bytes <= 500 {
        add("settings: tiny gates");
    }
    add(if plan.config.chaining { "settings: chained" } else { "settings: unchained" });
    if plan.nodes.iter().any(|node| node.chaining != Chaining::Always) {
        add("settings: chain cut by an operator");
    }
    for node in &plan.nodes {
        add(&format!("parallelism: {}", node.parallelism));
        operator(&node.op, &mut add);
    }
    for (node, outputs) in plan.nodes.iter().zip(facts(plan).unwrap_or_default()) {
        if node.op.n_inputs() > 0 && outputs.iter().any(|facts| !facts.on_time) {
            add("time: records may be late");
        }
    }
    found
}

fn operator(op: &Op, add: &mut impl FnMut(&str)) {
    match op {
        Op::Source(_) => {}
        Op::Stateless(steps) => {
            if steps.len() > 1 {
                add("operator: fused run");
            }
            for step in steps {
                add(match step {
                    Step::Add(_) | Step::Rekey(_) => "operator: map",
                    Step::Filter(_) => "operator: filter",
                    Step::Expand(_) => "operator: flat_map",
                });
            }
        }
        Op::Exchange(exchange) => add(&format!("exchange: {exchange}")),
        Op::Union => add("operator: union"),
        Op::Reduce => add("operator: keyed reduce"),
        Op::Keyed(function) => add(match function {
            KeyedFunction::Running => "operator: keyed state",
            KeyedFunction::Distinct { .. } => "operator: keyed map state",
            KeyedFunction::Groups { .. } => "operator: timers",
            KeyedFunction::Quiet { .. } => "operator: timers that move",
        }),
        Op::CoProcess => add("operator: co-process"),
        Op::KeyedJoin => add("operator: keyed co-process"),
        Op::IntervalJoin { .. } => add("operator: interval join"),
        Op::Window(window) => windows(window, add),
        Op::CountWindow(window) => add(match (window.slide, window.timeout_ms) {
            (Some(_), _) => "window: sliding count",
            (None, None) => "window: tumbling count",
            (None, Some(_)) => "window: count with time-out",
        }),
        Op::WindowJoin { co_group, .. } => add(if *co_group { "window: co-group" } else { "window: join" }),
        Op::BroadcastJoin => add("operator: keyed broadcast state"),
        Op::BroadcastSeen => add("operator: broadcast state"),
        Op::Async(call) => {
            add(if call.ordered { "operator: async ordered" } else { "operator: async unordered" });
            if call.retry {
                add("operator: async with retries");
            }
            if call.timeout_ms.is_some() {
                add("operator: async with time-outs");
            }
        }
        Op::SideOutput { .. } => add("operator: side output"),
        Op::Reassign { .. } => add("operator: watermarks mid-stream"),
    }
}

fn windows(plan: &WindowPlan, add: &mut impl FnMut(&str)) {
    add(match plan.windows {
        Windows::Tumbling { .. } => "window: tumbling",
        Windows::Sliding { .. } => "window: sliding",
        Windows::Session { .. } => "window: session",
        Windows::DynamicSession { .. } => "window: session with dynamic gap",
    });
    add(&format!("window function: {:?}", plan.function));
    match plan.trigger {
        WindowTrigger::Default => {}
        WindowTrigger::Purging => add("trigger: purging"),
        WindowTrigger::Continuous { .. } => add("trigger: continuous"),
        WindowTrigger::Count { .. } => add("trigger: count"),
    }
    if plan.lateness_ms > 0 {
        add("window: allowed lateness");
    }
    if plan.late_output {
        add("window: late side output");
    }
    if plan.over_all {
        add("window: over all records");
    }
}
