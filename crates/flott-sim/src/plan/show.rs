//! A plan as one line for people.

use super::{
    Chaining, CountWindowPlan, Exchange, KeyedFunction, Node, Op, Plan, SourcePlan, Step, WindowPlan,
    WindowTrigger, Windows,
};
use std::fmt;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, schedule, config, nodes } = self;
        write!(f, "seed={seed} schedule={schedule} batch={} gate={}", config.batch_size, config.gate_bytes)?;
        write!(f, " keygroups={} flush={}ms", config.max_parallelism, config.buffer_timeout_ms)?;
        write!(f, " granularity={}ms idle={}ms", config.granularity_ms, config.idle_timeout_ms)?;
        if !config.chaining {
            write!(f, " unchained")?;
        }
        nodes.iter().enumerate().try_for_each(|(idx, node)| write!(f, " | n{idx} {node}"))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x{}", self.op, self.parallelism)?;
        for (idx, port) in self.inputs.iter().enumerate() {
            write!(f, "{}n{}", if idx == 0 { " <- " } else { ", " }, port.node)?;
            if port.output > 0 {
                write!(f, ".{}", port.output)?;
            }
        }
        if self.chaining != Chaining::Always {
            write!(f, " {:?}", self.chaining)?;
        }
        if self.tapped { write!(f, " tapped") } else { Ok(()) }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => source.fmt(f),
            Self::Stateless(steps) => steps
                .iter()
                .enumerate()
                .try_for_each(|(idx, step)| write!(f, "{}{step}", if idx == 0 { "" } else { "." })),
            Self::Exchange(exchange) => write!(f, "{exchange}"),
            Self::Union => write!(f, "union"),
            Self::Reduce => write!(f, "reduce"),
            Self::Keyed(KeyedFunction::Running) => write!(f, "keyed running"),
            Self::Keyed(KeyedFunction::Groups { delay_ms }) => write!(f, "keyed groups(delay {delay_ms})"),
            Self::Keyed(KeyedFunction::Quiet { gap_ms }) => write!(f, "keyed quiet(gap {gap_ms})"),
            Self::Keyed(KeyedFunction::Distinct { modulus }) => write!(f, "keyed distinct(mod {modulus})"),
            Self::CoProcess => write!(f, "co-process"),
            Self::KeyedJoin => write!(f, "keyed join"),
            Self::IntervalJoin { lower_ms, upper_ms, late_output } => {
                write!(f, "interval join({lower_ms}..={upper_ms}{})", if *late_output { " late" } else { "" })
            }
            Self::Window(window) => window.fmt(f),
            Self::CountWindow(CountWindowPlan { size, slide, timeout_ms, process }) => {
                write!(f, "count window({size}")?;
                slide.map_or(Ok(()), |slide| write!(f, " by {slide}"))?;
                timeout_ms.map_or(Ok(()), |timeout| write!(f, " or {timeout}ms"))?;
                write!(f, "{})", if *process { " process" } else { "" })
            }
            Self::WindowJoin { windows, co_group } => {
                write!(f, "{}({windows})", if *co_group { "co-group" } else { "window join" })
            }
            Self::BroadcastJoin => write!(f, "broadcast join"),
            Self::BroadcastSeen => write!(f, "broadcast seen"),
            Self::Async(call) => {
                write!(f, "async({}", if call.ordered { "ordered" } else { "unordered" })?;
                write!(f, " capacity {} delay {}ms", call.capacity, call.delay_max_ms)?;
                if call.retry {
                    write!(f, " retry")?;
                }
                call.timeout_ms.map_or(Ok(()), |timeout| write!(f, " timeout {timeout}ms"))?;
                write!(f, ")")
            }
            Self::SideOutput { modulus } => write!(f, "side output(mod {modulus})"),
            Self::Reassign { bound_ms } => write!(f, "watermarks(bound {bound_ms})"),
        }
    }
}

impl fmt::Display for SourcePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source({:?} bound {}", self.watermarks, self.bound_ms)?;
        if let Some(timeout) = self.idle_timeout_ms {
            write!(f, " idle {timeout}ms")?;
        }
        if let Some(drift) = self.alignment_ms {
            write!(f, " aligned {drift}ms")?;
        }
        write!(f, " chunk {} yield {}", self.chunk_max, self.yield_every)?;
        for (idx, split) in self.splits.iter().enumerate() {
            write!(f, "{}{} records", if idx == 0 { ": " } else { ", " }, split.records.len())?;
            split.pauses.iter().try_for_each(|(at, ms)| write!(f, " {ms}ms@{at}"))?;
        }
        write!(f, ")")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(n) => write!(f, "map(+{n})"),
            Self::Rekey(keys) => write!(f, "map(key mod {keys})"),
            Self::Filter(modulus) => write!(f, "filter(mod {modulus})"),
            Self::Expand(most) => write!(f, "flat_map(0..={most})"),
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Rebalance => "rebalance",
            Self::Rescale => "rescale",
            Self::Shuffle => "shuffle",
            Self::Broadcast => "broadcast",
            Self::Global => "global",
            Self::Custom => "custom partitions",
        })
    }
}

impl fmt::Display for WindowPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}({} {:?}",
            if self.over_all { "window all" } else { "window" },
            self.windows,
            self.function
        )?;
        match self.trigger {
            WindowTrigger::Default => {}
            WindowTrigger::Purging => write!(f, " purging")?,
            WindowTrigger::Continuous { interval_ms } => write!(f, " every {interval_ms}ms")?,
            WindowTrigger::Count { n } => write!(f, " every {n} records")?,
        }
        if self.lateness_ms > 0 {
            write!(f, " lateness {}ms", self.lateness_ms)?;
        }
        write!(f, "{})", if self.late_output { " late output" } else { "" })
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tumbling { size_ms, offset_ms } => write!(f, "tumbling {size_ms}ms+{offset_ms}"),
            Self::Sliding { size_ms, slide_ms, offset_ms } => {
                write!(f, "sliding {size_ms}ms/{slide_ms}ms+{offset_ms}")
            }
            Self::Session { gap_ms } => write!(f, "session {gap_ms}ms"),
            Self::DynamicSession { gap_ms, step_ms } => write!(f, "session {gap_ms}ms+{step_ms}ms*"),
        }
    }
}
