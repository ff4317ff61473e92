//! Where the barriers of a task are, and what follows from that for its gates.

use crate::subtask::{Clock, Step};
use flott_env::Instant;
use flott_exchange::{AlignerOutput, BarrierAligner, InputGate, Recorded};
use flott_schema::Type;
use flott_state::{InFlightLayout, encode_layout};
use flott_types::{
    CheckpointBarrier, CheckpointId, CheckpointingMode, Data, Result, StreamStatus, Watermark,
};
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

/// How barriers are treated in a task.
#[derive(Clone, Debug)]
pub(crate) struct BarrierSettings {
    pub(crate) mode: CheckpointingMode,
    /// `None` if no barrier overtakes records here.
    pub(crate) overtaking: Option<OvertakingSettings>,
}

#[derive(Clone, Debug)]
pub(crate) struct OvertakingSettings {
    /// So long after its trigger a barrier begins to overtake.
    pub(crate) timeout: Duration,
    /// The channels on which none does, those of the second input behind those of the first.
    pub(crate) aligned_only: Vec<bool>,
    /// What records in flight are written with; how far event time is in the channels is filled in when it is.
    pub(crate) layout: InFlightLayout,
    /// The types of the records of its edges.
    pub(crate) schemas: Vec<Option<Arc<Type>>>,
}

/// The gates of a task, whatever their types; channels count over both.
pub(crate) trait Gates {
    fn look(&mut self);
    fn listen(&mut self, cx: &Context<'_>);
    fn take_announced(&mut self) -> Vec<(usize, CheckpointBarrier)>;
    fn record(&mut self, id: CheckpointId, reached: Vec<bool>);
    fn poll_recorded(&mut self) -> Result<Recorded>;
    fn stop_recording(&mut self) -> Vec<Vec<u8>>;
    fn unblock_all(&mut self);
}

impl<T: Data> Gates for InputGate<T> {
    fn look(&mut self) {
        self.look();
    }
    fn listen(&mut self, cx: &Context<'_>) {
        self.listen(cx);
    }
    fn take_announced(&mut self) -> Vec<(usize, CheckpointBarrier)> {
        self.take_announced()
    }
    fn record(&mut self, id: CheckpointId, reached: Vec<bool>) {
        self.record(id, reached);
    }
    fn poll_recorded(&mut self) -> Result<Recorded> {
        self.poll_recorded()
    }
    fn stop_recording(&mut self) -> Vec<Vec<u8>> {
        self.stop_recording()
    }
    fn unblock_all(&mut self) {
        self.unblock_all();
    }
}

/// Both gates of a task with two inputs.
pub(crate) struct BothGates<'a, A, B>(pub(crate) &'a mut InputGate<A>, pub(crate) &'a mut InputGate<B>);

impl<A: Data, B: Data> Gates for BothGates<'_, A, B> {
    fn look(&mut self) {
        self.0.look();
        self.1.look();
    }
    fn listen(&mut self, cx: &Context<'_>) {
        self.0.listen(cx);
        self.1.listen(cx);
    }
    fn take_announced(&mut self) -> Vec<(usize, CheckpointBarrier)> {
        let n_first = self.0.n_channels();
        let mut announced = self.0.take_announced();
        let of_second = self.1.take_announced();
        announced.extend(of_second.into_iter().map(|(channel, barrier)| (n_first + channel, barrier)));
        announced
    }
    fn record(&mut self, id: CheckpointId, mut reached: Vec<bool>) {
        let of_second = reached.split_off(self.0.n_channels().min(reached.len()));
        self.0.record(id, reached);
        self.1.record(id, of_second);
    }
    fn poll_recorded(&mut self) -> Result<Recorded> {
        Ok(match (self.0.poll_recorded()?, self.1.poll_recorded()?) {
            (Recorded::GivenUp, _) | (_, Recorded::GivenUp) => Recorded::GivenUp,
            (Recorded::All, Recorded::All) => Recorded::All,
            (Recorded::Partly, _) | (_, Recorded::Partly) => Recorded::Partly,
        })
    }
    fn stop_recording(&mut self) -> Vec<Vec<u8>> {
        let mut entries = self.0.stop_recording();
        entries.extend(self.1.stop_recording());
        entries
    }
    fn unblock_all(&mut self) {
        self.0.unblock_all();
        self.1.unblock_all();
    }
}

/// A checkpoint whose barriers have overtaken and have not all come.
struct Recording {
    id: CheckpointId,
    layout: InFlightLayout,
    schemas: Vec<Option<Arc<Type>>>,
}

/// When the barriers of a checkpoint overtake.
#[derive(Clone, Copy)]
struct Deadline {
    id: CheckpointId,
    at: Instant,
    /// What it waits for then are barriers, and these wake the task.
    is_over: bool,
}

pub(crate) struct Alignment {
    pub(crate) aligner: BarrierAligner,
    /// What came of a barrier, to be handled before anything else is read.
    due: Option<AlignerOutput>,
    /// The master has triggered this task itself, because all that send it barriers have finished. It waits for the end of data,
    /// which is on its way.
    pub(crate) triggered: Option<CheckpointBarrier>,
    overtaking: Option<OvertakingSettings>,
    deadline: Option<Deadline>,
    recording: Option<Recording>,
}

impl Alignment {
    pub(crate) fn new(n_channels: usize, settings: BarrierSettings) -> Self {
        let mut aligner = BarrierAligner::new(n_channels, settings.mode);
        if let Some(overtaking) = &settings.overtaking {
            aligner = aligner.with_overtaking(overtaking.aligned_only.clone());
        }
        Self {
            aligner,
            due: None,
            triggered: None,
            overtaking: settings.overtaking,
            deadline: None,
            recording: None,
        }
    }

    /// Keeps what the task must do, if anything.
    pub(crate) fn follow(&mut self, output: AlignerOutput) {
        if output.complete.is_some() || !output.aborted.is_empty() {
            assert!(self.due.is_none(), "a barrier is handled before the next element is read");
            self.due = Some(output);
        }
    }

    pub(crate) fn trigger_at_end(&mut self, ended: bool) {
        if let Some(barrier) = self.triggered.take_if(|_| ended) {
            self.follow(AlignerOutput { complete: Some(barrier), ..AlignerOutput::default() });
        }
    }

    pub(crate) fn take_due(&mut self) -> Option<Step> {
        self.due.take().map(|AlignerOutput { aborted, complete, .. }| Step::Aligned { aborted, complete })
    }

    /// Somebody else has aborted the checkpoint.
    pub(crate) fn cancel(&mut self, id: CheckpointId, gates: &mut dyn Gates) {
        if self.aligner.on_canceled(id).unblock_all {
            gates.unblock_all();
        }
        if self.recording.take_if(|recording| recording.id == id).is_some() {
            gates.stop_recording();
        }
    }

    /// When [`Alignment::overtake`] wants to be called though nothing has come.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.deadline.filter(|deadline| !deadline.is_over).map(|deadline| deadline.at)
    }

    pub(crate) fn may_overtake(&self) -> bool {
        self.overtaking.is_some()
    }

    /// What barriers come to that need not wait for the records before them; `event_time` is that of the channels.
    pub(crate) fn overtake(
        &mut self,
        gates: &mut dyn Gates,
        event_time: &dyn Fn() -> Vec<(Watermark, StreamStatus)>,
        clock: Clock,
    ) -> Result<Option<Step>> {
        if !self.may_overtake() || self.due.is_some() {
            return Ok(self.take_due());
        }
        let Some(settings) = &self.overtaking else { return Ok(None) };
        gates.look();
        for (channel, barrier) in gates.take_announced() {
            self.aligner.on_announced(channel, barrier);
        }
        if let Some(step) = take_recorded(&mut self.recording, gates)? {
            return Ok(Some(step));
        }
        let Some(barrier) = self.aligner.overtaking() else {
            self.deadline = None;
            return Ok(None);
        };
        let new = || Deadline {
            id: barrier.id,
            at: clock.now + time_left(barrier, settings.timeout, clock),
            is_over: false,
        };
        let mut deadline = self.deadline.filter(|deadline| deadline.id == barrier.id).unwrap_or_else(new);
        deadline.is_over = clock.now >= deadline.at;
        self.deadline = Some(deadline);
        if !deadline.is_over || !self.aligner.may_overtake(barrier.id) {
            return Ok(None);
        }
        self.deadline = None;
        let mut layout = settings.layout.clone();
        for (channel, (watermark, status)) in layout.channels.iter_mut().zip(event_time()) {
            channel.watermark = watermark;
            channel.is_idle = status == StreamStatus::Idle;
        }
        let reached = self.aligner.reached(barrier.id);
        let mut aborted = self.aligner.overtake(barrier).aborted;
        // An older one that is still waited for has been given up: there is only one at a time.
        let recording = Recording { id: barrier.id, layout, schemas: settings.schemas.clone() };
        aborted.extend(self.recording.replace(recording).map(|older| older.id));
        gates.record(barrier.id, reached);
        gates.unblock_all();
        Ok(Some(Step::Overtaken { aborted, barrier }))
    }
}

/// The recording, if it has come to an end.
fn take_recorded(recording: &mut Option<Recording>, gates: &mut dyn Gates) -> Result<Option<Step>> {
    if recording.is_none() {
        return Ok(None);
    }
    let recorded = gates.poll_recorded()?;
    if recorded == Recorded::Partly {
        return Ok(None);
    }
    let Some(Recording { id, layout, schemas }) = recording.take() else { return Ok(None) };
    let mut entries = gates.stop_recording();
    if recorded == Recorded::GivenUp {
        return Ok(Some(Step::Aligned { aborted: vec![id], complete: None }));
    }
    if !entries.is_empty() {
        entries.insert(0, encode_layout(layout, &schemas)?);
    }
    Ok(Some(Step::Recorded { checkpoint_id: id, in_flight: entries }))
}

/// From the trigger on, but never longer than the time-out from now: the wall clock may jump, or be another machine's.
fn time_left(barrier: CheckpointBarrier, timeout: Duration, clock: Clock) -> Duration {
    let passed_ms = clock.processing_time.saturating_sub(barrier.timestamp).max(0);
    timeout.saturating_sub(Duration::from_millis(passed_ms.unsigned_abs()))
}
