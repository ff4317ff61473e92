//! Nexmark query 8.

use super::{EventTime, auctions, persons};
use flott_api::AggregateFunction;
use flott_api::windowing::TumblingEventTimeWindows;
use flott_connector_nexmark::queries::{NewSeller, WINDOW_MS};
use flott_connector_nexmark::{NexmarkConfig, Person};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::Result;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a person does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Deed {
    Registers(Person),
    Sells(u64),
}

impl Deed {
    fn person(&self) -> u64 {
        match self {
            Self::Registers(person) => person.id,
            Self::Sells(seller) => *seller,
        }
    }
}

/// Monitor new users: who registers and opens an auction in the same window of 10 s.
///
/// The window keeps one flag and the person, not the auctions to be joined.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn q8(env: &StreamExecutionEnvironment, config: &NexmarkConfig) -> Result<DataStream<NewSeller>> {
    let registrations = persons(env, config, EventTime::Used)?.map(Deed::Registers);
    let sales = auctions(env, config, EventTime::Used)?.map(|auction| Deed::Sells(auction.seller));
    let sellers = registrations
        .union(&sales)
        .key_by(Deed::person)
        .window(TumblingEventTimeWindows::of(Duration::from_millis(WINDOW_MS.unsigned_abs())))
        .aggregate_with(RegistersAndSells, |_, ctx, person| {
            person.map(|person| NewSeller { window: *ctx.window, id: person.id, name: person.name() })
        });
    Ok(sellers.flat_map(|seller| seller).name("new sellers"))
}

/// The person, if both has happened.
#[derive(Clone, Copy, Debug)]
struct RegistersAndSells;

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Deeds {
    registered: Option<Person>,
    sells: bool,
}

impl AggregateFunction<Deed> for RegistersAndSells {
    type Accumulator = Deeds;
    type Output = Option<Person>;

    fn create_accumulator(&self) -> Deeds {
        Deeds::default()
    }

    fn add(&self, deeds: &mut Deeds, deed: &Deed) {
        match deed {
            Deed::Registers(person) => deeds.registered = Some(*person),
            Deed::Sells(_) => deeds.sells = true,
        }
    }

    fn get_result(&self, deeds: &Deeds) -> Option<Person> {
        deeds.registered.filter(|_| deeds.sells)
    }

    fn merge(&self, deeds: &mut Deeds, other: &Deeds) {
        deeds.registered = deeds.registered.or(other.registered);
        deeds.sells |= other.sells;
    }
}
