//! Sinks: where results leave the dataflow, and what they promise.
//!
//! A sink promises one of three things; the kind is decided by what it implements.
//!
//! * **At least once**: only [`SinkWriter::write`] and friends. After a restart the records since the restored checkpoint
//!   are written again. With an idempotent destination (upsert by key) that is exactly once for who looks later.
//! * **Transactional**: [`SinkWriter::prepare_commit`] hands out *committables* at each checkpoint: names of pending files, ids of
//!   prepared transactions. The engine keeps them in the checkpoint, and when that is complete [`Committer::commit`] makes
//!   them visible. Nothing becomes visible that a restart could take back.
//! * **Eager with rollback**: rows are visible at once, marked with where they belong; [`SinkWriter::restore`] deletes what is
//!   newer than the restored checkpoint before anything else is written. No committer. See [`SinkWriter::restore`] for the
//!   mark and for who deletes what.
//!
//! # A checkpoint, as a sink sees it
//!
//! 1. The barrier arrives: [`SinkWriter::prepare_commit`], then [`SinkWriter::snapshot`], with no write in between. The committables become
//!    part of the snapshot.
//! 2. The checkpoint is complete, that is durable as a whole: [`Committer::commit`] with the committables of this and of
//!    all earlier checkpoints that have not been committed, oldest first. Until it succeeds they stay in every later snapshot.
//! 3. Or it is aborted: nothing is called. Its committables are committed with those of the next checkpoint that completes:
//!    they hold records that come before its barrier.
//!
//! After a restart: [`SinkWriter::restore`], then [`Committer::commit`] with all committables of the restored checkpoint, whether
//! they were committed before the failure or not; and only then the first record.
//!
//! A job without checkpoints commits once, when its input has ended: with [`CheckpointId::END_OF_INPUT`].

use crate::{BadRecords, OnError, UserResult};
use flott_env::Env;
use flott_types::{CheckpointId, JobId, OperatorUid, RecordBatch, Result, SubtaskIndex, Watermark};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Which start of a subtask this is: it grows with every start and restart, in whatever process, and is never used again. A destination that
/// remembers the newest that it has seen, and refuses older ones, cannot be harmed by an attempt that was believed dead and wakes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkGeneration {
    /// The history of the job that the numbers belong to, at random. Somebody who deletes the directory of checkpoints begins another; numbers of
    /// different histories cannot be compared.
    pub history: u128,
    /// The last start of the whole job.
    pub job: u64,
    /// The last start of this subtask: larger than `job` if since then only a region of the job was started again.
    pub subtask: u64,
}

/// What a sink writer or committer knows about its place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SinkContext {
    /// The way to clock and files.
    pub env: Env,
    /// The subtask that writes.
    pub subtask: SubtaskIndex,
    /// The number of subtasks.
    pub parallelism: u32,
    /// A number that no other attempt of this or any other job has, for names of files.
    pub run_id: u64,
    /// The job: the same after restarts, and after a restore that continues the job.
    pub job_id: JobId,
    /// The sink within its job: the same after restarts and, if the user named it, after changes of the program.
    pub uid: OperatorUid,
    /// A number that all subtasks of the job have in common from one start of the whole job to the next; `run_id` is another for a region that
    /// was started again.
    pub execution_id: u64,
    /// How often the job was started before in this process; 0 the first time. Not a fencing number: a process that
    /// starts again counts from 0 again.
    pub attempt: u32,
    /// The fencing number; `None` in a job whose starts nobody counts, because no checkpoint of it outlives its process.
    pub generation: Option<SinkGeneration>,
    /// Whether the job takes checkpoints. A sink that cannot keep its promise without them refuses in
    /// [`Sink::create_writer`].
    pub has_checkpoints: bool,
    /// How often checkpoints are taken, if they are and nothing is slow (the interval, or the least pause between two): what is prepared is committed about that much later.
    pub checkpoint_interval: Option<Duration>,
    /// How long a checkpoint may take.
    pub checkpoint_timeout: Duration,
    /// How long after a failure the job starts again, at most, by its restart strategy.
    pub restart_delay: Duration,
    /// The checkpoint from which this attempt goes on; `None` if it starts from nothing.
    pub restored_checkpoint: Option<CheckpointId>,
    /// Takes the records that the writer rejects.
    pub bad_records: BadRecords,
}

impl SinkContext {
    /// The context of a writer in a job without checkpoints, for tests; fields can be set afterwards.
    pub fn new(env: Env, subtask: SubtaskIndex, parallelism: u32, run_id: u64) -> Self {
        Self {
            bad_records: BadRecords::new::<()>(env.clone(), String::new(), OnError::Fail),
            env,
            subtask,
            parallelism,
            run_id,
            job_id: JobId(u128::from(run_id)),
            uid: OperatorUid("sink".to_owned()),
            execution_id: run_id,
            attempt: 0,
            generation: None,
            has_checkpoints: false,
            checkpoint_interval: None,
            checkpoint_timeout: Duration::ZERO,
            restart_delay: Duration::ZERO,
            restored_checkpoint: None,
        }
    }

    /// Says what becomes of the records of type `T` that the writer rejects.
    #[must_use]
    pub fn with_on_error<T: Serialize + 'static>(self, on_error: OnError) -> Self {
        let Self { uid, subtask, parallelism, .. } = &self;
        let sink = format!("sink '{uid}' subtask {}/{parallelism}", subtask.0 + 1);
        Self { bad_records: BadRecords::new::<T>(self.env.clone(), sink, on_error), ..self }
    }
}

/// A destination; each subtask opens a writer and, if the sink is transactional, a committer.
pub trait Sink<T>: Send + Sync + 'static {
    /// The writer.
    type Writer: SinkWriter<T>;

    /// Opens the writer of one subtask. Called once per attempt, so it must not change anything that an earlier attempt, which
    /// may still be running somewhere, has written: that is for [`SinkWriter::restore`].
    ///
    /// # Errors
    /// Whatever keeps the sink from writing, before any record is taken.
    fn create_writer(&self, ctx: SinkContext) -> Result<Self::Writer>;

    /// Opens the committer of one subtask; `None` if writers never hand out committables.
    ///
    /// A subtask whose sink has a committer stays alive after the end of its input until a last checkpoint has been completed and
    /// committed.
    ///
    /// # Errors
    /// Whatever keeps the sink from committing, before any record is taken.
    fn create_committer(&self, ctx: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        let _unused = ctx;
        Ok(None)
    }
}

/// Writes records of one subtask.
///
/// Legal calls: `restore (write | on_watermark | flush | on_processing_time | checkpoint)* (finish checkpoint*)?`, where `checkpoint`
/// is `prepare_commit snapshot`; after an error nothing more is called. In a job without checkpoints the only
/// `prepare_commit` is the one after `finish`.
pub trait SinkWriter<T>: Send + 'static {
    /// Writes a batch. Blocking here is back-pressure.
    ///
    /// # Errors
    /// An error fails the job: nothing is skipped. A record that the destination can never take is better rejected
    /// ([`SinkContext::bad_records`]): the job would fail again with it after each restart.
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult;

    /// Event time has passed `watermark` for everything written.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn on_watermark(&mut self, watermark: Watermark) -> UserResult {
        let _unused = watermark;
        Ok(())
    }

    /// Makes what was written visible as far as the sink promises; called when input pauses. A transactional writer hands
    /// over to its destination what it holds back only to fill a batch, or does nothing.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn flush(&mut self) -> UserResult {
        Ok(())
    }

    /// When the writer next wants [`SinkWriter::on_processing_time`], in milliseconds since the epoch.
    fn next_timer(&self) -> Option<i64> {
        None
    }

    /// The wall clock has passed [`SinkWriter::next_timer`].
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn on_processing_time(&mut self, now: i64) -> UserResult {
        let _unused = now;
        Ok(())
    }

    /// No record follows. A writer without committables makes everything visible; a transactional one leaves that to
    /// [`SinkWriter::prepare_commit`], which follows.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn finish(&mut self) -> UserResult {
        Ok(())
    }

    /// The barrier of checkpoint `checkpoint_id` has come: makes everything written so far durable, so that it can be committed
    /// by anybody at any later time, and returns what the committer needs to know for that, in its own bytes. What is
    /// returned leaves the writer's responsibility: it must not occur in [`SinkWriter::snapshot`] nor be returned again.
    ///
    /// A writer that returns nothing but keeps something pending across the barrier, such as a file not yet full, puts it into
    /// its snapshot.
    ///
    /// An eager writer makes its rows durable here and marks what it writes from now on with `checkpoint_id`.
    ///
    /// `is_final` says that no record follows: nothing may stay pending. It may be called with `is_final` more than once, as
    /// the last checkpoint may be aborted and taken again.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, is_final: bool) -> UserResult<Vec<Vec<u8>>> {
        let _unused = (checkpoint_id, is_final);
        Ok(Vec::new())
    }

    /// What the writer must remember to go on after a restart, as entries of list state: after a restart at another parallelism
    /// each entry goes to any one writer.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn snapshot(&mut self) -> UserResult<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    /// Takes over entries that writers of an earlier attempt returned from [`SinkWriter::snapshot`]. It is called in every attempt,
    /// before anything is written, also when there are no entries, and also when the job starts from nothing (`restored_checkpoint`
    /// is `None`). Here a writer removes what earlier attempts left behind and nobody will commit.
    ///
    /// **For eager writers**: mark each row with job, sink uid, subtask, and the last checkpoint whose barrier came before the row: that of the
    /// last [`SinkWriter::prepare_commit`], or `restored_checkpoint`, or 0. Then a row belongs to a completed checkpoint `c` exactly if
    /// its mark is less than `c`, and this call deletes the rows of this job and sink with a mark not less than
    /// `restored_checkpoint` (all of them for `None`). Numbers of checkpoints grow over restarts, but
    /// those of aborted checkpoints are skipped: compare, do not count.
    ///
    /// The earlier attempt may have had more subtasks: the writer of subtask `s` of `p` deletes for all subtasks `o` with
    /// `o mod p == s`. So nobody deletes what a neighbour has just written.
    ///
    /// # Errors
    /// If the entries cannot be read, or what earlier attempts left cannot be removed.
    fn restore(&mut self, entries: Vec<Vec<u8>>, restored_checkpoint: Option<CheckpointId>) -> UserResult {
        let _unused = (entries, restored_checkpoint);
        Ok(())
    }
}

/// The identity of a [`Committable`]: unique over all jobs and attempts, drawn at random when it is made. Where a destination
/// remembers what was committed, it remembers this, never a checkpoint number: numbers may come again after a restore from an
/// older savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommittableId(pub u128);

impl fmt::Display for CommittableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Something prepared that only needs to be made visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committable {
    /// Its identity.
    pub id: CommittableId,
    /// The checkpoint for which it was prepared. It may be committed with a later one.
    pub checkpoint_id: CheckpointId,
    /// The subtask whose writer prepared it.
    pub subtask: SubtaskIndex,
    /// What the writer returned from [`SinkWriter::prepare_commit`].
    pub payload: Vec<u8>,
}

/// Makes visible what writers have prepared.
///
/// It runs in the sink's subtask; blocking is back-pressure. Its subtask may commit what another subtask has prepared, after a
/// restart at another parallelism.
pub trait Committer: Send {
    /// Commits all of `committables`, in the order in which they were prepared, and returns when they are visible and durable.
    ///
    /// **Idempotent**: a committable may come again, after an error, after a restart, in other company, even after a restore from an
    /// older snapshot; one that was committed stays as it is. Whether it was is looked up by [`Committable::id`] or by the name in its
    /// payload, at the destination. One that is neither committed nor pending any more, because its transaction has expired or its file
    /// was removed, is lost: that is an error, not a success.
    ///
    /// # Errors
    /// The engine calls again with the same committables, after a pause and some times; then the job fails with this error. It
    /// never goes on without them.
    fn commit(&mut self, committables: &[Committable]) -> UserResult;
}
