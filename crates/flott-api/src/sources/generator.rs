//! A function of an index, at full speed or at a rate.

use crate::source::{Boundedness, InputStatus, SourceReaderContext, SourceSplit, SplitOutput};
use crate::split_source::{SplitReader, SplitSource};
use flott_env::{Env, Instant};
use flott_types::{Data, RecordBatch, Result, SplitId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A rate-limited reader sleeps at least this long, and then emits all that is due. Timers of the operating system are
/// not finer than a millisecond; 10,000 records a second leave in groups of about ten.
const SLEEP_MIN: Duration = Duration::from_micros(500);

/// And wakes at least this often, however low the rate: clocks cannot add much more.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Records made by a function of their index. Reader `i` of `p` makes the records `i`, `i + p`, `i + 2p`, …, so that
/// all readers advance together through a sequence whose time grows with the index.
///
/// The function must return the same record for the same index: after a restart it is called again.
pub struct GeneratorSource<T> {
    make: Arc<dyn Fn(u64) -> T + Send + Sync>,
    count: Option<u64>,
    records_per_second: Option<f64>,
}

impl<T> Clone for GeneratorSource<T> {
    fn clone(&self) -> Self {
        Self { make: Arc::clone(&self.make), count: self.count, records_per_second: self.records_per_second }
    }
}

impl<T> fmt::Debug for GeneratorSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratorSource")
            .field("count", &self.count)
            .field("records_per_second", &self.records_per_second)
            .finish_non_exhaustive()
    }
}

impl<T: Data> GeneratorSource<T> {
    /// The records `make(0)`, `make(1)`, …: `count` of them, or without end.
    pub fn new(make: impl Fn(u64) -> T + Send + Sync + 'static, count: Option<u64>) -> Self {
        Self { make: Arc::new(make), count, records_per_second: None }
    }

    /// At most so many records a second, all readers together. A reader that was held up catches up: record `n` is due
    /// `n / rate` after the start, whatever happened before.
    ///
    /// # Panics
    /// If the rate is not a positive number.
    #[must_use]
    pub fn rate_per_second(self, records_per_second: f64) -> Self {
        assert!(
            records_per_second.is_finite() && records_per_second > 0.0,
            "a rate must be a positive number of records a second, not {records_per_second}"
        );
        Self { records_per_second: Some(records_per_second), ..self }
    }
}

/// Every `stride`-th index from `offset` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratorSplit {
    offset: u64,
    stride: u64,
    /// Records of this split that were read.
    n_read: u64,
}

impl GeneratorSplit {
    fn next_index(&self) -> u64 {
        self.n_read.saturating_mul(self.stride).saturating_add(self.offset)
    }
}

impl SourceSplit for GeneratorSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("generator-{}", self.offset))
    }
}

impl<T: Data> SplitSource for GeneratorSource<T> {
    type Record = T;
    type Split = GeneratorSplit;
    type Reader = GeneratorReader<T>;

    fn boundedness(&self) -> Boundedness {
        if self.count.is_some() { Boundedness::Bounded } else { Boundedness::ContinuousUnbounded }
    }

    fn splits(&self, parallelism: u32) -> Result<Vec<GeneratorSplit>> {
        let stride = u64::from(parallelism);
        Ok((0..stride).map(|offset| GeneratorSplit { offset, stride, n_read: 0 }).collect())
    }

    fn open(&self, split: GeneratorSplit, ctx: &SourceReaderContext) -> Result<GeneratorReader<T>> {
        let of_split = |count: u64| count.saturating_sub(split.offset).div_ceil(split.stride);
        Ok(GeneratorReader {
            make: Arc::clone(&self.make),
            n_records: of_split(self.count.unwrap_or(u64::MAX)),
            pace: self.records_per_second.map(|rate| Pace {
                env: ctx.env.clone(),
                started: ctx.env.now(),
                // The first record of the whole generator is due at once, those of split 1 a fraction later, ….
                first: split.n_read as f64 * split.stride as f64,
                offset: split.offset as f64,
                stride: split.stride as f64,
                rate,
                sleep: None,
            }),
            split,
        })
    }
}

/// When records are due.
struct Pace {
    env: Env,
    started: Instant,
    /// The index, without the offset of the split, at which this reader started.
    first: f64,
    offset: f64,
    stride: f64,
    rate: f64,
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Pace {
    /// The number of records of the split, from its very first, that are due now.
    fn n_due(&self) -> u64 {
        let index = (self.env.now() - self.started).as_secs_f64() * self.rate + self.first - self.offset;
        if index < 0.0 { 0 } else { (index / self.stride) as u64 + 1 }
    }

    /// When the record after `n_read` others is due.
    fn due_at(&self, n_read: u64) -> Instant {
        let index = n_read as f64 * self.stride + self.offset - self.first;
        self.started + Duration::try_from_secs_f64(index.max(0.0) / self.rate).unwrap_or(Duration::MAX)
    }

    /// Ready with the number of records that may have been read by now, which is more than `n_read`.
    fn poll_due(&mut self, cx: &mut Context<'_>, n_read: u64) -> Poll<u64> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            let n_due = self.n_due();
            if n_due > n_read {
                return Poll::Ready(n_due);
            }
            let now = self.env.now();
            let wake_at = self.due_at(n_read).clamp(now + SLEEP_MIN, now + SLEEP_MAX);
            self.sleep = Some(self.env.sleep_until(wake_at));
        }
    }
}

/// Reads a part of a generated sequence.
pub struct GeneratorReader<T> {
    make: Arc<dyn Fn(u64) -> T + Send + Sync>,
    n_records: u64,
    pace: Option<Pace>,
    split: GeneratorSplit,
}

impl<T> fmt::Debug for GeneratorReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratorReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl<T: Data> SplitReader for GeneratorReader<T> {
    type Record = T;
    type Split = GeneratorSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<T>,
    ) -> Poll<Result<InputStatus>> {
        if self.split.n_read >= self.n_records {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        let n_due = match &mut self.pace {
            Some(pace) => std::task::ready!(pace.poll_due(cx, self.split.n_read)),
            None => u64::MAX,
        };
        let n_left = n_due.min(self.n_records) - self.split.n_read;
        let n = n_left.min(records_max.max(1) as u64);
        let first = self.split.next_index();
        if out.batch.is_empty() {
            out.position = Some(format!("record {first}"));
        }
        let stride = self.split.stride;
        let records = (0..n).map(|idx| (self.make)(first + idx * stride)).collect();
        out.collect_batch(RecordBatch::untimed(records));
        self.split.n_read += n;
        let ended = self.split.n_read >= self.n_records;
        Poll::Ready(Ok(if ended { InputStatus::EndOfInput } else { InputStatus::MoreAvailable }))
    }

    fn split(&self) -> GeneratorSplit {
        self.split.clone()
    }
}
