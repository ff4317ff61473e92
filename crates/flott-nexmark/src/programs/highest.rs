//! The highest of many records, in two stages: most cannot be it, and a subtask can tell from what it has seen.

use flott_api::AggregateFunction;
use flott_types::{Data, Timestamp};

/// What is compared.
pub(super) trait Ranked: Data {
    fn rank(&self) -> u64;
}

/// Keeps the records with the highest rank: all of them if several have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Highest;

impl<T: Ranked> AggregateFunction<T> for Highest {
    type Accumulator = Vec<T>;
    type Output = Vec<T>;

    fn create_accumulator(&self) -> Vec<T> {
        Vec::new()
    }

    fn add(&self, highest: &mut Vec<T>, record: &T) {
        let rank = highest.first().map_or(0, T::rank);
        if record.rank() > rank {
            highest.clear();
        }
        if record.rank() >= rank {
            highest.push(record.clone());
        }
    }

    fn get_result(&self, highest: &Vec<T>) -> Vec<T> {
        highest.clone()
    }

    fn merge(&self, highest: &mut Vec<T>, other: &Vec<T>) {
        other.iter().for_each(|record| self.add(highest, record));
    }
}

/// The best rank that was seen in a window.
#[derive(Clone, Copy, Debug)]
struct Best {
    start: Timestamp,
    rank: u64,
}

/// The first stage: a predicate for records that may still be the highest of their window of `size_ms`, because none
/// higher has passed. Of `n` records in random order about `ln n` pass.
///
/// It remembers the two windows it saw last. That others are forgotten, or all of them at a restart, costs only that
/// more records pass: the second stage decides.
pub(super) fn may_be_highest<T: Ranked>(
    size_ms: i64,
    time: impl Fn(&T) -> Timestamp + Clone + Send + 'static,
) -> impl FnMut(&T) -> bool + Clone + Send + 'static {
    let nowhere = Best { start: Timestamp::MIN, rank: 0 };
    let (mut current, mut other) = (nowhere, nowhere);
    move |record| {
        let into = time(record).wrapping_sub(current.start);
        if !(0..size_ms).contains(&into) {
            let start = time(record) - time(record).rem_euclid(size_ms);
            std::mem::swap(&mut current, &mut other);
            if current.start != start {
                current = Best { start, rank: 0 };
            }
        }
        let may_be = record.rank() >= current.rank;
        current.rank = current.rank.max(record.rank());
        may_be
    }
}
