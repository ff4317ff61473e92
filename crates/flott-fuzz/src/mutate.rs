//! Random changes to inputs, the same for the same seed.

/// What decoders trip over.
const BYTES: [u8; 12] = [0, 1, 2, 0x7f, 0x80, 0xff, b'"', b'{', b'[', b',', b'\n', b'-'];

/// Inputs longer than this do not grow.
const LEN_MAX: usize = 1 << 16;

/// A source of changed inputs: SplitMix64 decides everything.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// Changes that `seed` decides.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// One of `seeds` with a few changes.
    pub fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(5) {
            self.change(&mut input, seeds);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let to = at + self.below((input.len() - at).min(32) + 1);
        let byte = BYTES.get(self.below(BYTES.len())).copied().unwrap_or_default();
        match self.below(8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..to)),
            2 if input.len() < LEN_MAX => input.insert(at, byte),
            3 if input.len() < LEN_MAX => {
                let piece = input.get(at..to).unwrap_or_default().to_vec();
                let times = 1 + self.below(64);
                drop(input.splice(at..at, piece.repeat(times)));
            }
            4 => {
                let other = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend(other.get(from..).unwrap_or_default());
            }
            5 => {
                if let Some(found) = input.get_mut(at) {
                    *found = byte;
                }
            }
            6 => {
                if let Some(found) = input.get_mut(at) {
                    *found = found.wrapping_add(1);
                }
            }
            _ => {
                let bit = 1 << self.below(8);
                if let Some(found) = input.get_mut(at) {
                    *found ^= bit;
                }
            }
        }
    }
}
