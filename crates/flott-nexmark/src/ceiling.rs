//! How fast a query could be: the making of its records, with nothing done with them.

use crate::query::Query;
use flott_connector_nexmark::{Auction, Bid, Event, NexmarkConfig, NexmarkRecord, Person, Sequence};
use flott_types::Result;
use std::hint::black_box;

/// As many as a batch has by default.
const BATCH_LEN: u64 = 1024;

/// Makes the records that `query` reads, in batches, on this thread and as fast as possible; returns how many there were.
/// How long it takes bounds what any program for the query can reach per core.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn generate(query: Query, config: &NexmarkConfig) -> Result<u64> {
    match query {
        Query::Q3 | Query::Q8 => Ok(make::<Person>(config)? + make::<Auction>(config)?),
        Query::Q4 => make::<Event>(config),
        Query::Q0 | Query::Q1 | Query::Q2 | Query::Q5 | Query::Q7 | Query::Q11 | Query::Q12 => {
            make::<Bid>(config)
        }
    }
}

fn make<R: NexmarkRecord>(config: &NexmarkConfig) -> Result<u64> {
    let sequence = Sequence::<R>::new(config)?;
    let mut batch = Vec::with_capacity(BATCH_LEN as usize);
    for start in (0..sequence.len()).step_by(BATCH_LEN as usize) {
        batch.clear();
        let end = (start + BATCH_LEN).min(sequence.len());
        batch.extend((start..end).map(|position| sequence.get(position)));
        black_box(batch.as_slice());
    }
    Ok(sequence.len())
}
