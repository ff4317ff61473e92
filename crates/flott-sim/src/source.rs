//! The source of simulated programs: splits with pauses, and readers that sometimes have nothing though there is more.

use crate::plan::{Config, SourcePlan, Watermarks};
use crate::record::Record;
use flott_api::{
    Boundedness, GeneratorContext, InputStatus, SourceReaderContext, SourceSplit, SplitOutput, SplitReader,
    SplitSource, WatermarkGenerator, WatermarkStrategy,
};
use flott_env::Env;
use flott_types::{Result, SplitId, Timestamp, Watermark};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A split: its place in the plan, and the position of the next record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SimSplit {
    idx: usize,
    position: usize,
}

impl SourceSplit for SimSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("split-{}", self.idx))
    }
}

/// Reads the splits of a [`SourcePlan`].
#[derive(Clone, Debug)]
pub(crate) struct SimSource {
    plan: Arc<SourcePlan>,
    records: Arc<Vec<Arc<Vec<Record>>>>,
}

impl SimSource {
    pub(crate) fn new(plan: &SourcePlan, node: usize, config: &Config) -> Self {
        let records = (0..plan.splits.len()).map(|split| Arc::new(plan.records(node, split, config)));
        Self { records: Arc::new(records.collect()), plan: Arc::new(plan.clone()) }
    }
}

impl SplitSource for SimSource {
    type Record = Record;
    type Split = SimSplit;
    type Reader = SimReader;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self, _: u32) -> Result<Vec<SimSplit>> {
        Ok((0..self.records.len()).map(|idx| SimSplit { idx, position: 0 }).collect())
    }

    fn open(&self, split: SimSplit, ctx: &SourceReaderContext) -> Result<SimReader> {
        let records = self.records.get(split.idx).cloned().unwrap_or_default();
        let plan = Arc::clone(&self.plan);
        Ok(SimReader {
            plan,
            records,
            env: ctx.env.clone(),
            split,
            pauses: 0,
            n_polls: 0,
            yielded: false,
            sleep: None,
        })
    }
}

/// Reads one split.
pub(crate) struct SimReader {
    plan: Arc<SourcePlan>,
    records: Arc<Vec<Record>>,
    env: Env,
    split: SimSplit,
    /// Pauses that have been taken.
    pauses: usize,
    n_polls: u64,
    yielded: bool,
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl fmt::Debug for SimReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl SimReader {
    fn next_pause(&self) -> Option<(usize, u64)> {
        self.plan.splits.get(self.split.idx).and_then(|split| split.pauses.get(self.pauses)).copied()
    }

    fn is_at_end(&self) -> bool {
        self.split.position == self.records.len() && self.next_pause().is_none()
    }
}

impl SplitReader for SimReader {
    type Record = Record;
    type Split = SimSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<Record>,
    ) -> Poll<Result<InputStatus>> {
        if let Some(sleep) = &mut self.sleep {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        if let Some((before, ms)) = self.next_pause()
            && before == self.split.position
        {
            self.pauses += 1;
            self.sleep = Some(self.env.sleep(Duration::from_millis(ms)));
            return self.poll_read(cx, records_max, out);
        }
        self.n_polls += 1;
        if self.plan.yield_every > 0 && self.n_polls.is_multiple_of(self.plan.yield_every) && !self.yielded {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        if self.is_at_end() {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        let until = self.next_pause().map_or(self.records.len(), |(before, _)| before);
        let until = until.min(self.split.position + self.plan.chunk_max.min(records_max));
        for record in self.records.get(self.split.position..until).unwrap_or_default() {
            out.collect_with_timestamp(record.clone(), record.timestamp);
        }
        self.split.position = until;
        let ends = self.plan.eager_end && self.is_at_end();
        Poll::Ready(Ok(if ends { InputStatus::EndOfInput } else { InputStatus::MoreAvailable }))
    }

    fn split(&self) -> SimSplit {
        self.split.clone()
    }
}

/// The watermark strategy that a plan says.
pub(crate) fn strategy(plan: &SourcePlan) -> WatermarkStrategy<Record> {
    let bound = Duration::from_millis(plan.bound_ms);
    let mut strategy = match plan.watermarks {
        Watermarks::Bounded if plan.bound_ms == 0 => WatermarkStrategy::for_monotonous_timestamps(),
        Watermarks::Bounded => WatermarkStrategy::for_bounded_out_of_orderness(bound),
        Watermarks::Punctuated => WatermarkStrategy::for_punctuated(|record: &Record, _| {
            Some(record.aux).filter(|at| *at != Timestamp::MIN)
        }),
        Watermarks::Periodic => {
            let bound_ms = plan.bound_ms as i64;
            WatermarkStrategy::for_generator(move |_: GeneratorContext| Periodic { bound_ms, newest: None })
        }
        Watermarks::None => WatermarkStrategy::no_watermarks(),
    };
    if plan.chunk_max.is_multiple_of(3) {
        strategy = strategy.with_timestamp_assigner(|record: &Record, _| record.timestamp);
    }
    strategy = match plan.idle_timeout_ms {
        None => strategy,
        Some(0) => strategy.without_idleness(),
        Some(ms) => strategy.with_idleness(Duration::from_millis(ms)),
    };
    match plan.alignment_ms {
        Some(drift) => strategy.with_watermark_alignment("together", Duration::from_millis(drift)),
        None => strategy,
    }
}

/// Says its watermark only when the clock asks.
struct Periodic {
    bound_ms: i64,
    newest: Option<Timestamp>,
}

impl WatermarkGenerator<Record> for Periodic {
    fn on_record(&mut self, _: &Record, timestamp: Timestamp) -> Option<Watermark> {
        self.newest = self.newest.max(Some(timestamp));
        None
    }

    fn on_periodic_emit(&mut self) -> Option<Watermark> {
        self.newest.map(|newest| Watermark(newest.saturating_sub(self.bound_ms).saturating_sub(1)))
    }
}
