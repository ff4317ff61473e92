//! Enumerator and readers, driven as the engine drives them. Splits are bytes between them, and in snapshots.

use super::progress::Progress;
use super::wakeup::Wakeup;
use flott_api::{
    EnumeratorInit, InputStatus, Source, SourceOutput, SourceReader, SourceReaderContext, SourceSplit,
    SplitEnumerator, SplitEnumeratorContext, StartingPosition,
};
use flott_env::Env;
use flott_types::{Error, NO_TIMESTAMP, Result, SplitId, SubtaskIndex, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};

type BoxReader<S> = Box<dyn SourceReader<Record = <S as Source>::Record, Split = <S as Source>::Split>>;

/// What a restart goes on from.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) enumerator: Vec<u8>,
    /// By reader.
    pub(super) splits: Vec<Vec<Vec<u8>>>,
    /// What was read before it.
    pub(super) progress: Progress,
}

pub(super) struct Reader<S: Source> {
    reader: BoxReader<S>,
    output: SourceOutput<S::Record>,
    pub(super) has_ended: bool,
    is_told_no_more: bool,
    /// It is to be told so when it asks for more and there is nothing.
    is_to_be_told: bool,
    n_given: u64,
    /// What it was given when it last asked for more.
    requested: Option<u64>,
    max_timestamp: Option<Timestamp>,
    /// Since the last complete checkpoint.
    given: Vec<Vec<u8>>,
}

struct Assigned<S> {
    parallelism: u32,
    splits: Vec<(SubtaskIndex, S)>,
    no_more: Vec<SubtaskIndex>,
    max_timestamp: Option<Timestamp>,
}

impl<S> SplitEnumeratorContext<S> for Assigned<S> {
    fn parallelism(&self) -> u32 {
        self.parallelism
    }
    fn assign_split(&mut self, subtask: SubtaskIndex, split: S) {
        self.splits.push((subtask, split));
    }
    fn signal_no_more_splits(&mut self, subtask: SubtaskIndex) {
        self.no_more.push(subtask);
    }
    fn max_timestamp(&self) -> Option<Timestamp> {
        self.max_timestamp
    }
}

/// A source at work.
pub(super) struct Engine<S: Source> {
    env: Env,
    enumerator: Box<dyn SplitEnumerator<S::Split>>,
    pub(super) readers: Vec<Reader<S>>,
    wakeup: Arc<Wakeup>,
}

fn encode<S: SourceSplit>(split: &S) -> Result<Vec<u8>> {
    flott_state::encode("a split", split)
}

fn decode<S: SourceSplit>(bytes: &[Vec<u8>]) -> Result<Vec<S>> {
    bytes.iter().map(|split| flott_state::decode("a split", split)).collect()
}

impl<S: Source> Engine<S> {
    pub(super) fn start(
        source: &S,
        env: &Env,
        parallelism: u32,
        from: Option<&Snapshot>,
        wakeup: &Arc<Wakeup>,
    ) -> Result<Self> {
        let mut readers = (0..parallelism)
            .map(|idx| Reader::new(source, env, SubtaskIndex(idx), parallelism))
            .collect::<Result<Vec<_>>>()?;
        let n = readers.len();
        for (idx, split) in from.iter().flat_map(|from| from.splits.iter().flatten()).enumerate() {
            if let Some(reader) = readers.get_mut(idx % n) {
                reader.give(vec![split.clone()])?;
            }
        }
        let init = EnumeratorInit {
            env: env.clone(),
            parallelism,
            restored: from.map(|from| from.enumerator.clone()),
            start: StartingPosition::Earliest,
            has_own_timestamps: true,
            takes_checkpoints: true,
        };
        let enumerator = source.create_enumerator(init)?;
        let mut engine = Self { env: env.clone(), enumerator, readers, wakeup: Arc::clone(wakeup) };
        engine.with_enumerator(None, |enumerator, ctx| enumerator.start(ctx))?;
        Ok(engine)
    }

    fn with_enumerator(
        &mut self,
        max_timestamp: Option<Timestamp>,
        call: impl FnOnce(
            &mut dyn SplitEnumerator<S::Split>,
            &mut dyn SplitEnumeratorContext<S::Split>,
        ) -> Result<()>,
    ) -> Result<()> {
        let parallelism = self.readers.len() as u32;
        let mut assigned = Assigned { parallelism, splits: Vec::new(), no_more: Vec::new(), max_timestamp };
        call(self.enumerator.as_mut(), &mut assigned)?;
        let missing = |subtask: SubtaskIndex| {
            Error::subtask(format!("the enumerator instructs reader {subtask}, which is not there"))
        };
        for (subtask, split) in assigned.splits {
            let reader = self.readers.get_mut(subtask.as_usize()).ok_or_else(|| missing(subtask))?;
            let split = encode(&split)?;
            reader.given.push(split.clone());
            reader.give(vec![split])?;
        }
        for subtask in assigned.no_more {
            let reader = self.readers.get_mut(subtask.as_usize()).ok_or_else(|| missing(subtask))?;
            reader.is_told_no_more = true;
            reader.reader.no_more_splits();
        }
        Ok(())
    }

    pub(super) fn awaits_checkpoint(&self) -> bool {
        self.enumerator.awaits_checkpoint()
    }

    /// Whether readers were given anything.
    pub(super) fn has_assigned(&self) -> bool {
        self.readers.iter().any(|reader| reader.n_given > 0)
    }

    pub(super) fn discovers(&self) -> bool {
        self.enumerator.discovery_interval().is_some()
    }

    pub(super) fn discover(&mut self) -> Result<()> {
        self.with_enumerator(None, |enumerator, ctx| enumerator.discover(ctx))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.readers.iter().all(|reader| reader.has_ended)
    }

    /// Polls a reader; what it has read, with its splits. `None` if it has nothing now.
    #[expect(clippy::type_complexity, reason = "it is taken apart by its only caller")]
    pub(super) fn poll(&mut self, idx: usize, batch: usize) -> Result<Option<Vec<(SplitId, S::Record)>>> {
        let waker = self.wakeup.waker();
        let Some(reader) = self.readers.get_mut(idx).filter(|reader| !reader.has_ended) else {
            return Ok(None);
        };
        match reader.reader.poll_next(&mut Context::from_waker(&waker), batch, &mut reader.output) {
            Poll::Pending => {
                let polled = reader.take_output()?;
                self.request_splits(idx)?;
                return Ok(Some(polled).filter(|polled| !polled.is_empty()));
            }
            Poll::Ready(Ok(InputStatus::MoreAvailable)) => {}
            Poll::Ready(Ok(InputStatus::EndOfInput)) => reader.has_ended = true,
            Poll::Ready(Err(error)) => return Err(error),
        }
        reader.take_output().map(Some)
    }

    fn request_splits(&mut self, idx: usize) -> Result<()> {
        let Some(reader) = self.readers.get_mut(idx) else { return Ok(()) };
        if !reader.reader.needs_splits() || reader.requested == Some(reader.n_given) {
            return Ok(());
        }
        let n_given = reader.n_given;
        reader.requested = Some(n_given);
        let max_timestamp = reader.max_timestamp;
        let subtask = SubtaskIndex(idx as u32);
        self.with_enumerator(max_timestamp, |enumerator, ctx| enumerator.handle_split_request(subtask, ctx))?;
        let Some(reader) = self.readers.get_mut(idx) else { return Ok(()) };
        if reader.n_given == n_given && std::mem::take(&mut reader.is_to_be_told) {
            reader.is_told_no_more = true;
            reader.reader.no_more_splits();
        }
        Ok(())
    }

    /// What a checkpoint holds that is triggered now.
    pub(super) fn snapshot(&mut self, progress: &Progress) -> Result<Snapshot> {
        let enumerator = self.enumerator.snapshot()?;
        let splits = self.readers.iter_mut().map(Reader::snapshot).collect::<Result<_>>()?;
        Ok(Snapshot { enumerator, splits, progress: progress.clone() })
    }

    /// The checkpoint is complete, and was the last that was triggered.
    pub(super) fn complete(&mut self, snapshot: &Snapshot) -> Result<()> {
        for (reader, splits) in self.readers.iter_mut().zip(&snapshot.splits) {
            reader.given.clear();
            reader.reader.checkpoint_complete(&decode(splits)?)?;
        }
        self.with_enumerator(None, |enumerator, ctx| enumerator.checkpoint_complete(ctx))
    }

    /// Another reader in its place, which goes on from `snapshot`.
    fn replace(&mut self, source: &S, idx: usize) -> Result<(Vec<Vec<u8>>, bool)> {
        let parallelism = self.readers.len() as u32;
        let new = Reader::new(source, &self.env, SubtaskIndex(idx as u32), parallelism)?;
        let Some(place) = self.readers.get_mut(idx) else { return Ok((Vec::new(), false)) };
        let old = std::mem::replace(place, new);
        Ok((old.given, old.is_told_no_more))
    }

    /// A reader is started again; it gets what it had at the last complete checkpoint, and what it was given since.
    pub(super) fn restart_reader(&mut self, source: &S, idx: usize, from: Option<&Snapshot>) -> Result<()> {
        let (given, is_told_no_more) = self.replace(source, idx)?;
        let Some(reader) = self.readers.get_mut(idx) else { return Ok(()) };
        reader.give(from.and_then(|from| from.splits.get(idx)).cloned().unwrap_or_default())?;
        for split in given {
            reader.given.push(split.clone());
            reader.give(vec![split])?;
        }
        if is_told_no_more {
            reader.is_told_no_more = true;
            reader.reader.no_more_splits();
        }
        Ok(())
    }

    /// A reader is started again; what it had goes back to the enumerator.
    pub(super) fn give_back(&mut self, source: &S, idx: usize, from: Option<&Snapshot>) -> Result<()> {
        let (given, is_told_no_more) = self.replace(source, idx)?;
        let mut splits = from.and_then(|from| from.splits.get(idx)).cloned().unwrap_or_default();
        splits.extend(given);
        self.enumerator.add_splits_back(decode(&splits)?, SubtaskIndex(idx as u32));
        if let Some(reader) = self.readers.get_mut(idx) {
            reader.is_to_be_told = is_told_no_more;
        }
        Ok(())
    }

    /// A snapshot in which the enumerator has the splits of a reader.
    pub(super) fn snapshot_with_unassigned(&mut self, idx: usize, mut of: Snapshot) -> Result<Snapshot> {
        let splits = of.splits.get_mut(idx).map(std::mem::take).unwrap_or_default();
        self.enumerator.add_splits_back(decode(&splits)?, SubtaskIndex(idx as u32));
        of.enumerator = self.enumerator.snapshot()?;
        Ok(of)
    }

    /// The ids of a reader's splits.
    pub(super) fn split_ids(&mut self, idx: usize) -> Result<Vec<SplitId>> {
        let Some(reader) = self.readers.get_mut(idx) else { return Ok(Vec::new()) };
        Ok(reader.reader.snapshot()?.iter().map(SourceSplit::split_id).collect())
    }

    pub(super) fn set_paused(&mut self, idx: usize, ids: &BTreeSet<SplitId>) {
        if let Some(reader) = self.readers.get_mut(idx) {
            reader.reader.set_paused(ids);
        }
    }

    pub(super) fn end_splits(&mut self, idx: usize, ids: &BTreeSet<SplitId>) -> Result<()> {
        self.readers.get_mut(idx).map_or(Ok(()), |reader| reader.reader.end_splits(ids))
    }
}

impl<S: Source> Reader<S> {
    fn new(source: &S, env: &Env, subtask: SubtaskIndex, parallelism: u32) -> Result<Self> {
        let reader = source.create_reader(SourceReaderContext { env: env.clone(), subtask, parallelism })?;
        Ok(Self {
            reader,
            output: SourceOutput::default(),
            has_ended: false,
            is_told_no_more: false,
            is_to_be_told: false,
            n_given: 0,
            requested: None,
            max_timestamp: None,
            given: Vec::new(),
        })
    }

    fn give(&mut self, splits: Vec<Vec<u8>>) -> Result<()> {
        if splits.is_empty() {
            return Ok(());
        }
        self.n_given += splits.len() as u64;
        self.reader.add_splits(decode(&splits)?)
    }

    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>> {
        self.reader.snapshot()?.iter().map(encode).collect()
    }

    /// All records outside are good.
    fn take_output(&mut self) -> Result<Vec<(SplitId, S::Record)>> {
        let mut records = Vec::new();
        for split in self.output.splits_mut() {
            let id = split.id.clone();
            if let Some(bad) = std::mem::take(&mut split.bad_records).first() {
                let message = format!("a bad record of split {id}, at {}: {}", bad.position, bad.message);
                return Err(Error::subtask(message));
            }
            for (record, at) in split.batch.take() {
                self.max_timestamp = self.max_timestamp.max(Some(at).filter(|at| *at != NO_TIMESTAMP));
                records.push((id.clone(), record));
            }
        }
        Ok(records)
    }
}
