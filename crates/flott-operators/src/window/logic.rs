//! What the general window operator keeps per window, and what it does with it.

use super::result::WindowFunction;
use flott_api::windowing::{Evictor, Window};
use flott_api::{AggregateFunction, Collector, UserResult, WindowContext};
use flott_types::{Data, Timestamp};
use std::fmt;

/// The content of a window that fires.
#[derive(Debug)]
pub enum Firing<'a, S> {
    /// The window lives on, and its content with it.
    Keep(&'a mut S),
    /// The window ends or is purged.
    Discard(S),
}

/// How records become the content of a window, and the content results.
pub trait WindowLogic<T, K, W, O>: Send {
    /// The content of one window of one key.
    type State: Data;

    /// The content of a window without records.
    fn create(&self) -> Self::State;
    /// Adds a record.
    fn add(&self, state: &mut Self::State, record: T, timestamp: Timestamp);
    /// Adds the content of a later window that merged with this one.
    fn merge(&self, state: &mut Self::State, other: Self::State);
    /// Emits the result.
    ///
    /// # Errors
    /// That of a user function.
    fn fire(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        firing: Firing<'_, Self::State>,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
}

/// Keeps an accumulator.
#[derive(Clone)]
pub struct Aggregate<F, R> {
    /// The aggregation.
    pub function: F,
    /// What becomes of its result.
    pub then: R,
}

impl<F, R> fmt::Debug for Aggregate<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aggregate")
    }
}

impl<T, K, W, O, F, R> WindowLogic<T, K, W, O> for Aggregate<F, R>
where
    F: AggregateFunction<T>,
    R: WindowFunction<K, W, F::Output, O>,
{
    type State = F::Accumulator;

    fn create(&self) -> F::Accumulator {
        self.function.create_accumulator()
    }

    fn add(&self, state: &mut F::Accumulator, record: T, _: Timestamp) {
        self.function.add(state, &record);
    }

    fn merge(&self, state: &mut F::Accumulator, other: F::Accumulator) {
        self.function.merge(state, &other);
    }

    fn fire(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        firing: Firing<'_, F::Accumulator>,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        let result = match firing {
            Firing::Keep(state) => self.function.get_result(state),
            Firing::Discard(state) => self.function.get_result(&state),
        };
        self.then.apply(key, ctx, result, out)
    }
}

/// Keeps all records, in the order in which they came, and leaves some out if there is an evictor.
pub struct KeepRecords<T, W, R> {
    /// What becomes of the records: [`ProcessRecords`](super::ProcessRecords) or
    /// [`AggregateRecords`](super::AggregateRecords).
    pub then: R,
    /// Which records are left out. A window of which no record is left does not fire.
    pub evictor: Option<Box<dyn Evictor<T, W>>>,
}

impl<T, W, R: Clone> Clone for KeepRecords<T, W, R> {
    fn clone(&self) -> Self {
        Self { then: self.then.clone(), evictor: self.evictor.clone() }
    }
}

impl<T, W, R> fmt::Debug for KeepRecords<T, W, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeepRecords").field("evicts", &self.evictor.is_some()).finish_non_exhaustive()
    }
}

impl<T, K, W, O, R> WindowLogic<T, K, W, O> for KeepRecords<T, W, R>
where
    T: Data,
    W: Window,
    R: WindowFunction<K, W, Vec<T>, O>,
{
    type State = Vec<(T, Timestamp)>;

    fn create(&self) -> Self::State {
        Vec::new()
    }

    fn add(&self, state: &mut Self::State, record: T, timestamp: Timestamp) {
        state.push((record, timestamp));
    }

    fn merge(&self, state: &mut Self::State, mut other: Self::State) {
        state.append(&mut other);
    }

    fn fire(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        mut firing: Firing<'_, Self::State>,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        let state = match &mut firing {
            Firing::Keep(state) => &mut **state,
            Firing::Discard(state) => state,
        };
        if let Some(evictor) = &self.evictor {
            evictor.evict_before(state, ctx.window, ctx.processing_time);
        }
        if state.is_empty() {
            return Ok(());
        }
        match firing {
            Firing::Keep(state) => {
                let records = state.iter().map(|(record, _)| record.clone()).collect();
                self.then.apply(key, ctx, records, out)?;
                if let Some(evictor) = &self.evictor {
                    evictor.evict_after(state, ctx.window, ctx.processing_time);
                }
                Ok(())
            }
            Firing::Discard(state) => {
                let records = state.into_iter().map(|(record, _)| record).collect();
                self.then.apply(key, ctx, records, out)
            }
        }
    }
}
