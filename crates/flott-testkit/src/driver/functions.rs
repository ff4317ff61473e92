//! Drivers of users' functions, which need to know nothing of operators.

use super::{TestDriver, TwoInputTestDriver, WindowDriver};
use flott_api::windowing::WindowAssigner;
use flott_api::{
    AsyncFunction, BroadcastProcessFunction, CoProcessFunction, Collector, KeyedBroadcastProcessFunction,
    KeyedCoProcessFunction, KeyedProcessFunction, OnError, ProcessFunction, Sink, SinkContext, UserResult,
    WatermarkStrategy,
};
use flott_operators::{
    AsyncWaitConfig, AsyncWaitOperator, BroadcastProcessOperator, CoProcessOperator, IntervalJoinOperator,
    JoinInterval, KeyedBroadcastProcessOperator, KeyedCoProcessOperator, KeyedProcessOperator,
    ProcessOperator, ReduceOperator, SinkOperator, TimestampsAndWatermarksOperator, WatermarkSettings,
};
use flott_types::{Configuration, Data, Key};

impl<I: 'static, O: Send + 'static> TestDriver<I, O> {
    /// A driver of a process function on a stream without keys.
    pub fn process(function: impl ProcessFunction<I, O> + Clone) -> Self {
        Self::new(move || ProcessOperator::new(function.clone()))
    }

    /// A driver of a process function on a keyed stream.
    ///
    /// ```
    /// use flott_api::{Collector, KeyedContext, KeyedProcessFunction, UserResult};
    /// use flott_testkit::{KeyValue, TestDriver};
    ///
    /// /// Repeats each record a second later.
    /// #[derive(Clone)]
    /// struct Echo;
    ///
    /// impl KeyedProcessFunction<String, KeyValue, String> for Echo {
    ///     fn process_element(
    ///         &mut self,
    ///         record: KeyValue,
    ///         ctx: &mut KeyedContext<'_, String>,
    ///         out: &mut Collector<'_, String>,
    ///     ) -> UserResult {
    ///         ctx.register_processing_time_timer(ctx.current_processing_time() + 1_000);
    ///         out.collect(record.key);
    ///         Ok(())
    ///     }
    ///     fn on_timer(&mut self, _: i64, ctx: &mut KeyedContext<'_, String>, out: &mut Collector<'_, String>) -> UserResult {
    ///         out.collect(ctx.current_key().clone());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut driver = TestDriver::keyed_process(KeyValue::key_of, Echo);
    /// assert_eq!(driver.run("+a=1@10 P999")?, "+a@10");
    /// assert_eq!(driver.run("P1000")?, "+a");
    /// # Ok::<(), flott_types::Error>(())
    /// ```
    pub fn keyed_process<K: Key>(
        key_selector: impl Fn(&I) -> K + Clone + Send + 'static,
        function: impl KeyedProcessFunction<K, I, O> + Clone,
    ) -> Self {
        let selector = key_selector.clone();
        Self::new(move || KeyedProcessOperator::new(selector.clone(), function.clone()))
            .with_key_selector(key_selector)
    }
}

impl<I: Data, O: Data> TestDriver<I, O> {
    /// A driver of an asynchronous function. Its calls get on while processing time passes:
    /// [`TestDriver::advance_processing_time`], [`TestDriver::run_async`].
    pub fn async_wait(function: impl AsyncFunction<I, O>, config: AsyncWaitConfig) -> Self {
        Self::new(move || AsyncWaitOperator::new(function.clone(), config))
    }
}

impl<T: Data> TestDriver<T, T> {
    /// A driver of a running reduction of a keyed stream.
    pub fn reduce<K: Key>(
        key_selector: impl Fn(&T) -> K + Clone + Send + 'static,
        reduce: impl FnMut(&mut T, T) + Clone + Send + 'static,
    ) -> Self {
        let selector = key_selector.clone();
        Self::new(move || ReduceOperator::new(selector.clone(), reduce.clone()))
            .with_key_selector(key_selector)
    }

    /// A driver of a watermark strategy, under the default configuration.
    pub fn assign_timestamps_and_watermarks(strategy: WatermarkStrategy<T>) -> Self {
        let settings = WatermarkSettings::from_configuration(&Configuration::default());
        Self::new(move || TimestampsAndWatermarksOperator::new(strategy.clone(), settings))
    }
}

impl<T: Data> TestDriver<T, ()> {
    /// A driver of a sink. It emits nothing: what the sink has done is seen where it writes, for example in the files of
    /// [`TestDriver::env`].
    pub fn sink(sink: impl Sink<T>) -> Self {
        Self::sink_with(sink, OnError::Fail)
    }

    /// [`TestDriver::sink`], and what becomes of records that the sink rejects. Dead letters are in the side output
    /// [`bad_records_tag`](flott_api::bad_records_tag).
    pub fn sink_with(sink: impl Sink<T>, on_error: OnError) -> Self {
        Self::try_new(move |ctx| {
            let (subtask, parallelism) = (ctx.subtask, ctx.parallelism);
            let ctx = SinkContext::new(ctx.env.clone(), subtask, parallelism, 1).with_on_error::<T>(on_error);
            let (writer, committer) = (sink.create_writer(ctx.clone())?, sink.create_committer(ctx.clone())?);
            Ok(SinkOperator::with_committer(writer, committer, &ctx))
        })
    }

    /// Windows of a keyed stream, to be given a function.
    ///
    /// ```
    /// use flott_api::windowing::TumblingEventTimeWindows;
    /// use flott_testkit::{KeyValue, TestDriver};
    /// use std::time::Duration;
    ///
    /// let windows = TumblingEventTimeWindows::of(Duration::from_millis(60));
    /// let mut driver = TestDriver::window(KeyValue::key_of, windows)
    ///     .reduce(|sum: &mut KeyValue, next| sum.value += next.value);
    /// assert_eq!(driver.run("+a=1@10 +a=2@70 +a=3@30 W58")?, "W58");
    /// assert_eq!(driver.run("W59")?, "+a=4@59 W59");
    /// # Ok::<(), flott_types::Error>(())
    /// ```
    pub fn window<K, S, A>(key_selector: S, assigner: A) -> WindowDriver<K, T, S, A>
    where
        K: Key,
        S: Fn(&T) -> K + Clone + Send + 'static,
        A: WindowAssigner<T>,
    {
        WindowDriver::new(key_selector, assigner)
    }
}

impl<A: 'static, B: 'static, O: Send + 'static> TwoInputTestDriver<A, B, O> {
    /// A driver of a process function on two streams without keys.
    pub fn co_process(function: impl CoProcessFunction<A, B, O> + Clone) -> Self {
        Self::new(move || CoProcessOperator::new(function.clone()))
    }

    /// A driver of a process function on two streams with the same keys.
    pub fn keyed_co_process<K: Key>(
        key_selector1: impl Fn(&A) -> K + Clone + Send + 'static,
        key_selector2: impl Fn(&B) -> K + Clone + Send + 'static,
        function: impl KeyedCoProcessFunction<K, A, B, O> + Clone,
    ) -> Self {
        let (first, second) = (key_selector1.clone(), key_selector2.clone());
        Self::new(move || KeyedCoProcessOperator::new(first.clone(), second.clone(), function.clone()))
            .with_key_selectors(key_selector1, key_selector2)
    }

    /// A driver of a process function on a stream, the first, and a broadcast one, the second.
    pub fn broadcast(function: impl BroadcastProcessFunction<A, B, O> + Clone) -> Self
    where
        B: Clone,
    {
        Self::new(move || BroadcastProcessOperator::new(function.clone())).with_broadcast()
    }

    /// A driver of a process function on a keyed stream, the first, and a broadcast one, the second.
    pub fn keyed_broadcast<K: Key>(
        key_selector: impl Fn(&A) -> K + Clone + Send + 'static,
        function: impl KeyedBroadcastProcessFunction<K, A, B, O> + Clone,
    ) -> Self
    where
        B: Clone,
    {
        let selector = key_selector.clone();
        Self::new(move || KeyedBroadcastProcessOperator::new(selector.clone(), function.clone()))
            .with_key_selector_and_broadcast(key_selector)
    }
}

impl<A: Data, B: Data, O: Send + 'static> TwoInputTestDriver<A, B, O> {
    /// A driver of an interval join.
    pub fn interval_join<K: Key>(
        key_selector1: impl Fn(&A) -> K + Clone + Send + 'static,
        key_selector2: impl Fn(&B) -> K + Clone + Send + 'static,
        interval: JoinInterval,
        function: impl FnMut(&A, &B, &mut Collector<'_, O>) -> UserResult + Clone + Send + 'static,
    ) -> Self {
        let (first, second) = (key_selector1.clone(), key_selector2.clone());
        Self::new(move || {
            IntervalJoinOperator::new(first.clone(), second.clone(), interval, function.clone())
        })
        .with_key_selectors(key_selector1, key_selector2)
    }
}
