//! The programs, a function and a file per query.

mod highest;
mod q0;
mod q1;
mod q11;
mod q12;
mod q2;
mod q3;
mod q4;
mod q5;
mod q7;
mod q8;

pub use q0::q0;
pub use q1::q1;
pub use q2::q2;
pub use q3::q3;
pub use q4::q4;
pub use q5::q5;
pub use q7::q7;
pub use q8::q8;
pub use q11::q11;
pub use q12::q12;

use flott_api::{AggregateFunction, WatermarkStrategy};
use flott_connector_nexmark::{Auction, Bid, Event, NexmarkConfig, NexmarkRecord, NexmarkSource, Person};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::{Data, Result};

/// The names of the sources of all queries.
pub const SOURCES: [&str; 4] = ["events", "persons", "auctions", "bids"];

/// What a query does with the time of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventTime {
    Used,
    Unused,
}

fn source<R: NexmarkRecord>(
    env: &StreamExecutionEnvironment,
    config: &NexmarkConfig,
    event_time: EventTime,
    name: &str,
) -> Result<DataStream<R>> {
    let strategy = match event_time {
        // No record is late: the generator says by how much it shuffles.
        EventTime::Used => WatermarkStrategy::for_bounded_out_of_orderness(config.max_out_of_orderness()),
        EventTime::Unused => WatermarkStrategy::no_watermarks(),
    };
    Ok(env.from_source(NexmarkSource::of(config.clone())?, strategy, name).stream())
}

type Env = StreamExecutionEnvironment;

fn events(env: &Env, config: &NexmarkConfig, event_time: EventTime) -> Result<DataStream<Event>> {
    source(env, config, event_time, "events")
}

fn persons(env: &Env, config: &NexmarkConfig, event_time: EventTime) -> Result<DataStream<Person>> {
    source(env, config, event_time, "persons")
}

fn auctions(env: &Env, config: &NexmarkConfig, event_time: EventTime) -> Result<DataStream<Auction>> {
    source(env, config, event_time, "auctions")
}

fn bids(env: &Env, config: &NexmarkConfig, event_time: EventTime) -> Result<DataStream<Bid>> {
    source(env, config, event_time, "bids")
}

/// Counts records.
#[derive(Clone, Copy, Debug)]
struct Count;

impl<T: Data> AggregateFunction<T> for Count {
    type Accumulator = u64;
    type Output = u64;

    fn create_accumulator(&self) -> u64 {
        0
    }

    fn add(&self, count: &mut u64, _: &T) {
        *count += 1;
    }

    fn get_result(&self, count: &u64) -> u64 {
        *count
    }

    fn merge(&self, count: &mut u64, other: &u64) {
        *count += other;
    }
}
