use super::*;
use crate::operator::{Output, OutputControl, SideChannels};
use crate::test_support::{Feed, Harness, check_everywhere, check_rescaling, one};
use flott_api::{Committable, OnError};
use flott_env::sim::Simulation;
use flott_types::{CheckpointKind, ErrorKind, Increment, OperatorUid, StreamStatus, SubtaskIndex};
use std::sync::{Arc, Mutex};

/// Notes its calls; refuses the record 13; wants the clock at 100.
#[derive(Clone, Default)]
struct Notes {
    calls: Arc<Mutex<Vec<String>>>,
    timer: Option<i64>,
    pending: Vec<u8>,
}

impl Notes {
    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

impl SinkWriter<u8> for Notes {
    fn write(&mut self, batch: RecordBatch<u8>) -> UserResult {
        self.note(format!("write {:?}", batch.records()));
        self.pending.extend(batch.records());
        if batch.records().contains(&13) { Err("13 is unlucky".into()) } else { Ok(()) }
    }
    fn on_watermark(&mut self, watermark: Watermark) -> UserResult {
        self.note(watermark.to_string());
        Ok(())
    }
    fn flush(&mut self) -> UserResult {
        self.note("flush".to_owned());
        Ok(())
    }
    fn next_timer(&self) -> Option<i64> {
        self.timer
    }
    fn on_processing_time(&mut self, now: i64) -> UserResult {
        self.note(format!("time {now}"));
        self.timer = None;
        Ok(())
    }
    fn finish(&mut self) -> UserResult {
        self.note(format!("finish {:?}", self.pending));
        Ok(())
    }
    fn snapshot(&mut self) -> UserResult<Vec<Vec<u8>>> {
        Ok(self.pending.iter().map(|record| vec![*record]).collect())
    }
    fn restore(&mut self, entries: Vec<Vec<u8>>, _: Option<CheckpointId>) -> UserResult {
        self.pending = entries.concat();
        Ok(())
    }
}

#[test]
fn the_writer_is_called_in_the_order_of_the_stream() {
    let writer = Notes { timer: Some(100), ..Notes::default() };
    let calls = Arc::clone(&writer.calls);
    let mut harness = Harness::new(one(SinkOperator::new(writer)));
    assert_eq!(harness.next_timer(), Some(100));
    let seen = harness.run(&[
        Feed::Batch1(vec![(1, 10), (2, 20)]),
        Feed::ProcessingTime(99),
        Feed::ProcessingTime(101),
        Feed::ProcessingTime(102),
        Feed::Watermark(15),
        Feed::EndOfData,
    ]);
    assert_eq!(seen, ["W15", "end"]);
    assert_eq!(*calls.lock().unwrap(), ["write [1, 2]", "time 101", "W15", "finish [1, 2]"]);
    let mut operator = SinkOperator::new(Notes { calls: Arc::clone(&calls), ..Notes::default() });
    let (mut sides, metrics) = (SideChannels::default(), Arc::default());
    operator.flush(&mut OperatorOutput::new(&mut Nowhere, &mut sides, &metrics)).unwrap();
    assert_eq!(calls.lock().unwrap().last().map(String::as_str), Some("flush"));
}

#[test]
fn what_the_writer_remembers_is_list_state() {
    let calls = Arc::default();
    let make = || Notes { calls: Arc::clone(&calls), ..Notes::default() };
    let elements = [Feed::Batch1(vec![(1, 1), (2, 2), (3, 3)]), Feed::Watermark(3), Feed::EndOfData];
    check_everywhere(|| Harness::new(one(SinkOperator::new(make()))), &elements);
    assert!(
        calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| call.starts_with("finish"))
            .all(|call| *call == "finish [1, 2, 3]")
    );
    let route = |record: &u8, parallelism| Some((u32::from(*record) % parallelism) as usize);
    check_rescaling(|ctx| Harness::at(one(SinkOperator::new(make())), ctx), &elements, route, |(), _| None);
}

#[test]
fn an_error_of_the_writer_is_the_users_to_fix() {
    let mut harness = Harness::new(one(SinkOperator::new(Notes::default())));
    let error = harness.feed(&Feed::Batch1(vec![(13, 0)])).unwrap_err();
    assert_eq!(
        (error.kind(), error.report().as_str()),
        (ErrorKind::UserError, "the sink failed: 13 is unlucky")
    );
}

/// Prepares what was written; refuses the first commits.
#[derive(Clone, Default)]
struct Transactions {
    calls: Arc<Mutex<Vec<String>>>,
    refusals: Arc<Mutex<u32>>,
    written: Vec<u8>,
}

impl SinkWriter<u8> for Transactions {
    fn write(&mut self, batch: RecordBatch<u8>) -> UserResult {
        self.calls.lock().unwrap().push(format!("write {:?}", batch.records()));
        self.written.extend(batch.records());
        Ok(())
    }
    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, is_final: bool) -> UserResult<Vec<Vec<u8>>> {
        self.calls.lock().unwrap().push(format!("prepare {checkpoint_id} {is_final}"));
        Ok(if self.written.is_empty() { Vec::new() } else { vec![std::mem::take(&mut self.written)] })
    }
    fn restore(&mut self, _: Vec<Vec<u8>>, restored: Option<CheckpointId>) -> UserResult {
        self.calls.lock().unwrap().push(format!("restore {restored:?}"));
        Ok(())
    }
}

impl Committer for Transactions {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return Err("not now".into());
        }
        let payloads: Vec<_> = committables.iter().map(|it| (it.checkpoint_id.0, &it.payload)).collect();
        self.calls.lock().unwrap().push(format!("commit {payloads:?}"));
        Ok(())
    }
}

/// The output of a sink: nobody reads it.
struct Nowhere;

impl OutputControl for Nowhere {
    fn watermark(&mut self, _: Watermark) -> Result<()> {
        Ok(())
    }
    fn status(&mut self, _: StreamStatus) -> Result<()> {
        Ok(())
    }
    fn end_of_data(&mut self) -> Result<()> {
        Ok(())
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

impl Output<()> for Nowhere {
    fn emit(&mut self, _: RecordBatch<()>) -> Result<()> {
        Ok(())
    }
}

fn barrier(id: u64) -> CheckpointBarrier {
    let (kind, increment) = (CheckpointKind::Checkpoint, Increment::None);
    CheckpointBarrier { id: CheckpointId(id), timestamp: 0, kind, increment }
}

/// A transactional sink operator, what it is called with, and its world.
struct Transactional {
    simulation: Simulation,
    sink: Transactions,
    operator: SinkOperator<u8, Transactions>,
}

impl Transactional {
    fn new(restored: Option<(u64, &OperatorSnapshot)>, has_checkpoints: bool, refusals: u32) -> Self {
        let simulation = Simulation::new(1);
        let sink = Transactions { refusals: Arc::new(Mutex::new(refusals)), ..Transactions::default() };
        let mut ctx = SinkContext::new(simulation.env(), SubtaskIndex(0), 1, 1);
        ctx.has_checkpoints = has_checkpoints;
        ctx.restored_checkpoint = restored.map(|(id, _)| CheckpointId(id));
        let committer: Box<dyn Committer> = Box::new(sink.clone());
        let mut operator = SinkOperator::with_committer(sink.clone(), Some(committer), &ctx);
        if let Some((_, snapshot)) = restored {
            operator.restore(snapshot).unwrap();
        }
        Self { simulation, sink, operator }
    }

    fn with<R>(
        &mut self,
        f: impl FnOnce(&mut SinkOperator<u8, Transactions>, &mut OperatorOutput<'_, ()>) -> R,
    ) -> R {
        let (mut sides, metrics) = (SideChannels::default(), Arc::default());
        f(&mut self.operator, &mut OperatorOutput::new(&mut Nowhere, &mut sides, &metrics))
    }

    fn write(&mut self, record: u8) {
        self.with(|operator, out| operator.process_batch(RecordBatch::untimed(vec![record]), out)).unwrap();
    }

    fn checkpoint(&mut self, id: u64) -> OperatorSnapshot {
        self.with(|operator, out| operator.on_barrier(&barrier(id), out)).unwrap();
        let mut snapshot = OperatorSnapshot::default();
        self.operator.snapshot(&mut snapshot).unwrap();
        snapshot
    }

    fn complete(&mut self, id: u64) {
        self.operator.on_checkpoint_complete(CheckpointId(id)).unwrap();
    }

    /// What was called since the last time.
    fn calls(&self) -> String {
        std::mem::take(&mut *self.sink.calls.lock().unwrap()).join(", ")
    }

    /// Runs until the operator is ready; on an error the operator is gone, as nothing more is called.
    fn settle(self) -> Result<Self> {
        let Self { simulation, sink, mut operator } = self;
        let settled = simulation.run(async move {
            let ready = std::future::poll_fn(|cx| {
                let (mut sides, metrics) = (SideChannels::default(), Arc::default());
                let mut nowhere = Nowhere;
                operator.poll_ready(cx, &mut OperatorOutput::new(&mut nowhere, &mut sides, &metrics))
            });
            ready.await.map(|()| operator)
        });
        settled.unwrap().map(|operator| Self { simulation, sink, operator })
    }
}

#[test]
fn what_was_prepared_is_committed_when_its_checkpoint_or_a_later_one_is_complete() {
    let mut sink = Transactional::new(None, true, 0);
    sink.write(1);
    sink.checkpoint(1);
    sink.write(2);
    // Checkpoint 2 is aborted: nobody says anything.
    sink.checkpoint(2);
    sink.complete(1);
    assert_eq!(
        sink.calls(),
        "restore None, write [1], prepare 1 false, write [2], prepare 2 false, commit [(1, [1])]"
    );
    sink.write(3);
    sink.checkpoint(4);
    sink.complete(4);
    assert_eq!(sink.calls(), "write [3], prepare 4 false, commit [(2, [2]), (4, [3])]");
    sink.with(|operator, out| operator.on_end_of_data(out)).unwrap();
    sink.checkpoint(5);
    sink.complete(5);
    assert_eq!(sink.calls(), "prepare 5 true", "the last checkpoint commits, not the end itself");
}

#[test]
fn after_a_restore_committables_are_committed_before_the_first_record() {
    let mut sink = Transactional::new(None, true, 0);
    sink.write(1);
    sink.checkpoint(1);
    sink.write(2);
    let snapshot = sink.checkpoint(2);
    let mut sink = Transactional::new(Some((2, &snapshot)), true, 2).settle().unwrap();
    sink.write(3);
    assert_eq!(
        sink.calls(),
        "restore Some(CheckpointId(2)), commit [(1, [1]), (2, [2])], write [3]",
        "it was tried until it succeeded"
    );
    // Another sink in its place must not drop them.
    let error = SinkOperator::<u8, _>::new(Notes::default()).restore(&snapshot).unwrap_err();
    assert!(error.to_string().contains("has 2 committables for a sink that has no committer"), "{error}");
}

#[test]
fn a_commit_is_tried_again_and_stays_in_the_snapshot_and_in_the_end_fails_the_subtask() {
    let mut sink = Transactional::new(None, true, 3);
    sink.write(1);
    sink.checkpoint(1);
    sink.complete(1);
    let kept = sink.checkpoint(2);
    assert_eq!(kept.list[COMMITTABLES].len(), 1);
    sink.with(|operator, out| operator.on_end_of_data(out)).unwrap();
    sink.checkpoint(3);
    sink.complete(3);
    let sink = sink.settle().unwrap();
    assert!(sink.calls().ends_with("commit [(1, [1])]"));
    let mut sink = Transactional::new(None, false, u32::MAX);
    sink.write(1);
    sink.with(|operator, out| operator.on_end_of_data(out)).unwrap();
    let error = sink.settle().err().unwrap();
    assert!(error.report().contains("are not committed after 8 attempts"), "{}", error.report());
}

#[test]
fn without_checkpoints_the_end_commits() {
    let mut sink = Transactional::new(None, false, 1);
    sink.write(1);
    sink.with(|operator, out| operator.on_end_of_data(out)).unwrap();
    let sink = sink.settle().unwrap();
    assert_eq!(
        sink.calls(),
        format!("restore None, write [1], prepare {0} true, commit [({0}, [1])]", u64::MAX)
    );
}

/// Rejects every record when the next barrier comes.
struct Late {
    bad_records: BadRecords,
    held: Vec<u8>,
}

impl SinkWriter<u8> for Late {
    fn write(&mut self, batch: RecordBatch<u8>) -> UserResult {
        self.held.extend(batch.records());
        Ok(())
    }
    fn prepare_commit(&mut self, _: CheckpointId, _: bool) -> UserResult<Vec<Vec<u8>>> {
        let held = std::mem::take(&mut self.held);
        held.iter().try_for_each(|record| self.bad_records.reject("nowhere", record, "late"))?;
        Ok(Vec::new())
    }
}

/// Records before a barrier and behind it, then the end of data and one more barrier; what that says, and how many were rejected by then.
fn rejected_late(on_error: OnError) -> (Result<()>, u64) {
    let ctx = SinkContext::new(Simulation::new(1).env(), SubtaskIndex(0), 1, 1).with_on_error::<u8>(on_error);
    let writer = Late { bad_records: ctx.bad_records.clone(), held: Vec::new() };
    let mut operator = SinkOperator::with_committer(writer, None, &ctx);
    let (mut sides, metrics) = (SideChannels::default(), Arc::default());
    let mut nowhere = Nowhere;
    let mut out = OperatorOutput::new(&mut nowhere, &mut sides, &metrics);
    operator.process_batch(RecordBatch::untimed(vec![1, 2]), &mut out).unwrap();
    assert!(out.sides().is_empty());
    operator.on_barrier(&barrier(1), &mut out).unwrap();
    assert_eq!(out.sides().is_empty(), on_error == OnError::Skip);
    assert_eq!(out.metrics().records_in_errors.load(Ordering::Relaxed), 2);
    operator.process_batch(RecordBatch::untimed(vec![3]), &mut out).unwrap();
    operator.on_end_of_data(&mut out).unwrap();
    let last = operator.on_barrier(&barrier(2), &mut out);
    (last, out.metrics().records_in_errors.load(Ordering::Relaxed))
}

#[test]
fn what_is_rejected_goes_before_the_barrier_and_after_the_end_there_is_nowhere_to_go() {
    let (last, n_rejected) = rejected_late(OnError::SideOutput);
    let expected = "the sink's writer has rejected a record for nowhere after the end of its input, when dead letters cannot be sent any more: \
                    it must do that in SinkWriter::finish (late)";
    assert_eq!((last.unwrap_err().to_string().as_str(), n_rejected), (expected, 3));
    // What is only counted is counted at any time.
    let (last, n_rejected) = rejected_late(OnError::Skip);
    last.unwrap();
    assert_eq!(n_rejected, 3);
}
