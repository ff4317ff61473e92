//! Where functions put their results.

use flott_types::{Data, RecordBatch, TagId, Timestamp};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

/// The name and type of a side output.
pub struct OutputTag<T> {
    id: TagId,
    records: PhantomData<fn() -> T>,
}

impl<T> OutputTag<T> {
    /// A tag; two tags with one name in the same operator are the same output.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: TagId(id.into()), records: PhantomData }
    }

    /// The name.
    pub fn id(&self) -> &TagId {
        &self.id
    }
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        Self { id: self.id.clone(), records: PhantomData }
    }
}

impl<T> fmt::Debug for OutputTag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutputTag({})", self.id)
    }
}

/// The buffered records of one side output, of a type that only its reader knows.
pub struct SideBuffer {
    /// The tag.
    pub tag: TagId,
    /// A `RecordBatch<T>`.
    pub batch: Box<dyn Any + Send>,
}

impl fmt::Debug for SideBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SideBuffer({})", self.tag)
    }
}

/// The side outputs that an operator has written since they were last taken.
#[derive(Debug, Default)]
pub struct SideOutputs {
    buffers: Vec<SideBuffer>,
}

impl SideOutputs {
    /// Appends a record to the output `tag`.
    ///
    /// # Panics
    /// If another tag with the same name and another type was used in this operator.
    pub fn push<T: Data>(&mut self, tag: &OutputTag<T>, record: T, timestamp: Timestamp) {
        let idx = self.buffers.iter().position(|buffer| buffer.tag == tag.id).unwrap_or_else(|| {
            let batch = Box::new(RecordBatch::<T>::default());
            self.buffers.push(SideBuffer { tag: tag.id.clone(), batch });
            self.buffers.len() - 1
        });
        let batch =
            self.buffers.get_mut(idx).and_then(|buffer| buffer.batch.downcast_mut::<RecordBatch<T>>());
        let batch = batch.unwrap_or_else(|| panic!("side output '{}' is used with two record types", tag.id));
        batch.push(record, timestamp);
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// Takes what was written.
    pub fn take(&mut self) -> Vec<SideBuffer> {
        std::mem::take(&mut self.buffers)
    }
}

/// Where a function puts its results; they carry the timestamp of the record or timer at hand unless it says otherwise.
pub struct Collector<'a, T> {
    batch: &'a mut RecordBatch<T>,
    sides: &'a mut SideOutputs,
    timestamp: Timestamp,
}

impl<T> fmt::Debug for Collector<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("timestamp", &self.timestamp).finish_non_exhaustive()
    }
}

impl<'a, T> Collector<'a, T> {
    /// A collector into `batch` and `sides`, for operators.
    #[inline]
    pub fn new(batch: &'a mut RecordBatch<T>, sides: &'a mut SideOutputs, timestamp: Timestamp) -> Self {
        Self { batch, sides, timestamp }
    }

    /// Emits a record with the timestamp at hand.
    #[inline]
    pub fn collect(&mut self, record: T) {
        self.batch.push(record, self.timestamp);
    }

    /// Emits a record with a timestamp of its own, in milliseconds since the epoch.
    #[inline]
    pub fn collect_with_timestamp(&mut self, record: T, timestamp: Timestamp) {
        self.batch.push(record, timestamp);
    }

    /// Emits a record to a side output.
    pub fn output<S: Data>(&mut self, tag: &OutputTag<S>, record: S) {
        self.sides.push(tag, record, self.timestamp);
    }
}
