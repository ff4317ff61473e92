//! Distribution, references, times.

use super::*;
use crate::config::EVENTS_MAX;

fn generator(config: NexmarkConfig) -> Generator {
    Generator::new(&config).unwrap()
}

fn standard() -> Generator {
    generator(NexmarkConfig::unbounded())
}

fn bids(generator: Generator, n: u64) -> impl Iterator<Item = (u64, Bid)> {
    (0..n).filter_map(move |n| generator.event(n).bid().map(|bid| (n, *bid)))
}

fn auctions(generator: Generator, n: u64) -> impl Iterator<Item = (u64, Auction)> {
    (0..n).filter_map(move |n| generator.event(n).auction().map(|auction| (n, *auction)))
}

fn share(hits: usize, all: usize) -> f64 {
    hits as f64 / all as f64
}

#[test]
fn every_fifty_events_are_one_person_three_auctions_and_the_rest_bids_with_ids_in_order() {
    let (mut next_person, mut next_auction) = (FIRST_PERSON_ID, FIRST_AUCTION_ID);
    for epoch in 0..1_000 {
        for offset in 0..50 {
            match standard().event(epoch * 50 + offset) {
                Event::Person(person) => {
                    assert_eq!((offset, person.id), (0, next_person));
                    next_person += 1;
                }
                Event::Auction(auction) => {
                    assert!((1..4).contains(&offset));
                    assert_eq!(auction.id, next_auction);
                    next_auction += 1;
                }
                Event::Bid(_) => assert!(offset >= 4),
            }
        }
        assert_eq!((next_person - 1_000, next_auction - 1_000), (epoch + 1, 3 * (epoch + 1)));
    }
}

#[test]
fn without_a_lead_records_refer_to_what_has_come_before() {
    for seed in 0..20 {
        let all = generator(NexmarkConfig { id_lead: 0, seed, ..NexmarkConfig::unbounded() });
        let (mut last_person, mut last_auction) = (0, 0);
        for n in 0..20_000 {
            match all.event(n) {
                Event::Person(person) => last_person = person.id,
                Event::Auction(auction) => {
                    assert!((FIRST_PERSON_ID..=last_person).contains(&auction.seller), "{n} {auction:?}");
                    last_auction = auction.id;
                }
                Event::Bid(bid) => {
                    assert!((FIRST_PERSON_ID..=last_person).contains(&bid.bidder), "{n} {bid:?}");
                    assert!((FIRST_AUCTION_ID..=last_auction).contains(&bid.auction), "{n} {bid:?}");
                }
            }
        }
    }
}

#[test]
fn standard_references_are_to_recent_ids_or_at_most_ten_ahead() {
    for (n, bid) in bids(standard(), 200_000) {
        let (last_person, last_auction) = (1_000 + n / 50, 1_000 + n / 50 * 3 + 2);
        let hot = (last_auction - 1_000) / 100 * 100 + 1_000;
        assert!(
            bid.auction <= last_auction + 10 && bid.auction >= hot.min((last_auction - 100).max(1_000)),
            "{n} {bid:?}"
        );
        assert!(bid.bidder <= last_person + 10 && bid.bidder + 1_000 > last_person, "{n} {bid:?}");
    }
    let ahead = bids(standard(), 200_000).filter(|(n, bid)| bid.auction > 1_002 + n / 50 * 3).count();
    assert!((0.035..0.055).contains(&share(ahead, 184_000)), "{ahead}");
}

#[test]
fn the_hot_auction_bidder_and_seller_get_their_shares() {
    let n = 200_000;
    let last = |n: u64| n / 50;
    let all: Vec<_> = bids(standard(), n).collect();
    let hot_auction =
        all.iter().filter(|(n, bid)| bid.auction == 1_000 + (last(*n) * 3 + 2) / 100 * 100).count();
    let hot_bidder = all.iter().filter(|(n, bid)| bid.bidder == 1_001 + last(*n) / 100 * 100).count();
    // A tenth of a percent or so of the others hit the hot one too.
    assert!((0.495..0.515).contains(&share(hot_auction, all.len())), "{hot_auction}");
    assert!((0.745..0.76).contains(&share(hot_bidder, all.len())), "{hot_bidder}");
    let all: Vec<_> = auctions(standard(), n).collect();
    let hot_seller = all.iter().filter(|(n, auction)| auction.seller == 1_000 + last(*n) / 100 * 100).count();
    assert!((0.73..0.77).contains(&share(hot_seller, all.len())), "{hot_seller}");
}

#[test]
fn the_other_references_are_spread_evenly_over_those_allowed() {
    let config = NexmarkConfig {
        hot_auction_ratio: 1,
        hot_bidders_ratio: 1,
        in_flight_auctions: 9,
        active_people: 10,
        id_lead: 0,
        ..NexmarkConfig::unbounded()
    };
    let (mut ages_of_auctions, mut ages_of_bidders) = ([0; 10], [0; 10]);
    for (n, bid) in bids(generator(config), 100_000).filter(|(n, _)| *n > 1_000) {
        ages_of_auctions[(1_002 + n / 50 * 3 - bid.auction) as usize] += 1;
        ages_of_bidders[(1_000 + n / 50 - bid.bidder) as usize] += 1;
    }
    for ages in [ages_of_auctions, ages_of_bidders] {
        assert!(ages.iter().all(|count| (8_700..9_550).contains(count)), "{ages:?}");
    }
}

#[test]
fn prices_spread_evenly_over_their_six_decades() {
    let mut decades = [0; 6];
    for (_, bid) in bids(standard(), 100_000) {
        decades[(bid.price.ilog10() as usize - 2).min(5)] += 1;
    }
    assert!(decades.iter().all(|count| (14_900..15_800).contains(count)), "{decades:?}");
}

#[test]
fn half_of_the_bids_come_through_the_four_hot_channels() {
    let mut counts = [0; 5];
    for (_, bid) in bids(standard(), 100_000) {
        counts[bid.channel.0.checked_sub(CHANNELS).map_or(4, usize::from)] += 1;
    }
    assert!(counts[..4].iter().all(|count| (11_000..12_000).contains(count)), "{counts:?}");
    assert!((45_300..46_700).contains(&counts[4]), "{counts:?}");
}

#[test]
fn about_as_many_auctions_are_open_as_should_be() {
    let all: Vec<_> = auctions(standard(), 100_000).map(|(_, auction)| auction).collect();
    for now in (1_436_918_403_000..1_436_918_409_000).step_by(500) {
        let open = all.iter().filter(|auction| (auction.date_time..=auction.expires).contains(&now)).count();
        assert!((75..130).contains(&open), "{open} at {now}");
    }
    assert!(all.iter().all(|auction| (1..=334).contains(&(auction.expires - auction.date_time))));
    assert!(all.iter().all(|auction| auction.reserve > auction.initial_bid && auction.initial_bid >= 100));
}

#[test]
fn categories_cities_and_states_are_all_met() {
    let mut categories: Vec<_> = auctions(standard(), 5_000).map(|(_, auction)| auction.category).collect();
    categories.sort_unstable();
    categories.dedup();
    assert_eq!(categories, Category::ALL);
    let persons = (0..200).filter_map(|epoch| standard().event(epoch * 50).person().copied());
    let (mut cities, mut states): (Vec<_>, Vec<_>) =
        persons.map(|person| (person.city, person.state)).unzip();
    cities.sort_unstable();
    cities.dedup();
    states.sort_unstable();
    states.dedup();
    assert_eq!((cities.as_slice(), states.as_slice()), (City::ALL, State::ALL));
}

#[test]
fn events_are_a_hundred_microseconds_apart_unless_told_otherwise() {
    let base = 1_436_918_400_000;
    let times = |generator: Generator, numbers: [u64; 4]| numbers.map(|n| generator.date_time(n) - base);
    assert_eq!(times(standard(), [0, 9, 10, 10_000]), [0, 0, 1, 1_000]);
    let slow = generator(NexmarkConfig { events_per_second: 3, ..NexmarkConfig::unbounded() });
    assert_eq!(times(slow, [0, 1, 2, 3]), [0, 333, 666, 1_000]);
    let negative = generator(NexmarkConfig { base_time_ms: -5, ..NexmarkConfig::unbounded() });
    assert_eq!(negative.date_time(100), 5);
}

#[test]
fn the_largest_options_and_numbers_do_not_overflow() {
    let count = 1 << 30;
    let config = NexmarkConfig {
        events_per_second: 1,
        base_time_ms: 1 << 60,
        hot_auction_ratio: count,
        hot_bidders_ratio: count,
        hot_sellers_ratio: count,
        active_people: count,
        in_flight_auctions: count,
        id_lead: count,
        ..NexmarkConfig::unbounded()
    };
    for config in
        [config.clone(), NexmarkConfig { events_per_second: 1 << 30, base_time_ms: -1 << 60, ..config }]
    {
        let all = generator(config);
        for n in (0..100).chain(EVENTS_MAX - 100..EVENTS_MAX) {
            let event = all.event(n);
            assert!(event.auction().is_none_or(|auction| auction.expires > auction.date_time));
        }
    }
}

#[test]
fn the_seed_changes_what_is_random_and_nothing_else() {
    let other = generator(NexmarkConfig { seed: 1, ..NexmarkConfig::unbounded() });
    let mut same_prices = 0;
    for n in 0..5_000 {
        let (a, b) = (standard().event(n), other.event(n));
        assert_eq!(a, standard().event(n));
        assert_eq!(a.date_time(), b.date_time());
        assert_eq!(a.person().map(|p| p.id), b.person().map(|p| p.id));
        assert_eq!(a.auction().map(|a| a.id), b.auction().map(|a| a.id));
        same_prices += u32::from(a.bid().zip(b.bid()).is_some_and(|(a, b)| a.price == b.price));
    }
    assert!(same_prices < 50, "{same_prices}");
}

/// Recorded results and oracles of other runs depend on these: change them knowingly.
#[test]
fn the_events_of_seed_zero_are_pinned() {
    let hash = (0..10_000).fold(0, |hash: u64, n| {
        hash.wrapping_mul(31).wrapping_add(flott_types::key_hash(&standard().event(n)))
    });
    assert_eq!(hash, 3_999_457_817_000_409_917);
}
