//! Reads a split.

use crate::sequence::{NexmarkRecord, Sequence};
use crate::split::NexmarkSplit;
use flott_api::{InputStatus, SplitOutput, SplitReader};
use flott_env::{Env, Instant};
use flott_types::{RecordBatch, Result};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// The most records of one call, whatever the caller allows.
const RECORDS_PER_READ_MAX: usize = 1 << 16;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Reads one split of a [`crate::NexmarkSource`].
#[derive(Debug)]
pub struct NexmarkReader<R> {
    sequence: Sequence<R>,
    split: NexmarkSplit,
    pace: Option<Pace>,
}

impl<R: NexmarkRecord> NexmarkReader<R> {
    pub(crate) fn new(sequence: Sequence<R>, split: NexmarkSplit, rate: Option<u64>, env: &Env) -> Self {
        let first_event = Sequence::<R>::event_number(split.next);
        let pace = rate.map(|rate| Pace::new(rate, first_event, env.clone()));
        Self { sequence, split, pace }
    }

    /// How many records of the split are before `position`.
    fn records_before(&self, position: u64) -> u64 {
        position.saturating_sub(self.split.next).div_ceil(self.split.stride.into())
    }

    fn read(&mut self, n_records: usize, out: &mut SplitOutput<R>) {
        let NexmarkSplit { stride, next, .. } = self.split;
        let stride = u64::from(stride);
        let positions = (0..n_records as u64).map(|idx| next + idx * stride);
        let sequence = self.sequence;
        let mut records = Vec::with_capacity(n_records);
        records.extend(positions.map(|position| sequence.get(position)));
        let timestamps = records.iter().map(R::date_time).collect();
        if out.batch.is_empty() {
            out.position = Some(format!("record {next}"));
        }
        out.collect_batch(RecordBatch::from_columns(records, timestamps));
        self.split.next = next + n_records as u64 * stride;
    }
}

impl<R: NexmarkRecord> SplitReader for NexmarkReader<R> {
    type Record = R;
    type Split = NexmarkSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<R>,
    ) -> Poll<Result<InputStatus>> {
        let left = self.records_before(self.sequence.len());
        if left == 0 {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        let mut n_records = left.min(records_max.clamp(1, RECORDS_PER_READ_MAX) as u64);
        if let Some(pace) = &mut self.pace {
            let next_event = Sequence::<R>::event_number(self.split.next);
            let Poll::Ready(due) = pace.poll_due(cx, next_event) else { return Poll::Pending };
            n_records = n_records.min(self.records_before(Sequence::<R>::count_before(due)));
        }
        self.read(n_records as usize, out);
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }

    fn split(&self) -> NexmarkSplit {
        self.split
    }
}

/// Says which events are due: the first one at once, the others at a rate.
struct Pace {
    env: Env,
    started: Instant,
    first_event: u64,
    rate_per_second: u64,
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("rate_per_second", &self.rate_per_second).finish_non_exhaustive()
    }
}

impl Pace {
    fn new(rate_per_second: u64, first_event: u64, env: Env) -> Self {
        let started = env.now();
        Self { env, started, first_event, rate_per_second, sleep: None }
    }

    /// Waits until event `next` is due; then all events before the returned number are.
    fn poll_due(&mut self, cx: &mut Context<'_>, next: u64) -> Poll<u64> {
        loop {
            let due = self.due();
            if next < due {
                self.sleep = None;
                return Poll::Ready(due);
            }
            let sleep = self.sleep.get_or_insert_with(|| {
                let events = u128::from(next - self.first_event);
                let nanos = (events * NANOS_PER_SECOND).div_ceil(self.rate_per_second.into());
                let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
                self.env.sleep_until(self.started + wait)
            });
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
    }

    fn due(&self) -> u64 {
        let elapsed = self.env.now() - self.started;
        let events = elapsed.as_nanos() * u128::from(self.rate_per_second) / NANOS_PER_SECOND;
        self.first_event.saturating_add(u64::try_from(events).unwrap_or(u64::MAX)).saturating_add(1)
    }
}

#[cfg(test)]
mod tests;
