//! All crash points of a scenario, and all pairs of the smallest one. No sampling.
//!
//! A whole process leaves nothing behind but what is on the disk and in the destination, so two crashes between the same two changes of these are
//! the same crash: the points before and behind every event that changes them are all there are. What a process does not survive but a
//! job must, an error or a panic of user code, is tried at every event of user code; and at every event that changes something also that it
//! fails, and that it happens but says that it failed.

use super::plan::{Action, Fault, FaultPlan, Job, Phase, Shape, SinkKind, Unsynced};
use super::trial::{FaultTrial, try_faults};
use crate::check::Failure;
use std::collections::BTreeMap;

/// A scenario to be swept.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// The plan, with what belongs to the scenario: a rescale is a fault, too.
    pub plan: FaultPlan,
    /// Whether a second crash is tried everywhere behind the first.
    pub pairs: bool,
}

impl Scenario {
    /// All scenarios.
    pub fn all() -> Vec<Self> {
        let plan = |job: Job, faults: Vec<Fault>| FaultPlan { seed: 0, schedule: 1, job, faults };
        let rescale =
            |nth, parallelism| Fault { phase: Some(Phase::Read), nth, action: Action::Rescale(parallelism) };
        let smallest = Job {
            splits: 1,
            records: 5,
            chunk: 1,
            keys: 1,
            parallelism: 1,
            shape: Shape::Tumbling { size_ms: 20 },
            raw: false,
            interval_ms: 10,
            pause_ms: 16,
            ..Job::small()
        };
        let files = Job { sink: SinkKind::Files, ..Job::small() };
        let unchained = Job { chaining: false, shape: Shape::Timers { delay_ms: 5 }, ..Job::small() };
        let second =
            Job { second: Some(6), shape: Shape::Session { gap_ms: 21 }, retained: 2, ..Job::small() };
        let regions =
            Job { second: Some(6), apart: true, shape: Shape::Records, retained: 2, ..Job::small() };
        let increments = Job {
            incremental: true,
            shape: Shape::Timers { delay_ms: 5 },
            disk_memory: Some(0),
            retained: 2,
            ..Job::small()
        };
        let scenario = |name, plan, pairs| Self { name, plan, pairs };
        vec![
            scenario("windows", plan(Job::small(), Vec::new()), false),
            scenario("files", plan(files.clone(), Vec::new()), false),
            scenario("savepoint 2 to 3", plan(Job::small(), vec![rescale(5, 3)]), false),
            scenario("savepoint 2 to 1, files", plan(files, vec![rescale(6, 1)]), false),
            scenario("timers, unchained", plan(unchained, Vec::new()), false),
            scenario("two sources", plan(second, Vec::new()), false),
            scenario("regions", plan(regions, Vec::new()), false),
            scenario("increments", plan(increments, Vec::new()), false),
            scenario("smallest", plan(smallest, Vec::new()), true),
        ]
    }
}

/// What a sweep has tried.
#[derive(Clone, Debug, Default)]
pub struct SweepReport {
    /// Events of the undisturbed run.
    pub n_events: u64,
    /// Of these, changes of disk or destination.
    pub n_durable: u64,
    /// Commits of the undisturbed run.
    pub n_commits: u64,
    /// Runs with one fault.
    pub n_single: u64,
    /// Runs with two crashes.
    pub n_pairs: u64,
    /// Commits that were compared with a durable checkpoint, over all runs.
    pub n_cuts: u64,
    /// Processes, over all runs.
    pub n_lives: u64,
    /// Runs in which a process died when the job had ended and nobody knew.
    pub n_unreported: u64,
    /// Runs by phase and kind of the first fault.
    pub tried: BTreeMap<(Phase, &'static str), u64>,
}

impl SweepReport {
    fn add(&mut self, trial: &FaultTrial) {
        self.n_cuts += trial.n_cuts;
        self.n_lives += trial.n_lives;
        self.n_unreported += u64::from(trial.n_unreported > 0);
    }
}

/// What is tried at an event.
fn actions(phase: Phase) -> Vec<Action> {
    if phase.is_durable() {
        let mut actions = vec![
            Action::CrashBefore(Unsynced::Lost),
            Action::CrashBefore(Unsynced::Kept),
            Action::CrashAfter(Unsynced::Lost),
            Action::CrashAfter(Unsynced::Kept),
            Action::Fail,
            Action::FailAfter,
        ];
        if phase.is_disk() {
            actions.push(Action::CrashAfter(Unsynced::Mixed(1)));
        }
        return actions;
    }
    vec![Action::Fail, Action::Panic]
}

/// Sweeps a scenario.
///
/// # Errors
/// The plan that failed first, and how.
pub fn sweep(scenario: &Scenario) -> Result<SweepReport, Box<(FaultPlan, Failure)>> {
    let mut report = SweepReport::default();
    let attempt = |faults: Vec<Fault>, recorded: bool| {
        let faults = [scenario.plan.faults.clone(), faults].concat();
        let plan = FaultPlan { faults, ..scenario.plan.clone() };
        try_faults(&plan, recorded).map_err(|failure| Box::new((plan, failure)))
    };
    let undisturbed = attempt(Vec::new(), true)?;
    report.n_events = undisturbed.n_events;
    report.n_durable = undisturbed.events.iter().filter(|phase| phase.is_durable()).count() as u64;
    report.n_commits = undisturbed.n_checkpoints;
    report.add(&undisturbed);
    for (nth, phase) in (0..).zip(&undisturbed.events) {
        for action in actions(*phase) {
            let first = Fault { phase: None, nth, action };
            let is_crash = matches!(action, Action::CrashBefore(_) | Action::CrashAfter(_));
            // A crash before an event is one behind the event before it, and torn files are the single crashes' matter.
            let is_first = match action {
                Action::CrashAfter(unsynced) => !matches!(unsynced, Unsynced::Mixed(_)),
                _ => is_crash && nth == 0,
            };
            let with_pairs = scenario.pairs && is_first;
            let trial = attempt(vec![first], with_pairs)?;
            report.n_single += 1;
            *report.tried.entry((*phase, action.kind())).or_default() += 1;
            report.add(&trial);
            if !with_pairs {
                continue;
            }
            // Everything up to the first crash is as before. The recovery is over with the first manifest that the second process
            // publishes, or what it commits: crashes behind that are those of the undisturbed run again.
            let behind: Vec<_> = trial.events.iter().enumerate().skip(nth as usize + 1).collect();
            let over = behind.iter().position(|(_, phase)| matches!(phase, Phase::Manifest | Phase::Commit));
            let recovery = behind.into_iter().take(over.map_or(usize::MAX, |over| over + 1));
            for (second, _) in recovery.filter(|(_, phase)| phase.is_durable()) {
                for unsynced in [Unsynced::Lost, Unsynced::Kept] {
                    let action = Action::CrashAfter(unsynced);
                    let second = Fault { phase: None, nth: second as u64, action };
                    let trial = attempt(vec![first, second], false)?;
                    report.n_pairs += 1;
                    report.add(&trial);
                }
            }
        }
    }
    Ok(report)
}
