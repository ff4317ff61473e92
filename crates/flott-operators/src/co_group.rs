//! Window join and co-group: one window operator over the union of both streams.
//!
//! Both streams are mapped to [`Either`], united and keyed; what the window collects is divided again when it fires.

use flott_api::{Collector, ProcessWindowFunction, UserResult, WindowContext};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A record of one of two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Either<L, R> {
    /// Of the first.
    Left(L),
    /// Of the second.
    Right(R),
}

impl<L, R> Either<L, R> {
    /// What `left` or `right` makes of the record; a key selector, for example.
    #[inline]
    pub fn either<U>(&self, left: impl FnOnce(&L) -> U, right: impl FnOnce(&R) -> U) -> U {
        match self {
            Self::Left(record) => left(record),
            Self::Right(record) => right(record),
        }
    }
}

fn divide<L, R>(records: Vec<Either<L, R>>) -> (Vec<L>, Vec<R>) {
    let n_left = records.iter().filter(|record| matches!(record, Either::Left(_))).count();
    let (mut left, mut right) = (Vec::with_capacity(n_left), Vec::with_capacity(records.len() - n_left));
    for record in records {
        match record {
            Either::Left(record) => left.push(record),
            Either::Right(record) => right.push(record),
        }
    }
    (left, right)
}

/// Calls a function with all left and all right records of a window, one of which may be empty:
/// `FnMut(&K, &WindowContext<W>, Vec<L>, Vec<R>, &mut Collector<O>) -> UserResult`.
#[derive(Clone, Copy)]
pub struct CoGroupWindowFunction<F>(F);

impl<F> fmt::Debug for CoGroupWindowFunction<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoGroupWindowFunction")
    }
}

impl<F> CoGroupWindowFunction<F> {
    /// A window function over both streams.
    pub const fn new(co_group: F) -> Self {
        Self(co_group)
    }
}

impl<L, R, O, K, W, F> ProcessWindowFunction<Either<L, R>, O, K, W> for CoGroupWindowFunction<F>
where
    F: FnMut(&K, &WindowContext<'_, W>, Vec<L>, Vec<R>, &mut Collector<'_, O>) -> UserResult + Send + 'static,
{
    fn process(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        records: Vec<Either<L, R>>,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        let (left, right) = divide(records);
        (self.0)(key, ctx, left, right, out)
    }
}

/// Calls a function for every pair of a left and a right record of a window:
/// `FnMut(&L, &R, &mut Collector<O>) -> UserResult`. A record without a partner is left out.
#[derive(Clone, Copy)]
pub struct JoinWindowFunction<F>(F);

impl<F> fmt::Debug for JoinWindowFunction<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinWindowFunction")
    }
}

impl<F> JoinWindowFunction<F> {
    /// A window function over the pairs of both streams.
    pub const fn new(join: F) -> Self {
        Self(join)
    }
}

impl<L, R, O, K, W, F> ProcessWindowFunction<Either<L, R>, O, K, W> for JoinWindowFunction<F>
where
    F: FnMut(&L, &R, &mut Collector<'_, O>) -> UserResult + Send + 'static,
{
    fn process(
        &mut self,
        _: &K,
        _: &WindowContext<'_, W>,
        records: Vec<Either<L, R>>,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        let (left, right) = divide(records);
        left.iter().try_for_each(|left| right.iter().try_for_each(|right| (self.0)(left, right, out)))
    }
}

#[cfg(test)]
mod tests;
