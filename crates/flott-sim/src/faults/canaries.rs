//! Deliberate bugs of the engine, each of which must be noticed within its budget.

use super::generate::generate_faults;
use super::plan::FaultPlan;
use super::sweep::{Scenario, sweep};
use super::trial::try_faults;
use crate::check::Failure;
use crate::record::mix;
use flott_env::canary;

/// A deliberate bug and who is to notice it.
#[derive(Clone, Copy, Debug)]
pub struct Canary {
    /// Its name in the engine.
    pub name: &'static str,
    /// Random plans that it may survive.
    pub seeds: u64,
}

const fn within(name: &'static str, seeds: u64) -> Canary {
    Canary { name, seeds }
}

/// All of them.
pub const CANARIES: &[Canary] = &[
    within("skip-directory-sync", 100),
    within("skip-file-sync", 100),
    within("acknowledge-before-durable", 100),
    within("ignore-fencing", 100),
    within("collect-live-parts", 100),
    within("wrong-key-group-ranges", 100),
    within("forget-timers", 100),
    within("commit-before-manifest", 100),
    within("subsume-newest", 100),
    within("forget-one-acknowledgement", 100),
    within("restore-oldest", 100),
    within("lose-enumerator-state", 100),
    within("never-block", 100),
    within("align-first-channel-only", 100),
    within("drop-committables-at-end", 100),
    within("commit-when-prepared", 100),
    within("finish-before-commit", 100),
    within("forget-restored-committables", 100),
    within("swallow-commit-errors", 100),
    within("restore-watermark-too-far", 100),
    within("forget-split-watermarks", 1_000),
    within("forget-event-time", 100),
    within("stale-positions", 100),
    within("forget-what-changes-during-a-sweep", 100),
    within("forget-output-in-flight", 100),
    within("forget-input-in-flight", 100),
    within("record-behind-the-barrier", 100),
    within("in-flight-to-wrong-subtask", 8_000),
    within("forget-event-time-of-key-groups", 4_000),
    within("delete-what-others-go-on-from", 200),
    within("forget-removed-keys", 2_000),
    within("forget-changes-that-leave-memory", 2_000),
    within("forget-dropped-slices", 2_000),
    within("forget-closed-slices", 4_000),
];

/// How a canary was noticed.
#[derive(Clone, Debug)]
pub struct Caught {
    /// Random plans that were tried before, or `None` if the sweep has noticed it.
    pub after_seeds: Option<u64>,
    /// What was seen.
    pub failure: Failure,
    /// Of which plan.
    pub plan: FaultPlan,
}

/// Looks for the bug that is on: with random plans, and if these do not notice it with the sweep. `None` if it is not noticed.
pub fn catch(of: &Canary, first: u64) -> Option<Caught> {
    assert!(canary(of.name), "{} is not on: build with --features canaries", of.name);
    for n in 0..of.seeds {
        let plan = generate_faults(mix(first, n));
        if let Err(failure) = try_faults(&plan, false) {
            return Some(Caught { after_seeds: Some(n), failure, plan });
        }
    }
    Scenario::all().iter().filter(|scenario| !scenario.pairs).find_map(|scenario| {
        let (plan, failure) = *sweep(scenario).err()?;
        Some(Caught { after_seeds: None, failure, plan })
    })
}
