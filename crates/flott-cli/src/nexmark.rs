//! `flott nexmark`: the queries of the Nexmark benchmark over generated events.

use crate::interrupt::{self, Interrupt};
use crate::progress::{self, grouped};
use crate::settings::Settings;
use anyhow::{Context, Result};
use clap::builder::PossibleValue;
use flott::env::Env;
use flott::{JobStatus, StreamExecutionEnvironment};
use flott_connector_nexmark::NexmarkConfig;
use flott_nexmark::{Query, SinkKind, add_query, generate, programs};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// Runs Nexmark queries over generated events and measures them.
///
/// Nexmark is the usual benchmark of streaming engines: people open auctions and bid on them. The events are made in
/// the process, so what is measured is generator and query together; q0, which passes bids through, shows about what
/// the generator takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NexmarkArgs {
    /// The query; `all` for one after the other.
    #[arg(short, long, value_name = "QUERY")]
    query: Queries,
    /// How many events are made, of which 46 in 50 are bids; 10k and 5M mean thousands and millions.
    #[arg(short, long, value_name = "N", default_value = "10M", value_parser = count)]
    events: u64,
    /// Makes other events with the same kinds, ids and times.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// At most so many events a second, instead of as many as possible.
    #[arg(long, value_name = "N", value_parser = count)]
    rate: Option<u64>,
    /// Also hashes the results; the hash depends on events and seed alone (q12, which reads the clock, apart).
    #[arg(long)]
    fingerprint: bool,
    /// Prints what the query computes, in SQL, and does not run it.
    #[arg(long)]
    sql: bool,
    #[command(flatten)]
    settings: Settings,
}

const EXAMPLES: &str = "\
Examples:
  flott nexmark --query q5 --events 20M --parallelism 2
  flott nexmark --query all --events 1M
  flott nexmark --query q8 --sql

Columns of the result: events per second; the ceiling, which is how many of them one core makes when nothing is done with
them; records of the kinds that the query reads; results; and the peak of the process's resident memory, as far as the
operating system tells it.";

#[derive(Clone, Debug)]
enum Queries {
    One(Query),
    All,
}

impl Queries {
    fn list(&self) -> Vec<Query> {
        match self {
            Self::One(query) => vec![*query],
            Self::All => Query::ALL.to_vec(),
        }
    }
}

impl clap::ValueEnum for Queries {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Queries; 11] = {
            let mut all = [const { Queries::All }; 11];
            let mut idx = 0;
            while idx < Query::ALL.len() {
                all[idx] = Queries::One(Query::ALL[idx]);
                idx += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::One(query) => PossibleValue::new(query.name()).help(query.title()),
            Self::All => PossibleValue::new("all").help("one after the other"),
        })
    }
}

/// A positive whole number, `10k`, `5M` or `2G`; underscores are ignored.
fn count(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['k', 'M', 'G']).replace('_', "");
    let factor = match text.strip_prefix(text.trim_end_matches(['k', 'M', 'G'])) {
        Some("k") => 1_000,
        Some("M") => 1_000_000,
        Some("G") => 1_000_000_000,
        Some("") => 1,
        Some(_) | None => return Err("expected a number such as 500000, 10k or 5M".to_owned()),
    };
    let number =
        digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).filter(|number| *number > 0);
    number.ok_or_else(|| "expected a number such as 500000, 10k or 5M".to_owned())
}

pub(crate) fn run(args: &NexmarkArgs) -> Result<ExitCode> {
    let env = Env::real().context("cannot start the runtime")?;
    if args.sql {
        let text: String = args
            .query
            .list()
            .iter()
            .map(|query| format!("-- {query}: {}\n{};\n", query.title(), query.sql()))
            .collect();
        return print(&env, &text);
    }
    let interrupt = Interrupt::listen()?;
    let columns = ["events", "seconds", "events/s", "ceiling", "records in", "records out", "peak memory"];
    let [events, seconds, rate, ceiling, records_in, records_out, memory] = columns;
    let mut heading = format!(
        "{:<6}{events:>12}{seconds:>10}{rate:>14}{ceiling:>14}{records_in:>14}{records_out:>14}{memory:>14}",
        "query"
    );
    heading.push_str(if args.fingerprint { "  fingerprint\n" } else { "\n" });
    print(&env, &heading)?;
    for query in args.query.list() {
        if measure(&env, args, query, &interrupt)? == JobStatus::Canceled {
            return Ok(interrupt::exit_code());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(env: &Env, args: &NexmarkArgs, query: Query, interrupt: &Interrupt) -> Result<JobStatus> {
    let mut generator = NexmarkConfig::bounded(args.events);
    generator.seed = args.seed.unwrap_or(generator.seed);
    generator.rate_per_second = args.rate;
    let sink = if args.fingerprint { SinkKind::Fingerprint } else { SinkKind::Blackhole };
    let execution = StreamExecutionEnvironment::with_env(env.clone(), args.settings.load(env)?);
    let results = add_query(query, &generator, &execution, sink)?;
    forget_peak_memory(env);

    let job = execution.execute_async(query.name())?;
    interrupt.cancels(job.canceler());
    let is_source = |operator: &flott::OperatorReport| programs::SOURCES.contains(&operator.name.as_str());
    if progress::is_seen() {
        progress::watch(env, &job, is_source, |watermark| format!("{watermark} ms"));
    }
    let result = job.wait().with_context(|| format!("nexmark query {query} failed"))?;
    if result.status == JobStatus::Canceled {
        return Ok(result.status);
    }
    let seconds = result.net_runtime.as_secs_f64();
    let records_in: u64 =
        result.operators.iter().filter(|operator| is_source(operator)).map(|source| source.records_out).sum();
    let rate = if seconds > 0.0 { args.events as f64 / seconds } else { 0.0 };
    let mut row = format!(
        "{query:<6}{:>12}{seconds:>10.3}{:>14}{:>14}{:>14}{:>14}{:>14}",
        grouped(args.events),
        grouped(rate as u64),
        grouped(ceiling(env, query, &generator)? as u64),
        grouped(records_in),
        grouped(results.records()),
        peak_memory_mb(env).map_or_else(|| "-".to_owned(), |mb| format!("{mb} MB")),
    );
    if let Some(fingerprint) = results.fingerprint() {
        // Writing to a string does not fail.
        write!(row, "  {:016x}", fingerprint.hash).ok();
    }
    row.push('\n');
    print(env, &row)?;
    Ok(result.status)
}

/// Events per second that one core makes for the query, by making some of them.
fn ceiling(env: &Env, query: Query, generator: &NexmarkConfig) -> Result<f64> {
    const EVENTS_MAX: u64 = 5_000_000;
    let events = generator.events.unwrap_or(EVENTS_MAX).min(EVENTS_MAX);
    let started = env.now();
    generate(query, &NexmarkConfig { events: Some(events), ..generator.clone() })?;
    let seconds = (env.now() - started).as_secs_f64();
    Ok(if seconds > 0.0 { events as f64 / seconds } else { 0.0 })
}

fn print(env: &Env, text: &str) -> Result<ExitCode> {
    env.print(text.as_bytes()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the peak anew, where the operating system can: each query is to have its own.
fn forget_peak_memory(env: &Env) {
    if let Ok(mut file) = env.fs().create(Path::new("/proc/self/clear_refs")) {
        file.write_all(b"5").ok();
        file.flush().ok();
    }
}

/// The peak of the resident memory in MB, where the operating system tells it.
fn peak_memory_mb(env: &Env) -> Option<u64> {
    let mut status = String::new();
    env.fs().open(Path::new("/proc/self/status")).ok()?.read_to_string(&mut status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_with_their_units() {
        for (text, number) in
            [("7", 7), ("10k", 10_000), ("5M", 5_000_000), ("2G", 2_000_000_000), ("1_000", 1_000)]
        {
            assert_eq!(count(text), Ok(number), "{text}");
        }
        for text in ["", "0", "k", "5kM", "-3", "5 M", "1e6"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
