//! One attempt to run a job: its subtasks, its enumerators, its checkpoints.

mod regions;

use crate::alignment::AlignmentGroup;
use crate::assignments::Assignments;
use crate::checkpoints::Checkpointing;
use crate::enumerators::{EnumeratorHost, Instruction};
use crate::job_master::SourceSpec;
use crate::job_state::{Action, JobState};
use flott_api::{EnumeratorInit, Until};
use flott_checkpoint as checkpoint;
use flott_checkpoint::Input;
use flott_env::sync::mpsc;
use flott_env::{Env, Instant};
use flott_graph::{SpanEnd, SplitRequest, SubtaskId, TaskCommand, TaskEvent, VertexId};
use flott_types::{CheckpointId, Error, OperatorUid, Result, SubtaskIndex, duration_ms};
use regions::Recovering;
use std::collections::{BTreeMap, BTreeSet};

/// Where each subtask takes commands.
pub(crate) type Mailboxes = BTreeMap<SubtaskId, mpsc::Sender<TaskCommand>>;

/// A source, its enumerator once it has been started, and when that next looks for new splits.
struct HostedSource {
    spec: SourceSpec,
    host: Option<Box<dyn EnumeratorHost>>,
    discover_at: Option<Instant>,
    /// The snapshot to start the enumerator from.
    restored: Option<Vec<u8>>,
    /// How often each reader was given splits.
    n_given: BTreeMap<SubtaskIndex, u64>,
    /// The readers that have read all that they were given.
    drained: BTreeMap<SubtaskIndex, SpanEnd>,
    /// The readers wait for a checkpoint before they read anything.
    is_held: bool,
    /// The enumerator awaits a checkpoint, and one was asked for.
    has_asked: bool,
    /// The first checkpoint that was triggered while it awaited one: what it has decided is in this and later ones. One from before may become complete
    /// meanwhile.
    held_in: Option<CheckpointId>,
}

impl HostedSource {
    /// Whether the source has no end of its own, but all readers have read what is there, and what the job reads of it has ended.
    fn has_passed_its_span(&self) -> bool {
        let all = self.drained.len() == self.spec.parallelism as usize;
        let ends = || self.drained.values();
        all && self.spec.span.until != Until::End
            && (ends().any(|end| *end == SpanEnd::Passed) || ends().all(|end| *end == SpanEnd::TimedOut))
    }

    fn awaits_checkpoint(&self) -> bool {
        self.host.as_ref().is_some_and(|host| host.awaits_checkpoint())
    }

    /// An enumerator may come to look for new splits only later, when a chain of sources switches to one that does.
    fn schedule_discovery(&mut self, now: Instant) {
        let interval = self.host.as_ref().and_then(|host| host.discovery_interval());
        if let (None, Some(interval)) = (self.discover_at, interval) {
            self.discover_at = Some(now + interval);
        }
    }
}

pub(crate) struct Attempt {
    env: Env,
    pub(crate) state: JobState,
    mailboxes: Mailboxes,
    sources: Vec<HostedSource>,
    groups: BTreeMap<String, AlignmentGroup>,
    /// `None` until all subtasks run, and in a job without checkpoints.
    pub(crate) checkpoints: Option<Checkpointing>,
    /// What can be started again by itself.
    regions: Vec<BTreeSet<SubtaskId>>,
    recovering: Recovering,
    /// Empty if no region can be started again by itself.
    assignments: Assignments,
}

impl Attempt {
    pub(crate) fn new(
        env: Env,
        mailboxes: Mailboxes,
        sources: &[SourceSpec],
        restored: &BTreeMap<OperatorUid, Vec<u8>>,
        regions: &[BTreeSet<SubtaskId>],
    ) -> Self {
        let mut groups: BTreeMap<String, AlignmentGroup> = BTreeMap::new();
        for source in sources {
            if let Some(alignment) = &source.alignment {
                let drift = duration_ms(alignment.max_drift);
                let group =
                    groups.entry(alignment.group.clone()).or_insert_with(|| AlignmentGroup::new(drift));
                let members = (0..source.parallelism).map(|idx| reader(source.vertex, SubtaskIndex(idx)));
                group.join(drift, members);
            }
        }
        let state = JobState::new(mailboxes.keys().copied());
        let hosted = |spec: &SourceSpec| HostedSource {
            spec: spec.clone(),
            host: None,
            discover_at: None,
            restored: restored.get(&spec.uid).cloned(),
            n_given: BTreeMap::new(),
            drained: BTreeMap::new(),
            is_held: false,
            has_asked: false,
            held_in: None,
        };
        let sources = sources.iter().map(hosted).collect();
        Self {
            env,
            state,
            mailboxes,
            sources,
            groups,
            checkpoints: None,
            regions: regions.to_vec(),
            recovering: Recovering::default(),
            assignments: Assignments::default(),
        }
    }

    /// When [`Attempt::discover`] or the checkpoints want to be called.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        // What stops is not triggered any more: a deadline that nobody heeds would come again at once, for ever.
        if self.state.is_stopping() {
            return None;
        }
        let discover = self.sources.iter().filter_map(|source| source.discover_at);
        discover
            .chain(self.recovery_due())
            .chain(self.checkpoints.as_ref().and_then(Checkpointing::next_deadline))
            .min()
    }

    /// An event of a subtask, with all that follows from it.
    pub(crate) async fn on_event(&mut self, event: TaskEvent) {
        let followed = self.follow(&event).await;
        let input = match &event {
            TaskEvent::Ended(id) => Some(Input::EndOfData(*id)),
            TaskEvent::Finished(id) => Some(Input::SubtaskFinished(*id)),
            TaskEvent::CheckpointAcknowledged { subtask, checkpoint, part, bases, end_of_data } => {
                Some(Input::Acknowledged {
                    checkpoint: *checkpoint,
                    subtask: *subtask,
                    part: part.clone(),
                    bases: bases.clone(),
                    end_of_data: *end_of_data,
                })
            }
            TaskEvent::CheckpointDeclined(..)
            | TaskEvent::Running(_)
            | TaskEvent::Canceled(_)
            | TaskEvent::Failed(..)
            | TaskEvent::SplitRequested(_)
            | TaskEvent::WatermarkReported(..) => None,
        };
        let input = match event {
            TaskEvent::CheckpointDeclined(subtask, checkpoint, reason) => {
                Some(Input::Declined { checkpoint, subtask, reason })
            }
            event => {
                let actions = self.state.on_event(event);
                self.act(actions).await;
                input
            }
        };
        self.stop_on_error(followed).await;
        if let Some(input) = input {
            self.checkpoint_input(input).await;
        }
    }

    /// Feeds the coordinator of checkpoints, if there is one and the attempt goes on.
    pub(crate) async fn checkpoint_input(&mut self, input: Input) {
        if let (Some(checkpoints), false) = (&mut self.checkpoints, self.state.is_stopping()) {
            let actions = checkpoints.handle(input);
            self.perform(actions).await;
        }
    }

    /// Carries out what the coordinator of checkpoints wants.
    pub(crate) async fn perform(&mut self, actions: Vec<checkpoint::Action>) {
        for action in actions {
            let performed = self.perform_one(action).await;
            self.stop_on_error(performed).await;
        }
    }

    async fn perform_one(&mut self, action: checkpoint::Action) -> Result<()> {
        use checkpoint::Action as Do;
        let Some(checkpoints) = &mut self.checkpoints else { return Ok(()) };
        match action {
            Do::TriggerSources { barrier, subtasks } => {
                // Before the trigger goes out: a split that was assigned is ahead of the trigger in its reader's mailbox, and so
                // in the reader's part; all others are in here.
                let states = enumerator_states(&self.sources)?;
                checkpoints.hold_enumerators(barrier.id, states);
                for source in self.sources.iter_mut().filter(|source| source.awaits_checkpoint()) {
                    source.held_in.get_or_insert(barrier.id);
                }
                self.assignments.on_triggered(barrier.id);
                for id in subtasks {
                    self.send(id, TaskCommand::TriggerCheckpoint(barrier)).await;
                }
            }
            Do::WriteManifest(request) => checkpoints.write_manifest(&request).await?,
            Do::NotifyComplete { id, is_final } => {
                checkpoints.on_complete(id, if is_final { "final checkpoint" } else { "checkpoint" });
                self.assignments.on_complete(id);
                self.tell_all(&TaskCommand::CheckpointComplete(id)).await;
                self.tell_enumerators(id).await?;
                if is_final {
                    self.tell_all(&TaskCommand::Finish).await;
                }
            }
            Do::NotifyAborted { id, reason } => {
                checkpoints.on_aborted(id, &reason);
                self.tell_all(&TaskCommand::CheckpointAborted(id)).await;
            }
            Do::Discard { id, kind } => checkpoints.discard(id, kind).await,
            Do::Subsume { replaced, kept } => checkpoints.subsume(replaced, kept).await,
            Do::DeleteFiles(files) => checkpoints.delete_files(files).await,
            Do::FailJob(error) => return Err(error),
            Do::SavepointDone { request, result } => {
                if let Ok(id) = result {
                    checkpoints.on_complete(id, "savepoint");
                }
                let is_done = result.is_ok();
                let kind = checkpoints.reply(request, result);
                if is_done && kind.is_some_and(|kind| kind.stops_job()) {
                    self.tell_all(&TaskCommand::Finish).await;
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn cancel(&mut self) {
        let actions = self.state.cancel();
        self.act(actions).await;
    }

    /// An error of the control plane stops the attempt.
    pub(crate) async fn stop_on_error(&mut self, result: Result<()>) {
        if let Err(error) = result {
            let actions = self.state.fail(error);
            self.act(actions).await;
        }
    }

    async fn act(&mut self, actions: Vec<Action>) {
        for Action::Cancel(id) in actions {
            self.send(id, TaskCommand::Cancel).await;
        }
    }

    /// What an event means for sources, beyond the state of the job.
    async fn follow(&mut self, event: &TaskEvent) -> Result<()> {
        match event {
            TaskEvent::SplitRequested(request) => self.on_split_request(*request).await?,
            TaskEvent::WatermarkReported(id, watermark) => {
                let group = self.groups.values_mut().find(|group| group.contains(*id));
                let limits = group.map(|group| group.on_report(*id, *watermark)).unwrap_or_default();
                self.limit(limits).await;
            }
            // It comes back, and the others of its group do not run away from it meanwhile.
            TaskEvent::Finished(id) | TaskEvent::Canceled(id) if self.is_leaving(*id) => {}
            TaskEvent::Finished(id) | TaskEvent::Canceled(id) | TaskEvent::Ended(id) => {
                let group = self.groups.values_mut().find(|group| group.contains(*id));
                let limits = group.map(|group| group.on_ended(*id)).unwrap_or_default();
                self.limit(limits).await;
            }
            TaskEvent::Running(_)
            | TaskEvent::Failed(..)
            | TaskEvent::CheckpointAcknowledged { .. }
            | TaskEvent::CheckpointDeclined(..) => {}
        }
        Ok(())
    }

    async fn on_split_request(&mut self, request: SplitRequest) -> Result<()> {
        let SplitRequest { subtask: SubtaskId { vertex, subtask }, n_seen, max_timestamp, end } = request;
        let Some(source) = self.sources.iter_mut().find(|source| source.spec.vertex == vertex) else {
            return Ok(());
        };
        // There are splits on their way to it: it asks again when it has read them.
        if source.n_given.get(&subtask).copied().unwrap_or_default() != n_seen {
            return Ok(());
        }
        let HostedSource { spec, host: Some(host), .. } = source else { return Ok(()) };
        let requested = host.split_requested(subtask, max_timestamp);
        let mut instructions = requested.map_err(|error| of_source(error, spec))?;
        source.schedule_discovery(self.env.now());
        source.drained.insert(subtask, end);
        if instructions.is_empty() && source.has_passed_its_span() {
            source.discover_at = Some(Instant(std::time::Duration::MAX));
            instructions =
                (0..source.spec.parallelism).map(SubtaskIndex).map(Instruction::NoMoreSplits).collect();
        }
        self.instruct(vertex, instructions).await;
        Ok(())
    }

    async fn limit(&mut self, limits: Vec<(SubtaskId, i64)>) {
        for (member, limit) in limits {
            if self.state.is_running(member) {
                self.send(member, TaskCommand::AlignWatermark(limit)).await;
            }
        }
    }

    /// Starts the enumerators that have not been, now that all readers run.
    pub(crate) async fn start_enumerators(&mut self, takes_checkpoints: bool) -> Result<()> {
        for idx in 0..self.sources.len() {
            let Some(HostedSource { spec, host: host @ None, discover_at, restored, is_held, .. }) =
                self.sources.get_mut(idx)
            else {
                continue;
            };
            let init = EnumeratorInit {
                env: self.env.clone(),
                parallelism: spec.parallelism,
                restored: restored.take(),
                start: spec.span.start.clone(),
                has_own_timestamps: spec.has_own_timestamps,
                takes_checkpoints,
            };
            let started = (spec.enumerator)(init).and_then(|mut new| {
                let instructions = new.start()?;
                Ok((new, instructions))
            });
            let (new, instructions) = started.map_err(|error| of_source(error, spec))?;
            *discover_at = new.discovery_interval().map(|interval| self.env.now() + interval);
            *is_held = takes_checkpoints && new.awaits_checkpoint();
            let (vertex, parallelism, is_held) = (spec.vertex, spec.parallelism, *is_held);
            *host = Some(new);
            self.instruct(vertex, instructions).await;
            if !is_held {
                self.let_read(vertex, parallelism).await;
            }
        }
        Ok(())
    }

    /// Tells the readers of a source that they have what there was to assign.
    async fn let_read(&mut self, vertex: VertexId, parallelism: u32) {
        for subtask in 0..parallelism {
            self.send(reader(vertex, SubtaskIndex(subtask)), TaskCommand::SplitsAssigned).await;
        }
    }

    /// Readers that wait for a checkpoint should not wait for long: whether one is to be taken at once. A chain of sources may come to such a source late.
    pub(crate) fn wants_checkpoint(&mut self) -> bool {
        let mut wants = false;
        for source in self.sources.iter_mut().filter(|source| source.awaits_checkpoint()) {
            wants |= !std::mem::replace(&mut source.has_asked, true);
        }
        wants
    }

    /// A checkpoint is complete.
    async fn tell_enumerators(&mut self, id: CheckpointId) -> Result<()> {
        for idx in 0..self.sources.len() {
            let Some(source) = self.sources.get_mut(idx) else { continue };
            if source.awaits_checkpoint() && source.held_in.is_none_or(|first| id < first) {
                continue;
            }
            (source.has_asked, source.held_in) = (false, None);
            let HostedSource { spec, host: Some(host), is_held, .. } = source else { continue };
            let instructions = host.checkpoint_complete().map_err(|error| of_source(error, spec))?;
            let is_released = *is_held && !host.awaits_checkpoint();
            *is_held &= !is_released;
            let (vertex, parallelism) = (spec.vertex, spec.parallelism);
            self.instruct(vertex, instructions).await;
            if is_released {
                self.let_read(vertex, parallelism).await;
            }
        }
        Ok(())
    }

    /// Whether all enumerators have been started.
    pub(crate) fn has_started(&self) -> bool {
        self.sources.iter().all(|source| source.host.is_some())
    }

    pub(crate) async fn discover(&mut self) -> Result<()> {
        let now = self.env.now();
        for idx in 0..self.sources.len() {
            let Some(HostedSource { spec, host: Some(host), discover_at: Some(at), .. }) =
                self.sources.get_mut(idx)
            else {
                continue;
            };
            if *at > now {
                continue;
            }
            let instructions = host.discover().map_err(|error| of_source(error, spec))?;
            *at = host
                .discovery_interval()
                .map_or(Instant(std::time::Duration::MAX), |interval| now + interval);
            let vertex = spec.vertex;
            self.instruct(vertex, instructions).await;
        }
        Ok(())
    }

    async fn instruct(&mut self, vertex: VertexId, instructions: Vec<Instruction>) {
        let mut splits: BTreeMap<SubtaskIndex, Vec<Vec<u8>>> = BTreeMap::new();
        let mut finished = Vec::new();
        for instruction in instructions {
            match instruction {
                Instruction::Assign(subtask, split) => splits.entry(subtask).or_default().push(split),
                Instruction::NoMoreSplits(subtask) => finished.push(subtask),
            }
        }
        let has_regions = self.regions.len() > 1;
        let source = self.sources.iter_mut().find(|source| source.spec.vertex == vertex);
        if let Some(source) = source {
            for subtask in splits.keys() {
                *source.n_given.entry(*subtask).or_default() += 1;
                source.drained.remove(subtask);
            }
        }
        for (subtask, splits) in splits {
            if has_regions {
                self.assignments.assigned(reader(vertex, subtask), &splits);
            }
            self.send(reader(vertex, subtask), TaskCommand::AddSplits(splits)).await;
        }
        for subtask in finished {
            if has_regions {
                self.assignments.no_more(reader(vertex, subtask));
            }
            self.send(reader(vertex, subtask), TaskCommand::NoMoreSplits).await;
        }
    }

    async fn tell_all(&mut self, command: &TaskCommand) {
        for mailbox in self.mailboxes.values() {
            drop(mailbox.send(command.clone()).await);
        }
    }

    /// A subtask that has ended takes no commands, and needs none.
    async fn send(&mut self, id: SubtaskId, command: TaskCommand) {
        if let Some(mailbox) = self.mailboxes.get(&id) {
            drop(mailbox.send(command).await);
        }
    }
}

fn enumerator_states(sources: &[HostedSource]) -> Result<BTreeMap<OperatorUid, Vec<u8>>> {
    let state = |source: &HostedSource| {
        let host = source.host.as_ref()?;
        let state = host.snapshot().map_err(|error| of_source(error, &source.spec));
        Some(state.map(|state| (source.spec.uid.clone(), state)))
    };
    sources.iter().filter_map(state).collect()
}

fn reader(vertex: VertexId, subtask: SubtaskIndex) -> SubtaskId {
    SubtaskId { vertex, subtask }
}

fn of_source(error: Error, source: &SourceSpec) -> Error {
    error.at(|| format!("source '{}'", source.name))
}
