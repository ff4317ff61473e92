//! What the demo prints: a table that grows while the job runs, and a summary.

use super::new_york;
use super::output::ResultFile;
use super::program::DemoConfig;
use super::results::{DelaySession, Hour, LateFlight};
use super::tally::Counts;
use crate::progress::grouped;
use anyhow::{Context, Result};
use flott::env::Env;
use flott::{
    JobExecutionResult, JobStatus, RecordBatch, Sink, SinkContext, SinkWriter, UserResult, Watermark,
};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// A line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Line {
    Hour(Hour),
    Session(DelaySession),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Shown,
    Hidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    /// Bold headings, dim corrections.
    Terminal,
}

/// Where the demo prints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    table: Table,
    style: Style,
    is_terminal: bool,
}

impl Screen {
    fn new(table: Table) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let style = if is_terminal && std::env::var_os("NO_COLOR").is_none() {
            Style::Terminal
        } else {
            Style::Plain
        };
        Self { table, style, is_terminal }
    }

    /// Table and summary.
    pub(super) fn live() -> Self {
        Self::new(Table::Shown)
    }

    /// The summary only.
    pub(super) fn quiet() -> Self {
        Self::new(Table::Hidden)
    }

    /// Whether somebody sees the job's progress in the table already.
    pub(super) fn moves_on_a_terminal(&self) -> bool {
        self.table == Table::Shown && self.is_terminal
    }

    /// The sink that prints the table.
    pub(super) fn sink(&self) -> ScreenSink {
        ScreenSink { screen: *self }
    }

    /// What comes before the table.
    pub(super) fn title(&self, env: &Env, config: &DemoConfig, goes_on: bool) -> Result<()> {
        let mut text = String::new();
        if goes_on {
            text.push_str(
                "Going on from the last checkpoint of a run that was killed; counts below are of this run.\n",
            );
        }
        if self.table == Table::Hidden {
            return print(env, &text);
        }
        write!(
            text,
            "Flights out of New York by scheduled departure. An hour is shown when records are {} past it, and\n\
             corrected (~3: three times so far) for {} more. A session is a period of an airline's delays of over 30 min.\n\n",
            readable(config.out_of_orderness),
            readable(config.lateness),
        )
        .ok();
        self.write_heading(
            &mut text,
            "hour (New York)   from     departed  cancelled  mean delay   max delay  over 15 min late",
        );
        print(env, &text)
    }

    fn write_heading(&self, text: &mut String, heading: &str) {
        let (start, end) = match self.style {
            Style::Plain => ("", ""),
            Style::Terminal => ("\x1b[1m", "\x1b[0m"),
        };
        // Writing to a string does not fail; so everywhere below.
        writeln!(text, "{start}{heading}{end}").ok();
    }

    fn write_line(&self, text: &mut String, line: &Line) {
        match line {
            Line::Hour(hour) => self.write_hour(text, hour),
            Line::Session(session) => write_session(text, session),
        }
    }

    fn write_hour(&self, text: &mut String, hour: &Hour) {
        let is_correction = hour.revision > 1;
        let is_dim = is_correction && self.style == Style::Terminal;
        text.push_str(if is_dim { "\x1b[2m" } else { "" });
        let mark = if is_correction { format!("~{}", hour.revision - 1) } else { String::new() };
        write!(
            text,
            "{}  {:<4}{mark:<4}{:>9}{:>11}{:>12}{:>12}{:>18}",
            new_york::date_and_time(hour.hour_ms),
            hour.origin,
            hour.departures,
            hour.cancelled,
            hour.mean_delay_min.map_or_else(|| "-".to_owned(), |mean| format!("{mean:+.1} min")),
            hour.max_delay_min.map_or_else(|| "-".to_owned(), |max| format!("{max:+} min")),
            hour.delayed_share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
        )
        .ok();
        text.push_str(if is_dim { "\x1b[0m\n" } else { "\n" });
    }

    /// What comes after the table.
    pub(super) fn summary(
        &self,
        env: &Env,
        config: &DemoConfig,
        counts: &Counts,
        result: &JobExecutionResult,
        files: &[ResultFile],
    ) -> Result<()> {
        let mut text = if self.table == Table::Shown { "\n".to_owned() } else { String::new() };
        let heading = match result.status {
            JobStatus::Canceled => "Cancelled; so far:",
            _ => "Summary",
        };
        self.write_heading(&mut text, heading);
        let seconds = result.net_runtime.as_secs_f64();
        let entries = result.operators.iter().filter(|operator| config.is_entry(operator));
        let records: u64 = entries.map(|operator| operator.records_out).sum();
        let late = counts.late_for_hour + counts.late_for_session;
        let rows = [
            ("records in", records, String::new()),
            ("hours", counts.hours, "results per hour and airport".to_owned()),
            (
                "corrections",
                counts.corrections,
                format!("by records up to {} later", readable(config.lateness)),
            ),
            ("sessions", counts.sessions, "periods of delays of an airline".to_owned()),
            (
                "late",
                late,
                format!(
                    "{} for their hour, {} for their session",
                    counts.late_for_hour, counts.late_for_session
                ),
            ),
        ];
        for (name, number, what) in rows {
            writeln!(text, "  {}", format!("{name:<14}{:>10}   {what}", grouped(number)).trim_end()).ok();
        }
        counts.late.iter().for_each(|flight| write_late(&mut text, flight));
        if late > counts.late.len() as u64 {
            writeln!(text, "{:29}and others, see {}", "", config.output.join("late").display()).ok();
        }
        let rate = if seconds > 0.0 { records as f64 / seconds } else { 0.0 };
        writeln!(text, "  {:<14}{seconds:>8.3} s   {} records a second", "runtime", grouped(rate as u64))
            .ok();
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let (n_files, output) = (files.len() as u64, config.output.display());
        let unfinished = match result.status {
            JobStatus::Canceled => "; those that were begun are hidden",
            _ => "",
        };
        let bytes = grouped(bytes);
        writeln!(
            text,
            "  {:<14}{:>10}   {bytes} bytes below {output}{unfinished}",
            "files",
            grouped(n_files)
        )
        .ok();
        print(env, &text)
    }
}

fn write_session(text: &mut String, session: &DelaySession) {
    let DelaySession { carrier, from_ms, to_ms, flights, worst_delay_min, worst_flight, .. } = session;
    let noun = if *flights == 1 { "flight" } else { "flights" };
    writeln!(
        text,
        "{}  {carrier:<4}session to {}: {flights} {noun} delayed, at worst {worst_delay_min:+} min ({worst_flight})",
        new_york::date_and_time(*from_ms),
        new_york::time(*to_ms),
    )
    .ok();
}

fn write_late(text: &mut String, flight: &LateFlight) {
    let LateFlight { carrier, flight: number, origin, dest, sched_dep_ms, arrival_ms, .. } = flight;
    let after = Duration::from_millis(arrival_ms.saturating_sub(*sched_dep_ms).unsigned_abs());
    writeln!(
        text,
        "{:29}{} {carrier} {number} {origin}-{dest}, reported {} later",
        "",
        new_york::date_and_time(*sched_dep_ms),
        readable(after),
    )
    .ok();
}

/// `3 h`, `21 h 41 min`, `90 ms`.
fn readable(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    match (hours, minutes) {
        (0, 0) => format!("{duration:?}"),
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

fn print(env: &Env, text: &str) -> Result<()> {
    env.print(text.as_bytes()).context("cannot write to standard output")
}

/// Prints the lines of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScreenSink {
    screen: Screen,
}

impl Sink<Line> for ScreenSink {
    type Writer = ScreenWriter;

    fn create_writer(&self, ctx: SinkContext) -> flott::Result<ScreenWriter> {
        Ok(ScreenWriter { screen: self.screen, env: ctx.env, lines: Vec::new() })
    }
}

/// Gathers lines while event time stands still and prints them in order.
#[derive(Debug)]
pub(super) struct ScreenWriter {
    screen: Screen,
    env: Env,
    lines: Vec<Line>,
}

impl ScreenWriter {
    fn print_lines(&mut self) -> UserResult {
        self.lines.sort_by(|a, b| order(a).cmp(&order(b)));
        self.lines.dedup_by(replaces);
        if self.lines.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        self.lines.drain(..).for_each(|line| self.screen.write_line(&mut text, &line));
        Ok(self.env.print(text.as_bytes())?)
    }
}

/// Hours before sessions, by time and place.
fn order(line: &Line) -> (u8, i64, &str, u32) {
    match line {
        Line::Hour(hour) => (0, hour.hour_ms, &hour.origin, hour.revision),
        Line::Session(session) => (1, session.from_ms, &session.carrier, 0),
    }
}

/// Of several corrections of an hour that come at once only the last is worth showing; the files have all of them.
/// Makes `earlier` the `later` one then.
fn replaces(later: &mut Line, earlier: &mut Line) -> bool {
    let (Line::Hour(newer), Line::Hour(older)) = (later, earlier) else { return false };
    let is_same = (newer.hour_ms, &newer.origin) == (older.hour_ms, &older.origin);
    let replaces = is_same && older.revision > 1;
    if replaces {
        std::mem::swap(newer, older);
    }
    replaces
}

impl SinkWriter<Line> for ScreenWriter {
    fn write(&mut self, batch: RecordBatch<Line>) -> UserResult {
        if self.screen.table == Table::Shown {
            self.lines.extend(batch.into_iter().map(|(line, _)| line));
        }
        Ok(())
    }

    fn on_watermark(&mut self, _: Watermark) -> UserResult {
        self.print_lines()
    }

    fn flush(&mut self) -> UserResult {
        self.print_lines()
    }

    fn finish(&mut self) -> UserResult {
        self.print_lines()
    }
}
