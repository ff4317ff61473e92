//! Prints measurements: a table per case for people, one JSON document for programs.

use serde::Serialize;

use crate::runner::{Entry, Measurement};
use crate::scenario::{Case, Checksum, Family, Scenario};

/// All that one invocation measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// One contender of one case at one parallelism.
#[derive(Debug, Serialize)]
struct Row {
    scenario: &'static str,
    case: String,
    parallelism: usize,
    family: Family,
    contender: &'static str,
    records: u64,
    /// Million records per second: the median of all runs.
    mrecs_per_s: f64,
    /// The same of each run, slowest first.
    mrecs_per_s_by_run: Vec<f64>,
    /// The median divided by that of the first contender of the case.
    ratio_to_reference: f64,
    checksum: Checksum,
    #[serde(skip_serializing_if = "Option::is_none")]
    known_wrong: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

impl Report {
    /// Takes the rows of one case up.
    pub(crate) fn add(&mut self, scenario: &Scenario, case: &Case, measurements: &[Measurement<'_>]) {
        for measurement in measurements {
            self.rows.extend(measurement.entries.iter().map(|entry| Row {
                scenario: scenario.name,
                case: case.name.clone(),
                parallelism: measurement.parallelism,
                family: entry.contender.family,
                contender: entry.contender.name,
                records: entry.records,
                mrecs_per_s: entry.median_rate(),
                mrecs_per_s_by_run: entry.rates(),
                ratio_to_reference: ratio(measurement, entry),
                checksum: entry.checksum,
                known_wrong: entry.contender.known_wrong,
                note: entry.contender.note,
            }));
        }
    }

    /// The whole report as JSON.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has only strings and finite numbers")
    }
}

/// One case as a table: a row per contender, a group of columns per parallelism.
pub(crate) fn table(scenario: &Scenario, case: &Case, measurements: &[Measurement<'_>]) -> String {
    let Some(first) = measurements.first() else {
        return String::new();
    };
    let runs = first.entries.first().map_or(0, |entry| entry.elapsed.len());
    let mut text =
        format!("{}, {} (Mrec/s: median of {runs} runs, slowest-fastest)\n", scenario.name, case.name);
    text += &format!("{:<24}", "");
    for measurement in measurements {
        text += &format!("{:>31}", format!("parallelism {}", measurement.parallelism));
    }
    text.push('\n');
    for (row_idx, entry) in first.entries.iter().enumerate() {
        text += &format!("{:<24}", entry.contender.name);
        for measurement in measurements {
            text += &cell(measurement, &measurement.entries[row_idx]);
        }
        text.push('\n');
    }
    for entry in &first.entries {
        text += &footnotes(entry);
    }
    text
}

fn cell(measurement: &Measurement<'_>, entry: &Entry<'_>) -> String {
    let rates = entry.rates();
    let spread = match (rates.first(), rates.last()) {
        (Some(slowest), Some(fastest)) => format!("{slowest:.0}-{fastest:.0}"),
        _ => String::new(),
    };
    format!("{:>10.1} {:>11} {:>7.2}x", entry.median_rate(), spread, ratio(measurement, entry))
}

fn ratio(measurement: &Measurement<'_>, entry: &Entry<'_>) -> f64 {
    measurement.entries.first().map_or(1.0, |reference| entry.median_rate() / reference.median_rate())
}

fn footnotes(entry: &Entry<'_>) -> String {
    let contender = entry.contender;
    let mut text = String::new();
    if let Some(note) = contender.note {
        text += &format!("  {}: {note}\n", contender.name);
    }
    if let Some(why) = contender.known_wrong {
        text += &format!(
            "  {}: wrong results ({why}): {} of them on {} records\n",
            contender.name, entry.checksum.n_results, entry.records
        );
    }
    text
}
