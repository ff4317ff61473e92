//! The typed programs.

use flott_nexmark::{Query, SinkKind, programs};

use super::{add_bidder_count, config};
use crate::engine;
use crate::scenario::{Checksum, Outcome};

pub(super) fn run(query: Query, events: u64, parallelism: usize) -> Outcome {
    Outcome::measure(|| {
        let (env, config) = (engine::environment(parallelism), config(events));
        if query == Query::Q12 {
            let counts = programs::q12(&env, &config).expect("the standard options are valid");
            return engine::run(&env, &counts, add_bidder_count);
        }
        match flott_nexmark::run(query, &config, &env, SinkKind::Fingerprint) {
            Ok(done) => done.fingerprint.map_or_else(Checksum::default, Checksum::from),
            Err(error) => panic!("{query} failed: {}", error.report()),
        }
    })
}
