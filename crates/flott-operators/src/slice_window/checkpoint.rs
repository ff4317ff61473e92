//! Snapshots of slices, and what of them has changed since an earlier one.
//!
//! An open slice is a table, which knows what has changed in it. A slice that was closed since the checkpoint that this one goes on from is
//! written once more, whole; after that, of closed slices only the entries that late records have come to. No entry is ever removed by
//! itself: slices go in the order of time, so one timestamp for each key group says all. It is written down, and not left to the watermark,
//! because who restores it may have other windows.

use super::{Entries, OpenSlice, SliceWindowOperator};
use crate::window::{SLICES, WindowFunction, check_kind, restore_section, snapshot_entries};
use flott_api::windowing::Window;
use flott_api::{AggregateFunction, TimeDomain};
use flott_env::canary;
use flott_state::{
    BegunSnapshot, GroupLayout, KeyedStreamSender, KeyedTable, OperatorSnapshot, SectionKind, decode,
    encode_into,
};
use flott_types::{CheckpointId, Data, Error, Increment, Key, Result, Timestamp, TimestampText};
use std::borrow::Cow;

/// The barriers between which something has happened.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// The first and the last one that others may go on from.
    range: Option<(CheckpointId, CheckpointId)>,
    /// The last one before the last window fired.
    dropped_after: Option<CheckpointId>,
}

impl Checkpoints {
    /// The last one whose barrier has come.
    pub(super) fn last(&self) -> Option<CheckpointId> {
        self.range.map(|(_, last)| last)
    }

    /// Some slices are not needed any more.
    pub(super) fn dropped(&mut self) {
        self.dropped_after = self.last();
    }

    /// The barrier of the checkpoint that `stream` is for has come: the one that it goes on from.
    fn turn(&mut self, stream: &KeyedStreamSender) -> Option<CheckpointId> {
        let (id, increment) = stream.increment()?;
        let base = match increment {
            Increment::None => return None,
            Increment::Base => None,
            Increment::Since(base) => Some(base),
        };
        let first = self.range.map_or(id, |(first, _)| first);
        self.range = Some((first, id));
        base.filter(|base| first <= *base)
    }

    /// Whether slices were dropped since the barrier of `base`.
    fn has_dropped_since(&self, base: CheckpointId) -> bool {
        self.dropped_after >= Some(base)
    }
}

/// The entries of a slice that goes into the stacks, which are in memory.
pub(super) fn drained<K: Key, A: Data>(table: &mut KeyedTable<K, A>) -> Result<Vec<(K, A)>> {
    let mut entries = Vec::with_capacity(table.len());
    table.drain_each(|key, accumulator| {
        entries.push((key, accumulator));
        Ok(())
    })?;
    Ok(entries)
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
    /// No window needs slices that end by then any more; those that the next one will remove may still be there.
    fn dropped_until(&self) -> Timestamp {
        self.grid.next_window_start(self.fired_until)
    }

    pub(super) fn take_snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        snapshot.max_parallelism = max_parallelism;
        // In the order in which a restored operator writes them, which has no stragglers.
        let added = self.stacks.entries(&self.config.function, self.dropped_until(), None).into_iter();
        let added = added.map(|(end, key, accumulator)| (key, (end, accumulator)));
        let mut on_disk = Vec::new();
        for slice in self.open.iter().filter(|slice| slice.table.has_disk()) {
            slice.table.for_each(|key, accumulator| {
                on_disk.push((key.clone(), slice.end, accumulator.clone()));
                Ok(())
            })?;
        }
        let on_disk = on_disk.iter().map(|(key, end, accumulator)| (key, (*end, Cow::Borrowed(accumulator))));
        let in_memory = self.open.iter().filter(|slice| !slice.table.has_disk());
        let open = in_memory.flat_map(|slice| {
            slice.table.iter().map(|(key, accumulator)| (key, (slice.end, Cow::Borrowed(accumulator))))
        });
        let entries = snapshot_entries(SLICES, max_parallelism, added.chain(on_disk).chain(open))?;
        snapshot.keyed.insert(SLICES.to_owned(), entries);
        self.schemas.snapshot(snapshot)?;
        self.passed.snapshot(snapshot)
    }

    pub(super) fn begin(&mut self, begun: &mut BegunSnapshot) -> Result<()> {
        let max_parallelism = self.placement.max_parallelism();
        begun.snapshot.max_parallelism = max_parallelism;
        self.schemas.snapshot(&mut begun.snapshot)?;
        self.passed.snapshot(&mut begun.snapshot)?;
        let stream = begun.stream(SLICES, max_parallelism, GroupLayout::Counted);
        let dropped_until = self.dropped_until();
        let base = self.checkpoints.turn(&stream);
        if let Some(base) = base {
            stream.set_continues();
            if self.checkpoints.has_dropped_since(base) && !canary("forget-dropped-slices") {
                stream.send_removed_everywhere(self.placement.range(), dropped_until);
            }
        }
        let added = self.stacks.entries(&self.config.function, dropped_until, base).into_iter();
        let added = added.map(|(end, key, accumulator)| (key.clone(), (end, accumulator.into_owned())));
        stream.send_all(added.collect(), |key, entry: &(Timestamp, F::Accumulator), bytes| {
            encode_into(SLICES, &(key, entry), bytes).map(|()| 1)
        });
        for OpenSlice { end, table } in &mut self.open {
            let end = *end;
            table.begin_snapshot(&stream, move |key, accumulator, bytes| {
                encode_into(SLICES, &(key, (end, accumulator)), bytes).map(|()| 1)
            })?;
        }
        Ok(())
    }

    pub(super) fn take_over(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.placement.check_snapshot(snapshot)?;
        check_kind(SLICES, snapshot)?;
        self.schemas.restore(snapshot)?;
        let reader = self.schemas.bind::<Entries<K, F::Accumulator>>(SLICES)?;
        self.passed.restore(snapshot)?;
        let passed = self.passed.watermark();
        self.fired_until = self.grid.complete_until(passed);
        match self.config.domain {
            TimeDomain::EventTime => self.watermark = passed,
            TimeDomain::ProcessingTime => {
                let furthest = self.passed.furthest().timestamp();
                self.processing_time = self.processing_time.max(furthest.saturating_add(1));
            }
        }
        let max_parallelism = self.placement.max_parallelism();
        for (group, bytes) in snapshot.keyed.get(SLICES).into_iter().flatten() {
            let mut dropped_until = None;
            bytes.for_each_removed(|section| {
                let until: Vec<Timestamp> = decode(SLICES, section)?;
                dropped_until = dropped_until.max(until.into_iter().max());
                Ok::<_, Error>(())
            })?;
            bytes.for_each_change(|kind, section| {
                if kind == SectionKind::Removed {
                    return Ok(());
                }
                restore_section(
                    SLICES,
                    max_parallelism,
                    *group,
                    section,
                    &reader,
                    |hash, key, (end, accumulator)| {
                        if Some(end) <= dropped_until {
                            return Ok(());
                        }
                        self.restore_entry(kind, hash, &key, end, accumulator)
                    },
                )
            })?;
        }
        while let Some(mut slice) = self.open.pop_front_if(|slice| slice.end <= self.fired_until) {
            // Left by longer windows with the same slices, all of which have fired.
            if self.grid.is_tumbling() {
                continue;
            }
            self.stacks.push(&self.config.function, slice.end, None, drained(&mut slice.table)?);
        }
        Ok(())
    }

    fn restore_entry(
        &mut self,
        kind: SectionKind,
        hash: u64,
        key: &K,
        end: Timestamp,
        accumulator: F::Accumulator,
    ) -> Result<()> {
        if !self.grid.has_slice_until(end) {
            return Err(Error::user(format!(
                "the snapshot has what came to windows until {}, which is no end of {:?}: the operator's windows have changed",
                TimestampText(end),
                self.config.slicing
            )));
        }
        let idx = self.open_slice(end);
        let table = self.open[idx].table.load_mut(hash, key)?;
        match table.get_mut(hash, key) {
            // Earlier builds wrote what came late by itself.
            Some(known) if kind == SectionKind::Whole => self.config.function.merge(known, &accumulator),
            Some(_) | None => table.insert(hash, key, accumulator),
        }
        Ok(())
    }
}
