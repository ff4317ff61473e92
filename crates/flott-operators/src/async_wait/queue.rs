//! The records of an asynchronous operator, from their arrival until their results are emitted, and what must keep its
//! place among them. A pure structure: it knows no futures.
//!
//! Everything gets a sequence number when it arrives. `waiting` holds the records whose calls have not been started, which
//! are the last ones to have arrived; `started` the others. Watermarks and the like are in `controls`; one leaves when no
//! record with a smaller number is left.

use super::{AsyncOutputMode, HeldRecord};
use flott_types::{StreamStatus, Timestamp, Watermark};
use std::collections::{BTreeMap, VecDeque};

/// What keeps its place among records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Watermark(Watermark),
    Status(StreamStatus),
    EndOfData,
}

/// What leaves the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Release<O> {
    Results(Vec<O>, Timestamp),
    Control(Control),
}

struct Held<I, O> {
    record: I,
    timestamp: Timestamp,
    /// The last watermark before the record.
    watermark: Watermark,
    results: Option<Vec<O>>,
}

pub(super) struct Queue<I, O> {
    mode: AsyncOutputMode,
    next_seq: u64,
    waiting: VecDeque<(u64, Held<I, O>)>,
    started: BTreeMap<u64, Held<I, O>>,
    controls: VecDeque<(u64, Control)>,
    /// Unordered results that no control holds back; empty whenever [`Queue::release`] has returned `None`.
    free: VecDeque<(Vec<O>, Timestamp)>,
}

impl<I, O> Queue<I, O> {
    pub(super) fn new(mode: AsyncOutputMode) -> Self {
        Self {
            mode,
            next_seq: 0,
            waiting: VecDeque::new(),
            started: BTreeMap::new(),
            controls: VecDeque::new(),
            free: VecDeque::new(),
        }
    }

    fn take_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    pub(super) fn push_record(&mut self, record: I, timestamp: Timestamp, watermark: Watermark) {
        let seq = self.take_seq();
        self.waiting.push_back((seq, Held { record, timestamp, watermark, results: None }));
    }

    pub(super) fn push_control(&mut self, control: Control) {
        let seq = self.take_seq();
        self.controls.push_back((seq, control));
    }

    /// The next record to make a call for, unless `capacity` records are started.
    pub(super) fn start_next(&mut self, capacity: usize) -> Option<(u64, &I)> {
        if self.started.len() >= capacity {
            return None;
        }
        let (seq, held) = self.waiting.pop_front()?;
        Some((seq, &self.started.entry(seq).or_insert(held).record))
    }

    /// A started record.
    pub(super) fn record(&self, seq: u64) -> &I {
        &self.started.get(&seq).expect("a call belongs to a started record").record
    }

    /// Notes the results of a started record.
    pub(super) fn complete(&mut self, seq: u64, results: Vec<O>) {
        let is_free = self.mode == AsyncOutputMode::Unordered && seq < self.boundary();
        let held = self.started.get_mut(&seq).expect("a call belongs to a started record");
        assert!(held.results.is_none(), "record {seq} is completed twice");
        if is_free {
            self.free.push_back((results, held.timestamp));
            self.started.remove(&seq);
        } else {
            held.results = Some(results);
        }
    }

    /// The number of the first control: what is behind it must wait.
    fn boundary(&self) -> u64 {
        self.controls.front().map_or(u64::MAX, |(seq, _)| *seq)
    }

    /// The number of the first record whose results are not out.
    fn first_record(&self) -> u64 {
        let started = self.started.first_key_value().map(|(seq, _)| *seq);
        started.or_else(|| self.waiting.front().map(|(seq, _)| *seq)).unwrap_or(u64::MAX)
    }

    /// Takes what may be emitted next.
    pub(super) fn release(&mut self) -> Option<Release<O>> {
        if let Some((results, timestamp)) = self.free.pop_front() {
            return Some(Release::Results(results, timestamp));
        }
        if self.boundary() < self.first_record() {
            let (_, control) = self.controls.pop_front()?;
            self.free_next_segment();
            return Some(Release::Control(control));
        }
        if self.mode == AsyncOutputMode::Unordered {
            return None;
        }
        let first = self.started.first_entry()?;
        first.get().results.as_ref()?;
        let Held { results, timestamp, .. } = first.remove();
        results.map(|results| Release::Results(results, timestamp))
    }

    /// A control has left: unordered results up to the next one are free.
    fn free_next_segment(&mut self) {
        if self.mode == AsyncOutputMode::Unordered {
            let boundary = self.boundary();
            let completed = self.started.extract_if(..boundary, |_, held| held.results.is_some());
            self.free.extend(completed.filter_map(|(_, held)| held.results.zip(Some(held.timestamp))));
        }
    }

    /// Whether nothing more should be put in: records wait for room, or the end of data for results.
    pub(super) fn is_full(&self) -> bool {
        !self.waiting.is_empty() || self.controls.back().is_some_and(|(_, last)| *last == Control::EndOfData)
    }

    /// The records whose results are not out, in the order of their arrival.
    pub(super) fn records(&self) -> impl Iterator<Item = (&I, Timestamp, Watermark)> {
        assert!(self.free.is_empty(), "a snapshot is taken between results and their emission");
        let held = self.started.values().chain(self.waiting.iter().map(|(_, held)| held));
        held.map(|held| (&held.record, held.timestamp, held.watermark))
    }

    /// Puts the records of a snapshot in, and the watermarks that had been received and not forwarded.
    ///
    /// The records may come from several subtasks. A watermark is put before a record only if it had come before all
    /// records from there on, so that none of them is made late.
    pub(super) fn refill(&mut self, records: Vec<HeldRecord<I>>, forwarded: Watermark, received: Watermark) {
        let mut least = received;
        let mut watermarks: Vec<_> = records
            .iter()
            .rev()
            .map(|(_, _, watermark)| {
                least = least.min(*watermark);
                least
            })
            .collect();
        watermarks.reverse();
        let mut reached = forwarded;
        for ((record, timestamp, _), watermark) in records.into_iter().zip(watermarks) {
            self.advance_to(watermark, &mut reached);
            self.push_record(record, timestamp, reached);
        }
        self.advance_to(received, &mut reached);
    }

    fn advance_to(&mut self, watermark: Watermark, reached: &mut Watermark) {
        if watermark > *reached {
            *reached = watermark;
            self.push_control(Control::Watermark(watermark));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(queue: &mut Queue<u32, u32>) -> Vec<Release<u32>> {
        std::iter::from_fn(|| queue.release()).collect()
    }

    fn queue(mode: AsyncOutputMode) -> Queue<u32, u32> {
        let mut queue = Queue::new(mode);
        for record in 0..4 {
            queue.push_record(record, i64::from(record), Watermark::MIN);
            if record == 1 {
                queue.push_control(Control::Watermark(Watermark(10)));
            }
        }
        // Record 2 has number 3: the watermark is in between.
        while queue.start_next(10).is_some() {}
        queue
    }

    #[test]
    fn ordered_results_wait_for_those_before_them() {
        let mut queue = queue(AsyncOutputMode::Ordered);
        queue.complete(1, vec![11]);
        queue.complete(3, vec![]);
        assert_eq!(drain(&mut queue), []);
        queue.complete(0, vec![10]);
        let watermark = Release::Control(Control::Watermark(Watermark(10)));
        let (first, second) = (Release::Results(vec![10], 0), Release::Results(vec![11], 1));
        assert_eq!(drain(&mut queue), [first, second, watermark, Release::Results(vec![], 2)]);
        queue.complete(4, vec![14]);
        assert_eq!(drain(&mut queue), [Release::Results(vec![14], 3)]);
    }

    #[test]
    fn unordered_results_wait_for_the_watermark_only() {
        let mut queue = queue(AsyncOutputMode::Unordered);
        queue.complete(4, vec![14]);
        assert_eq!(drain(&mut queue), []);
        queue.complete(1, vec![11]);
        assert_eq!(drain(&mut queue), [Release::Results(vec![11], 1)]);
        queue.complete(0, vec![10]);
        let watermark = Release::Control(Control::Watermark(Watermark(10)));
        assert_eq!(
            drain(&mut queue),
            [Release::Results(vec![10], 0), watermark, Release::Results(vec![14], 3)]
        );
        queue.complete(3, vec![13]);
        assert_eq!(drain(&mut queue), [Release::Results(vec![13], 2)]);
    }

    proptest! {
        // Restored from several subtasks, no record comes after a watermark that it came before.
        #[test]
        fn a_refilled_queue_makes_no_record_late(
            watermarks in prop::collection::vec(0_i64..20, 0..10),
            forwarded in 0_i64..20,
            extra in 0_i64..20,
        ) {
            let received = Watermark(forwarded + extra);
            let mut queue = Queue::<u32, u32>::new(AsyncOutputMode::Ordered);
            let records: Vec<_> = (0..).zip(&watermarks).map(|(record, at)| (record, 0, Watermark(*at))).collect();
            queue.refill(records, Watermark(forwarded), received);
            prop_assert!(queue.records().map(|(record, ..)| *record).eq(0..watermarks.len() as u32));
            let mut n_seen = 0;
            let mut last = forwarded;
            while let Some((seq, _)) = queue.start_next(1) {
                queue.complete(seq, vec![]);
                for release in drain(&mut queue) {
                    match release {
                        Release::Results(..) => n_seen += 1,
                        Release::Control(Control::Watermark(Watermark(at))) => {
                            prop_assert!(at > last && watermarks[n_seen..].iter().all(|before| *before >= at));
                            last = at;
                        }
                        Release::Control(other) => panic!("{other:?}"),
                    }
                }
            }
            prop_assert_eq!(drain(&mut queue).len() + usize::from(last == received.0), 1);
        }
    }
}
