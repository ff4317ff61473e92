//! Keyed streams divided by window.

use crate::data_stream::DataStream;
use crate::keyed_stream::KeyedStream;
use crate::program::Prototype;
use flott_api::windowing::{Evictor, Trigger, WindowAssigner};
use flott_api::{AggregateFunction, OutputTag, ProcessWindowFunction, TimeDomain, WindowContext};
use flott_operators::{
    Aggregate, AggregateRecords, EmitResult, KeepRecords, MapResult, ProcessRecords, ProcessResult,
    SessionWindowConfig, SessionWindowOperator, SliceWindowConfig, SliceWindowOperator, WindowConfig,
    WindowFunction, WindowLogic, WindowOperator,
};
use flott_types::{Data, Key, duration_ms};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A keyed stream whose records are gathered in windows, to be given a function.
///
/// Late records, which come after their window has closed for good, are counted as `numLateRecordsDropped`, or go to a
/// side output ([`WindowedStream::side_output_late_data`]).
pub struct WindowedStream<K, T, S, A: WindowAssigner<T>> {
    stream: KeyedStream<K, T, S>,
    assigner: A,
    trigger: Option<Box<dyn Trigger<T, A::Window>>>,
    evictor: Option<Box<dyn Evictor<T, A::Window>>>,
    allowed_lateness_ms: i64,
    late_records: Option<OutputTag<T>>,
    /// One window for the records of all keys: one subtask.
    over_all: bool,
}

impl<K, T, S, A: WindowAssigner<T>> fmt::Debug for WindowedStream<K, T, S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowedStream")
            .field("allowed_lateness_ms", &self.allowed_lateness_ms)
            .finish_non_exhaustive()
    }
}

impl<K, T, S, A> WindowedStream<K, T, S, A>
where
    K: Key,
    T: Data,
    S: Fn(&T) -> K + Clone + Send + Sync + 'static,
    A: WindowAssigner<T>,
{
    pub(crate) fn new(stream: KeyedStream<K, T, S>, assigner: A) -> Self {
        Self {
            stream,
            assigner,
            trigger: None,
            evictor: None,
            allowed_lateness_ms: 0,
            late_records: None,
            over_all: false,
        }
    }

    pub(crate) fn over_all(mut self) -> Self {
        self.over_all = true;
        self
    }

    /// When windows fire, instead of the assigner's default.
    #[must_use]
    pub fn trigger(mut self, trigger: impl Trigger<T, A::Window> + 'static) -> Self {
        self.trigger = Some(Box::new(trigger));
        self
    }

    /// Which records are left out when a window fires. Windows then keep all their records.
    #[must_use]
    pub fn evictor(mut self, evictor: impl Evictor<T, A::Window> + 'static) -> Self {
        self.evictor = Some(Box::new(evictor));
        self
    }

    /// Keeps event-time windows for `lateness` after the watermark has passed them: records that come until then refine the
    /// result, which is emitted again.
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness_ms = duration_ms(lateness);
        self
    }

    /// Sends late records to a side output of the window operator instead of dropping them.
    #[must_use]
    pub fn side_output_late_data(mut self, tag: &OutputTag<T>) -> Self {
        self.late_records = Some(tag.clone());
        self
    }

    /// Folds the records of each window into one result.
    pub fn aggregate<F: AggregateFunction<T>>(self, function: F) -> DataStream<F::Output> {
        self.aggregate_then("window aggregate", function, EmitResult)
    }

    /// [`WindowedStream::aggregate`], and `then` makes a record of key, window and result.
    pub fn aggregate_with<F, O, M>(self, function: F, then: M) -> DataStream<O>
    where
        F: AggregateFunction<T>,
        O: Data,
        M: FnMut(&K, &WindowContext<'_, A::Window>, F::Output) -> O + Clone + Send + 'static,
    {
        self.aggregate_then("window aggregate", function, MapResult(then))
    }

    /// [`WindowedStream::aggregate`], and a [`ProcessWindowFunction`] gets the one result.
    pub fn aggregate_process<F, O, M>(self, function: F, then: M) -> DataStream<O>
    where
        F: AggregateFunction<T>,
        O: Data,
        M: ProcessWindowFunction<F::Output, O, K, A::Window> + Clone,
    {
        self.aggregate_then("window aggregate", function, ProcessResult(then))
    }

    /// Folds the records of each window into one of them.
    pub fn reduce<F>(self, reduce: F) -> DataStream<T>
    where
        T: Sync,
        F: Fn(&mut T, T) + Clone + Send + Sync + 'static,
    {
        self.aggregate_then("window reduce", Reduce { reduce, records: PhantomData }, EmitResult)
    }

    /// [`WindowedStream::reduce`], and `then` makes a record of key, window and result.
    pub fn reduce_with<F, O, M>(self, reduce: F, then: M) -> DataStream<O>
    where
        T: Sync,
        F: Fn(&mut T, T) + Clone + Send + Sync + 'static,
        O: Data,
        M: FnMut(&K, &WindowContext<'_, A::Window>, T) -> O + Clone + Send + 'static,
    {
        self.aggregate_then("window reduce", Reduce { reduce, records: PhantomData }, MapResult(then))
    }

    /// Hands all records of a window to a function when it fires. Windows keep their records; an aggregate is smaller.
    pub fn process<O, F>(self, function: F) -> DataStream<O>
    where
        O: Data,
        F: ProcessWindowFunction<T, O, K, A::Window> + Clone,
    {
        let (then, evictor) = (ProcessRecords(function), self.evictor.clone());
        self.general("window process", KeepRecords { then, evictor })
    }

    /// Chooses the operator: by slices or sessions where nothing special is wanted, else the general one.
    fn aggregate_then<F, O, R>(self, name: &str, function: F, then: R) -> DataStream<O>
    where
        F: AggregateFunction<T>,
        O: Data,
        R: WindowFunction<K, A::Window, F::Output, O> + Clone + 'static,
    {
        if let Some(evictor) = self.evictor.clone() {
            let then = AggregateRecords { function, then };
            return self.general(name, KeepRecords { then, evictor: Some(evictor) });
        }
        let plain = self.trigger.is_none() && self.allowed_lateness_ms == 0;
        if plain && let Some(slicing) = self.assigner.slicing() {
            let prototype = Prototype::new(SliceWindowConfig {
                key_selector: self.stream.key_selector(),
                slicing,
                domain: self.domain(),
                function,
                then,
                late_records: self.late_records.clone(),
            });
            let make = move |_: &_| {
                Ok(SliceWindowOperator::<K, T, O, A::Window, _, _, _>::new(prototype.instance()))
            };
            return self.finish(self.stream.operator(name, make));
        }
        if plain && self.assigner.is_merging() && self.assigner.is_event_time() {
            let prototype = Prototype::new(SessionWindowConfig {
                key_selector: self.stream.key_selector(),
                assigner: self.assigner.clone(),
                function,
                then,
                late_records: self.late_records.clone(),
            });
            let make = move |_: &_| SessionWindowOperator::<K, T, O, A, _, _, _>::new(prototype.instance());
            return self.finish(self.stream.operator(name, make));
        }
        self.general(name, Aggregate { function, then })
    }

    fn domain(&self) -> TimeDomain {
        if self.assigner.is_event_time() { TimeDomain::EventTime } else { TimeDomain::ProcessingTime }
    }

    fn general<O, L>(self, name: &str, logic: L) -> DataStream<O>
    where
        O: Data,
        L: WindowLogic<T, K, A::Window, O> + Clone + 'static,
    {
        let prototype = Prototype::new(WindowConfig {
            key_selector: self.stream.key_selector(),
            assigner: self.assigner.clone(),
            trigger: self.trigger.clone().unwrap_or_else(|| self.assigner.default_trigger()),
            allowed_lateness_ms: self.allowed_lateness_ms,
            late_records: self.late_records.clone(),
            logic,
        });
        let make = move |_: &_| WindowOperator::<K, T, O, A, _, _>::new(prototype.instance());
        self.finish(self.stream.operator(name, make))
    }

    fn finish<O: Data>(&self, output: DataStream<O>) -> DataStream<O> {
        let lateness = Duration::from_millis(self.allowed_lateness_ms.unsigned_abs());
        let mut program = output.program().lock();
        program.allowed_lateness = program.allowed_lateness.max(lateness);
        drop(program);
        if self.over_all {
            output.limit_parallelism(1);
        }
        output
    }
}

/// A reduce function as an aggregation: the accumulator is the value so far.
struct Reduce<T, F> {
    reduce: F,
    records: PhantomData<fn(T)>,
}

impl<T, F: Clone> Clone for Reduce<T, F> {
    fn clone(&self) -> Self {
        Self { reduce: self.reduce.clone(), records: PhantomData }
    }
}

impl<T, F> AggregateFunction<T> for Reduce<T, F>
where
    T: Data + Sync,
    F: Fn(&mut T, T) + Clone + Send + Sync + 'static,
{
    type Accumulator = Option<T>;
    type Output = T;

    fn create_accumulator(&self) -> Option<T> {
        None
    }

    fn add(&self, accumulator: &mut Option<T>, record: &T) {
        match accumulator {
            None => *accumulator = Some(record.clone()),
            Some(value) => (self.reduce)(value, record.clone()),
        }
    }

    fn get_result(&self, accumulator: &Option<T>) -> T {
        accumulator.clone().expect("a window that fires has at least one record")
    }

    fn merge(&self, accumulator: &mut Option<T>, other: &Option<T>) {
        if let Some(other) = other {
            self.add(accumulator, other);
        }
    }
}
