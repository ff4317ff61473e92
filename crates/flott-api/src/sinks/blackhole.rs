//! Counts and forgets.

use crate::UserResult;
use crate::sink::{Sink, SinkContext, SinkWriter};
use flott_types::{RecordBatch, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count of records that several subtasks add to.
#[derive(Clone, Debug, Default)]
pub struct RecordCounter(Arc<AtomicU64>);

impl RecordCounter {
    /// Records counted so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Drops all records and counts them.
#[derive(Clone, Debug, Default)]
pub struct BlackholeSink {
    counter: RecordCounter,
}

impl BlackholeSink {
    /// A sink whose counter is at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// The count over all subtasks, live.
    pub fn counter(&self) -> RecordCounter {
        self.counter.clone()
    }
}

impl<T: Send + 'static> Sink<T> for BlackholeSink {
    type Writer = BlackholeWriter;

    fn create_writer(&self, _: SinkContext) -> Result<BlackholeWriter> {
        Ok(BlackholeWriter { counter: self.counter.clone() })
    }
}

/// Drops and counts the records of one subtask.
#[derive(Debug)]
pub struct BlackholeWriter {
    counter: RecordCounter,
}

impl<T: Send + 'static> SinkWriter<T> for BlackholeWriter {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        self.counter.0.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
