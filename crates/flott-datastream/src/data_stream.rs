//! Streams without keys.

use crate::connected::{BroadcastStream, BroadcastStreams, ConnectedStreams};
use crate::keyed_stream::KeyedStream;
use crate::program::{NodeHandle, Origins, Prototype, SharedProgram};
use crate::windowed_stream::WindowedStream;
use flott_api::sinks::PrintSink;
use flott_api::windowing::WindowAssigner;
use flott_api::{AsyncFunction, BadRecord, OnError, OutputTag, ProcessFunction, Sink, WatermarkStrategy};
use flott_exchange::CustomPartitioner;
use flott_graph::{ChainingStrategy, Partitioning, StreamNode};
use flott_operators::pipe::{
    Filter, FlatMap, ForEach, Identity, Inspect, Map, Pipe, TryFilter, TryFlatMap, TryForEach, TryMap,
};
use flott_operators::{
    AsyncWaitConfig, AsyncWaitOperator, FusedOperator, ProcessOperator, SinkOperator,
    TimestampsAndWatermarksOperator, WatermarkSettings,
};
use flott_runtime::TypedEdge;
use flott_types::{Data, Key, OperatorUid};
use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A stream of records of type `T`.
///
/// `map`, `filter` and the like do not add an operator each: like iterators they nest in the type `P`, and the whole run
/// becomes one operator, as fast as a loop written by hand, when something else follows. [`DataStream::seal`] makes a plain
/// `DataStream<T>` of any stream, to name it in a signature. Setters such as [`DataStream::name`] change the operator that
/// was added last.
pub struct DataStream<T, P = Identity<T>> {
    program: SharedProgram,
    /// Of records of the type `P::In`, which cannot be named here without bounds.
    origins: Origins<()>,
    pipe: P,
    steps: Vec<&'static str>,
    records: PhantomData<fn() -> T>,
}

impl<T, P> fmt::Debug for DataStream<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataStream").field("steps", &self.steps).finish_non_exhaustive()
    }
}

impl<T, P: Clone> Clone for DataStream<T, P> {
    fn clone(&self) -> Self {
        Self {
            program: self.program.clone(),
            origins: self.origins.clone(),
            pipe: self.pipe.clone(),
            steps: self.steps.clone(),
            records: PhantomData,
        }
    }
}

impl<T: Data> DataStream<T> {
    pub(crate) fn new(program: SharedProgram, origins: Origins<T>) -> Self {
        Self {
            program,
            origins: origins.cast(),
            pipe: Identity::new(),
            steps: Vec::new(),
            records: PhantomData,
        }
    }

    pub(crate) fn program(&self) -> &SharedProgram {
        &self.program
    }

    pub(crate) fn into_origins(self) -> Origins<T> {
        self.origins.cast()
    }
}

/// Steps that become part of one operator.
impl<T: 'static, P: Pipe<Out = T>> DataStream<T, P> {
    fn then<U, Q: Pipe<In = P::In, Out = U>>(
        &self,
        step: &'static str,
        extend: impl FnOnce(P) -> Q,
    ) -> DataStream<U, Q> {
        let mut steps = self.steps.clone();
        steps.push(step);
        DataStream {
            program: self.program.clone(),
            origins: self.origins.clone(),
            pipe: extend(self.pipe.clone()),
            steps,
            records: PhantomData,
        }
    }

    /// One record for each.
    pub fn map<U: 'static, F>(&self, function: F) -> DataStream<U, Map<P, F>>
    where
        F: FnMut(T) -> U + Clone + Send + 'static,
    {
        self.then("map", |pipe| Map::new(pipe, function))
    }

    /// The records for which `predicate` says true.
    pub fn filter<F>(&self, predicate: F) -> DataStream<T, Filter<P, F>>
    where
        F: FnMut(&T) -> bool + Clone + Send + 'static,
    {
        self.then("filter", |pipe| Filter::new(pipe, predicate))
    }

    /// Any number of records for each.
    pub fn flat_map<R, F>(&self, function: F) -> DataStream<R::Item, FlatMap<P, F>>
    where
        R: IntoIterator<Item: 'static> + 'static,
        F: FnMut(T) -> R + Clone + Send + 'static,
    {
        self.then("flat_map", |pipe| FlatMap::new(pipe, function))
    }

    /// Looks at each record as it passes.
    pub fn inspect<F>(&self, function: F) -> DataStream<T, Inspect<P, F>>
    where
        F: FnMut(&T) + Clone + Send + 'static,
    {
        self.then("inspect", |pipe| Inspect::new(pipe, function))
    }

    /// [`DataStream::map`] with a function that may fail; an error fails the job and names the record.
    pub fn try_map<U: 'static, X, F>(&self, function: F) -> DataStream<U, TryMap<P, F>>
    where
        X: Into<flott_api::BoxError> + 'static,
        F: FnMut(T) -> Result<U, X> + Clone + Send + 'static,
    {
        self.then("try_map", |pipe| TryMap::new(pipe, function))
    }

    /// [`DataStream::filter`] with a predicate that may fail.
    pub fn try_filter<X, F>(&self, predicate: F) -> DataStream<T, TryFilter<P, F>>
    where
        X: Into<flott_api::BoxError> + 'static,
        F: FnMut(&T) -> Result<bool, X> + Clone + Send + 'static,
    {
        self.then("try_filter", |pipe| TryFilter::new(pipe, predicate))
    }

    /// [`DataStream::flat_map`] with a function that may fail.
    pub fn try_flat_map<R, X, F>(&self, function: F) -> DataStream<R::Item, TryFlatMap<P, F>>
    where
        R: IntoIterator<Item: 'static> + 'static,
        X: Into<flott_api::BoxError> + 'static,
        F: FnMut(T) -> Result<R, X> + Clone + Send + 'static,
    {
        self.then("try_flat_map", |pipe| TryFlatMap::new(pipe, function))
    }
}

/// Everything that adds an operator or divides the stream.
impl<T: Data, P: Pipe<Out = T, In: Data>> DataStream<T, P> {
    /// Ends a run of fused steps: the same stream under the plain type.
    pub fn seal(&self) -> DataStream<T> {
        if TypeId::of::<P>() == TypeId::of::<Identity<T>>() {
            return DataStream::new(self.program.clone(), self.origins.clone().cast());
        }
        let prototype = Prototype::new(self.pipe.clone());
        let name = self.steps.join(" -> ");
        let make = move |_: &_| Ok(FusedOperator::new(prototype.instance()));
        let origins = self.program.one_input::<P::In, T, _>(&name, self.origins.clone().cast(), make);
        DataStream::new(self.program.clone(), origins)
    }

    fn set(&self, change: impl FnOnce(&mut StreamNode)) -> DataStream<T> {
        let stream = self.seal();
        stream.program.lock().set(stream.origins.node(), change);
        stream
    }

    /// Names the last operator, for people.
    pub fn name(&self, name: impl Into<String>) -> DataStream<T> {
        self.set(|node| node.name = name.into())
    }

    /// Gives the last operator the identity by which its state is found in a snapshot. Give one to every operator with
    /// state: without it the state is lost when the program changes.
    pub fn uid(&self, uid: impl Into<String>) -> DataStream<T> {
        self.set(|node| node.uid = Some(OperatorUid(uid.into())))
    }

    /// Sets the number of subtasks of the last operator.
    pub fn set_parallelism(&self, parallelism: u32) -> DataStream<T> {
        self.set(|node| node.parallelism = Some(parallelism))
    }

    /// Sets the number of key groups of the last operator.
    pub fn set_max_parallelism(&self, max_parallelism: u32) -> DataStream<T> {
        self.set(|node| node.max_parallelism = Some(max_parallelism))
    }

    /// The last operator starts a task of its own.
    pub fn start_new_chain(&self) -> DataStream<T> {
        self.set(|node| node.chaining = ChainingStrategy::Head)
    }

    /// The last operator shares its task with no other.
    pub fn disable_chaining(&self) -> DataStream<T> {
        self.set(|node| node.chaining = ChainingStrategy::Never)
    }

    /// Operators of different groups share neither task nor slot.
    pub fn slot_sharing_group(&self, group: impl Into<String>) -> DataStream<T> {
        self.set(|node| node.slot_sharing_group = group.into())
    }

    fn divide(&self, partitioning: Partitioning) -> DataStream<T> {
        let stream = self.seal();
        DataStream::new(stream.program, stream.origins.cast().partitioned(partitioning))
    }

    /// To the subtask with the same index; an error at execution if the parallelisms differ.
    pub fn forward(&self) -> DataStream<T> {
        self.divide(Partitioning::Forward)
    }

    /// Records in turn to all subtasks of the next operator.
    pub fn rebalance(&self) -> DataStream<T> {
        self.divide(Partitioning::Rebalance)
    }

    /// Records in turn to the sender's share of the next operator's subtasks: fewer channels than rebalance.
    pub fn rescale(&self) -> DataStream<T> {
        self.divide(Partitioning::Rescale)
    }

    /// Each record to a random subtask.
    pub fn shuffle(&self) -> DataStream<T> {
        self.divide(Partitioning::Shuffle)
    }

    /// Every record to every subtask.
    pub fn broadcast(&self) -> DataStream<T> {
        self.divide(Partitioning::Broadcast)
    }

    /// All records to the first subtask.
    pub fn global(&self) -> DataStream<T> {
        self.divide(Partitioning::Global)
    }

    /// Each record to the subtask that `partitioner` names, of as many as its second argument says. One out of range fails
    /// the job.
    pub fn partition_custom<K: 'static>(
        &self,
        partitioner: impl Fn(&K, usize) -> usize + Clone + Send + Sync + 'static,
        key_selector: impl Fn(&T) -> K + Clone + Send + Sync + 'static,
    ) -> DataStream<T> {
        let stream = self.seal();
        let edge = TypedEdge::<T>::by_record(move |_| {
            let (partitioner, key_selector) = (partitioner.clone(), key_selector.clone());
            Box::new(CustomPartitioner::new(move |record: &T, n| partitioner(&key_selector(record), n)))
        });
        DataStream::new(
            stream.program,
            stream.origins.cast::<T>().divided(Partitioning::Custom, Arc::new(edge)),
        )
    }

    /// Divides the stream by key: all records of a key go to one subtask, which keeps the state of the key.
    pub fn key_by<K: Key, S>(&self, key_selector: S) -> KeyedStream<K, T, S>
    where
        S: Fn(&T) -> K + Clone + Send + Sync + 'static,
    {
        let stream = self.seal();
        KeyedStream::new(stream.program, stream.origins.cast(), key_selector)
    }

    /// Gathers all records in windows, whatever their key; one subtask does it.
    pub fn window_all<A: WindowAssigner<T>>(
        &self,
        assigner: A,
    ) -> WindowedStream<(), T, impl Fn(&T) + Clone + Send + Sync + use<T, P, A>, A> {
        WindowedStream::new(self.key_by(|_: &T| ()), assigner).over_all()
    }

    pub(crate) fn limit_parallelism(&self, limit: u32) {
        self.set(|node| node.parallelism_limit = Some(limit));
    }

    /// The records of both streams, in no particular order.
    ///
    /// # Panics
    /// If the streams are of different environments.
    pub fn union<Q: Pipe<Out = T, In: Data>>(&self, other: &DataStream<T, Q>) -> DataStream<T> {
        assert!(self.program.is(&other.program), "a union of streams of two environments");
        let (first, second) = (self.seal(), other.seal());
        DataStream::new(first.program, first.origins.cast::<T>().union(second.origins.cast()))
    }

    /// Both streams into one function, each with its own type.
    pub fn connect<U: Data, Q: Pipe<Out = U, In: Data>>(
        &self,
        other: &DataStream<U, Q>,
    ) -> ConnectedStreams<T, U> {
        ConnectedStreams::new(self.seal(), other.seal())
    }

    /// This stream and, on every subtask, all records of the broadcast one.
    pub fn connect_broadcast<B: Data>(&self, broadcast: &BroadcastStream<B>) -> BroadcastStreams<T, B> {
        BroadcastStreams::new(self.seal(), broadcast.clone())
    }

    /// This stream as the broadcast side of [`DataStream::connect_broadcast`].
    pub fn to_broadcast(&self) -> BroadcastStream<T> {
        BroadcastStream::new(self.broadcast())
    }

    /// Each record through a function that sees timestamps and may emit to side outputs.
    pub fn process<O: Data, F: ProcessFunction<T, O> + Clone>(&self, function: F) -> DataStream<O> {
        let prototype = Prototype::new(function);
        self.operator("process", move |_| Ok(ProcessOperator::new(prototype.instance())))
    }

    /// The side output `tag` of the last operator.
    pub fn side_output<S: Data>(&self, tag: &OutputTag<S>) -> DataStream<S> {
        let stream = self.seal();
        let node = stream.origins.node().clone();
        DataStream::new(stream.program, Origins::of(node, Some(tag.id().clone())))
    }

    /// Timestamps and watermarks anew, from here on.
    pub fn assign_timestamps_and_watermarks(&self, strategy: WatermarkStrategy<T>) -> DataStream<T> {
        self.operator("timestamps/watermarks", move |ctx| {
            let settings = WatermarkSettings {
                granularity: ctx.config.watermark_granularity,
                auto_interval: ctx.config.auto_watermark_interval,
                idle_timeout: ctx.config.source_idle_timeout,
            };
            Ok(TimestampsAndWatermarksOperator::new(strategy.clone(), settings))
        })
    }

    /// An asynchronous call for each record: see [`AsyncWaitConfig`] for order, capacity, time-out and retries.
    pub fn async_wait<O: Data, F: AsyncFunction<T, O>>(
        &self,
        function: F,
        config: AsyncWaitConfig,
    ) -> DataStream<O> {
        self.operator("async_wait", move |_| Ok(AsyncWaitOperator::new(function.clone(), config)))
    }

    fn operator<O: Data, Op: flott_operators::Operator<T, O> + 'static>(
        &self,
        name: &str,
        make: impl Fn(&flott_runtime::BuildContext) -> flott_types::Result<Op> + Send + Sync + 'static,
    ) -> DataStream<O> {
        let stream = self.seal();
        let origins = stream.program.one_input::<T, O, Op>(name, stream.origins.cast(), make);
        DataStream::new(stream.program, origins)
    }

    /// Writes the stream to a sink.
    pub fn sink_to<S: Sink<T>>(&self, sink: S) -> DataStreamSink {
        self.sink_to_with(sink, OnError::Fail)
    }

    /// [`DataStream::sink_to`], and what becomes of records that the sink's format or its destination cannot take; which those are, the sink
    /// says.
    pub fn sink_to_with<S: Sink<T>>(&self, sink: S, on_error: OnError) -> DataStreamSink {
        let stream = self.seal();
        let node = stream.program.sink("sink", stream.origins.cast(), move |ctx| {
            let sink_ctx = ctx.sink_context().with_on_error::<T>(on_error);
            let writer = sink.create_writer(sink_ctx.clone())?;
            let committer = sink.create_committer(sink_ctx.clone())?;
            Ok(SinkOperator::with_committer(writer, committer, &sink_ctx))
        });
        DataStreamSink { node, program: stream.program }
    }

    /// Ends the stream with a function that gets each record; each subtask has a clone of it. What
    /// [`FnSink`](flott_api::sinks::FnSink) is too, but in one piece with the maps and filters before it: no record is
    /// put into a batch between them.
    pub fn for_each<F>(&self, function: F) -> DataStreamSink
    where
        F: FnMut(T) + Clone + Send + 'static,
    {
        let output = self.then("for_each", |pipe| ForEach::new(pipe, function)).seal();
        DataStreamSink { node: output.origins.node().clone(), program: output.program }
    }

    /// [`DataStream::for_each`] with a function that may fail; an error fails the job and names the record.
    pub fn try_for_each<X, F>(&self, function: F) -> DataStreamSink
    where
        X: Into<flott_api::BoxError> + 'static,
        F: FnMut(T) -> Result<(), X> + Clone + Send + 'static,
    {
        let output = self.then("try_for_each", |pipe| TryForEach::new(pipe, function)).seal();
        DataStreamSink { node: output.origins.node().clone(), program: output.program }
    }

    /// Writes each record to standard output.
    pub fn print(&self) -> DataStreamSink
    where
        T: fmt::Display,
    {
        self.sink_to(PrintSink::new())
    }
}

/// The end of a stream, to name and to scale.
#[derive(Debug)]
pub struct DataStreamSink {
    program: SharedProgram,
    node: NodeHandle,
}

impl DataStreamSink {
    /// The records that could not be written, of a sink with [`OnError::SideOutput`]: a stream as any other, so that a sink with exactly once
    /// gets each dead letter once.
    pub fn bad_records(&self) -> DataStream<BadRecord> {
        self.program.bad_records(self.node.clone())
    }

    fn set(self, change: impl FnOnce(&mut StreamNode)) -> Self {
        self.program.lock().set(&self.node, change);
        self
    }

    /// Names the sink, for people.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.set(|node| node.name = name.into())
    }

    /// Gives the sink the identity by which its state is found in a snapshot.
    pub fn uid(self, uid: impl Into<String>) -> Self {
        self.set(|node| node.uid = Some(OperatorUid(uid.into())))
    }

    /// Sets the number of subtasks.
    pub fn set_parallelism(self, parallelism: u32) -> Self {
        self.set(|node| node.parallelism = Some(parallelism))
    }

    /// Runs the sink in a task of its own.
    pub fn disable_chaining(self) -> Self {
        self.set(|node| node.chaining = ChainingStrategy::Never)
    }

    /// Operators of different groups share neither task nor slot.
    pub fn slot_sharing_group(self, group: impl Into<String>) -> Self {
        self.set(|node| node.slot_sharing_group = group.into())
    }
}
