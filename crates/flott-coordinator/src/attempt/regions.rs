//! The regions of an attempt that are being started again while the others go on.

use super::{Attempt, HostedSource, Mailboxes, reader};
use crate::checkpoints::Checkpointing;
use flott_checkpoint::{Input, JobStart};
use flott_env::Instant;
use flott_graph::{SubtaskId, TaskCommand};
use std::collections::BTreeSet;

/// What has failed and does not run again yet.
#[derive(Debug, Default)]
pub(super) struct Recovering {
    /// It is being stopped, or has been.
    waiting: BTreeSet<SubtaskId>,
    /// Not to be started before this.
    due: Option<Instant>,
    /// It has been started, and not all of it runs.
    starting: BTreeSet<SubtaskId>,
    /// From what.
    start: Option<JobStart>,
}

impl Attempt {
    /// The region of a subtask that has failed, if it can be started again by itself.
    pub(crate) fn region_to_fail(&self, failed: SubtaskId) -> Option<BTreeSet<SubtaskId>> {
        let can_checkpoints = self.checkpoints.as_ref().is_some_and(Checkpointing::can_fail_over);
        let can = self.regions.len() > 1 && can_checkpoints && !self.state.is_stopping();
        self.regions.iter().find(|region| can && region.contains(&failed)).cloned()
    }

    /// Whether a subtask is stopped because its region has failed.
    pub(crate) fn is_leaving(&self, id: SubtaskId) -> bool {
        self.recovering.waiting.contains(&id)
    }

    /// Whether regions do not run.
    pub(crate) fn is_recovering(&self) -> bool {
        !self.recovering.waiting.is_empty() || !self.recovering.starting.is_empty()
    }

    /// Stops a region, of which a subtask has failed; it is started again no earlier than `due`.
    pub(crate) async fn fail_region(&mut self, region: BTreeSet<SubtaskId>, failed: SubtaskId, due: Instant) {
        let actions = self.state.leave(&region, failed);
        self.act(actions).await;
        self.mailboxes.retain(|id, _| !region.contains(id));
        // They go back to before the end of what they were given.
        for source in &mut self.sources {
            source.drained.retain(|subtask, _| !region.contains(&reader(source.spec.vertex, *subtask)));
        }
        let Recovering { waiting, due: known, starting, .. } = &mut self.recovering;
        *known = Some(known.map_or(due, |known| known.max(due)));
        starting.retain(|id| !region.contains(id));
        waiting.extend(region.iter().copied());
        self.checkpoint_input(Input::RegionFailed(region)).await;
    }

    /// When the regions that have left can be started, if only time is missing.
    pub(super) fn recovery_due(&self) -> Option<Instant> {
        let Recovering { waiting, due, .. } = &self.recovering;
        let is_quiet = self.checkpoints.as_ref().is_some_and(Checkpointing::is_quiet);
        due.filter(|_| is_quiet && !waiting.is_empty() && self.state.all_left(waiting))
    }

    /// The subtasks that are to be started now.
    pub(crate) fn to_restart(&self) -> Option<BTreeSet<SubtaskId>> {
        let is_due = self.recovery_due().is_some_and(|due| due <= self.env.now());
        (is_due && !self.state.is_stopping()).then(|| self.recovering.waiting.clone())
    }

    /// The regions have been started, with the checkpoints that there are then. Readers get the splits that they were given since the
    /// newest of these.
    pub(crate) async fn rejoin(
        &mut self,
        subtasks: &BTreeSet<SubtaskId>,
        mailboxes: Mailboxes,
        start: JobStart,
    ) {
        self.state.rejoin(subtasks);
        self.mailboxes.extend(mailboxes);
        let Recovering { waiting, due, starting, start: begun } = &mut self.recovering;
        waiting.clear();
        *due = None;
        starting.extend(subtasks.iter().copied());
        *begun = Some(start);
        let is_reader = |id: &&SubtaskId| self.sources.iter().any(|source| source.spec.vertex == id.vertex);
        for reader in subtasks.iter().filter(is_reader).copied().collect::<Vec<_>>() {
            let (splits, is_all) = self.assignments.since_complete(reader);
            let source = self.sources.iter_mut().find(|source| source.spec.vertex == reader.vertex);
            if let Some(source) = source {
                source.n_given.insert(reader.subtask, u64::from(!splits.is_empty()));
            }
            if !splits.is_empty() {
                self.send(reader, TaskCommand::AddSplits(splits)).await;
            }
            if is_all {
                self.send(reader, TaskCommand::NoMoreSplits).await;
            }
            let is_held = |source: &HostedSource| source.spec.vertex == reader.vertex && source.is_held;
            if !self.sources.iter().any(is_held) {
                self.send(reader, TaskCommand::SplitsAssigned).await;
            }
        }
    }

    /// Lets checkpoints go on if all regions run; returns whether they do since now.
    pub(crate) async fn settle_recovery(&mut self) -> bool {
        let Recovering { waiting, starting, start, .. } = &mut self.recovering;
        if starting.is_empty() || !waiting.is_empty() || !self.state.all_run(starting) {
            return false;
        }
        starting.clear();
        if let Some(start) = start.take() {
            self.checkpoint_input(Input::RegionRestarted(start)).await;
        }
        true
    }
}
