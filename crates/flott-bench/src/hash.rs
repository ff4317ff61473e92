//! The hash functions that the hand-written versions use: one multiplication each.

/// Hashes a key: a full 64 x 64 bit product, folded (as `foldhash` and `wyhash` do).
///
/// High bits pick the slot in a table, low bits the thread in an exchange, so that the keys of one
/// thread still spread over its whole table.
#[inline(always)]
pub(crate) fn key_hash(key: u64) -> u64 {
    let product = u128::from(key ^ 0x243f_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ ((product >> 64) as u64)
}

/// The thread that owns a key, of `parallelism`.
#[inline(always)]
pub(crate) fn owner_of_key(key: u64, parallelism: usize) -> usize {
    (((key_hash(key) & 0xffff_ffff) * parallelism as u64) >> 32) as usize
}

/// Hashes one emitted result, so that a wrapping sum over all results is a checksum that does not
/// depend on their order.
#[inline(always)]
pub(crate) fn result_hash(key: u64, time: i64, value: u64) -> u64 {
    key_hash(key.wrapping_add(key_hash((time as u64) ^ value.rotate_left(40))))
}

/// Sebastiano Vigna's splitmix64: the generator of all keys.
#[inline(always)]
pub(crate) fn splitmix64(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
