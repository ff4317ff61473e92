//! Where results go: into a fingerprint.

use flott_api::{Sink, SinkContext, SinkWriter, UserResult};
use flott_connector_nexmark::oracle::Fingerprint;
use flott_types::{Data, RecordBatch, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Hashes all records, whatever their order, and keeps none. Nothing that a query computes can be optimised away.
#[derive(Clone, Debug, Default)]
pub struct FingerprintSink {
    total: Arc<Mutex<Fingerprint>>,
}

impl FingerprintSink {
    /// A sink that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The fingerprint of what all subtasks have written, live.
    pub fn fingerprint(&self) -> Fingerprint {
        *lock(&self.total)
    }
}

fn lock(total: &Mutex<Fingerprint>) -> MutexGuard<'_, Fingerprint> {
    total.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Data> Sink<T> for FingerprintSink {
    type Writer = FingerprintWriter;

    fn create_writer(&self, _: SinkContext) -> Result<FingerprintWriter> {
        Ok(FingerprintWriter { total: Arc::clone(&self.total) })
    }
}

/// Hashes the records of one subtask.
#[derive(Debug)]
pub struct FingerprintWriter {
    total: Arc<Mutex<Fingerprint>>,
}

impl<T: Data> SinkWriter<T> for FingerprintWriter {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        let of_batch = Fingerprint::of(batch.records());
        lock(&self.total).merge(of_batch);
        Ok(())
    }
}
