//! Two streams into one function.

use crate::data_stream::DataStream;
use crate::keyed_stream::KeyedStream;
use crate::program::Prototype;
use flott_api::{
    BroadcastProcessFunction, CoProcessFunction, KeyedBroadcastProcessFunction, KeyedCoProcessFunction,
    OutputTag,
};
use flott_operators::{
    BroadcastProcessOperator, CoProcessOperator, IntervalJoinOperator, JoinInterval,
    KeyedBroadcastProcessOperator, KeyedCoProcessOperator,
};
use flott_types::{Data, Key, Result};
use std::fmt;
use std::ops::RangeBounds;

/// Two streams of different types, for a [`CoProcessFunction`].
#[derive(Debug)]
pub struct ConnectedStreams<A, B> {
    first: DataStream<A>,
    second: DataStream<B>,
}

impl<A: Data, B: Data> ConnectedStreams<A, B> {
    pub(crate) fn new(first: DataStream<A>, second: DataStream<B>) -> Self {
        assert!(first.program().is(second.program()), "a connection of streams of two environments");
        Self { first, second }
    }

    /// Each record through the method for its stream.
    pub fn process<O: Data, F: CoProcessFunction<A, B, O> + Clone>(&self, function: F) -> DataStream<O> {
        let (program, prototype) = (self.first.program().clone(), Prototype::new(function));
        let (first, second) = (self.first.clone().into_origins(), self.second.clone().into_origins());
        let make = move |_: &_| Ok(CoProcessOperator::new(prototype.instance()));
        let origins = program.two_input("co-process", first, second, make);
        DataStream::new(program, origins)
    }
}

/// Two streams with the same keys, for a [`KeyedCoProcessFunction`] or an interval join.
pub struct KeyedConnectedStreams<K, A, B, S1, S2> {
    first: KeyedStream<K, A, S1>,
    second: KeyedStream<K, B, S2>,
}

impl<K, A, B, S1, S2> fmt::Debug for KeyedConnectedStreams<K, A, B, S1, S2> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedConnectedStreams")
    }
}

impl<K, A, B, S1, S2> KeyedConnectedStreams<K, A, B, S1, S2>
where
    K: Key,
    A: Data,
    B: Data,
    S1: Fn(&A) -> K + Clone + Send + Sync + 'static,
    S2: Fn(&B) -> K + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(first: KeyedStream<K, A, S1>, second: KeyedStream<K, B, S2>) -> Self {
        assert!(first.program().is(second.program()), "a connection of streams of two environments");
        Self { first, second }
    }

    /// Each record through the method for its stream; both share the state of the key.
    pub fn process<O: Data, F: KeyedCoProcessFunction<K, A, B, O> + Clone>(
        &self,
        function: F,
    ) -> DataStream<O> {
        let (program, prototype) = (self.first.program().clone(), Prototype::new(function));
        let (selector1, selector2) = (self.first.key_selector(), self.second.key_selector());
        let make = move |_: &_| {
            Ok(KeyedCoProcessOperator::new(selector1.clone(), selector2.clone(), prototype.instance()))
        };
        let origins =
            program.two_input("keyed co-process", self.first.origins(), self.second.origins(), make);
        DataStream::new(program, origins)
    }

    /// Joins records of a key whose timestamps lie close: `bounds` holds the differences, in milliseconds, of the second
    /// record's timestamp to the first's that match; for example `-1000..=1000`.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) if the bounds are open or hold nothing.
    pub fn interval_join(&self, bounds: impl RangeBounds<i64>) -> Result<IntervalJoin<K, A, B, S1, S2>> {
        Ok(IntervalJoin {
            first: self.first.clone(),
            second: self.second.clone(),
            interval: JoinInterval::new(bounds)?,
            late_first: None,
            late_second: None,
        })
    }
}

/// An interval join to be given its function.
pub struct IntervalJoin<K, A, B, S1, S2> {
    first: KeyedStream<K, A, S1>,
    second: KeyedStream<K, B, S2>,
    interval: JoinInterval,
    late_first: Option<OutputTag<A>>,
    late_second: Option<OutputTag<B>>,
}

impl<K, A, B, S1, S2> fmt::Debug for IntervalJoin<K, A, B, S1, S2> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntervalJoin").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl<K, A, B, S1, S2> IntervalJoin<K, A, B, S1, S2>
where
    K: Key,
    A: Data,
    B: Data,
    S1: Fn(&A) -> K + Clone + Send + Sync + 'static,
    S2: Fn(&B) -> K + Clone + Send + Sync + 'static,
{
    /// Sends late records of the first stream to a side output instead of dropping them.
    #[must_use]
    pub fn side_output_late_first(mut self, tag: &OutputTag<A>) -> Self {
        self.late_first = Some(tag.clone());
        self
    }

    /// Sends late records of the second stream to a side output instead of dropping them.
    #[must_use]
    pub fn side_output_late_second(mut self, tag: &OutputTag<B>) -> Self {
        self.late_second = Some(tag.clone());
        self
    }

    /// Calls `join` for every matching pair; results carry the later of the two timestamps.
    pub fn process<O: Data, F>(self, join: F) -> DataStream<O>
    where
        F: FnMut(&A, &B, &mut flott_api::Collector<'_, O>) -> flott_api::UserResult + Clone + Send + 'static,
    {
        let Self { first, second, interval, late_first, late_second } = self;
        let (program, prototype) = (first.program().clone(), Prototype::new(join));
        let (selector1, selector2) = (first.key_selector(), second.key_selector());
        let make = move |_: &_| {
            let mut operator = IntervalJoinOperator::new(
                selector1.clone(),
                selector2.clone(),
                interval,
                prototype.instance(),
            );
            if let Some(tag) = &late_first {
                operator = operator.with_late_left(tag.clone());
            }
            if let Some(tag) = &late_second {
                operator = operator.with_late_right(tag.clone());
            }
            Ok(operator)
        };
        let origins = program.two_input("interval join", first.origins(), second.origins(), make);
        DataStream::new(program, origins)
    }
}

/// A stream that every subtask of another gets whole.
#[derive(Clone, Debug)]
pub struct BroadcastStream<B> {
    stream: DataStream<B>,
}

impl<B: Data> BroadcastStream<B> {
    pub(crate) fn new(stream: DataStream<B>) -> Self {
        Self { stream }
    }
}

/// A stream and a broadcast one, for a [`BroadcastProcessFunction`].
#[derive(Debug)]
pub struct BroadcastStreams<T, B> {
    stream: DataStream<T>,
    broadcast: BroadcastStream<B>,
}

impl<T: Data, B: Data> BroadcastStreams<T, B> {
    pub(crate) fn new(stream: DataStream<T>, broadcast: BroadcastStream<B>) -> Self {
        assert!(
            stream.program().is(broadcast.stream.program()),
            "a connection of streams of two environments"
        );
        Self { stream, broadcast }
    }

    /// Each record through the method for its stream.
    pub fn process<O: Data, F: BroadcastProcessFunction<T, B, O> + Clone>(
        &self,
        function: F,
    ) -> DataStream<O> {
        let (program, prototype) = (self.stream.program().clone(), Prototype::new(function));
        let (first, second) =
            (self.stream.clone().into_origins(), self.broadcast.stream.clone().into_origins());
        let make = move |_: &_| Ok(BroadcastProcessOperator::new(prototype.instance()));
        let origins = program.two_input("broadcast process", first, second, make);
        DataStream::new(program, origins)
    }
}

/// A keyed stream and a broadcast one, for a [`KeyedBroadcastProcessFunction`].
pub struct KeyedBroadcastStreams<K, T, B, S> {
    stream: KeyedStream<K, T, S>,
    broadcast: BroadcastStream<B>,
}

impl<K, T, B, S> fmt::Debug for KeyedBroadcastStreams<K, T, B, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedBroadcastStreams")
    }
}

impl<K, T, B, S> KeyedBroadcastStreams<K, T, B, S>
where
    K: Key,
    T: Data,
    B: Data,
    S: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(stream: KeyedStream<K, T, S>, broadcast: BroadcastStream<B>) -> Self {
        assert!(
            stream.program().is(broadcast.stream.program()),
            "a connection of streams of two environments"
        );
        Self { stream, broadcast }
    }

    /// Each record through the method for its stream.
    pub fn process<O: Data, F>(&self, function: F) -> DataStream<O>
    where
        F: KeyedBroadcastProcessFunction<K, T, B, O> + Clone,
    {
        let (program, prototype) = (self.stream.program().clone(), Prototype::new(function));
        let selector = self.stream.key_selector();
        let make =
            move |_: &_| Ok(KeyedBroadcastProcessOperator::new(selector.clone(), prototype.instance()));
        let broadcast = self.broadcast.stream.clone().into_origins();
        let origins = program.two_input("keyed broadcast process", self.stream.origins(), broadcast, make);
        DataStream::new(program, origins)
    }
}
