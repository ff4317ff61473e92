//! Drives a source without an engine, for tests of sources: enumerator and readers in one thread, step by step.

use crate::BadRecord;
use crate::source::{
    EnumeratorInit, InputStatus, Source, SourceOutput, SourceReader, SourceReaderContext, SourceSplit,
    SplitEnumerator, SplitEnumeratorContext,
};
use crate::span::StartingPosition;
use flott_env::Env;
use flott_types::{Error, Result, SplitId, SubtaskIndex, Timestamp};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::task::{Context, Poll, Waker};

type BoxReader<S> = Box<dyn SourceReader<Record = <S as Source>::Record, Split = <S as Source>::Split>>;

/// What the parts of a source had to remember: the enumerator, and the splits of all readers.
#[derive(Clone, Debug)]
pub struct SourceSnapshot<S> {
    /// From [`SplitEnumerator::snapshot`].
    pub enumerator: Vec<u8>,
    /// From [`SourceReader::snapshot`], all readers together.
    pub splits: Vec<S>,
}

/// What a reader put out in one call.
#[derive(Debug)]
pub struct ReadRecords<T> {
    /// Each record with its split and timestamp.
    pub records: Vec<(SplitId, T, Timestamp)>,
    /// The records that could not be read.
    pub bad_records: Vec<BadRecord>,
}

impl<T> Default for ReadRecords<T> {
    fn default() -> Self {
        Self { records: Vec::new(), bad_records: Vec::new() }
    }
}

impl<T> ReadRecords<T> {
    /// The records alone.
    pub fn into_records(self) -> Vec<T> {
        self.records.into_iter().map(|(_, record, _)| record).collect()
    }

    fn append(&mut self, mut other: Self) {
        self.records.append(&mut other.records);
        self.bad_records.append(&mut other.bad_records);
    }
}

/// A source at work. It does with enumerator and readers what the engine does, in a fixed order.
pub struct SourceDriver<S: Source> {
    enumerator: Box<dyn SplitEnumerator<S::Split>>,
    readers: Vec<Option<BoxReader<S>>>,
    output: SourceOutput<S::Record>,
}

impl<S: Source> fmt::Debug for SourceDriver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceDriver").field("ended", &self.has_ended()).finish_non_exhaustive()
    }
}

struct Assignments<S> {
    parallelism: u32,
    splits: Vec<(SubtaskIndex, S)>,
    no_more: Vec<SubtaskIndex>,
}

impl<S> SplitEnumeratorContext<S> for Assignments<S> {
    fn parallelism(&self) -> u32 {
        self.parallelism
    }
    fn assign_split(&mut self, subtask: SubtaskIndex, split: S) {
        self.splits.push((subtask, split));
    }
    fn signal_no_more_splits(&mut self, subtask: SubtaskIndex) {
        self.no_more.push(subtask);
    }
}

impl<S: Source> SourceDriver<S> {
    /// Starts `source` with `parallelism` readers.
    ///
    /// # Errors
    /// What the source returns.
    pub fn start(source: &S, env: &Env, parallelism: u32) -> Result<Self> {
        Self::start_from(source, env, parallelism, None, StartingPosition::Earliest)
    }

    /// Starts `source` where a snapshot was taken; its splits go to the readers in turn.
    ///
    /// # Errors
    /// What the source returns.
    pub fn restore(
        source: &S,
        env: &Env,
        parallelism: u32,
        snapshot: SourceSnapshot<S::Split>,
    ) -> Result<Self> {
        Self::start_from(source, env, parallelism, Some(snapshot), StartingPosition::Earliest)
    }

    /// Starts `source` at a position.
    ///
    /// # Errors
    /// What the source returns.
    pub fn start_at(source: &S, env: &Env, parallelism: u32, start: StartingPosition) -> Result<Self> {
        Self::start_from(source, env, parallelism, None, start)
    }

    /// Starts `source` at a point in the event time of a program that takes it from the records.
    ///
    /// # Errors
    /// What the source returns.
    pub fn start_at_assigned_time(source: &S, env: &Env, parallelism: u32, from: Timestamp) -> Result<Self> {
        let init = EnumeratorInit {
            start: StartingPosition::Timestamp(from),
            has_own_timestamps: false,
            ..Self::init(env, parallelism)
        };
        Self::start_with(source, init, Vec::new())
    }

    fn start_from(
        source: &S,
        env: &Env,
        parallelism: u32,
        snapshot: Option<SourceSnapshot<S::Split>>,
        start: StartingPosition,
    ) -> Result<Self> {
        let (restored, splits) = match snapshot {
            Some(snapshot) => (Some(snapshot.enumerator), snapshot.splits),
            None => (None, Vec::new()),
        };
        Self::start_with(source, EnumeratorInit { restored, start, ..Self::init(env, parallelism) }, splits)
    }

    fn init(env: &Env, parallelism: u32) -> EnumeratorInit {
        EnumeratorInit {
            env: env.clone(),
            parallelism,
            restored: None,
            start: StartingPosition::Earliest,
            has_own_timestamps: true,
            takes_checkpoints: true,
        }
    }

    fn start_with(source: &S, init: EnumeratorInit, splits: Vec<S::Split>) -> Result<Self> {
        let (env, parallelism) = (init.env.clone(), init.parallelism);
        let enumerator = source.create_enumerator(init)?;
        let readers = (0..parallelism)
            .map(|idx| {
                let ctx = SourceReaderContext { env: env.clone(), subtask: SubtaskIndex(idx), parallelism };
                source.create_reader(ctx).map(Some)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut driver = Self { enumerator, readers, output: SourceOutput::default() };
        for (idx, split) in splits.into_iter().enumerate() {
            driver.reader(SubtaskIndex(idx as u32 % parallelism))?.add_splits(vec![split])?;
        }
        driver.with_enumerator(|enumerator, ctx| enumerator.start(ctx))?;
        Ok(driver)
    }

    fn reader(&mut self, subtask: SubtaskIndex) -> Result<&mut BoxReader<S>> {
        let reader = self.readers.get_mut(subtask.as_usize()).and_then(Option::as_mut);
        reader.ok_or_else(|| {
            Error::subtask(format!("a split was assigned to reader {subtask}, which is not there"))
        })
    }

    fn with_enumerator(
        &mut self,
        call: impl FnOnce(
            &mut dyn SplitEnumerator<S::Split>,
            &mut dyn SplitEnumeratorContext<S::Split>,
        ) -> Result<()>,
    ) -> Result<()> {
        let parallelism = self.readers.len() as u32;
        let mut assigned = Assignments { parallelism, splits: Vec::new(), no_more: Vec::new() };
        call(self.enumerator.as_mut(), &mut assigned)?;
        for (subtask, split) in assigned.splits {
            self.reader(subtask)?.add_splits(vec![split])?;
        }
        for subtask in assigned.no_more {
            self.reader(subtask)?.no_more_splits();
        }
        Ok(())
    }

    /// Lets the enumerator look for new splits.
    ///
    /// # Errors
    /// What the source returns.
    pub fn discover(&mut self) -> Result<()> {
        self.with_enumerator(|enumerator, ctx| enumerator.discover(ctx))
    }

    /// Whether all readers have ended.
    pub fn has_ended(&self) -> bool {
        self.readers.iter().all(Option::is_none)
    }

    /// Polls each reader once. `Ready` as soon as one of them has something to say, `Pending` if none has.
    ///
    /// # Errors
    /// What the source returns; records read before it in this call are lost to the caller, as in a failed job.
    pub fn poll_all(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
    ) -> Poll<Result<ReadRecords<S::Record>>> {
        let mut all = ReadRecords::default();
        let mut any_ready = self.has_ended();
        for idx in 0..self.readers.len() {
            if let Poll::Ready(read) = self.poll_one(cx, SubtaskIndex(idx as u32), records_max) {
                all.append(read?);
                any_ready = true;
            }
        }
        if any_ready { Poll::Ready(Ok(all)) } else { Poll::Pending }
    }

    /// Polls one reader; `Pending` also if it has ended.
    ///
    /// # Errors
    /// What the source returns.
    pub fn poll_one(
        &mut self,
        cx: &mut Context<'_>,
        subtask: SubtaskIndex,
        records_max: usize,
    ) -> Poll<Result<ReadRecords<S::Record>>> {
        let Some(slot) = self.readers.get_mut(subtask.as_usize()) else { return Poll::Pending };
        let Some(reader) = slot else { return Poll::Pending };
        match std::task::ready!(reader.poll_next(cx, records_max, &mut self.output)) {
            Ok(InputStatus::MoreAvailable) => {}
            Ok(InputStatus::EndOfInput) => *slot = None,
            Err(error) => return Poll::Ready(Err(error)),
        }
        let mut read = ReadRecords::default();
        for split in self.output.splits_mut() {
            let id = split.id.clone();
            read.records.extend(split.batch.take().into_iter().map(|(record, at)| (id.clone(), record, at)));
            read.bad_records.append(&mut split.bad_records);
        }
        Poll::Ready(Ok(read))
    }

    /// Reads until no reader has anything to read now; unlike in an engine, nobody is woken later.
    ///
    /// # Errors
    /// What the source returns, with the records read before it.
    pub fn read_available(
        &mut self,
        records_max: usize,
    ) -> Result<ReadRecords<S::Record>, FailedRead<S::Record>> {
        let mut all = ReadRecords::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut to_poll: VecDeque<u32> = (0..self.readers.len() as u32).collect();
        while let Some(idx) = to_poll.pop_front() {
            match self.poll_one(&mut cx, SubtaskIndex(idx), records_max) {
                Poll::Ready(Ok(read)) => {
                    all.append(read);
                    to_poll.push_back(idx);
                }
                Poll::Ready(Err(error)) => return Err(FailedRead { error, before: all }),
                Poll::Pending => {}
            }
        }
        Ok(all)
    }

    /// Tells enumerator and readers that a checkpoint is complete that holds `snapshot`.
    ///
    /// # Errors
    /// What the source returns.
    pub fn checkpoint_complete(&mut self, snapshot: &SourceSnapshot<S::Split>) -> Result<()> {
        for reader in self.readers.iter_mut().flatten() {
            let held: BTreeSet<_> = reader.snapshot()?.iter().map(SourceSplit::split_id).collect();
            let splits = snapshot.splits.iter().filter(|split| held.contains(&split.split_id()));
            reader.checkpoint_complete(&splits.cloned().collect::<Vec<_>>())?;
        }
        self.with_enumerator(|enumerator, ctx| enumerator.checkpoint_complete(ctx))
    }

    /// Whether the source reads nothing before a checkpoint is complete.
    pub fn awaits_checkpoint(&self) -> bool {
        self.enumerator.awaits_checkpoint()
    }

    /// What a new driver needs to go on from here.
    ///
    /// # Errors
    /// What the source returns.
    pub fn snapshot(&mut self) -> Result<SourceSnapshot<S::Split>> {
        let mut splits = Vec::new();
        for reader in self.readers.iter_mut().flatten() {
            splits.append(&mut reader.snapshot()?);
        }
        Ok(SourceSnapshot { enumerator: self.enumerator.snapshot()?, splits })
    }
}

/// An error and what was read before it.
#[derive(Debug)]
pub struct FailedRead<T> {
    /// The error of the source.
    pub error: Error,
    /// What was read before.
    pub before: ReadRecords<T>,
}
