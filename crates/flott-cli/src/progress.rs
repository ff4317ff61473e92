//! A line on the terminal that moves while a job runs.

use flott::env::Env;
use flott::{JobClient, JobStatus, OperatorReport, Timestamp};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// How often the line is drawn, and so by how much a job's end may be noticed late.
const INTERVAL: Duration = Duration::from_millis(20);

/// Whether a line would be seen: only on standard error, only if that is a terminal.
pub(crate) fn is_seen() -> bool {
    io::stderr().is_terminal()
}

/// Shows records in, records a second and the watermark until the job has ended.
pub(crate) fn watch(
    env: &Env,
    job: &JobClient,
    is_source: impl Fn(&OperatorReport) -> bool,
    format_time: impl Fn(Timestamp) -> String,
) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let started = env.now();
    while matches!(
        job.status(),
        JobStatus::Created
            | JobStatus::Running
            | JobStatus::Restarting
            | JobStatus::Cancelling
            | JobStatus::Failing
    ) {
        let seconds = (env.now() - started).as_secs_f64();
        bar.set_message(message(&job.operators(), seconds, &is_source, &format_time));
        bar.tick();
        env.block_on(env.sleep(INTERVAL));
    }
    bar.finish_and_clear();
}

fn message(
    operators: &[OperatorReport],
    seconds: f64,
    is_source: impl Fn(&OperatorReport) -> bool,
    format_time: impl Fn(Timestamp) -> String,
) -> String {
    let records: u64 = operators.iter().filter(|it| is_source(it)).map(|source| source.records_out).sum();
    let rate = if seconds > 0.0 { records as f64 / seconds } else { 0.0 };
    // The slowest watermark is the job's.
    let watermark = operators.iter().filter(|it| !is_source(it)).map(|it| it.current_input_watermark).min();
    let watermark = match watermark {
        None | Some(Timestamp::MIN) => "none yet".to_owned(),
        Some(Timestamp::MAX) => "the end".to_owned(),
        Some(watermark) => format_time(watermark),
    };
    format!("{} records in, {}/s, event time {watermark}", grouped(records), grouped(rate as u64))
}

/// A number with a comma between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups_of_three() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (27_004, "27,004"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_slowest_watermark_is_shown() {
        let operator = |records_out, current_input_watermark| OperatorReport {
            name: String::new(),
            records_in: 0,
            records_out,
            late_records_dropped: 0,
            records_in_errors: 0,
            current_input_watermark,
        };
        let show = |watermarks: &[i64]| {
            let operators: Vec<_> = [operator(2_000, i64::MIN)]
                .into_iter()
                .chain(watermarks.iter().map(|watermark| operator(0, *watermark)))
                .collect();
            message(&operators, 2.0, |it| it.records_out > 0, |at| format!("t{at}"))
        };
        assert_eq!(show(&[7, 5]), "2,000 records in, 1,000/s, event time t5");
        assert_eq!(show(&[i64::MIN, 5]), "2,000 records in, 1,000/s, event time none yet");
        assert_eq!(show(&[i64::MAX]), "2,000 records in, 1,000/s, event time the end");
    }
}
