//! The same in Flott: a keyed stream with a sliding event-time window.

use std::time::Duration;

use flott_api::windowing::SlidingEventTimeWindows;
use flott_types::options;

use super::{SLICES_PER_WINDOW, SLIDE};
use crate::engine::{self, BlockSource, Count, WATERMARK_GRANULARITY};
use crate::records::record;
use crate::scenario::Outcome;

pub(super) fn run(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        let mut env = engine::environment(parallelism);
        env.set(options::WATERMARK_GRANULARITY, Duration::from_millis(WATERMARK_GRANULARITY));
        let slide = Duration::from_millis(SLIDE as u64);
        let counts = BlockSource::timed(records, move |index| record(index, n_keys))
            .stream(&env)
            .key_by(|key| *key)
            .window(SlidingEventTimeWindows::of(slide * SLICES_PER_WINDOW as u32, slide))
            .aggregate_with(Count, |key, ctx, count| (*key, ctx.window.end, count));
        engine::run(&env, &counts, |sum, (key, window_end, count)| sum.add(*key, *window_end, *count))
    })
}
