//! Whether a run came out as a naive evaluation of the plan says.
//!
//! Operators are checked one by one, in their order. Where the result is a function of the input, the reference computes
//! it and what was tapped must be equal. Where it depends on the order of arrival or on when watermarks pass, what was
//! tapped must be *a* legal result of the input, and is taken as the input of what follows. So every check is exact,
//! and late records are justified one by one (`reliability.md` calls these classes B and C).
//!
//! * `keyed`, `joins`, `windows`, `sessions`, `count_windows`: the operators.
//!
//! Nothing here uses an operator, a state or a window of the engine.

mod count_windows;
mod joins;
mod keyed;
mod sessions;
mod windows;

use crate::functions::{Sides, answered, lift, looked_up, timed_out};
use crate::plan::{
    AsyncPlan, Exchange, KeyedFunction, Node, Op, Order, Plan, Port, PortFacts, WindowFunction, facts,
};
use crate::program::depends_on_schedule;
use crate::record::{Record, mix};
use crate::run::Observed;
use flott_datastream::OperatorReport;
use flott_env::sim::SimError;
use flott_types::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What is wrong with a run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// It did not end.
    #[error("the job is stuck: {0}")]
    Stuck(SimError),
    /// The job failed.
    #[error("the job failed: {0}")]
    Job(String),
    /// The engine panicked.
    #[error("the engine panicked: {0}")]
    Panicked(String),
    /// A function saw what it should not have.
    #[error("seen inside of the program:\n  {}", .0.join("\n  "))]
    Violations(Vec<String>),
    /// Results are wrong.
    #[error("{operator}: {what}")]
    Wrong {
        /// Which operator, as in the plan.
        operator: String,
        /// What is wrong about its output.
        what: String,
    },
    /// Two runs differ that should not.
    #[error("not repeatable: {0}")]
    Unstable(String),
    /// The plan makes no sense.
    #[error("the plan makes no sense: {0}")]
    Plan(String),
}

impl Failure {
    /// What kind of failure it is, for a shrinker that looks for a smaller one of the same kind.
    pub(crate) fn kind(&self) -> std::mem::Discriminant<Self> {
        std::mem::discriminant(self)
    }
}

/// A stream as it was, or must have been.
#[derive(Clone, Debug)]
struct Stream {
    records: Vec<Record>,
    facts: PortFacts,
    /// No watermark before the end was above it.
    ceiling: Timestamp,
}

impl Stream {
    /// The largest watermark that may have been in front of a record.
    fn bound(&self, record: &Record) -> Timestamp {
        self.ceiling.min(record.horizon)
    }
}

/// What one operator's check sees.
struct Site<'a> {
    idx: usize,
    node: &'a Node,
    inputs: Vec<Stream>,
    observed: &'a Observed,
    facts: &'a [PortFacts],
}

impl Site<'_> {
    fn input(&self) -> &Stream {
        self.inputs.first().expect("a plan that makes sense gives operators their inputs")
    }

    fn second(&self) -> &Stream {
        self.inputs.get(1).expect("a plan that makes sense gives operators their inputs")
    }

    fn tap(&self, output: usize) -> Option<Vec<Record>> {
        let tapped = self.observed.taps.get(&Port { node: self.idx, output })?;
        Some(tapped.iter().map(|(record, _)| record.clone()).collect())
    }

    /// The tap of an output that always has one.
    fn tapped(&self, output: usize) -> Vec<Record> {
        self.tap(output).expect("outputs that depend on the schedule are tapped")
    }

    fn report(&self) -> Option<&OperatorReport> {
        let name = format!("n{}", self.idx);
        self.observed.operators.iter().find(|report| report.name == name)
    }

    fn late_dropped(&self) -> usize {
        self.report().map_or(0, |report| report.late_records_dropped as usize)
    }

    fn parallelism(&self) -> u32 {
        self.node.parallelism
    }
}

/// Compares a run with the reference.
pub(crate) fn check(plan: &Plan, observed: &Observed) -> Result<(), Failure> {
    if !observed.notes.violations.is_empty() {
        return Err(Failure::Violations(observed.notes.violations.clone()));
    }
    let known = facts(plan).map_err(Failure::Plan)?;
    let mut streams: Vec<Vec<Stream>> = Vec::new();
    for (idx, (node, facts)) in plan.nodes.iter().zip(&known).enumerate() {
        let inputs = node.inputs.iter().filter_map(|port| streams.get(port.node)?.get(port.output)).cloned();
        let site = Site { idx, node, inputs: inputs.collect(), observed, facts };
        let wrong = |what| Failure::Wrong { operator: format!("n{idx} {node}"), what };
        let outputs = outputs(plan, &site).map_err(wrong)?;
        for (output, records) in outputs.iter().enumerate() {
            check_tap(&site, output, records).map_err(wrong)?;
        }
        check_counters(&site, &outputs).map_err(wrong)?;
        let ceiling = ceiling(&site);
        let made = outputs.into_iter().zip(facts);
        streams
            .push(made.map(|(records, facts)| Stream { records, facts: facts.clone(), ceiling }).collect());
    }
    Ok(())
}

fn ceiling(site: &Site<'_>) -> Timestamp {
    match &site.node.op {
        Op::Source(source) => source.ceiling(),
        Op::Reassign { bound_ms } => {
            let newest = site.input().records.iter().map(|record| record.timestamp).max();
            newest.map_or(Timestamp::MIN, |newest| newest.saturating_sub(*bound_ms as i64 + 1))
        }
        _ => site.inputs.iter().map(|input| input.ceiling).max().unwrap_or(Timestamp::MIN),
    }
}

/// The records of every output: computed, or taken from the tap and found legal.
fn outputs(plan: &Plan, site: &Site<'_>) -> Result<Vec<Vec<Record>>, String> {
    let all = |records: &[Record]| records.to_vec();
    Ok(match &site.node.op {
        Op::Source(source) => {
            let splits = 0..source.splits.len();
            vec![splits.flat_map(|split| source.records(site.idx, split, &plan.config)).collect()]
        }
        Op::Stateless(steps) => {
            let mut records = all(&site.input().records);
            for step in steps {
                records = records.into_iter().map(|record| step.map(record)).collect();
                records.retain(|record| step.keeps(record));
                records = records.into_iter().flat_map(|record| step.expand(record)).collect();
            }
            vec![records]
        }
        Op::Exchange(exchange) => vec![exchanged(site, *exchange)?],
        Op::Union => {
            let marked = |stream: &Stream, side| {
                let records = stream.records.iter().cloned();
                records.map(|record| Record { uid: mix(record.uid, side), ..record }).collect::<Vec<_>>()
            };
            vec![[marked(site.input(), 1), marked(site.second(), 2)].concat()]
        }
        Op::Reduce => vec![keyed::reduce(site)?],
        Op::Keyed(KeyedFunction::Running) => vec![keyed::running(site)?],
        Op::Keyed(KeyedFunction::Distinct { modulus }) => vec![keyed::distinct(site, *modulus)?],
        Op::Keyed(KeyedFunction::Groups { delay_ms }) => vec![keyed::groups(site, *delay_ms)?],
        Op::Keyed(KeyedFunction::Quiet { gap_ms }) => vec![keyed::quiet(site, *gap_ms)?],
        Op::CoProcess => {
            let first = site.input().records.iter().cloned().map(Sides::first);
            vec![first.chain(site.second().records.iter().cloned().map(Sides::second)).collect()]
        }
        Op::KeyedJoin => vec![joins::keyed_join(site)],
        Op::IntervalJoin { lower_ms, upper_ms, late_output } => {
            joins::interval_join(site, *lower_ms, *upper_ms, *late_output)?
        }
        Op::Window(window) => {
            let mut input = site.input().clone();
            if window.function == WindowFunction::Reduce {
                input.records = input.records.into_iter().map(lift).collect();
            }
            windows::check(site, window, &input)?
        }
        Op::CountWindow(window) => vec![count_windows::check(site, *window)?],
        Op::WindowJoin { windows, co_group } => vec![windows::join(site, *windows, *co_group)?],
        Op::BroadcastJoin => {
            let mut table: BTreeMap<u32, i64> = BTreeMap::new();
            for record in &site.second().records {
                let largest = table.entry(record.key).or_insert(record.value);
                *largest = record.value.max(*largest);
            }
            let look_up = |record: &Record| {
                let found = table.get(&record.key).copied().unwrap_or(i64::MIN);
                looked_up(site.idx, record, found, table.len() as i64)
            };
            vec![site.input().records.iter().map(look_up).collect()]
        }
        Op::BroadcastSeen => {
            let (main, n_broadcast) = (&site.input().records, site.second().records.len() as i64);
            let tapped = site.tapped(0);
            let forget = |records: &[Record]| -> Vec<Record> {
                records.iter().map(|record| Record { aux: 0, ..record.clone() }).collect()
            };
            same(&forget(main), &forget(&tapped))?;
            match tapped.iter().find(|record| !(0..=n_broadcast).contains(&record.aux)) {
                Some(record) => {
                    return Err(format!("{n_broadcast} broadcast records, but {record:?} saw more"));
                }
                None => vec![tapped],
            }
        }
        Op::Async(call) => vec![called(site, call)?],
        Op::SideOutput { modulus } => {
            let (side, main) =
                site.input().records.iter().cloned().partition(|record| record.value % modulus == 0);
            vec![main, side]
        }
        Op::Reassign { .. } => {
            let records = site.input().records.iter().cloned();
            vec![records.map(|record| Record { horizon: Timestamp::MAX, ..record }).collect()]
        }
    })
}

fn exchanged(site: &Site<'_>, exchange: Exchange) -> Result<Vec<Record>, String> {
    let records = &site.input().records;
    if exchange == Exchange::Broadcast {
        let copies = (0..u64::from(site.parallelism())).flat_map(|subtask| {
            records.iter().map(move |record| Record { uid: mix(record.uid, subtask), ..record.clone() })
        });
        return Ok(copies.collect());
    }
    if exchange == Exchange::Rebalance {
        // Each sender deals its records out one by one, so it gives two receivers at most one apart.
        let arrived = site.observed.notes.arrived.get(&site.idx);
        let counts = |subtask| arrived.and_then(|arrived| arrived.get(&subtask)).copied().unwrap_or(0);
        let counts = || (0..site.parallelism()).map(counts);
        let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
        if most - least > u64::from(site.input().facts.parallelism) {
            return Err(format!("the exchange is uneven: {:?}", counts().collect::<Vec<_>>()));
        }
    }
    Ok(records.clone())
}

fn called(site: &Site<'_>, call: &AsyncPlan) -> Result<Vec<Record>, String> {
    let records = site.input().records.iter();
    let outcome = |record: &Record| match call.delay_ms(record) {
        Some(_) => answered(record.clone()),
        None => timed_out(record),
    };
    Ok(records.flat_map(outcome).collect())
}

/// Compares what was tapped with what must have been there, and its order with what was promised.
fn check_tap(site: &Site<'_>, output: usize, expected: &[Record]) -> Result<(), String> {
    let port = Port { node: site.idx, output };
    let (Some(tapped), Some(facts)) = (site.observed.taps.get(&port), site.facts.get(output)) else {
        return Ok(());
    };
    if let Some((record, timestamp)) =
        tapped.iter().find(|(record, timestamp)| record.timestamp != *timestamp)
    {
        return Err(format!("output {output}: {record:?} has the timestamp {timestamp}"));
    }
    let tapped: Vec<Record> = tapped.iter().map(|(record, _)| record.clone()).collect();
    same(expected, &tapped).map_err(|what| format!("output {output}: {what}"))?;
    if !facts.lineage || facts.order == Order::Any {
        return Ok(());
    }
    let mut last: BTreeMap<(u32, u32), &Record> = BTreeMap::new();
    for record in &tapped {
        let key = if facts.order == Order::Keyed { record.key } else { 0 };
        if let Some(before) = last.insert((record.origin, key), record)
            && before.seq >= record.seq
        {
            return Err(format!("output {output} is out of order: {record:?} after {before:?}"));
        }
    }
    Ok(())
}

/// Everything that goes in comes out, is late, or is left out on purpose.
fn check_counters(site: &Site<'_>, outputs: &[Vec<Record>]) -> Result<(), String> {
    let Some(report) = site.report() else { return Err("the engine has no counters for it".to_owned()) };
    let expected_in: usize = match &site.node.op {
        Op::Source(_) => 0,
        // The window behind it, or the function behind the exchange, sees every record.
        Op::Exchange(Exchange::Broadcast) => site.input().records.len() * site.parallelism() as usize,
        Op::BroadcastJoin | Op::BroadcastSeen => {
            site.input().records.len() + site.second().records.len() * site.parallelism() as usize
        }
        _ => site.inputs.iter().map(|input| input.records.len()).sum(),
    };
    let expected_out = outputs.first().map_or(0, Vec::len);
    let counted = (report.records_in as usize, report.records_out as usize);
    if counted != (expected_in, expected_out) {
        return Err(format!(
            "the engine counted (in, out) {counted:?}, true is {:?}",
            (expected_in, expected_out)
        ));
    }
    let is_source = matches!(site.node.op, Op::Source(_));
    if !is_source && report.current_input_watermark != Timestamp::MAX {
        return Err(format!(
            "event time has not ended: the last watermark is {}",
            report.current_input_watermark
        ));
    }
    if report.late_records_dropped > 0 && !depends_on_schedule(&site.node.op) {
        return Err(format!("{} late records were dropped", report.late_records_dropped));
    }
    Ok(())
}

/// How many records of a difference are shown.
const SHOWN_MAX: usize = 10;

/// Compares two multisets.
fn same(expected: &[Record], actual: &[Record]) -> Result<(), String> {
    let mut counts: BTreeMap<&Record, i64> = BTreeMap::new();
    expected.iter().for_each(|record| *counts.entry(record).or_default() += 1);
    actual.iter().for_each(|record| *counts.entry(record).or_default() -= 1);
    let missing: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).map(|(record, _)| record).collect();
    let extra: Vec<_> = counts.iter().filter(|(_, count)| **count < 0).map(|(record, _)| record).collect();
    if missing.is_empty() && extra.is_empty() {
        return Ok(());
    }
    let mut text = format!("{} records expected, {} came", expected.len(), actual.len());
    for (name, records) in [("missing", missing), ("extra", extra)] {
        write!(text, "\n  {} {name}", records.len()).ok();
        for record in records.iter().take(SHOWN_MAX) {
            write!(text, "\n    {record:?}").ok();
        }
    }
    Err(text)
}

/// Records by key, in the order in which they are given.
fn by_key(records: &[Record]) -> BTreeMap<u32, Vec<&Record>> {
    let mut keys: BTreeMap<u32, Vec<&Record>> = BTreeMap::new();
    records.iter().for_each(|record| keys.entry(record.key).or_default().push(record));
    keys
}

fn by_uid<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeMap<u64, &'a Record> {
    records.into_iter().map(|record| (record.uid, record)).collect()
}

/// The records of a key in the order in which its subtask must get them, if only one order is possible.
fn only_order<'a>(site: &Site<'_>, records: &[&'a Record]) -> Option<Vec<&'a Record>> {
    let facts = &site.input().facts;
    let order = if site.parallelism() == 1 { facts.order } else { facts.order.min(Order::Keyed) };
    let origin = records.first()?.origin;
    let one_origin = records.iter().all(|record| record.origin == origin);
    (facts.lineage && order > Order::Any && one_origin).then(|| {
        let mut sorted = records.to_vec();
        sorted.sort_by_key(|record| record.seq);
        sorted
    })
}

/// Whether the records of each split are in their order, if the stream promises that.
fn in_split_order<'a>(site: &Site<'_>, records: impl IntoIterator<Item = &'a Record>) -> Result<(), String> {
    let facts = &site.input().facts;
    if !facts.lineage || facts.order == Order::Any {
        return Ok(());
    }
    let mut last: BTreeMap<u32, &Record> = BTreeMap::new();
    for record in records {
        if let Some(before) = last.insert(record.origin, record)
            && before.seq >= record.seq
        {
            return Err(format!("{record:?} was processed after {before:?}"));
        }
    }
    Ok(())
}

fn sum<'a>(records: impl IntoIterator<Item = &'a Record>) -> i64 {
    records.into_iter().fold(0, |sum, record| sum.wrapping_add(record.value))
}

fn uids<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<u64> {
    let mut uids: Vec<u64> = records.into_iter().map(|record| record.uid).collect();
    uids.sort_unstable();
    uids
}
