//! Streams divided by key.

use crate::connected::{BroadcastStream, KeyedBroadcastStreams, KeyedConnectedStreams};
use crate::data_stream::DataStream;
use crate::join::JoinedStreams;
use crate::program::{Origins, Prototype, SharedProgram};
use crate::windowed_stream::WindowedStream;
use flott_api::KeyedProcessFunction;
use flott_api::windowing::{CountEvictor, CountTrigger, GlobalWindows, PurgingTrigger, WindowAssigner};
use flott_exchange::HashPartitioner;
use flott_graph::Partitioning;
use flott_operators::{KeyedProcessOperator, ReduceOperator};
use flott_runtime::TypedEdge;
use flott_types::{Data, Key};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A stream whose records of one key all meet in one subtask.
pub struct KeyedStream<K, T, S> {
    program: SharedProgram,
    origins: Origins<T>,
    key_selector: S,
    keys: PhantomData<fn() -> K>,
}

impl<K, T, S> fmt::Debug for KeyedStream<K, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyedStream")
    }
}

impl<K, T, S: Clone> Clone for KeyedStream<K, T, S> {
    fn clone(&self) -> Self {
        Self {
            program: self.program.clone(),
            origins: self.origins.clone(),
            key_selector: self.key_selector.clone(),
            keys: PhantomData,
        }
    }
}

impl<K, T, S> KeyedStream<K, T, S>
where
    K: Key,
    T: Data,
    S: Fn(&T) -> K + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(program: SharedProgram, origins: Origins<T>, key_selector: S) -> Self {
        Self { program, origins, key_selector, keys: PhantomData }
    }

    pub(crate) fn program(&self) -> &SharedProgram {
        &self.program
    }

    /// The stream before it was divided.
    pub(crate) fn upstream(&self) -> DataStream<T> {
        DataStream::new(self.program.clone(), self.origins.clone())
    }

    pub(crate) fn origins(&self) -> Origins<T> {
        let selector = self.key_selector();
        let edge = TypedEdge::<T>::by_record(move |ctx| {
            Box::new(HashPartitioner::new(selector.clone(), ctx.max_parallelism))
        });
        self.origins.clone().divided(Partitioning::Hash, Arc::new(edge))
    }

    pub(crate) fn key_selector(&self) -> S {
        self.key_selector.clone()
    }

    pub(crate) fn operator<O: Data, Op: flott_operators::Operator<T, O> + 'static>(
        &self,
        name: &str,
        make: impl Fn(&flott_runtime::BuildContext) -> flott_types::Result<Op> + Send + Sync + 'static,
    ) -> DataStream<O> {
        let origins = self.program.one_input::<T, O, Op>(name, self.origins(), make);
        DataStream::new(self.program.clone(), origins)
    }

    /// Folds the records of each key into one value and emits the value after each record.
    pub fn reduce(&self, reduce: impl FnMut(&mut T, T) + Clone + Send + 'static) -> DataStream<T> {
        let (selector, prototype) = (self.key_selector(), Prototype::new(reduce));
        self.operator("reduce", move |_| Ok(ReduceOperator::new(selector.clone(), prototype.instance())))
    }

    /// Each record through a function with keyed state and timers.
    pub fn process<O: Data, F: KeyedProcessFunction<K, T, O> + Clone>(&self, function: F) -> DataStream<O> {
        let (selector, prototype) = (self.key_selector(), Prototype::new(function));
        self.operator("keyed process", move |_| {
            Ok(KeyedProcessOperator::new(selector.clone(), prototype.instance()))
        })
    }

    /// Two streams with the same keys into one function.
    pub fn connect<U, S2>(&self, other: &KeyedStream<K, U, S2>) -> KeyedConnectedStreams<K, T, U, S, S2>
    where
        U: Data,
        S2: Fn(&U) -> K + Clone + Send + Sync + 'static,
    {
        KeyedConnectedStreams::new(self.clone(), other.clone())
    }

    /// This stream and, on every subtask, all records of the broadcast one.
    pub fn connect_broadcast<B: Data>(
        &self,
        broadcast: &BroadcastStream<B>,
    ) -> KeyedBroadcastStreams<K, T, B, S> {
        KeyedBroadcastStreams::new(self.clone(), broadcast.clone())
    }

    /// Gathers the records of each key in windows.
    pub fn window<A: WindowAssigner<T>>(&self, assigner: A) -> WindowedStream<K, T, S, A> {
        WindowedStream::new(self.clone(), assigner)
    }

    /// Windows of `size` records of a key each.
    pub fn count_window(&self, size: u64) -> WindowedStream<K, T, S, GlobalWindows> {
        self.window(GlobalWindows).trigger(PurgingTrigger::of(CountTrigger::of(size)))
    }

    /// Windows of the last `size` records of a key, after every `slide` of them.
    pub fn sliding_count_window(&self, size: usize, slide: u64) -> WindowedStream<K, T, S, GlobalWindows> {
        self.window(GlobalWindows).evictor(CountEvictor::of(size)).trigger(CountTrigger::of(slide))
    }

    /// This stream and one with the same keys, to be joined window by window.
    pub fn join<U, S2>(&self, other: &KeyedStream<K, U, S2>) -> JoinedStreams<K, T, U, S, S2>
    where
        U: Data,
        S2: Fn(&U) -> K + Clone + Send + Sync + 'static,
    {
        JoinedStreams::new(self.clone(), other.clone())
    }
}
