//! Event-time sessions over aggregates.
//!
//! A key has its open sessions, nearly always one, beside each other in its place in the table; a record that extends one
//! touches nothing else. The [`Agenda`] says when to look at a key again: it has one entry that counts per key, made when
//! the key's first session opened. A session that has been extended since is put off until its new end. The agenda has no keys but their
//! hashes, 16 bytes of memory for each key, also where the sessions are on disk.

mod agenda;
mod checkpoint;
mod sessions;

use crate::keyed::{KeyPlacement, local_state};
use crate::operator::{Operator, OperatorContext, OperatorOutput};
use crate::user_code::{Progress, user_error};
use crate::window::{Results, SESSIONS, WindowFunction, late_record, window_of};
use agenda::Agenda;
use flott_api::windowing::{TimeWindow, Window, WindowAssigner, require_timestamp};
use flott_api::{AggregateFunction, OutputTag, WindowContext};
use flott_state::{
    BegunSnapshot, HandleTypes, KeyedEventTime, KeyedSchemas, KeyedTable, OperatorSnapshot, Slot,
    SnapshotProgress, StateTypes,
};
use flott_types::{Data, Error, Key, RecordBatch, Result, Timestamp, Watermark, key_hash};
use sessions::{Session, Sessions};
use std::fmt;
use std::hint::black_box;

/// How many records are looked up ahead of the first one's processing.
const LOOK_AHEAD: usize = 128;

/// What is kept in the second-level cache.
const CACHED_BYTES_MAX: usize = 512 * 1024;

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
    event_time: KeyedEventTime,
    table: KeyedTable<K, Sessions<F::Accumulator>>,
    /// The hashes and keys of the records at hand; empty between batches.
    keys: Vec<(u64, K)>,
    agenda: Agenda,
    /// What the agenda says; empty between watermarks, as the next two.
    looked_at: Vec<(Timestamp, u64)>,
    /// Sessions that the watermark has passed.
    closed: Vec<(K, Session<F::Accumulator>)>,
    order: Vec<Place>,
    schemas: KeyedSchemas,
    processing_time: Timestamp,
    results: Results<O>,
    placement: KeyPlacement,
    progress: usize,
}

/// A key group in snapshots: keys with a session each.
type Entries<K, A> = Vec<(K, Session<A>)>;

impl<K, T, O, A, S, F: AggregateFunction<T>, R> fmt::Debug for SessionWindowOperator<K, T, O, A, S, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionWindowOperator")
            .field("config", &self.config)
            .field("event_time", &self.event_time)
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
            event_time: KeyedEventTime::default(),
            table: KeyedTable::default(),
            keys: Vec::new(),
            agenda: Agenda::default(),
            looked_at: Vec::new(),
            closed: Vec::new(),
            order: Vec::new(),
            schemas: KeyedSchemas::default(),
            processing_time: 0,
            results: Results::default(),
            placement: KeyPlacement::ALL,
            progress: 0,
        })
    }

    /// Adds the records of a batch from index `from` on, as many as there are `keys`.
    fn add(&mut self, batch: &RecordBatch<T>, from: usize, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let SessionWindowConfig { assigner, function, late_records, .. } = &self.config;
        let mut progress = Progress::start_at(&mut self.progress, from);
        for ((record, (hash, key)), at) in batch.records()[from..].iter().zip(self.keys.drain(..)).zip(from..)
        {
            self.placement.debug_check(hash);
            let start = require_timestamp(batch.timestamp(at))?;
            let gap_ms =
                assigner.session_gap_ms(record).map_err(|error| user_error("the session gap", error))?;
            let window = TimeWindow { start, end: start.saturating_add(gap_ms) };
            let mut open = self.table.load_mut(hash, &key)?.slot(hash, &key);
            let session = match &mut open {
                Slot::Occupied(sessions) => {
                    // An open session ends after the watermark, so a record that touches it is not late.
                    if let Some(session) = sessions.extend_last(window) {
                        function.add(&mut session.accumulator, record);
                        progress.advance();
                        continue;
                    }
                    sessions.merge_touching(window, |earlier, later| function.merge(earlier, later))
                }
                Slot::Vacant(_) => None,
            };
            match session {
                Some(session) => function.add(&mut session.accumulator, record),
                None if window.max_timestamp() <= self.event_time.of_hash(hash).timestamp() => {
                    late_record(record.clone(), start, late_records.as_ref(), out);
                }
                None => {
                    let mut session = Session { window, accumulator: function.create_accumulator() };
                    function.add(&mut session.accumulator, record);
                    if insert(open, key, session) {
                        self.agenda.insert(window.end, hash, gap_ms);
                    }
                }
            }
            progress.advance();
        }
        Ok(())
    }

    /// Emits the sessions that the watermark has passed, in the order of their ends.
    fn fire(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let until = self.event_time.watermark().timestamp().saturating_add(1);
        loop {
            let mut looked_at = std::mem::take(&mut self.looked_at);
            let until_now = self.agenda.take_until(until, &mut looked_at);
            for entries in looked_at.chunks(LOOK_AHEAD) {
                look_ahead(&self.table, entries.iter().map(|(_, hash)| *hash));
                entries.iter().try_for_each(|entry| self.close(*entry, until_now))?;
            }
            looked_at.clear();
            self.looked_at = looked_at;
            self.emit_closed(out)?;
            if until_now == until {
                return Ok(());
            }
        }
    }

    /// Takes the sessions that end until `until` from a key that has an entry in the agenda.
    fn close(&mut self, (at, hash): (Timestamp, u64), until: Timestamp) -> Result<()> {
        // An entry does not count if an earlier one has been made for the key since. Of two keys with one hash any will do, for the other one
        // has the same entry.
        let found = self.table.find_mut(hash, |sessions| sessions.look_again_at == at)?;
        let Some(mut open) = found else { return Ok(()) };
        let (key, sessions) = open.get_mut();
        loop {
            let end = sessions.first().window.end;
            if end > until {
                sessions.look_again_at = end;
                self.agenda.insert(end, hash, 0);
                return Ok(());
            }
            self.order.push(Place::new(end, hash, self.closed.len()));
            let Some(session) = sessions.take_first() else { break };
            self.closed.push((key.clone(), session));
        }
        let (key, sessions) = open.remove();
        self.closed.push((key, sessions.into_last()));
        Ok(())
    }

    fn emit_closed(&mut self, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let Self { config, closed, order, results, .. } = self;
        let SessionWindowConfig { function, then, .. } = config;
        let watermark = self.event_time.watermark();
        results.expect(order.len());
        order.sort_unstable();
        for place in order.drain(..) {
            let (key, session) = &closed[place.idx()];
            let (window, end) = (window_of::<A::Window>(session.window)?, session.window.end);
            let ctx = WindowContext { window: &window, watermark, processing_time: self.processing_time };
            let result = function.get_result(&session.accumulator);
            results.fire(end.saturating_sub(1), out, |out| then.apply(key, &ctx, result, out))?;
        }
        closed.clear();
        Ok(())
    }
}

/// The end of a session, some of its key's hash, and its index: sorted as one number, which is twice as fast as one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u128);

impl Place {
    fn new(end: Timestamp, hash: u64, idx: usize) -> Self {
        let idx = u32::try_from(idx).expect("fewer than 2^32 keys per subtask");
        // Flipping the sign puts negative times before positive ones.
        let ascending = u128::from((end ^ Timestamp::MIN).cast_unsigned());
        Self(ascending << 64 | u128::from(hash >> 32) << 32 | u128::from(idx))
    }

    fn idx(self) -> usize {
        (self.0 as u32) as usize
    }
}

/// Reads where the keys with these hashes are found, so that the cache misses of the look-ups that follow happen all at once: with a
/// million keys it takes a third off the whole. A table that lives in the cache is left alone, as is one on disk.
fn look_ahead<K: Key, A: Data>(table: &KeyedTable<K, Sessions<A>>, hashes: impl Iterator<Item = u64>) {
    if table.has_disk() || table.memory_bytes() <= CACHED_BYTES_MAX {
        return;
    }
    // The first entry with the tag of the key mostly is the key's.
    let times = hashes.map(|hash| table.first_of_hash(hash).map_or(0, |found| found.look_again_at));
    black_box(times.fold(0, |all, time| all ^ time));
}

/// Adds a session to a key; says whether the key needs an entry in the agenda for it.
fn insert<K: Key, A>(open: Slot<'_, K, Sessions<A>>, key: K, session: Session<A>) -> bool {
    let end = session.window.end;
    match open {
        Slot::Occupied(sessions) => {
            sessions.insert(session);
            let is_earlier = end < sessions.look_again_at;
            if is_earlier {
                sessions.look_again_at = end;
            }
            is_earlier
        }
        Slot::Vacant(place) => {
            place.insert(key, Sessions::new(session));
            true
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
        self.event_time = self.placement.event_time();
        self.processing_time = ctx.env.processing_time();
        self.table = local_state(ctx)?.table();
        self.schemas = self.placement.schemas();
        self.schemas.bind::<Entries<K, F::Accumulator>>(SESSIONS)?;
        Ok(())
    }

    fn process_batch(&mut self, batch: RecordBatch<T>, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        let mut from = 0;
        for records in batch.records().chunks(LOOK_AHEAD) {
            self.progress = from;
            self.keys.extend(records.iter().map(|record| {
                let key = (self.config.key_selector)(record);
                (key_hash(&key), key)
            }));
            look_ahead(&self.table, self.keys.iter().map(|(hash, _)| *hash));
            self.add(&batch, from, out)?;
            from += records.len();
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, O>) -> Result<()> {
        if self.event_time.advance(watermark) {
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
        self.take_snapshot(snapshot)
    }

    fn begin_snapshot(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        self.begin(begun)
    }

    fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        self.table.snapshot_step(places)
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.take_over(snapshot)
    }

    fn state_types(&self, types: &mut StateTypes, _: &HandleTypes) {
        types.add::<Entries<K, F::Accumulator>>(SESSIONS);
    }

    fn progress(&self) -> usize {
        self.progress
    }
}

#[cfg(test)]
mod tests;
