//! Event-time sessions over aggregates.
//!
//! A key has its open sessions, nearly always one, beside each other in its place; a record that extends one touches
//! nothing else. [`Calendar`] says when to look at a key again: it has one entry per key, made when the key's first session
//! opened, and sessions that have been extended since then are put off.

mod agenda;
mod calendar;
mod sessions;

use crate::key_slab::KeySlab;
use crate::keyed::KeyPlacement;
use crate::look_ahead::KeysAhead;
use crate::operator::{Operator, OperatorContext, OperatorOutput};
use crate::user_code::{Progress, user_error};
use crate::watermark_state;
use crate::window::{
    Results, SESSIONS, WindowFunction, check_kind, late_record, restore_entries, snapshot_entries,
};
use calendar::Calendar;
use flott_api::windowing::{TimeWindow, Window, WindowAssigner, require_timestamp};
use flott_api::{AggregateFunction, OutputTag, WindowContext};
use flott_state::OperatorSnapshot;
use flott_types::{Data, Error, Key, RecordBatch, Result, Timestamp, Watermark};
use sessions::{Session, Sessions};
use std::fmt;

/// Fewer keys without sessions are not worth removing.
const IDLE_KEYS_MIN: usize = 1024;

/// What a [`SessionWindowOperator`] is made from. The trigger is the event-time trigger, the allowed lateness 0.
pub struct SessionWindowConfig<T, A, S, F, R> {
    /// The key of a record.
    pub key_selector: S,
    /// Says the gap: its `session_gap_ms` is all that is used of it.
    pub assigner: A,
    /// What sessions keep.
    pub function: F,
    /// What becomes of the result.
    pub then: R,
    /// Where records go that belong to a session which has fired; without a tag they are counted and dropped.
    pub late_records: Option<OutputTag<T>>,
}

impl<T, A: Clone, S: Clone, F: Clone, R: Clone> Clone for SessionWindowConfig<T, A, S, F, R> {
    fn clone(&self) -> Self {
        Self {
            key_selector: self.key_selector.clone(),
            assigner: self.assigner.clone(),
            function: self.function.clone(),
            then: self.then.clone(),
            late_records: self.late_records.clone(),
        }
    }
}

impl<T, A, S, F, R> fmt::Debug for SessionWindowConfig<T, A, S, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionWindowConfig")
            .field("late_records", &self.late_records)
            .finish_non_exhaustive()
    }
}

/// Aggregates event-time sessions: the same results as [`WindowOperator`](crate::WindowOperator) with the event-time
/// trigger and no allowed lateness, sooner.
pub struct SessionWindowOperator<K, T, O, A, S, F, R>
where
    F: AggregateFunction<T>,
{
    config: SessionWindowConfig<T, A, S, F, R>,
    keys: KeySlab<K, Sessions<F::Accumulator>>,
    ahead: KeysAhead<K>,
    calendar: Calendar,
    processing_time: Timestamp,
    results: Results<O>,
    placement: KeyPlacement,
    progress: usize,
}

impl<K, T, O, A, S, F: AggregateFunction<T>, R> fmt::Debug for SessionWindowOperator<K, T, O, A, S, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionWindowOperator")
            .field("config", &self.config)
            .field("watermark", &self.calendar.watermark)
            .finish_non_exhaustive()
    }
}

impl<K, T, O, A, S, F, R> SessionWindowOperator<K, T, O, A, S, F, R>
where
    K: Key,
    T: Data,
    O: Send,
    A: WindowAssigner<T>,
    S: Fn(&T) -> K + Send,
    F: AggregateFunction<T>,
    R: WindowFunction<K, A::Window, F::Output, O>,
{
    /// An operator without open sessions.
    ///
    /// # Errors
    /// If the assigner does not make event-time sessions.
    pub fn new(config: SessionWindowConfig<T, A, S, F, R>) -> Result<Self> {
        if !config.assigner.is_event_time_session() {
            return Err(Error::user("the window assigner does not make event-time sessions"));
        }
        Ok(Self {
            config,
            keys: KeySlab::default(),
            ahead: KeysAhead::default(),
            calendar: Calendar::default(),
            processing_time: 0,
            results: Results::default(),
            placement: KeyPlacement::ALL,
            progress: 0,
        })
    }

    /// Emits the sessions that the watermark has passed, in the order of their ends.
    fn fire(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let (mut entries, mut due) = (Vec::new(), Vec::new());
        while let Some(due_until) = self.calendar.take_due(&mut entries) {
            self.keys.look_at(entries.iter().map(|(_, idx)| *idx));
            for (at, idx) in entries.drain(..) {
                let sessions = self.keys.value_mut(idx);
                self.calendar.look_at(sessions, idx, at, due_until, |session| due.push((idx, session)));
            }
            self.results.expect(due.len());
            due.sort_unstable_by_key(|(idx, session)| (session.window.end, *idx));
            for (idx, session) in due.drain(..) {
                self.emit(idx, session, out)?;
            }
        }
        self.forget_idle_keys();
        Ok(())
    }

    fn emit(
        &mut self,
        idx: u32,
        session: Session<F::Accumulator>,
        out: &mut OperatorOutput<'_, O>,
    ) -> Result<()> {
        let window = A::Window::from_time_window(session.window);
        let window =
            window.ok_or_else(|| Error::user("the windows of the session assigner are not time windows"))?;
        let ctx = WindowContext {
            window: &window,
            watermark: self.calendar.watermark,
            processing_time: self.processing_time,
        };
        let result = self.config.function.get_result(&session.accumulator);
        let (key, then) = (self.keys.key(idx), &mut self.config.then);
        self.results.fire(session.window.max_timestamp(), out, |out| then.apply(key, &ctx, result, out))
    }

    /// Removes keys without sessions when they are more than half of all: a key that comes back soon, as most do, is
    /// then still there.
    fn forget_idle_keys(&mut self) {
        let n_idle = self.keys.len() - self.calendar.n_active();
        if n_idle <= IDLE_KEYS_MIN.max(self.keys.len() / 2) {
            return;
        }
        for idx in 0..self.keys.cells().len() as u32 {
            if self.keys.value_mut(idx).is_empty() {
                self.keys.remove(idx);
            }
        }
    }
}

impl<K, T, O, A, S, F, R> Operator<T, O> for SessionWindowOperator<K, T, O, A, S, F, R>
where
    K: Key,
    T: Data,
    O: Send,
    A: WindowAssigner<T>,
    S: Fn(&T) -> K + Send,
    F: AggregateFunction<T>,
    R: WindowFunction<K, A::Window, F::Output, O>,
{
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        self.placement = KeyPlacement::new(ctx);
        self.processing_time = ctx.env.processing_time();
        Ok(())
    }

    fn process_batch(&mut self, batch: RecordBatch<T>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let SessionWindowConfig { key_selector, assigner, function, late_records, .. } = &self.config;
        let (records, calendar) = (batch.records(), &mut self.calendar);
        let progress = Progress::start(&mut self.progress);
        self.ahead.for_each(&mut self.keys, records, key_selector, progress, |keys, hash, key, nth| {
            if cfg!(debug_assertions) {
                self.placement.check(hash);
            }
            let (record, start) = (&records[nth], require_timestamp(batch.timestamp(nth))?);
            let gap_ms =
                assigner.session_gap_ms(record).map_err(|error| user_error("the session gap", error))?;
            let window = TimeWindow { start, end: start.saturating_add(gap_ms) };
            let idx = keys.upsert(hash, key, Sessions::default);
            let sessions = keys.value_mut(idx);
            // An open session ends after the watermark, so a record that touches it is not late.
            if let Some(session) = sessions.extend_only(window) {
                function.add(&mut session.accumulator, record);
            } else if let Some(session) = calendar.open_or_merge(sessions, idx, window, function) {
                function.add(&mut session.accumulator, record);
            } else {
                late_record(record.clone(), start, late_records.as_ref(), out);
            }
            Ok(())
        })
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        if watermark > self.calendar.watermark {
            self.calendar.watermark = watermark;
            self.fire(out)?;
            self.results.flush(out)?;
        }
        out.emit_watermark(watermark)
    }

    fn on_processing_time(&mut self, now: Timestamp, _: &mut OperatorOutput<'_, O>) -> Result<()> {
        self.processing_time = now;
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        snapshot.max_parallelism = max_parallelism;
        let cells = self.keys.cells().iter();
        let entries = cells.flat_map(|(key, sessions)| sessions.iter().map(move |session| (key, session)));
        let entries = snapshot_entries(SESSIONS, max_parallelism, entries)?;
        snapshot.keyed.insert(SESSIONS.to_owned(), entries);
        watermark_state::save(self.calendar.watermark, snapshot)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.placement.check_snapshot(snapshot)?;
        check_kind(SESSIONS, snapshot)?;
        self.calendar.watermark = watermark_state::load(snapshot)?;
        let max_parallelism = self.placement.max_parallelism();
        restore_entries(SESSIONS, max_parallelism, snapshot, |hash, key, session: Session<F::Accumulator>| {
            let idx = self.keys.upsert(hash, &key, Sessions::default);
            self.calendar.restore(self.keys.value_mut(idx), idx, session);
        })
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

#[cfg(test)]
mod tests;
