//! A job and the faults that it meets, as data.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A job with its faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPlan {
    /// The seed that it was made from; 0 for one that was written by hand.
    pub seed: u64,
    /// Decides what the simulated worlds leave to chance; each life has a world of its own.
    pub schedule: u64,
    /// What runs.
    pub job: Job,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// A program, its input and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Splits of the source.
    pub splits: u32,
    /// Records of each split.
    pub records: u64,
    /// Records of the one split of a second source, if there is one.
    pub second: Option<u64>,
    /// Whether the second source has a pipeline of its own up to the sink, with which the rest has nothing to do.
    #[serde(default)]
    pub apart: bool,
    /// Records that one call of a reader returns at most.
    pub chunk: u64,
    /// The longest pause of a reader.
    pub pause_ms: u64,
    /// Number of keys.
    pub keys: u32,
    /// Event time between records of a split.
    pub pace_ms: i64,
    /// How far out of order records come.
    pub disorder_ms: i64,
    /// What is computed.
    pub shape: Shape,
    /// Whether records also go straight to the sink.
    pub raw: bool,
    /// Where results go.
    pub sink: SinkKind,
    /// Subtasks of every operator.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Whether operators are chained.
    pub chaining: bool,
    /// An exchange in turn behind the source.
    pub rebalance: bool,
    /// Records in a batch.
    pub batch_size: u32,
    /// Bytes in flight into a subtask.
    pub gate_bytes: u64,
    /// `execution.checkpointing.interval`
    pub interval_ms: u64,
    /// `execution.checkpointing.timeout`
    pub timeout_ms: u64,
    /// `execution.checkpointing.min-pause`
    pub min_pause_ms: u64,
    /// `execution.checkpointing.max-concurrent-checkpoints`
    pub concurrent: u32,
    /// `execution.checkpointing.num-retained`
    pub retained: u32,
    /// `execution.checkpointing.tolerable-failed-checkpoints`
    pub tolerable: u32,
    /// `state.backend.snapshot-places-per-step`: tables here have a few dozens.
    #[serde(default = "few_places")]
    pub snapshot_places: u32,
    /// `execution.state-recovery.claim-mode` is CLAIM: what it starts from is its own, and goes.
    #[serde(default)]
    pub claims: bool,
    /// `state.backend.snapshot-section-size`: a few entries, or more than there are.
    #[serde(default = "small_sections")]
    pub section_bytes: u64,
    /// `state.backend.disk.memory` of a job whose keyed state is on disk.
    #[serde(default)]
    pub disk_memory: Option<u64>,
    /// `execution.checkpointing.mode` is at-least-once: nothing may be missing, but records may come twice.
    pub at_least_once: bool,
    /// `execution.checkpointing.unaligned.enabled`, with `aligned-checkpoint-timeout`.
    #[serde(default)]
    pub unaligned_ms: Option<u64>,
    /// `execution.checkpointing.incremental`
    #[serde(default)]
    pub incremental: bool,
    /// Rows wait for something slow, for so long at most, before the sink: what is before that is pushed back.
    #[serde(default)]
    pub slow_ms: Option<u64>,
}

const fn few_places() -> u32 {
    1
}

const fn small_sections() -> u64 {
    16
}

/// What a job computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Nothing: records as they are.
    Records,
    /// The records of a key in windows.
    Tumbling {
        /// Length.
        size_ms: i64,
    },
    /// The same, overlapping.
    Sliding {
        /// Length.
        size_ms: i64,
        /// Distance.
        slide_ms: i64,
    },
    /// The same, until none comes for so long; odd, while all timestamps are even, so that no two sessions touch.
    Session {
        /// The gap.
        gap_ms: i64,
    },
    /// Records of a key and a timestamp, by a function with map state and timers.
    Timers {
        /// How much later the timer is.
        delay_ms: i64,
    },
    /// The running count of a key within its split.
    Counts,
}

/// Where results go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkKind {
    /// A store with transactions that outlives every process.
    Store,
    /// Files on the simulated disk.
    Files,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// At an event of which phase; any if `None`.
    pub phase: Option<Phase>,
    /// At which of these, counted from 0 over all lives.
    pub nth: u64,
    /// What happens.
    pub action: Action,
}

/// What a job is doing when an event occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// An `owner-` record, or its directory, is written.
    Ownership,
    /// A part or a manifest under its temporary name.
    Upload,
    /// A manifest becomes visible or durable.
    Manifest,
    /// Old checkpoints and garbage are deleted.
    Cleanup,
    /// The sink's files.
    SinkFile,
    /// Keyed state that is not in memory.
    LocalState,
    /// A reader returns records.
    Read,
    /// A function sees a record.
    Process,
    /// A result leaves the operator.
    Fire,
    /// The sink's writer takes records.
    Write,
    /// The sink's writer prepares a transaction.
    Prepare,
    /// The sink's writer is started or restored.
    Restore,
    /// The sink's transactions are committed.
    Commit,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Ownership,
        Self::Upload,
        Self::Manifest,
        Self::Cleanup,
        Self::SinkFile,
        Self::LocalState,
        Self::Read,
        Self::Process,
        Self::Fire,
        Self::Write,
        Self::Prepare,
        Self::Restore,
        Self::Commit,
    ];

    /// Whether the event is an operation on the disk.
    pub fn is_disk(self) -> bool {
        matches!(self, Self::LocalState) || self.is_file_that_stays()
    }

    fn is_file_that_stays(self) -> bool {
        matches!(self, Self::Ownership | Self::Upload | Self::Manifest | Self::Cleanup | Self::SinkFile)
    }

    /// Whether the event changes anything that outlives the process.
    pub fn is_durable(self) -> bool {
        self.is_file_that_stays() || matches!(self, Self::Prepare | Self::Commit)
    }
}

/// What the disk keeps of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unsynced {
    /// Nothing.
    Lost,
    /// All: the process was killed, the machine goes on.
    Kept,
    /// Some of it, torn.
    Mixed(u64),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// The process dies before the event.
    CrashBefore(Unsynced),
    /// The process dies behind the event.
    CrashAfter(Unsynced),
    /// The event does not happen, and says so.
    Fail,
    /// The event happens, and says that it did not.
    FailAfter,
    /// The code panics.
    Panic,
    /// The disk is full for so many operations.
    Full(u64),
    /// Storage takes so much longer, once.
    Slow(u64),
    /// The wall clock jumps by so many milliseconds.
    Clock(i64),
    /// Somebody cancels the job and starts it again from its newest retained checkpoint.
    Cancel,
    /// Somebody cancels the job, takes the destination back to an older retained checkpoint, and starts from that.
    Older,
    /// Somebody stops the job with a savepoint and starts it from that with so many subtasks.
    Rescale(u32),
    /// Somebody cancels the job and starts it again from its newest retained checkpoint with so many subtasks.
    Resume(u32),
    /// Somebody takes a savepoint, and the job goes on.
    Savepoint,
    /// Somebody takes the job for dead and starts it a second time, while the first goes on.
    Successor,
}

impl Action {
    /// Its kind, for tables.
    pub fn kind(self) -> &'static str {
        match self {
            Self::CrashBefore(Unsynced::Lost) | Self::CrashAfter(Unsynced::Lost) => "crash/lost",
            Self::CrashBefore(Unsynced::Kept) | Self::CrashAfter(Unsynced::Kept) => "crash/kept",
            Self::CrashBefore(Unsynced::Mixed(_)) | Self::CrashAfter(Unsynced::Mixed(_)) => "crash/mixed",
            Self::Fail => "error",
            Self::FailAfter => "reply lost",
            Self::Panic => "panic",
            Self::Full(_) => "disk full",
            Self::Slow(_) => "slow",
            Self::Clock(_) => "clock",
            Self::Cancel => "cancel",
            Self::Older => "older",
            Self::Rescale(_) => "rescale",
            Self::Resume(_) => "resume",
            Self::Savepoint => "savepoint",
            Self::Successor => "successor",
        }
    }

    /// All kinds.
    pub const KINDS: [&'static str; 15] = [
        "crash/lost",
        "crash/kept",
        "crash/mixed",
        "error",
        "reply lost",
        "panic",
        "disk full",
        "slow",
        "clock",
        "cancel",
        "older",
        "rescale",
        "resume",
        "savepoint",
        "successor",
    ];

    /// Whether it can happen in a phase; the coverage table has no cell where it cannot.
    pub fn fits(self, phase: Phase) -> bool {
        match self {
            Self::Panic => !phase.is_disk(),
            Self::Full(_) | Self::Slow(_) => phase.is_disk(),
            Self::FailAfter => phase.is_durable() || matches!(phase, Phase::Write | Phase::Restore),
            Self::CrashBefore(_)
            | Self::CrashAfter(_)
            | Self::Fail
            | Self::Clock(_)
            | Self::Cancel
            | Self::Older
            | Self::Rescale(_)
            | Self::Resume(_)
            | Self::Savepoint
            | Self::Successor => true,
        }
    }
}

impl Job {
    /// A small job with ordinary settings.
    pub fn small() -> Self {
        Self {
            splits: 2,
            records: 24,
            second: None,
            apart: false,
            chunk: 3,
            pause_ms: 9,
            keys: 3,
            pace_ms: 10,
            disorder_ms: 20,
            shape: Shape::Tumbling { size_ms: 40 },
            raw: true,
            sink: SinkKind::Store,
            parallelism: 2,
            max_parallelism: 16,
            chaining: true,
            rebalance: false,
            snapshot_places: 1,
            claims: false,
            section_bytes: 16,
            disk_memory: None,
            batch_size: 16,
            gate_bytes: 1 << 20,
            interval_ms: 10,
            timeout_ms: 60_000,
            min_pause_ms: 0,
            concurrent: 1,
            retained: 1,
            tolerable: 0,
            at_least_once: false,
            unaligned_ms: None,
            incremental: false,
            slow_ms: None,
        }
    }
}

impl FaultPlan {
    /// The complete plan as one line that [`FaultPlan::from_json`] reads.
    ///
    /// # Panics
    /// Never: all that a plan holds can be written.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a plan has only numbers, lists and names")
    }

    /// Reads what [`FaultPlan::to_json`] wrote.
    ///
    /// # Errors
    /// If the text is no plan.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("not a plan of faults: {error}"))
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} schedule {}\n  {:?}", self.seed, self.schedule, self.job)?;
        for Fault { phase, nth, action } in &self.faults {
            match phase {
                Some(phase) => writeln!(f, "  at {phase:?} #{nth}: {action:?}")?,
                None => writeln!(f, "  at event #{nth}: {action:?}")?,
            }
        }
        Ok(())
    }
}
