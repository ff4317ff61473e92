//! Many random plans of faults, one after the other, on all cores.

use super::coverage::FaultCoverage;
use super::generate::generate_faults;
use super::plan::FaultPlan;
use super::trial::try_faults;
use crate::check::Failure;
use crate::record::mix;
use flott_env::{Env, Instant};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One in so many plans runs twice, to see that it repeats exactly.
const REPEATED_ONE_IN: u64 = 100;

/// Plans to be tried.
#[derive(Clone, Copy, Debug)]
pub struct FaultCampaign {
    /// The first seed; the others follow from it.
    pub first: u64,
    /// Seeds.
    pub seeds: u64,
    /// Ends after this time, whatever is left.
    pub time: Duration,
    /// Threads.
    pub jobs: usize,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct FaultReport {
    /// What occurred.
    pub coverage: FaultCoverage,
    /// The first failure.
    pub failure: Option<(FaultPlan, Failure)>,
    /// How long it took.
    pub elapsed: Duration,
}

struct Shared {
    started: Instant,
    next: u64,
    report: FaultReport,
}

impl FaultCampaign {
    /// The seed number `n`. The first is the first itself, so that one seed is replayed by its own number.
    pub fn seed(&self, n: u64) -> u64 {
        if n == 0 { self.first } else { mix(self.first, n) }
    }

    /// Tries seeds until one fails, or none is left, or the time is over.
    pub fn run(&self, env: &Env) -> FaultReport {
        let campaign = *self;
        let shared =
            Arc::new(Mutex::new(Shared { started: env.now(), next: 0, report: FaultReport::default() }));
        let workers: Vec<_> = (0..self.jobs.max(1))
            .map(|job| {
                let (shared, clock) = (Arc::clone(&shared), env.clone());
                env.spawn_subtask(&format!("faults {job}"), async move { work(campaign, &clock, &shared) })
            })
            .collect();
        env.block_on(async move {
            for worker in workers {
                // A panic of a plan is caught where it runs, and there is no other.
                drop(worker.await);
            }
        });
        let shared = lock(&shared);
        FaultReport { elapsed: env.now() - shared.started, ..shared.report.clone() }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(campaign: FaultCampaign, clock: &Env, shared: &Mutex<Shared>) {
    loop {
        let n = {
            let mut shared = lock(shared);
            let is_over = clock.now() - shared.started >= campaign.time || shared.next >= campaign.seeds;
            if is_over || shared.report.failure.is_some() {
                return;
            }
            shared.next += 1;
            shared.next - 1
        };
        let plan = generate_faults(campaign.seed(n));
        let mut tried = try_faults(&plan, false);
        if let (Ok(trial), true) = (&tried, n.is_multiple_of(REPEATED_ONE_IN))
            && try_faults(&plan, false).as_ref() != Ok(trial)
        {
            tried = Err(Failure::Unstable("the same plan has run in two ways".to_owned()));
        }
        let mut shared = lock(shared);
        match tried {
            Ok(trial) => shared.report.coverage.add(&plan, &trial),
            Err(failure) => drop(shared.report.failure.get_or_insert((plan, failure))),
        }
    }
}
