//! Drivers of windows, configured as a windowed stream is.

use super::TestDriver;
use flott_api::windowing::{Evictor, Trigger, WindowAssigner};
use flott_api::{AggregateFunction, OutputTag, ProcessWindowFunction, TimeDomain, WindowContext};
use flott_operators::{
    Aggregate, AggregateRecords, EmitResult, KeepRecords, MapResult, ProcessRecords, SessionWindowConfig,
    SessionWindowOperator, SliceWindowConfig, SliceWindowOperator, WindowConfig, WindowFunction, WindowLogic,
    WindowOperator,
};
use flott_types::{Data, Key, duration_ms};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// Windows of a keyed stream, to be given a function: what [`TestDriver::window`] returns.
///
/// Settings and methods are those of a windowed stream, and the same operator is chosen.
pub struct WindowDriver<K, T, S, A: WindowAssigner<T>> {
    key_selector: S,
    assigner: A,
    trigger: Option<Box<dyn Trigger<T, A::Window>>>,
    evictor: Option<Box<dyn Evictor<T, A::Window>>>,
    allowed_lateness_ms: i64,
    late_records: Option<OutputTag<T>>,
    general_operator: bool,
    keys: PhantomData<fn() -> K>,
}

impl<K, T, S, A: WindowAssigner<T>> fmt::Debug for WindowDriver<K, T, S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowDriver")
            .field("allowed_lateness_ms", &self.allowed_lateness_ms)
            .finish_non_exhaustive()
    }
}

impl<K, T, S, A> WindowDriver<K, T, S, A>
where
    K: Key,
    T: Data,
    S: Fn(&T) -> K + Clone + Send + 'static,
    A: WindowAssigner<T>,
{
    pub(crate) fn new(key_selector: S, assigner: A) -> Self {
        Self {
            key_selector,
            assigner,
            trigger: None,
            evictor: None,
            allowed_lateness_ms: 0,
            late_records: None,
            general_operator: false,
            keys: PhantomData,
        }
    }

    /// When windows fire, instead of the assigner's default.
    #[must_use]
    pub fn trigger(mut self, trigger: impl Trigger<T, A::Window> + 'static) -> Self {
        self.trigger = Some(Box::new(trigger));
        self
    }

    /// Which records are left out when a window fires.
    #[must_use]
    pub fn evictor(mut self, evictor: impl Evictor<T, A::Window> + 'static) -> Self {
        self.evictor = Some(Box::new(evictor));
        self
    }

    /// How long event-time windows are kept after the watermark has passed them.
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness_ms = duration_ms(lateness);
        self
    }

    /// Sends late records to a side output instead of dropping them.
    #[must_use]
    pub fn side_output_late_data(mut self, tag: &OutputTag<T>) -> Self {
        self.late_records = Some(tag.clone());
        self
    }

    /// Drives the operator for windows of every kind also where a faster one exists, to compare them.
    #[must_use]
    pub fn with_general_operator(mut self) -> Self {
        self.general_operator = true;
        self
    }

    /// Folds the records of each window into one result.
    pub fn aggregate<F: AggregateFunction<T>>(self, function: F) -> TestDriver<T, F::Output> {
        self.aggregate_then(function, EmitResult)
    }

    /// [`WindowDriver::aggregate`], and `then` makes a record of key, window and result.
    pub fn aggregate_with<F, O>(
        self,
        function: F,
        then: impl FnMut(&K, &WindowContext<'_, A::Window>, F::Output) -> O + Clone + Send + 'static,
    ) -> TestDriver<T, O>
    where
        F: AggregateFunction<T>,
        O: Send + 'static,
    {
        self.aggregate_then(function, MapResult(then))
    }

    /// Folds the records of each window into one of them.
    pub fn reduce(self, reduce: impl Fn(&mut T, T) + Clone + Send + Sync + 'static) -> TestDriver<T, T>
    where
        T: Sync,
    {
        self.aggregate_then(Reduce { reduce, records: PhantomData }, EmitResult)
    }

    /// Hands all records of a window to a function when it fires.
    pub fn process<O, F>(self, function: F) -> TestDriver<T, O>
    where
        O: Send + 'static,
        F: ProcessWindowFunction<T, O, K, A::Window> + Clone,
    {
        let evictor = self.evictor.clone();
        self.general(KeepRecords { then: ProcessRecords(function), evictor })
    }

    fn aggregate_then<F, O, R>(self, function: F, then: R) -> TestDriver<T, O>
    where
        F: AggregateFunction<T>,
        O: Send + 'static,
        R: WindowFunction<K, A::Window, F::Output, O> + Clone + 'static,
    {
        if let Some(evictor) = self.evictor.clone() {
            return self
                .general(KeepRecords { then: AggregateRecords { function, then }, evictor: Some(evictor) });
        }
        let plain = self.trigger.is_none() && self.allowed_lateness_ms == 0 && !self.general_operator;
        if plain && let Some(slicing) = self.assigner.slicing() {
            let key_selector = self.key_selector.clone();
            let late_records = self.late_records;
            let is_event_time = self.assigner.is_event_time();
            let domain = if is_event_time { TimeDomain::EventTime } else { TimeDomain::ProcessingTime };
            let config = SliceWindowConfig { key_selector, slicing, domain, function, then, late_records };
            let make = move || SliceWindowOperator::<K, T, O, A::Window, _, _, _>::new(config.clone());
            return TestDriver::new(make).with_key_selector(self.key_selector);
        }
        if plain && self.assigner.is_event_time_session() {
            let key_selector = self.key_selector.clone();
            let (assigner, late_records) = (self.assigner, self.late_records);
            let config = SessionWindowConfig { key_selector, assigner, function, then, late_records };
            let make = move |_: &_| SessionWindowOperator::<K, T, O, A, _, _, _>::new(config.clone());
            return TestDriver::try_new(make).with_key_selector(self.key_selector);
        }
        self.general(Aggregate { function, then })
    }

    fn general<O, L>(self, logic: L) -> TestDriver<T, O>
    where
        O: Send + 'static,
        L: WindowLogic<T, K, A::Window, O> + Clone + 'static,
    {
        let config = WindowConfig {
            key_selector: self.key_selector.clone(),
            trigger: self.trigger.unwrap_or_else(|| self.assigner.default_trigger()),
            assigner: self.assigner,
            allowed_lateness_ms: self.allowed_lateness_ms,
            late_records: self.late_records,
            logic,
        };
        let make = move |_: &_| WindowOperator::<K, T, O, A, _, _>::new(config.clone());
        TestDriver::try_new(make).with_key_selector(self.key_selector)
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
