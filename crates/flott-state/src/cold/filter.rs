//! Which keys a run may have: a blocked Bloom filter.
//!
//! All bits of a key lie in one cache line (Putze, Sanders, Singler, "Cache-, hash- and space-efficient Bloom filters",
//! 2007), so that a key that is not there costs one cache miss per run. It can be filled while a run is written; xor and
//! ribbon filters are smaller but need all keys at once.

/// Bits per key where memory allows: about one key in a hundred that is not there seems to be.
const BITS_PER_KEY: u64 = 10;

/// With fewer bits per key than this a filter says yes so often that it is not worth its memory.
const BITS_PER_KEY_MIN: u64 = 3;

const LINE_BITS: u64 = 512;

/// A set of orders that sometimes claims to have one more.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Empty if the filter knows nothing.
    lines: Vec<[u64; 8]>,
    n_probes: u32,
}

/// The folded product of wyhash: all bits depend on all bits.
#[inline]
fn mix(order: u64) -> u64 {
    let product = u128::from(order ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f;
    (product as u64) ^ ((product >> 64) as u64)
}

impl Filter {
    /// A filter for so many keys that takes about `bytes_max` at most.
    pub(crate) fn new(n_keys: u64, bytes_max: u64) -> Self {
        let n_keys = n_keys.max(1);
        let bits_per_key = BITS_PER_KEY.min(bytes_max.saturating_mul(8) / n_keys);
        if bits_per_key < BITS_PER_KEY_MIN {
            return Self { lines: Vec::new(), n_probes: 0 };
        }
        let n_lines = (n_keys * bits_per_key).div_ceil(LINE_BITS);
        // The best number is ln 2 times the bits per key.
        let n_probes = (bits_per_key * 7 / 10).clamp(1, 7) as u32;
        Self { lines: vec![[0; 8]; n_lines as usize], n_probes }
    }

    #[inline]
    fn line_of(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize
    }

    /// Adds an order.
    pub(crate) fn insert(&mut self, order: u64) {
        let hash = mix(order);
        let (line_idx, n_probes) = (self.line_of(hash), self.n_probes);
        if let Some(line) = self.lines.get_mut(line_idx) {
            for_each_bit(hash, n_probes, |word, bit| {
                line[word] |= bit;
                true
            });
        }
    }

    /// Whether the order may have been added; false is sure.
    #[inline]
    pub(crate) fn may_contain(&self, order: u64) -> bool {
        let hash = mix(order);
        match self.lines.get(self.line_of(hash)) {
            Some(line) => for_each_bit(hash, self.n_probes, |word, bit| line[word] & bit != 0),
            None => true,
        }
    }

    /// Bytes of memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(self.lines.as_slice())
    }
}

/// Calls `each` for the bits of a hash until it says no: nine bits of a second product choose each of them.
#[inline]
fn for_each_bit(hash: u64, n_probes: u32, mut each: impl FnMut(usize, u64) -> bool) -> bool {
    let mut bits = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for _ in 0..n_probes {
        let place = bits >> 55;
        if !each((place >> 6) as usize, 1 << (place & 63)) {
            return false;
        }
        bits <<= 9;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_types::key_hash;

    #[test]
    fn what_was_added_is_there_and_little_else() {
        for (bytes_max, false_max) in [(u64::MAX, 300), (5_000, 3_500)] {
            let mut filter = Filter::new(10_000, bytes_max);
            (0..10_000_u64).for_each(|key| filter.insert(key_hash(&key)));
            assert!((0..10_000_u64).all(|key| filter.may_contain(key_hash(&key))));
            let n_false = (10_000..20_000_u64).filter(|key| filter.may_contain(key_hash(key))).count();
            assert!(n_false < false_max, "{n_false} of 10,000 with {} bytes", filter.memory_bytes());
        }
    }

    #[test]
    fn a_filter_without_memory_knows_nothing() {
        let mut filter = Filter::new(1000, 100);
        filter.insert(1);
        assert!(filter.may_contain(1) && filter.may_contain(2));
        assert_eq!(filter.memory_bytes(), 0);
    }
}
