//! Tasks that read a source: timestamps, watermarks per split, idleness, alignment, bad records.

use crate::chain::first_incomplete;
use crate::span_filter::{Columns, SpanFilter};
use crate::subtask::{Clock, Step, TaskInput};
use flott_api::{
    BadRecord, Boundedness, GeneratorContext, Idleness, InputStatus, OnError, Source, SourceOutput,
    SourceReader, SourceSplit, SplitSpan, TimestampMode, WatermarkGenerator, WatermarkStrategy,
    bad_records_tag, split_to_json,
};
use flott_env::sync::mpsc;
use flott_env::{Instant, canary};
use flott_graph::{SpanEnd, SplitRequest, SubtaskId, TaskCommand, TaskEvent};
use flott_operators::{OperatorOutput, Output, OutputControl, OutputMetrics, SideChannels};
use flott_state::{ChainSnapshot, OperatorSnapshot, SnapshotProgress};
use flott_types::{
    CheckpointBarrier, CheckpointId, CheckpointKind, Data, NO_TIMESTAMP, OperatorUid, RecordBatch, Result,
    SplitId, StreamStatus, Timestamp, Watermark, duration_ms,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

/// Settings of a source task.
pub(crate) struct SourceSettings {
    pub(crate) boundedness: Boundedness,
    pub(crate) on_error: OnError,
    pub(crate) batch_size: usize,
    pub(crate) granularity: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) periodic_interval: Duration,
    pub(crate) alignment_interval: Duration,
    pub(crate) span: SpanFilter,
    pub(crate) is_chain: bool,
}

struct SplitState<T> {
    generator: Box<dyn WatermarkGenerator<T>>,
    watermark: Watermark,
    idle: bool,
    /// Since when there has been nothing to read.
    caught_up_since: Option<Instant>,
    /// Which of its records belong to the source.
    span: SplitSpan,
}

/// What the source emits into: the chain and its side outputs.
struct SourceEnd<T> {
    chain: Box<dyn Output<T>>,
    sides: SideChannels,
    metrics: Arc<OutputMetrics>,
}

/// The splits of a reader for a snapshot.
#[derive(Clone, Default)]
struct Positions {
    splits: Vec<Vec<u8>>,
    as_json: Vec<Vec<u8>>,
}

/// Until a request for splits is sent again that the master had no room for.
const REQUEST_PAUSE: Duration = Duration::from_millis(10);

/// A reader and the chain behind it.
pub(crate) struct SourceTask<S: Source> {
    id: SubtaskId,
    uid: OperatorUid,
    reader: Box<dyn SourceReader<Record = S::Record, Split = S::Split>>,
    read: SourceOutput<S::Record>,
    strategy: WatermarkStrategy<S::Record>,
    settings: SourceSettings,
    splits: BTreeMap<SplitId, SplitState<S::Record>>,
    end: SourceEnd<S::Record>,
    jumps: Vec<(usize, Watermark)>,
    watermark: Watermark,
    status: StreamStatus,
    splits_assigned: bool,
    more_splits_come: bool,
    /// The reader had nothing when it was last asked.
    starved: bool,
    ended: bool,
    events: mpsc::Sender<TaskEvent>,
    last_periodic: Option<Instant>,
    last_reported: Option<Instant>,
    aligned_to: Timestamp,
    /// What this task adds to the snapshot of the barrier at hand: taken when the master says so, since splits that are assigned
    /// later are in the enumerator's part of that checkpoint.
    positions: Positions,
    /// The splits in checkpoints that are under way.
    told: BTreeMap<CheckpointId, Vec<S::Split>>,
    /// When to look again whether the time until which the source is read has come.
    look_again_at: Option<Instant>,
    /// How often it was given splits.
    n_given: u64,
    /// What it said last when it had nothing left to read.
    requested: Option<(u64, SpanEnd)>,
    /// Since when it has had nothing left to read.
    drained_since: Option<Instant>,
    /// A split has ended because the source is not read any further.
    has_passed_span: bool,
    /// Splits were taken from the reader, which may have nothing else to wait for: it has to be asked again.
    has_ended_splits: bool,
    /// The greatest timestamp that was read, of a chain of sources.
    max_timestamp: Option<Timestamp>,
    /// A barrier that goes behind the end of data, which operators may still hold back.
    due: Option<CheckpointBarrier>,
}

/// The list state with the splits of a reader.
pub(crate) const SPLITS: &str = "_splits";
/// The broadcast state with the time from which on the source is read.
const FROM: &str = "_from";

/// The list state with the greatest timestamp that a reader of a chain of sources has read.
const MAX_TIMESTAMP: &str = "_max_timestamp";

/// The list state with the splits as JSON, for people and for other jobs to start at: nothing is restored from it.
const POSITIONS: &str = "_positions";

/// A split in a snapshot: its bytes, and the watermark that it had reached.
type HeldSplit = (Vec<u8>, Watermark);

impl<S: Source> SourceTask<S> {
    #[expect(clippy::too_many_arguments, reason = "called in one place, with everything named there")]
    pub(crate) fn new(
        id: SubtaskId,
        uid: OperatorUid,
        reader: Box<dyn SourceReader<Record = S::Record, Split = S::Split>>,
        strategy: WatermarkStrategy<S::Record>,
        settings: SourceSettings,
        chain: Box<dyn Output<S::Record>>,
        sides: SideChannels,
        metrics: Arc<OutputMetrics>,
        events: mpsc::Sender<TaskEvent>,
    ) -> Self {
        Self {
            id,
            uid,
            reader,
            read: SourceOutput::default(),
            strategy,
            settings,
            splits: BTreeMap::new(),
            end: SourceEnd { chain, sides, metrics },
            jumps: Vec::new(),
            watermark: Watermark::MIN,
            status: StreamStatus::Active,
            splits_assigned: false,
            more_splits_come: true,
            starved: false,
            ended: false,
            events,
            last_periodic: None,
            last_reported: None,
            aligned_to: Timestamp::MAX,
            positions: Positions::default(),
            told: BTreeMap::new(),
            look_again_at: None,
            n_given: 0,
            requested: None,
            drained_since: None,
            has_passed_span: false,
            has_ended_splits: false,
            max_timestamp: None,
            due: None,
        }
    }

    /// Takes over splits that readers of an earlier attempt had, with their positions and watermarks: a split is late for what
    /// was late before. Where the job was told to start is not asked again.
    pub(crate) fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        let from = snapshot.broadcast.get(FROM);
        self.settings.span.from =
            from.map(|bytes| flott_state::decode("the start of a source", bytes)).transpose()?;
        for bytes in snapshot.list.get(MAX_TIMESTAMP).into_iter().flatten() {
            let read: Timestamp = flott_state::decode("the greatest timestamp of a source", bytes)?;
            self.max_timestamp = self.max_timestamp.max(Some(read));
        }
        let mut splits = Vec::new();
        for entry in snapshot.list.get(SPLITS).into_iter().flatten() {
            let (bytes, watermark): HeldSplit = flott_state::decode("a split with its watermark", entry)?;
            let split: S::Split = flott_state::decode("a split", &bytes)?;
            let ahead = if canary("restore-watermark-too-far") { 60 } else { 0 };
            let state = self.split_state(&split.split_id());
            state.watermark = Watermark(watermark.0.saturating_add(ahead));
            if canary("forget-split-watermarks") {
                state.watermark = Watermark::MIN;
            }
            state.span = split.span();
            splits.push(split);
        }
        let reader = &mut self.reader;
        crate::chain::guard(|| if splits.is_empty() { Ok(()) } else { reader.add_splits(splits) })
    }

    /// The splits with the positions behind what was emitted.
    fn positions(&mut self, barrier: CheckpointBarrier) -> Result<Positions> {
        let reader = &mut self.reader;
        let splits = crate::chain::guard(|| reader.snapshot())?;
        let entries = splits.iter().map(|split| {
            let watermark =
                self.splits.get(&split.split_id()).map_or(Watermark::MIN, |state| state.watermark);
            let held: HeldSplit = (flott_state::encode("a split", split)?, watermark);
            flott_state::encode("a split with its watermark", &held)
        });
        let positions = Positions {
            splits: entries.collect::<Result<_>>()?,
            // A split that JSON cannot say is restored as well as others.
            as_json: splits
                .iter()
                .filter_map(|split| split_to_json(split).ok())
                .map(String::into_bytes)
                .collect(),
        };
        if barrier.kind.commits() {
            self.told.insert(barrier.id, splits);
        }
        Ok(positions)
    }

    /// Tells the reader how far it will not have to read again.
    fn on_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let newer = self.told.split_off(&CheckpointId(checkpoint_id.0.saturating_add(1)));
        let told = std::mem::replace(&mut self.told, newer).remove(&checkpoint_id);
        let reader = &mut self.reader;
        told.map_or(Ok(()), |splits| crate::chain::guard(|| reader.checkpoint_complete(&splits)))
    }

    fn trigger(&mut self, barrier: CheckpointBarrier) -> Result<Option<Step>> {
        let positions = self.positions(barrier)?;
        if !canary("stale-positions") || self.positions.splits.is_empty() {
            self.positions = positions;
        }
        if barrier.kind == CheckpointKind::SavepointTerminate && !self.ended {
            self.due = Some(barrier);
            return self.end().map(|()| Some(Step::Ended));
        }
        if self.ended {
            self.due = Some(barrier);
            return Ok(None);
        }
        Ok(Some(Step::Aligned { aborted: Vec::new(), complete: Some(barrier) }))
    }

    /// Sends on what the reader has put out.
    fn drain(&mut self, clock: Clock) -> Result<()> {
        let mut outputs = std::mem::take(self.read.splits_mut());
        for output in &mut outputs {
            for bad in output.bad_records.drain(..) {
                self.on_bad_record(BadRecord { time: clock.processing_time, ..bad })?;
            }
            let position = output.position.take();
            let batch = output.batch.take();
            let caught_up = std::mem::take(&mut output.caught_up);
            if !batch.is_empty() {
                let sent = self.emit_split(&output.id, batch, clock);
                sent.map_err(|error| {
                    let from = position.map(|at| format!(" from {at} on")).unwrap_or_default();
                    error.context(format!("processing records read from {}{from}", output.id))
                })?;
            }
            if caught_up {
                self.on_caught_up(&output.id, clock)?;
            }
            if output.finished {
                self.splits.remove(&output.id);
                self.advance()?;
            }
        }
        // The outputs of live splits are kept with their memory.
        outputs.retain(|output| !output.finished);
        *self.read.splits_mut() = outputs;
        Ok(())
    }

    fn split_state(&mut self, id: &SplitId) -> &mut SplitState<S::Record> {
        let granularity_ms = duration_ms(self.settings.granularity).max(1);
        if !self.splits.contains_key(id) {
            let generator = self.strategy.create_generator(GeneratorContext { granularity_ms });
            let state = SplitState {
                generator,
                watermark: Watermark::MIN,
                idle: false,
                caught_up_since: None,
                span: SplitSpan::default(),
            };
            self.splits.insert(id.clone(), state);
        }
        self.splits.get_mut(id).expect("it was just inserted")
    }

    /// The reader has just found nothing to read: only now can a split become idle. A split that nobody asked, because the
    /// task was pushed back, may have records.
    fn on_caught_up(&mut self, id: &SplitId, clock: Clock) -> Result<()> {
        let timeout = self.idle_timeout();
        let split = self.split_state(id);
        let since = *split.caught_up_since.get_or_insert(clock.now);
        if !split.idle && timeout.is_some_and(|timeout| clock.now - since >= timeout) {
            split.idle = true;
            self.advance()?;
        }
        let is_idle = self.split_state(id).idle;
        match self.settings.span.until {
            Some(until) if is_idle => self.on_idle_until(id, until, clock),
            Some(_) | None => Ok(()),
        }
    }

    /// A split that has nothing to read when the time until which it is read has come is taken to have nothing more before that time: what
    /// happened then would be there by now. Without this a past time would never end a split that had no record since.
    fn on_idle_until(&mut self, id: &SplitId, until: Timestamp, clock: Clock) -> Result<()> {
        let missing_ms = until.saturating_sub(clock.processing_time);
        if missing_ms <= 0 {
            return self.end_splits(BTreeSet::from([id.clone()]));
        }
        self.look_again(clock.now + Duration::from_millis(missing_ms.unsigned_abs()));
        Ok(())
    }

    fn end_splits(&mut self, ids: BTreeSet<SplitId>) -> Result<()> {
        let reader = &mut self.reader;
        crate::chain::guard(|| reader.end_splits(&ids))?;
        self.has_ended_splits = true;
        self.splits.retain(|id, _| !ids.contains(id));
        self.read.splits_mut().retain(|output| !ids.contains(&output.id));
        self.advance()
    }

    /// Ends the splits that have nothing more before the time until which they are read.
    fn end_behind_span(&mut self) -> Result<()> {
        let span = self.settings.span;
        if span.until.is_none() {
            return Ok(());
        }
        let behind = self.splits.iter().filter(|(_, split)| span.is_behind(split.watermark));
        let behind: BTreeSet<_> = behind.map(|(id, _)| id.clone()).collect();
        if behind.is_empty() {
            return Ok(());
        }
        self.has_passed_span = true;
        self.end_splits(behind)
    }

    fn look_again(&mut self, at: Instant) {
        self.look_again_at = Some(self.look_again_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Tells the enumerator when there is nothing left to read, once, and whether more of what the job reads can come.
    fn request_splits(&mut self, clock: Clock) {
        if !self.reader.needs_splits() {
            self.drained_since = None;
            return;
        }
        let since = *self.drained_since.get_or_insert(clock.now);
        let end = self.span_end(since, clock);
        if self.requested == Some((self.n_given, end)) {
            return;
        }
        let (subtask, n_seen, max_timestamp) = (self.id, self.n_given, self.max_timestamp);
        let request = SplitRequest { subtask, n_seen, max_timestamp, end };
        match self.events.try_send(TaskEvent::SplitRequested(request)) {
            Ok(()) => self.requested = Some((n_seen, end)),
            // The master is behind.
            Err(_) => self.look_again(clock.now + REQUEST_PAUSE),
        }
    }

    /// Whether more can come of what the job reads, to a reader that has had nothing `since`.
    fn span_end(&mut self, since: Instant, clock: Clock) -> SpanEnd {
        let Some(until) = self.settings.span.until else { return SpanEnd::Open };
        if self.has_passed_span {
            return SpanEnd::Passed;
        }
        let Some(timeout) = self.idle_timeout() else { return SpanEnd::Open };
        let missing_ms = until.saturating_sub(clock.processing_time).max(0);
        let at = (since + timeout).max(clock.now + Duration::from_millis(missing_ms.unsigned_abs()));
        if at <= clock.now {
            return SpanEnd::TimedOut;
        }
        self.look_again(at);
        SpanEnd::Open
    }

    fn on_bad_record(&mut self, bad: BadRecord) -> Result<()> {
        match self.settings.on_error {
            OnError::Fail => return Err(bad.to_error()),
            OnError::Skip => {}
            OnError::SideOutput => {
                self.end.sides.outputs.push(&bad_records_tag(), bad, NO_TIMESTAMP);
                self.end.sides.flush()?;
            }
        }
        self.end.metrics.records_in_errors.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Sends on a batch of one split, cut where the split's watermark advances.
    fn emit_split(&mut self, id: &SplitId, batch: RecordBatch<S::Record>, clock: Clock) -> Result<()> {
        let (records, mut timestamps) = batch.into_columns();
        match self.strategy.timestamps() {
            TimestampMode::Source => {}
            TimestampMode::Assigner(assigner) => assigner.assign(&records, &mut timestamps),
            TimestampMode::Ingestion => {
                timestamps.clear();
                timestamps.resize(records.len(), clock.processing_time);
            }
        }
        let mut jumps = std::mem::take(&mut self.jumps);
        let split = self.split_state(id);
        if !timestamps.is_empty() {
            split.generator.on_batch(&records, &timestamps, &mut jumps);
        }
        let resumed = std::mem::take(&mut split.idle);
        split.caught_up_since = None;
        if resumed || self.status == StreamStatus::Idle {
            self.advance()?;
        }
        let mut batch = Columns { records, timestamps };
        let span = self.settings.span.of_split(self.split_state(id).span);
        if !span.is_everything() {
            span.apply(&mut batch, &mut jumps)?;
        }
        if self.settings.is_chain {
            let read = batch.timestamps.iter().copied().filter(|timestamp| *timestamp != NO_TIMESTAMP);
            self.max_timestamp = self.max_timestamp.max(read.max());
        }
        let batch = RecordBatch::from_columns(batch.records, batch.timestamps);
        if jumps.is_empty() {
            self.jumps = jumps;
            return self.emit(batch);
        }
        let mut watermarks = jumps.iter().map(|(_, watermark)| *watermark);
        for piece in batch.cut(jumps.iter().map(|(after, _)| *after)) {
            self.emit(piece)?;
            // There is none behind the last piece.
            if let Some(watermark) = watermarks.next() {
                let split = self.split_state(id);
                split.watermark = split.watermark.max(watermark);
                self.advance()?;
            }
        }
        jumps.clear();
        self.jumps = jumps;
        Ok(())
    }

    fn emit(&mut self, batch: RecordBatch<S::Record>) -> Result<()> {
        self.end.with(|out| out.emit(batch))
    }

    /// Derives watermark and status of the task from its splits.
    fn advance(&mut self) -> Result<()> {
        let active = self.splits.values().filter(|split| !split.idle);
        // A source that has read all it will ever have is not idle: its end follows.
        let is_complete = self.splits.is_empty() && !self.more_splits_come;
        let all_idle = self.splits_assigned
            && !is_complete
            && active.clone().next().is_none()
            && !self.reader.has_waiting_splits();
        let status = if all_idle { StreamStatus::Idle } else { StreamStatus::Active };
        if status != self.status && !self.ended {
            self.status = status;
            self.end.with(|out| out.emit_status(status))?;
        }
        // Splits that nobody has opened may hold records of any age.
        let bounded = self.settings.boundedness == Boundedness::Bounded && !self.settings.is_chain;
        if self.reader.has_waiting_splits() || (bounded && self.more_splits_come) {
            return Ok(());
        }
        let watermark = active.map(|split| split.watermark).min().unwrap_or(Watermark::MIN);
        if watermark > self.watermark {
            self.watermark = watermark;
            self.end.with(|out| out.emit_watermark(watermark))?;
        }
        Ok(())
    }

    /// What depends on time rather than on records.
    fn on_clock(&mut self, clock: Clock) -> Result<()> {
        if clock.now - *self.last_periodic.get_or_insert(clock.now) >= self.settings.periodic_interval {
            self.last_periodic = Some(clock.now);
            let span = self.settings.span;
            for split in self.splits.values_mut() {
                if let Some(watermark) = split.generator.on_periodic_emit() {
                    split.watermark = split.watermark.max(span.of_split(split.span).capped(watermark));
                }
            }
            self.advance()?;
        }
        // Set again if the time has not come.
        self.look_again_at = self.look_again_at.filter(|at| *at > clock.now);
        self.end_behind_span()?;
        self.align(clock)
    }

    /// Reports to the alignment group and pauses splits that are ahead of it.
    fn align(&mut self, clock: Clock) -> Result<()> {
        if self.strategy.alignment().is_none() {
            return Ok(());
        }
        let interval = self.settings.alignment_interval;
        if self.last_reported.is_none_or(|last| clock.now - last >= interval) {
            let active = self.splits.values().filter(|split| !split.idle).map(|split| split.watermark);
            // A full queue means that the master is behind: the next report will do.
            if self
                .events
                .try_send(TaskEvent::WatermarkReported(self.id, active.min().unwrap_or(Watermark::MAX)))
                .is_ok()
            {
                self.last_reported = Some(clock.now);
            }
        }
        let ahead = |split: &SplitState<S::Record>| split.watermark.0 > self.aligned_to;
        let paused: BTreeSet<_> =
            self.splits.iter().filter(|(_, split)| ahead(split)).map(|(id, _)| id.clone()).collect();
        for id in &paused {
            self.split_state(id).caught_up_since = None;
        }
        self.reader.set_paused(&paused);
        Ok(())
    }

    fn idle_timeout(&self) -> Option<Duration> {
        match self.strategy.idleness() {
            Idleness::Default => self.settings.idle_timeout,
            Idleness::After(timeout) => Some(timeout),
            Idleness::Never => None,
        }
    }

    fn end(&mut self) -> Result<()> {
        self.ended = true;
        self.splits.clear();
        if self.status == StreamStatus::Idle {
            self.status = StreamStatus::Active;
            self.end.with(|out| out.emit_status(StreamStatus::Active))?;
        }
        self.watermark = Watermark::MAX;
        self.end.with(|out| out.emit_watermark(Watermark::MAX))?;
        self.end.with(|out| out.emit_end_of_data())
    }
}

impl<T: Data> SourceEnd<T> {
    fn with<R>(&mut self, f: impl FnOnce(&mut OperatorOutput<'_, T>) -> R) -> R {
        f(&mut OperatorOutput::new(&mut *self.chain, &mut self.sides, &self.metrics))
    }
}

impl<T: Data> OutputControl for SourceEnd<T> {
    fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.with(|out| out.emit_watermark(watermark))
    }
    fn status(&mut self, status: StreamStatus) -> Result<()> {
        self.with(|out| out.emit_status(status))
    }
    fn end_of_data(&mut self) -> Result<()> {
        self.with(|out| out.emit_end_of_data())
    }
    fn processing_time(&mut self, now: Timestamp) -> Result<()> {
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.processing_time(now))?;
        self.chain.processing_time(now)
    }
    fn next_timer(&self) -> Option<Timestamp> {
        let sides = self.sides.receivers.iter().filter_map(|(_, receiver)| receiver.next_timer());
        self.chain.next_timer().into_iter().chain(sides).min()
    }
    fn flush(&mut self) -> Result<()> {
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.flush())?;
        self.chain.flush()
    }
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut ready = self.chain.poll_ready(cx)?;
        for (_, receiver) in &mut self.sides.receivers {
            ready = crate::chain::both(ready, receiver.poll_ready(cx)?);
        }
        ready.map(Ok)
    }
    fn snapshot(&mut self, snapshots: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.snapshot(snapshots))?;
        self.chain.snapshot(snapshots)
    }
    fn barrier(&mut self, barrier: &CheckpointBarrier, snapshots: &mut ChainSnapshot) -> Result<()> {
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.barrier(barrier, snapshots))?;
        self.chain.barrier(barrier, snapshots)
    }
    fn snapshot_step(&mut self, places: usize) -> Result<SnapshotProgress> {
        let sides = self.sides.receivers.iter_mut();
        match first_incomplete(sides, |(_, receiver)| receiver.snapshot_step(places))? {
            SnapshotProgress::Complete => self.chain.snapshot_step(places),
            progress => Ok(progress),
        }
    }
    fn checkpoint_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let mut sides = self.sides.receivers.iter_mut();
        sides.try_for_each(|(_, receiver)| receiver.checkpoint_complete(checkpoint_id))?;
        self.chain.checkpoint_complete(checkpoint_id)
    }
    fn checkpoint_aborted(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let mut sides = self.sides.receivers.iter_mut();
        sides.try_for_each(|(_, receiver)| receiver.checkpoint_aborted(checkpoint_id))?;
        self.chain.checkpoint_aborted(checkpoint_id)
    }
}

impl<S: Source> TaskInput for SourceTask<S> {
    fn chain(&mut self) -> &mut dyn OutputControl {
        &mut self.end
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, clock: Clock) -> Poll<Result<Step>> {
        if self.ended {
            let Some(barrier) = self.due.take() else { return Poll::Pending };
            return Poll::Ready(Ok(Step::Aligned { aborted: Vec::new(), complete: Some(barrier) }));
        }
        // All splits of the first assignment are known before the first record is read: otherwise it would depend on the
        // timing of messages how far the watermark is held back.
        if !self.splits_assigned {
            return Poll::Pending;
        }
        self.on_clock(clock)?;
        self.has_ended_splits = false;
        let (reader, read, batch_size) = (&mut self.reader, &mut self.read, self.settings.batch_size);
        let polled = crate::chain::guard(|| Ok(reader.poll_next(cx, batch_size, read)))?;
        self.starved = polled.is_pending();
        // Records that were read before an error are still sent, so that the error's position is true.
        self.drain(clock)?;
        self.request_splits(clock);
        match polled {
            Poll::Pending if !self.has_ended_splits => Poll::Pending,
            Poll::Pending | Poll::Ready(Ok(InputStatus::MoreAvailable)) => Poll::Ready(Ok(Step::Progress)),
            Poll::Ready(Ok(InputStatus::EndOfInput)) => Poll::Ready(self.end().map(|()| Step::Ended)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn on_command(&mut self, command: TaskCommand) -> Result<Option<Step>> {
        match command {
            TaskCommand::AddSplits(splits) => {
                let splits = splits.iter().map(|bytes| flott_state::decode("a split", bytes));
                let splits = splits.collect::<Result<Vec<S::Split>>>()?;
                // Known from here on: a split that has not been read yet holds the watermark back (FLINK-26018).
                for split in &splits {
                    self.split_state(&split.split_id()).span = split.span();
                }
                self.n_given += 1;
                let reader = &mut self.reader;
                crate::chain::guard(|| reader.add_splits(splits))?;
            }
            TaskCommand::SplitsAssigned => self.splits_assigned = true,
            TaskCommand::NoMoreSplits => {
                self.more_splits_come = false;
                self.reader.no_more_splits();
            }
            TaskCommand::AlignWatermark(max) => self.aligned_to = max,
            TaskCommand::TriggerCheckpoint(barrier) => return self.trigger(barrier),
            TaskCommand::CheckpointComplete(id) => return self.on_complete(id).map(|()| None),
            TaskCommand::CheckpointAborted(id) => {
                self.told.remove(&id);
                return Ok(None);
            }
            TaskCommand::Cancel | TaskCommand::Finish => return Ok(None),
        }
        if !self.ended {
            self.advance()?;
        }
        Ok(None)
    }

    fn barrier(&mut self, barrier: &CheckpointBarrier, snapshots: &mut ChainSnapshot) -> Result<()> {
        let mut snapshot = OperatorSnapshot::default();
        let positions = std::mem::take(&mut self.positions);
        if canary("stale-positions") {
            self.positions.clone_from(&positions);
        }
        snapshot.list.insert(SPLITS.to_owned(), positions.splits);
        snapshot.describe_list::<S::Split>(SPLITS);
        snapshot.list.insert(POSITIONS.to_owned(), positions.as_json);
        if let Some(from) = self.settings.span.from {
            snapshot.broadcast.insert(FROM.to_owned(), flott_state::encode("the start of a source", &from)?);
        }
        if let Some(read) = self.max_timestamp {
            let bytes = flott_state::encode("the greatest timestamp of a source", &read)?;
            snapshot.list.insert(MAX_TIMESTAMP.to_owned(), vec![bytes]);
        }
        snapshots.push(&self.uid, snapshot.into());
        self.end.barrier(barrier, snapshots)
    }

    fn next_wakeup(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let idle_at = self.idle_timeout().and_then(|timeout| {
            let waiting = self.splits.values().filter(|split| !split.idle);
            waiting.filter_map(|split| split.caught_up_since).min().map(|since| since + timeout)
        });
        let needs_periodic = self.splits.values().any(|split| split.generator.is_periodic());
        let periodic =
            self.last_periodic.filter(|_| needs_periodic).map(|last| last + self.settings.periodic_interval);
        let aligned = self
            .strategy
            .alignment()
            .and(self.last_reported)
            .map(|last| last + self.settings.alignment_interval);
        idle_at.into_iter().chain(periodic).chain(aligned).chain(self.look_again_at).min()
    }
}
