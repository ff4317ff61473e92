//! An engine in small that dies between any two steps, before a simulated database that loses requests and replies.

mod capture;
mod contract;
mod crashes;
mod simulated;

use crate::{PostgresSink, PostgresValue, PostgresWriter};
use flott_api::{
    Committable, CommittableId, Committer, Sink, SinkContext, SinkGeneration, SinkWriter, UserResult,
};
use flott_env::Env;
use flott_env::sim::{SimRng, Simulation};
use flott_types::{CheckpointId, JobId, RecordBatch, SubtaskIndex};
use simulated::SimulatedPeer;
use std::sync::Arc;

/// `(source partition, number)`
type Row = (i64, i64);

const CHUNK: i64 = 5;
const SOURCES: i64 = 3;

/// A sink that writes to `peer`.
fn sink(peer: &SimulatedPeer) -> PostgresSink<Row> {
    let row = |(source, n): &Row| vec![PostgresValue::from(*source), PostgresValue::from(*n)];
    let mut sink = PostgresSink::with_row("", "results", ["source", "n"], row).buffer_flush_max_rows(3);
    sink.config.peer = Some(Arc::new(peer.clone()));
    sink
}

fn records(chunks: i64) -> Vec<Row> {
    (0..SOURCES).flat_map(|source| (0..chunks * CHUNK).map(move |n| (source, n))).collect()
}

fn rows(peer: &SimulatedPeer) -> Vec<Row> {
    let mut rows: Vec<Row> = peer.world().committed().iter().map(|row| read(&row.values)).collect();
    rows.sort_unstable();
    rows
}

fn read(values: &[PostgresValue]) -> Row {
    match values {
        [PostgresValue::Integer(source), PostgresValue::Integer(n)] => (*source, *n),
        other => panic!("no row: {other:?}"),
    }
}

#[derive(Clone, Debug)]
struct Checkpoint {
    id: CheckpointId,
    chunks: i64,
    committables: Vec<Committable>,
}

struct Subtask {
    writer: PostgresWriter<Row>,
    committer: Option<Box<dyn Committer>>,
    pending: Vec<Committable>,
}

struct Attempt {
    subtasks: Vec<Subtask>,
    chunks: i64,
    rng: SimRng,
}

fn context(env: &Env, subtask: u32, parallelism: u32, run: u64, from: Option<&Checkpoint>) -> SinkContext {
    let mut ctx = SinkContext::new(env.clone(), SubtaskIndex(subtask), parallelism, run);
    (ctx.job_id, ctx.has_checkpoints) = (JobId(7), true);
    ctx.generation = Some(SinkGeneration { history: 1, job: run, subtask: run });
    ctx.restored_checkpoint = from.map(|checkpoint| checkpoint.id);
    ctx
}

impl Attempt {
    fn start(
        sink: &PostgresSink<Row>,
        parallelism: u32,
        run: u64,
        from: Option<&Checkpoint>,
    ) -> UserResult<Self> {
        let env = Simulation::new(run).env();
        let mut subtasks = Vec::new();
        for subtask in 0..parallelism {
            let ctx = context(&env, subtask, parallelism, run, from);
            let writer = sink.create_writer(ctx.clone())?;
            subtasks.push(Subtask { writer, committer: sink.create_committer(ctx)?, pending: Vec::new() });
        }
        if let Some(checkpoint) = from {
            for (idx, committable) in checkpoint.committables.iter().enumerate() {
                let to = (idx + run as usize) % subtasks.len();
                subtasks[to].pending.push(committable.clone());
            }
        }
        for subtask in &mut subtasks {
            subtask.writer.restore(Vec::new(), from.map(|checkpoint| checkpoint.id))?;
        }
        let chunks = from.map_or(0, |checkpoint| checkpoint.chunks);
        let mut attempt = Self { subtasks, chunks, rng: SimRng::new(run) };
        attempt.subtasks.iter_mut().try_for_each(Subtask::commit)?;
        Ok(attempt)
    }

    fn write(&mut self) -> UserResult {
        for source in 0..SOURCES {
            let idx = source as usize % self.subtasks.len();
            let batch = (self.chunks * CHUNK..(self.chunks + 1) * CHUNK).map(|n| (source, n)).collect();
            self.subtasks[idx].writer.write(RecordBatch::untimed(batch))?;
        }
        self.chunks += 1;
        Ok(())
    }

    fn barrier(&mut self, id: u64, is_final: bool) -> UserResult<Checkpoint> {
        let mut checkpoint =
            Checkpoint { id: CheckpointId(id), chunks: self.chunks, committables: Vec::new() };
        for (idx, subtask) in self.subtasks.iter_mut().enumerate() {
            for payload in subtask.writer.prepare_commit(CheckpointId(id), is_final)? {
                let random = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
                subtask.pending.push(Committable {
                    id: CommittableId(random),
                    checkpoint_id: CheckpointId(id),
                    subtask: SubtaskIndex(idx as u32),
                    payload,
                });
            }
            assert!(subtask.writer.snapshot()?.is_empty());
            checkpoint.committables.extend(subtask.pending.iter().cloned());
        }
        Ok(checkpoint)
    }

    fn finish(&mut self) -> UserResult {
        self.subtasks.iter_mut().try_for_each(|subtask| subtask.writer.finish())
    }
}

impl Subtask {
    fn commit(&mut self) -> UserResult {
        if let (Some(committer), false) = (&mut self.committer, self.pending.is_empty()) {
            // As the engine does, which tries some times.
            for n_tries in 0..3 {
                match committer.commit(&self.pending) {
                    Err(error) if n_tries == 2 => return Err(error),
                    Err(_) => {}
                    Ok(()) => break,
                }
            }
            self.pending.clear();
        }
        Ok(())
    }
}
