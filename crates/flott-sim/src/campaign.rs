//! Many seeds, one after the other, on all cores.

use crate::check::Failure;
use crate::coverage::Coverage;
use crate::plan::{Plan, generate};
use crate::record::mix;
use crate::trial::{Trial, try_plan};
use flott_env::{Env, Instant};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One in so many plans runs twice, to see that it repeats exactly.
const REPEATED_ONE_IN: u64 = 50;

/// When a campaign ends.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After so many seeds.
    Seeds(u64),
    /// After this time.
    Time(Duration),
}

/// Seeds to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed; the others follow from it.
    pub first: u64,
    /// When it ends.
    pub limit: Limit,
    /// Threads.
    pub jobs: usize,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct CampaignReport {
    /// What occurred.
    pub coverage: Coverage,
    /// The failures, by the place of their seed in the campaign.
    pub failures: BTreeMap<u64, (Plan, Failure)>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Campaign {
    /// The seed number `n`. The first is the first itself, so that one seed is replayed by its own number.
    pub fn seed(&self, n: u64) -> u64 {
        if n == 0 { self.first } else { mix(self.first, n) }
    }

    /// Tries all seeds; `progress` is called now and then with the report so far. Ends early after a failure.
    pub fn run(
        &self,
        env: &Env,
        progress: impl Fn(&CampaignReport) + Send + Sync + 'static,
    ) -> CampaignReport {
        let campaign = *self;
        let shared =
            Arc::new(Shared { started: env.now(), next: AtomicU64::new(0), report: Mutex::default() });
        let progress = Arc::new(progress);
        let workers = (0..self.jobs.max(1)).map(|job| {
            let (shared, progress, clock) = (Arc::clone(&shared), Arc::clone(&progress), env.clone());
            env.spawn_subtask(&format!("simulation {job}"), async move {
                while let Some(n) = shared.take(&campaign, clock.now()) {
                    let plan = generate(campaign.seed(n));
                    let tried = try_plan(&plan, n.is_multiple_of(REPEATED_ONE_IN));
                    let mut report = shared.report();
                    report.note(n, plan, tried);
                    report.elapsed = clock.now() - shared.started;
                    progress(&report);
                }
            })
        });
        let workers: Vec<_> = workers.collect();
        let panics = env.block_on(async move {
            let mut panics = Vec::new();
            for worker in workers {
                panics.extend(worker.await.err());
            }
            panics
        });
        let mut report = shared.report().clone();
        report.elapsed = env.now() - shared.started;
        if let Some(panic) = panics.first() {
            let n = shared.next.load(Ordering::Relaxed).saturating_sub(1);
            let plan = generate(self.seed(n));
            report.failures.insert(
                n,
                (plan, Failure::Panicked(format!("the simulator itself, about here: {}", panic.0))),
            );
        }
        report
    }
}

impl CampaignReport {
    fn note(&mut self, n: u64, plan: Plan, tried: Result<Trial, Failure>) {
        match tried {
            Ok(trial) => self.coverage.add(&plan, &trial),
            Err(failure) => drop(self.failures.insert(n, (plan, failure))),
        }
    }

    /// Seeds tried.
    pub fn n_tried(&self) -> u64 {
        self.coverage.plans() + self.failures.len() as u64
    }
}

/// What the threads of a campaign share.
struct Shared {
    started: Instant,
    next: AtomicU64,
    report: Mutex<CampaignReport>,
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, CampaignReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next seed's number, if there is any more to try.
    fn take(&self, campaign: &Campaign, now: Instant) -> Option<u64> {
        if !self.report().failures.is_empty() {
            return None;
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let goes_on = match campaign.limit {
            Limit::Seeds(seeds) => n < seeds,
            Limit::Time(time) => now - self.started < time,
        };
        goes_on.then_some(n)
    }
}
