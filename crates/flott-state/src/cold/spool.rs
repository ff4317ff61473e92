//! What stores had at some moment, together with newer records that come in any order: read in order, on any thread.

use super::buffer::WriteBuffer;
use super::merge::MergeCursor;
use super::record::Record;
use super::run::{Run, RunWriter};
use crate::local::Space;
use flott_types::Result;
use std::fmt;
use std::sync::Arc;

/// What one store had at some moment, or several, of which the newest counts. Runs do not change, and their files stay while somebody
/// has them.
pub(crate) struct ColdSnapshot {
    pub(super) space: Arc<Space>,
    /// The newest first, and the runs of each in the same way.
    pub(super) stores: Vec<(WriteBuffer, Vec<Arc<Run>>)>,
    pub(super) read_bytes: usize,
    /// Bytes of newer records that may be in memory.
    pub(super) buffer_bytes: usize,
}

/// A snapshot, and newer records before they are merged with it. No key has two of these.
pub(crate) struct Spool {
    snapshot: ColdSnapshot,
    buffer: WriteBuffer,
    /// Of the newer records.
    runs: Vec<Arc<Run>>,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("runs", &self.runs).finish_non_exhaustive()
    }
}

impl ColdSnapshot {
    /// Adds what an older store had.
    pub(crate) fn and_older(mut self, older: Self) -> Self {
        self.stores.extend(older.stores);
        self
    }
}

impl Spool {
    pub(crate) fn new(snapshot: ColdSnapshot) -> Self {
        Self { snapshot, buffer: WriteBuffer::default(), runs: Vec::new() }
    }

    /// Adds a record that is newer than the snapshot.
    pub(crate) fn put(&mut self, record: Record<'_>) -> Result<()> {
        self.buffer.put(record);
        if self.buffer.n_bytes() < self.snapshot.buffer_bytes {
            return Ok(());
        }
        let run = write(&self.snapshot.space, &self.buffer)?;
        self.buffer.clear();
        self.runs.extend(run);
        Ok(())
    }

    /// All keys in order, each with its newest record.
    pub(crate) fn finish(self) -> Result<MergeCursor<'static>> {
        let Self { snapshot, buffer, mut runs } = self;
        runs.extend(write(&snapshot.space, &buffer)?);
        drop(buffer);
        for (buffer, older) in snapshot.stores {
            runs.extend(write(&snapshot.space, &buffer)?);
            runs.extend(older);
        }
        MergeCursor::of_runs(&runs, 0, snapshot.read_bytes)
    }
}

/// A run that is read once, from its start: it needs no filter.
fn write(space: &Arc<Space>, buffer: &WriteBuffer) -> Result<Option<Arc<Run>>> {
    if buffer.is_empty() {
        return Ok(None);
    }
    let mut writer = RunWriter::new(space, buffer.len() as u64, 0)?;
    for at in buffer.sorted() {
        writer.push(buffer.record(at))?;
    }
    Ok(writer.finish()?.map(Arc::new))
}
