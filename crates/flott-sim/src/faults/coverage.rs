//! What occurred in many runs: which faults in which phases, and what makes a run worth something.

use super::plan::{Action, FaultPlan, Phase, Unsynced};
use super::trial::FaultTrial;
use std::collections::BTreeMap;
use std::fmt;

/// Counts over many runs.
#[derive(Clone, Debug, Default)]
pub struct FaultCoverage {
    /// Runs.
    pub n_plans: u64,
    /// Faults that came, by phase and kind.
    pub fired: BTreeMap<(Phase, &'static str), u64>,
    /// Counters that must not stay at 0.
    pub counters: BTreeMap<&'static str, u64>,
    /// Runs by what they computed.
    pub shapes: BTreeMap<String, u64>,
}

impl FaultCoverage {
    pub(crate) fn add(&mut self, plan: &FaultPlan, trial: &FaultTrial) {
        self.n_plans += 1;
        for fired in &trial.fired {
            *self.fired.entry(*fired).or_default() += 1;
        }
        let shape = format!("{:?}", plan.job.shape);
        let shape = shape.split([' ', '{']).next().unwrap_or_default().to_owned();
        *self.shapes.entry(format!("{shape} to {:?}", plan.job.sink)).or_default() += 1;
        for (name, count) in [
            ("events", trial.n_events),
            ("processes", trial.n_lives),
            ("restarts inside of the last process", trial.n_restarts),
            ("restarts of a region inside of the last process", trial.n_region_restarts),
            ("commits compared with a durable checkpoint", trial.n_cuts),
            ("checkpoints whose state was compared with a replay", trial.n_states.0),
            ("entries of state compared", trial.n_states.1),
            ("snapshots restored without input and compared", trial.n_still),
            ("faults", trial.fired.len() as u64),
            ("runs with a second fault", u64::from(trial.fired.len() > 1)),
            ("savepoints that a job was started from", trial.n_savepoints),
            ("deaths when the job had ended unheard", trial.n_unreported),
            ("runs with unaligned checkpoints", u64::from(plan.job.unaligned_ms.is_some())),
            ("commits with records in flight in the checkpoint", trial.n_in_flight),
            ("processes that began with records in flight", trial.n_replays),
            ("processes that began with records in flight, rescaled", trial.n_rescaled_replays),
            ("commits with an incremental checkpoint", trial.n_increments),
            ("processes that began with an incremental checkpoint", trial.n_layered),
            ("runs at least once", u64::from(plan.job.at_least_once)),
        ] {
            *self.counters.entry(name).or_default() += count;
        }
    }

    /// Cells of the table that could have been hit and were not.
    pub fn empty_cells(&self) -> Vec<(Phase, &'static str)> {
        let cells =
            Phase::ALL.into_iter().flat_map(|phase| kinds().into_iter().map(move |action| (phase, action)));
        let empty = cells.filter(|(phase, action)| {
            action.fits(*phase) && !self.fired.contains_key(&(*phase, action.kind()))
        });
        empty.map(|(phase, action)| (phase, action.kind())).collect()
    }
}

/// One action of each kind, in the order of [`Action::KINDS`].
fn kinds() -> [Action; 15] {
    [
        Action::CrashAfter(Unsynced::Lost),
        Action::CrashAfter(Unsynced::Kept),
        Action::CrashAfter(Unsynced::Mixed(0)),
        Action::Fail,
        Action::FailAfter,
        Action::Panic,
        Action::Full(0),
        Action::Slow(0),
        Action::Clock(0),
        Action::Cancel,
        Action::Older,
        Action::Rescale(1),
        Action::Resume(1),
        Action::Savepoint,
        Action::Successor,
    ]
}

impl fmt::Display for FaultCoverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10}", "phase")?;
        for kind in Action::KINDS {
            write!(f, " {kind:>11}")?;
        }
        writeln!(f)?;
        for phase in Phase::ALL {
            write!(f, "{:<10}", format!("{phase:?}"))?;
            for action in kinds() {
                match self.fired.get(&(phase, action.kind())) {
                    Some(count) => write!(f, " {count:>11}")?,
                    None if action.fits(phase) => write!(f, " {:>11}", "EMPTY")?,
                    None => write!(f, " {:>11}", "-")?,
                }
            }
            writeln!(f)?;
        }
        for (name, count) in &self.counters {
            writeln!(f, "{count:>9} {name}")?;
        }
        for (name, count) in &self.shapes {
            writeln!(f, "{count:>9} {name}")?;
        }
        Ok(())
    }
}
