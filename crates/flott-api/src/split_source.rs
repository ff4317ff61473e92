//! The simple way to write a source: a list of splits, and a reader for one split.

use crate::source::{
    Boundedness, EnumeratorInit, InputStatus, Source, SourceOutput, SourceReader, SourceReaderContext,
    SourceSplit, SplitEnumerator, SplitEnumeratorContext, SplitOutput,
};
use crate::span::StartingPosition;
use flott_types::{Data, Error, ErrorKind, Result, SplitId, SubtaskIndex, Timestamp};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::task::{Context, Poll};

/// A source whose splits are all known at the start. Implementing it is all a custom source needs; [`FnSource`](crate::sources::FnSource)
/// does it with a closure per split.
pub trait SplitSource: Send + Sync + 'static {
    /// What it reads.
    type Record: Data;
    /// What it is made of.
    type Split: SourceSplit;
    /// Reads one split.
    type Reader: SplitReader<Record = Self::Record, Split = Self::Split>;

    /// Whether it ends.
    fn boundedness(&self) -> Boundedness;

    /// All splits; each goes to one of `parallelism` readers.
    ///
    /// # Errors
    /// If the source does not exist or cannot be divided.
    fn splits(&self, parallelism: u32) -> Result<Vec<Self::Split>>;

    /// The splits of a job that starts at a point in event time: those of [`SplitSource::splits`], which may stand behind records that
    /// are certainly earlier by the timestamps of the source; not asked if the program assigns others. The engine leaves out what else is earlier.
    ///
    /// # Errors
    /// As [`SplitSource::splits`].
    fn splits_from(&self, parallelism: u32, from: Timestamp) -> Result<Vec<Self::Split>> {
        let _unused = from;
        self.splits(parallelism)
    }

    /// Whether a split that somebody names can be read: not if the source does not keep its records.
    fn keeps_records(&self) -> bool {
        true
    }

    /// Starts reading a split at its position.
    ///
    /// # Errors
    /// If it cannot be opened.
    fn open(&self, split: Self::Split, ctx: &SourceReaderContext) -> Result<Self::Reader>;
}

/// Reads one split.
pub trait SplitReader: Send + 'static {
    /// What it reads.
    type Record;
    /// What it reads from.
    type Split;

    /// Reads at most about `records_max` records. `Pending` if there is nothing now, after arranging to be woken.
    /// [`InputStatus::EndOfInput`] ends the split.
    ///
    /// # Errors
    /// If the split cannot be read; a broken record goes to [`SplitOutput::bad_record`] instead.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SplitOutput<Self::Record>,
    ) -> Poll<Result<InputStatus>>;

    /// The split with the position of the next record.
    fn split(&self) -> Self::Split;

    /// A checkpoint is complete that holds this position: see [`SourceReader::checkpoint_complete`].
    ///
    /// # Errors
    /// An error fails the job.
    fn checkpoint_complete(&mut self, split: &Self::Split) -> Result<()> {
        let _unused = split;
        Ok(())
    }
}

/// How many splits one reader reads at once; further ones wait, and event time waits for them.
const OPEN_SPLITS_MAX: usize = 64;

impl<S: SplitSource + Clone> Source for S {
    type Record = S::Record;
    type Split = S::Split;

    fn boundedness(&self) -> Boundedness {
        SplitSource::boundedness(self)
    }

    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<Self::Split>>> {
        if let Some(bytes) = init.restored {
            return Ok(Box::new(StaticSplitEnumerator::restore(&bytes)?));
        }
        let splits = match (init.start.splits()?, init.start) {
            (Some(_), _) if !self.keeps_records() => {
                return Err(Error::user(
                    "the source cannot start at positions: it does not keep its records",
                ));
            }
            (Some(splits), _) => splits,
            (None, StartingPosition::Timestamp(from)) if init.has_own_timestamps => {
                self.splits_from(init.parallelism, from)?
            }
            (None, _) => self.splits(init.parallelism)?,
        };
        Ok(Box::new(StaticSplitEnumerator::new(splits)))
    }

    fn create_reader(
        &self,
        ctx: SourceReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = Self::Record, Split = Self::Split>>> {
        let source = self.clone();
        Ok(Box::new(SplitSourceReader::new(move |split| source.open(split, &ctx))))
    }
}

/// Deals all splits out at the start, in turn, so that each reader reads its share side by side and event time
/// never passes a split that nobody has opened.
#[derive(Debug)]
pub struct StaticSplitEnumerator<S> {
    unassigned: VecDeque<S>,
}

impl<S: SourceSplit> StaticSplitEnumerator<S> {
    /// An enumerator of `splits`.
    pub fn new(splits: Vec<S>) -> Self {
        Self { unassigned: splits.into() }
    }

    /// An enumerator that goes on where a snapshot stopped.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if `bytes` are no such snapshot.
    pub fn restore(bytes: &[u8]) -> Result<Self> {
        let unassigned: Vec<S> = flott_state::decode("the splits of an enumerator", bytes)?;
        Ok(Self::new(unassigned))
    }
}

impl<S: SourceSplit> SplitEnumerator<S> for StaticSplitEnumerator<S> {
    fn start(&mut self, ctx: &mut dyn SplitEnumeratorContext<S>) -> Result<()> {
        let parallelism = ctx.parallelism();
        for (idx, split) in self.unassigned.drain(..).enumerate() {
            ctx.assign_split(SubtaskIndex(idx as u32 % parallelism), split);
        }
        (0..parallelism).for_each(|subtask| ctx.signal_no_more_splits(SubtaskIndex(subtask)));
        Ok(())
    }

    /// Splits that were given back go to whoever has nothing left.
    fn handle_split_request(
        &mut self,
        subtask: SubtaskIndex,
        ctx: &mut dyn SplitEnumeratorContext<S>,
    ) -> Result<()> {
        self.unassigned.drain(..).for_each(|split| ctx.assign_split(subtask, split));
        Ok(())
    }

    fn add_splits_back(&mut self, splits: Vec<S>, _: SubtaskIndex) {
        self.unassigned.extend(splits);
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        flott_state::encode("the splits of an enumerator", &Vec::from(self.unassigned.clone()))
    }
}

/// Reads several splits in turn, a batch of each.
pub struct SplitSourceReader<R: SplitReader> {
    open: Box<dyn FnMut(R::Split) -> Result<R> + Send>,
    reading: VecDeque<(SplitId, R)>,
    waiting: VecDeque<R::Split>,
    paused: BTreeSet<SplitId>,
    more_splits_come: bool,
}

impl<R: SplitReader> fmt::Debug for SplitSourceReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reading: Vec<_> = self.reading.iter().map(|(id, _)| id).collect();
        f.debug_struct("SplitSourceReader").field("reading", &reading).finish_non_exhaustive()
    }
}

impl<R: SplitReader> SplitSourceReader<R>
where
    R::Split: SourceSplit,
{
    /// A reader that opens each split with `open`.
    pub fn new(open: impl FnMut(R::Split) -> Result<R> + Send + 'static) -> Self {
        Self {
            open: Box::new(open),
            reading: VecDeque::new(),
            waiting: VecDeque::new(),
            paused: BTreeSet::new(),
            more_splits_come: true,
        }
    }

    fn open_waiting(&mut self) -> Result<()> {
        while self.reading.len() < OPEN_SPLITS_MAX
            && let Some(split) = self.waiting.pop_front()
        {
            let id = split.split_id();
            let reader = (self.open)(split).map_err(|error| error.context(format!("opening split {id}")))?;
            self.reading.push_back((id, reader));
        }
        Ok(())
    }
}

impl<R: SplitReader> SourceReader for SplitSourceReader<R>
where
    R::Split: SourceSplit,
{
    type Record = R::Record;
    type Split = R::Split;

    fn add_splits(&mut self, splits: Vec<R::Split>) -> Result<()> {
        self.waiting.extend(splits);
        self.open_waiting()
    }

    fn no_more_splits(&mut self) {
        self.more_splits_come = false;
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SourceOutput<R::Record>,
    ) -> Poll<Result<InputStatus>> {
        for _ in 0..self.reading.len() {
            let Some((id, mut reader)) = self.reading.pop_front() else { break };
            if self.paused.contains(&id) {
                self.reading.push_back((id, reader));
                continue;
            }
            let split_out = out.split(&id);
            match reader.poll_read(cx, records_max, split_out) {
                Poll::Ready(Ok(InputStatus::MoreAvailable)) => {
                    self.reading.push_back((id, reader));
                    return Poll::Ready(Ok(InputStatus::MoreAvailable));
                }
                Poll::Ready(Ok(InputStatus::EndOfInput)) => {
                    split_out.finished = true;
                    self.open_waiting()?;
                    return Poll::Ready(Ok(InputStatus::MoreAvailable));
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(error.context(format!("reading split {id}"))));
                }
                Poll::Pending => {
                    split_out.caught_up = true;
                    self.reading.push_back((id, reader));
                }
            }
        }
        if self.reading.is_empty() && self.waiting.is_empty() && !self.more_splits_come {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        Poll::Pending
    }

    fn needs_splits(&self) -> bool {
        self.reading.is_empty() && self.waiting.is_empty() && self.more_splits_come
    }

    fn end_splits(&mut self, ids: &BTreeSet<SplitId>) -> Result<()> {
        self.reading.retain(|(id, _)| !ids.contains(id));
        self.waiting.retain(|split| !ids.contains(&split.split_id()));
        self.open_waiting()
    }

    fn has_waiting_splits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn set_paused(&mut self, paused: &BTreeSet<SplitId>) {
        self.paused.clone_from(paused);
    }

    fn snapshot(&mut self) -> Result<Vec<R::Split>> {
        let splits: Vec<_> =
            self.reading.iter().map(|(_, reader)| reader.split()).chain(self.waiting.clone()).collect();
        let ids: BTreeSet<_> = splits.iter().map(SourceSplit::split_id).collect();
        if ids.len() != splits.len() {
            return Err(Error::new(ErrorKind::FailJob, "a reader holds the same split twice"));
        }
        Ok(splits)
    }

    fn checkpoint_complete(&mut self, splits: &[R::Split]) -> Result<()> {
        for split in splits {
            let id = split.split_id();
            if let Some((_, reader)) = self.reading.iter_mut().find(|(reading, _)| *reading == id) {
                reader.checkpoint_complete(split)?;
            }
        }
        Ok(())
    }
}
