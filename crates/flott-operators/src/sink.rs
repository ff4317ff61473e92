//! The end of a stream.

mod commits;

use crate::operator::{Operator, OperatorOutput};
use crate::user_code::user_error;
use commits::Commits;
use flott_api::{BadRecords, Committer, Rejected, SinkContext, SinkWriter, UserResult, bad_records_tag};
use flott_env::canary;
use flott_state::OperatorSnapshot;
use flott_types::{
    CheckpointBarrier, CheckpointId, Error, NO_TIMESTAMP, RecordBatch, Result, Timestamp, Watermark,
};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

/// The list state with the writer's entries.
const WRITER: &str = "_sink_writer";
/// The list state with what was prepared and not committed.
const COMMITTABLES: &str = "_sink_committables";

/// Gives records to a [`SinkWriter`], and what that prepares to a [`Committer`]; emits none, but at the side what the writer rejects.
pub struct SinkOperator<T, W> {
    writer: W,
    /// What the writer rejects.
    bad_records: Option<BadRecords>,
    commits: Option<Commits>,
    has_checkpoints: bool,
    restored_checkpoint: Option<CheckpointId>,
    /// The writer's entries of a snapshot, until it starts; then `None`.
    restored: Option<Vec<Vec<u8>>>,
    has_ended: bool,
    has_sent_end: bool,
    /// The job stops when this checkpoint is complete.
    last_checkpoint: Option<CheckpointId>,
    /// What may be committed must be before anything else happens: after a restore, and after the end.
    commits_first: bool,
    records: PhantomData<fn(T)>,
}

impl<T, W> fmt::Debug for SinkOperator<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkOperator").field("commits", &self.commits).finish_non_exhaustive()
    }
}

impl<T, W: SinkWriter<T>> SinkOperator<T, W> {
    /// An operator that writes with `writer` in the place that `ctx` describes, and commits with `committer`.
    pub fn with_committer(writer: W, committer: Option<Box<dyn Committer>>, ctx: &SinkContext) -> Self {
        Self {
            bad_records: Some(ctx.bad_records.clone()),
            commits: committer.map(|committer| Commits::new(committer, ctx)),
            has_checkpoints: ctx.has_checkpoints,
            restored_checkpoint: ctx.restored_checkpoint,
            ..Self::new(writer)
        }
    }

    /// An operator that writes with `writer`, which prepares nothing to commit.
    pub const fn new(writer: W) -> Self {
        Self {
            writer,
            bad_records: None,
            commits: None,
            has_checkpoints: false,
            restored_checkpoint: None,
            restored: Some(Vec::new()),
            has_ended: false,
            has_sent_end: false,
            last_checkpoint: None,
            commits_first: false,
            records: PhantomData,
        }
    }

    /// Lets the writer take over what earlier attempts left. In the subtask's first call and not when the operator is made: there
    /// may be much to delete, and all subtasks are made by one thread.
    #[inline]
    fn start(&mut self) -> Result<()> {
        match self.restored.take() {
            None => Ok(()),
            Some(entries) => sink_result(self.writer.restore(entries, self.restored_checkpoint)),
        }
    }

    /// As [`SinkOperator::start`], before something that must come after the commits of the restored checkpoint. The subtask has
    /// seen to that by [`Operator::poll_ready`]; who calls without it gets one attempt.
    #[inline]
    fn start_writing(&mut self) -> Result<()> {
        self.start()?;
        if self.commits_first && self.commit_first(&mut Context::from_waker(Waker::noop()))?.is_pending() {
            return Err(Error::subtask("the sink is written to before its restored checkpoint is committed"));
        }
        Ok(())
    }

    fn commit_first(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>> {
        let Some(commits) = &mut self.commits else { return Ok(Poll::Ready(())) };
        let polled = commits.poll(cx);
        match polled {
            Poll::Ready(done) => {
                done?;
                self.commits_first = false;
                Ok(Poll::Ready(()))
            }
            Poll::Pending => Ok(if self.commits_first { Poll::Pending } else { Poll::Ready(()) }),
        }
    }

    /// Sends on what the writer has rejected since the last call. It goes before whatever comes next: a watermark, the barrier, the end of data.
    fn send_rejected(&self, out: &mut OperatorOutput<'_, ()>) -> Result<()> {
        let Some(bad_records) = &self.bad_records else { return Ok(()) };
        let Rejected { n_records, dead_letters } = bad_records.take();
        if n_records == 0 {
            return Ok(());
        }
        out.metrics().records_in_errors.fetch_add(n_records, Ordering::Relaxed);
        if let (true, Some(letter)) = (self.has_sent_end, dead_letters.first()) {
            return Err(Error::subtask(format!(
                "the sink's writer has rejected a record for {} after the end of its input, when dead letters cannot be sent any more: \
                 it must do that in SinkWriter::finish ({})",
                letter.split, letter.message
            )));
        }
        let tag = bad_records_tag();
        dead_letters.into_iter().for_each(|letter| out.sides().push(&tag, letter, NO_TIMESTAMP));
        Ok(())
    }

    fn prepare_commit(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let payloads = sink_result(self.writer.prepare_commit(checkpoint_id, self.has_ended))?;
        match &mut self.commits {
            Some(_) if self.has_ended && canary("drop-committables-at-end") => {}
            Some(commits) => {
                commits.prepared(checkpoint_id, payloads);
                if canary("commit-when-prepared") {
                    commits.authorize(checkpoint_id)?;
                }
            }
            None if payloads.is_empty() => {}
            None => {
                return Err(Error::user(format!(
                    "the sink's writer has prepared {} committables, but the sink has no committer; \
                     implement Sink::create_committer",
                    payloads.len()
                )));
            }
        }
        Ok(())
    }
}

fn sink_result<R>(done: UserResult<R>) -> Result<R> {
    done.map_err(|error| user_error("the sink", error))
}

impl<T, W: SinkWriter<T>> Operator<T, ()> for SinkOperator<T, W> {
    fn process_batch(&mut self, batch: RecordBatch<T>, out: &mut OperatorOutput<'_, ()>) -> Result<()> {
        self.start_writing()?;
        sink_result(self.writer.write(batch))?;
        self.send_rejected(out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, ()>) -> Result<()> {
        self.start_writing()?;
        sink_result(self.writer.on_watermark(watermark))?;
        self.send_rejected(out)?;
        out.emit_watermark(watermark)
    }

    fn on_processing_time(&mut self, now: Timestamp, out: &mut OperatorOutput<'_, ()>) -> Result<()> {
        self.start_writing()?;
        if self.writer.next_timer().is_some_and(|at| at <= now) {
            sink_result(self.writer.on_processing_time(now))?;
        }
        self.send_rejected(out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.writer.next_timer()
    }

    fn on_end_of_data(&mut self, out: &mut OperatorOutput<'_, ()>) -> Result<()> {
        self.start_writing()?;
        sink_result(self.writer.finish())?;
        self.has_ended = true;
        // With checkpoints the last one commits: see the subtask, which lives until then.
        if let (false, Some(_)) = (self.has_checkpoints, &self.commits) {
            self.prepare_commit(CheckpointId::END_OF_INPUT)?;
            self.on_checkpoint_complete(CheckpointId::END_OF_INPUT)?;
        }
        self.send_rejected(out)?;
        self.has_sent_end = true;
        out.emit_end_of_data()
    }

    fn flush(&mut self, out: &mut OperatorOutput<'_, ()>) -> Result<()> {
        self.start_writing()?;
        sink_result(self.writer.flush())?;
        self.send_rejected(out)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, _: &mut OperatorOutput<'_, ()>) -> Poll<Result<()>> {
        self.start()?;
        self.commit_first(cx)?.map(Ok)
    }

    fn on_barrier(&mut self, barrier: &CheckpointBarrier, out: &mut OperatorOutput<'_, ()>) -> Result<()> {
        self.start()?;
        self.last_checkpoint = Some(barrier.id).filter(|_| barrier.kind.stops_job());
        self.prepare_commit(barrier.id)?;
        self.send_rejected(out)
    }

    fn on_checkpoint_complete(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        let Some(commits) = &mut self.commits else { return Ok(()) };
        commits.authorize(checkpoint_id)?;
        // Nothing comes any more that the commit could hold up, and the subtask must not end before it.
        self.commits_first |= (self.has_ended || self.last_checkpoint == Some(checkpoint_id))
            && !canary("finish-before-commit");
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.start()?;
        snapshot.list.insert(WRITER.to_owned(), sink_result(self.writer.snapshot())?);
        if let Some(commits) = &self.commits {
            snapshot.list.insert(COMMITTABLES.to_owned(), commits.snapshot()?);
        }
        Ok(())
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        assert!(self.restored.is_some(), "a sink is restored before it is used");
        self.restored = Some(snapshot.list.get(WRITER).cloned().unwrap_or_default());
        let committables = snapshot.list.get(COMMITTABLES).map(Vec::as_slice).unwrap_or_default();
        match &mut self.commits {
            Some(commits) => {
                if !canary("forget-restored-committables") {
                    commits.restore(committables)?;
                }
                self.commits_first = true;
                Ok(())
            }
            None if committables.is_empty() => Ok(()),
            // To drop them would lose what a completed checkpoint counts as written.
            None => Err(Error::user(format!(
                "the snapshot has {} committables for a sink that has no committer any more; restore it with the sink that \
                 prepared them",
                committables.len()
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
