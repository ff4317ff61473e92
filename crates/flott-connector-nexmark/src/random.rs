//! Random numbers by number, not by sequence; and division by a number that stays.

/// The increment and the mixing constant of wyrand.
const INCREMENT: u64 = 0xa076_1d64_78bd_642f;
const MIX: u64 = 0xe703_7ed1_a0b4_28db;

/// How many words an event may draw.
const WORDS_PER_EVENT: u64 = 4;

/// SplitMix64's finisher (Steele, Lea, Flood 2014).
#[inline]
pub(crate) const fn scatter(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The random words of one event: a stretch of the stream of wyrand (Wang Yi 2019), whose state is a counter and
/// whose `i`-th output can therefore be had without the ones before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    state: u64,
    #[cfg(debug_assertions)]
    left: u64,
}

impl Words {
    /// The words of event `n`; `stream` is the scattered seed.
    #[inline(always)]
    pub(crate) const fn of_event(stream: u64, n: u64) -> Self {
        Self {
            state: stream.wrapping_add(n.wrapping_mul(WORDS_PER_EVENT.wrapping_mul(INCREMENT))),
            #[cfg(debug_assertions)]
            left: WORDS_PER_EVENT,
        }
    }

    /// The next 64 bits.
    #[inline(always)]
    pub(crate) fn word(&mut self) -> u64 {
        #[cfg(debug_assertions)]
        {
            assert!(self.left > 0, "an event draws more than {WORDS_PER_EVENT} words");
            self.left -= 1;
        }
        self.state = self.state.wrapping_add(INCREMENT);
        let product = u128::from(self.state) * u128::from(self.state ^ MIX);
        (product as u64) ^ ((product >> 64) as u64)
    }

    /// The next 64 bits in two halves.
    #[inline(always)]
    pub(crate) fn halves(&mut self) -> (u32, u32) {
        let word = self.word();
        ((word >> 32) as u32, word as u32)
    }
}

/// A number in `0..bound` from a random fraction; `bound` is below 2^32.
#[inline(always)]
pub(crate) const fn below(fraction: u32, bound: u64) -> u64 {
    (fraction as u64 * bound) >> 32
}

/// A number in `0..bound` from a random fraction.
#[inline(always)]
pub(crate) const fn below_wide(fraction: u64, bound: u64) -> u64 {
    ((fraction as u128 * bound as u128) >> 64) as u64
}

/// Whether the fraction is *not* in the first of `ratio` parts, and where in its part it is: a new random fraction.
#[inline(always)]
pub(crate) const fn hot_and_rest(fraction: u32, ratio: u64) -> (bool, u32) {
    let product = fraction as u64 * ratio;
    (product >> 32 > 0, product as u32)
}

/// Divides by the same number many times: two multiplications instead of a division.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Divisor {
    divisor: u64,
    inverse: u64,
}

impl Divisor {
    /// `divisor` is at least 1.
    pub(crate) const fn new(divisor: u64) -> Self {
        Self { divisor, inverse: u64::MAX / divisor }
    }

    pub(crate) const fn get(self) -> u64 {
        self.divisor
    }

    /// `number / divisor`, exactly.
    #[inline(always)]
    pub(crate) const fn quotient(self, number: u64) -> u64 {
        // The inverse times the divisor is at most `divisor` short of 2^64, so the estimate is at most one short.
        let estimate = below_wide(number, self.inverse);
        estimate + (number - estimate * self.divisor >= self.divisor) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_exact() {
        let numbers = [0, 1, 2, 49, 50, 51, 999_999, u64::from(u32::MAX), 1 << 52, u64::MAX - 1, u64::MAX];
        for divisor in [1, 2, 3, 7, 50, 953, 10_000, (1 << 30) - 1, 1 << 30, u64::MAX / 2, u64::MAX] {
            let by = Divisor::new(divisor);
            let near = (0..2_000_u64).flat_map(|i| {
                let number = scatter(i);
                [number, number / divisor * divisor, (number / divisor * divisor).wrapping_sub(1)]
            });
            for number in numbers.into_iter().chain(near) {
                assert_eq!(by.quotient(number), number / divisor, "{number} / {divisor}");
            }
        }
    }

    #[test]
    fn draws_cover_their_range_evenly() {
        let mut counts = [0_u32; 7];
        for n in 0..70_000 {
            let (high, low) = Words::of_event(scatter(1), n).halves();
            counts[below(high, 7) as usize] += 1;
            let (_, rest) = hot_and_rest(low, 4);
            counts[below(rest, 7) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (19_400..20_600).contains(count)), "{counts:?}");
    }
}
