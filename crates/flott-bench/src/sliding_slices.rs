//! What many windows per record cost: windows of 10 min that slide by 1 s, and by 5 min, over the same records.
//!
//! A record is in 600 windows or in two. Of 1,000 keys, with 50,000 records per second of event time. The windows that
//! slide by a second have 300 times as many results, which count as part of the cost; they are at most 0.02 per record.
//! The target: at most three times the cost per record, so a rate of at least a third.

use std::time::Duration;

use flott_api::windowing::SlidingEventTimeWindows;

use crate::engine::{self, BlockSource, Count};
use crate::records::record;
use crate::scenario::{Case, Contender, Family, Outcome, Scenario};

const N_KEYS: u64 = 1_000;
const RECORDS_PER_MS: i64 = 50;
const SIZE: Duration = Duration::from_secs(600);

pub(crate) fn scenario() -> Scenario {
    Scenario {
        name: "sliding-slices",
        about: "count per key and window of 10 min, by slide",
        records: 50_000_000,
        cases: vec![Case {
            name: "10 min".to_owned(),
            contenders: vec![contender("flott, by 5 min", 300), contender("flott, by 1 s", 1)],
        }],
    }
}

fn contender(name: &'static str, slide_s: u64) -> Contender {
    let slide = Duration::from_secs(slide_s);
    Contender::new(Family::Flott, name, move |records, parallelism| run(records, parallelism, slide))
        .not_compared()
}

fn run(records: u64, parallelism: usize, slide: Duration) -> Outcome {
    Outcome::measure(|| {
        let env = engine::environment(parallelism);
        let make = |index| {
            let (key, timestamp) = record(index, N_KEYS);
            (key, timestamp / RECORDS_PER_MS)
        };
        let counts = BlockSource::timed(records, make)
            .stream(&env)
            .key_by(|key| *key)
            .window(SlidingEventTimeWindows::of(SIZE, slide))
            .aggregate_with(Count, |key, ctx, count| (*key, ctx.window.end, count));
        engine::run(&env, &counts, |sum, (key, window_end, count)| sum.add(*key, *window_end, *count))
    })
}
