//! The one type of record that all simulated programs have, so that any operator can follow any other.

use flott_types::Timestamp;
use serde::{Deserialize, Serialize};

/// Operators that make records of their own number them from here as origins; below are the splits of sources.
const FIRST_OPERATOR_ORIGIN: u32 = 1 << 20;

/// A record that knows where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Record {
    /// The key by which streams are divided.
    pub key: u32,
    /// The event time, equal to the timestamp that the engine carries beside the record.
    pub timestamp: Timestamp,
    /// The split, or the operator that made it.
    pub origin: u32,
    /// The position in the split.
    pub seq: u64,
    /// Different for any two records of a stream.
    pub uid: u64,
    /// What is computed with.
    pub value: i64,
    /// A second result: the start of a window, a count.
    pub aux: i64,
    /// No watermark above it was in front of this record, as far as its split can tell.
    pub horizon: Timestamp,
    /// The uids of the records that this one was made from.
    pub parts: Vec<u64>,
}

impl Record {
    /// What an operator `node` makes of the records `parts`; the order of `parts` counts.
    pub(crate) fn made(
        node: usize,
        key: u32,
        timestamp: Timestamp,
        aux: i64,
        value: i64,
        parts: Vec<u64>,
    ) -> Self {
        let numbers = [node as u64, u64::from(key), timestamp as u64, aux as u64];
        let uid = numbers.iter().chain(&parts).fold(0, |uid, number| mix(uid, *number));
        let origin = FIRST_OPERATOR_ORIGIN + node as u32;
        Self { key, timestamp, origin, seq: 0, uid, value, aux, horizon: Timestamp::MAX, parts }
    }
}

/// A hash of two numbers: the finalizer of SplitMix64.
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.rotate_left(29) ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x2545_f491_4f6c_dd1d);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
