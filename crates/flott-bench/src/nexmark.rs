//! The Nexmark queries: hand-written loops, the generator alone, and Flott's typed programs.
//!
//! A case's records are Nexmark *events*, of which a query reads only the kinds that it needs: 46 of 50 are bids, three
//! auctions, one a person. All contenders read the same sequences of the generator, record by record, and hash the
//! same results. The generator alone is the ceiling: it makes the records of the query in batches and does no more.
//!
//! Loops and generator have one thread whatever the parallelism, so only the ratio at parallelism 1 is one to a target. There
//! Flott has one thread too, except for q3 and q8: two sources and a join are three.

mod ceiling;
mod flott;
mod handwritten;

use flott_connector_nexmark::NexmarkConfig;
use flott_connector_nexmark::oracle::Fingerprint;
use flott_connector_nexmark::queries::BidderCount;
use flott_nexmark::Query;
use flott_types::key_hash;

use crate::scenario::{Case, Checksum, Contender, Family, Scenario};

pub(crate) fn scenario() -> Scenario {
    let mut cases: Vec<Case> = Query::ALL.into_iter().map(case).collect();
    cases.push(Case {
        name: "generator".to_owned(),
        contenders: vec![
            Contender::new(Family::Generator, "all events", |events, _| ceiling::events(events))
                .not_compared(),
            Contender::new(Family::Generator, "bids alone", |events, _| ceiling::of_query(Query::Q0, events))
                .not_compared(),
        ],
    });
    Scenario {
        name: "nexmark",
        about: "the Nexmark queries q0-q5, q7, q8, q11, q12",
        records: 20_000_000,
        cases,
    }
}

fn case(query: Query) -> Case {
    Case {
        // A space at the end tells q1 from q11.
        name: format!("{query} {}", query.title()),
        contenders: vec![
            Contender::new(Family::Handwritten, "handwritten", move |events, _| {
                handwritten::run(query, events)
            }),
            Contender::new(Family::Generator, "generator", move |events, _| ceiling::of_query(query, events))
                .not_compared(),
            Contender::new(Family::Flott, "flott", move |events, parallelism| {
                flott::run(query, events, parallelism)
            }),
        ],
    }
}

fn config(events: u64) -> NexmarkConfig {
    NexmarkConfig::bounded(events)
}

impl From<Fingerprint> for Checksum {
    fn from(fingerprint: Fingerprint) -> Self {
        Self { sum: fingerprint.hash, n_results: fingerprint.records }
    }
}

/// Adds a result of q12. Which window a bid is in depends on the clock, the sum over the windows of a bidder does not.
fn add_bidder_count(checksum: &mut Checksum, count: &BidderCount) {
    *checksum += Checksum { sum: key_hash(&count.bidder).wrapping_mul(count.bids), n_results: count.bids };
}
