//! The event loop of a subtask.

use crate::attempt::AtEnd;
use crate::checkpointing::PartSink;
use flott_env::sync::mpsc;
use flott_env::{Env, Instant};
use flott_graph::{SubtaskId, TaskCommand, TaskEvent};
use flott_operators::OutputControl;
use flott_state::{ChainSnapshot, IN_FLIGHT, SnapshotProgress};
use flott_types::{CheckpointBarrier, CheckpointId, CheckpointKind, Result, Timestamp};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Both clocks, read once per step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Instant,
    pub(crate) processing_time: Timestamp,
}

/// What a step of the input came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something was processed.
    Progress,
    /// The end of data went into the chain.
    Ended,
    /// Barriers came.
    Aligned {
        /// These checkpoints are not taken here.
        aborted: Vec<CheckpointId>,
        /// All barriers of this one are there: the snapshot is taken before anything else happens.
        complete: Option<CheckpointBarrier>,
    },
    /// A barrier has overtaken records: the snapshot of the operators is taken before anything else happens.
    Overtaken {
        /// These checkpoints are not taken here.
        aborted: Vec<CheckpointId>,
        /// The barrier.
        barrier: CheckpointBarrier,
    },
    /// All that the barrier of this checkpoint has overtaken is known; with that its snapshot is complete.
    Recorded {
        /// The checkpoint.
        checkpoint_id: CheckpointId,
        /// What was in flight, as entries of a state.
        in_flight: Vec<Vec<u8>>,
    },
}

/// Where the records of a subtask come from, with the chain that they go through.
pub(crate) trait TaskInput: Send {
    /// The chain, for everything but records.
    fn chain(&mut self) -> &mut dyn OutputControl;
    /// Takes one element from the input through the chain.
    fn poll_step(&mut self, cx: &mut Context<'_>, clock: Clock) -> Poll<Result<Step>>;
    /// A command of the control plane, other than to cancel; what comes of it happens at once.
    fn on_command(&mut self, command: TaskCommand) -> Result<Option<Step>>;
    /// When the input wants to be polled though nothing has come.
    fn next_wakeup(&self) -> Option<Instant>;
    /// Called in place of [`TaskInput::poll_step`] while something cannot get out: takes no records, but barriers that may overtake them.
    fn poll_pushed_back(&mut self, cx: &mut Context<'_>, clock: Clock) -> Result<Option<Step>> {
        let _unused = (cx, clock);
        Ok(None)
    }
    /// When the input wants [`TaskInput::poll_pushed_back`] though nothing has come.
    fn next_wakeup_pushed_back(&self) -> Option<Instant> {
        None
    }
    /// Takes the snapshot of the input and of the chain, and sends the barrier on.
    fn barrier(&mut self, barrier: &CheckpointBarrier, snapshots: &mut ChainSnapshot) -> Result<()> {
        self.chain().barrier(barrier, snapshots)
    }
}

/// How a subtask ended.
enum End {
    Finished,
    Canceled,
}

/// Steps before other tasks of the same thread get their turn.
const STEPS_PER_POLL: usize = 8;

/// How soon a snapshot goes on whose writer was behind, if nothing else happens.
const WRITER_BEHIND_PAUSE: Duration = Duration::from_millis(1);

/// One subtask.
pub(crate) struct Subtask {
    pub(crate) id: SubtaskId,
    pub(crate) env: Env,
    pub(crate) input: Box<dyn TaskInput>,
    pub(crate) mailbox: mpsc::Receiver<TaskCommand>,
    pub(crate) events: mpsc::Sender<TaskEvent>,
    pub(crate) buffer_timeout: Duration,
    /// How many places of tables are looked at between two steps while a snapshot is under way.
    pub(crate) snapshot_places: usize,
    /// `None` if the job takes no checkpoints.
    pub(crate) parts: Option<PartSink>,
    pub(crate) at_end: AtEnd,
    pub(crate) state: LoopState,
}

type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the loop remembers between polls.
#[derive(Default)]
pub(crate) struct LoopState {
    /// The end of data went into the chain. With checkpoints the subtask lives on: the last one commits.
    ended: bool,
    /// The report of that, until the master takes it.
    reporting_end: Option<BoxFuture>,
    end_reported: bool,
    /// Nothing is processed behind the barrier of this savepoint, unless it is aborted.
    suspended: Option<CheckpointId>,
    /// What operators have begun at a barrier and not yet sent.
    snapshot: Option<SnapshotProgress>,
    /// Something cannot get out of the chain, perhaps the end of data.
    pushed_back: bool,
    /// The snapshot of a barrier that has overtaken records which have not all come.
    held: Option<Held>,
    /// The last checkpoint is complete.
    finishing: bool,
    told_processing_time: Option<Timestamp>,
    last_flush: Option<Instant>,
    alarm: Option<(Instant, BoxFuture)>,
}

/// What the operators left for a checkpoint, until everything is known that was in flight.
struct Held {
    barrier: CheckpointBarrier,
    snapshot: ChainSnapshot,
    end_of_data: bool,
}

impl Subtask {
    /// Runs to the end and says how it came. The caller reports it before anything of the subtask is dropped, so that a
    /// failure is known before its neighbours notice that it is gone.
    pub(crate) async fn run(&mut self) -> TaskEvent {
        match std::future::poll_fn(|cx| self.poll(cx)).await {
            Ok(End::Finished) => TaskEvent::Finished(self.id),
            Ok(End::Canceled) => TaskEvent::Canceled(self.id),
            Err(error) => TaskEvent::Failed(self.id, error),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End>> {
        for _ in 0..STEPS_PER_POLL {
            // 1. Commands.
            loop {
                match self.mailbox.poll_recv(cx) {
                    Poll::Ready(Some(TaskCommand::Cancel) | None) => return Poll::Ready(Ok(End::Canceled)),
                    Poll::Ready(Some(command)) => self.on_command(command)?,
                    Poll::Pending => break,
                }
            }
            self.snapshot_step(self.snapshot_places)?;
            // 2. Back-pressure: nothing is taken in while something cannot get out.
            let ready = self.input.chain().poll_ready(cx)?;
            self.state.pushed_back = ready.is_pending();
            match ready {
                Poll::Ready(()) if self.may_finish() => {
                    self.snapshot_step(usize::MAX)?;
                    return Poll::Ready(Ok(End::Finished));
                }
                Poll::Ready(()) => self.report_end(cx),
                // Whoever is full wakes the task; timers wait too, or their output would pile up. Barriers need not.
                Poll::Pending => {
                    let clock = self.clock();
                    let Some(step) = self.input.poll_pushed_back(cx, clock)? else {
                        let deadline = self.input.next_wakeup_pushed_back();
                        return self.wait_until(cx, deadline);
                    };
                    self.after(step)?;
                    continue;
                }
            }
            if self.state.suspended.is_some() {
                return self.wait_until(cx, None);
            }
            // 3. Processing time, when it has moved. Behind the end of data nothing more is emitted.
            let clock = self.clock();
            if !self.state.ended && self.state.told_processing_time != Some(clock.processing_time) {
                self.state.told_processing_time = Some(clock.processing_time);
                self.input.chain().processing_time(clock.processing_time)?;
                continue;
            }
            // 4. Input.
            match self.input.poll_step(cx, clock)? {
                Poll::Ready(step) => {
                    self.after(step)?;
                    self.flush_if_due(clock.now)?;
                }
                Poll::Pending => {
                    // Nothing to do: what was held back to fill a batch goes out now.
                    self.input.chain().flush()?;
                    self.state.last_flush = Some(clock.now);
                    return match self.input.chain().poll_ready(cx)? {
                        Poll::Ready(()) => self.wait(cx),
                        Poll::Pending => self.wait_until(cx, self.input.next_wakeup_pushed_back()),
                    };
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn clock(&self) -> Clock {
        Clock { now: self.env.now(), processing_time: self.env.processing_time() }
    }

    fn on_command(&mut self, command: TaskCommand) -> Result<()> {
        match &command {
            TaskCommand::CheckpointComplete(id) => self.input.chain().checkpoint_complete(*id)?,
            TaskCommand::CheckpointAborted(id) => {
                self.input.chain().checkpoint_aborted(*id)?;
                self.state.suspended.take_if(|suspended| suspended == id);
                self.state.held.take_if(|held| held.barrier.id == *id);
            }
            TaskCommand::Finish => self.state.finishing = true,
            TaskCommand::Cancel
            | TaskCommand::AddSplits(_)
            | TaskCommand::SplitsAssigned
            | TaskCommand::NoMoreSplits
            | TaskCommand::AlignWatermark(_)
            | TaskCommand::TriggerCheckpoint(_) => {}
        }
        match self.input.on_command(command)? {
            Some(step) => self.after(step),
            None => Ok(()),
        }
    }

    fn after(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Progress => Ok(()),
            Step::Ended => {
                self.state.ended = true;
                Ok(())
            }
            Step::Aligned { aborted, complete } => {
                self.abort(&aborted)?;
                complete.map_or(Ok(()), |barrier| self.checkpoint(barrier))
            }
            Step::Overtaken { aborted, barrier } => {
                self.abort(&aborted)?;
                let snapshot = self.begin_snapshot(&barrier)?;
                self.state.held = Some(Held { barrier, snapshot, end_of_data: self.has_ended() });
                Ok(())
            }
            Step::Recorded { checkpoint_id, in_flight } => self.complete(checkpoint_id, in_flight),
        }
    }

    fn abort(&mut self, aborted: &[CheckpointId]) -> Result<()> {
        self.state.held.take_if(|held| aborted.contains(&held.barrier.id));
        match &mut self.parts {
            Some(parts) => aborted.iter().try_for_each(|checkpoint_id| parts.aborted(*checkpoint_id)),
            None => Ok(()),
        }
    }

    /// Adds what was in flight to the snapshot that was taken when the barrier overtook it.
    fn complete(&mut self, checkpoint_id: CheckpointId, in_flight: Vec<Vec<u8>>) -> Result<()> {
        let Some(held) = self.state.held.take_if(|held| held.barrier.id == checkpoint_id) else {
            return Ok(());
        };
        let Held { barrier, mut snapshot, end_of_data } = held;
        // The head of the chain is the first; it is who reads.
        if let (Some((_, head)), false) = (snapshot.operators.first_mut(), in_flight.is_empty()) {
            head.snapshot.list.insert(IN_FLIGHT.to_owned(), in_flight);
        }
        match &mut self.parts {
            Some(parts) => parts.snapshot(barrier, snapshot, end_of_data),
            None => Ok(()),
        }
    }

    /// The synchronous part of a checkpoint.
    fn checkpoint(&mut self, barrier: CheckpointBarrier) -> Result<()> {
        let snapshots = self.begin_snapshot(&barrier)?;
        if barrier.kind == CheckpointKind::SavepointSuspend {
            self.state.suspended = Some(barrier.id);
        }
        let end_of_data = self.has_ended();
        match &mut self.parts {
            Some(parts) => parts.snapshot(barrier, snapshots, end_of_data),
            None => Ok(()),
        }
    }

    /// Has all operators begin their snapshots and sends the barrier on.
    fn begin_snapshot(&mut self, barrier: &CheckpointBarrier) -> Result<ChainSnapshot> {
        // Tables are in one snapshot at a time.
        self.snapshot_step(usize::MAX)?;
        let bases = self.parts.as_ref().map(|parts| parts.bases(barrier)).unwrap_or_default();
        let mut snapshot = ChainSnapshot::new(barrier, bases);
        self.input.barrier(barrier, &mut snapshot)?;
        let has_streams = snapshot.operators.iter().any(|(_, begun)| !begun.streams.is_empty());
        self.state.snapshot = has_streams.then_some(SnapshotProgress::Unfinished);
        Ok(snapshot)
    }

    /// Goes on with the snapshot that is under way, if there is one.
    fn snapshot_step(&mut self, places: usize) -> Result<()> {
        if self.state.snapshot.is_some() {
            let progress = self.input.chain().snapshot_step(places)?;
            self.state.snapshot = Some(progress).filter(|progress| *progress != SnapshotProgress::Complete);
        }
        Ok(())
    }

    /// Whether the end of data has gone through the chain: an operator that pushes back may hold it.
    fn has_ended(&self) -> bool {
        self.state.ended && !self.state.pushed_back
    }

    /// Everything has gone through the chain, and somebody has seen to it that it is committed.
    fn may_finish(&self) -> bool {
        self.state.finishing || (self.state.ended && self.at_end == AtEnd::Finish)
    }

    /// Tells the master that only the last checkpoint is missing. Only now: operators may have held the end of data back.
    fn report_end(&mut self, cx: &mut Context<'_>) {
        let state = &mut self.state;
        if !state.ended || state.end_reported {
            return;
        }
        let (events, id) = (&self.events, self.id);
        let reporting = state.reporting_end.get_or_insert_with(|| {
            let events = events.clone();
            Box::pin(async move { drop(events.send(TaskEvent::Ended(id)).await) })
        });
        if reporting.as_mut().poll(cx).is_ready() {
            state.reporting_end = None;
            state.end_reported = true;
        }
    }

    fn flush_if_due(&mut self, now: Instant) -> Result<()> {
        let last = *self.state.last_flush.get_or_insert(now);
        if now - last >= self.buffer_timeout {
            self.state.last_flush = Some(now);
            self.input.chain().flush()?;
        }
        Ok(())
    }

    /// Waits for input or a command, which have taken the waker, or for the next timer.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<End>> {
        let now = self.env.now();
        let timer = self.input.chain().next_timer().filter(|_| !self.state.ended).map(|at| {
            let delay = at.saturating_sub(self.env.processing_time()).max(0);
            now + Duration::from_millis(delay.unsigned_abs())
        });
        let deadline = timer.into_iter().chain(self.input.next_wakeup()).min();
        self.wait_until(cx, deadline)
    }

    /// Waits for whoever has taken the waker, or for a point in time, but goes on with the snapshot that is under way.
    fn wait_until(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<Result<End>> {
        let retry = match self.state.snapshot {
            None | Some(SnapshotProgress::Complete) => None,
            Some(SnapshotProgress::Unfinished) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(SnapshotProgress::WriterBehind) => Some(self.env.now() + WRITER_BEHIND_PAUSE),
        };
        let Some(deadline) = deadline.into_iter().chain(retry).min() else {
            self.state.alarm = None;
            return Poll::Pending;
        };
        if self.state.alarm.as_ref().is_none_or(|(at, _)| *at != deadline) {
            self.state.alarm = Some((deadline, self.env.sleep_until(deadline)));
        }
        if let Some((_, alarm)) = &mut self.state.alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            self.state.alarm = None;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
