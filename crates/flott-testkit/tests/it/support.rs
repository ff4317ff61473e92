//! Records, and random streams of them.

use flott_env::sim::SimRng;
use flott_testkit::{Element, KeyValue, TwoInputElement, random_stream, random_two_input_stream};

/// Seeds of random streams.
pub(crate) const SEEDS: std::ops::Range<u64> = 0..3;
/// Elements of a random stream.
pub(crate) const LENGTH: usize = 24;

/// A record of one of four keys.
pub(crate) fn keyed(rng: &mut SimRng) -> KeyValue {
    let key = ["a", "b", "c", "d"][rng.below(4) as usize];
    KeyValue::new(key.to_owned(), rng.range(1..=9))
}

pub(crate) fn keyed_stream(seed: u64) -> Vec<Element<KeyValue>> {
    random_stream(seed, LENGTH, keyed)
}

pub(crate) fn two_keyed_streams(seed: u64) -> Vec<TwoInputElement<KeyValue, KeyValue>> {
    random_two_input_stream(seed, LENGTH, keyed, keyed)
}
