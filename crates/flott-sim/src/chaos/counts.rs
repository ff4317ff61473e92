//! What was done to processes, and what came of it.

use super::point::{Side, Step};
use super::watch::{Seen, Wrong};
use std::collections::BTreeMap;
use std::fmt;

/// Something that is done to a running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Strike {
    Kill,
    /// As soon as it was started.
    KillEarly,
    KillAtPoint,
    /// Stopped, replaced, and let go on.
    Zombie,
    /// The same at a point.
    ZombieAtPoint,
    /// Halted at a point, not stopped: two processes run the job at once.
    TwinAtPoint,
    /// Stopped and let go on, without a successor.
    Pause,
    DiskFull,
    ClockJump,
    Savepoint,
    /// Stopped with a savepoint and started from it at another parallelism.
    StopWithSavepoint,
    /// Cancelled and started from the newest checkpoint.
    Cancel,
}

impl Strike {
    pub(crate) const ALL: [Self; 12] = [
        Self::Kill,
        Self::KillEarly,
        Self::KillAtPoint,
        Self::Zombie,
        Self::ZombieAtPoint,
        Self::TwinAtPoint,
        Self::Pause,
        Self::DiskFull,
        Self::ClockJump,
        Self::Savepoint,
        Self::StopWithSavepoint,
        Self::Cancel,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 at random",
            Self::KillEarly => "kill -9 at the start",
            Self::KillAtPoint => "kill -9 at a point",
            Self::Zombie => "zombie: SIGSTOP, successor, SIGCONT",
            Self::ZombieAtPoint => "zombie, stopped at a point",
            Self::TwinAtPoint => "successor of a live process",
            Self::Pause => "SIGSTOP, SIGCONT",
            Self::DiskFull => "disk full",
            Self::ClockJump => "clock jump",
            Self::Savepoint => "savepoint",
            Self::StopWithSavepoint => "stop with savepoint, rescale",
            Self::Cancel => "cancel, start from checkpoint",
        }
    }

    /// Whether it is something that goes wrong, not something that people do.
    pub(crate) fn is_fault(self) -> bool {
        !matches!(self, Self::Savepoint | Self::StopWithSavepoint | Self::Cancel)
    }
}

/// How often a process was struck at a point: killed, or replaced.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AtPoint {
    pub(crate) n_killed: u64,
    pub(crate) n_replaced: u64,
}

/// Sums over all rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) strikes: BTreeMap<Strike, u64>,
    pub(crate) points: BTreeMap<(Step, Side), AtPoint>,
    pub(crate) n_rounds: u64,
    pub(crate) n_starts: u64,
    pub(crate) n_checkpoints: u64,
    /// Processes that were taken over and noticed.
    pub(crate) n_fenced: u64,
    /// Jobs that had ended when their process died, and nobody had heard of it.
    pub(crate) n_unheard: u64,
    /// Starts that were refused at one parallelism and went on at another.
    pub(crate) n_refused: u64,
    /// Processes that failed because the disk was full.
    pub(crate) n_failed_full: u64,
    pub(crate) seen: Seen,
}

impl Counts {
    pub(crate) fn strike(&mut self, strike: Strike) {
        *self.strikes.entry(strike).or_default() += 1;
    }

    pub(crate) fn n_faults(&self) -> u64 {
        self.strikes.iter().filter(|(strike, _)| strike.is_fault()).map(|(_, n)| n).sum()
    }

    /// Adds those of a round.
    pub(crate) fn add(&mut self, other: &Self) {
        for (strike, n) in &other.strikes {
            *self.strikes.entry(*strike).or_default() += n;
        }
        for (point, of_other) in &other.points {
            let at = self.points.entry(*point).or_default();
            at.n_killed += of_other.n_killed;
            at.n_replaced += of_other.n_replaced;
        }
        self.n_rounds += other.n_rounds;
        self.n_starts += other.n_starts;
        self.n_checkpoints += other.n_checkpoints;
        self.n_fenced += other.n_fenced;
        self.n_unheard += other.n_unheard;
        self.n_refused += other.n_refused;
        self.n_failed_full += other.n_failed_full;
        self.add_seen(&other.seen);
    }

    pub(crate) fn add_seen(&mut self, seen: &Seen) {
        let all = &mut self.seen;
        all.n_looks += seen.n_looks;
        all.n_compared += seen.n_compared;
        all.n_unreadable += seen.n_unreadable;
        all.n_rows += seen.n_rows;
        all.n_hidden += seen.n_hidden;
        for (wrong, n) in &seen.n_wrong {
            *all.n_wrong.entry(*wrong).or_default() += n;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24} {:>8} {:>8} {:>8} {:>8}", "point", "killed", "behind", "replaced", "behind")?;
        for step in Step::all() {
            let at = |side| self.points.get(&(step, side)).copied().unwrap_or_default();
            let (before, behind) = (at(Side::Before), at(Side::Behind));
            writeln!(
                f,
                "{step:<24} {:>8} {:>8} {:>8} {:>8}",
                before.n_killed, behind.n_killed, before.n_replaced, behind.n_replaced
            )?;
        }
        for strike in Strike::ALL {
            let n = self.strikes.get(&strike).copied().unwrap_or_default();
            writeln!(f, "{:>6} {}{}", n, strike.name(), if strike.is_fault() { "" } else { " (no fault)" })?;
        }
        let Seen { n_looks, n_compared, n_unreadable, n_rows, n_hidden, n_wrong, .. } = &self.seen;
        writeln!(
            f,
            "{} faults in {} jobs: {} starts, {} checkpoints written, {} processes fenced off, {} failed on a full disk, {} refused a \
             parallelism, {} ended unheard",
            self.n_faults(),
            self.n_rounds,
            self.n_starts,
            self.n_checkpoints,
            self.n_fenced,
            self.n_failed_full,
            self.n_refused,
            self.n_unheard
        )?;
        let n = |wrong| n_wrong.get(&wrong).copied().unwrap_or_default();
        write!(
            f,
            "{n_rows} rows committed; readers have looked {n_looks} times, {n_compared} of them compared with a checkpoint, {n_unreadable} in \
             vain; {n_hidden} hidden files left; {} lost, {} doubled, {} phantom",
            n(Wrong::Lost),
            n(Wrong::Doubled),
            n(Wrong::Phantom)
        )
    }
}
