//! An engine in small that dies between any two steps, on a real database each; then what the modes promise one by one.

mod contract;
mod crashes;
mod errors;
mod modes;

use crate::{SqliteSink, SqliteValue, SqliteWriter};
use flott_api::{Committable, CommittableId, Committer, Sink, SinkContext, SinkWriter, UserResult};
use flott_env::Env;
use flott_env::sim::{SimRng, Simulation};
use flott_types::{CheckpointId, JobId, RecordBatch, SubtaskIndex};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

/// `(source partition, number)`
type Row = (i64, i64);

const CHUNK: i64 = 5;
const SOURCES: i64 = 3;
const CREATE: &str = "CREATE TABLE IF NOT EXISTS results(source INTEGER, n INTEGER CHECK(n >= 0), text TEXT, PRIMARY KEY(source, n))";

fn sink(path: &Path) -> SqliteSink<Row> {
    let row = |(source, n): &Row| {
        vec![SqliteValue::from(*source), SqliteValue::from(*n), SqliteValue::from(format!("{source}/{n}"))]
    };
    SqliteSink::with_row(path, "results", ["source", "n", "text"], row)
        .create_table(CREATE)
        .buffer_flush_max_rows(3)
}

fn records(chunks: i64) -> Vec<Row> {
    (0..SOURCES).flat_map(|source| (0..chunks * CHUNK).map(move |n| (source, n))).collect()
}

fn rows(path: &Path, table: &str) -> Vec<Row> {
    let connection = Connection::open(path).expect("a database");
    let sql = format!("SELECT source, n FROM {table} ORDER BY source, n");
    let mut statement = connection.prepare(&sql).expect("a table");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}

fn count(path: &Path, table: &str) -> i64 {
    let connection = Connection::open(path).expect("a database");
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).expect("a number")
}

#[derive(Clone, Debug)]
struct Checkpoint {
    id: CheckpointId,
    chunks: i64,
    committables: Vec<Committable>,
}

struct Subtask {
    writer: SqliteWriter<Row>,
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
    ctx.restored_checkpoint = from.map(|checkpoint| checkpoint.id);
    ctx
}

impl Attempt {
    fn start(
        sink: &SqliteSink<Row>,
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
        attempt.commit()?;
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

    fn commit(&mut self) -> UserResult {
        self.subtasks.iter_mut().try_for_each(Subtask::commit)
    }
}

impl Subtask {
    fn commit(&mut self) -> UserResult {
        if let (Some(committer), false) = (&mut self.committer, self.pending.is_empty()) {
            committer.commit(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

/// A directory, and a database in it.
fn database() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.db");
    (directory, path)
}
