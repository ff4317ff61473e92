//! Functions that users write, and the contexts they are called with.

mod context;

pub use context::{
    BroadcastContext, KeyedContext, ProcessContext, RuntimeContext, TimeDomain, WindowContext,
};

use crate::collector::Collector;
use crate::{BoxError, UserResult};
use flott_types::{Data, Key, Timestamp};
use std::future::Future;
use std::time::Duration;

/// Folds records into an accumulator, one at a time, and turns the accumulator into a result.
///
/// The method of Flink's `AggregateFunction`; accumulators are state and travel in snapshots.
pub trait AggregateFunction<T>: Clone + Send + Sync + 'static {
    /// What is kept per key and window.
    type Accumulator: Data;
    /// What is emitted.
    type Output: Data;

    /// The accumulator of no record.
    fn create_accumulator(&self) -> Self::Accumulator;
    /// Folds a record in.
    fn add(&self, accumulator: &mut Self::Accumulator, record: &T);
    /// The result of what was folded in.
    fn get_result(&self, accumulator: &Self::Accumulator) -> Self::Output;
    /// Folds another accumulator in, as if its records had been added. Sliding and session windows need it.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: &Self::Accumulator);
}

/// Sees records one by one, emits any number of records to main and side outputs.
///
/// Legal calls: `open process_element* close?`. An error fails the job and names operator, subtask and record.
pub trait ProcessFunction<I, O>: Send + 'static {
    /// Called once before the first record.
    ///
    /// # Errors
    /// Fails the job.
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        let _unused = ctx;
        Ok(())
    }
    /// Called for each record.
    ///
    /// # Errors
    /// Fails the job.
    fn process_element(
        &mut self,
        record: I,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
    /// Called after the last record of a bounded input.
    ///
    /// # Errors
    /// Fails the job.
    fn close(&mut self, out: &mut Collector<'_, O>) -> UserResult {
        let _unused = out;
        Ok(())
    }
}

/// Sees the records of a keyed stream with keyed state and timers.
///
/// Legal calls: `open (process_element | on_timer)*`. State handles are fields of the function; after a restore they
/// read what the snapshot held.
pub trait KeyedProcessFunction<K: Key, I, O>: Send + 'static {
    /// Called once before the first record.
    ///
    /// # Errors
    /// Fails the job.
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        let _unused = ctx;
        Ok(())
    }
    /// Called for each record, in the scope of its key.
    ///
    /// # Errors
    /// Fails the job.
    fn process_element(
        &mut self,
        record: I,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
    /// Called when a timer of the key in scope is due; [`KeyedContext::time_domain`] says which clock.
    ///
    /// # Errors
    /// Fails the job.
    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        let _unused = (timestamp, ctx, out);
        Ok(())
    }
}

/// Sees the records of two streams.
pub trait CoProcessFunction<A, B, O>: Send + 'static {
    /// Called for each record of the first stream.
    ///
    /// # Errors
    /// Fails the job.
    fn process_element1(
        &mut self,
        record: A,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
    /// Called for each record of the second stream.
    ///
    /// # Errors
    /// Fails the job.
    fn process_element2(
        &mut self,
        record: B,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
}

/// Sees the records of two streams with the same key; both share state and timers.
pub trait KeyedCoProcessFunction<K: Key, A, B, O>: Send + 'static {
    /// Called for each record of the first stream.
    ///
    /// # Errors
    /// Fails the job.
    fn process_element1(
        &mut self,
        record: A,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
    /// Called for each record of the second stream.
    ///
    /// # Errors
    /// Fails the job.
    fn process_element2(
        &mut self,
        record: B,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
    /// Called when a timer of the key in scope is due.
    ///
    /// # Errors
    /// Fails the job.
    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        let _unused = (timestamp, ctx, out);
        Ok(())
    }
}

/// Joins a stream with a broadcast one: every subtask sees all broadcast records and keeps them in broadcast state,
/// which only they may change.
pub trait BroadcastProcessFunction<I, B, O>: Send + 'static {
    /// Called for each record of the main stream; broadcast state can be read.
    ///
    /// # Errors
    /// Fails the job.
    fn process_element(
        &mut self,
        record: I,
        ctx: &mut ProcessContext<'_>,
        broadcast: &flott_state::OperatorStateBackend,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
    /// Called for each broadcast record, on every subtask; must do the same on each.
    ///
    /// # Errors
    /// Fails the job.
    fn process_broadcast_element(
        &mut self,
        record: B,
        ctx: &mut BroadcastContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
}

/// [`BroadcastProcessFunction`] for a keyed main stream, with keyed state and timers on its side.
pub trait KeyedBroadcastProcessFunction<K: Key, I, B, O>: Send + 'static {
    /// Called for each record of the keyed stream; broadcast state can be read.
    ///
    /// # Errors
    /// Fails the job.
    fn process_element(
        &mut self,
        record: I,
        ctx: &mut KeyedContext<'_, K>,
        broadcast: &flott_state::OperatorStateBackend,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
    /// Called for each broadcast record, on every subtask; must do the same on each.
    ///
    /// # Errors
    /// Fails the job.
    fn process_broadcast_element(
        &mut self,
        record: B,
        ctx: &mut BroadcastContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
    /// Called when a timer of the key in scope is due.
    ///
    /// # Errors
    /// Fails the job.
    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, K>,
        broadcast: &flott_state::OperatorStateBackend,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        let _unused = (timestamp, ctx, broadcast, out);
        Ok(())
    }
}

/// Gets the content of a window when it fires: all its records, or the one result of an aggregation.
pub trait ProcessWindowFunction<I, O, K, W>: Send + 'static {
    /// Called for each firing of the window of a key.
    ///
    /// # Errors
    /// Fails the job.
    fn process(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        records: Vec<I>,
        out: &mut Collector<'_, O>,
    ) -> UserResult;
}

impl<I, O, K, W, F> ProcessWindowFunction<I, O, K, W> for F
where
    F: FnMut(&K, &WindowContext<'_, W>, Vec<I>, &mut Collector<'_, O>) -> UserResult + Send + 'static,
{
    fn process(
        &mut self,
        key: &K,
        ctx: &WindowContext<'_, W>,
        records: Vec<I>,
        out: &mut Collector<'_, O>,
    ) -> UserResult {
        self(key, ctx, records, out)
    }
}

/// Calls something outside and waits without holding up other records.
pub trait AsyncFunction<I, O>: Clone + Send + Sync + 'static {
    /// Starts the call for one record; its results take the record's timestamp.
    fn async_invoke(&self, record: I) -> impl Future<Output = UserResult<Vec<O>>> + Send + 'static;

    /// What to emit when the call took longer than the time-out.
    ///
    /// # Errors
    /// By default an error, which fails the job (after retries, if there is a retry strategy).
    fn timeout(&self, record: &I, timeout: Duration) -> UserResult<Vec<O>> {
        let _unused = record;
        Err(BoxError::from(format!("the asynchronous call took longer than {timeout:?}")))
    }
}

impl<I, O, F, Fut> AsyncFunction<I, O> for F
where
    F: Fn(I) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = UserResult<Vec<O>>> + Send + 'static,
{
    fn async_invoke(&self, record: I) -> impl Future<Output = UserResult<Vec<O>>> + Send + 'static {
        self(record)
    }
}

/// How often and how fast a failed asynchronous call is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AsyncRetryStrategy {
    /// A failed call fails the job.
    NoRetry,
    /// Up to `attempts` further tries, `delay` apart.
    FixedDelay {
        /// Tries after the first.
        attempts: u32,
        /// Time between a failure and the next try.
        delay: Duration,
    },
    /// Up to `attempts` further tries; the delay is multiplied each time up to a maximum.
    ExponentialBackoff {
        /// Tries after the first.
        attempts: u32,
        /// Delay before the second try.
        initial: Duration,
        /// No delay is longer.
        max: Duration,
        /// Factor from one delay to the next.
        multiplier: f64,
    },
}

impl AsyncRetryStrategy {
    /// The delay before try number `attempt` (1 is the first retry); `None` to give up.
    pub fn delay(&self, attempt: u32) -> Option<Duration> {
        match *self {
            Self::NoRetry => None,
            Self::FixedDelay { attempts, delay } => (attempt <= attempts).then_some(delay),
            Self::ExponentialBackoff { attempts, initial, max, multiplier } => {
                (attempt <= attempts).then(|| {
                    let factor = multiplier.max(1.0).powi(attempt.saturating_sub(1).min(1_000) as i32);
                    let seconds = (initial.as_secs_f64() * factor).min(max.as_secs_f64());
                    Duration::try_from_secs_f64(seconds).unwrap_or(max)
                })
            }
        }
    }
}
