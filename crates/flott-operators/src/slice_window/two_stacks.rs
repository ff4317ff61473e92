//! A sliding aggregate over whole slices, for all keys at once.
//!
//! An aggregate can be merged but not taken apart again, so what leaves the window cannot be subtracted. Two stacks do
//! without (Tangwongsan, Hirzel, Schneider: "Low-Latency Sliding-Window Aggregation in Worst-Case Constant Time", DEBS
//! 2017, describe the technique, which is older): slices enter at the *back*, where one running accumulator per key
//! covers them all, and leave from the *front*, where the accumulator of a key covers the slices from the oldest on. When
//! the front is empty, the back is turned over: from its newest slice to its oldest, each is merged into the front, and
//! notes what it covered up. Removing the oldest slice then is putting back what it noted.
//!
//! So an entry of a slice (a key with its accumulator) is merged twice and put back once, however many slices a window
//! has; a firing visits each key in the window once. Turning over is the price: it comes once per window length and
//! takes as long as the entries of a window are many.

use crate::key_slab::KeySlab;
use flott_api::AggregateFunction;
use flott_env::canary;
use flott_types::{CheckpointId, Key, Result, Timestamp, key_hash};
use std::borrow::Cow;
use std::collections::VecDeque;

/// The running accumulators of one key.
#[derive(Debug)]
pub(super) struct Running<A> {
    /// Over the slices of the front.
    front: Option<A>,
    /// Over the slices of the back.
    back: Option<A>,
    /// Records that came when their slice had been added, by end of slice, ascending. They are behind the watermark: few.
    stragglers: Stragglers<A>,
}

type Stragglers<A> = Option<Box<StragglerList<A>>>;

#[derive(Debug)]
struct StragglerList<A> {
    slices: Vec<(Timestamp, A)>,
}

impl<A> Running<A> {
    fn new() -> Self {
        Self { front: None, back: None, stragglers: None }
    }

    fn is_empty(&self) -> bool {
        self.front.is_none() && self.back.is_none() && self.stragglers.is_none()
    }

    /// What came late for the slice that ends at `end`.
    fn straggler(&self, end: Timestamp) -> Option<&A> {
        let slices = &self.stragglers.as_ref()?.slices;
        let place = slices.binary_search_by_key(&end, |slice| slice.0).ok()?;
        slices.get(place).map(|(_, accumulator)| accumulator)
    }
}

/// A slice that was added.
#[derive(Debug)]
struct AddedSlice<A> {
    end: Timestamp,
    /// The last checkpoint whose barrier came before it was added.
    added_after: Option<CheckpointId>,
    /// The place of each key and its accumulator in this slice.
    entries: Vec<(u32, A)>,
    /// For a slice of the front, by entry: what the front of the key covers without it.
    covered: Vec<Option<A>>,
}

/// The slices of the window that fires next, and their aggregate by key.
#[derive(Debug)]
pub(super) struct TwoStacks<K, A> {
    keys: KeySlab<K, Running<A>>,
    slices: VecDeque<AddedSlice<A>>,
    /// How many of the slices, from the oldest on, are in the front.
    n_front: usize,
    /// How many keys have stragglers.
    n_straggling: usize,
}

impl<K, A> Default for TwoStacks<K, A> {
    fn default() -> Self {
        Self { keys: KeySlab::default(), slices: VecDeque::new(), n_front: 0, n_straggling: 0 }
    }
}

/// Merges `later` into `earlier` if there is one.
fn merged<T, F: AggregateFunction<T>>(
    function: &F,
    earlier: Option<F::Accumulator>,
    later: &F::Accumulator,
) -> F::Accumulator {
    match earlier {
        Some(mut earlier) => {
            function.merge(&mut earlier, later);
            earlier
        }
        None => later.clone(),
    }
}

impl<K: Key, A: Clone> TwoStacks<K, A> {
    /// Number of keys in the window.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Adds a slice that is later than all before. `added` holds each key once; `added_after` is the last checkpoint whose barrier has come.
    pub(super) fn push<T, F>(
        &mut self,
        function: &F,
        end: Timestamp,
        added_after: Option<CheckpointId>,
        added: Vec<(K, A)>,
    ) where
        F: AggregateFunction<T, Accumulator = A>,
    {
        assert!(self.slices.back().is_none_or(|last| last.end < end), "slices are added in order");
        let entries = added.into_iter().map(|(key, accumulator)| {
            let idx = self.keys.upsert(key_hash(&key), &key, Running::new);
            let running = self.keys.value_mut(idx);
            running.back = Some(merged(function, running.back.take(), &accumulator));
            (idx, accumulator)
        });
        let entries = entries.collect();
        self.slices.push_back(AddedSlice { end, added_after, entries, covered: Vec::new() });
    }

    /// Adds a record to a slice that was added before.
    pub(super) fn straggle(
        &mut self,
        hash: u64,
        key: &K,
        end: Timestamp,
        make: impl FnOnce() -> A,
        add: impl FnOnce(&mut A),
    ) {
        let idx = self.keys.upsert(hash, key, Running::new);
        let list = self.keys.value_mut(idx).stragglers.get_or_insert_with(|| {
            self.n_straggling += 1;
            Box::new(StragglerList { slices: Vec::new() })
        });
        let place = list.slices.binary_search_by_key(&end, |slice| slice.0).unwrap_or_else(|place| {
            list.slices.insert(place, (end, make()));
            place
        });
        add(&mut list.slices[place].1);
    }

    /// Removes the slices that end at or before `start`.
    pub(super) fn remove_until<T, F>(&mut self, function: &F, start: Timestamp)
    where
        F: AggregateFunction<T, Accumulator = A>,
    {
        self.remove_stragglers_until(start);
        while self.slices.front().is_some_and(|oldest| oldest.end <= start) {
            if self.n_front == 0 {
                self.turn_over(function);
            }
            let Some(oldest) = self.slices.pop_front() else { return };
            self.n_front -= 1;
            // Of two entries of one key the one that was turned over last was covered last.
            for ((idx, _), covered) in oldest.entries.into_iter().zip(oldest.covered).rev() {
                let running = self.keys.value_mut(idx);
                running.front = covered;
                if running.is_empty() {
                    self.keys.remove(idx);
                }
            }
        }
        if self.keys.len() == 0 {
            self.keys.clear();
        }
    }

    fn remove_stragglers_until(&mut self, start: Timestamp) {
        if self.n_straggling == 0 {
            return;
        }
        for idx in 0..self.keys.cells().len() as u32 {
            let running = self.keys.value_mut(idx);
            let Some(list) = &mut running.stragglers else { continue };
            list.slices.retain(|slice| slice.0 > start);
            if list.slices.is_empty() {
                running.stragglers = None;
                self.n_straggling -= 1;
                if running.is_empty() {
                    self.keys.remove(idx);
                }
            }
        }
    }

    /// Makes the back the front.
    fn turn_over<T, F>(&mut self, function: &F)
    where
        F: AggregateFunction<T, Accumulator = A>,
    {
        for slice in self.slices.iter_mut().rev() {
            slice.covered.reserve_exact(slice.entries.len());
            for (idx, accumulator) in &slice.entries {
                let running = self.keys.value_mut(*idx);
                running.back = None;
                let covered = running.front.take();
                let mut front = accumulator.clone();
                if let Some(covered) = &covered {
                    function.merge(&mut front, covered);
                }
                running.front = Some(front);
                slice.covered.push(covered);
            }
        }
        self.n_front = self.slices.len();
    }

    /// Calls `each` with each key in the window and its result.
    pub(super) fn results<T, F>(
        &self,
        function: &F,
        mut each: impl FnMut(&K, F::Output) -> Result<()>,
    ) -> Result<()>
    where
        F: AggregateFunction<T, Accumulator = A>,
    {
        for (key, running) in self.keys.cells() {
            let result = match running {
                Running { front: Some(one), back: None, stragglers: None }
                | Running { front: None, back: Some(one), stragglers: None } => function.get_result(one),
                Running { front: None, back: None, stragglers: None } => continue,
                Running { front, back, stragglers } => {
                    let mut all = front.clone();
                    if let Some(back) = back {
                        all = Some(merged(function, all, back));
                    }
                    for (_, straggler) in stragglers.iter().flat_map(|list| &list.slices) {
                        all = Some(merged(function, all, straggler));
                    }
                    let Some(all) = all else { continue };
                    function.get_result(&all)
                }
            };
            each(key, result)?;
        }
        Ok(())
    }

    /// The entries of slices that end behind `from`, by end of slice, with their keys; a key has one in a slice, whenever its records came.
    /// With `base` not those which the checkpoint of this number has: of slices that had been added before its barrier only the entries
    /// with stragglers, which may have come since.
    pub(super) fn entries<T, F>(
        &self,
        function: &F,
        from: Timestamp,
        base: Option<CheckpointId>,
    ) -> Vec<(Timestamp, &K, Cow<'_, A>)>
    where
        F: AggregateFunction<T, Accumulator = A>,
    {
        let mut entries = Vec::new();
        for slice in self.slices.iter().filter(|slice| slice.end > from) {
            let is_new = base.is_none() || (slice.added_after >= base && !canary("forget-closed-slices"));
            if !is_new && self.n_straggling == 0 {
                continue;
            }
            for (idx, accumulator) in &slice.entries {
                let accumulator = match self.keys.cells()[*idx as usize].1.straggler(slice.end) {
                    Some(straggler) => Cow::Owned(merged(function, Some(accumulator.clone()), straggler)),
                    None if is_new => Cow::Borrowed(accumulator),
                    None => continue,
                };
                entries.push((slice.end, self.keys.key(*idx), accumulator));
            }
        }
        if self.n_straggling > 0 {
            for (idx, (key, running)) in self.keys.cells().iter().enumerate() {
                let stragglers = running.stragglers.iter().flat_map(|list| &list.slices);
                let alone = stragglers.filter(|(end, _)| *end > from && !self.has_entry(idx as u32, *end));
                entries.extend(alone.map(|(end, accumulator)| (*end, key, Cow::Borrowed(accumulator))));
            }
            entries.sort_by_key(|(end, ..)| *end);
        }
        entries
    }

    fn has_entry(&self, idx: u32, end: Timestamp) -> bool {
        let slice = self.slices.binary_search_by_key(&end, |slice| slice.end).ok();
        let slice = slice.and_then(|place| self.slices.get(place));
        slice.is_some_and(|slice| slice.entries.iter().any(|(entry, _)| *entry == idx))
    }
}
