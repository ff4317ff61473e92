//! A vector that the host program reads.

use crate::UserResult;
use crate::sink::{Sink, SinkContext, SinkWriter};
use flott_types::{RecordBatch, Result, Timestamp};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A sink that appends to a vector, and the handle from which the host program takes it. The vector grows without
/// limit: it is for tests and small results; [`channel_sink`](super::channel_sink) holds back a fast job.
pub fn collect_sink<T: Send + 'static>() -> (CollectSink<T>, CollectHandle<T>) {
    let shared = Shared::default();
    (CollectSink { shared: shared.clone() }, CollectHandle { shared })
}

struct Shared<T>(Arc<Mutex<RecordBatch<T>>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, RecordBatch<T>> {
        // Only a panicking `Clone` of a record poisons the lock, and it leaves the records as they were.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends to a vector: see [`collect_sink`]. Records of one subtask keep their order.
pub struct CollectSink<T> {
    shared: Shared<T>,
}

/// The host program's view of what a [`CollectSink`] has taken, live.
pub struct CollectHandle<T> {
    shared: Shared<T>,
}

/// Appends the records of one subtask.
pub struct CollectWriter<T> {
    shared: Shared<T>,
}

impl<T> Clone for CollectSink<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> Clone for CollectHandle<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for CollectSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollectSink")
    }
}

impl<T> fmt::Debug for CollectHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectHandle").field("len", &self.len()).finish()
    }
}

impl<T> fmt::Debug for CollectWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollectWriter")
    }
}

impl<T> CollectHandle<T> {
    /// Takes the records, leaving none.
    pub fn take(&self) -> Vec<T> {
        self.take_batch().into_columns().0
    }

    /// Takes the records with their timestamps, leaving none.
    pub fn take_with_timestamps(&self) -> Vec<(T, Timestamp)> {
        self.take_batch().into_iter().collect()
    }

    /// Takes the records as one batch, leaving none.
    pub fn take_batch(&self) -> RecordBatch<T> {
        self.shared.lock().take()
    }

    /// Copies the records.
    pub fn records(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.shared.lock().records().to_vec()
    }

    /// Number of records not taken yet.
    pub fn len(&self) -> usize {
        self.shared.lock().len()
    }

    /// Whether there is no record that was not taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Send + 'static> Sink<T> for CollectSink<T> {
    type Writer = CollectWriter<T>;

    fn create_writer(&self, _: SinkContext) -> Result<CollectWriter<T>> {
        Ok(CollectWriter { shared: self.shared.clone() })
    }
}

impl<T: Send + 'static> SinkWriter<T> for CollectWriter<T> {
    fn write(&mut self, mut batch: RecordBatch<T>) -> UserResult {
        self.shared.lock().append(&mut batch);
        Ok(())
    }
}
