//! Feeds operators in tests and writes down, as text, what comes out: `+1@10 W12 late:+3@4 idle end`.

mod increments;
mod overtaking;

pub(crate) use increments::{Increments, changes, restored};
pub(crate) use overtaking::check_overtaking;

use crate::operator::{
    Operator, OperatorContext, OperatorOutput, Output, OutputControl, OutputMetrics, SideChannels,
    SideReceiver, TwoInputOperator,
};
use flott_api::OutputTag;
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_schema::StateSchemas;
use flott_state::{BegunSnapshot, OperatorSnapshot, STATE_SCHEMAS, SnapshotProgress, StateSettings};
use flott_types::{
    NO_TIMESTAMP, OperatorUid, RecordBatch, Result, StateBackendType, StreamStatus, SubtaskIndex, Timestamp,
    Watermark, key_group, key_hash, subtask_for_key_group,
};
use serde::Serialize;
use std::any::Any;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

/// Key groups in tests.
pub(crate) const MAX_PARALLELISM: u32 = 16;

/// A record that is written down as it is.
#[derive(Clone, PartialEq)]
pub(crate) struct Text(pub(crate) String);

impl Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lines joined for `expect!`.
pub(crate) fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What an operator is fed with; `B` are the records of a second input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Feed<A, B = ()> {
    Batch1(Vec<(A, Timestamp)>),
    Batch2(Vec<(B, Timestamp)>),
    Watermark(Timestamp),
    Status(StreamStatus),
    ProcessingTime(Timestamp),
    EndOfData,
}

/// The operator that is tested.
pub(crate) enum Subject<A, B, O> {
    One(Box<dyn Operator<A, O>>),
    Two(Box<dyn TwoInputOperator<A, B, O>>),
}

pub(crate) fn one<A, O>(operator: impl Operator<A, O> + 'static) -> Subject<A, (), O> {
    Subject::One(Box::new(operator))
}

pub(crate) fn two<A, B, O>(operator: impl TwoInputOperator<A, B, O> + 'static) -> Subject<A, B, O> {
    Subject::Two(Box::new(operator))
}

type Lines = Arc<Mutex<Vec<String>>>;

/// Writes down what is emitted.
struct Recorder<T> {
    prefix: String,
    lines: Lines,
    records: PhantomData<fn(T)>,
}

impl<T> Recorder<T> {
    fn write(&self, line: &str) -> Result<()> {
        self.lines.lock().unwrap().push(format!("{}{line}", self.prefix));
        Ok(())
    }

    fn write_batch(&self, batch: RecordBatch<T>) -> Result<()>
    where
        T: Debug,
    {
        assert!(!batch.is_empty(), "empty batches are not emitted");
        batch.into_iter().try_for_each(|(record, timestamp)| match timestamp {
            NO_TIMESTAMP => self.write(&format!("+{record:?}")),
            timestamp => self.write(&format!("+{record:?}@{timestamp}")),
        })
    }
}

impl<T> OutputControl for Recorder<T> {
    fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.write(&watermark.to_string())
    }
    fn status(&mut self, status: StreamStatus) -> Result<()> {
        self.write(&format!("{status:?}").to_lowercase())
    }
    fn end_of_data(&mut self) -> Result<()> {
        self.write("end")
    }
    fn processing_time(&mut self, _: Timestamp) -> Result<()> {
        Ok(())
    }
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn snapshot(&mut self, _: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
        Ok(())
    }
}

impl<T: Debug> Output<T> for Recorder<T> {
    fn emit(&mut self, batch: RecordBatch<T>) -> Result<()> {
        self.write_batch(batch)
    }
}

impl<T: Debug + 'static> SideReceiver for Recorder<T> {
    fn receive(&mut self, batch: Box<dyn Any + Send>) -> Result<()> {
        self.write_batch(*batch.downcast().expect("a batch of the tag's type"))
    }
}

/// An opened operator with its outputs.
pub(crate) struct Harness<A, B, O> {
    subject: Subject<A, B, O>,
    recorder: Recorder<O>,
    sides: SideChannels,
    pub(crate) metrics: Arc<OutputMetrics>,
    lines: Lines,
}

/// A context in a simulated world. With `FLOTT_TEST_STATE=disk` all tests run with state on disk and next to no memory.
pub(crate) fn context(env: Env, subtask: u32, parallelism: u32) -> OperatorContext {
    let is_on_disk = std::env::var("FLOTT_TEST_STATE").is_ok_and(|backend| backend == "disk");
    let settings = StateSettings {
        backend: if is_on_disk { StateBackendType::Disk } else { StateBackendType::Hashmap },
        memory_bytes: 0,
        local_dir: "/state".into(),
        section_bytes: if is_on_disk { 64 } else { 1 << 20 },
    };
    OperatorContext {
        env: env.with_settings(settings),
        operator: "tested".to_owned(),
        subtask: SubtaskIndex(subtask),
        parallelism,
        max_parallelism: MAX_PARALLELISM,
    }
}

impl<A: Clone, B: Clone, O: Debug + 'static> Harness<A, B, O> {
    /// Opens the only subtask of an operator, in a world where nothing runs.
    pub(crate) fn new(subject: Subject<A, B, O>) -> Self {
        Self::at(subject, &context(Simulation::new(1).env(), 0, 1))
    }

    pub(crate) fn at(mut subject: Subject<A, B, O>, ctx: &OperatorContext) -> Self {
        let opened = match &mut subject {
            Subject::One(operator) => operator.open(ctx),
            Subject::Two(operator) => operator.open(ctx),
        };
        opened.expect("the operator opens");
        let lines = Lines::default();
        let recorder = Recorder { prefix: String::new(), lines: Arc::clone(&lines), records: PhantomData };
        Self { subject, recorder, sides: SideChannels::default(), metrics: Arc::default(), lines }
    }

    /// Writes a side output down too.
    pub(crate) fn with_side<T: Debug + 'static>(mut self, tag: &OutputTag<T>) -> Self {
        let recorder = Recorder::<T> {
            prefix: format!("{}:", tag.id()),
            lines: Arc::clone(&self.lines),
            records: PhantomData,
        };
        self.sides.receivers.push((tag.id().clone(), Box::new(recorder)));
        self
    }

    /// Feeds one element; a batch of records without timestamps is untimed.
    pub(crate) fn feed(&mut self, element: &Feed<A, B>) -> Result<()> {
        let mut out = OperatorOutput::new(&mut self.recorder, &mut self.sides, &self.metrics);
        let fed = match (&mut self.subject, element) {
            (Subject::One(op), Feed::Batch1(records)) => op.process_batch(batch(records), &mut out),
            (Subject::One(_), Feed::Batch2(_)) => panic!("the operator has one input"),
            (Subject::One(op), Feed::Watermark(at)) => op.on_watermark(Watermark(*at), &mut out),
            (Subject::One(op), Feed::Status(status)) => op.on_status(*status, &mut out),
            (Subject::One(op), Feed::ProcessingTime(now)) => op.on_processing_time(*now, &mut out),
            (Subject::One(op), Feed::EndOfData) => op.on_end_of_data(&mut out),
            (Subject::Two(op), Feed::Batch1(records)) => op.process_batch1(batch(records), &mut out),
            (Subject::Two(op), Feed::Batch2(records)) => op.process_batch2(batch(records), &mut out),
            (Subject::Two(op), Feed::Watermark(at)) => op.on_watermark(Watermark(*at), &mut out),
            (Subject::Two(_), Feed::Status(_)) => panic!("the chain handles the status of two inputs"),
            (Subject::Two(op), Feed::ProcessingTime(now)) => op.on_processing_time(*now, &mut out),
            (Subject::Two(op), Feed::EndOfData) => op.on_end_of_data(&mut out),
        };
        self.sides.flush()?;
        fed
    }

    /// Feeds elements and returns what came out.
    pub(crate) fn run(&mut self, elements: &[Feed<A, B>]) -> Vec<String> {
        for element in elements {
            self.feed(element).expect("the operator does not fail");
        }
        self.take()
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut out = OperatorOutput::new(&mut self.recorder, &mut self.sides, &self.metrics);
        match &mut self.subject {
            Subject::One(operator) => operator.poll_ready(cx, &mut out),
            Subject::Two(_) => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn poll_pushed_back(&mut self, cx: &mut Context<'_>) {
        if let Subject::One(operator) = &mut self.subject {
            operator.poll_pushed_back(cx);
        }
    }

    /// What came out since the last call.
    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    pub(crate) fn progress(&self) -> usize {
        match &self.subject {
            Subject::One(operator) => operator.progress(),
            Subject::Two(operator) => operator.progress(),
        }
    }

    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        match &self.subject {
            Subject::One(operator) => operator.next_timer(),
            Subject::Two(operator) => operator.next_timer(),
        }
    }

    pub(crate) fn snapshot(&mut self) -> OperatorSnapshot {
        let mut snapshot = OperatorSnapshot::default();
        let taken = match &mut self.subject {
            Subject::One(operator) => operator.snapshot(&mut snapshot),
            Subject::Two(operator) => operator.snapshot(&mut snapshot),
        };
        taken.expect("the operator can be snapshot");
        assert_schemas(&snapshot);
        snapshot
    }

    /// Begins a snapshot; [`Harness::snapshot_step`] goes on with it.
    pub(crate) fn begin_snapshot(&mut self) -> BegunSnapshot {
        self.begin(BegunSnapshot::default())
    }

    /// The same for a checkpoint that `begun` knows.
    fn begin(&mut self, mut begun: BegunSnapshot) -> BegunSnapshot {
        let taken = match &mut self.subject {
            Subject::One(operator) => operator.begin_snapshot(&mut begun),
            Subject::Two(operator) => operator.begin_snapshot(&mut begun),
        };
        taken.expect("the operator can be snapshot");
        begun
    }

    pub(crate) fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        match &mut self.subject {
            Subject::One(operator) => operator.snapshot_step(places),
            Subject::Two(operator) => operator.snapshot_step(places),
        }
    }

    pub(crate) fn restore(&mut self, snapshot: &OperatorSnapshot) {
        self.try_restore(snapshot).expect("the snapshot can be restored");
    }

    pub(crate) fn try_restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        match &mut self.subject {
            Subject::One(operator) => operator.restore(snapshot),
            Subject::Two(operator) => operator.restore(snapshot),
        }
    }
}

fn batch<T: Clone>(records: &[(T, Timestamp)]) -> RecordBatch<T> {
    let mut batch = RecordBatch::default();
    records.iter().for_each(|(record, timestamp)| batch.push(record.clone(), *timestamp));
    batch
}

/// The same elements with every batch cut into batches of at most `size` records.
pub(crate) fn rebatch<A: Clone, B: Clone>(elements: &[Feed<A, B>], size: usize) -> Vec<Feed<A, B>> {
    elements
        .iter()
        .flat_map(|element| match element {
            Feed::Batch1(records) => {
                records.chunks(size).map(|records| Feed::Batch1(records.to_vec())).collect()
            }
            Feed::Batch2(records) => {
                records.chunks(size).map(|records| Feed::Batch2(records.to_vec())).collect()
            }
            other => vec![other.clone()],
        })
        .collect()
}

/// Runs `elements` whole, in batches of other sizes, and with a snapshot and a restore into a new operator after every
/// element; all runs must give the same, which is returned. `setup` may add side outputs.
pub(crate) fn check_everywhere<A: Clone, B: Clone, O: Debug + 'static>(
    make: impl Fn() -> Harness<A, B, O>,
    elements: &[Feed<A, B>],
) -> Vec<String> {
    let expected = make().run(elements);
    for size in [1, 2, 3, 7] {
        assert_eq!(make().run(&rebatch(elements, size)), expected, "in batches of {size}");
    }
    let singles = rebatch(elements, 1);
    let mut before = make();
    let mut seen = Vec::new();
    for (idx, element) in singles.iter().enumerate() {
        seen.extend(before.run(std::slice::from_ref(element)));
        let mut after = make();
        after.restore(&before.snapshot());
        let rest = after.run(&singles[idx + 1..]);
        assert_eq!([seen.clone(), rest].concat(), expected, "restored after element {idx}");
    }
    let mut restored_each_time = make();
    let mut seen = Vec::new();
    for element in &singles {
        seen.extend(restored_each_time.run(std::slice::from_ref(element)));
        let snapshot = restored_each_time.snapshot();
        restored_each_time = make();
        restored_each_time.restore(&snapshot);
    }
    assert_eq!(seen, expected, "restored after every element");
    for places in [1, 3] {
        check_snapshots_under_way(make(), &singles, places);
    }
    expected
}

/// Takes snapshots all the time, `places` places of a table between two elements: each must be what it was when it was begun.
fn check_snapshots_under_way<A: Clone, B: Clone, O: Debug + 'static>(
    mut harness: Harness<A, B, O>,
    elements: &[Feed<A, B>],
    places: usize,
) {
    let mut under_way: Option<(BegunSnapshot, OperatorSnapshot)> = None;
    let check = |under_way: Option<(BegunSnapshot, OperatorSnapshot)>| {
        if let Some((begun, expected)) = under_way {
            assert_eq!(unordered(begun.complete().expect("all was sent")), unordered(expected));
        }
    };
    for element in elements {
        if under_way.is_none() {
            let expected = harness.snapshot();
            under_way = Some((harness.begin_snapshot(), expected));
        }
        harness.run(std::slice::from_ref(element));
        if harness.snapshot_step(places) == SnapshotProgress::Complete {
            check(under_way.take());
        }
    }
    assert_eq!(harness.snapshot_step(usize::MAX), SnapshotProgress::Complete);
    check(under_way);
}

/// The same bytes of keyed state, whatever the order of entries.
fn unordered(mut snapshot: OperatorSnapshot) -> OperatorSnapshot {
    snapshot.keyed.values_mut().flat_map(|groups| groups.values_mut()).for_each(|bytes| {
        let mut sorted = bytes.to_vec().expect("it is in memory");
        sorted.sort_unstable();
        *bytes = sorted.into();
    });
    snapshot
}

/// Whatever is kept by key is kept with its schema.
fn assert_schemas(snapshot: &OperatorSnapshot) {
    let records = snapshot.union.get(STATE_SCHEMAS).into_iter().flatten();
    let records =
        records.map(|bytes| StateSchemas::decode(bytes).expect("a record").expect("of this version"));
    let names: Vec<_> = records.flat_map(|record| record.entries.into_keys()).collect();
    for (name, _) in snapshot.keyed.iter().filter(|(_, groups)| !groups.is_empty()) {
        assert!(names.contains(name), "there is no schema of state '{name}'");
    }
}

/// The subtask of a key.
pub(crate) fn route<K: Serialize>(key: &K, parallelism: u32) -> usize {
    subtask_for_key_group(key_group(key_hash(key), MAX_PARALLELISM), MAX_PARALLELISM, parallelism).as_usize()
}

/// Runs the first elements at one parallelism and the rest at others, restored from the snapshots of the first; the
/// records that come out must be those of one subtask, in any order. `route1` and `route2` say where a record goes
/// (`None`: to all subtasks, as broadcast records do).
pub(crate) fn check_rescaling<A: Clone, B: Clone, O: Debug + 'static>(
    make: impl Fn(&OperatorContext) -> Harness<A, B, O>,
    elements: &[Feed<A, B>],
    route1: impl Fn(&A, u32) -> Option<usize>,
    route2: impl Fn(&B, u32) -> Option<usize>,
) {
    let env = Simulation::new(1).env();
    let open = |parallelism| -> Vec<_> {
        (0..parallelism).map(|subtask| make(&context(env.clone(), subtask, parallelism))).collect()
    };
    let run = |subtasks: &mut Vec<Harness<A, B, O>>, elements: &[Feed<A, B>]| {
        let parallelism = subtasks.len() as u32;
        for element in elements {
            for (idx, subtask) in subtasks.iter_mut().enumerate() {
                let is_mine = |to: Option<usize>| to.is_none_or(|to| to == idx);
                let mine = match element {
                    Feed::Batch1(records) => Feed::Batch1(
                        records
                            .iter()
                            .filter(|(record, _)| is_mine(route1(record, parallelism)))
                            .cloned()
                            .collect(),
                    ),
                    Feed::Batch2(records) => Feed::Batch2(
                        records
                            .iter()
                            .filter(|(record, _)| is_mine(route2(record, parallelism)))
                            .cloned()
                            .collect(),
                    ),
                    other => other.clone(),
                };
                if !matches!(&mine, Feed::Batch1(records) if records.is_empty())
                    && !matches!(&mine, Feed::Batch2(records) if records.is_empty())
                {
                    subtask.feed(&mine).expect("the operator does not fail");
                }
            }
        }
        let mut records: Vec<_> = subtasks.iter_mut().flat_map(Harness::take).collect();
        records.retain(|line| line.contains('+') && !line.starts_with('W'));
        records
    };
    let mut expected = run(&mut open(1), elements);
    expected.sort();
    for at in 0..elements.len() {
        for (before, after) in [(1, 2), (2, 1), (2, 3), (3, 2)] {
            let mut old = open(before);
            let mut seen = run(&mut old, &elements[..at]);
            let parts: Vec<_> = old.iter_mut().map(Harness::snapshot).collect();
            let mut new = open(after);
            for (idx, subtask) in new.iter_mut().enumerate() {
                let part = OperatorSnapshot::reassign(&parts, SubtaskIndex(idx as u32), after);
                subtask.restore(&part.expect("the parts fit together"));
            }
            seen.extend(run(&mut new, &elements[at..]));
            seen.sort();
            assert_eq!(seen, expected, "from {before} to {after} subtasks before element {at}");
        }
    }
}
