//! Sources are made of splits: an enumerator hands them out, readers read them and know exact positions.

use crate::bad_record::BadRecord;
use crate::span::StartingPosition;
use flott_env::Env;
use flott_types::{Data, RecordBatch, Result, SplitId, SubtaskIndex, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::task::{Context, Poll};
use std::time::Duration;

/// Whether a source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundedness {
    /// It ends by itself.
    Bounded,
    /// It goes on until somebody cancels.
    ContinuousUnbounded,
}

/// A part of a source that one reader reads at a time, with the position from which to read on.
pub trait SourceSplit: Clone + Debug + Send + Serialize + DeserializeOwned + 'static {
    /// The identity of the split, whatever its position.
    fn split_id(&self) -> SplitId;

    /// Which of its records belong to the source at all, by the timestamps of the watermark strategy.
    fn span(&self) -> SplitSpan {
        SplitSpan::default()
    }
}

/// The records of a split that belong to the source. Its watermark stays below the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitSpan {
    /// The least timestamp that belongs to it.
    pub from: Option<Timestamp>,
    /// The least timestamp that does not belong to it any more.
    pub until: Option<Timestamp>,
}

/// A source of records.
pub trait Source: Send + Sync + 'static {
    /// What it reads.
    type Record: Data;
    /// What it is made of.
    type Split: SourceSplit;

    /// Whether it ends.
    fn boundedness(&self) -> Boundedness;

    /// Whether it reads sources one after the other: then its readers hold event time at a switch by themselves
    /// ([`SourceReader::has_waiting_splits`]), and its enumerator is told the greatest timestamp that they have read.
    fn is_chain(&self) -> bool {
        false
    }

    /// Makes the enumerator, of which a job has one; `init.restored` holds what an earlier one returned from
    /// [`SplitEnumerator::snapshot`].
    ///
    /// # Errors
    /// If the source cannot be read at all: no such file, wrong options, ….
    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<Self::Split>>>;

    /// Makes the reader of one subtask.
    ///
    /// # Errors
    /// If the reader cannot start.
    fn create_reader(
        &self,
        ctx: SourceReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = Self::Record, Split = Self::Split>>>;
}

/// What an enumerator starts from.
#[derive(Clone, Debug)]
pub struct EnumeratorInit {
    /// The way to clock and files.
    pub env: Env,
    /// The number of readers.
    pub parallelism: u32,
    /// The snapshot of an earlier enumerator, after a restart.
    pub restored: Option<Vec<u8>>,
    /// Where to start if nothing was restored. An enumerator hands out exactly the splits of [`StartingPosition::splits`], or refuses by
    /// name; a point in time it may take as a hint what need not be read, if `has_own_timestamps`: the engine leaves out what is earlier. What it makes
    /// of the position is in its snapshot, and never decided a second time.
    pub start: StartingPosition,
    /// Whether the event time of records is the timestamp that the source gives them. If not, the program takes it from the record, and no
    /// index of the source by time says what is earlier.
    pub has_own_timestamps: bool,
    /// Whether the job takes checkpoints by itself.
    pub takes_checkpoints: bool,
}

/// What a reader knows about its place.
#[derive(Clone, Debug)]
pub struct SourceReaderContext {
    /// The way to clock, files and network.
    pub env: Env,
    /// The subtask that reads.
    pub subtask: SubtaskIndex,
    /// The number of subtasks.
    pub parallelism: u32,
}

/// Hands out splits. It runs beside the job's master; calls never overlap.
///
/// Legal calls: `start (handle_split_request | add_splits_back | discover | snapshot | checkpoint_complete)*`. A split is assigned to
/// one reader at a time; one that was given back may be assigned again.
pub trait SplitEnumerator<S>: Send {
    /// All readers are there: assign what is known.
    ///
    /// # Errors
    /// An error fails the job.
    fn start(&mut self, ctx: &mut dyn SplitEnumeratorContext<S>) -> Result<()>;

    /// A reader has nothing left to read, of all that it was given. It says so once, and again when it was given more and has read that.
    ///
    /// # Errors
    /// An error fails the job.
    fn handle_split_request(
        &mut self,
        subtask: SubtaskIndex,
        ctx: &mut dyn SplitEnumeratorContext<S>,
    ) -> Result<()> {
        let _unused = (subtask, ctx);
        Ok(())
    }

    /// Splits of a failed reader come back with the positions of the last snapshot.
    fn add_splits_back(&mut self, splits: Vec<S>, subtask: SubtaskIndex);

    /// How often to call [`SplitEnumerator::discover`]; `None` for never.
    fn discovery_interval(&self) -> Option<Duration> {
        None
    }

    /// Looks for new splits.
    ///
    /// # Errors
    /// An error fails the job.
    fn discover(&mut self, ctx: &mut dyn SplitEnumeratorContext<S>) -> Result<()> {
        let _unused = ctx;
        Ok(())
    }

    /// Whether what it has decided must not be decided a second time, and is in no checkpoint yet: where "the newest records" begin, for
    /// example. It has kept its splits back, and the engine takes a checkpoint at once; no reader of the source reads anything until this is
    /// false. Only if [`EnumeratorInit::takes_checkpoints`].
    ///
    /// If that checkpoint fails, and the job tolerates it, it is tried again after 100 ms, and then at longer and longer pauses, up to the interval of
    /// checkpoints: the splits stay where they are meanwhile.
    fn awaits_checkpoint(&self) -> bool {
        false
    }

    /// A checkpoint is complete that this enumerator took part in: a restart goes on from it or from a later one. Savepoints are not told.
    ///
    /// # Errors
    /// An error fails the job.
    fn checkpoint_complete(&mut self, ctx: &mut dyn SplitEnumeratorContext<S>) -> Result<()> {
        let _unused = ctx;
        Ok(())
    }

    /// What a new enumerator needs to go on: splits not yet assigned, and what was discovered.
    ///
    /// # Errors
    /// If the state cannot be serialized.
    fn snapshot(&self) -> Result<Vec<u8>>;
}

/// What an enumerator can do.
pub trait SplitEnumeratorContext<S> {
    /// The number of readers.
    fn parallelism(&self) -> u32;
    /// Gives `split` to the reader `subtask`.
    fn assign_split(&mut self, subtask: SubtaskIndex, split: S);
    /// Tells the reader `subtask` that it ends when it has read what it has.
    fn signal_no_more_splits(&mut self, subtask: SubtaskIndex);
    /// In [`SplitEnumerator::handle_split_request`] of a chain of sources: the greatest timestamp that the reader has read.
    fn max_timestamp(&self) -> Option<Timestamp> {
        None
    }
}

/// What a reader says after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputStatus {
    /// Call again.
    MoreAvailable,
    /// All splits are read and no more come.
    EndOfInput,
}

/// Reads the splits of one subtask.
///
/// Legal calls: `(add_splits | no_more_splits | poll_next | set_paused | end_splits | snapshot | checkpoint_complete)*` until `poll_next`
/// returns an error; behind [`InputStatus::EndOfInput`] only the last two. `poll_next` returns `Pending` when nothing can be read now, after it has
/// arranged for the task to be woken.
pub trait SourceReader: Send {
    /// What it reads.
    type Record;
    /// What it reads from.
    type Split;

    /// More to read.
    ///
    /// # Errors
    /// If a split cannot be opened.
    fn add_splits(&mut self, splits: Vec<Self::Split>) -> Result<()>;

    /// [`SourceReader::add_splits`] will not be called again.
    fn no_more_splits(&mut self);

    /// Reads at most about `records_max` records into `out`.
    ///
    /// # Errors
    /// If the source cannot be read; a broken record is no such error but goes to [`SplitOutput::bad_record`].
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SourceOutput<Self::Record>,
    ) -> Poll<Result<InputStatus>>;

    /// Whether it has nothing left to read, and more may come: its enumerator is then told.
    fn needs_splits(&self) -> bool {
        false
    }

    /// These splits are not read further, whatever they still hold: they have ended, and leave the snapshot. Ids that the reader does not
    /// have are ignored.
    ///
    /// # Errors
    /// If another split that waited for them cannot be opened.
    fn end_splits(&mut self, ids: &BTreeSet<SplitId>) -> Result<()>;

    /// Whether splits were added that are not being read yet. They may hold old records, so event time waits for them.
    fn has_waiting_splits(&self) -> bool {
        false
    }

    /// Stops reading exactly these splits until told otherwise: they run ahead of their alignment group.
    fn set_paused(&mut self, paused: &BTreeSet<SplitId>) {
        let _unused = paused;
    }

    /// The splits of this reader with the positions of the first records not yet returned.
    ///
    /// # Errors
    /// If a position cannot be told.
    fn snapshot(&mut self) -> Result<Vec<Self::Split>>;

    /// A checkpoint is complete that holds `splits`, which [`SourceReader::snapshot`] has returned: a restart goes on from there or from
    /// later. What the outside keeps before these positions may go, as far as nobody goes back to an older checkpoint or a savepoint: those are
    /// not told. A checkpoint that is aborted is not told either, and of several only the newest may be.
    ///
    /// # Errors
    /// An error fails the job: one that only concerns who watches is better counted than returned.
    fn checkpoint_complete(&mut self, splits: &[Self::Split]) -> Result<()> {
        let _unused = splits;
        Ok(())
    }
}

/// Where a reader puts records: one [`SplitOutput`] per split.
#[derive(Debug)]
pub struct SourceOutput<T> {
    splits: Vec<SplitOutput<T>>,
}

impl<T> Default for SourceOutput<T> {
    fn default() -> Self {
        Self { splits: Vec::new() }
    }
}

impl<T> SourceOutput<T> {
    /// The output of a split.
    #[expect(clippy::indexing_slicing, reason = "the index was just found or made")]
    pub fn split(&mut self, id: &SplitId) -> &mut SplitOutput<T> {
        let idx = self.splits.iter().position(|split| split.id == *id).unwrap_or_else(|| {
            self.splits.push(SplitOutput::new(id.clone()));
            self.splits.len() - 1
        });
        &mut self.splits[idx]
    }

    /// The outputs, for the source operator to empty.
    pub fn splits_mut(&mut self) -> &mut Vec<SplitOutput<T>> {
        &mut self.splits
    }
}

/// What was read from one split since the source operator last looked.
#[derive(Debug)]
pub struct SplitOutput<T> {
    /// The split.
    pub id: SplitId,
    /// The records, in order.
    pub batch: RecordBatch<T>,
    /// The records that could not be read, in order.
    pub bad_records: Vec<BadRecord>,
    /// Where the first record of the batch stands in the split, for error messages.
    pub position: Option<String>,
    /// The split has ended: it does not hold event time back any more.
    pub finished: bool,
    /// The reader has reached the end of what there is for now.
    pub caught_up: bool,
}

impl<T> SplitOutput<T> {
    fn new(id: SplitId) -> Self {
        Self {
            id,
            batch: RecordBatch::default(),
            bad_records: Vec::new(),
            position: None,
            finished: false,
            caught_up: false,
        }
    }

    /// A record without a timestamp of the source's own.
    #[inline]
    pub fn collect(&mut self, record: T) {
        self.batch.push(record, flott_types::NO_TIMESTAMP);
    }

    /// A record with the timestamp that the source knows for it, in milliseconds since the epoch.
    #[inline]
    pub fn collect_with_timestamp(&mut self, record: T, timestamp: Timestamp) {
        self.batch.push(record, timestamp);
    }

    /// Many records at once.
    pub fn collect_batch(&mut self, mut batch: RecordBatch<T>) {
        self.batch.append(&mut batch);
    }

    /// A record that could not be read; [`OnError`](crate::OnError) decides.
    pub fn bad_record(&mut self, position: impl Into<String>, raw: &[u8], message: impl Into<String>) {
        // The task, which knows the time, notes it.
        let time = flott_types::NO_TIMESTAMP;
        self.bad_records.push(BadRecord::new(self.id.clone(), position.into(), raw, message.into(), time));
    }

    /// As [`SplitOutput::bad_record`], of a message that has a key beside its bytes.
    pub fn bad_message(
        &mut self,
        position: impl Into<String>,
        key: Option<&[u8]>,
        raw: &[u8],
        message: impl Into<String>,
    ) {
        self.bad_record(position, raw, message);
        if let (Some(bad), Some(key)) = (self.bad_records.last_mut(), key) {
            bad.key = Some(key.to_vec());
        }
    }

    /// As [`SplitOutput::bad_record`], of a record of which only the first bytes are known, and not how many there are.
    pub fn bad_record_head(&mut self, position: impl Into<String>, head: &[u8], message: impl Into<String>) {
        self.bad_record(position, head, message);
        if let Some(bad) = self.bad_records.last_mut() {
            (bad.is_truncated, bad.original_len) = (true, None);
        }
    }
}
