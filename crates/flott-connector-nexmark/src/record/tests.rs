//! Sizes, strings and wire forms of records.

use super::*;
use crate::Generator;
use crate::config::NexmarkConfig;
use expect_test::expect;
use std::fmt::Write as _;

fn generator() -> Generator {
    Generator::new(&NexmarkConfig { seed: 7, ..NexmarkConfig::unbounded() }).unwrap()
}

#[test]
fn records_are_small() {
    assert_eq!(
        (size_of::<Person>(), size_of::<Auction>(), size_of::<Bid>(), size_of::<Event>()),
        (24, 56, 40, 56)
    );
}

#[test]
fn strings_look_like_those_of_the_benchmark() {
    let mut text = String::new();
    for n in [100, 101, 104, 107] {
        match generator().event(n) {
            Event::Person(p) => {
                let (name, email, card) = (p.name(), p.email(), p.credit_card());
                writeln!(text, "{} {name} <{email}> {card} {} {}", p.id, p.city, p.state)
            }
            Event::Auction(a) => writeln!(text, "{} {} / {}", a.id, a.item_name(), a.description()),
            Event::Bid(b) => writeln!(text, "{} {} {} {}", b.auction, b.channel, b.url(), b.extra()),
        }
        .unwrap();
    }
    expect![[r#"
        1002 John Smith <osud@yof.com> 5391 6777 3789 3362 Los Angeles AZ
        1006 giqrsurnvnncq umaeu / mxprvsbodwctyfsxct ptqfjegcwhb jqmskwu xemcw
        1017 channel-9340 https://www.nexmark.com/ntn/myc/isyi/item.htm?query=1&channel_id=1042546688 unnqmlzierzgcndyqfvrjtwqweqwsgshgzkcbkcjqsvhomyvloigkpdzmicuqixbe
        1008 channel-6879 https://www.nexmark.com/yov/ub_/pek/item.htm?query=1&channel_id=78118912 hzlwkqpfsvbsrjovuicneprrdlxmnssuwamurxnkzlshyebblctidpyydvafal
    "#]].assert_eq(&text);
}

#[test]
fn channels_have_names_and_pages_of_their_own() {
    assert_eq!(Channel(0).name(), "channel-0");
    assert_eq!(Channel(9_999).to_string(), "channel-9999");
    assert_eq!([0, 1, 2, 3].map(|idx| Channel::hot(idx).name()), HOT_CHANNELS);
    assert_eq!(Channel::hot(1).to_string(), "Facebook");
    let pages = (0..CHANNELS + 4).map(|id| Channel(id).url());
    let with_id = pages.filter(|url| url.contains("&channel_id=")).count();
    assert!((8_800..9_200).contains(&with_id), "{with_id}");
    assert!((0..4).all(|idx| !Channel::hot(idx).url().contains("channel_id")));
}

#[test]
fn padding_brings_records_to_the_mean_size_of_the_benchmark() {
    let (mut bids, mut n_bids) = (0, 0);
    let (mut auctions, mut n_auctions) = (0, 0);
    let (mut persons, mut n_persons) = (0, 0);
    for n in 0..10_000 {
        match generator().event(n) {
            Event::Person(p) => {
                persons += 8 + [p.name(), p.email(), p.credit_card(), p.extra()].concat().len();
                persons += p.city.name().len() + p.state.name().len();
                n_persons += 1;
            }
            Event::Auction(a) => {
                auctions += 48 + [a.item_name(), a.description(), a.extra()].concat().len();
                n_auctions += 1;
            }
            Event::Bid(b) => {
                bids += 32 + b.extra().len();
                n_bids += 1;
            }
        }
    }
    let near = |sum: usize, n: usize, mean: usize| (sum / n).abs_diff(mean) * 50 <= mean;
    assert!(near(bids, n_bids, 100), "{}", bids / n_bids);
    assert!(near(auctions, n_auctions, 500), "{}", auctions / n_auctions);
    assert!(near(persons, n_persons, 200), "{}", persons / n_persons);
}

#[test]
fn records_come_back_from_their_wire_form() {
    for n in 0..200 {
        let event = generator().event(n);
        let bytes = postcard::to_allocvec(&event).unwrap();
        assert_eq!(postcard::from_bytes::<Event>(&bytes).unwrap(), event);
    }
}

#[test]
fn a_category_that_does_not_exist_is_refused() {
    assert_eq!(Category::ALL.map(Category::id), [10, 11, 12, 13, 14]);
    assert_eq!((Category::new(9), Category::new(15)), (None, None));
    let bytes = postcard::to_allocvec(&15_u64).unwrap();
    assert!(postcard::from_bytes::<Category>(&bytes).is_err());
}
