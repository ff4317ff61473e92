//! Runs a plan in a simulated world and collects everything that can be seen of it.

use crate::check::Failure;
use crate::lab::Notes;
use crate::plan::{Plan, Port};
use crate::program::{Sabotage, build};
use crate::record::{Record, mix};
use flott_datastream::{JobExecutionResult, OperatorReport};
use flott_env::sim::Simulation;
use flott_types::{Timestamp, key_hash};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A run that takes more steps than this spins.
const STEPS_MAX: u64 = 400_000;

/// What was seen of a run.
#[derive(Debug)]
pub(crate) struct Observed {
    /// What came out of the tapped outputs, in order of arrival.
    pub(crate) taps: BTreeMap<Port, Vec<(Record, Timestamp)>>,
    /// What functions noted.
    pub(crate) notes: Notes,
    /// The engine's own counters.
    pub(crate) operators: Vec<OperatorReport>,
    /// Equal for equal runs.
    pub(crate) fingerprint: u64,
    /// How much virtual time passed.
    pub(crate) elapsed: Duration,
}

/// Runs `plan`.
///
/// # Errors
/// If the job does not end as it should, whatever its results.
pub(crate) fn run(plan: &Plan, sabotage: Option<Sabotage>) -> Result<Observed, Failure> {
    catch_unwind(AssertUnwindSafe(|| run_unguarded(plan, sabotage))).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Err(Failure::Panicked(text.unwrap_or_else(|| "without a message".to_owned())))
    })
}

fn run_unguarded(plan: &Plan, sabotage: Option<Sabotage>) -> Result<Observed, Failure> {
    let simulation = Simulation::new(plan.schedule).with_steps_max(STEPS_MAX);
    let program = build(plan, simulation.env(), sabotage).map_err(|error| Failure::Job(error.report()))?;
    let client = program.env.execute_async("simulated").map_err(|error| Failure::Job(error.report()))?;
    let ended = simulation.run(client.result()).map_err(Failure::Stuck)?;
    let JobExecutionResult { operators, .. } = ended.map_err(|error| Failure::Job(error.report()))?;
    let taps: BTreeMap<Port, Vec<_>> =
        program.taps.iter().map(|(port, handle)| (*port, handle.take_with_timestamps())).collect();
    let results = taps.values().flatten().map(key_hash);
    let fingerprint = results.fold(simulation.trace_hash(), mix);
    let elapsed = simulation.elapsed();
    let notes = std::mem::take(&mut *program.lab.notes());
    Ok(Observed { taps, notes, operators, fingerprint: mix(fingerprint, elapsed.as_nanos() as u64), elapsed })
}
