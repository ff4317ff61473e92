//! A consistent snapshot of timers that go on being set and fire.
//!
//! As of tables (`table/capture.rs`): at the barrier only a cursor is made, and afterwards the timers are swept in their order and
//! copies of them sent, some at a time. One that leaves before the sweep has come by is sent first; those that are set behind the barrier
//! where the sweep has not been are remembered, and left out.

use super::TimerQueue;
use crate::begun::{EncodeEntry, KeyedStreamSender, SnapshotProgress, TableSender};
use crate::codec::encode_into;
use flott_env::canary;
use flott_types::{Data, Key, StableBuildHasher, Timestamp};
use indexmap::{IndexMap, IndexSet};
use std::fmt;
use std::hash::Hash;
use std::ops::Bound;
use std::sync::Arc;

/// Bytes of copies that may wait to be written: the next ones are made when there are less. What leaves does not wait.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Copies are sent when there are about this many bytes of them.
const PIECE_BYTES: usize = 128 << 10;

/// To copy a timer costs about as much as to look at so many places of a table.
const PLACES_PER_TIMER: usize = 8;

/// A snapshot of a queue that is under way.
pub(super) struct Capture<K, N> {
    /// The sweep has passed all timers of earlier times, and so many of this one.
    cursor: (Timestamp, usize),
    /// Timers that are newer than the barrier, where the sweep has not been.
    newer: IndexMap<Timestamp, IndexSet<(K, N), StableBuildHasher>, StableBuildHasher>,
    copies: Vec<(K, (Timestamp, N))>,
    copies_max: usize,
    encode: EncodeEntry<K, (Timestamp, N)>,
    sender: TableSender,
}

impl<K, N> fmt::Debug for Capture<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl<K: Key, N: Data + Eq + Hash> Capture<K, N> {
    fn is_behind(&self, at: Timestamp, idx: usize) -> bool {
        (at, idx) < self.cursor
    }

    /// A timer was set, and is at this place.
    pub(super) fn on_set(&mut self, at: Timestamp, idx: usize, timer: &(K, N)) {
        if !self.is_behind(at, idx) {
            self.newer.entry(at).or_default().insert(timer.clone());
        }
    }

    /// Before the timer at this place leaves, and the last of its time takes its place.
    pub(super) fn on_leave(
        &mut self,
        at: Timestamp,
        idx: usize,
        timers: &IndexSet<(K, N), StableBuildHasher>,
    ) {
        let last = timers.len() - 1;
        if !self.is_behind(at, idx) {
            self.pass(at, timers.get_index(idx), !canary("forget-what-changes-during-a-sweep"));
        } else if !self.is_behind(at, last) {
            // It moves to where the sweep has been.
            self.pass(at, timers.get_index(last), true);
        }
    }

    /// Sends a timer where the sweep does not come by any more, unless it is newer than the barrier.
    fn pass(&mut self, at: Timestamp, timer: Option<&(K, N)>, sends: bool) {
        let Some(timer) = timer else { return };
        let is_newer = self.newer.get_mut(&at).is_some_and(|newer| newer.swap_remove(timer));
        if !is_newer && sends {
            self.push(at, timer);
        }
    }

    fn push(&mut self, at: Timestamp, (key, namespace): &(K, N)) {
        self.copies.push((key.clone(), (at, namespace.clone())));
        if self.copies.len() >= self.copies_max {
            self.sender.send(std::mem::take(&mut self.copies), &self.encode);
        }
    }

    /// Passes up to so many timers of one time; whether there are more of it.
    fn sweep(
        &mut self,
        at: Timestamp,
        timers: &IndexSet<(K, N), StableBuildHasher>,
        n_left: &mut usize,
    ) -> bool {
        let first = if at == self.cursor.0 { self.cursor.1 } else { 0 };
        for idx in first..timers.len() {
            if *n_left == 0 {
                self.cursor = (at, idx);
                return true;
            }
            *n_left -= 1;
            self.pass(at, timers.get_index(idx), true);
        }
        self.newer.swap_remove(&at);
        self.cursor = (at, timers.len().max(first));
        false
    }
}

impl<K: Key, N: Data + Eq + Hash> TimerQueue<K, N> {
    /// Begins to send the timers that are set now, named `what` in messages: [`TimerQueue::snapshot_step`] goes on with it.
    pub(super) fn begin_snapshot(&mut self, what: &'static str, stream: &KeyedStreamSender) {
        // One at a time: the caller has seen to it.
        self.snapshot_step(usize::MAX);
        self.capture = Some(Box::new(Capture {
            cursor: (Timestamp::MIN, 0),
            newer: IndexMap::default(),
            copies: Vec::new(),
            copies_max: (PIECE_BYTES / size_of::<(K, (Timestamp, N))>().max(1)).max(1),
            encode: Arc::new(move |key, (at, namespace), bytes| {
                encode_into(what, &(at, key, namespace), bytes).map(|()| 1)
            }),
            sender: stream.begin(),
        }));
    }

    /// Goes on with a snapshot that was begun, for about as long as a table takes for so many places. With `usize::MAX` it is completed,
    /// whether or not the writer can follow.
    pub(super) fn snapshot_step(&mut self, places: usize) -> SnapshotProgress {
        let Self { due, capture } = self;
        let Some(of_queue) = capture else { return SnapshotProgress::Complete };
        if places < usize::MAX && of_queue.sender.waiting_bytes() > WAITING_BYTES_MAX {
            return SnapshotProgress::WriterBehind;
        }
        let mut n_left = (places / PLACES_PER_TIMER).max(1);
        let from = Bound::Included(of_queue.cursor.0);
        for (at, timers) in due.range((from, Bound::Unbounded)) {
            if of_queue.sweep(*at, timers, &mut n_left) {
                return SnapshotProgress::Unfinished;
            }
        }
        of_queue.sender.send(std::mem::take(&mut of_queue.copies), &of_queue.encode);
        of_queue.sender.end();
        *capture = None;
        SnapshotProgress::Complete
    }
}

#[cfg(test)]
mod tests;
