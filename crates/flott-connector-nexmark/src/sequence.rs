//! Which events a source of one kind of record reads, in which order.

use crate::config::NexmarkConfig;
use crate::generator::{AUCTIONS_PER_EPOCH, BIDS_PER_EPOCH, EVENTS_PER_EPOCH, Generator, PERSONS_PER_EPOCH};
use crate::random::Divisor;
use crate::record::{Auction, Bid, Event, Person};
use flott_types::{Data, Result, Timestamp};
use std::fmt::Debug;
use std::marker::PhantomData;

/// What a source can read: [`Event`], or one kind of them, which stands at fixed places in every epoch.
pub trait NexmarkRecord: Data + Copy + Debug + PartialEq + private::Sealed {
    /// The place of the first in an epoch.
    const FIRST_IN_EPOCH: u64;
    /// How many follow each other there.
    const PER_EPOCH: u64;

    /// The record that event `n` is, which must be of this kind.
    fn generate(generator: &Generator, n: u64) -> Self;

    /// When it happened.
    fn date_time(&self) -> Timestamp;
}

mod private {
    /// Only the records of this crate stand where [`super::NexmarkRecord`] says.
    pub trait Sealed {}
}

macro_rules! nexmark_records {
    ($($record:ident $make:ident $date_time:expr, $first:expr, $per_epoch:expr;)*) => {
        $(
            impl private::Sealed for $record {}

            impl NexmarkRecord for $record {
                const FIRST_IN_EPOCH: u64 = $first;
                const PER_EPOCH: u64 = $per_epoch;

                #[inline(always)]
                fn generate(generator: &Generator, n: u64) -> Self {
                    generator.$make(n)
                }

                #[inline(always)]
                fn date_time(&self) -> Timestamp {
                    $date_time(self)
                }
            }
        )*
    };
}

nexmark_records! {
    Event event Event::date_time, 0, EVENTS_PER_EPOCH;
    Person person |person: &Self| person.date_time, 0, PERSONS_PER_EPOCH;
    Auction auction |auction: &Self| auction.date_time, PERSONS_PER_EPOCH, AUCTIONS_PER_EPOCH;
    Bid bid |bid: &Self| bid.date_time, PERSONS_PER_EPOCH + AUCTIONS_PER_EPOCH, BIDS_PER_EPOCH;
}

/// Shuffling multiplies by this prime, as the other generators do.
const SHUFFLE: u64 = 953;

/// The records of one kind by *position*: the order in which a single split has them.
///
/// Without out-of-order groups, position `p` is the `p`-th record of the kind. With them, the records within each
/// group of event numbers change places, so that a position is in the same group as its record.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<R = Event> {
    generator: Generator,
    events: u64,
    len: u64,
    group_size: Divisor,
    record: PhantomData<fn() -> R>,
}

impl<R: NexmarkRecord> Sequence<R> {
    /// The sequence that `config` describes.
    ///
    /// # Errors
    /// If an option is out of its range.
    pub fn new(config: &NexmarkConfig) -> Result<Self> {
        let generator = Generator::new(config)?;
        let events = config.events_or_max();
        Ok(Self {
            generator,
            events,
            len: Self::count_before(events),
            group_size: Divisor::new(config.out_of_order_group_size),
            record: PhantomData,
        })
    }

    /// The number of records; of an unbounded stream that of the first [`crate::EVENTS_MAX`] events.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The record at `position`, which is below [`Sequence::len`].
    #[inline(always)]
    pub fn get(&self, position: u64) -> R {
        let ordinal = if self.group_size.get() == 1 { position } else { self.shuffled(position) };
        R::generate(&self.generator, Self::event_number(ordinal))
    }

    /// All records in order of position.
    pub fn iter(&self) -> impl Iterator<Item = R> + '_ {
        (0..self.len).map(|position| self.get(position))
    }

    /// A position before which all records are before `time`: that of the group in which the first event is that is not.
    pub(crate) fn position_at(&self, time: Timestamp) -> u64 {
        let first = self.generator.first_at(time).min(self.events);
        Self::count_before(self.group_size.quotient(first) * self.group_size.get())
    }

    /// The number of the event that the `ordinal`-th record of the kind is.
    #[inline(always)]
    pub(crate) const fn event_number(ordinal: u64) -> u64 {
        ordinal / R::PER_EPOCH * EVENTS_PER_EPOCH + R::FIRST_IN_EPOCH + ordinal % R::PER_EPOCH
    }

    /// How many records of the kind have event numbers below `n`.
    #[inline(always)]
    pub(crate) fn count_before(n: u64) -> u64 {
        let in_epoch = (n % EVENTS_PER_EPOCH).saturating_sub(R::FIRST_IN_EPOCH).min(R::PER_EPOCH);
        n / EVENTS_PER_EPOCH * R::PER_EPOCH + in_epoch
    }

    fn shuffled(&self, position: u64) -> u64 {
        let size = self.group_size.get();
        let start = self.group_size.quotient(Self::event_number(position)) * size;
        let first = Self::count_before(start);
        let len = Self::count_before((start + size).min(self.events)) - first;
        first + shuffle(position - first, len)
    }
}

/// Where the element at `idx` of a group of `len` goes: a permutation.
fn shuffle(idx: u64, len: u64) -> u64 {
    // Multiplying by a prime permutes unless the prime divides the length.
    if len.is_multiple_of(SHUFFLE) { len - 1 - idx } else { idx * SHUFFLE % len }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence<R: NexmarkRecord>(events: u64, out_of_order_group_size: u64) -> Sequence<R> {
        Sequence::new(&NexmarkConfig { out_of_order_group_size, ..NexmarkConfig::bounded(events) }).unwrap()
    }

    fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
        let mut items: Vec<T> = items.collect();
        items.sort_unstable();
        items
    }

    fn check_kind<R: NexmarkRecord + Ord>(events: u64, group: u64, of_event: fn(&Event) -> Option<&R>) {
        let expected: Vec<R> =
            sequence::<Event>(events, 1).iter().filter_map(|event| of_event(&event).copied()).collect();
        let found = sequence::<R>(events, group);
        assert_eq!(found.len(), expected.len() as u64, "{events} events");
        if group == 1 {
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{events} events");
        }
        assert_eq!(
            sorted(found.iter()),
            sorted(expected.into_iter()),
            "{events} events in groups of {group}"
        );
    }

    #[test]
    fn a_sequence_of_one_kind_is_the_whole_without_the_rest_whatever_the_groups() {
        for events in [0, 1, 2, 3, 4, 5, 49, 50, 51, 53, 54, 99, 1_000, 1_907, 4_321] {
            for group in [1, 2, 3, 7, 50, 64, 953, 1_000, 1_906, 10_000] {
                check_kind::<Person>(events, group, Event::person);
                check_kind::<Auction>(events, group, Event::auction);
                check_kind::<Bid>(events, group, Event::bid);
                check_kind::<Event>(events, group, |event| Some(event));
            }
        }
    }

    #[test]
    fn times_never_go_back_without_groups_and_by_less_than_a_group_with_them() {
        for (group, bound_ms) in [(1, 0), (2, 1), (10, 1), (64, 7), (1_000, 100), (953, 96)] {
            let config = NexmarkConfig { out_of_order_group_size: group, ..NexmarkConfig::bounded(20_000) };
            assert_eq!(config.max_out_of_orderness().as_millis(), bound_ms);
            check_disorder::<Event>(group, bound_ms as i64);
            check_disorder::<Bid>(group, bound_ms as i64);
            check_disorder::<Auction>(group, bound_ms as i64);
            check_disorder::<Person>(group, bound_ms as i64);
        }
        let whole = sequence::<Event>(20_000, 1_000);
        assert!(!whole.iter().map(|event| event.date_time()).is_sorted());
    }

    fn check_disorder<R: NexmarkRecord>(group: u64, bound_ms: i64) {
        let mut max = i64::MIN;
        for record in sequence::<R>(20_000, group).iter() {
            assert!(
                record.date_time() >= max.saturating_sub(bound_ms),
                "group {group}: {record:?} after {max}"
            );
            max = max.max(record.date_time());
        }
    }

    fn check_seek<R: NexmarkRecord>(events: u64, group: u64, events_per_second: u64) {
        let standard = NexmarkConfig::bounded(events);
        let config = NexmarkConfig { out_of_order_group_size: group, events_per_second, ..standard };
        let sequence = Sequence::<R>::new(&config).unwrap();
        let times: Vec<_> = sequence.iter().map(|record| record.date_time()).collect();
        let (first, last) =
            (config.base_time_ms, config.base_time_ms + 1 + events as i64 * 1_000 / events_per_second as i64);
        for time in (first - 3..last + 3).chain([i64::MIN, 0, i64::MAX]) {
            let position = sequence.position_at(time) as usize;
            assert!(times.iter().take(position).all(|at| *at < time), "{time} in groups of {group}");
            let later = times.iter().position(|at| *at >= time).unwrap_or(times.len());
            assert!(later - position <= group as usize, "{time}: {later} is far behind {position}");
        }
    }

    #[test]
    fn before_the_position_of_a_time_all_records_are_earlier_and_not_many_behind_it() {
        for (events, group, events_per_second) in
            [(0, 1, 10), (1, 1, 10), (700, 1, 10_000), (700, 64, 3_000), (501, 7, 1_000)]
        {
            check_seek::<Event>(events, group, events_per_second);
            check_seek::<Bid>(events, group, events_per_second);
            check_seek::<Person>(events, group, events_per_second);
        }
    }

    #[test]
    fn shuffling_permutes_groups_of_any_size() {
        for len in (1..200).chain([952, 953, 954, 1_906, 9_530]) {
            assert_eq!(sorted((0..len).map(|idx| shuffle(idx, len))), (0..len).collect::<Vec<_>>());
        }
    }
}
