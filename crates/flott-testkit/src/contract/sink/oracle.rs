//! What a reader of committed records may see, and must.

use super::SinkPromise;
use crate::contract::record::{RecordId, list};
use std::collections::{BTreeMap, BTreeSet};

/// What one call of `write` wrote, of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentId(usize);

#[derive(Clone, Debug)]
struct Segment {
    records: Vec<RecordId>,
}

/// Knows of everything that was ever written whether readers must see it, may, or must not.
#[derive(Debug)]
pub(super) struct Oracle {
    promise: SinkPromise,
    /// What is committed may still be in nobody's sight: then it goes when the job goes back.
    holds_back: bool,
    segments: Vec<Segment>,
    /// Must be seen.
    certain: BTreeSet<SegmentId>,
    /// May be seen: a commit of it has begun, or it is visible before that by its promise.
    possible: BTreeSet<SegmentId>,
}

/// What a sink owes at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// All that is certain.
    Whole,
    /// It holds back what is committed, until its end.
    MayHoldBack,
}

impl Oracle {
    pub(super) fn new(promise: SinkPromise, holds_back: bool) -> Self {
        Self {
            promise,
            holds_back,
            segments: Vec::new(),
            certain: BTreeSet::new(),
            possible: BTreeSet::new(),
        }
    }

    /// These records are being written.
    pub(super) fn written(&mut self, records: Vec<RecordId>) -> SegmentId {
        let id = SegmentId(self.segments.len());
        self.segments.push(Segment { records });
        match self.promise {
            SinkPromise::Transactional | SinkPromise::Eager => {}
            SinkPromise::InTheEnd | SinkPromise::AtLeastOnce => {
                self.possible.insert(id);
            }
        }
        id
    }

    /// From now on these may be seen.
    pub(super) fn allow(&mut self, segments: impl IntoIterator<Item = SegmentId>) {
        self.possible.extend(segments);
    }

    /// From now on these must be seen.
    pub(super) fn demand(&mut self, segments: impl IntoIterator<Item = SegmentId>) {
        for segment in segments {
            self.possible.insert(segment);
            self.certain.insert(segment);
        }
    }

    /// Whether all of these must be seen already.
    pub(super) fn demands_all(&self, segments: impl IntoIterator<Item = SegmentId>) -> bool {
        segments.into_iter().all(|segment| self.certain.contains(&segment))
    }

    /// The job is going back to where only these were written: the others may be taken back.
    pub(super) fn goes_back_to(&mut self, lineage: &BTreeSet<SegmentId>) {
        if self.promise == SinkPromise::Eager || self.holds_back {
            self.certain.retain(|segment| lineage.contains(segment));
        }
    }

    /// It has gone back: the others must be gone.
    pub(super) fn has_gone_back_to(&mut self, lineage: &BTreeSet<SegmentId>) {
        if self.promise == SinkPromise::Eager {
            self.possible.retain(|segment| lineage.contains(segment));
        }
    }

    fn counts(&self, of: &BTreeSet<SegmentId>) -> BTreeMap<RecordId, usize> {
        let mut counts = BTreeMap::new();
        for record in of.iter().filter_map(|id| self.segments.get(id.0)).flat_map(|segment| &segment.records)
        {
            *counts.entry(*record).or_insert(0) += 1;
        }
        counts
    }

    /// Compares with what a reader sees now.
    pub(super) fn check(&self, seen: &[RecordId], strictness: Strictness) -> Result<(), String> {
        let (mut least, mut most) = (self.counts(&self.certain), self.counts(&self.possible));
        match self.promise {
            SinkPromise::Transactional | SinkPromise::Eager => {}
            SinkPromise::InTheEnd => {
                least.values_mut().for_each(|count| *count = 1);
                most.values_mut().for_each(|count| *count = 1);
            }
            SinkPromise::AtLeastOnce => {
                least.values_mut().for_each(|count| *count = 1);
                most.values_mut().for_each(|count| *count = usize::MAX);
            }
        }
        let mut counts: BTreeMap<RecordId, usize> = BTreeMap::new();
        seen.iter().for_each(|record| *counts.entry(*record).or_insert(0) += 1);
        let of =
            |counts: &BTreeMap<RecordId, usize>, record: &RecordId| counts.get(record).copied().unwrap_or(0);
        let phantoms: Vec<RecordId> =
            counts.keys().filter(|record| of(&most, record) == 0).copied().collect();
        if !phantoms.is_empty() {
            return Err(format!("a reader sees records that no complete checkpoint has: {}", list(phantoms)));
        }
        let doubled: Vec<RecordId> =
            counts.iter().filter(|(record, n)| **n > of(&most, record)).map(|(record, _)| *record).collect();
        if !doubled.is_empty() {
            return Err(format!(
                "a reader sees records more often than they were committed: {}",
                list(doubled)
            ));
        }
        let missing: Vec<RecordId> =
            least.iter().filter(|(record, n)| **n > of(&counts, record)).map(|(record, _)| *record).collect();
        if strictness == Strictness::Whole && !missing.is_empty() {
            return Err(format!("a reader does not see records that were committed: {}", list(missing)));
        }
        Ok(())
    }
}
