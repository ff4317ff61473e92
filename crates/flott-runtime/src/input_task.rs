//! Tasks that read from other tasks.

use crate::alignment::{Alignment, BarrierSettings, BothGates, Gates};
use crate::chain::{Place, first_incomplete, guard};
use crate::subtask::{Clock, Step, TaskInput};
use flott_env::Instant;
use flott_exchange::{AlignerOutput, InputGate, ValveOutput, WatermarkValve};
use flott_graph::TaskCommand;
use flott_operators::{OperatorOutput, Output, OutputControl, OutputMetrics, SideChannels, TwoInputOperator};
use flott_state::{ChainSnapshot, OperatorSnapshot, SnapshotProgress};
use flott_types::{
    CheckpointBarrier, CheckpointId, Data, Error, OperatorUid, RecordBatch, Result, StreamElement,
    StreamStatus, Timestamp, Watermark,
};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

fn upstream_gone() -> Error {
    Error::subtask("a task upstream has stopped")
}

/// Passes on what changed. Idle goes behind the watermark: what that makes operators emit is not the output of an idle
/// channel, which nobody downstream would wait for. Active goes before it.
fn pass_on(chain: &mut dyn OutputControl, output: ValveOutput) -> Result<Step> {
    if output.status == Some(StreamStatus::Active) {
        chain.status(StreamStatus::Active)?;
    }
    if let Some(watermark) = output.watermark {
        chain.watermark(watermark)?;
    }
    if output.status == Some(StreamStatus::Idle) {
        chain.status(StreamStatus::Idle)?;
    }
    if output.end_of_data {
        chain.end_of_data()?;
        return Ok(Step::Ended);
    }
    Ok(Step::Progress)
}

/// What was in flight when the snapshot was taken that a task goes on from, for one input.
pub(crate) struct Replay<T> {
    /// How far event time was in the channels, if they are the same.
    pub(crate) event_time: Option<Vec<(Watermark, StreamStatus)>>,
    pub(crate) elements: Vec<(usize, StreamElement<T>)>,
}

impl<T: Data> Replay<T> {
    fn into_gate(self, gate: &mut InputGate<T>) -> WatermarkValve {
        gate.preload(self.elements);
        match self.event_time {
            Some(channels) => WatermarkValve::restored(channels),
            None => WatermarkValve::new(gate.n_channels()),
        }
    }
}

/// Event time that was reached before a restore and that nobody downstream has heard of since.
fn known(watermark: Watermark) -> Option<Watermark> {
    Some(watermark).filter(|watermark| *watermark > Watermark::MIN)
}

/// A chain behind one gate.
pub(crate) struct OneInputTask<T> {
    gate: InputGate<T>,
    valve: WatermarkValve,
    alignment: Alignment,
    ended: bool,
    restored_watermark: Option<Watermark>,
    chain: Box<dyn Output<T>>,
}

impl<T: Data> OneInputTask<T> {
    pub(crate) fn new(
        mut gate: InputGate<T>,
        replay: Replay<T>,
        chain: Box<dyn Output<T>>,
        settings: BarrierSettings,
    ) -> Self {
        if settings.overtaking.is_some() {
            gate.watch(0);
        }
        let valve = replay.into_gate(&mut gate);
        let alignment = Alignment::new(gate.n_channels(), settings);
        let restored_watermark = known(valve.current());
        Self { gate, valve, alignment, ended: false, restored_watermark, chain }
    }

    fn overtake(&mut self, clock: Clock) -> Result<Option<Step>> {
        let Self { gate, valve, alignment, .. } = self;
        alignment.overtake(gate, &|| valve.channels().collect(), clock)
    }

    fn pass_on(&mut self, output: ValveOutput) -> Result<Step> {
        // Barriers come behind the end of the last channel, and it does not end again.
        let output = ValveOutput { end_of_data: output.end_of_data && !self.ended, ..output };
        self.ended |= output.end_of_data;
        pass_on(self.chain(), output)
    }

    fn follow(&mut self, channel: usize, output: AlignerOutput) {
        if output.unblock_all {
            self.gate.unblock_all();
        }
        if output.block {
            self.gate.block(channel);
        }
        self.alignment.follow(output);
    }
}

impl<T: Data> TaskInput for OneInputTask<T> {
    fn chain(&mut self) -> &mut dyn OutputControl {
        &mut self.chain
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, clock: Clock) -> Poll<Result<Step>> {
        self.alignment.trigger_at_end(self.ended);
        if let Some(step) = self.overtake(clock)? {
            return Poll::Ready(Ok(step));
        }
        if let Some(watermark) = self.restored_watermark.take() {
            self.chain.watermark(watermark)?;
        }
        let step = match self.gate.poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            // Neighbours of a task that has ended may be gone before it.
            Poll::Ready(Err(_)) if self.ended => return Poll::Pending,
            Poll::Ready(Err(_)) => Err(upstream_gone()),
            Poll::Ready(Ok((_, StreamElement::Records(batch)))) => {
                self.chain.emit(batch).map(|()| Step::Progress)
            }
            Poll::Ready(Ok((channel, StreamElement::Watermark(watermark)))) => {
                let output = self.valve.on_watermark(channel, watermark);
                self.pass_on(output)
            }
            Poll::Ready(Ok((channel, StreamElement::Status(status)))) => {
                let output = self.valve.on_status(channel, status);
                self.pass_on(output)
            }
            Poll::Ready(Ok((channel, StreamElement::Barrier(barrier)))) => {
                let output = self.alignment.aligner.on_barrier(channel, barrier);
                self.follow(channel, output);
                Ok(self.alignment.take_due().unwrap_or(Step::Progress))
            }
            Poll::Ready(Ok((channel, StreamElement::EndOfData))) => {
                let output = self.alignment.aligner.on_end_of_data(channel);
                self.follow(channel, output);
                let output = self.valve.on_end_of_data(channel);
                self.pass_on(output)
            }
        };
        Poll::Ready(step)
    }

    fn on_command(&mut self, command: TaskCommand) -> Result<Option<Step>> {
        match command {
            TaskCommand::CheckpointAborted(id) => {
                self.alignment.cancel(id, &mut self.gate);
                Ok(None)
            }
            TaskCommand::TriggerCheckpoint(barrier) => {
                self.alignment.triggered = Some(barrier);
                Ok(None)
            }
            TaskCommand::Cancel
            | TaskCommand::AddSplits(_)
            | TaskCommand::SplitsAssigned
            | TaskCommand::NoMoreSplits
            | TaskCommand::AlignWatermark(_)
            | TaskCommand::CheckpointComplete(_)
            | TaskCommand::Finish => Ok(None),
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        self.alignment.next_wakeup()
    }

    fn poll_pushed_back(&mut self, cx: &mut Context<'_>, clock: Clock) -> Result<Option<Step>> {
        if self.alignment.may_overtake() {
            self.gate.listen(cx);
            return self.overtake(clock);
        }
        Ok(None)
    }

    fn next_wakeup_pushed_back(&self) -> Option<Instant> {
        self.alignment.next_wakeup()
    }
}

/// The head of a chain with two inputs.
pub(crate) struct TwoInputLink<A, B, O, Op> {
    operator: Op,
    output: Box<dyn Output<O>>,
    sides: SideChannels,
    metrics: Arc<OutputMetrics>,
    place: Place,
    records_in: u64,
    inputs: PhantomData<fn(A, B)>,
}

impl<A, B, O, Op: TwoInputOperator<A, B, O>> TwoInputLink<A, B, O, Op> {
    pub(crate) fn new(
        operator: Op,
        output: Box<dyn Output<O>>,
        sides: SideChannels,
        metrics: Arc<OutputMetrics>,
        place: Place,
    ) -> Self {
        Self { operator, output, sides, metrics, place, records_in: 0, inputs: PhantomData }
    }

    fn call<R>(&mut self, f: impl FnOnce(&mut Op, &mut OperatorOutput<'_, O>) -> Result<R>) -> Result<R> {
        let Self { operator, output, sides, metrics, place, records_in, .. } = self;
        let mut out = OperatorOutput::new(&mut **output, sides, metrics);
        let result = guard(|| f(operator, &mut out));
        let value = result.map_err(|error| error.at(|| format!("{place}, after record {records_in}")))?;
        sides.flush()?;
        Ok(value)
    }

    /// Calls the operator with records.
    fn process(
        &mut self,
        n_records: usize,
        f: impl FnOnce(&mut Op, &mut OperatorOutput<'_, O>) -> Result<()>,
    ) -> Result<()> {
        let Self { operator, output, sides, metrics, place, records_in, .. } = self;
        metrics.records_in.fetch_add(n_records as u64, Ordering::Relaxed);
        let mut out = OperatorOutput::new(&mut **output, sides, metrics);
        let processed = guard(|| f(operator, &mut out));
        let at = *records_in + operator.progress() as u64 + 1;
        processed.map_err(|error| error.at(|| format!("{place}, record {at}")))?;
        *records_in += n_records as u64;
        sides.flush()
    }
}

impl<A, B, O, Op: TwoInputOperator<A, B, O>> OutputControl for TwoInputLink<A, B, O, Op> {
    fn watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.metrics.current_input_watermark.store(watermark.0, Ordering::Relaxed);
        self.call(|operator, out| operator.on_watermark(watermark, out))
    }
    fn status(&mut self, status: StreamStatus) -> Result<()> {
        self.call(|_, out| out.emit_status(status))
    }
    fn end_of_data(&mut self) -> Result<()> {
        self.call(|operator, out| operator.on_end_of_data(out))
    }
    fn processing_time(&mut self, now: Timestamp) -> Result<()> {
        self.call(|operator, out| operator.on_processing_time(now, out))?;
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.processing_time(now))?;
        self.output.processing_time(now)
    }
    fn next_timer(&self) -> Option<Timestamp> {
        let sides = self.sides.receivers.iter().filter_map(|(_, receiver)| receiver.next_timer());
        self.operator.next_timer().into_iter().chain(self.output.next_timer()).chain(sides).min()
    }
    fn flush(&mut self) -> Result<()> {
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.flush())?;
        self.output.flush()
    }
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut ready = self.output.poll_ready(cx)?;
        for (_, receiver) in &mut self.sides.receivers {
            ready = crate::chain::both(ready, receiver.poll_ready(cx)?);
        }
        ready.map(Ok)
    }
    fn snapshot(&mut self, snapshots: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
        let mut snapshot = OperatorSnapshot::default();
        self.call(|operator, _| operator.snapshot(&mut snapshot))?;
        snapshots.push((self.place.uid.clone(), snapshot));
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.snapshot(snapshots))?;
        self.output.snapshot(snapshots)
    }
    fn barrier(&mut self, barrier: &CheckpointBarrier, snapshots: &mut ChainSnapshot) -> Result<()> {
        let mut snapshot = snapshots.begin();
        self.call(|operator, _| operator.begin_snapshot(&mut snapshot))?;
        snapshots.push(&self.place.uid, snapshot);
        self.sides.receivers.iter_mut().try_for_each(|(_, receiver)| receiver.barrier(barrier, snapshots))?;
        self.output.barrier(barrier, snapshots)
    }
    fn snapshot_step(&mut self, places: usize) -> Result<SnapshotProgress> {
        let own = self.call(|operator, _| Ok(operator.snapshot_step(places)))?;
        if own != SnapshotProgress::Complete {
            return Ok(own);
        }
        let sides = self.sides.receivers.iter_mut();
        match first_incomplete(sides, |(_, receiver)| receiver.snapshot_step(places))? {
            SnapshotProgress::Complete => self.output.snapshot_step(places),
            progress => Ok(progress),
        }
    }
    fn checkpoint_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let mut sides = self.sides.receivers.iter_mut();
        sides.try_for_each(|(_, receiver)| receiver.checkpoint_complete(checkpoint_id))?;
        self.output.checkpoint_complete(checkpoint_id)
    }
    fn checkpoint_aborted(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let mut sides = self.sides.receivers.iter_mut();
        sides.try_for_each(|(_, receiver)| receiver.checkpoint_aborted(checkpoint_id))?;
        self.output.checkpoint_aborted(checkpoint_id)
    }
}

/// What the head of a two-input chain takes, without the types of operator and output.
pub(crate) trait TwoInputChain<A, B>: OutputControl {
    fn emit1(&mut self, batch: RecordBatch<A>) -> Result<()>;
    fn emit2(&mut self, batch: RecordBatch<B>) -> Result<()>;
    fn as_control(&mut self) -> &mut dyn OutputControl;
}

impl<A, B, O, Op> TwoInputChain<A, B> for TwoInputLink<A, B, O, Op>
where
    A: 'static,
    B: 'static,
    O: 'static,
    Op: TwoInputOperator<A, B, O> + 'static,
{
    fn emit1(&mut self, batch: RecordBatch<A>) -> Result<()> {
        self.process(batch.len(), |operator, out| operator.process_batch1(batch, out))
    }
    fn emit2(&mut self, batch: RecordBatch<B>) -> Result<()> {
        self.process(batch.len(), |operator, out| operator.process_batch2(batch, out))
    }
    fn as_control(&mut self) -> &mut dyn OutputControl {
        self
    }
}

/// A chain behind two gates, polled in turn.
pub(crate) struct TwoInputTask<A, B> {
    first: InputGate<A>,
    second: InputGate<B>,
    valves: [WatermarkValve; 2],
    /// Combines both inputs: a gate is a channel of it.
    combined: WatermarkValve,
    ended: [bool; 2],
    /// Over the channels of both inputs: those of the second follow those of the first.
    alignment: Alignment,
    second_next: bool,
    restored_watermark: Option<Watermark>,
    chain: Box<dyn TwoInputChain<A, B>>,
}

impl<A: Data, B: Data> TwoInputTask<A, B> {
    pub(crate) fn new(
        (mut first, replay1): (InputGate<A>, Replay<A>),
        (mut second, replay2): (InputGate<B>, Replay<B>),
        chain: Box<dyn TwoInputChain<A, B>>,
        settings: BarrierSettings,
    ) -> Self {
        if settings.overtaking.is_some() {
            first.watch(0);
            second.watch(first.n_channels());
        }
        let alignment = Alignment::new(first.n_channels() + second.n_channels(), settings);
        let valves = [replay1.into_gate(&mut first), replay2.into_gate(&mut second)];
        let combined = WatermarkValve::restored(valves.iter().map(|valve| (valve.current(), valve.status())));
        let restored_watermark = known(combined.current());
        Self {
            first,
            second,
            valves,
            combined,
            ended: [false; 2],
            alignment,
            second_next: false,
            restored_watermark,
            chain,
        }
    }

    fn overtake(&mut self, clock: Clock) -> Result<Option<Step>> {
        let Self { first, second, valves, alignment, .. } = self;
        let event_time = || valves.iter().flat_map(WatermarkValve::channels).collect();
        alignment.overtake(&mut BothGates(first, second), &event_time, clock)
    }

    /// Handles what is not records; `idx` is the input.
    #[expect(clippy::indexing_slicing, reason = "there are two inputs, 0 and 1")]
    fn on_control(
        &mut self,
        idx: usize,
        change: impl FnOnce(&mut WatermarkValve) -> ValveOutput,
    ) -> Result<Step> {
        let of_input = change(&mut self.valves[idx]);
        // In the order in which one input passes them on.
        if of_input.status == Some(StreamStatus::Active) {
            let output = self.combined.on_status(idx, StreamStatus::Active);
            self.pass_on(output)?;
        }
        if let Some(watermark) = of_input.watermark {
            let output = self.combined.on_watermark(idx, watermark);
            self.pass_on(output)?;
        }
        if of_input.status == Some(StreamStatus::Idle) {
            let output = self.combined.on_status(idx, StreamStatus::Idle);
            self.pass_on(output)?;
        }
        if of_input.end_of_data && !self.ended[idx] {
            self.ended[idx] = true;
            let output = self.combined.on_end_of_data(idx);
            return self.pass_on(output);
        }
        Ok(Step::Progress)
    }

    fn pass_on(&mut self, output: ValveOutput) -> Result<Step> {
        pass_on(self.chain(), output)
    }

    /// `channel` counts over both inputs.
    fn follow(&mut self, channel: usize, output: AlignerOutput) {
        if output.unblock_all {
            self.first.unblock_all();
            self.second.unblock_all();
        }
        if output.block {
            match channel.checked_sub(self.first.n_channels()) {
                None => self.first.block(channel),
                Some(of_second) => self.second.block(of_second),
            }
        }
        self.alignment.follow(output);
    }

    /// Handles what is not records; `idx` is the input.
    fn on_element<T>(&mut self, idx: usize, channel: usize, element: &StreamElement<T>) -> Result<Step> {
        let over_both = if idx == 0 { channel } else { self.first.n_channels() + channel };
        if let StreamElement::Barrier(barrier) = element {
            let output = self.alignment.aligner.on_barrier(over_both, *barrier);
            self.follow(over_both, output);
            return Ok(self.alignment.take_due().unwrap_or(Step::Progress));
        }
        if let StreamElement::EndOfData = element {
            let output = self.alignment.aligner.on_end_of_data(over_both);
            self.follow(over_both, output);
        }
        self.on_control(idx, |valve| apply(valve, channel, element))
    }

    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step>> {
        let (channel, element) = match self.first.poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) if self.ended[0] => return Poll::Pending,
            Poll::Ready(next) => next.map_err(|_| upstream_gone())?,
        };
        match element {
            StreamElement::Records(batch) => Poll::Ready(self.chain.emit1(batch).map(|()| Step::Progress)),
            other => Poll::Ready(self.on_element(0, channel, &other)),
        }
    }

    fn poll_second(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step>> {
        let (channel, element) = match self.second.poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) if self.ended[1] => return Poll::Pending,
            Poll::Ready(next) => next.map_err(|_| upstream_gone())?,
        };
        match element {
            StreamElement::Records(batch) => Poll::Ready(self.chain.emit2(batch).map(|()| Step::Progress)),
            other => Poll::Ready(self.on_element(1, channel, &other)),
        }
    }
}

fn apply<T>(valve: &mut WatermarkValve, channel: usize, element: &StreamElement<T>) -> ValveOutput {
    match element {
        StreamElement::Records(_) | StreamElement::Barrier(_) => ValveOutput::default(),
        StreamElement::Watermark(watermark) => valve.on_watermark(channel, *watermark),
        StreamElement::Status(status) => valve.on_status(channel, *status),
        StreamElement::EndOfData => valve.on_end_of_data(channel),
    }
}

impl<A: Data, B: Data> TaskInput for TwoInputTask<A, B> {
    fn chain(&mut self) -> &mut dyn OutputControl {
        self.chain.as_control()
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, clock: Clock) -> Poll<Result<Step>> {
        self.alignment.trigger_at_end(self.ended == [true; 2]);
        if let Some(step) = self.overtake(clock)? {
            return Poll::Ready(Ok(step));
        }
        if let Some(watermark) = self.restored_watermark.take() {
            self.chain().watermark(watermark)?;
        }
        // In turn, so that neither input starves the other.
        self.second_next = !self.second_next;
        if self.second_next {
            match self.poll_first(cx) {
                Poll::Pending => self.poll_second(cx),
                ready @ Poll::Ready(_) => ready,
            }
        } else {
            match self.poll_second(cx) {
                Poll::Pending => self.poll_first(cx),
                ready @ Poll::Ready(_) => ready,
            }
        }
    }

    fn on_command(&mut self, command: TaskCommand) -> Result<Option<Step>> {
        match command {
            TaskCommand::CheckpointAborted(id) => {
                self.alignment.cancel(id, &mut BothGates(&mut self.first, &mut self.second));
                Ok(None)
            }
            TaskCommand::TriggerCheckpoint(barrier) => {
                self.alignment.triggered = Some(barrier);
                Ok(None)
            }
            TaskCommand::Cancel
            | TaskCommand::AddSplits(_)
            | TaskCommand::SplitsAssigned
            | TaskCommand::NoMoreSplits
            | TaskCommand::AlignWatermark(_)
            | TaskCommand::CheckpointComplete(_)
            | TaskCommand::Finish => Ok(None),
        }
    }

    fn next_wakeup(&self) -> Option<Instant> {
        self.alignment.next_wakeup()
    }

    fn poll_pushed_back(&mut self, cx: &mut Context<'_>, clock: Clock) -> Result<Option<Step>> {
        if self.alignment.may_overtake() {
            BothGates(&mut self.first, &mut self.second).listen(cx);
            return self.overtake(clock);
        }
        Ok(None)
    }

    fn next_wakeup_pushed_back(&self) -> Option<Instant> {
        self.alignment.next_wakeup()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_exchange::input_gate;
    use flott_types::CheckpointingMode;
    use std::sync::Mutex;

    /// Writes down what comes.
    struct Written(Arc<Mutex<Vec<String>>>);

    impl Written {
        fn write(&self, line: String) -> Result<()> {
            self.0.lock().unwrap().push(line);
            Ok(())
        }
    }

    impl OutputControl for Written {
        fn watermark(&mut self, watermark: Watermark) -> Result<()> {
            self.write(watermark.to_string())
        }
        fn status(&mut self, status: StreamStatus) -> Result<()> {
            self.write(format!("{status:?}"))
        }
        fn end_of_data(&mut self) -> Result<()> {
            self.write("end".to_owned())
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

    impl TwoInputChain<(), ()> for Written {
        fn emit1(&mut self, _: RecordBatch<()>) -> Result<()> {
            Ok(())
        }
        fn emit2(&mut self, _: RecordBatch<()>) -> Result<()> {
            Ok(())
        }
        fn as_control(&mut self) -> &mut dyn OutputControl {
            self
        }
    }

    /// After "idle" a reader of several subtasks would take the first watermark for that of all.
    #[test]
    fn an_input_that_becomes_idle_delivers_its_watermark_first() {
        let lines = Arc::default();
        let (first, second) = (input_gate(2, 1).0, input_gate(1, 1).0);
        let chain = Box::new(Written(Arc::clone(&lines)));
        let none = || Replay { event_time: None, elements: Vec::new() };
        let settings = BarrierSettings { mode: CheckpointingMode::ExactlyOnce, overtaking: None };
        let mut task = TwoInputTask::new((first, none()), (second, none()), chain, settings);
        let steps: [(usize, usize, StreamElement<()>); 5] = [
            (0, 0, StreamElement::Watermark(Watermark(5))),
            (0, 1, StreamElement::Watermark(Watermark(9))),
            (1, 0, StreamElement::Status(StreamStatus::Idle)),
            (0, 1, StreamElement::Status(StreamStatus::Idle)),
            (0, 0, StreamElement::Status(StreamStatus::Idle)),
        ];
        for (input, channel, element) in steps {
            task.on_control(input, |valve| apply(valve, channel, &element)).unwrap();
        }
        assert_eq!(*lines.lock().unwrap(), ["W5", "W9", "Idle"]);
    }
}
