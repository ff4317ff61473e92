//! Evenly spaced windows over aggregates, by slices, on event time or on the wall clock.
//!
//! Each record is added to one accumulator: that of its key and slice, the longest stretch of time of which all windows
//! consist (Li et al., "No pane, no gain", SIGMOD Record 2005). A tumbling window is one slice. For sliding windows the
//! slices that the watermark has passed are combined by [`TwoStacks`], so that the cost of a record does not grow with
//! the number of windows it is in.

mod checkpoint;
mod grid;
mod two_stacks;

use crate::keyed::{KeyPlacement, local_state};
use crate::operator::{Operator, OperatorContext, OperatorOutput};
use crate::user_code::Progress;
use crate::window::{Results, SLICES, WindowFunction, late_record, window_of};
use checkpoint::{Checkpoints, drained};
use flott_api::windowing::{Slicing, TimeWindow, Window, require_timestamp};
use flott_api::{AggregateFunction, OutputTag, TimeDomain, WindowContext};
use flott_state::{
    BegunSnapshot, HandleTypes, KeyedEventTime, KeyedSchemas, KeyedTable, LocalState, OperatorSnapshot,
    SnapshotProgress, StateTypes,
};
use flott_types::{Data, Key, NO_TIMESTAMP, RecordBatch, Result, Timestamp, Watermark, key_hash};
use grid::SliceGrid;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use two_stacks::TwoStacks;

/// Emptied tables that are kept for the next slices.
const SPARE_TABLES_MAX: usize = 4;

/// What a [`SliceWindowOperator`] is made from. The trigger is the default one, the allowed lateness 0.
pub struct SliceWindowConfig<T, S, F, R> {
    /// The key of a record.
    pub key_selector: S,
    /// How the windows lie.
    pub slicing: Slicing,
    /// Whether a record's time is its timestamp or the wall clock when it comes.
    pub domain: TimeDomain,
    /// What windows keep.
    pub function: F,
    /// What becomes of the result.
    pub then: R,
    /// Where records go that come after all their windows have fired; without a tag they are counted and dropped.
    pub late_records: Option<OutputTag<T>>,
}

impl<T, S: Clone, F: Clone, R: Clone> Clone for SliceWindowConfig<T, S, F, R> {
    fn clone(&self) -> Self {
        Self {
            key_selector: self.key_selector.clone(),
            slicing: self.slicing,
            domain: self.domain,
            function: self.function.clone(),
            then: self.then.clone(),
            late_records: self.late_records.clone(),
        }
    }
}

impl<T, S, F, R> fmt::Debug for SliceWindowConfig<T, S, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SliceWindowConfig")
            .field("slicing", &self.slicing)
            .field("domain", &self.domain)
            .field("late_records", &self.late_records)
            .finish_non_exhaustive()
    }
}

/// Aggregates tumbling or sliding windows: the same results as [`WindowOperator`](crate::WindowOperator) with the default
/// trigger and no allowed lateness, sooner.
///
/// On the wall clock a window fires when its end has come (not in its last millisecond, as there, when more records may
/// come), and when the input ends.
pub struct SliceWindowOperator<K, T, O, W, S, F, R>
where
    F: AggregateFunction<T>,
{
    config: SliceWindowConfig<T, S, F, R>,
    grid: SliceGrid,
    watermark: Watermark,
    /// What the wall clock said; where it tells the time of records it never goes back.
    processing_time: Timestamp,
    /// The time that has passed for the windows: the watermark, or the wall clock without the current millisecond.
    passed: KeyedEventTime,
    /// The end of the last window that has passed: slices until there are in `stacks`.
    fired_until: Timestamp,
    /// The slices that no window has needed yet, by their end.
    open: VecDeque<OpenSlice<K, F::Accumulator>>,
    stacks: TwoStacks<K, F::Accumulator>,
    /// Where the last record went: mostly the next one goes there, too.
    current: Current,
    spare: Vec<KeyedTable<K, F::Accumulator>>,
    local: LocalState,
    schemas: KeyedSchemas,
    checkpoints: Checkpoints,
    /// How many keys the last slice had that was closed.
    n_keys_last: usize,
    results: Results<O>,
    placement: KeyPlacement,
    progress: usize,
    windows: PhantomData<fn() -> W>,
}

/// A key group in snapshots: keys with the end of a slice and what was aggregated in it.
type Entries<K, A> = Vec<(K, (Timestamp, A))>;

struct OpenSlice<K, A> {
    end: Timestamp,
    table: KeyedTable<K, A>,
}

/// The slice from `start` to `end` and what to do with its records.
#[derive(Clone, Copy, Debug)]
struct Current {
    start: Timestamp,
    end: Timestamp,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// The slice at this index of `open`.
    Open(usize),
    /// Some window of the slice has fired, others have not.
    Added,
    /// All windows of the slice have fired.
    Late,
    /// The slice is in no window: windows are further apart than they are long.
    Between,
}

impl Current {
    /// Before the first record, and when indices or lateness have changed.
    const NONE: Self = Self { start: 0, end: 0, place: Place::Between };
}

impl<K, T, O, W, S, F: AggregateFunction<T>, R> fmt::Debug for SliceWindowOperator<K, T, O, W, S, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SliceWindowOperator")
            .field("config", &self.config)
            .field("watermark", &self.watermark)
            .field("open_slices", &self.open.len())
            .finish_non_exhaustive()
    }
}

impl<K, T, O, W, S, F, R> SliceWindowOperator<K, T, O, W, S, F, R>
where
    K: Key,
    T: Data,
    O: Send,
    W: Window,
    S: Fn(&T) -> K + Send,
    F: AggregateFunction<T>,
    R: WindowFunction<K, W, F::Output, O>,
{
    /// An operator without open windows.
    ///
    /// # Panics
    /// If size or slide is not positive, which assigners exclude.
    pub fn new(config: SliceWindowConfig<T, S, F, R>) -> Self {
        Self {
            grid: SliceGrid::new(config.slicing),
            config,
            watermark: Watermark::MIN,
            processing_time: 0,
            passed: KeyedEventTime::default(),
            fired_until: Timestamp::MIN,
            open: VecDeque::new(),
            stacks: TwoStacks::default(),
            current: Current::NONE,
            spare: Vec::new(),
            local: LocalState::default(),
            schemas: KeyedSchemas::default(),
            checkpoints: Checkpoints::default(),
            n_keys_last: 0,
            results: Results::default(),
            placement: KeyPlacement::ALL,
            progress: 0,
            windows: PhantomData,
        }
    }

    /// The slice of `timestamp`, which is opened if need be.
    fn slice_of(&mut self, timestamp: Timestamp) -> Current {
        let start = self.grid.slice_start(timestamp);
        let end = start.saturating_add(self.grid.slice_ms());
        let place = match self.grid.last_window_end(start) {
            None => Place::Between,
            Some(last) if last.saturating_sub(1) <= self.passed.watermark().timestamp() => Place::Late,
            Some(_) if end <= self.fired_until => Place::Added,
            Some(_) => Place::Open(self.open_slice(end)),
        };
        Current { start, end, place }
    }

    /// Takes out what is late for key groups that have come further than others; that is not seen by the slice.
    fn without_late(&self, batch: RecordBatch<T>, out: &mut OperatorOutput<'_, O>) -> RecordBatch<T> {
        if !self.passed.is_ahead() || self.config.domain == TimeDomain::ProcessingTime {
            return batch;
        }
        let mut in_time = RecordBatch::default();
        for (record, timestamp) in batch {
            let passed = self.passed.of_key(&(self.config.key_selector)(&record)).timestamp();
            let is_late = timestamp != NO_TIMESTAMP
                && (self.grid.last_window_end(self.grid.slice_start(timestamp)))
                    .is_some_and(|last| last.saturating_sub(1) <= passed);
            if is_late {
                late_record(record, timestamp, self.config.late_records.as_ref(), out);
            } else {
                in_time.push(record, timestamp);
            }
        }
        in_time
    }

    fn open_slice(&mut self, end: Timestamp) -> usize {
        match self.open.binary_search_by_key(&end, |slice| slice.end) {
            Ok(idx) => idx,
            Err(idx) => {
                let mut table = self.spare.pop().unwrap_or_else(|| self.local.table());
                table.reserve(self.n_keys_last);
                self.open.insert(idx, OpenSlice { end, table });
                idx
            }
        }
    }

    /// Adds records of one slice; `from` is the index of the first in its batch.
    fn add_run(
        &mut self,
        records: &[T],
        timestamps: &[Timestamp],
        from: usize,
        out: &mut OperatorOutput<'_, O>,
    ) -> Result<()> {
        let SliceWindowConfig { key_selector, function, late_records, .. } = &self.config;
        match self.current.place {
            Place::Open(idx) => {
                let table = &mut self.open[idx].table;
                let mut progress = Progress::start_at(&mut self.progress, from);
                let make = || function.create_accumulator();
                let Some(mut table) = table.plain() else {
                    // Apart, so that the loop below stays as short as it is.
                    for record in records {
                        let key = key_selector(record);
                        let hash = key_hash(&key);
                        let table = table.load_mut(hash, &key)?;
                        table.upsert(hash, &key, make, |accumulator| function.add(accumulator, record));
                        progress.advance();
                    }
                    return Ok(());
                };
                for record in records {
                    let key = key_selector(record);
                    let hash = key_hash(&key);
                    self.placement.debug_check(hash);
                    table.upsert(hash, &key, make, |accumulator| function.add(accumulator, record));
                    progress.advance();
                }
            }
            Place::Added => {
                let mut progress = Progress::start_at(&mut self.progress, from);
                for record in records {
                    let key = key_selector(record);
                    let make = || function.create_accumulator();
                    self.stacks.straggle(key_hash(&key), &key, self.current.end, make, |accumulator| {
                        function.add(accumulator, record);
                    });
                    progress.advance();
                }
            }
            Place::Late => {
                for (record, timestamp) in records.iter().zip(timestamps) {
                    late_record(record.clone(), *timestamp, late_records.as_ref(), out);
                }
            }
            Place::Between => {}
        }
        Ok(())
    }

    /// The end of the next window that holds something.
    fn next_window_end(&self) -> Option<Timestamp> {
        if self.stacks.len() > 0 {
            return Some(self.fired_until.saturating_add(self.grid.slide_ms()));
        }
        self.open.front().map(|first| self.grid.first_window_end_from(first.end))
    }

    /// Fires the window that ends at `end`, the next one.
    fn fire(&mut self, end: Timestamp, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let window = TimeWindow { start: self.grid.window_start(end), end };
        self.checkpoints.dropped();
        if self.grid.is_tumbling() {
            return self.fire_slice(window, out);
        }
        self.stacks.remove_until(&self.config.function, window.start);
        while let Some(mut slice) = self.open.pop_front_if(|slice| slice.end <= end) {
            self.n_keys_last = slice.table.len();
            let entries = drained(&mut slice.table)?;
            self.stacks.push(&self.config.function, slice.end, self.checkpoints.last(), entries);
            self.recycle(slice.table);
        }
        let (window_of_type, max_timestamp) = (window_of::<W>(window)?, window.max_timestamp());
        let ctx = WindowContext {
            window: &window_of_type,
            watermark: self.watermark,
            processing_time: self.processing_time,
        };
        let (results, then, passed) = (&mut self.results, &mut self.config.then, &self.passed);
        let is_ahead = passed.is_ahead();
        results.expect(self.stacks.len());
        self.stacks.results(&self.config.function, |key, result| {
            if is_ahead && max_timestamp <= passed.of_key(key).timestamp() {
                // It has fired before the restore.
                return Ok(());
            }
            results.fire(max_timestamp, out, |out| then.apply(key, &ctx, result, out))
        })
    }

    /// Fires a tumbling window: its only slice is given away.
    fn fire_slice(&mut self, window: TimeWindow, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let Some(mut slice) = self.open.pop_front() else { return Ok(()) };
        assert_eq!(slice.end, window.end, "the first open slice is the next window");
        self.n_keys_last = slice.table.len();
        let (window_of_type, max_timestamp) = (window_of::<W>(window)?, window.max_timestamp());
        let ctx = WindowContext {
            window: &window_of_type,
            watermark: self.watermark,
            processing_time: self.processing_time,
        };
        let (results, SliceWindowConfig { function, then, .. }) = (&mut self.results, &mut self.config);
        results.expect(slice.table.len());
        let fire = |key, accumulator| {
            let result = function.get_result(&accumulator);
            results.fire(max_timestamp, out, |out| then.apply(&key, &ctx, result, out))
        };
        slice.table.drain_each(fire)?;
        self.recycle(slice.table);
        Ok(())
    }

    /// Fires the windows that end until `passed`.
    fn advance(&mut self, passed: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        if passed <= self.passed.watermark() {
            return Ok(());
        }
        let complete_until = self.grid.complete_until(passed);
        // Each window once: where time ends the next one ends at the same time.
        let is_due = |end: &Timestamp, fired_until| fired_until < *end && *end <= complete_until;
        while let Some(end) = self.next_window_end().filter(|end| is_due(end, self.fired_until)) {
            self.fired_until = end;
            self.fire(end, out)?;
        }
        self.passed.advance(passed);
        self.fired_until = self.fired_until.max(complete_until);
        self.current = Current::NONE;
        self.results.flush(out)
    }

    fn recycle(&mut self, table: KeyedTable<K, F::Accumulator>) {
        if self.spare.len() < SPARE_TABLES_MAX {
            self.spare.push(table);
        }
    }
}

/// How many of the first timestamps lie in `start..end`.
fn run_length(timestamps: &[Timestamp], start: Timestamp, end: Timestamp) -> usize {
    let length = end.wrapping_sub(start) as u64;
    let is_inside = |timestamp: Timestamp| (timestamp.wrapping_sub(start) as u64) < length;
    // Mostly all do. Without a way out of the loop it takes a few instructions for several records.
    if timestamps.iter().fold(true, |all, timestamp| all & is_inside(*timestamp)) {
        return timestamps.len();
    }
    timestamps.iter().take_while(|timestamp| is_inside(**timestamp)).count()
}

impl<K, T, O, W, S, F, R> Operator<T, O> for SliceWindowOperator<K, T, O, W, S, F, R>
where
    K: Key,
    T: Data,
    O: Send,
    W: Window,
    S: Fn(&T) -> K + Send,
    F: AggregateFunction<T>,
    R: WindowFunction<K, W, F::Output, O>,
{
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.placement = KeyPlacement::new(ctx);
        self.passed = self.placement.event_time();
        self.local = local_state(ctx)?;
        self.schemas = self.placement.schemas();
        self.schemas.bind::<Entries<K, F::Accumulator>>(SLICES)?;
        if self.config.domain == TimeDomain::EventTime {
            self.processing_time = ctx.env.processing_time();
        }
        Ok(())
    }

    fn process_batch(&mut self, batch: RecordBatch<T>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let (records, timestamps) = self.without_late(batch, out).into_columns();
        if self.config.domain == TimeDomain::ProcessingTime {
            if !(self.current.start..self.current.end).contains(&self.processing_time) {
                self.current = self.slice_of(self.processing_time);
            }
            return self.add_run(&records, &timestamps, 0, out);
        }
        if timestamps.is_empty() && !records.is_empty() {
            require_timestamp(NO_TIMESTAMP)?;
        }
        let mut from = 0;
        while let Some(first) = timestamps.get(from) {
            if !(self.current.start..self.current.end).contains(first) {
                self.progress = from;
                self.current = self.slice_of(require_timestamp(*first)?);
            }
            let n = run_length(&timestamps[from..], self.current.start, self.current.end).max(1);
            self.add_run(&records[from..from + n], &timestamps[from..from + n], from, out)?;
            from += n;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.watermark = self.watermark.max(watermark);
        match self.config.domain {
            TimeDomain::EventTime => self.advance(self.watermark, out)?,
            // The last watermark says that the input has ended. Behind it, what comes out would be late downstream.
            TimeDomain::ProcessingTime if watermark == Watermark::MAX => self.advance(watermark, out)?,
            TimeDomain::ProcessingTime => {}
        }
        out.emit_watermark(watermark)
    }

    fn on_processing_time(&mut self, now: Timestamp, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        if self.config.domain == TimeDomain::EventTime {
            self.processing_time = now;
            return Ok(());
        }
        self.processing_time = self.processing_time.max(now);
        self.advance(Watermark(self.processing_time.saturating_sub(1)), out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        if self.config.domain == TimeDomain::EventTime { None } else { self.next_window_end() }
    }

    fn on_end_of_data(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        if self.config.domain == TimeDomain::ProcessingTime {
            self.advance(Watermark::MAX, out)?;
        }
        out.emit_end_of_data()
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.take_snapshot(snapshot)
    }

    fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        self.begin(begun)
    }

    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        let mut progress = self.open.iter_mut().map(|slice| slice.table.snapshot_step(places));
        progress
            .find(|progress| *progress != SnapshotProgress::Complete)
            .unwrap_or(SnapshotProgress::Complete)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.take_over(snapshot)
    }

    fn state_types(&self, types: &mut StateTypes, _: &HandleTypes) {
        types.add::<Entries<K, F::Accumulator>>(SLICES);
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

#[cfg(test)]
mod tests;
