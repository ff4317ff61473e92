//! The sources of a job under faults.

use super::expected::{Numbered, SECOND};
use super::plan::{Job, Phase};
use super::world::World;
use crate::record::mix;
use flott_api::{
    Boundedness, InputStatus, SourceReaderContext, SourceSplit, SplitOutput, SplitReader, SplitSource,
};
use flott_env::Env;
use flott_types::{Error, Result, SplitId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Told when a reader says where it is: the barrier of a checkpoint has come.
pub(crate) type OnBarrier = Arc<dyn Fn() + Send + Sync>;

/// A split: its number, and that of its next record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FaultSplit {
    pub(crate) split: u32,
    pub(crate) next: u64,
}

impl SourceSplit for FaultSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("split-{}", self.split))
    }
}

/// The splits with these numbers of records.
#[derive(Clone)]
pub(super) struct FaultSource {
    pub(super) splits: Vec<(u32, u64)>,
    pub(super) job: Arc<Job>,
    pub(super) world: World,
    pub(super) on_barrier: OnBarrier,
}

impl SplitSource for FaultSource {
    type Record = Numbered;
    type Split = FaultSplit;
    type Reader = FaultReader;
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _: u32) -> Result<Vec<FaultSplit>> {
        Ok(self.splits.iter().map(|(split, _)| FaultSplit { split: *split, next: 0 }).collect())
    }
    fn open(&self, split: FaultSplit, ctx: &SourceReaderContext) -> Result<FaultReader> {
        let count =
            self.splits.iter().find(|(number, _)| *number == split.split).map_or(0, |(_, count)| *count);
        let (job, world, on_barrier) =
            (Arc::clone(&self.job), self.world.clone(), Arc::clone(&self.on_barrier));
        let env = ctx.env.clone();
        let pause = quiet(&job, &split).map(|quiet| pause(&env, quiet));
        Ok(FaultReader { env, job, world, on_barrier, split, count, pause })
    }
}

pub(super) struct FaultReader {
    env: Env,
    job: Arc<Job>,
    world: World,
    on_barrier: OnBarrier,
    split: FaultSplit,
    count: u64,
    pause: Option<Pause>,
}

type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

fn pause(env: &Env, for_so_long: Duration) -> Pause {
    Box::pin(env.sleep(for_so_long))
}

/// For how long a split says nothing that is to count as idle: when it is opened, and now and then.
fn quiet(job: &Job, split: &FaultSplit) -> Option<Duration> {
    let idle_ms = job.idle_ms.filter(|_| split.split == SECOND)?;
    Some(Duration::from_millis(idle_ms * 3))
}

impl fmt::Debug for FaultReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultReader").field("split", &self.split).finish_non_exhaustive()
    }
}

impl SplitReader for FaultReader {
    type Record = Numbered;
    type Split = FaultSplit;

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<Numbered>,
    ) -> Poll<Result<InputStatus>> {
        if self.world.is_still {
            return Poll::Pending;
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        let Self { split, job, world, count, .. } = self;
        if split.next >= *count {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        let read = world.event(Phase::Read, || {
            let chance = mix(u64::from(split.split) + 7, split.next);
            let until = split.next + (1 + chance % job.chunk).min(records_max as u64);
            let until = until.min(*count);
            for number in split.next..until {
                let record = (split.split, number);
                out.collect_with_timestamp(record, job.timestamp(record));
            }
            split.next = until;
            Ok(chance >> 32)
        });
        let chance = match read {
            Ok(chance) => chance,
            Err(error) => return Poll::Ready(Err(Error::subtask("cannot read").with_source(error))),
        };
        // Whole milliseconds, as the intervals of checkpoints: only what happens at the same time is interleaved.
        let ms = chance % (2 * job.pause_ms + 1);
        let ms = Some(ms).filter(|ms| *ms <= job.pause_ms && *ms > 0).map(Duration::from_millis);
        let quiet = quiet(job, split).filter(|_| (chance >> 16).is_multiple_of(3));
        self.pause = quiet.or(ms).map(|for_so_long| pause(&self.env, for_so_long));
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }

    fn split(&self) -> FaultSplit {
        (self.on_barrier)();
        self.split.clone()
    }
}
