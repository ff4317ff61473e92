//! The subtasks of a sink, driven step by step as the engine drives them.
//!
//! What every sink must stand is in [`contract`](crate::contract), as cases with names. This is for tests of what is special about one: how its
//! destination looks between two steps, and what it does about a disk or a database that fails.

use flott_api::{
    Committable, CommittableId, Committer, Sink, SinkContext, SinkGeneration, SinkWriter, UserResult,
};
use flott_env::Env;
use flott_env::sim::SimRng;
use flott_types::{CheckpointId, JobId, RecordBatch, SubtaskIndex, Watermark};
use std::fmt;

/// Records that a partition of the input gives between two checkpoints.
pub const CHUNK: u64 = 5;
/// Partitions of the input; subtask `s` of `p` writes those with the number `o`, `o mod p == s`.
pub const PARTITIONS: u64 = 3;
/// How often a commit is tried, as the engine does.
const COMMIT_TRIES: u32 = 3;

/// The partitions and numbers of the records of the first chunks.
pub fn numbers(chunks: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..PARTITIONS).flat_map(move |partition| (0..chunks * CHUNK).map(move |number| (partition, number)))
}

/// What a checkpoint holds: how many chunks came before it, and what the subtasks put in.
#[derive(Clone, Debug)]
pub struct SinkCheckpoint {
    /// Its number.
    pub id: CheckpointId,
    /// The chunks before it.
    pub chunks: u64,
    /// What writers returned from [`SinkWriter::snapshot`].
    pub entries: Vec<Vec<u8>>,
    /// What was prepared and not committed.
    pub committables: Vec<Committable>,
}

/// One subtask.
pub struct SinkSubtask<W> {
    /// Its writer.
    pub writer: W,
    /// Its committer, if the sink has any.
    pub committer: Option<Box<dyn Committer>>,
    /// What was prepared and not committed.
    pub pending: Vec<Committable>,
}

impl<W> fmt::Debug for SinkSubtask<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkSubtask").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl<W> SinkSubtask<W> {
    /// Commits what is pending.
    ///
    /// # Errors
    /// That of the last of some tries.
    pub fn commit(&mut self) -> UserResult {
        if let (Some(committer), false) = (&mut self.committer, self.pending.is_empty()) {
            let mut tries = 1;
            while let Err(error) = committer.commit(&self.pending) {
                if tries == COMMIT_TRIES {
                    return Err(error);
                }
                tries += 1;
            }
            self.pending.clear();
        }
        Ok(())
    }
}

/// All subtasks of one attempt to run the job.
pub struct SinkAttempt<T, W> {
    /// The subtasks.
    pub subtasks: Vec<SinkSubtask<W>>,
    /// The chunks that were written, those before the checkpoint it went on from among them.
    pub chunks: u64,
    record: fn(u64, u64) -> T,
    rng: SimRng,
}

impl<T, W> fmt::Debug for SinkAttempt<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkAttempt").field("chunks", &self.chunks).finish_non_exhaustive()
    }
}

impl<T: 'static, W: SinkWriter<T>> SinkAttempt<T, W> {
    /// Starts the subtasks of attempt `run` from a checkpoint and commits what that holds. `record` makes a record of its partition and number.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn start<S: Sink<T, Writer = W>>(
        sink: &S,
        env: &Env,
        (parallelism, run): (u32, u64),
        from: Option<&SinkCheckpoint>,
        record: fn(u64, u64) -> T,
    ) -> UserResult<Self> {
        let mut subtasks = Vec::new();
        for subtask in 0..parallelism {
            let ctx = context(env, subtask, parallelism, run, from);
            let writer = sink.create_writer(ctx.clone())?;
            subtasks.push(SinkSubtask {
                writer,
                committer: sink.create_committer(ctx)?,
                pending: Vec::new(),
            });
        }
        let n = subtasks.len();
        let committables = from.map(|it| it.committables.clone()).unwrap_or_default();
        for (idx, committable) in committables.into_iter().enumerate() {
            // To any of them.
            subtasks[(idx + run as usize) % n].pending.push(committable);
        }
        for (idx, subtask) in subtasks.iter_mut().enumerate() {
            let entries = from.map_or(&[][..], |checkpoint| &checkpoint.entries);
            let mine = entries.iter().skip(idx).step_by(n).cloned().collect();
            subtask.writer.restore(mine, from.map(|checkpoint| checkpoint.id))?;
        }
        let chunks = from.map_or(0, |checkpoint| checkpoint.chunks);
        let mut attempt = Self { subtasks, chunks, record, rng: SimRng::new(run) };
        attempt.commit()?;
        Ok(attempt)
    }

    /// Writes the next chunk of each partition.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn write(&mut self) -> UserResult {
        for partition in 0..PARTITIONS {
            let idx = partition as usize % self.subtasks.len();
            let numbers = self.chunks * CHUNK..(self.chunks + 1) * CHUNK;
            let batch = numbers.map(|number| (self.record)(partition, number)).collect();
            self.subtasks[idx].writer.write(RecordBatch::untimed(batch))?;
        }
        self.chunks += 1;
        Ok(())
    }

    /// Event time passes `watermark` in a subtask.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn watermark(&mut self, subtask: usize, watermark: i64) -> UserResult {
        self.subtasks[subtask].writer.on_watermark(Watermark(watermark))
    }

    /// A barrier goes through all subtasks. What is returned is a checkpoint that is complete as soon as the caller says so.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn barrier(&mut self, id: u64, is_final: bool) -> UserResult<SinkCheckpoint> {
        let checkpoint_id = CheckpointId(id);
        let (chunks, entries, committables) = (self.chunks, Vec::new(), Vec::new());
        let mut checkpoint = SinkCheckpoint { id: checkpoint_id, chunks, entries, committables };
        for (idx, subtask) in self.subtasks.iter_mut().enumerate() {
            for payload in subtask.writer.prepare_commit(checkpoint_id, is_final)? {
                let random = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
                let (id, of) = (CommittableId(random), SubtaskIndex(idx as u32));
                subtask.pending.push(Committable { id, checkpoint_id, subtask: of, payload });
            }
            checkpoint.entries.extend(subtask.writer.snapshot()?);
            checkpoint.committables.extend(subtask.pending.iter().cloned());
        }
        Ok(checkpoint)
    }

    /// The input has ended.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(&mut self) -> UserResult {
        self.subtasks.iter_mut().try_for_each(|subtask| subtask.writer.finish())
    }

    /// Commits what is pending.
    ///
    /// # Errors
    /// As [`SinkSubtask::commit`].
    pub fn commit(&mut self) -> UserResult {
        self.subtasks.iter_mut().try_for_each(SinkSubtask::commit)
    }
}

/// The context of a subtask of attempt `run`, which goes on from a checkpoint.
pub fn context(
    env: &Env,
    subtask: u32,
    parallelism: u32,
    run: u64,
    from: Option<&SinkCheckpoint>,
) -> SinkContext {
    let mut ctx = SinkContext::new(env.clone(), SubtaskIndex(subtask), parallelism, run);
    (ctx.job_id, ctx.has_checkpoints) = (JobId(7), true);
    ctx.generation = Some(SinkGeneration { history: 1, job: run, subtask: run });
    ctx.restored_checkpoint = from.map(|checkpoint| checkpoint.id);
    ctx
}

/// A job that writes some chunks with a checkpoint after each, and dies between two steps, counted over its life. Its own storage never fails.
#[derive(Clone, Debug)]
pub struct SinkJob {
    /// How many chunks it writes.
    pub total: u64,
    /// Between which steps it dies.
    pub deaths: Vec<u64>,
    /// The steps so far.
    pub steps: u64,
    /// The last complete checkpoint.
    pub completed: Option<SinkCheckpoint>,
    /// The number of the next checkpoint.
    pub next_id: u64,
    /// The attempts so far.
    pub runs: u64,
}

impl SinkJob {
    /// A job that has not run.
    pub fn new(total: u64, deaths: &[u64]) -> Self {
        Self { total, deaths: deaths.to_vec(), steps: 0, completed: None, next_id: 1, runs: 0 }
    }

    fn step(&mut self) -> UserResult {
        self.steps += 1;
        if self.deaths.contains(&(self.steps - 1)) { Err("died between two steps".into()) } else { Ok(()) }
    }

    /// The chunks that the last complete checkpoint covers.
    pub fn covered(&self) -> u64 {
        self.completed.as_ref().map_or(0, |checkpoint| checkpoint.chunks)
    }

    /// Runs an attempt that has been started to its end, or its death. `look` looks at what readers see: now, and when a checkpoint has been committed.
    ///
    /// # Errors
    /// Those of the sink, and that it died.
    pub fn run<T: 'static, W: SinkWriter<T>>(
        &mut self,
        attempt: &mut SinkAttempt<T, W>,
        mut look: impl FnMut(&mut Self),
    ) -> UserResult {
        look(self);
        loop {
            self.step()?;
            let is_final = attempt.chunks >= self.total;
            if is_final {
                attempt.finish()?
            } else {
                attempt.write()?
            }
            self.step()?;
            let checkpoint = attempt.barrier(self.next_id, is_final)?;
            self.next_id += 1;
            self.step()?;
            // Every third is aborted.
            if self.next_id.is_multiple_of(3) && !is_final {
                continue;
            }
            self.completed = Some(checkpoint);
            for subtask in &mut attempt.subtasks {
                self.step()?;
                subtask.commit()?;
            }
            look(self);
            if is_final {
                return Ok(());
            }
        }
    }
}
