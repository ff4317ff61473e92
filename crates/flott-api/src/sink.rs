//! Sinks: where results leave the dataflow.

use crate::UserResult;
use flott_env::Env;
use flott_types::{RecordBatch, Result, SubtaskIndex, Watermark};

/// What a sink writer knows about its place.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// The way to clock and files.
    pub env: Env,
    /// The subtask that writes.
    pub subtask: SubtaskIndex,
    /// The number of subtasks.
    pub parallelism: u32,
    /// A number that no other job run has, for names of files.
    pub run_id: u64,
}

/// A destination; each subtask opens a writer.
pub trait Sink<T>: Send + Sync + 'static {
    /// The writer.
    type Writer: SinkWriter<T>;

    /// Opens the writer of one subtask.
    ///
    /// # Errors
    /// Whatever keeps the sink from writing, before any record is taken.
    fn create_writer(&self, ctx: SinkContext) -> Result<Self::Writer>;
}

/// Writes records of one subtask.
///
/// Legal calls: `(write | on_watermark | flush | on_processing_time)* finish?`; after an error nothing more is called.
pub trait SinkWriter<T>: Send + 'static {
    /// Writes a batch. Blocking here is back-pressure.
    ///
    /// # Errors
    /// An error fails the job: nothing is skipped.
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult;

    /// Event time has passed `watermark` for everything written.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn on_watermark(&mut self, watermark: Watermark) -> UserResult {
        let _unused = watermark;
        Ok(())
    }

    /// Makes what was written visible as far as the sink promises; called when input pauses.
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

    /// The last call of a bounded input: everything becomes visible.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn finish(&mut self) -> UserResult {
        Ok(())
    }

    /// What the writer must remember to go on after a restart, as one entry of list state.
    ///
    /// # Errors
    /// As [`SinkWriter::write`].
    fn snapshot(&mut self) -> UserResult<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }

    /// Takes over entries that writers of an earlier attempt returned from [`SinkWriter::snapshot`].
    ///
    /// # Errors
    /// If the entries cannot be read.
    fn restore(&mut self, entries: Vec<Vec<u8>>) -> UserResult {
        let _unused = entries;
        Ok(())
    }
}
