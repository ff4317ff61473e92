//! Timers: keyed state ordered by time.

mod capture;

use crate::begun::{BegunSnapshot, GroupLayout, SnapshotProgress};
use crate::codec::encode_into;
use crate::event_time::KeyedEventTime;
use crate::schemas::{EntryReader, KeyedSchemas, StateTypes};
use crate::snapshot::{KeyGroupBytes, OperatorSnapshot, groups_in_memory};
use crate::table::checked_hash;
use capture::Capture;
use flott_types::{Data, Key, KeyGroup, Result, StableBuildHasher, Timestamp, key_group, key_hash};
use indexmap::{Equivalent, IndexSet};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// Timers of one time domain: at most one per (timestamp, key, namespace).
#[derive(Debug)]
pub struct TimerQueue<K, N> {
    due: BTreeMap<Timestamp, IndexSet<(K, N), StableBuildHasher>>,
    /// The snapshot that is under way.
    capture: Option<Box<Capture<K, N>>>,
}

impl<K, N> Default for TimerQueue<K, N> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), capture: None }
    }
}

impl<K: Key, N: Data + Eq + Hash> TimerQueue<K, N> {
    /// Sets a timer; setting it twice is setting it once. A time in the past fires at the next advance.
    pub fn register(&mut self, at: Timestamp, key: &K, namespace: &N) {
        let timers = self.due.entry(at).or_default();
        if !timers.contains(&TimerRef(key, namespace)) {
            let (idx, _) = timers.insert_full((key.clone(), namespace.clone()));
            if let (Some(capture), Some(timer)) = (&mut self.capture, timers.get_index(idx)) {
                capture.on_set(at, idx, timer);
            }
        }
    }

    /// Removes a timer if it is set.
    pub fn delete(&mut self, at: Timestamp, key: &K, namespace: &N) {
        let Some(timers) = self.due.get_mut(&at) else { return };
        let Some(idx) = timers.get_index_of(&TimerRef(key, namespace)) else { return };
        if let Some(capture) = &mut self.capture {
            capture.on_leave(at, idx, timers);
        }
        timers.swap_remove_index(idx);
        if timers.is_empty() {
            self.due.remove(&at);
        }
    }

    /// Takes one timer that is due at `now`, earliest first.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, K, N)> {
        let mut first = self.due.first_entry().filter(|first| *first.key() <= now)?;
        let at = *first.key();
        if let Some(capture) = &mut self.capture {
            capture.on_leave(at, 0, first.get());
        }
        let timer = first.get_mut().swap_remove_index(0);
        if first.get().is_empty() {
            first.remove();
        }
        let (key, namespace) = timer.expect("a bucket without timers is removed at once");
        Some((at, key, namespace))
    }

    /// When the next timer is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first_key_value().map(|(at, _)| *at)
    }

    /// Number of timers.
    pub fn len(&self) -> usize {
        self.due.values().map(IndexSet::len).sum()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    fn snapshot(&self, what: &str, max_parallelism: u32) -> Result<KeyGroupBytes> {
        let mut groups = BTreeMap::<KeyGroup, Vec<u8>>::new();
        for (at, timers) in &self.due {
            for (key, namespace) in timers {
                let group = key_group(key_hash(key), max_parallelism);
                encode_into(what, &(at, key, namespace), groups.entry(group).or_default())?;
            }
        }
        Ok(groups_in_memory(groups))
    }

    fn restore(
        &mut self,
        what: &str,
        max_parallelism: u32,
        groups: &KeyGroupBytes,
        reader: &EntryReader,
    ) -> Result<()> {
        groups.iter().try_for_each(|(group, bytes)| {
            bytes.for_each_section(|section| {
                reader.read_entries(what, *group, section, |(at, key, namespace): (Timestamp, K, N)| {
                    checked_hash(what, &key, *group, max_parallelism)?;
                    self.due.entry(at).or_default().insert((key, namespace));
                    Ok(())
                })
            })
        })
    }
}

/// A timer to look up: a window operator sets the same one for each record, so looking it up clones no key.
struct TimerRef<'a, K, N>(&'a K, &'a N);

impl<K: Hash, N: Hash> Hash for TimerRef<'_, K, N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0, self.1).hash(state);
    }
}

impl<K: Eq, N: Eq> Equivalent<(K, N)> for TimerRef<'_, K, N> {
    fn equivalent(&self, (key, namespace): &(K, N)) -> bool {
        self.0 == key && self.1 == namespace
    }
}

/// The timers of one operator subtask and the event time it has reached.
#[derive(Debug)]
pub struct TimerService<K, N> {
    /// Fire when the watermark passes.
    pub event: TimerQueue<K, N>,
    /// Fire when the wall clock passes.
    pub processing: TimerQueue<K, N>,
    /// The event time that has been reached.
    pub event_time: KeyedEventTime,
    /// The processing time that the operator was last told, in milliseconds since the epoch.
    pub processing_time: Timestamp,
}

impl<K, N> Default for TimerService<K, N> {
    fn default() -> Self {
        Self::new(KeyedEventTime::default())
    }
}

impl<K, N> TimerService<K, N> {
    /// No timers, at this event time.
    pub fn new(event_time: KeyedEventTime) -> Self {
        let (event, processing) = (TimerQueue::default(), TimerQueue::default());
        Self { event, processing, event_time, processing_time: 0 }
    }
}

const EVENT_TIMERS: &str = "_timers/event";
const PROCESSING_TIMERS: &str = "_timers/processing";

impl<K: Key, N: Data + Eq + Hash> TimerService<K, N> {
    /// Writes timers and event time.
    ///
    /// # Errors
    /// If a key or namespace cannot be serialized.
    pub fn snapshot(&self, max_parallelism: u32, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.max_parallelism = max_parallelism;
        snapshot.keyed.insert(EVENT_TIMERS.into(), self.event.snapshot(EVENT_TIMERS, max_parallelism)?);
        snapshot
            .keyed
            .insert(PROCESSING_TIMERS.into(), self.processing.snapshot(PROCESSING_TIMERS, max_parallelism)?);
        self.event_time.snapshot(snapshot)
    }

    /// Writes event time, and begins to send the timers that are set now: [`TimerService::snapshot_step`] goes on with it, and meanwhile
    /// timers are set and fire as always.
    ///
    /// # Errors
    /// If event time cannot be serialized.
    pub fn begin_snapshot(&mut self, max_parallelism: u32, begun: &mut BegunSnapshot) -> Result<()> {
        begun.snapshot.max_parallelism = max_parallelism;
        for (name, queue) in [(EVENT_TIMERS, &mut self.event), (PROCESSING_TIMERS, &mut self.processing)] {
            queue.begin_snapshot(name, &begun.whole_stream(name, max_parallelism, GroupLayout::Entries));
        }
        self.event_time.snapshot(&mut begun.snapshot)
    }

    /// Goes on with a snapshot that was begun, for about as long as a table takes for so many places; with `usize::MAX` to the end.
    pub fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        match self.event.snapshot_step(places) {
            SnapshotProgress::Complete => self.processing.snapshot_step(places),
            progress => progress,
        }
    }

    /// Adds the types of timers, for [`StateTypes`].
    pub fn state_types(types: &mut StateTypes) {
        types.add::<(Timestamp, K, N)>(EVENT_TIMERS);
        types.add::<(Timestamp, K, N)>(PROCESSING_TIMERS);
    }

    /// Notes in `schemas` what timers are made of; before the first snapshot.
    ///
    /// # Errors
    /// None before a restore.
    pub fn bind(schemas: &mut KeyedSchemas) -> Result<()> {
        schemas.bind::<(Timestamp, K, N)>(EVENT_TIMERS)?;
        schemas.bind::<(Timestamp, K, N)>(PROCESSING_TIMERS)?;
        Ok(())
    }

    /// Reads timers and event time back; `schemas` has restored the types of timers.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`](flott_types::ErrorKind::Corruption) if the bytes are not what was written,
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) if keys or namespaces have changed in a way that does not fit.
    pub fn restore(&mut self, snapshot: &OperatorSnapshot, schemas: &mut KeyedSchemas) -> Result<()> {
        for (name, queue) in [(EVENT_TIMERS, &mut self.event), (PROCESSING_TIMERS, &mut self.processing)] {
            let reader = schemas.bind::<(Timestamp, K, N)>(name)?;
            if let Some(groups) = snapshot.keyed.get(name) {
                queue.restore(name, snapshot.max_parallelism, groups, &reader)?;
            }
        }
        self.event_time.restore(snapshot)
    }
}

#[cfg(test)]
mod tests;
