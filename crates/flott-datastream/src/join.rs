//! Two keyed streams joined window by window.

use crate::data_stream::DataStream;
use crate::keyed_stream::KeyedStream;
use crate::windowed_stream::WindowedStream;
use flott_api::windowing::WindowAssigner;
use flott_api::{Collector, UserResult, WindowContext};
use flott_operators::{CoGroupWindowFunction, Either, JoinWindowFunction};
use flott_types::{Data, Key};
use std::fmt;

/// Two keyed streams, to be given windows.
pub struct JoinedStreams<K, L, R, S1, S2> {
    left: KeyedStream<K, L, S1>,
    right: KeyedStream<K, R, S2>,
}

impl<K, L, R, S1, S2> fmt::Debug for JoinedStreams<K, L, R, S1, S2> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinedStreams")
    }
}

impl<K, L, R, S1, S2> JoinedStreams<K, L, R, S1, S2>
where
    K: Key,
    L: Data,
    R: Data,
    S1: Fn(&L) -> K + Clone + Send + Sync + 'static,
    S2: Fn(&R) -> K + Clone + Send + Sync + 'static,
{
    pub(crate) fn new(left: KeyedStream<K, L, S1>, right: KeyedStream<K, R, S2>) -> Self {
        Self { left, right }
    }

    /// Gathers the records of both streams, key by key, in the windows of `assigner`; then
    /// [`WindowedStream::apply_join`] or [`WindowedStream::apply_co_group`].
    #[expect(
        clippy::type_complexity,
        reason = "the key selector is a closure and its type has no other name"
    )]
    pub fn window<A: WindowAssigner<Either<L, R>>>(
        &self,
        assigner: A,
    ) -> WindowedStream<
        K,
        Either<L, R>,
        impl Fn(&Either<L, R>) -> K + Clone + Send + Sync + use<K, L, R, S1, S2, A>,
        A,
    > {
        let left = self.left.upstream().map(Either::Left);
        let right = self.right.upstream().map(Either::Right);
        let (left_key, right_key) = (self.left.key_selector(), self.right.key_selector());
        let key_selector = move |record: &Either<L, R>| record.either(&left_key, &right_key);
        WindowedStream::new(left.union(&right).key_by(key_selector), assigner)
    }
}

impl<K, L, R, S, A> WindowedStream<K, Either<L, R>, S, A>
where
    K: Key,
    L: Data,
    R: Data,
    S: Fn(&Either<L, R>) -> K + Clone + Send + Sync + 'static,
    A: WindowAssigner<Either<L, R>>,
{
    /// Calls `join` for every pair of a left and a right record of the same key and window.
    pub fn apply_join<O: Data, F>(self, join: F) -> DataStream<O>
    where
        F: FnMut(&L, &R, &mut Collector<'_, O>) -> UserResult + Clone + Send + 'static,
    {
        self.process(JoinWindowFunction::new(join))
    }

    /// Calls `co_group` with all left and all right records of each key and window, one of which may be none.
    pub fn apply_co_group<O: Data, F>(self, co_group: F) -> DataStream<O>
    where
        F: FnMut(&K, &WindowContext<'_, A::Window>, Vec<L>, Vec<R>, &mut Collector<'_, O>) -> UserResult
            + Clone
            + Send
            + 'static,
    {
        self.process(CoGroupWindowFunction::new(co_group))
    }
}
