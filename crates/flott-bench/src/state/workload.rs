//! Which keys are read and written.

use crate::hash::splitmix64;
use crate::scenario::Outcome;
use std::time::Duration;

pub(crate) type Key = (u64, u64);
pub(crate) type Value = [u64; 4];

/// Records between two looks at anything else.
pub(crate) const BATCH: usize = 1_000;

const N_KEYS: u64 = 5_000_000;

/// Of [`Access::Hotspot`], the part of the keys that are hot, and the part of the accesses that they get.
const HOT_KEYS: f64 = 0.05;
const HOT_ACCESSES: f64 = 0.95;

/// How often which key is used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// YCSB's: the k-th most used key is used 1 / k^0.99 as often as the first.
    Zipf,
    /// YCSB's other distribution: one key in twenty gets 95 % of the accesses. These keys fit in memory, all keys do not.
    Hotspot,
    /// No key is hotter than another: nothing that fits in memory helps.
    Uniform,
}

impl Access {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zipf => "zipf 0.99",
            Self::Hotspot => "hotspot 5/95",
            Self::Uniform => "uniform",
        }
    }

    /// The ranks of the keys of so many records.
    pub(crate) fn draw(self, n_records: u64, n_keys: u64) -> Vec<u32> {
        let uniform = |record: u64| (splitmix64(record ^ 0x5bd1_e995) >> 11) as f64 / (1_u64 << 53) as f64;
        match self {
            Self::Uniform => (0..n_records).map(|record| (uniform(record) * n_keys as f64) as u32).collect(),
            Self::Hotspot => {
                let n_hot = (n_keys as f64 * HOT_KEYS).max(1.0);
                let rank = |uniform: f64| match uniform / HOT_ACCESSES {
                    hot if hot < 1.0 => hot * n_hot,
                    _ => n_hot + (uniform - HOT_ACCESSES) / (1.0 - HOT_ACCESSES) * (n_keys as f64 - n_hot),
                };
                (0..n_records).map(|record| rank(uniform(record)).min(n_keys as f64 - 1.0) as u32).collect()
            }
            Self::Zipf => {
                let zipf = Zipf::new(n_keys);
                (0..n_records).map(|record| zipf.rank(uniform(record))).collect()
            }
        }
    }
}

/// Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994.
struct Zipf {
    n_keys: f64,
    zeta: f64,
    eta: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    fn new(n_keys: u64) -> Self {
        let zeta: f64 = (1..=n_keys).map(|rank| (rank as f64).powf(-THETA)).sum();
        let zeta2 = 1.0 + 0.5_f64.powf(THETA);
        let n_keys = n_keys as f64;
        let eta = (1.0 - (2.0 / n_keys).powf(1.0 - THETA)) / (1.0 - zeta2 / zeta);
        Self { n_keys, zeta, eta }
    }

    fn rank(&self, uniform: f64) -> u32 {
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1;
        }
        let rank = self.n_keys * (self.eta * uniform - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        rank.min(self.n_keys - 1.0) as u32
    }
}

/// The key of a rank: keys of neighbouring ranks have nothing in common.
#[inline]
pub(crate) fn key_of(rank: u32) -> Key {
    let first = splitmix64(rank.into());
    (first, splitmix64(first))
}

#[inline]
pub(crate) fn new_value(key: &Key) -> Value {
    [key.0 >> 1, key.1, key.0 ^ key.1, 0]
}

/// The change that a record makes, which also makes a result.
#[inline]
pub(crate) fn change(value: &mut Value) -> u64 {
    value[3] += 1;
    value[0] = value[0].rotate_left(1);
    value[3]
}

/// A small run has fewer keys.
pub(crate) fn n_keys(n_records: u64) -> u64 {
    if n_records < 1_000_000 { (n_records / 2).max(1) } else { N_KEYS }
}

/// Bytes of memory for state on disk: an eighth of what the map of as many keys takes.
pub(crate) fn memory_bytes(n_keys: u64) -> u64 {
    let n_buckets = (n_keys * 8 / 7).next_power_of_two();
    n_buckets * (size_of::<(Key, Value)>() as u64 + 1) / 8
}

/// Each thread has keys, state and memory of its own.
#[expect(clippy::disallowed_methods, reason = "a store without the engine has threads of its own")]
pub(crate) fn on_threads(records: u64, parallelism: usize, run: impl Fn(u64) -> Outcome + Sync) -> Outcome {
    let run_share = || run(records / parallelism as u64);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parallelism).map(|_| scope.spawn(run_share)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a bench thread panicked")).collect()
    });
    let elapsed = outcomes.iter().map(|outcome| outcome.elapsed).max().unwrap_or(Duration::ZERO);
    Outcome { elapsed, checksum: outcomes.iter().map(|outcome| outcome.checksum).sum() }
}
