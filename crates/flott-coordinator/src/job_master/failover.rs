//! After a failure only the region of the failed subtask goes back to the last checkpoint; the others go on.
//!
//! In order: the region is stopped, and checkpoints that lack its parts are given up. When none of it runs and no manifest is being written any more,
//! another generation takes the job over and records that it goes on from the newest complete checkpoint, as at every restart. If that is not
//! the one which the regions that go on have heard of, the whole job is started again: a manifest whose writing had failed was there after
//! all. Else the region is deployed from it, and its readers get the splits that they were given since. When all of it runs checkpoints are
//! taken again.

use super::{AttemptStart, JobMaster, is_hopeless};
use crate::attempt::Attempt;
use crate::checkpoints::{Recovery, blocking};
use crate::inbox::Inbox;
use flott_checkpoint::JobStart;
use flott_graph::{SubtaskId, TaskEvent};
use flott_types::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::{info, warn};

impl JobMaster {
    /// Deals with a failure that concerns only a region; returns whether it does.
    pub(super) async fn fail_over(&mut self, attempt: &mut Attempt, event: &TaskEvent) -> bool {
        let TaskEvent::Failed(id, error) = event else { return false };
        // One that is being stopped anyway is no failure of its own.
        if attempt.is_leaving(*id) || is_hopeless(error) {
            return false;
        }
        let Some(region) = attempt.region_to_fail(*id) else { return false };
        let Some(pause) = self.setup.restart.on_failure(self.env.now(), self.env.random_u64()) else {
            self.is_exhausted = true;
            return false;
        };
        self.restarts += 1;
        // Should the whole job have to start again after all, that is the same restart.
        self.granted = Some(pause);
        let subtasks = region.len();
        attempt.fail_region(region, *id, self.env.now() + pause).await;
        let pause_ms = pause.as_millis() as u64;
        warn!(error = %error.report(), subtasks, pause_ms, restart = self.restarts, "a region failed and restarts");
        self.setup.metrics.on_region_restart();
        true
    }

    /// Starts `subtasks` again, of which none runs.
    ///
    /// # Errors
    /// If it cannot be done while the others go on.
    pub(super) async fn restart_region(
        &mut self,
        attempt: &mut Attempt,
        inbox: &mut Inbox,
        subtasks: BTreeSet<SubtaskId>,
    ) -> Result<()> {
        let (Some(setup), Some(checkpoints)) = (self.setup.checkpoints.clone(), &mut attempt.checkpoints)
        else {
            return Ok(());
        };
        if !checkpoints.can_fail_over() {
            // The checkpoint that was being written was the last, and the other regions are about to finish.
            return Err(Error::new(ErrorKind::Retry, "a region failed when the job had come to its end"));
        }
        checkpoints.close_storage().await;
        let env = self.env.clone();
        let recovery = blocking(&self.env, "recovery", move || setup.recover(&env, true)).await?;
        let Recovery::Run(recovered) = recovery else {
            return Err(Error::new(
                ErrorKind::FailJob,
                "the job has ended while a region of it was started again",
            ));
        };
        self.owner = Some(recovered.owner.clone());
        let (found, known) = (recovered.retained.last().copied(), checkpoints.latest_complete());
        if found != known {
            let message = format!(
                "the region would go on from checkpoint {found:?}, but the others know of {known:?}: the whole job starts again"
            );
            return Err(Error::new(ErrorKind::Retry, message));
        }
        let next_checkpoint_id = recovered.next_checkpoint_id.max(checkpoints.next_checkpoint_id());
        let job_start = JobStart { next_checkpoint_id, retained: recovered.retained };
        checkpoints.take_over(recovered.owner.clone(), &job_start);
        let start = AttemptStart {
            number: self.restarts,
            owner: Some(recovered.owner),
            history: recovered.history,
            restored: recovered.restored,
            events: inbox.open(&subtasks),
            region: Some(subtasks.clone()),
        };
        let deployer = Arc::clone(&self.setup.deployer);
        let mailboxes = blocking(&self.env, "deployment", move || deployer.deploy(start)).await?;
        attempt.rejoin(&subtasks, mailboxes, job_start).await;
        info!(
            subtasks = subtasks.len(),
            checkpoint = found.map(|id| id.0),
            "a region goes on from its last checkpoint"
        );
        Ok(())
    }
}
