//! A sink whose rows are there at once, with a mark, as it should be and with mistakes.

use flott_api::{Sink, SinkContext, SinkWriter, UserResult};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_testkit::contract::{RecordId, SinkPromise, SinkSubject};
use flott_types::{CheckpointId, RecordBatch, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    /// What is written behind a barrier counts as written before it (Iceberg 15846).
    MarksTooEarly,
    /// What a restart takes back stays.
    DeletesNothing,
    /// What subtasks have written that there are no more stays.
    DeletesItsOwn,
    /// An attempt that was replaced goes on writing.
    FencesNobody,
    /// What is in the buffer at a barrier comes later.
    KeepsItsBuffer,
}

struct Row {
    record: RecordId,
    subtask: u32,
    mark: u64,
}

#[derive(Default)]
struct Outside {
    rows: Vec<Row>,
    /// The newest writer of each subtask.
    owners: BTreeMap<u32, u64>,
}

#[derive(Clone)]
pub(super) struct ToyEagerSink {
    outside: Arc<Mutex<Outside>>,
    mistake: Mistake,
}

impl ToyEagerSink {
    pub(super) fn new(mistake: Mistake) -> Self {
        Self { outside: Arc::default(), mistake }
    }

    fn outside(&self) -> MutexGuard<'_, Outside> {
        self.outside.lock().unwrap()
    }
}

pub(super) struct ToyWriter {
    sink: ToyEagerSink,
    ctx: SinkContext,
    mark: u64,
    buffer: Vec<RecordId>,
}

impl ToyWriter {
    fn generation(&self) -> u64 {
        self.ctx.generation.map_or(u64::MAX, |generation| generation.subtask)
    }

    fn write_buffer(&mut self) -> UserResult {
        let (subtask, mark) = (self.ctx.subtask.0, self.mark);
        let mut outside = self.sink.outside();
        let is_owner = outside.owners.get(&subtask).is_none_or(|owner| *owner <= self.generation());
        if !is_owner && self.sink.mistake != Mistake::FencesNobody {
            return Err("somebody else has taken over".into());
        }
        outside.rows.extend(self.buffer.drain(..).map(|record| Row { record, subtask, mark }));
        Ok(())
    }
}

impl Sink<RecordId> for ToyEagerSink {
    type Writer = ToyWriter;

    fn create_writer(&self, ctx: SinkContext) -> Result<ToyWriter> {
        let mark = ctx.restored_checkpoint.map_or(0, |id| id.0);
        Ok(ToyWriter { sink: self.clone(), ctx, mark, buffer: Vec::new() })
    }
}

impl SinkWriter<RecordId> for ToyWriter {
    fn write(&mut self, batch: RecordBatch<RecordId>) -> UserResult {
        self.buffer.extend(batch.into_iter().map(|(record, _)| record));
        Ok(())
    }

    fn flush(&mut self) -> UserResult {
        self.write_buffer()
    }

    fn finish(&mut self) -> UserResult {
        self.write_buffer()
    }

    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, _: bool) -> UserResult<Vec<Vec<u8>>> {
        if self.sink.mistake != Mistake::KeepsItsBuffer {
            self.write_buffer()?;
        }
        self.mark = checkpoint_id.0 - u64::from(self.sink.mistake == Mistake::MarksTooEarly);
        Ok(Vec::new())
    }

    fn restore(&mut self, _: Vec<Vec<u8>>, restored: Option<CheckpointId>) -> UserResult {
        let (from, mistake, generation) =
            (restored.map_or(0, |id| id.0), self.sink.mistake, self.generation());
        let (subtask, parallelism) = (self.ctx.subtask.0, self.ctx.parallelism);
        let mut outside = self.sink.outside();
        let stands_for = |other: u32| match mistake {
            Mistake::DeletesItsOwn => other == subtask,
            _ => other % parallelism == subtask,
        };
        let is_late = outside.owners.iter().any(|(other, owner)| stands_for(*other) && *owner > generation);
        if is_late && mistake != Mistake::FencesNobody {
            return Err("somebody else has taken over".into());
        }
        // Whoever was there before, in whatever number.
        (0..64).filter(|other| stands_for(*other)).for_each(|other| {
            outside.owners.insert(other, generation);
        });
        if mistake != Mistake::DeletesNothing {
            outside.rows.retain(|row| !(stands_for(row.subtask) && row.mark >= from));
        }
        Ok(())
    }
}

impl SinkSubject for ToyEagerSink {
    type Record = RecordId;
    type Sink = Self;

    fn env(&self) -> Env {
        Simulation::new(1).env()
    }
    fn sink(&mut self) -> UserResult<Self> {
        Ok(self.clone())
    }
    fn promise(&self) -> SinkPromise {
        SinkPromise::Eager
    }
    fn record(&self, id: RecordId) -> RecordId {
        id
    }
    fn committed(&mut self, complete: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
        let complete = complete.map_or(0, |id| id.0);
        let outside = self.outside();
        Ok(outside.rows.iter().filter(|row| row.mark < complete).map(|row| row.record).collect())
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        Ok(Vec::new())
    }
}
