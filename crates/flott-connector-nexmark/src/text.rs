//! Strings, made on demand from the seed that a record carries.

use crate::random::scatter;

/// The shortest random string.
const STRING_LEN_MIN: u64 = 3;

/// One in so many characters of a string is its special one.
const SPECIAL_RATIO: u64 = 13;

/// Which string of a record; each has random numbers of its own and can be made without the others.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Field {
    Name = 1,
    Email,
    CreditCard,
    ItemName,
    Description,
    Extra,
    Url,
}

/// Random numbers for one string: SplitMix64.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letters(u64);

impl Letters {
    pub(crate) const fn new(seed: u32, field: Field) -> Self {
        Self(scatter(((field as u64) << 32) | seed as u64))
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scatter(self.0)
    }

    /// A number in `0..bound`; `bound` is small.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((self.word() >> 32) * bound) >> 32
    }

    /// One of `all`, which is not empty.
    pub(crate) fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        let idx = self.below(all.len() as u64) as usize;
        all.get(idx).copied().unwrap_or_default()
    }

    /// From three to `len_max - 1` letters, some of them replaced by `special`; spaces at the ends are trimmed.
    pub(crate) fn string(&mut self, len_max: u64, special: char) -> String {
        let len = STRING_LEN_MIN + self.below(len_max - STRING_LEN_MIN);
        let mut text = String::with_capacity(len as usize);
        for _ in 0..len {
            let is_special = self.below(SPECIAL_RATIO) == 0;
            text.push(if is_special { special } else { self.letter() });
        }
        text.trim().to_owned()
    }

    fn letter(&mut self) -> char {
        char::from(b'a' + self.below(26) as u8)
    }

    /// Letters that fill a record of `size` bytes up to `size_mean` on average, give or take a fifth.
    pub(crate) fn extra(&mut self, size: usize, size_mean: usize) -> String {
        let missing = size_mean.saturating_sub(size) as u64;
        let delta = (missing + 2) / 5;
        let len = missing - delta + if delta == 0 { 0 } else { self.below(2 * delta) };
        (0..len).map(|_| self.letter()).collect()
    }
}
