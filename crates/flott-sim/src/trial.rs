//! One plan: run, checked, and where it says so run again.

use crate::check::{Failure, check};
use crate::plan::{Config, Plan, Port, is_deterministic};
use crate::program::Sabotage;
use crate::record::{Record, mix};
use crate::run::{Observed, run};
use flott_datastream::OperatorReport;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a plan that came out right was worth.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Equal for equal runs.
    pub fingerprint: u64,
    /// How much virtual time passed.
    pub elapsed: Duration,
    /// Records that all operators together processed.
    pub n_processed: u64,
    /// Records that were late somewhere.
    pub n_late: u64,
    /// The plan was also run with other batches and schedules, as its results do not depend on them.
    pub was_varied: bool,
    /// The engine's counters.
    pub operators: Vec<OperatorReport>,
}

/// Runs a plan and checks it. With `repeated` it runs twice, which must be the same.
///
/// # Errors
/// What is wrong.
pub fn try_plan(plan: &Plan, repeated: bool) -> Result<Trial, Failure> {
    let observed = run(plan, None)?;
    check(plan, &observed)?;
    if repeated {
        let again = run(plan, None)?;
        if again.fingerprint != observed.fingerprint {
            let what = format!(
                "the same plan gave {:016x} and then {:016x}",
                observed.fingerprint, again.fingerprint
            );
            return Err(Failure::Unstable(what));
        }
    }
    let was_varied = is_deterministic(plan);
    if was_varied {
        for batch_size in [1, 1024] {
            vary(plan, &observed, batch_size)?;
        }
    }
    let late_ports = observed.taps.iter().filter(|(port, _)| port.output > 0 && is_late(plan, **port));
    let n_late_tapped: usize = late_ports.map(|(_, records)| records.len()).sum();
    Ok(Trial {
        fingerprint: observed.fingerprint,
        elapsed: observed.elapsed,
        n_processed: observed.operators.iter().map(|report| report.records_in).sum(),
        n_late: n_late_tapped as u64
            + observed.operators.iter().map(|report| report.late_records_dropped).sum::<u64>(),
        was_varied,
        operators: observed.operators,
    })
}

fn is_late(plan: &Plan, port: Port) -> bool {
    use crate::plan::Op;
    plan.nodes.get(port.node).is_some_and(|node| matches!(node.op, Op::Window(_) | Op::IntervalJoin { .. }))
}

/// Runs a plan whose results depend on nothing but its input with another batch size and schedule.
fn vary(plan: &Plan, observed: &Observed, batch_size: u32) -> Result<(), Failure> {
    let config = Config { batch_size, ..plan.config.clone() };
    let varied = Plan { config, schedule: mix(plan.schedule, u64::from(batch_size)), ..plan.clone() };
    let other = run(&varied, None)?;
    check(&varied, &other)?;
    if sorted(observed) == sorted(&other) {
        return Ok(());
    }
    Err(Failure::Unstable(format!(
        "with batches of {batch_size} and schedule {} results differ",
        varied.schedule
    )))
}

fn sorted(observed: &Observed) -> BTreeMap<Port, Vec<Record>> {
    let sorted = |records: &[(Record, i64)]| {
        let mut records: Vec<Record> = records.iter().map(|(record, _)| record.clone()).collect();
        records.sort();
        records
    };
    observed.taps.iter().map(|(port, records)| (*port, sorted(records))).collect()
}

/// Runs a plan with a mistake built in. `Ok(false)` if the mistake came to no effect, `Ok(true)` if it did and nobody
/// noticed.
///
/// # Errors
/// What the checker found: the mistake.
pub fn try_sabotaged(plan: &Plan, sabotage: Sabotage) -> Result<bool, Failure> {
    let observed = run(plan, Some(sabotage))?;
    let sabotaged = observed.notes.sabotaged;
    check(plan, &observed)?;
    Ok(sabotaged)
}
