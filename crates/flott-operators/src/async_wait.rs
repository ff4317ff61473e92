//! Calls to something outside, many at a time.

mod call;
mod queue;

use crate::operator::{Operator, OperatorContext, OperatorOutput};
use crate::user_code::user_error;
use call::{Call, CallSettings, Outcome, start_call};
use flott_api::{AsyncFunction, AsyncRetryStrategy};
use flott_env::Env;
use flott_state::{HandleTypes, OperatorSnapshot, StateTypes, decode, encode};
use flott_types::{Data, Error, RecordBatch, Result, StreamStatus, Timestamp, Watermark};
use futures_util::stream::{FuturesUnordered, StreamExt};
use queue::{Control, Queue, Release};
use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

/// In which order results are emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsyncOutputMode {
    /// In the order of the records.
    Ordered,
    /// As they come, but no result passes a watermark.
    Unordered,
}

/// How asynchronous calls are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AsyncWaitConfig {
    /// In which order results are emitted.
    pub output_mode: AsyncOutputMode,
    /// Records at most whose calls run or whose results wait to be emitted.
    pub capacity: usize,
    /// How long a record's calls may take, with retries and their delays; `None` for ever.
    pub timeout: Option<Duration>,
    /// When a failed call is made again.
    pub retry: AsyncRetryStrategy,
}

/// The list state with the records whose results have not been emitted.
const RECORDS: &str = "_async_wait";
/// The union state with the watermarks that a subtask has received and forwarded.
const WATERMARKS: &str = "_async_wait/watermarks";

/// Starts an [`AsyncFunction`] for each record and emits the results when they come.
///
/// Watermarks, status and the end of data wait until all results before them are out. A snapshot holds the records whose
/// results are not; after a restore their calls are made again, before those of new records.
pub struct AsyncWaitOperator<I, O, F> {
    function: F,
    config: AsyncWaitConfig,
    env: Option<Env>,
    calls: FuturesUnordered<Call<O>>,
    /// Calls that ended while nothing could be emitted.
    ended: Vec<(u64, Outcome<O>)>,
    queue: Queue<I, O>,
    /// The watermarks that were received and forwarded last.
    received: Watermark,
    forwarded: Watermark,
}

impl<I, O, F> fmt::Debug for AsyncWaitOperator<I, O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncWaitOperator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<I: Data, O: Data, F: AsyncFunction<I, O>> AsyncWaitOperator<I, O, F> {
    /// An operator that calls `function`.
    pub fn new(function: F, config: AsyncWaitConfig) -> Self {
        Self {
            function,
            config,
            env: None,
            calls: FuturesUnordered::new(),
            ended: Vec::new(),
            queue: Queue::new(config.output_mode),
            received: Watermark::MIN,
            forwarded: Watermark::MIN,
        }
    }

    /// Starts the calls of waiting records while there is room.
    fn start_calls(&mut self) {
        let env = self.env.as_ref().expect("an operator is opened before it gets records");
        while let Some((seq, record)) = self.queue.start_next(self.config.capacity) {
            let settings = CallSettings { timeout: self.config.timeout, retry: self.config.retry };
            self.calls.push(start_call(seq, record.clone(), self.function.clone(), settings, env));
        }
    }

    /// Emits what may be emitted, and starts calls in the room that this makes.
    fn advance(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let mut made = RecordBatch::default();
        loop {
            self.start_calls();
            match self.queue.release() {
                Some(Release::Results(results, timestamp)) => {
                    results.into_iter().for_each(|result| made.push(result, timestamp));
                }
                Some(Release::Control(control)) => {
                    out.emit(made.take())?;
                    self.forward(control, out)?;
                }
                None => return out.emit(made),
            }
        }
    }

    fn forward(&mut self, control: Control, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        match control {
            Control::Watermark(watermark) => {
                self.forwarded = watermark;
                out.emit_watermark(watermark)
            }
            Control::Status(status) => out.emit_status(status),
            Control::EndOfData => out.emit_end_of_data(),
        }
    }

    fn hold(&mut self, control: Control, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.queue.push_control(control);
        self.advance(out)
    }

    /// Goes on with all calls; says how many have ended.
    fn take_completed(&mut self, cx: &mut Context<'_>) -> Result<usize> {
        let mut n_completed = self.ended.len();
        for (seq, outcome) in std::mem::take(&mut self.ended) {
            self.complete(seq, outcome)?;
        }
        while let Poll::Ready(Some((seq, outcome))) = self.calls.poll_next_unpin(cx) {
            self.complete(seq, outcome)?;
            n_completed += 1;
        }
        assert!(
            n_completed > 0 || !self.calls.is_empty() || !self.queue.is_full(),
            "records wait, and no call runs"
        );
        Ok(n_completed)
    }

    /// Takes the outcome of a call.
    fn complete(&mut self, seq: u64, outcome: Outcome<O>) -> Result<()> {
        let results = match outcome {
            Outcome::Ended(results) => results,
            Outcome::TimedOut(timeout) => self.function.timeout(self.queue.record(seq), timeout),
        };
        let results = results.map_err(|error| user_error("the asynchronous function", error))?;
        self.queue.complete(seq, results);
        Ok(())
    }
}

impl<I: Data, O: Data, F: AsyncFunction<I, O>> Operator<I, O> for AsyncWaitOperator<I, O, F> {
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        if self.config.capacity == 0 {
            return Err(Error::user(
                "the capacity of an asynchronous operator is 0: it could not make any call",
            ));
        }
        self.env = Some(ctx.env.clone());
        Ok(())
    }

    fn process_batch(&mut self, batch: RecordBatch<I>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        for (record, timestamp) in batch {
            self.queue.push_record(record, timestamp, self.received);
        }
        self.advance(out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        // After a restore the first watermarks may be behind the one of the snapshot.
        if watermark <= self.received {
            return Ok(());
        }
        self.received = watermark;
        self.hold(Control::Watermark(watermark), out)
    }

    fn on_status(&mut self, status: StreamStatus, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.hold(Control::Status(status), out)
    }

    fn on_end_of_data(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.hold(Control::EndOfData, out)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, out: &mut OperatorOutput<'_, O>) -> Poll<Result<()>> {
        loop {
            match self.take_completed(cx) {
                // Emitting makes room: calls that were started must be polled too.
                Ok(0) if self.queue.is_full() => return Poll::Pending,
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {
                    if let Err(error) = self.advance(out) {
                        return Poll::Ready(Err(error));
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_pushed_back(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(ended)) = self.calls.poll_next_unpin(cx) {
            self.ended.push(ended);
        }
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.put_list::<HeldRecord<I>, _>(RECORDS, self.queue.records())?;
        let watermarks = encode(WATERMARKS, &(self.received, self.forwarded))?;
        snapshot.union.insert(WATERMARKS.to_owned(), vec![watermarks]);
        Ok(())
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        let records = snapshot.get_list::<HeldRecord<I>>(RECORDS)?;
        let entries = snapshot.union.get(WATERMARKS).into_iter().flatten();
        let watermarks = entries.map(|bytes| decode(WATERMARKS, bytes)).collect::<Result<Vec<_>>>()?;
        self.received = watermarks.iter().map(|(received, _)| *received).min().unwrap_or(Watermark::MIN);
        self.forwarded = watermarks.iter().map(|(_, forwarded)| *forwarded).min().unwrap_or(Watermark::MIN);
        self.queue.refill(records, self.forwarded, self.received);
        self.start_calls();
        Ok(())
    }

    fn state_types(&self, types: &mut StateTypes, _: &HandleTypes) {
        types.add_list::<HeldRecord<I>>(RECORDS);
    }
}

/// A record in a snapshot: the record, its timestamp, and the watermark that came before it.
type HeldRecord<I> = (I, Timestamp, Watermark);

#[cfg(test)]
mod tests;
