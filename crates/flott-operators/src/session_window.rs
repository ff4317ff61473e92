//! Event-time sessions over aggregates.
//!
//! A key has its open sessions, nearly always one, beside each other in its place; a record that extends one touches
//! nothing else. [`Agenda`] says when to look at a key again: it has one entry per key, made when the key's first session
//! opened, and sessions that have been extended since then are put off.

mod agenda;
mod sessions;

use crate::key_slab::KeySlab;
use crate::keyed::KeyPlacement;
use crate::operator::{Operator, OperatorContext, OperatorOutput};
use crate::user_code::user_error;
use crate::window::{
    Results, SESSIONS, WindowFunction, check_kind, late_record, restore_entries, snapshot_entries,
};
use agenda::{Agenda, DueUntil};
use crate::watermark_state;
use flott_api::windowing::{TimeWindow, Window, WindowAssigner, require_timestamp};
use flott_api::{AggregateFunction, OutputTag, WindowContext};
use flott_state::OperatorSnapshot;
use flott_types::{Data, Error, Key, RecordBatch, Result, Timestamp, Watermark, key_hash};
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
        f.debug_struct("SessionWindowConfig").field("late_records", &self.late_records).finish_non_exhaustive()
    }
}

/// Aggregates event-time sessions: the same results as [`WindowOperator`](crate::WindowOperator) with the event-time
/// trigger and no allowed lateness, sooner.
pub struct SessionWindowOperator<K, T, O, A, S, F, R>
where
    F: AggregateFunction<T>,
{
    config: SessionWindowConfig<T, A, S, F, R>,
    watermark: Watermark,
    processing_time: Timestamp,
    keys: KeySlab<K, Sessions<F::Accumulator>>,
    agenda: Agenda,
    /// How many of the keys have no session.
    n_idle: usize,
    results: Results<O>,
    placement: KeyPlacement,
    progress: usize,
}

impl<K, T, O, A, S, F: AggregateFunction<T>, R> fmt::Debug for SessionWindowOperator<K, T, O, A, S, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionWindowOperator")
            .field("config", &self.config)
            .field("watermark", &self.watermark)
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
            watermark: Watermark::MIN,
            processing_time: 0,
            keys: KeySlab::default(),
            agenda: Agenda::default(),
            n_idle: 0,
            results: Results::default(),
            placement: KeyPlacement::ALL,
            progress: 0,
        })
    }

    #[inline]
    fn add(&mut self, record: &T, timestamp: Timestamp, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let SessionWindowConfig { key_selector, assigner, function, .. } = &self.config;
        let gap_ms = assigner.session_gap_ms(record).map_err(|error| user_error("the session gap", error))?;
        let window = TimeWindow { start: timestamp, end: timestamp.saturating_add(gap_ms) };
        let key = key_selector(record);
        let hash = key_hash(&key);
        if cfg!(debug_assertions) {
            self.placement.check(hash);
        }
        let idx = self.keys.upsert(hash, &key, || {
            self.n_idle += 1;
            Sessions::default()
        });
        let sessions = self.keys.value_mut(idx);
        if let Some(session) = sessions.only_touched_by(window) {
            // An open session ends after the watermark, so the record is not late whatever its own window says.
            session.extend(window);
            function.add(&mut session.accumulator, record);
            return Ok(());
        }
        self.add_slowly(idx, record, window, out);
        Ok(())
    }

    /// Adds a record that opens a session, or to a key with several.
    fn add_slowly(&mut self, idx: u32, record: &T, window: TimeWindow, out: &mut OperatorOutput<'_, O>) {
        let function = &self.config.function;
        let sessions = self.keys.value_mut(idx);
        let was_idle = sessions.is_empty();
        let session = match sessions.merge_touching(window, |earlier, later| function.merge(earlier, later)) {
            Some(session) => session,
            None if window.max_timestamp() <= self.watermark.timestamp() => {
                late_record(record.clone(), window.start, self.config.late_records.as_ref(), out);
                return;
            }
            None => sessions.insert(Session { window, accumulator: function.create_accumulator() }),
        };
        function.add(&mut session.accumulator, record);
        let end = session.window.end;
        self.n_idle -= usize::from(was_idle);
        self.enter(idx, end, window);
    }

    /// Sees to it that the key is looked at when the session that ends at `end` does.
    fn enter(&mut self, idx: u32, end: Timestamp, window: TimeWindow) {
        let sessions = self.keys.value_mut(idx);
        // Not `<`: the end of time is also what an idle key has.
        if end <= sessions.look_again_at {
            sessions.look_again_at = end;
            self.agenda.insert(end, idx, window.end.saturating_sub(window.start));
        }
    }

    /// Emits the sessions that the watermark has passed, in the order of their ends.
    fn fire(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let until = self.watermark.timestamp().saturating_add(1);
        let (mut entries, mut due) = (Vec::new(), Vec::new());
        while let Some(DueUntil(due_until)) = self.agenda.take_due(until, &mut entries) {
            for (at, idx) in entries.drain(..) {
                let sessions = self.keys.value_mut(idx);
                // An entry does not count if an earlier one has been made for the key since, or the key is gone.
                if sessions.look_again_at != at || sessions.is_empty() {
                    continue;
                }
                sessions.take_until(due_until, |session| due.push((idx, session)));
                sessions.look_again_at = sessions.first_end().unwrap_or(Timestamp::MAX);
                match sessions.first_end() {
                    Some(end) => self.agenda.insert(end, idx, 0),
                    None => self.n_idle += 1,
                }
            }
            self.results.expect(due.len());
            due.sort_by_key(|(_, session)| session.window.end);
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
        let window = window.ok_or_else(|| Error::user("the windows of the session assigner are not time windows"))?;
        let ctx =
            WindowContext { window: &window, watermark: self.watermark, processing_time: self.processing_time };
        let result = self.config.function.get_result(&session.accumulator);
        let (key, then) = (self.keys.key(idx), &mut self.config.then);
        self.results.fire(session.window.max_timestamp(), out, |out| then.apply(key, &ctx, result, out))
    }

    /// Removes keys without sessions when they are more than half of all: a key that comes back soon, as most do, is
    /// then still there.
    fn forget_idle_keys(&mut self) {
        if self.n_idle <= IDLE_KEYS_MIN.max(self.keys.len() / 2) {
            return;
        }
        for idx in 0..self.keys.cells().len() as u32 {
            if self.keys.value(idx).is_empty() {
                self.keys.remove(idx);
            }
        }
        self.n_idle = 0;
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
        for (idx, (record, timestamp)) in batch.iter().enumerate() {
            self.progress = idx;
            self.add(record, require_timestamp(timestamp)?, out)?;
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        if watermark > self.watermark {
            self.watermark = watermark;
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
        watermark_state::save(self.watermark, snapshot)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.placement.check_snapshot(snapshot)?;
        check_kind(SESSIONS, snapshot)?;
        self.watermark = watermark_state::load(snapshot)?;
        let max_parallelism = self.placement.max_parallelism();
        restore_entries(SESSIONS, max_parallelism, snapshot, |hash, key, session: Session<F::Accumulator>| {
            let idx = self.keys.upsert(hash, &key, Sessions::default);
            let window = session.window;
            self.keys.value_mut(idx).insert(session);
            self.enter(idx, window.end, window);
        })
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

#[cfg(test)]
mod tests;
