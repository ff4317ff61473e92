//! What to generate.

use flott_types::{Error, Result, Timestamp};
use std::time::Duration;

/// The most events of a stream, and where an unbounded one ends: 14 years at ten million events per second.
pub const EVENTS_MAX: u64 = 1 << 52;

/// The largest ratio, number of people, number of auctions, size of a group: with it no product overflows.
const COUNT_MAX: u64 = 1 << 30;

/// The earliest and latest base time lie this far from 1970: 36 million years.
const BASE_TIME_MS_MAX: i64 = 1 << 60;

/// The options of the generator. [`NexmarkConfig::bounded`] and [`NexmarkConfig::unbounded`] have the standard values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NexmarkConfig {
    /// The number of events (of all kinds, also in a source of one kind); `None` for a stream that goes on.
    pub events: Option<u64>,
    /// Another seed gives other events with the same kinds, ids and times.
    pub seed: u64,
    /// The time of the first event. Standard: 2015-07-15T00:00:00Z.
    pub base_time_ms: Timestamp,
    /// Events per second of *event time*. Standard: 10,000, an event every 100 µs.
    pub events_per_second: u64,
    /// Within groups of this many events the order is shuffled. Standard: 1, in order.
    pub out_of_order_group_size: u64,
    /// One bid in so many is *not* for the hot auction. Standard: 2.
    pub hot_auction_ratio: u32,
    /// One bid in so many is *not* by the hot bidder. Standard: 4.
    pub hot_bidders_ratio: u32,
    /// One auction in so many is *not* by the hot seller. Standard: 4.
    pub hot_sellers_ratio: u32,
    /// From how many of the latest persons other bidders and sellers are drawn. Standard: 1,000.
    pub active_people: u32,
    /// How many auctions are open at a time, on average. Standard: 100.
    pub in_flight_auctions: u32,
    /// How many ids ahead of the latest person or auction a reference may be, as if events had swapped places.
    /// Standard: 10. With 0, what a record refers to has always come before it (shuffling apart).
    pub id_lead: u32,
    /// Events per second of *wall-clock time*, over all splits; `None` for as fast as possible. A source of one kind
    /// counts the events that it leaves out, so that sources with the same rate keep together.
    pub rate_per_second: Option<u64>,
}

impl NexmarkConfig {
    /// The standard stream, cut off after `events` events.
    pub fn bounded(events: u64) -> Self {
        Self { events: Some(events), ..Self::unbounded() }
    }

    /// The standard stream without end.
    pub fn unbounded() -> Self {
        Self {
            events: None,
            seed: 0,
            base_time_ms: 1_436_918_400_000,
            events_per_second: 10_000,
            out_of_order_group_size: 1,
            hot_auction_ratio: 2,
            hot_bidders_ratio: 4,
            hot_sellers_ratio: 4,
            active_people: 1_000,
            in_flight_auctions: 100,
            id_lead: 10,
            rate_per_second: None,
        }
    }

    /// How much older than an earlier record of the same split a record can be: the bound for a watermark strategy.
    pub fn max_out_of_orderness(&self) -> Duration {
        let events = u128::from(self.out_of_order_group_size.saturating_sub(1));
        let ms = (events * 1_000).div_ceil(u128::from(self.events_per_second.max(1)));
        Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
    }

    /// The number of events, [`EVENTS_MAX`] if there is no end.
    pub(crate) fn events_or_max(&self) -> u64 {
        self.events.unwrap_or(EVENTS_MAX)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        in_range("events", self.events_or_max(), 0, EVENTS_MAX)?;
        in_range("events_per_second", self.events_per_second, 1, COUNT_MAX)?;
        in_range("out_of_order_group_size", self.out_of_order_group_size, 1, COUNT_MAX)?;
        in_range("hot_auction_ratio", self.hot_auction_ratio.into(), 1, COUNT_MAX)?;
        in_range("hot_bidders_ratio", self.hot_bidders_ratio.into(), 1, COUNT_MAX)?;
        in_range("hot_sellers_ratio", self.hot_sellers_ratio.into(), 1, COUNT_MAX)?;
        in_range("active_people", self.active_people.into(), 1, COUNT_MAX)?;
        in_range("in_flight_auctions", self.in_flight_auctions.into(), 1, COUNT_MAX)?;
        in_range("id_lead", self.id_lead.into(), 0, COUNT_MAX)?;
        in_range("rate_per_second", self.rate_per_second.unwrap_or(1), 1, COUNT_MAX)?;
        if self.base_time_ms.unsigned_abs() > BASE_TIME_MS_MAX.unsigned_abs() {
            let found = self.base_time_ms;
            return Err(Error::user(format!(
                "nexmark option base_time_ms is {found}, over 36 million years from 1970"
            )));
        }
        Ok(())
    }
}

fn in_range(option: &str, value: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::user(format!("nexmark option {option} is {value}, expected {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_options_are_valid() {
        NexmarkConfig::unbounded().validate().unwrap();
        NexmarkConfig::bounded(0).validate().unwrap();
    }

    #[test]
    fn an_option_out_of_range_is_named_with_its_range() {
        let check = |config: NexmarkConfig, expected: &str| {
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        };
        let standard = NexmarkConfig::bounded(1);
        check(
            NexmarkConfig { events_per_second: 0, ..standard.clone() },
            "nexmark option events_per_second is 0, expected 1 to 1073741824",
        );
        check(
            NexmarkConfig { hot_auction_ratio: 0, ..standard.clone() },
            "nexmark option hot_auction_ratio is 0, expected 1 to 1073741824",
        );
        check(
            NexmarkConfig { events: Some(u64::MAX), ..standard.clone() },
            "nexmark option events is 18446744073709551615, expected 0 to 4503599627370496",
        );
        check(
            NexmarkConfig { base_time_ms: i64::MIN, ..standard },
            "nexmark option base_time_ms is -9223372036854775808, over 36 million years from 1970",
        );
    }

    #[test]
    fn disorder_is_bounded_by_the_event_time_of_a_group() {
        let ms = |group, rate| {
            let config = NexmarkConfig {
                out_of_order_group_size: group,
                events_per_second: rate,
                ..NexmarkConfig::unbounded()
            };
            config.max_out_of_orderness().as_millis()
        };
        assert_eq!([ms(1, 10_000), ms(2, 10_000), ms(1_001, 10_000), ms(3, 1)], [0, 1, 100, 2_000]);
    }
}
