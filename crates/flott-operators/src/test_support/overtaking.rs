//! Snapshots of subtasks that stand at different watermarks, because barriers have overtaken records.

use super::{Feed, Harness, context};
use crate::operator::OperatorContext;
use flott_env::sim::Simulation;
use flott_state::OperatorSnapshot;
use flott_types::{SubtaskIndex, Timestamp};
use std::fmt::Debug;

/// How many elements are in flight to each of three subtasks, and at which parallelism they are restored, twice.
const CASES: [([usize; 3], [u32; 2]); 4] =
    [([0, 3, 9], [2, 3]), ([5, 0, 2], [3, 1]), ([4, 0, 0], [1, 4]), ([0, 20, 1], [4, 2])];

/// Has three subtasks stop before different elements, as they do where barriers overtake. Others get what they left, what was in flight, and
/// the rest, beginning with watermarks that are older than the snapshot, while which they stop once more. The records that come
/// out must be those of one subtask, in any order. `route1` and `route2` say where a record goes. Watermarks are held back so that no
/// record is late: what is in flight loses its place among them.
pub(crate) fn check_overtaking<A: Clone, B: Clone, O: Debug + 'static>(
    make: impl Fn(&OperatorContext) -> Harness<A, B, O>,
    elements: &[Feed<A, B>],
    route1: impl Fn(&A, u32) -> usize,
    route2: impl Fn(&B, u32) -> usize,
) {
    let elements = in_time(elements);
    let routes = Routes { make, route1, route2 };
    let mut expected = routes.open(1);
    elements.iter().for_each(|element| routes.feed(&mut expected, element));
    let expected = sorted(records(&mut expected));
    for at in 0..elements.len() {
        for (n_in_flight, parallelisms) in CASES {
            let stops = n_in_flight.map(|n| at.saturating_sub(n));
            let seen = routes.run(&elements, at, stops, parallelisms);
            assert_eq!(
                sorted(seen),
                expected,
                "stopped at {stops:?}, then from {at} on with {parallelisms:?} subtasks"
            );
        }
    }
}

struct Routes<M, R1, R2> {
    make: M,
    route1: R1,
    route2: R2,
}

impl<M, R1, R2> Routes<M, R1, R2> {
    fn open<A, B, O>(&self, parallelism: u32) -> Vec<Harness<A, B, O>>
    where
        M: Fn(&OperatorContext) -> Harness<A, B, O>,
    {
        let env = Simulation::new(1).env();
        (0..parallelism).map(|subtask| (self.make)(&context(env.clone(), subtask, parallelism))).collect()
    }

    /// What of an element is for a subtask.
    fn part<A: Clone, B: Clone>(
        &self,
        element: &Feed<A, B>,
        idx: usize,
        parallelism: u32,
    ) -> Option<Feed<A, B>>
    where
        R1: Fn(&A, u32) -> usize,
        R2: Fn(&B, u32) -> usize,
    {
        let part = match element {
            Feed::Batch1(records) => Feed::Batch1(own(records, |r| (self.route1)(r, parallelism) == idx)),
            Feed::Batch2(records) => Feed::Batch2(own(records, |r| (self.route2)(r, parallelism) == idx)),
            other => other.clone(),
        };
        let is_empty = matches!(&part, Feed::Batch1(records) if records.is_empty())
            || matches!(&part, Feed::Batch2(records) if records.is_empty());
        (!is_empty).then_some(part)
    }

    fn feed<A: Clone, B: Clone, O: Debug + 'static>(
        &self,
        subtasks: &mut [Harness<A, B, O>],
        element: &Feed<A, B>,
    ) where
        R1: Fn(&A, u32) -> usize,
        R2: Fn(&B, u32) -> usize,
    {
        let parallelism = subtasks.len() as u32;
        for (idx, subtask) in subtasks.iter_mut().enumerate() {
            if let Some(part) = self.part(element, idx, parallelism) {
                subtask.feed(&part).expect("the operator does not fail");
            }
        }
    }

    fn restart<A: Clone, B: Clone, O: Debug + 'static>(
        &self,
        old: &mut [Harness<A, B, O>],
        parallelism: u32,
    ) -> Vec<Harness<A, B, O>>
    where
        M: Fn(&OperatorContext) -> Harness<A, B, O>,
    {
        let parts: Vec<_> = old.iter_mut().map(Harness::snapshot).collect();
        let mut new = self.open(parallelism);
        for (idx, subtask) in new.iter_mut().enumerate() {
            let part = OperatorSnapshot::reassign(&parts, SubtaskIndex(idx as u32), parallelism);
            subtask.restore(&part.expect("the parts fit together"));
        }
        new
    }

    fn run<A: Clone, B: Clone, O: Debug + 'static>(
        &self,
        elements: &[Feed<A, B>],
        at: usize,
        stops: [usize; 3],
        parallelisms: [u32; 2],
    ) -> Vec<String>
    where
        M: Fn(&OperatorContext) -> Harness<A, B, O>,
        R1: Fn(&A, u32) -> usize,
        R2: Fn(&B, u32) -> usize,
    {
        let mut subtasks = self.open(3);
        let mut in_flight = Vec::new();
        for (idx, (subtask, stop)) in subtasks.iter_mut().zip(stops).enumerate() {
            let part = |element| self.part(element, idx, 3);
            for element in elements[..stop].iter().filter_map(part) {
                subtask.feed(&element).expect("the operator does not fail");
            }
            in_flight.extend(elements[stop..at].iter().filter_map(part).filter(is_batch));
        }
        let mut seen = records(&mut subtasks);
        subtasks = self.restart(&mut subtasks, parallelisms[0]);
        in_flight.iter().for_each(|element| self.feed(&mut subtasks, element));
        let again: Vec<_> = elements[..at].iter().filter(|element| !is_batch(element)).collect();
        let (sooner, later) = again.split_at(again.len() / 2);
        sooner.iter().for_each(|element| self.feed(&mut subtasks, element));
        seen.extend(records(&mut subtasks));
        subtasks = self.restart(&mut subtasks, parallelisms[1]);
        later.iter().for_each(|element| self.feed(&mut subtasks, element));
        elements[at..].iter().for_each(|element| self.feed(&mut subtasks, element));
        seen.extend(records(&mut subtasks));
        seen
    }
}

fn own<T: Clone>(records: &[(T, Timestamp)], is_own: impl Fn(&T) -> bool) -> Vec<(T, Timestamp)> {
    records.iter().filter(|(record, _)| is_own(record)).cloned().collect()
}

fn is_batch<A, B>(element: &Feed<A, B>) -> bool {
    matches!(element, Feed::Batch1(_) | Feed::Batch2(_))
}

/// The records that came out, also to the side.
fn records<A: Clone, B: Clone, O: Debug + 'static>(subtasks: &mut [Harness<A, B, O>]) -> Vec<String> {
    let lines = subtasks.iter_mut().flat_map(Harness::take);
    lines.filter(|line| line.contains('+') && !line.contains('W')).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// The elements with watermarks that are behind all records that follow: so far that no session which has fired touches one of them.
fn in_time<A: Clone, B: Clone>(elements: &[Feed<A, B>]) -> Vec<Feed<A, B>> {
    let mut earliest = Timestamp::MAX;
    let least = |earliest: Timestamp, times: Vec<Timestamp>| times.into_iter().fold(earliest, Timestamp::min);
    let mut held: Vec<_> = elements
        .iter()
        .rev()
        .map(|element| {
            match element {
                Feed::Batch1(records) => {
                    earliest = least(earliest, records.iter().map(|(_, at)| *at).collect());
                }
                Feed::Batch2(records) => {
                    earliest = least(earliest, records.iter().map(|(_, at)| *at).collect());
                }
                Feed::Watermark(at) => return Feed::Watermark((*at).min(earliest.saturating_sub(2))),
                Feed::Status(_) | Feed::ProcessingTime(_) | Feed::EndOfData => {}
            }
            element.clone()
        })
        .collect();
    held.reverse();
    // Behind the last record nothing holds them back.
    if let Some(Feed::Watermark(last)) = held.last_mut() {
        *last = Timestamp::MAX;
    }
    held
}
