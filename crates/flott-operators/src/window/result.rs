//! What becomes of a window's content when it fires, for all window operators.

use crate::operator::OperatorOutput;
use crate::user_code::user_error;
use flott_api::windowing::{TimeWindow, Window};
use flott_api::{
    AggregateFunction, BoxError, Collector, OutputTag, ProcessWindowFunction, UserResult, WindowContext,
};
use flott_types::{Data, Error, RecordBatch, Result, Timestamp};
use std::fmt;
use std::sync::atomic::Ordering;

/// A batch of results has at most about this many records: a watermark may fire millions of windows.
const RESULT_BATCH_RECORDS: usize = 1024;

/// Turns what a window holds when it fires, of type `R`, into records.
pub trait WindowFunction<K, W, R, O>: Send {
    /// Called for each firing of the window of a key; what it collects carries the window's largest timestamp.
    ///
    /// # Errors
    /// Fails the job.
    fn apply(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        result: R,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
}

/// Emits the result of an aggregation as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmitResult;

impl<K, W, R> WindowFunction<K, W, R, R> for EmitResult {
    #[inline]
    fn apply(
        &mut self,
        _: &K,
        _: &WindowContext<'_, W>,
        result: R,
        out: &mut Collector<'_, R>,
    ) -> UserResult {
        out.collect(result);
        Ok(())
    }
}

/// Emits what a function makes of key, window and the result of an aggregation.
#[derive(Clone)]
pub struct MapResult<F>(pub F);

impl<F> fmt::Debug for MapResult<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MapResult")
    }
}

impl<K, W, R, O, F> WindowFunction<K, W, R, O> for MapResult<F>
where
    F: FnMut(&K, &WindowContext<'_, W>, R) -> O + Send,
{
    #[inline]
    fn apply(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        result: R,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        out.collect((self.0)(key, ctx, result));
        Ok(())
    }
}

/// Hands the one result of an aggregation to a [`ProcessWindowFunction`].
#[derive(Clone)]
pub struct ProcessResult<P>(pub P);

impl<P> fmt::Debug for ProcessResult<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessResult")
    }
}

impl<K, W, R, O, P: ProcessWindowFunction<R, O, K, W>> WindowFunction<K, W, R, O> for ProcessResult<P> {
    fn apply(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        result: R,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        self.0.process(key, ctx, vec![result], out)
    }
}

/// Hands the records of a window to a [`ProcessWindowFunction`].
#[derive(Clone)]
pub struct ProcessRecords<P>(pub P);

impl<P> fmt::Debug for ProcessRecords<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessRecords")
    }
}

impl<K, W, T, O, P: ProcessWindowFunction<T, O, K, W>> WindowFunction<K, W, Vec<T>, O> for ProcessRecords<P> {
    fn apply(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        records: Vec<T>,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        self.0.process(key, ctx, records, out)
    }
}

/// Aggregates the records of a window that keeps them (because it has an evictor) and hands on the result.
#[derive(Clone)]
pub struct AggregateRecords<F, R> {
    /// The aggregation.
    pub function: F,
    /// What becomes of its result.
    pub then: R,
}

impl<F, R> fmt::Debug for AggregateRecords<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AggregateRecords")
    }
}

impl<K, W, T, O, F, R> WindowFunction<K, W, Vec<T>, O> for AggregateRecords<F, R>
where
    F: AggregateFunction<T>,
    R: WindowFunction<K, W, F::Output, O>,
{
    fn apply(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        records: Vec<T>,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        let mut accumulator = self.function.create_accumulator();
        records.iter().for_each(|record| self.function.add(&mut accumulator, record));
        self.then.apply(key, ctx, self.function.get_result(&accumulator), out)
    }
}

/// The results of firings that were not emitted yet. Nothing stays in it between the calls of an operator.
#[derive(Debug)]
pub(crate) struct Results<O> {
    batch: RecordBatch<O>,
}

impl<O> Default for Results<O> {
    fn default() -> Self {
        Self { batch: RecordBatch::default() }
    }
}

impl<O> Results<O> {
    /// Makes room for the results of about `n` firings.
    pub(crate) fn expect(&mut self, n: usize) {
        if self.batch.is_empty() {
            self.batch = RecordBatch::with_capacity(n.min(RESULT_BATCH_RECORDS));
        }
    }

    /// Calls a window function and emits what has gathered if it is enough.
    #[inline]
    pub(crate) fn fire(
        &mut self,
        timestamp: Timestamp,
        out: &mut OperatorOutput<'_, O>,
        call: impl FnOnce(&mut Collector<'_, O>) -> UserResult,
    ) -> Result<()> {
        call(&mut Collector::new(&mut self.batch, out.sides(), timestamp)).map_err(window_error)?;
        if self.batch.len() >= RESULT_BATCH_RECORDS { self.emit_full(out) } else { Ok(()) }
    }

    #[cold]
    #[inline(never)]
    fn emit_full(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let next = RecordBatch::with_capacity(RESULT_BATCH_RECORDS);
        out.emit(std::mem::replace(&mut self.batch, next))
    }

    /// Emits what has gathered.
    pub(crate) fn flush(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        out.emit(self.batch.take())
    }
}

/// An error of a window function.
#[cold]
fn window_error(error: BoxError) -> Error {
    user_error("the window function", error)
}

/// The window of an assigner's type that is this time.
pub(crate) fn window_of<W: Window>(window: TimeWindow) -> Result<W> {
    let window = W::from_time_window(window);
    window
        .ok_or_else(|| Error::user("the windows of the assigner say that they are time windows, but are not"))
}

/// Counts or keeps a record that came after all its windows had closed.
pub(crate) fn late_record<T: Data, O>(
    record: T,
    timestamp: Timestamp,
    tag: Option<&OutputTag<T>>,
    out: &mut OperatorOutput<'_, O>,
) {
    match tag {
        Some(tag) => out.sides().push(tag, record, timestamp),
        None => {
            out.metrics().late_records_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
