//! A program as data: what is run, on what input, with what settings.
//!
//! * `generate`: a plan from a seed.
//! * `facts`: what follows from a plan about its streams before anything runs; also which plans make sense.
//! * `show`: a plan as one line.
//!
//! As JSON ([`Plan::to_json`]) a plan is complete: it replays even after the generator has changed.

mod facts;
mod generate;
mod show;

pub(crate) use facts::is_deterministic;
pub use facts::{Order, PortFacts, facts};
pub use generate::generate;

use crate::record::{Record, mix};
use flott_types::Timestamp;
use serde::{Deserialize, Serialize};

/// A whole program with its input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The seed it was made from.
    pub seed: u64,
    /// The seed of the simulated world: which ready task runs next, and how long it takes.
    pub schedule: u64,
    /// The settings of the job.
    pub config: Config,
    /// The operators, each behind those it reads from.
    pub nodes: Vec<Node>,
}

/// The settings of the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// `parallelism.default`, for what operators add by themselves.
    pub parallelism: u32,
    /// `pipeline.max-parallelism`
    pub max_parallelism: u32,
    /// `execution.batch-size`
    pub batch_size: u32,
    /// `taskmanager.network.memory.max-per-gate`
    pub gate_bytes: u64,
    /// `execution.buffer-timeout.interval`
    pub buffer_timeout_ms: u64,
    /// `pipeline.watermark-granularity`
    pub granularity_ms: u64,
    /// `pipeline.auto-watermark-interval`
    pub auto_watermark_ms: u64,
    /// `pipeline.source-idle-timeout`; 0 for never.
    pub idle_timeout_ms: u64,
    /// `pipeline.operator-chaining.enabled`
    pub chaining: bool,
}

/// An operator in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<Port>,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Whether it may share a task.
    pub chaining: Chaining,
    /// Whether its output is looked at though others read it and it could be computed.
    pub tapped: bool,
}

/// An output of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// The operator, by its place in [`Plan::nodes`].
    pub node: usize,
    /// 0 for the main output, others are side outputs.
    pub output: usize,
}

/// Chaining control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chaining {
    /// Wherever possible.
    Always,
    /// The operator heads a chain.
    Head,
    /// The operator has a task of its own.
    Never,
    /// The operator and what follows are in another slot sharing group.
    Group,
}

/// What an operator does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Reads splits.
    Source(SourcePlan),
    /// A fused run of map, filter and flat_map.
    Stateless(Vec<Step>),
    /// An exchange, and a function behind it that looks at what arrives.
    Exchange(Exchange),
    /// Both inputs, and a function behind it that looks at what arrives.
    Union,
    /// The running sum per key.
    Reduce,
    /// A function with keyed state, perhaps with timers.
    Keyed(KeyedFunction),
    /// Two streams into one function.
    CoProcess,
    /// All pairs of records of a key, by keyed state that two streams share.
    KeyedJoin,
    /// Pairs of records of a key that are close in event time.
    IntervalJoin {
        /// The least difference, in milliseconds, of the right timestamp to the left.
        lower_ms: i64,
        /// The largest.
        upper_ms: i64,
        /// Late records go to outputs 1 and 2.
        late_output: bool,
    },
    /// Windows of event time.
    Window(WindowPlan),
    /// Windows of so many records of a key.
    CountWindow(CountWindowPlan),
    /// Pairs, or both lists, of a window.
    WindowJoin {
        /// Which windows.
        windows: Windows,
        /// Lists instead of pairs.
        co_group: bool,
    },
    /// Keeps records until the end of event time and then looks them up in the broadcast input 1.
    BroadcastJoin,
    /// Says for each record how many broadcast records have come.
    BroadcastSeen,
    /// A call that takes time.
    Async(AsyncPlan),
    /// Records with this remainder go to output 1.
    SideOutput {
        /// The value is divided by it.
        modulus: i64,
    },
    /// Watermarks anew in the middle of the stream.
    Reassign {
        /// The bound of the out-of-orderness.
        bound_ms: u64,
    },
}

/// A source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourcePlan {
    /// Where its watermarks come from.
    pub watermarks: Watermarks,
    /// Records come at most so much later than the newest of their split, says the watermark strategy.
    pub bound_ms: u64,
    /// An idle time-out of its own: `Some(0)` for never, `None` for that of the job.
    pub idle_timeout_ms: Option<u64>,
    /// The drift that its alignment group allows.
    pub alignment_ms: Option<u64>,
    /// Records that one call of the reader returns at most.
    pub chunk_max: usize,
    /// After so many calls the reader has nothing although there is something; 0 for never.
    pub yield_every: u64,
    /// The end of a split comes with its last records.
    pub eager_end: bool,
    /// Its splits.
    pub splits: Vec<SplitPlan>,
}

/// Where watermarks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watermarks {
    /// From the largest timestamp.
    Bounded,
    /// From certain records.
    Punctuated,
    /// From the clock, which asks for the largest timestamp so far.
    Periodic,
    /// There are none until the end.
    None,
}

/// A split of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitPlan {
    /// The records in order: key, timestamp, value.
    pub records: Vec<(u32, Timestamp, i64)>,
    /// Before which record (or the end) nothing comes for how many milliseconds, in order.
    pub pauses: Vec<(usize, u64)>,
}

/// A step of a fused run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Map: adds to the value.
    Add(i64),
    /// Map: the key is the uid's remainder.
    Rekey(u32),
    /// Filter: leaves out records whose value has the remainder 0.
    Filter(i64),
    /// Flat map: 0 to so many copies of a record.
    Expand(u64),
}

/// How an exchange divides records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exchange {
    /// One to one.
    Forward,
    /// In turn.
    Rebalance,
    /// In turn among a share.
    Rescale,
    /// By chance.
    Shuffle,
    /// To all.
    Broadcast,
    /// To the first.
    Global,
    /// By the key's remainder.
    Custom,
}

/// A function with keyed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyedFunction {
    /// Count and largest value so far.
    Running,
    /// Records of one timestamp, when the watermark is so much further.
    Groups {
        /// How much further.
        delay_ms: i64,
    },
    /// All records until none has come for so long: each record moves the timer.
    Quiet {
        /// How long.
        gap_ms: i64,
    },
    /// The first record of each remainder of the value.
    Distinct {
        /// The value is divided by it.
        modulus: i64,
    },
}

/// Windows of event time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowPlan {
    /// Which.
    pub windows: Windows,
    /// When they fire.
    pub trigger: WindowTrigger,
    /// How long after the end of a window records are taken.
    pub lateness_ms: i64,
    /// Late records go to output 1.
    pub late_output: bool,
    /// What becomes of their records.
    pub function: WindowFunction,
    /// Over all keys.
    pub over_all: bool,
}

/// Which windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Windows {
    /// Of one size, one after the other.
    Tumbling {
        /// Length.
        size_ms: i64,
        /// Start of one of them.
        offset_ms: i64,
    },
    /// Of one size, evenly spaced.
    Sliding {
        /// Length.
        size_ms: i64,
        /// Distance.
        slide_ms: i64,
        /// Start of one of them.
        offset_ms: i64,
    },
    /// Sessions.
    Session {
        /// The gap.
        gap_ms: i64,
    },
    /// Sessions whose gap depends on the value.
    DynamicSession {
        /// The shortest gap.
        gap_ms: i64,
        /// The largest is three times this longer.
        step_ms: i64,
    },
}

/// When event-time windows fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowTrigger {
    /// At the end.
    Default,
    /// At the end, and the records are forgotten.
    Purging,
    /// Also at multiples of an interval.
    Continuous {
        /// The interval.
        interval_ms: u64,
    },
    /// After every so many records.
    Count {
        /// How many.
        n: u64,
    },
}

/// What becomes of the records of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowFunction {
    /// `aggregate`
    Aggregate,
    /// `aggregate_with`
    AggregateWith,
    /// `reduce`
    Reduce,
    /// `process`
    Process,
}

/// Windows by number of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountWindowPlan {
    /// Records in a window.
    pub size: u64,
    /// After how many records a window of the last `size` fires; `None` for windows one after the other.
    pub slide: Option<u64>,
    /// Without a slide: a window fires after this event time though it is not full.
    pub timeout_ms: Option<u64>,
    /// With `process` instead of an aggregate.
    pub process: bool,
}

/// Asynchronous calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsyncPlan {
    /// Results in the order of the records.
    pub ordered: bool,
    /// Calls at once.
    pub capacity: usize,
    /// How long the longest call takes.
    pub delay_max_ms: u64,
    /// Some calls fail at first.
    pub retry: bool,
    /// Some calls take for ever, and this is the time-out.
    pub timeout_ms: Option<u64>,
}

impl Plan {
    /// The complete plan as one line of text that [`Plan::from_json`] reads.
    ///
    /// # Panics
    /// Never: all that a plan holds can be written.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a plan has only numbers, lists and names")
    }

    /// Reads what [`Plan::to_json`] wrote.
    ///
    /// # Errors
    /// If the text is no plan, or one that makes no sense.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let plan: Self = serde_json::from_str(text).map_err(|error| format!("not a plan: {error}"))?;
        facts(&plan)?;
        Ok(plan)
    }

    /// Number of records of all splits.
    pub fn n_records(&self) -> usize {
        let splits = self.sources().flat_map(|(_, source)| &source.splits);
        splits.map(|split| split.records.len()).sum()
    }

    /// The sources with their places.
    pub fn sources(&self) -> impl Iterator<Item = (usize, &SourcePlan)> {
        self.nodes.iter().enumerate().filter_map(|(idx, node)| match &node.op {
            Op::Source(source) => Some((idx, source)),
            _ => None,
        })
    }

    /// Whether any operator reads the output.
    pub fn is_read(&self, port: Port) -> bool {
        self.nodes.iter().any(|node| node.inputs.contains(&port))
    }
}

impl Op {
    /// Number of outputs.
    pub fn n_outputs(&self) -> usize {
        match self {
            Self::IntervalJoin { late_output: true, .. } => 3,
            Self::Window(WindowPlan { late_output: true, .. }) | Self::SideOutput { .. } => 2,
            _ => 1,
        }
    }

    /// Number of inputs.
    pub fn n_inputs(&self) -> usize {
        match self {
            Self::Source(_) => 0,
            Self::Union
            | Self::CoProcess
            | Self::KeyedJoin
            | Self::IntervalJoin { .. }
            | Self::WindowJoin { .. }
            | Self::BroadcastJoin
            | Self::BroadcastSeen => 2,
            _ => 1,
        }
    }
}

impl SourcePlan {
    /// When a split without anything to read is idle.
    pub fn effective_idle_timeout(&self, config: &Config) -> Option<u64> {
        Some(self.idle_timeout_ms.unwrap_or(config.idle_timeout_ms)).filter(|timeout| *timeout > 0)
    }

    /// Whether a split can be idle.
    pub fn may_be_idle(&self, config: &Config) -> bool {
        self.has_pause(config, |_, _| true)
    }

    /// Whether a split can be idle and then go on: its records may be late then.
    pub fn may_wake(&self, config: &Config) -> bool {
        self.has_pause(config, |before, split| before < split.records.len())
    }

    /// Whether a split makes a pause, long enough to be idle, at such a place.
    fn has_pause(&self, config: &Config, place: impl Fn(usize, &SplitPlan) -> bool) -> bool {
        let Some(timeout) = self.effective_idle_timeout(config) else { return false };
        let makes_one = |split: &SplitPlan| {
            split.pauses.iter().any(|(before, ms)| *ms >= timeout && place(*before, split))
        };
        self.splits.iter().any(makes_one)
    }

    /// The largest watermark that a split may claim after `newest`.
    fn watermark_after(&self, newest: Timestamp) -> Timestamp {
        match self.watermarks {
            Watermarks::None => Timestamp::MIN,
            _ => newest.saturating_sub(self.bound_ms as i64).saturating_sub(1),
        }
    }

    /// The largest watermark before the end of all splits.
    pub fn ceiling(&self) -> Timestamp {
        let records = self.splits.iter().flat_map(|split| &split.records);
        records.map(|(_, at, _)| self.watermark_after(*at)).max().unwrap_or(Timestamp::MIN)
    }

    /// The records of a split as the reader returns them.
    pub fn records(&self, node: usize, split_idx: usize, config: &Config) -> Vec<Record> {
        let wakes = self.may_wake(config);
        let split = self.splits.get(split_idx).map(|split| split.records.as_slice()).unwrap_or_default();
        let mut newest = None;
        let records = split.iter().enumerate().map(|(seq, (key, timestamp, value))| {
            let horizon = newest.map_or(Timestamp::MIN, |newest| self.watermark_after(newest));
            newest = newest.max(Some(*timestamp));
            let mark = newest.map_or(Timestamp::MIN, |newest| self.watermark_after(newest));
            let punctuated =
                self.watermarks == Watermarks::Punctuated && mix(seq as u64, 77).is_multiple_of(3);
            Record {
                key: *key,
                timestamp: *timestamp,
                origin: (node * 16 + split_idx) as u32,
                seq: seq as u64,
                uid: ((node as u64 + 1) << 40) | ((split_idx as u64) << 32) | seq as u64,
                value: *value,
                aux: if punctuated { mark } else { Timestamp::MIN },
                horizon: if wakes { Timestamp::MAX } else { horizon },
                parts: Vec::new(),
            }
        });
        records.collect()
    }
}

impl Step {
    /// What a map makes of a record.
    pub fn map(self, mut record: Record) -> Record {
        match self {
            Self::Add(n) => record.value = record.value.wrapping_add(n),
            Self::Rekey(keys) => record.key = (mix(record.uid, 5) % u64::from(keys)) as u32,
            Self::Filter(_) | Self::Expand(_) => {}
        }
        record
    }

    /// Whether a filter keeps a record.
    pub fn keeps(self, record: &Record) -> bool {
        match self {
            Self::Filter(modulus) => record.value.rem_euclid(modulus) != 0,
            _ => true,
        }
    }

    /// What a flat map makes of a record.
    pub fn expand(self, record: Record) -> Vec<Record> {
        let Self::Expand(most) = self else { return vec![record] };
        let copies = (0..mix(record.uid, 9) % (most + 1)).map(|idx| Record {
            uid: mix(record.uid, idx),
            seq: record.seq * 4 + idx,
            value: record.value.wrapping_add(idx as i64),
            ..record.clone()
        });
        copies.collect()
    }
}

impl Windows {
    /// The gap after a record, of sessions.
    pub fn gap_ms(self, record: &Record) -> i64 {
        match self {
            Self::Session { gap_ms } => gap_ms,
            Self::DynamicSession { gap_ms, step_ms } => gap_ms + record.value.rem_euclid(4) * step_ms,
            Self::Tumbling { .. } | Self::Sliding { .. } => 0,
        }
    }

    /// Whether the windows are sessions.
    pub fn is_session(self) -> bool {
        matches!(self, Self::Session { .. } | Self::DynamicSession { .. })
    }
}

impl AsyncPlan {
    /// How long the call of a record takes; `None` for ever.
    pub fn delay_ms(&self, record: &Record) -> Option<u64> {
        let die = mix(record.uid, 31);
        (self.timeout_ms.is_none() || !die.is_multiple_of(7)).then(|| die % (self.delay_max_ms + 1))
    }

    /// How many calls of a record fail.
    pub fn failures(&self, record: &Record) -> u32 {
        if self.retry { (mix(record.uid, 32) % 3) as u32 } else { 0 }
    }
}
