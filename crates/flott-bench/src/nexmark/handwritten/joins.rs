//! q3, q4, q8.

use std::collections::BTreeMap;
use std::hint::black_box;

use flott_api::windowing::TimeWindow;
use flott_connector_nexmark::queries::{
    CategoryPrice, LOCAL_CATEGORY, LocalItem, NewSeller, WINDOW_MS, is_local,
};
use flott_connector_nexmark::{Auction, Category, Event, Person};
use flott_types::Timestamp;

use super::{KeyMap, Results, for_each, sequence};

/// What looks at persons and auctions.
trait House {
    fn on_person(&mut self, person: Person);
    fn on_auction(&mut self, auction: &Auction);
}

/// How many persons are made at once, with three times as many auctions.
const PERSONS_PER_BLOCK: u64 = 256;

/// Persons and auctions in the order of their events, one person before three auctions, without the bids between.
#[inline(always)]
fn read_persons_and_auctions(events: u64, house: &mut impl House) {
    let (all_persons, all_auctions) = (sequence::<Person>(events), sequence::<Auction>(events));
    let (mut persons, mut auctions) = (Vec::new(), Vec::new());
    for start in (0..all_persons.len()).step_by(PERSONS_PER_BLOCK as usize) {
        let end = start + PERSONS_PER_BLOCK;
        persons.clear();
        persons.extend((start..end.min(all_persons.len())).map(|position| all_persons.get(position)));
        auctions.clear();
        auctions.extend(
            (start * 3..(end * 3).min(all_auctions.len())).map(|position| all_auctions.get(position)),
        );
        let mut auctions = black_box(&auctions).chunks(3);
        for person in black_box(&persons) {
            house.on_person(*person);
            auctions.next().into_iter().flatten().for_each(|auction| house.on_auction(auction));
        }
    }
}

/// A table of sellers, and one of auctions that wait for theirs.
pub(super) fn q3(events: u64) -> Results {
    let mut state = LocalItems::default();
    read_persons_and_auctions(events, &mut state);
    state.results
}

#[derive(Default)]
struct LocalItems {
    sellers: KeyMap<Person>,
    waiting: KeyMap<Vec<u64>>,
    results: Results,
}

impl House for LocalItems {
    #[inline(always)]
    fn on_person(&mut self, person: Person) {
        if is_local(person.state) {
            for auction in self.waiting.remove(&person.id).into_iter().flatten() {
                self.results.add(&item(&person, auction));
            }
            self.sellers.insert(person.id, person);
        }
    }

    #[inline(always)]
    fn on_auction(&mut self, auction: &Auction) {
        if auction.category == LOCAL_CATEGORY {
            match self.sellers.get(&auction.seller) {
                Some(seller) => self.results.add(&item(seller, auction.id)),
                None => self.waiting.entry(auction.seller).or_default().push(auction.id),
            }
        }
    }
}

fn item(seller: &Person, auction: u64) -> LocalItem {
    LocalItem { name: seller.name(), city: seller.city, state: seller.state, auction }
}

struct Open {
    opens: Timestamp,
    expires: Timestamp,
    category: Category,
    highest: Option<u64>,
}

/// Sum and number of winning bids by category.
#[derive(Default)]
struct Averages(BTreeMap<Category, (u64, u64)>);

impl Averages {
    fn close(&mut self, auction: &Open) {
        if let Some(price) = auction.highest {
            let (sum, count) = self.0.entry(auction.category).or_default();
            *sum += price;
            *count += 1;
        }
    }
}

/// A table of open auctions, swept when it has doubled, and the bids of the current millisecond that came before their
/// auction.
pub(super) fn q4(events: u64) -> Results {
    const SWEEP_AT_MIN: usize = 512;
    let mut open = KeyMap::<Open>::default();
    let mut sweep_at = SWEEP_AT_MIN;
    let mut early: Vec<(u64, u64)> = Vec::new();
    let mut averages = Averages::default();
    let mut now = Timestamp::MIN;
    for_each::<Event>(events, |event| {
        if event.date_time() != now {
            now = event.date_time();
            early.clear();
            if open.len() >= sweep_at {
                open.extract_if(|_, auction| auction.expires < now)
                    .for_each(|(_, auction)| averages.close(&auction));
                sweep_at = SWEEP_AT_MIN.max(open.len() * 2);
            }
        }
        match event {
            Event::Person(_) => {}
            Event::Auction(auction) => {
                let bids = early.iter().filter(|bid| bid.0 == auction.id);
                let highest = bids.map(|bid| bid.1).max();
                let (opens, expires) = (auction.date_time, auction.expires);
                open.insert(auction.id, Open { opens, expires, category: auction.category, highest });
            }
            Event::Bid(bid) => match open.get_mut(&bid.auction) {
                Some(auction) => {
                    if (auction.opens..=auction.expires).contains(&bid.date_time) {
                        auction.highest = auction.highest.max(Some(bid.price));
                    }
                }
                None => early.push((bid.auction, bid.price)),
            },
        }
    });
    open.values().for_each(|auction| averages.close(auction));
    let mut results = Results::default();
    for (category, (sum, count)) in averages.0 {
        results.add(&CategoryPrice { category, average: sum / count });
    }
    results
}

/// A table per window of who has registered and who sells.
pub(super) fn q8(events: u64) -> Results {
    let mut state = NewSellers::default();
    read_persons_and_auctions(events, &mut state);
    state.close();
    state.results
}

#[derive(Default)]
struct NewSellers {
    results: Results,
    window: Option<TimeWindow>,
    people: KeyMap<(Option<Person>, bool)>,
}

impl House for NewSellers {
    #[inline(always)]
    fn on_person(&mut self, person: Person) {
        self.advance(person.date_time);
        self.people.entry(person.id).or_default().0 = Some(person);
    }

    #[inline(always)]
    fn on_auction(&mut self, auction: &Auction) {
        self.advance(auction.date_time);
        self.people.entry(auction.seller).or_default().1 = true;
    }
}

impl NewSellers {
    #[inline(always)]
    fn advance(&mut self, now: Timestamp) {
        if self.window.is_none_or(|window| now >= window.end) {
            self.close();
            let start = now - now.rem_euclid(WINDOW_MS);
            self.window = Some(TimeWindow { start, end: start + WINDOW_MS });
        }
    }

    fn close(&mut self) {
        let Some(window) = self.window else { return };
        for (_, (person, sells)) in self.people.drain() {
            if let Some(person) = person.filter(|_| sells) {
                self.results.add(&NewSeller { window, id: person.id, name: person.name() });
            }
        }
    }
}
