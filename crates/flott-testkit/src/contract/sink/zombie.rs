//! An attempt that is believed dead and wakes up: it does what it was about to do, and must change nothing that readers see.

use super::SinkSubject;
use super::attempt::{Attempt, Stage, Subtask, next_chunk, partitions_of};
use super::job::{Job, Stop, WriterOf};
use crate::contract::record::{RecordId, list};
use flott_api::{SinkWriter, UserResult};
use flott_types::{CheckpointId, RecordBatch};

pub(super) struct Zombie<W> {
    /// With their indices.
    subtasks: Vec<(usize, Subtask<W>)>,
    parallelism: usize,
    positions: Vec<u64>,
    /// At which step; `None` for never.
    pub(super) wakes_at: Option<u64>,
}

impl<W> Zombie<W> {
    pub(super) fn new(attempt: Attempt<W>, wakes_at: Option<u64>) -> Self {
        let Attempt { subtasks, parallelism, positions, .. } = attempt;
        Self { subtasks: subtasks.into_iter().enumerate().collect(), parallelism, positions, wakes_at }
    }

    pub(super) fn of_subtask(
        attempt: &Attempt<W>,
        s: usize,
        subtask: Subtask<W>,
        wakes_at: Option<u64>,
    ) -> Self {
        let (parallelism, positions) = (attempt.parallelism, attempt.positions.clone());
        Self { subtasks: vec![(s, subtask)], parallelism, positions, wakes_at }
    }

    /// Each subtask goes on until it is refused. Then it ends for good.
    pub(super) fn wake<S: SinkSubject<Sink: flott_api::Sink<S::Record, Writer = W>>>(
        mut self,
        job: &mut Job<'_, S>,
    ) -> Result<(), Stop>
    where
        W: SinkWriter<S::Record>,
    {
        job.log.note("  an attempt that was believed dead wakes up");
        let (parallelism, positions) = (self.parallelism, self.positions.clone());
        for (s, subtask) in &mut self.subtasks {
            let records: Vec<RecordId> = partitions_of(*s, parallelism)
                .flat_map(|partition| {
                    next_chunk(partition, positions.get(partition as usize).copied().unwrap_or(0))
                })
                .collect();
            match go_on(job, *s, subtask, records)? {
                Ok(()) => job.log.note(format!("  zombie {s}: nobody stopped it")),
                Err(error) => job.log.note(format!("  zombie {s}: is refused: {error}")),
            }
            job.check()?;
        }
        drop(self);
        job.log.note("  it ends");
        job.check()
    }
}

/// The outer error is a broken contract, the inner one a refusal, which is right.
fn go_on<S: SinkSubject>(
    job: &mut Job<'_, S>,
    s: usize,
    subtask: &mut Subtask<WriterOf<S>>,
    records: Vec<RecordId>,
) -> Result<UserResult, Stop> {
    if subtask.stage == Stage::Made {
        job.log.note(format!("  zombie {s}: restore"));
        let entries = std::mem::take(&mut subtask.entries);
        if let Err(error) = subtask.writer.restore(entries, subtask.restored) {
            return Ok(Err(error));
        }
        job.check()?;
    }
    let due = subtask.pending.get(..subtask.n_due()).unwrap_or_default().to_vec();
    if let (Some(committer), false) = (&mut subtask.committer, due.is_empty()) {
        job.log.note(format!("  zombie {s}: commit of what is complete"));
        if let Err(error) = committer.commit(&due) {
            job.log.note(format!("  zombie {s}: is refused: {error}"));
        }
        job.check()?;
    }
    if subtask.stage != Stage::Finished && !records.is_empty() {
        job.log.note(format!("  zombie {s}: write {}", list(records.iter().copied())));
        let batch = records.iter().map(|record| job.subject.record(*record)).collect();
        job.oracle.written(records);
        let written = subtask.writer.write(RecordBatch::untimed(batch));
        job.check()?;
        if let Err(error) = written.and_then(|()| subtask.writer.flush()) {
            return Ok(Err(error));
        }
        job.check()?;
    }
    job.log.note(format!("  zombie {s}: prepare_commit and snapshot"));
    let id = CheckpointId(job.next_id);
    let prepared = subtask.writer.prepare_commit(id, subtask.stage == Stage::Finished);
    job.check()?;
    Ok(prepared.and_then(|_| subtask.writer.snapshot()).map(|_| ()))
}
