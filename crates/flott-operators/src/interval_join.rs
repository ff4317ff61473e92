//! Joins records of two keyed streams whose timestamps lie within an interval of each other.

mod buffer;

use crate::keyed::{KeyPlacement, local_state};
use crate::operator::{OperatorContext, OperatorOutput, TwoInputOperator};
use crate::user_code::user_error;
use buffer::Buffers;
use flott_api::{BoxError, Collector, OutputTag, UserResult};
use flott_state::{
    BegunSnapshot, GroupLayout, HandleTypes, KeyedSchemas, KeyedTable, OperatorSnapshot, SnapshotProgress,
    StateTypes, TimerService,
};
use flott_types::{
    Data, Error, ErrorKind, Key, NO_TIMESTAMP, RecordBatch, Result, Timestamp, Watermark, key_hash,
};
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::Ordering;

/// The keyed state with the records that may still find a partner.
const BUFFERS: &str = "_interval_join";

/// Output is sent on when there are this many records: one record may have very many partners.
const EMIT_AT: usize = 1024;

/// How much later than a left record a right record may be to be joined with it, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinInterval {
    lower_ms: i64,
    upper_ms: i64,
}

impl JoinInterval {
    /// The interval `bounds` of (right timestamp - left timestamp), in milliseconds; negative is earlier.
    ///
    /// # Errors
    /// If it is empty, or open to one side: state would grow for ever.
    pub fn new(bounds: impl RangeBounds<i64>) -> Result<Self> {
        let lower_ms = match bounds.start_bound() {
            Bound::Included(lower) => Some(*lower),
            Bound::Excluded(lower) => lower.checked_add(1),
            Bound::Unbounded => None,
        };
        let upper_ms = match bounds.end_bound() {
            Bound::Included(upper) => Some(*upper),
            Bound::Excluded(upper) => upper.checked_sub(1),
            Bound::Unbounded => None,
        };
        let (Some(lower_ms), Some(upper_ms)) = (lower_ms, upper_ms) else {
            return Err(Error::user("an interval join needs a lower and an upper bound"));
        };
        if lower_ms > upper_ms {
            let message =
                format!("no record is joined between {lower_ms} ms and {upper_ms} ms, both inclusive");
            return Err(Error::user(message));
        }
        Ok(Self { lower_ms, upper_ms })
    }
}

/// Calls a function for each pair of a left and a right record with the same key whose distance in event time is within
/// a [`JoinInterval`]. What it emits has the later of both timestamps.
///
/// A record at or behind the watermark is late: it is dropped and counted, or goes to a side output.
pub struct IntervalJoinOperator<K, L, R, F, S1, S2> {
    key_selector1: S1,
    key_selector2: S2,
    interval: JoinInterval,
    function: F,
    late_left: Option<OutputTag<L>>,
    late_right: Option<OutputTag<R>>,
    buffers: KeyedTable<K, Buffers<L, R>>,
    timers: TimerService<K, ()>,
    schemas: KeyedSchemas,
    placement: KeyPlacement,
    progress: usize,
}

impl<K, L, R, F, S1, S2> fmt::Debug for IntervalJoinOperator<K, L, R, F, S1, S2> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntervalJoinOperator").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl<K: Key, L: Data, R: Data, F, S1, S2> IntervalJoinOperator<K, L, R, F, S1, S2> {
    /// An operator that calls `function` (`FnMut(&L, &R, &mut Collector<O>) -> UserResult`) for pairs whose keys,
    /// found by `key_selector1` (`Fn(&L) -> K`) and `key_selector2` (`Fn(&R) -> K`), are equal.
    pub fn new(key_selector1: S1, key_selector2: S2, interval: JoinInterval, function: F) -> Self {
        Self {
            key_selector1,
            key_selector2,
            interval,
            function,
            late_left: None,
            late_right: None,
            buffers: KeyedTable::default(),
            timers: TimerService::default(),
            schemas: KeyedSchemas::default(),
            placement: KeyPlacement::ALL,
            progress: 0,
        }
    }

    /// Sends late records of the left stream to `tag`.
    #[must_use]
    pub fn with_late_left(mut self, tag: OutputTag<L>) -> Self {
        self.late_left = Some(tag);
        self
    }

    /// Sends late records of the right stream to `tag`.
    #[must_use]
    pub fn with_late_right(mut self, tag: OutputTag<R>) -> Self {
        self.late_right = Some(tag);
        self
    }

    /// Buffers a record of the key that was loaded until `expires` has passed; some records need not wait at all.
    fn keep(&mut self, hash: u64, key: &K, expires: Timestamp, insert: impl FnOnce(&mut Buffers<L, R>)) {
        if expires <= self.timers.event_time.of_hash(hash).timestamp() {
            return;
        }
        if let Some(buffers) = self.buffers.get_mut(hash, key) {
            insert(buffers);
            return;
        }
        insert(self.buffers.get_or_insert_with(hash, key, Buffers::default));
        self.timers.event.register(expires, key, &());
    }

    /// Drops what the watermark has passed of the keys whose timers are due.
    fn clean_up(&mut self) -> Result<()> {
        let watermark = self.timers.event_time.watermark();
        let JoinInterval { lower_ms, upper_ms } = self.interval;
        while let Some((_, key, ())) = self.timers.event.pop_due(watermark.timestamp()) {
            let hash = key_hash(&key);
            let buffers = self.buffers.load_mut(hash, &key)?.get_mut(hash, &key);
            let Some(buffers) = buffers else {
                let message = "the state of an interval join has a timer of a key without records";
                return Err(Error::new(ErrorKind::Corruption, message));
            };
            let left = buffers.left.expire(watermark, upper_ms);
            let right = buffers.right.expire(watermark, lower_ms.saturating_neg());
            match left.into_iter().chain(right).min() {
                Some(next) => self.timers.event.register(next, &key, &()),
                None => drop(self.buffers.remove(hash, &key)),
            }
        }
        Ok(())
    }
}

/// Whether a record comes too late to be joined; an error if it has no timestamp.
fn is_late(timestamp: Timestamp, watermark: Watermark) -> Result<bool> {
    if timestamp == NO_TIMESTAMP {
        return Err(Error::user(
            "an interval join needs timestamps: assign timestamps and watermarks before it",
        ));
    }
    Ok(timestamp <= watermark.timestamp())
}

fn set_late_aside<T: Data, O>(
    tag: Option<&OutputTag<T>>,
    record: T,
    timestamp: Timestamp,
    out: &mut OperatorOutput<'_, O>,
) {
    match tag {
        Some(tag) => out.sides().push(tag, record, timestamp),
        None => drop(out.metrics().late_records_dropped.fetch_add(1, Ordering::Relaxed)),
    }
}

impl<K, L, R, F, S1, S2> IntervalJoinOperator<K, L, R, F, S1, S2>
where
    K: Key,
    L: Data,
    R: Data,
    S1: Fn(&L) -> K + Send,
    S2: Fn(&R) -> K + Send,
{
    fn join_left<O>(
        &mut self,
        left: L,
        timestamp: Timestamp,
        made: &mut RecordBatch<O>,
        out: &mut OperatorOutput<'_, O>,
    ) -> Result<()>
    where
        F: FnMut(&L, &R, &mut Collector<'_, O>) -> UserResult,
    {
        let key = (self.key_selector1)(&left);
        let hash = key_hash(&key);
        self.placement.check(hash);
        if is_late(timestamp, self.timers.event_time.of_hash(hash))? {
            set_late_aside(self.late_left.as_ref(), left, timestamp, out);
            return Ok(());
        }
        let JoinInterval { lower_ms, upper_ms } = self.interval;
        if let Some(buffers) = self.buffers.load_mut(hash, &key)?.get(hash, &key) {
            let (from, to) = (timestamp.saturating_add(lower_ms), timestamp.saturating_add(upper_ms));
            for (right_timestamp, right) in buffers.right.between(from, to) {
                let mut collector = Collector::new(made, out.sides(), timestamp.max(right_timestamp));
                (self.function)(&left, right, &mut collector).map_err(join_error)?;
                emit_if_full(made, out)?;
            }
        }
        let expires = timestamp.saturating_add(upper_ms);
        self.keep(hash, &key, expires, |buffers| buffers.left.insert(timestamp, left));
        Ok(())
    }

    fn join_right<O>(
        &mut self,
        right: R,
        timestamp: Timestamp,
        made: &mut RecordBatch<O>,
        out: &mut OperatorOutput<'_, O>,
    ) -> Result<()>
    where
        F: FnMut(&L, &R, &mut Collector<'_, O>) -> UserResult,
    {
        let key = (self.key_selector2)(&right);
        let hash = key_hash(&key);
        self.placement.check(hash);
        if is_late(timestamp, self.timers.event_time.of_hash(hash))? {
            set_late_aside(self.late_right.as_ref(), right, timestamp, out);
            return Ok(());
        }
        let JoinInterval { lower_ms, upper_ms } = self.interval;
        if let Some(buffers) = self.buffers.load_mut(hash, &key)?.get(hash, &key) {
            let (from, to) = (timestamp.saturating_sub(upper_ms), timestamp.saturating_sub(lower_ms));
            for (left_timestamp, left) in buffers.left.between(from, to) {
                let mut collector = Collector::new(made, out.sides(), timestamp.max(left_timestamp));
                (self.function)(left, &right, &mut collector).map_err(join_error)?;
                emit_if_full(made, out)?;
            }
        }
        let expires = timestamp.saturating_sub(lower_ms);
        self.keep(hash, &key, expires, |buffers| buffers.right.insert(timestamp, right));
        Ok(())
    }
}

fn join_error(error: BoxError) -> Error {
    user_error("the join function", error)
}

fn emit_if_full<O>(made: &mut RecordBatch<O>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
    if made.len() >= EMIT_AT { out.emit(made.take()) } else { Ok(()) }
}

impl<K, L, R, O, F, S1, S2> TwoInputOperator<L, R, O> for IntervalJoinOperator<K, L, R, F, S1, S2>
where
    K: Key,
    L: Data,
    R: Data,
    F: FnMut(&L, &R, &mut Collector<'_, O>) -> UserResult + Send,
    S1: Fn(&L) -> K + Send,
    S2: Fn(&R) -> K + Send,
{
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.placement = KeyPlacement::new(ctx);
        self.buffers = local_state(ctx)?.table();
        self.timers = TimerService::new(self.placement.event_time());
        self.schemas = self.placement.schemas();
        self.schemas.bind::<(K, Buffers<L, R>)>(BUFFERS)?;
        TimerService::<K, ()>::bind(&mut self.schemas)
    }

    fn process_batch1(&mut self, batch: RecordBatch<L>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let mut made = RecordBatch::default();
        self.progress = 0;
        for (left, timestamp) in batch {
            let joined = self.join_left(left, timestamp, &mut made, out);
            if joined.is_err() {
                out.emit(made)?;
                return joined;
            }
            self.progress += 1;
        }
        out.emit(made)
    }

    fn process_batch2(&mut self, batch: RecordBatch<R>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let mut made = RecordBatch::default();
        self.progress = 0;
        for (right, timestamp) in batch {
            let joined = self.join_right(right, timestamp, &mut made, out);
            if joined.is_err() {
                out.emit(made)?;
                return joined;
            }
            self.progress += 1;
        }
        out.emit(made)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.timers.event_time.advance(watermark);
        self.clean_up()?;
        out.emit_watermark(watermark)
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        snapshot.keyed.insert(BUFFERS.to_owned(), self.buffers.snapshot(BUFFERS, max_parallelism)?);
        self.timers.snapshot(max_parallelism, snapshot)?;
        self.schemas.snapshot(snapshot)
    }

    fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        self.buffers.begin_snapshot_of_pairs(&begun.stream(
            BUFFERS,
            max_parallelism,
            GroupLayout::Entries,
        ))?;
        self.schemas.snapshot(&mut begun.snapshot)?;
        self.timers.begin_snapshot(max_parallelism, begun)
    }

    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        match self.buffers.snapshot_step(places) {
            SnapshotProgress::Complete => self.timers.snapshot_step(places),
            progress => progress,
        }
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.placement.check_snapshot(snapshot)?;
        self.schemas.restore(snapshot)?;
        let reader = self.schemas.bind::<(K, Buffers<L, R>)>(BUFFERS)?;
        if let Some(groups) = snapshot.keyed.get(BUFFERS) {
            self.buffers.restore(BUFFERS, self.placement.max_parallelism(), groups, &reader)?;
        }
        self.timers.restore(snapshot, &mut self.schemas)
    }

    fn state_types(&self, types: &mut StateTypes, _: &HandleTypes) {
        types.add::<(K, Buffers<L, R>)>(BUFFERS);
        TimerService::<K, ()>::state_types(types);
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

#[cfg(test)]
mod tests;
