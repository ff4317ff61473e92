//! A source of partitions in memory, as it should be and with mistakes.

use flott_api::{
    Boundedness, EnumeratorInit, InputStatus, Source, SourceOutput, SourceReader, SourceReaderContext,
    SourceSplit, SplitEnumerator, SplitEnumeratorContext, UserResult,
};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_testkit::contract::{RecordId, SourceEvent, SourceStart, SourceSubject, Wakeup};
use flott_types::{Error, Result, SplitId, SubtaskIndex};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    /// The position is that of the last record, not of the next (RisingWave 22510).
    ResumesAt,
    /// The position is behind what was fetched, not behind what was put out.
    ResumesTooFar,
    /// What was read is acknowledged.
    AcknowledgesWhatItReads,
    /// What is in a snapshot is acknowledged before that is complete (Feldera 6121).
    AcknowledgesSnapshots,
    NeverAcknowledges,
    /// "The newest" is resolved when it is first read, and so again after a restart (FLINK-38453, Feldera 2499efeb4).
    DecidesItsStartAgain,
    /// The enumerator's snapshot lacks splits that are not assigned.
    ForgetsUnassignedSplits,
    /// What is given back is not assigned again.
    ForgetsSplitsGivenBack,
    /// What is given back is assigned again to two.
    AssignsTwice,
    /// Restored positions of partitions that are not listed now are dropped (FLINK-6006).
    DropsWhatIsNotListed,
    /// What was discovered is not in the snapshot.
    ForgetsWhatItDiscovered,
    ReadsWhatIsPaused,
    /// Splits that were paused once stay so (FLINK-40475).
    StaysPaused,
    /// What is fetched and not put out goes when splits are added.
    LosesItsBuffer,
    /// The end of a bounded source is found by its last record (FLINK-34470).
    EndsAtTheLastRecord,
    /// After a connection is broken reading goes on behind what was under way.
    ForgetsWhatIsAfterADisconnect,
    /// What it was given is in its log, and not synced.
    SyncsWhatItReads,
    /// A good record is a bad one now and then.
    RejectsGoodRecords,
}

#[derive(Default)]
struct Outside {
    /// Records of each partition; `None` is a position without a record.
    partitions: Vec<Vec<Option<u64>>>,
    acknowledged: BTreeMap<u32, u64>,
    is_hidden: bool,
    n_disconnects: u64,
    /// For one mistake: how much of each partition is durable.
    n_synced: BTreeMap<u32, usize>,
}

/// The world and the source in it.
#[derive(Clone)]
pub(super) struct ToySource {
    outside: Arc<Mutex<Outside>>,
    mistake: Mistake,
    starts_with_new: bool,
    is_bounded: bool,
}

impl ToySource {
    pub(super) fn new(mistake: Mistake, starts_with_new: bool) -> Self {
        let outside = Outside { partitions: vec![Vec::new(); 3], ..Outside::default() };
        let is_bounded = mistake == Mistake::EndsAtTheLastRecord;
        Self { outside: Arc::new(Mutex::new(outside)), mistake, starts_with_new, is_bounded }
    }

    fn outside(&self) -> MutexGuard<'_, Outside> {
        self.outside.lock().unwrap()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ToySplit {
    partition: u32,
    /// Of the next record.
    position: usize,
    end: Option<usize>,
}

impl SourceSplit for ToySplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("toy-{}", self.partition))
    }
}

impl Source for ToySource {
    type Record = RecordId;
    type Split = ToySplit;

    fn boundedness(&self) -> Boundedness {
        if self.is_bounded { Boundedness::Bounded } else { Boundedness::ContinuousUnbounded }
    }

    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<ToySplit>>> {
        let mut state = match init.restored {
            Some(bytes) => flott_state::decode("a toy", &bytes)?,
            None => State::default(),
        };
        if self.mistake == Mistake::ForgetsWhatItDiscovered {
            state.known.clear();
        }
        let mut enumerator = ToyEnumerator { source: self.clone(), state, next: 0 };
        if enumerator.state.known.is_empty() {
            enumerator.look(self.starts_with_new)?;
            enumerator.state.awaits = self.starts_with_new && self.mistake != Mistake::DecidesItsStartAgain;
        } else {
            enumerator.state.awaits = false;
        }
        Ok(Box::new(enumerator))
    }

    fn create_reader(
        &self,
        _: SourceReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = RecordId, Split = ToySplit>>> {
        let n_disconnects = self.outside().n_disconnects;
        Ok(Box::new(ToyReader {
            source: self.clone(),
            splits: Vec::new(),
            fetched: Vec::new(),
            paused: BTreeSet::new(),
            more_come: true,
            n_disconnects,
        }))
    }
}

#[derive(Default, Serialize, Deserialize)]
struct State {
    known: BTreeSet<u32>,
    unassigned: Vec<ToySplit>,
    awaits: bool,
}

struct ToyEnumerator {
    source: ToySource,
    state: State,
    next: u32,
}

impl ToyEnumerator {
    /// Takes the partitions that are new.
    fn look(&mut self, at_end: bool) -> Result<()> {
        let outside = self.source.outside();
        // An answer that lacks a partition.
        let n_missing = usize::from(outside.is_hidden);
        for (partition, records) in outside.partitions.iter().enumerate().skip(n_missing) {
            if self.state.known.insert(partition as u32) {
                let position = match self.source.mistake {
                    Mistake::DecidesItsStartAgain if at_end => usize::MAX,
                    _ if at_end => records.len(),
                    _ => 0,
                };
                let end = self.source.is_bounded.then_some(records.len());
                self.state.unassigned.push(ToySplit { partition: partition as u32, position, end });
            }
        }
        Ok(())
    }

    fn assign(&mut self, ctx: &mut dyn SplitEnumeratorContext<ToySplit>) {
        if self.state.awaits {
            return;
        }
        for split in std::mem::take(&mut self.state.unassigned) {
            ctx.assign_split(SubtaskIndex(self.next % ctx.parallelism()), split);
            self.next += 1;
        }
    }
}

impl SplitEnumerator<ToySplit> for ToyEnumerator {
    fn start(&mut self, ctx: &mut dyn SplitEnumeratorContext<ToySplit>) -> Result<()> {
        self.assign(ctx);
        if self.source.is_bounded {
            (0..ctx.parallelism()).for_each(|subtask| ctx.signal_no_more_splits(SubtaskIndex(subtask)));
        }
        Ok(())
    }

    fn handle_split_request(
        &mut self,
        _: SubtaskIndex,
        ctx: &mut dyn SplitEnumeratorContext<ToySplit>,
    ) -> Result<()> {
        self.assign(ctx);
        Ok(())
    }

    fn add_splits_back(&mut self, splits: Vec<ToySplit>, _: SubtaskIndex) {
        match self.source.mistake {
            Mistake::ForgetsSplitsGivenBack => {}
            Mistake::AssignsTwice => {
                self.state.unassigned.extend(splits.clone());
                self.state.unassigned.extend(splits);
            }
            _ => self.state.unassigned.extend(splits),
        }
    }

    fn discovery_interval(&self) -> Option<Duration> {
        (!self.source.is_bounded).then_some(Duration::from_secs(1))
    }

    fn discover(&mut self, ctx: &mut dyn SplitEnumeratorContext<ToySplit>) -> Result<()> {
        self.look(false)?;
        self.assign(ctx);
        Ok(())
    }

    fn awaits_checkpoint(&self) -> bool {
        self.state.awaits
    }

    fn checkpoint_complete(&mut self, ctx: &mut dyn SplitEnumeratorContext<ToySplit>) -> Result<()> {
        self.state.awaits = false;
        self.assign(ctx);
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        let forgets = self.source.mistake == Mistake::ForgetsUnassignedSplits;
        let unassigned = if forgets { Vec::new() } else { self.state.unassigned.clone() };
        let state = State { known: self.state.known.clone(), unassigned, awaits: self.state.awaits };
        flott_state::encode("a toy", &state)
    }
}

struct ToyReader {
    source: ToySource,
    splits: Vec<ToySplit>,
    /// For one mistake: positions that were fetched ahead.
    fetched: Vec<(u32, usize)>,
    paused: BTreeSet<SplitId>,
    more_come: bool,
    n_disconnects: u64,
}

impl ToyReader {
    fn acknowledge(&self, splits: &[ToySplit]) {
        let mut outside = self.source.outside();
        for split in splits {
            let records = outside.partitions.get(split.partition as usize).into_iter().flatten();
            let n = records.take(split.position).flatten().count() as u64;
            let end = outside.acknowledged.entry(split.partition).or_insert(0);
            *end = n.max(*end);
        }
    }
}

impl SourceReader for ToyReader {
    type Record = RecordId;
    type Split = ToySplit;

    fn add_splits(&mut self, splits: Vec<ToySplit>) -> Result<()> {
        if self.source.mistake == Mistake::LosesItsBuffer && !self.splits.is_empty() {
            self.splits.iter_mut().for_each(|split| split.position += 1);
        }
        let drops = self.source.mistake == Mistake::DropsWhatIsNotListed && self.source.outside().is_hidden;
        self.splits.extend(splits.into_iter().filter(|split| !drops || split.partition != 0));
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.more_come = false;
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
        records_max: usize,
        out: &mut SourceOutput<RecordId>,
    ) -> Poll<Result<InputStatus>> {
        let mistake = self.source.mistake;
        let outside = Arc::clone(&self.source.outside);
        let mut outside = outside.lock().unwrap();
        if std::mem::replace(&mut self.n_disconnects, outside.n_disconnects) != outside.n_disconnects {
            if mistake != Mistake::ForgetsWhatIsAfterADisconnect {
                return Poll::Ready(Err(Error::subtask("the connection is broken")));
            }
            self.splits.iter_mut().for_each(|split| {
                let len = outside.partitions.get(split.partition as usize).map_or(0, Vec::len);
                split.position = (split.position + 1).min(len);
            });
        }
        let mut n_read = 0;
        let mut at_end = Vec::new();
        for split in &mut self.splits {
            let is_paused = self.paused.contains(&split.split_id());
            let outside = &mut *outside;
            let Some(records) = outside.partitions.get(split.partition as usize) else { continue };
            if split.position == usize::MAX {
                split.position = records.len();
            }
            let mut last = None;
            while n_read < records_max
                && (!is_paused || mistake == Mistake::ReadsWhatIsPaused)
                && let Some(record) = records.get(split.position)
                && split.end.is_none_or(|end| split.position < end)
            {
                if let Some(number) = record {
                    out.split(&split.split_id())
                        .collect(RecordId { partition: split.partition, number: *number });
                    n_read += 1;
                    last = Some(*number);
                }
                split.position += 1;
                let n_synced = outside.n_synced.entry(split.partition).or_default();
                *n_synced = split.position.max(*n_synced);
            }
            if mistake == Mistake::RejectsGoodRecords && split.position == 3 && n_read > 0 {
                out.split(&split.split_id()).bad_record("3".to_owned(), &[], "a whim".to_owned());
            }
            let is_at_end = match mistake {
                // The position before the end must be that of a record.
                Mistake::EndsAtTheLastRecord => split
                    .end
                    .is_some_and(|end| end == 0 || last.is_some() && records.get(end - 1) == Some(&last)),
                _ => split.end.is_some_and(|end| split.position >= end),
            };
            if is_at_end {
                at_end.push(split.partition);
            }
        }
        self.splits.retain(|split| !at_end.contains(&split.partition));
        drop(outside);
        if mistake == Mistake::AcknowledgesWhatItReads {
            self.acknowledge(&self.splits.clone());
        }
        if n_read > 0 || !at_end.is_empty() {
            return Poll::Ready(Ok(InputStatus::MoreAvailable));
        }
        if self.splits.is_empty() && !self.more_come {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        Poll::Pending
    }

    fn needs_splits(&self) -> bool {
        self.splits.is_empty() && self.more_come
    }

    fn end_splits(&mut self, ids: &BTreeSet<SplitId>) -> Result<()> {
        self.splits.retain(|split| !ids.contains(&split.split_id()));
        Ok(())
    }

    fn set_paused(&mut self, paused: &BTreeSet<SplitId>) {
        if self.source.mistake == Mistake::StaysPaused && paused.is_empty() {
            return;
        }
        self.paused.clone_from(paused);
    }

    fn snapshot(&mut self) -> Result<Vec<ToySplit>> {
        let mut splits = self.splits.clone();
        for split in &mut splits {
            match self.source.mistake {
                Mistake::ResumesAt => split.position = split.position.saturating_sub(1),
                Mistake::ResumesTooFar => split.position += 1,
                _ => {}
            }
        }
        if self.source.mistake == Mistake::AcknowledgesSnapshots {
            self.acknowledge(&splits);
        }
        self.fetched.clear();
        Ok(splits)
    }

    fn checkpoint_complete(&mut self, splits: &[ToySplit]) -> Result<()> {
        if self.source.mistake != Mistake::NeverAcknowledges {
            self.acknowledge(splits);
        }
        Ok(())
    }
}

impl SourceSubject for ToySource {
    type Source = Self;

    fn env(&self) -> Env {
        Simulation::new(1).env()
    }
    fn source(&mut self) -> UserResult<Self> {
        Ok(self.clone())
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        let mut outside = self.outside();
        let mut put = Vec::new();
        for idx in 0..n {
            let partition = (idx % outside.partitions.len() as u64) as u32;
            let records = outside.partitions.get_mut(partition as usize).ok_or("no partition")?;
            let number = records.iter().flatten().count() as u64;
            // Offsets have gaps.
            if number == 1 {
                records.push(None);
            }
            records.push(Some(number));
            put.push(RecordId { partition, number });
        }
        Ok(put)
    }
    fn identify(&self, record: &RecordId) -> RecordId {
        *record
    }
    fn start(&self) -> SourceStart {
        if self.starts_with_new { SourceStart::NewOnly } else { SourceStart::Everything }
    }
    fn acknowledged(&mut self) -> UserResult<Option<BTreeMap<u32, u64>>> {
        // The other mistakes are to be caught without this help.
        let tells = matches!(
            self.mistake,
            Mistake::None
                | Mistake::AcknowledgesWhatItReads
                | Mistake::AcknowledgesSnapshots
                | Mistake::NeverAcknowledges
        );
        Ok(tells.then(|| self.outside().acknowledged.clone()))
    }
    fn events(&self) -> Vec<SourceEvent> {
        vec![
            SourceEvent::AddPartition,
            SourceEvent::HideMetadata,
            SourceEvent::ShowMetadata,
            SourceEvent::Disconnect,
            SourceEvent::GapAtEnd,
            SourceEvent::PowerFailure,
        ]
    }
    fn happen(&mut self, event: SourceEvent) -> UserResult {
        let mut outside = self.outside();
        match event {
            SourceEvent::AddPartition => outside.partitions.push(Vec::new()),
            SourceEvent::HideMetadata => outside.is_hidden = true,
            SourceEvent::ShowMetadata => outside.is_hidden = false,
            SourceEvent::Disconnect => outside.n_disconnects += 1,
            SourceEvent::GapAtEnd => outside.partitions.iter_mut().for_each(|records| records.push(None)),
            SourceEvent::PowerFailure if self.mistake == Mistake::SyncsWhatItReads => {
                let Outside { partitions, n_synced, .. } = &mut *outside;
                for (partition, records) in (0..).zip(partitions) {
                    records.truncate(n_synced.get(&partition).copied().unwrap_or_default());
                }
            }
            SourceEvent::PowerFailure => {}
        }
        Ok(())
    }
    fn wait(&mut self, _: &Wakeup) {}
}
