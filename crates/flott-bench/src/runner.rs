//! Runs the contenders of a case in turn, round by round, so that whatever slows the machine down
//! for a while slows all of them down, and compares what they computed.

use std::time::Duration;

use crate::scenario::{Case, Checksum, Contender, Family};

/// A warm-up run has this many times fewer records; it also fails early on a wrong result.
const WARM_UP_DIVISOR: u64 = 20;

/// Which runs to make of a case.
#[derive(Debug, Clone)]
pub(crate) struct RunConfig {
    pub(crate) records: u64,
    pub(crate) parallelism: usize,
    pub(crate) runs: usize,
    pub(crate) only: Vec<Family>,
}

/// All rounds of a case at one parallelism.
#[derive(Debug)]
pub(crate) struct Measurement<'a> {
    pub(crate) parallelism: usize,
    pub(crate) entries: Vec<Entry<'a>>,
}

/// All rounds of one contender.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) contender: &'a Contender,
    pub(crate) records: u64,
    pub(crate) elapsed: Vec<Duration>,
    pub(crate) checksum: Checksum,
}

impl Entry<'_> {
    /// Million records per second of each round, slowest first.
    pub(crate) fn rates(&self) -> Vec<f64> {
        let mut rates: Vec<f64> =
            self.elapsed.iter().map(|elapsed| self.records as f64 / elapsed.as_secs_f64() / 1e6).collect();
        rates.sort_by(f64::total_cmp);
        rates
    }

    /// The median of [`Entry::rates`].
    pub(crate) fn median_rate(&self) -> f64 {
        let rates = self.rates();
        let middle = rates.len() / 2;
        if rates.len() % 2 == 1 { rates[middle] } else { (rates[middle - 1] + rates[middle]) / 2.0 }
    }
}

/// Two contenders, or two runs of one, disagree.
#[derive(Debug, thiserror::Error)]
#[error(
    "checksum mismatch in case {case:?} at parallelism {parallelism} with {records} records: \
     {expected_of} has {expected:?}, {actual_of} has {actual:?}"
)]
pub(crate) struct Mismatch {
    case: String,
    parallelism: usize,
    records: u64,
    expected_of: &'static str,
    expected: Checksum,
    actual_of: &'static str,
    actual: Checksum,
}

/// Measures a case; `None` if no contender is asked for.
pub(crate) fn run_case<'a>(case: &'a Case, config: &RunConfig) -> Result<Option<Measurement<'a>>, Mismatch> {
    let contenders: Vec<&Contender> = case
        .contenders
        .iter()
        .filter(|contender| config.only.is_empty() || config.only.contains(&contender.family))
        .collect();
    if contenders.is_empty() {
        return Ok(None);
    }
    let warm_up = RunConfig { records: config.records / WARM_UP_DIVISOR, runs: 1, ..config.clone() };
    run_rounds(case, &contenders, &warm_up)?;
    run_rounds(case, &contenders, config).map(Some)
}

fn run_rounds<'a>(
    case: &Case,
    contenders: &[&'a Contender],
    config: &RunConfig,
) -> Result<Measurement<'a>, Mismatch> {
    let mut entries: Vec<Entry<'a>> = contenders
        .iter()
        .map(|&contender| Entry {
            contender,
            records: config.records.min(contender.records_max),
            elapsed: Vec::new(),
            checksum: Checksum::default(),
        })
        .collect();
    for round in 0..config.runs {
        for turn in 0..entries.len() {
            // Another contender begins each round: none always runs on the caches of the same one.
            let idx = (round + turn) % entries.len();
            let entry = &mut entries[idx];
            let outcome = (entry.contender.run)(entry.records, config.parallelism);
            entry.elapsed.push(outcome.elapsed);
            entry.checksum = outcome.checksum;
            check(case, config, &entries, idx)?;
        }
    }
    Ok(Measurement { parallelism: config.parallelism, entries })
}

/// Compares the contender that ran last with all that ran before, on as many records.
fn check(case: &Case, config: &RunConfig, entries: &[Entry<'_>], actual_idx: usize) -> Result<(), Mismatch> {
    let actual = &entries[actual_idx];
    let comparable = |entry: &&Entry<'_>| {
        !entry.elapsed.is_empty() && entry.contender.is_compared && entry.records == actual.records
    };
    if !actual.contender.is_compared {
        return Ok(());
    }
    match entries.iter().filter(comparable).find(|expected| expected.checksum != actual.checksum) {
        None => Ok(()),
        Some(expected) => Err(Mismatch {
            case: case.name.clone(),
            parallelism: config.parallelism,
            records: actual.records,
            expected_of: expected.contender.name,
            expected: expected.checksum,
            actual_of: actual.contender.name,
            actual: actual.checksum,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Outcome;

    fn contender(name: &'static str, n_results: u64) -> Contender {
        let elapsed = Duration::from_millis(n_results);
        Contender::new(Family::Flott, name, move |_, _| Outcome {
            elapsed,
            checksum: Checksum { sum: 1, n_results },
        })
    }

    fn case_of(contenders: Vec<Contender>) -> Case {
        Case { name: "case".to_owned(), contenders }
    }

    fn config() -> RunConfig {
        RunConfig { records: 100, parallelism: 1, runs: 3, only: Vec::new() }
    }

    #[test]
    fn contenders_that_disagree_are_refused() {
        let case = case_of(vec![contender("a", 1), contender("b", 2)]);
        let mismatch = run_case(&case, &config()).expect_err("the checksums differ").to_string();
        assert!(mismatch.contains("a has") && mismatch.contains("b has"), "{mismatch}");
    }

    #[test]
    fn a_contender_known_to_be_wrong_is_measured_and_not_compared() {
        let case = case_of(vec![contender("a", 1), contender("b", 2).known_wrong("rounds")]);
        let measurement = run_case(&case, &config()).expect("b is exempt").expect("both are asked for");
        assert_eq!(measurement.entries.iter().map(|entry| entry.elapsed.len()).collect::<Vec<_>>(), [3, 3]);
    }

    #[test]
    fn a_family_not_asked_for_is_not_run() {
        let case = case_of(vec![contender("a", 1)]);
        let only_timely = RunConfig { only: vec![Family::Timely], ..config() };
        assert!(run_case(&case, &only_timely).expect("nothing runs").is_none());
    }
}
