//! Which cases there are.

use super::SourceEvent;
use std::collections::BTreeMap;

/// How many records a reader is asked for at once.
pub(super) const BATCHES: [usize; 3] = [1, 3, 100];
/// Readers before a restart and behind it.
const PARALLELISMS: [(u32, u32); 4] = [(2, 3), (3, 1), (1, 2), (2, 2)];

/// What a case does when the readers were polled so many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// Nothing.
    Undisturbed,
    /// The end of a bounded source is behind positions without records.
    GapAtEnd,
    /// A snapshot, so many more calls that are lost, and a restart; and another, before anything was read.
    Restart { lost: u64 },
    /// As above, and the outside changes while the job is down.
    ChangeWhileDown,
    /// As above, and the outside does not know of all partitions when the job comes back.
    IncompleteMetadata,
    /// One reader is started again, from a checkpoint so many calls ago. It gets its splits again.
    ReaderRestart { since: u64 },
    /// As above, and its splits go back to the enumerator.
    GiveBack { since: u64 },
    /// Splits are given back, and the enumerator's snapshot has them.
    RestartWithUnassigned,
    /// All splits are paused, and go on.
    Pause,
    /// Of each reader the first split is paused, and the job restarts meanwhile.
    RestartWhilePaused,
    /// A split is ended.
    EndSplit,
    /// New partitions appear while the job runs.
    Discovery,
    /// Connections break.
    Disconnect,
    /// The machine fails.
    PowerFailure,
    /// The job dies before its first checkpoint is complete.
    DeathBeforeFirstCheckpoint,
    /// The job dies when the first checkpoint is complete and before anything was read.
    DeathBehindFirstCheckpoint,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceCase {
    pub(super) script: Script,
    pub(super) batch: usize,
    /// Calls before it happens.
    pub(super) after: u64,
    pub(super) parallelism: u32,
    pub(super) parallelism_then: u32,
}

impl SourceCase {
    pub(super) fn undisturbed(batch: usize) -> Self {
        Self { script: Script::Undisturbed, batch, after: 0, parallelism: 2, parallelism_then: 2 }
    }

    pub(super) fn name(&self) -> String {
        let what = match self.script {
            Script::Undisturbed => return format!("undisturbed/batch-{}", self.batch),
            Script::GapAtEnd => "gap-at-end".to_owned(),
            Script::Restart { lost } => format!("restart/lost-{lost}"),
            Script::ChangeWhileDown => "change-while-down".to_owned(),
            Script::IncompleteMetadata => "incomplete-metadata".to_owned(),
            Script::ReaderRestart { since } => format!("reader-restart/since-{since}"),
            Script::GiveBack { since } => format!("give-back/since-{since}"),
            Script::RestartWithUnassigned => "restart-with-unassigned".to_owned(),
            Script::Pause => "pause".to_owned(),
            Script::RestartWhilePaused => "restart-while-paused".to_owned(),
            Script::EndSplit => "end-split".to_owned(),
            Script::Discovery => "discovery".to_owned(),
            Script::Disconnect => "disconnect".to_owned(),
            Script::PowerFailure => "power-failure".to_owned(),
            Script::DeathBeforeFirstCheckpoint => "death-before-first-checkpoint".to_owned(),
            Script::DeathBehindFirstCheckpoint => "death-behind-first-checkpoint".to_owned(),
        };
        let Self { batch, after, parallelism, parallelism_then, .. } = self;
        format!("{what}/after-{after}/batch-{batch}/{parallelism}-to-{parallelism_then}")
    }
}

/// What is known from the cases that nothing disturbs.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// By batch, the calls until everything is read.
    pub(super) n_polls: BTreeMap<usize, u64>,
    pub(super) events: Vec<SourceEvent>,
}

impl Measured {
    fn has(&self, event: SourceEvent) -> bool {
        self.events.contains(&event)
    }

    pub(super) fn left_out(&self) -> Vec<String> {
        let all = [
            (SourceEvent::AddPartition, "partitions that appear"),
            (SourceEvent::HideMetadata, "incomplete metadata"),
            (SourceEvent::Disconnect, "broken connections"),
            (SourceEvent::GapAtEnd, "positions without records at the end"),
            (SourceEvent::PowerFailure, "power failures"),
        ];
        all.iter().filter(|(event, _)| !self.has(*event)).map(|(_, what)| (*what).to_owned()).collect()
    }

    fn scripts(&self) -> Vec<Script> {
        let mut scripts = vec![
            Script::Restart { lost: 0 },
            Script::Restart { lost: 2 },
            Script::ChangeWhileDown,
            Script::ReaderRestart { since: 0 },
            Script::ReaderRestart { since: 1 },
            Script::ReaderRestart { since: 4 },
            Script::GiveBack { since: 0 },
            Script::GiveBack { since: 3 },
            Script::RestartWithUnassigned,
            Script::Pause,
            Script::RestartWhilePaused,
            Script::EndSplit,
        ];
        let more = [
            (SourceEvent::AddPartition, Script::Discovery),
            (SourceEvent::HideMetadata, Script::IncompleteMetadata),
            (SourceEvent::Disconnect, Script::Disconnect),
            (SourceEvent::PowerFailure, Script::PowerFailure),
        ];
        scripts.extend(more.iter().filter(|(event, _)| self.has(*event)).map(|(_, script)| *script));
        scripts
    }
}

/// All cases, the simplest first.
pub(super) fn cases(measured: &Measured) -> Vec<SourceCase> {
    let mut cases: Vec<SourceCase> = BATCHES.iter().map(|batch| SourceCase::undisturbed(*batch)).collect();
    for (parallelism, parallelism_then) in PARALLELISMS {
        let first = |script| SourceCase { script, batch: 3, after: 0, parallelism, parallelism_then };
        cases.push(first(Script::DeathBeforeFirstCheckpoint));
        cases.push(first(Script::DeathBehindFirstCheckpoint));
        if measured.has(SourceEvent::GapAtEnd) {
            cases.push(first(Script::GapAtEnd));
        }
    }
    for script in measured.scripts() {
        for (batch, n_polls) in &measured.n_polls {
            for after in 0..=n_polls + 1 {
                // Each number of calls with one change of parallelism.
                let (parallelism, parallelism_then) =
                    PARALLELISMS[(after as usize + batch) % PARALLELISMS.len()];
                cases.push(SourceCase { script, batch: *batch, after, parallelism, parallelism_then });
            }
        }
    }
    cases
}
