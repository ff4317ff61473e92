//! Stateless operators in a row: map, filter, flat map, filter, map, sum.
//!
//! A record is a `u64`; of 100 M records 75 M values reach the sum. What is measured is the cost
//! of a record's way from operator to operator, so each operator does a few instructions of work.

mod flott;
mod handwritten;
mod renoir;
mod timely;

use crate::scenario::{Case, Checksum, Contender, Family, Scenario};

pub(crate) fn scenario() -> Scenario {
    Scenario {
        name: "chain",
        about: "map, filter, flat map, filter and map of u64, folded into a sum",
        records: 100_000_000,
        cases: vec![Case {
            name: "5 operators".to_owned(),
            contenders: vec![
                Contender::new(Family::Handwritten, "handwritten", handwritten::run)
                    .note("the fused iterator"),
                Contender::new(Family::Flott, "flott", flott::run),
                Contender::new(Family::Timely, "timely", timely::run),
                Contender::new(Family::Renoir, "renoir", renoir::run),
            ],
        }],
    }
}

/// The first operator, a map.
#[inline(always)]
pub(crate) fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value ^ (value >> 29)
}

/// The second operator, a filter that keeps half of the records.
#[inline(always)]
pub(crate) fn is_kept(value: &u64) -> bool {
    value & (1 << 40) == 0
}

/// The third operator, a flat map to two values.
#[inline(always)]
pub(crate) fn split(value: u64) -> [u64; 2] {
    [value, value.rotate_left(23) ^ 0xbf58_476d_1ce4_e5b9]
}

/// The fourth operator, a filter that keeps three values of four.
#[inline(always)]
pub(crate) fn is_part_kept(value: &u64) -> bool {
    value & 3 != 0
}

/// The fifth operator, a map.
#[inline(always)]
pub(crate) fn finish(value: u64) -> u64 {
    value.wrapping_mul(0x94d0_49bb_1331_11eb) ^ (value >> 31)
}

/// Adds a value that came through the chain.
#[inline(always)]
pub(crate) fn add(checksum: &mut Checksum, value: u64) {
    checksum.sum = checksum.sum.wrapping_add(value);
    checksum.n_results += 1;
}
