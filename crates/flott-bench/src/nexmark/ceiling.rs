//! How fast the records of a query can be made, in batches, with nothing done with them.

use std::hint::black_box;

use flott_connector_nexmark::{Event, NexmarkRecord, Sequence};
use flott_nexmark::Query;

use super::config;
use crate::records::BLOCK_LEN;
use crate::scenario::{Checksum, Outcome};

/// Makes all events.
pub(super) fn events(events: u64) -> Outcome {
    Outcome::measure(|| {
        make::<Event>(events);
        Checksum::default()
    })
}

/// Makes what `query` reads.
pub(super) fn of_query(query: Query, events: u64) -> Outcome {
    Outcome::measure(|| {
        flott_nexmark::generate(query, &config(events)).expect("the standard options are valid");
        Checksum::default()
    })
}

fn make<R: NexmarkRecord>(events: u64) {
    let sequence = Sequence::<R>::new(&config(events)).expect("the standard options are valid");
    let mut batch = Vec::with_capacity(BLOCK_LEN as usize);
    for start in (0..sequence.len()).step_by(BLOCK_LEN as usize) {
        batch.clear();
        let end = (start + BLOCK_LEN).min(sequence.len());
        batch.extend((start..end).map(|position| sequence.get(position)));
        black_box(batch.as_slice());
    }
}
