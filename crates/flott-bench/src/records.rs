//! The records of every keyed scenario and how they are dealt out to generators.
//!
//! Records are made inside the measured region, from their index alone, by functions that all
//! contenders share. Generator `g` of `P` makes the records whose index `i` has
//! `(i / BLOCK_LEN) % P == g`, in order of `i`; timestamps grow with `i`, so each generator is in
//! event-time order and all generators together are out of order by how far they drift apart.

use crate::hash::splitmix64;

/// A key and its event timestamp.
pub(crate) type Record = (u64, i64);

/// How many consecutive indices one generator makes before the next generator's turn.
pub(crate) const BLOCK_LEN: u64 = 1024;

/// Record `index` with a key out of `n_keys`, uniformly drawn; its timestamp is the index.
///
/// The key is reduced by a multiplication, not by `%`: a 64-bit division per record would cost
/// more than the whole count of a few keys.
#[inline(always)]
pub(crate) fn record(index: u64, n_keys: u64) -> Record {
    let key = (u128::from(splitmix64(index)) * u128::from(n_keys)) >> 64;
    (key as u64, index as i64)
}

/// The indices that one generator makes, ascending.
#[derive(Debug, Clone)]
pub(crate) struct GeneratorIndices {
    next: u64,
    block_end: u64,
    skip: u64,
    end: u64,
}

impl GeneratorIndices {
    pub(crate) fn new(records: u64, generator: usize, parallelism: usize) -> Self {
        let next = generator as u64 * BLOCK_LEN;
        Self { next, block_end: next + BLOCK_LEN, skip: (parallelism as u64 - 1) * BLOCK_LEN, end: records }
    }
}

impl Iterator for GeneratorIndices {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        if self.next == self.block_end {
            self.next += self.skip;
            self.block_end = self.next + BLOCK_LEN;
        }
        if self.next >= self.end {
            return None;
        }
        let index = self.next;
        self.next += 1;
        Some(index)
    }
}

/// The same indices block by block: what a loop that works on batches wants.
pub(crate) fn generator_blocks(
    records: u64,
    generator: usize,
    parallelism: usize,
) -> impl Iterator<Item = std::ops::Range<u64>> {
    (generator as u64 * BLOCK_LEN..records)
        .step_by(parallelism * BLOCK_LEN as usize)
        .map(move |start| start..(start + BLOCK_LEN).min(records))
}

/// Calls `on_run` with each unit of event time (window or slice) and the records of it.
///
/// `records` must be in event-time order: then one comparison per batch, not per record, finds
/// that the whole batch lies in one unit.
#[inline]
pub(crate) fn split_by_time_unit(mut records: &[Record], unit: i64, mut on_run: impl FnMut(i64, &[Record])) {
    while let (Some(first), Some(last)) = (records.first(), records.last()) {
        let unit_idx = first.1.div_euclid(unit);
        let unit_end = (unit_idx + 1) * unit;
        let run_len = if last.1 < unit_end {
            records.len()
        } else {
            records.partition_point(|record| record.1 < unit_end)
        };
        let (run, rest) = records.split_at(run_len);
        on_run(unit_idx, run);
        records = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generators_share_all_indices_in_blocks() {
        for records in [0, 1, 1024, 1025, 10_000] {
            for parallelism in [1, 2, 3] {
                let mut all = Vec::new();
                for generator in 0..parallelism {
                    let own: Vec<u64> = GeneratorIndices::new(records, generator, parallelism).collect();
                    let blocks: Vec<u64> =
                        generator_blocks(records, generator, parallelism).flatten().collect();
                    assert_eq!(own, blocks);
                    all.extend(own);
                }
                all.sort_unstable();
                assert_eq!(all, (0..records).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn runs_end_where_the_unit_ends() {
        let records: Vec<Record> = [-11, -10, -1, 0, 9, 10, 35].iter().map(|&ts| (0, ts)).collect();
        let mut runs = Vec::new();
        split_by_time_unit(&records, 10, |unit_idx, run| runs.push((unit_idx, run.len())));
        assert_eq!(runs, [(-2, 1), (-1, 2), (0, 2), (1, 1), (3, 1)]);
    }
}
