//! Which runs to merge next: a pure function of their sizes.
//!
//! Runs of about one size are merged four at a time, so a record is rewritten once for each power of four that the state
//! is larger than the write buffer (size-tiered; the fewest writes). When all newer runs together are as large as the
//! oldest, they are merged into it, so that the disk holds at most about twice the state (the last level is levelled, as
//! in Dayan and Idreos, "Dostoevsky", SIGMOD 2018).

use std::ops::Range;

/// How many runs of one tier are merged.
const FAN_IN: usize = 4;

/// From this tier on the oldest run is large enough that its share of outdated records matters.
const LEVELLED_TIER: u32 = 2;

/// What is known of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunInfo {
    pub(crate) n_bytes: u64,
    /// It is being merged.
    pub(crate) is_busy: bool,
}

/// The power of four by which a run is larger than a flushed buffer, rounded.
fn tier(run: RunInfo, unit_bytes: u64) -> u32 {
    let mut units = run.n_bytes / unit_bytes.max(1);
    let mut tier = 0;
    // Half a power on the logarithmic scale: two units are of tier 1.
    while units >= 2 {
        units /= FAN_IN as u64;
        tier += 1;
    }
    tier
}

/// The runs to merge, if any; `runs` are the newest first, and `unit_bytes` is the size of a flushed buffer.
pub(crate) fn pick(runs: &[RunInfo], unit_bytes: u64) -> Option<Range<usize>> {
    let tiers: Vec<u32> = runs.iter().map(|run| tier(*run, unit_bytes)).collect();
    levelled(runs, &tiers).or_else(|| tiered(runs, &tiers))
}

fn levelled(runs: &[RunInfo], tiers: &[u32]) -> Option<Range<usize>> {
    let start = runs.iter().rposition(|run| run.is_busy).map_or(0, |busy| busy + 1);
    let start = start + tiers.get(start..)?.iter().position(|tier| *tier > 0)?;
    let (oldest, newer) = runs.get(start..)?.split_last()?;
    let newer_bytes: u64 = newer.iter().map(|run| run.n_bytes).sum();
    let is_due = tiers.last().is_some_and(|tier| *tier >= LEVELLED_TIER) && newer_bytes >= oldest.n_bytes;
    is_due.then_some(start..runs.len())
}

fn tiered(runs: &[RunInfo], tiers: &[u32]) -> Option<Range<usize>> {
    let highest = tiers.iter().copied().max()?;
    (0..=highest).find_map(|wanted| {
        let is_barrier = |idx: &usize| runs[*idx].is_busy || tiers[*idx] > wanted;
        let mut start = 0;
        while start < runs.len() {
            let end = (start..runs.len()).find(is_barrier).unwrap_or(runs.len());
            let mut members = (start..end).filter(|idx| tiers[*idx] == wanted);
            let n_members = members.clone().count();
            if n_members >= FAN_IN {
                let first = members.next()?;
                return Some(first..members.next_back()? + 1);
            }
            start = end + 1;
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn picked(sizes: &[u64], busy: &[usize]) -> Option<Range<usize>> {
        let info =
            |(idx, n_bytes): (usize, &u64)| RunInfo { n_bytes: *n_bytes, is_busy: busy.contains(&idx) };
        let runs: Vec<_> = sizes.iter().enumerate().map(info).collect();
        pick(&runs, 1)
    }

    #[test]
    fn runs_of_one_size_are_merged_by_fours() {
        assert_eq!(picked(&[1, 1, 1], &[]), None);
        assert_eq!(picked(&[1, 1, 1, 1], &[]), Some(0..4));
        assert_eq!(picked(&[1, 1, 1, 4, 4, 4], &[]), None);
        assert_eq!(picked(&[1, 4, 4, 4, 4, 100], &[]), Some(1..5));
        assert_eq!(
            picked(&[1, 1, 1, 1, 4, 4, 4, 4], &[4, 5, 6, 7]),
            Some(0..4),
            "what is being merged is left alone"
        );
        assert_eq!(picked(&[1, 1, 1, 1], &[3]), None);
    }

    #[test]
    fn the_newer_runs_are_merged_into_the_oldest_when_they_are_as_large() {
        assert_eq!(picked(&[1, 1, 16, 32, 64], &[]), None);
        assert_eq!(picked(&[1, 1, 16, 16, 32, 64], &[]), Some(2..6));
        assert_eq!(picked(&[1, 1, 16, 16, 32, 64], &[3]), None);
    }

    proptest! {
        /// A flush at a time, each merge done at once.
        #[test]
        fn there_are_few_runs_and_little_is_outdated(n_flushes in 1_u64..3_000, drops in vec(0_u64..4, 1..8)) {
            let mut sizes: Vec<u64> = Vec::new();
            let mut rewritten = 0;
            for flush in 0..n_flushes {
                sizes.insert(0, 1);
                while let Some(range) = picked(&sizes, &[]) {
                    let merged: u64 = sizes[range.clone()].iter().sum();
                    rewritten += merged;
                    // Some records were outdated.
                    let kept = merged - merged * drops[flush as usize % drops.len()] / 8;
                    sizes.splice(range, [kept.max(1)]);
                }
                prop_assert!(sizes.len() <= 24, "{sizes:?}");
            }
            prop_assert!(rewritten <= n_flushes * 10, "{rewritten} for {n_flushes}");
        }
    }
}
