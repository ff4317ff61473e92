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
    within("skip-directory-sync", 1_500),
    within("skip-file-sync", 1_500),
    within("acknowledge-before-durable", 500),
    within("ignore-fencing", 1_500),
    within("collect-live-parts", 1_500),
    within("wrong-key-group-ranges", 1_500),
    within("forget-timers", 1_500),
    within("commit-before-manifest", 500),
    within("subsume-newest", 1_500),
    within("discard-unresolved", 1_500),
    within("forget-one-acknowledgement", 500),
    within("restore-oldest", 1_500),
    within("lose-enumerator-state", 500),
    within("reuse-checkpoint-ids", 500),
    within("never-block", 500),
    within("align-first-channel-only", 500),
    within("drop-committables-at-end", 500),
    within("commit-when-prepared", 500),
    within("finish-before-commit", 1_500),
    within("forget-restored-committables", 1_500),
    within("swallow-commit-errors", 1_500),
    within("restore-watermark-too-far", 1_500),
    within("stale-positions", 500),
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
