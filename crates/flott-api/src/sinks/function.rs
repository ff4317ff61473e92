//! A closure per record or per batch.

use crate::sink::{Sink, SinkContext, SinkWriter};
use crate::{BoxError, UserResult};
use flott_types::{RecordBatch, Result, Timestamp};
use std::fmt;
use std::sync::Arc;

/// What a sink's closure may return: nothing, or a result whose error fails the job.
pub trait SinkOutcome {
    /// The outcome as the engine wants it.
    ///
    /// # Errors
    /// If the closure returned one.
    fn into_user_result(self) -> UserResult;
}

impl SinkOutcome for () {
    fn into_user_result(self) -> UserResult {
        Ok(())
    }
}

impl<E: Into<BoxError>> SinkOutcome for Result<(), E> {
    fn into_user_result(self) -> UserResult {
        self.map_err(Into::into)
    }
}

type WriteBatch<T> = Box<dyn FnMut(RecordBatch<T>) -> UserResult + Send>;

/// Calls a closure; each subtask has a clone of it.
pub struct FnSink<T> {
    make: Arc<dyn Fn() -> WriteBatch<T> + Send + Sync>,
}

impl<T> Clone for FnSink<T> {
    fn clone(&self) -> Self {
        Self { make: Arc::clone(&self.make) }
    }
}

impl<T> fmt::Debug for FnSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnSink")
    }
}

impl<T: Send + 'static> FnSink<T> {
    /// Calls `write` for each record. Blocking in it is back-pressure.
    pub fn new<R: SinkOutcome>(write: impl FnMut(T) -> R + Clone + Send + Sync + 'static) -> Self {
        let mut write = write;
        Self::for_timestamped(move |record, _| write(record))
    }

    /// Calls `write` for each record and its timestamp, in milliseconds since the epoch;
    /// [`NO_TIMESTAMP`](flott_types::NO_TIMESTAMP) if it has none.
    pub fn for_timestamped<R: SinkOutcome>(
        write: impl FnMut(T, Timestamp) -> R + Clone + Send + Sync + 'static,
    ) -> Self {
        let mut write = write;
        Self::for_batches(move |batch: RecordBatch<T>| {
            batch.into_iter().try_for_each(|(record, timestamp)| write(record, timestamp).into_user_result())
        })
    }

    /// Calls `write` for each batch. Where one batch ends and the next begins means nothing.
    pub fn for_batches<R: SinkOutcome>(
        write: impl FnMut(RecordBatch<T>) -> R + Clone + Send + Sync + 'static,
    ) -> Self {
        let make = move || {
            let mut write = write.clone();
            Box::new(move |batch| write(batch).into_user_result()) as WriteBatch<T>
        };
        Self { make: Arc::new(make) }
    }
}

impl<T: Send + 'static> Sink<T> for FnSink<T> {
    type Writer = FnWriter<T>;

    fn create_writer(&self, _: SinkContext) -> Result<FnWriter<T>> {
        Ok(FnWriter { write: (self.make)() })
    }
}

/// Calls the closure of one subtask.
pub struct FnWriter<T> {
    write: WriteBatch<T>,
}

impl<T> fmt::Debug for FnWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnWriter")
    }
}

impl<T: Send + 'static> SinkWriter<T> for FnWriter<T> {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        (self.write)(batch)
    }
}
