//! The same in Flott: a keyed stream with event-time sessions.

use std::time::Duration;

use flott_api::windowing::EventTimeSessionWindows;
use flott_types::options;

use super::{add_session, session_gap, session_record};
use crate::engine::{self, BlockSource, Count, WATERMARK_GRANULARITY};
use crate::scenario::Outcome;

pub(super) fn run(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        let mut env = engine::environment(parallelism);
        env.set(options::WATERMARK_GRANULARITY, Duration::from_millis(WATERMARK_GRANULARITY));
        let gap = session_gap(n_keys);
        let sessions = BlockSource::timed(records, move |index| session_record(index, n_keys))
            .stream(&env)
            .key_by(|key| *key)
            .window(EventTimeSessionWindows::with_gap(Duration::from_millis(gap as u64)))
            .aggregate_with(Count, |key, ctx, count| (*key, *ctx.window, count));
        engine::run(&env, &sessions, move |sum, (key, window, count)| {
            add_session(sum, *key, window.start, window.end - gap, *count);
        })
    })
}
