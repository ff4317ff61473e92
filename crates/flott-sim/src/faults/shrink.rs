//! A smaller plan that fails, too: fewer faults first, then less of everything.

use super::plan::{FaultPlan, Job, Shape};
use super::trial::try_faults;
use crate::check::Failure;

/// Schedules that are tried for each smaller plan: a race may need another one there.
const SCHEDULES: u64 = 3;

/// Looks for the smallest plan that fails, by greedy steps.
pub fn shrink_faults(plan: &FaultPlan, failure: &Failure, tries: usize) -> (FaultPlan, Failure) {
    let (mut best, mut how) = (plan.clone(), failure.clone());
    let mut left = tries;
    'next: loop {
        for smaller in smaller(&best) {
            for schedule in 0..SCHEDULES {
                if left == 0 {
                    return (best, how);
                }
                left -= 1;
                let candidate =
                    FaultPlan { schedule: best.schedule.wrapping_add(schedule), ..smaller.clone() };
                if let Err(failure) = try_faults(&candidate, false) {
                    (best, how) = (candidate, failure);
                    continue 'next;
                }
            }
        }
        return (best, how);
    }
}

fn smaller(plan: &FaultPlan) -> Vec<FaultPlan> {
    let mut candidates = Vec::new();
    for idx in 0..plan.faults.len() {
        let mut fewer = plan.clone();
        fewer.faults.remove(idx);
        candidates.push(fewer);
    }
    let job = &plan.job;
    let plain = Job::small();
    let variants = [
        Job { second: None, ..job.clone() },
        Job { raw: false, ..job.clone() },
        Job { records: job.records / 2, ..job.clone() },
        Job { records: job.records.saturating_sub(1), ..job.clone() },
        Job { splits: (job.splits - 1).max(1), ..job.clone() },
        Job { keys: 1, ..job.clone() },
        Job { parallelism: (job.parallelism - 1).max(1), ..job.clone() },
        Job { rebalance: false, ..job.clone() },
        Job { chaining: true, ..job.clone() },
        Job { disorder_ms: 0, ..job.clone() },
        Job { shape: if job.shape == Shape::Counts { job.shape } else { Shape::Records }, ..job.clone() },
        Job { batch_size: plain.batch_size, gate_bytes: plain.gate_bytes, ..job.clone() },
        Job { max_parallelism: plain.max_parallelism, ..job.clone() },
        Job { min_pause_ms: 0, concurrent: 1, timeout_ms: plain.timeout_ms, ..job.clone() },
        Job { retained: 1, tolerable: 0, ..job.clone() },
        Job { slow_ms: None, ..job.clone() },
        Job { unaligned_ms: job.unaligned_ms.map(|_| 0), ..job.clone() },
        Job { unaligned_ms: None, ..job.clone() },
        Job { incremental: false, ..job.clone() },
        Job { interval_ms: plain.interval_ms, ..job.clone() },
        Job { disk_memory: None, ..job.clone() },
        Job { section_bytes: 1 << 20, ..job.clone() },
    ];
    let different = variants.into_iter().filter(|variant| variant != job);
    candidates.extend(different.map(|job| FaultPlan { job, ..plan.clone() }));
    for (idx, fault) in plan.faults.iter().enumerate() {
        for nth in [fault.nth / 2, fault.nth.saturating_sub(1)] {
            let mut earlier = plan.clone();
            if let Some(of) = earlier.faults.get_mut(idx).filter(|of| of.nth != nth) {
                of.nth = nth;
                candidates.push(earlier);
            }
        }
    }
    candidates
}
