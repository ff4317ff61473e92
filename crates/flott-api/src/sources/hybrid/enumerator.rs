//! Which source is read, and when the next one is.

use super::split::{HybridSplit, InnerSplit, SplitPart};
use super::{Links, SwitchContext};
use crate::source::{EnumeratorInit, SplitEnumerator, SplitEnumeratorContext, SplitSpan};
use crate::span::StartingPosition;
use flott_env::Env;
use flott_types::{Data, Error, Result, SubtaskIndex, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a new enumerator goes on from.
#[derive(Serialize, Deserialize)]
struct HybridState {
    /// The number of the source that is read.
    current: u32,
    /// The time at which it was started, if it was one: earlier records are left out.
    from: Option<Timestamp>,
    /// The greatest event time of all that was read before.
    max_timestamp: Option<Timestamp>,
    /// The snapshot of its enumerator.
    inner: Vec<u8>,
    /// Splits of sources before it that came back.
    returned: Vec<HybridSplit>,
}

const STATE: &str = "the enumerator of a hybrid source";

pub(super) struct HybridEnumerator<T> {
    links: Links<T>,
    env: Env,
    parallelism: u32,
    has_own_timestamps: bool,
    takes_checkpoints: bool,
    current: u32,
    from: Option<Timestamp>,
    max_timestamp: Option<Timestamp>,
    inner: Box<dyn SplitEnumerator<InnerSplit>>,
    returned: Vec<HybridSplit>,
    /// Readers that have read everything that they were given.
    waiting: BTreeSet<SubtaskIndex>,
    /// Readers to which the current source gives nothing more.
    no_more: BTreeSet<SubtaskIndex>,
}

/// What the enumerator of the current source wants.
struct Wanted {
    parallelism: u32,
    assigned: Vec<(SubtaskIndex, InnerSplit)>,
    no_more: Vec<SubtaskIndex>,
}

impl SplitEnumeratorContext<InnerSplit> for Wanted {
    fn parallelism(&self) -> u32 {
        self.parallelism
    }
    fn assign_split(&mut self, subtask: SubtaskIndex, split: InnerSplit) {
        self.assigned.push((subtask, split));
    }
    fn signal_no_more_splits(&mut self, subtask: SubtaskIndex) {
        self.no_more.push(subtask);
    }
}

impl<T: Data> HybridEnumerator<T> {
    pub(super) fn new(links: Links<T>, init: EnumeratorInit) -> Result<Self> {
        let EnumeratorInit { env, parallelism, restored, start, has_own_timestamps, takes_checkpoints } =
            init;
        let state = match restored {
            Some(bytes) => Some(flott_state::decode::<HybridState>(STATE, &bytes)?),
            None => None,
        };
        let (current, from, max_timestamp, restored, returned, start) = match state {
            Some(HybridState { current, from, max_timestamp, inner, returned }) => {
                (current, from, max_timestamp, Some(inner), returned, StartingPosition::Earliest)
            }
            None => {
                let (current, start) = first_start(start)?;
                (current, None, None, None, Vec::new(), start)
            }
        };
        let link = links.get(current as usize).ok_or_else(|| {
            let n_sources = links.len();
            Error::user(format!("the hybrid source goes on with its source {current}, and has {n_sources}"))
        })?;
        let init = EnumeratorInit {
            env: env.clone(),
            parallelism,
            restored,
            start,
            has_own_timestamps,
            takes_checkpoints,
        };
        let inner = link.source.create_enumerator(init)?;
        let (waiting, no_more) = (BTreeSet::new(), BTreeSet::new());
        Ok(Self {
            links,
            env,
            parallelism,
            has_own_timestamps,
            takes_checkpoints,
            current,
            from,
            max_timestamp,
            inner,
            returned,
            waiting,
            no_more,
        })
    }

    fn is_last(&self) -> bool {
        self.current as usize + 1 >= self.links.len()
    }

    /// What is read of the splits of the current source.
    fn span(&self) -> SplitSpan {
        let next = self.links.get(self.current as usize + 1);
        SplitSpan { from: self.from, until: next.and_then(|link| link.fixed_time()) }
    }

    fn split(&self, part: SplitPart) -> HybridSplit {
        HybridSplit { source: self.current, span: self.span(), part }
    }

    /// Lets the enumerator of the current source act.
    fn act(
        &mut self,
        ctx: &mut dyn SplitEnumeratorContext<HybridSplit>,
        f: impl FnOnce(&mut dyn SplitEnumerator<InnerSplit>, &mut Wanted) -> Result<()>,
    ) -> Result<()> {
        let mut wanted = Wanted { parallelism: self.parallelism, assigned: Vec::new(), no_more: Vec::new() };
        f(self.inner.as_mut(), &mut wanted)?;
        for (subtask, split) in wanted.assigned {
            self.waiting.remove(&subtask);
            ctx.assign_split(subtask, self.split(SplitPart::Split(split)));
        }
        for subtask in wanted.no_more {
            self.no_more.insert(subtask);
            if self.is_last() {
                ctx.signal_no_more_splits(subtask);
            }
        }
        Ok(())
    }

    /// Tells all readers which source is the current one, and hands out its splits.
    fn begin(&mut self, ctx: &mut dyn SplitEnumeratorContext<HybridSplit>) -> Result<()> {
        self.waiting.clear();
        for subtask in (0..self.parallelism).map(SubtaskIndex) {
            ctx.assign_split(subtask, self.split(SplitPart::Current));
        }
        for (idx, split) in std::mem::take(&mut self.returned).into_iter().enumerate() {
            ctx.assign_split(SubtaskIndex(idx as u32 % self.parallelism), split);
        }
        self.act(ctx, |inner, wanted| inner.start(wanted))
    }

    /// Goes over to the next source when all readers have read all of the current one.
    fn switch_if_read(&mut self, ctx: &mut dyn SplitEnumeratorContext<HybridSplit>) -> Result<()> {
        let all = |readers: &BTreeSet<SubtaskIndex>| readers.len() == self.parallelism as usize;
        if self.is_last() || !all(&self.waiting) || !all(&self.no_more) {
            return Ok(());
        }
        self.current += 1;
        let Some(link) = self.links.get(self.current as usize) else { return Ok(()) };
        let start = link.start(&SwitchContext { max_timestamp: self.max_timestamp });
        self.from = match start {
            StartingPosition::Timestamp(from) => Some(from),
            StartingPosition::Earliest | StartingPosition::Positions(_) => None,
        };
        let init = EnumeratorInit {
            env: self.env.clone(),
            parallelism: self.parallelism,
            restored: None,
            start,
            has_own_timestamps: self.has_own_timestamps,
            takes_checkpoints: self.takes_checkpoints,
        };
        let created = link.source.create_enumerator(init);
        let in_source = |error: Error| error.context(format!("switching to source {}", self.current));
        self.inner = created.map_err(in_source)?;
        self.no_more.clear();
        self.begin(ctx)
    }
}

/// The number of the source that a job starts with, and where. Positions are those of splits of one source: those before are left out.
fn first_start(start: StartingPosition) -> Result<(u32, StartingPosition)> {
    let Some(splits) = start.splits::<HybridSplit>()? else { return Ok((0, start)) };
    let current = splits.first().map_or(0, |split| split.source);
    let inner = splits.into_iter().map(|split| match split.part {
        SplitPart::Split(inner) if split.source == current => Ok(inner.json),
        _ => Err(Error::user("the positions to start at are of several sources: a hybrid source starts within one of its sources")),
    });
    Ok((current, StartingPosition::Positions(inner.collect::<Result<_>>()?)))
}

impl<T: Data> SplitEnumerator<HybridSplit> for HybridEnumerator<T> {
    fn start(&mut self, ctx: &mut dyn SplitEnumeratorContext<HybridSplit>) -> Result<()> {
        self.begin(ctx)
    }

    fn handle_split_request(
        &mut self,
        subtask: SubtaskIndex,
        ctx: &mut dyn SplitEnumeratorContext<HybridSplit>,
    ) -> Result<()> {
        self.max_timestamp = self.max_timestamp.max(ctx.max_timestamp());
        if !self.returned.is_empty() {
            std::mem::take(&mut self.returned).into_iter().for_each(|split| ctx.assign_split(subtask, split));
            return Ok(());
        }
        self.waiting.insert(subtask);
        self.act(ctx, |inner, wanted| inner.handle_split_request(subtask, wanted))?;
        self.switch_if_read(ctx)
    }

    fn add_splits_back(&mut self, splits: Vec<HybridSplit>, subtask: SubtaskIndex) {
        self.waiting.remove(&subtask);
        let mut of_current = Vec::new();
        for split in splits {
            match split.part {
                SplitPart::Split(inner) if split.source == self.current => of_current.push(inner),
                SplitPart::Split(_) => self.returned.push(split),
                SplitPart::Current => {}
            }
        }
        // The reader that takes its place must be told, too.
        self.returned.push(self.split(SplitPart::Current));
        self.inner.add_splits_back(of_current, subtask);
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.inner.discovery_interval()
    }

    fn discover(&mut self, ctx: &mut dyn SplitEnumeratorContext<HybridSplit>) -> Result<()> {
        self.act(ctx, |inner, wanted| inner.discover(wanted))
    }

    fn awaits_checkpoint(&self) -> bool {
        self.inner.awaits_checkpoint()
    }

    fn checkpoint_complete(&mut self, ctx: &mut dyn SplitEnumeratorContext<HybridSplit>) -> Result<()> {
        self.act(ctx, |inner, wanted| inner.checkpoint_complete(wanted))
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        let state = HybridState {
            current: self.current,
            from: self.from,
            max_timestamp: self.max_timestamp,
            inner: self.inner.snapshot()?,
            returned: self.returned.clone(),
        };
        flott_state::encode(STATE, &state)
    }
}
