//! `flott-bench`: Flott beside hand-written loops and beside the engines `timely` and `renoir`.
//!
//! All contenders of a case run in one process, in turn, round by round, on records that they make
//! themselves from the same function, and must agree on a checksum of all results: so a ratio
//! between two of them means something even on a noisy machine. It is *not* a test of correctness
//! and *not* a regression gate (that counts instructions).
//!
//! Reading order: `scenario` (what a contender is), `runner`, `report`; `records`, `hash`, `table`,
//! `exchange`, `in_order` and `threads` (what the hand-written versions share); `engine` (what those of Flott
//! share); then a module per scenario with a file per contender; `limits` is about what is not a rate. To add a contender, write a function from records and parallelism to
//! an `Outcome` and list it in its scenario's `contenders`.

#![expect(clippy::print_stdout, reason = "a command line tool whose output is its report")]
#![expect(clippy::disallowed_macros, reason = "a command line tool that reports errors to standard error")]

mod chain;
mod checkpoints;
mod clock;
mod engine;
mod exchange;
mod formats;
mod hash;
mod in_order;
mod kafka;
mod keyed_tumbling;
mod large_state;
mod limits;
mod nexmark;
mod records;
mod report;
mod runner;
mod scenario;
mod session;
mod sliding;
mod sliding_slices;
mod state;
mod table;
mod threads;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use flott_types::StateBackendType;

use crate::kafka::KafkaArgs;
use crate::large_state::{LargeStateArgs, LargeStateError};
use crate::limits::{Limit, LimitError, Reading};
use crate::report::Report;
use crate::runner::{Mismatch, RunConfig, run_case};
use crate::scenario::{Family, Scenario};

// docs/performance.md has both allocators.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares Flott with hand-written loops and with other engines.
#[derive(Debug, Parser)]
#[command(name = "flott-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the scenarios and their contenders.
    List,
    /// Measures a scenario and prints a table per case.
    Run(RunArgs),
    /// Measures latency, the time to a first result and memory.
    Limits(LimitsArgs),
    /// Measures what checkpoints cost: pauses at the barrier, and throughput.
    Checkpoints(CheckpointsArgs),
    /// Holds, checkpoints, loses and restores state that is larger than memory.
    LargeState(LargeStateArgs),
    /// Measures a job from topic to topic of Apache Kafka beside a loop on its client library.
    Kafka(KafkaArgs),
    /// Measures how fast each format of messages decodes a bid of Nexmark, on one core.
    Formats {
        /// How often all messages are decoded; the median counts.
        #[arg(long, default_value_t = 21)]
        rounds: usize,
    },
    /// Runs everything once with few records: do all contenders work and agree?
    Smoke,
    /// Runs the job of a limit in this process.
    #[command(hide = true)]
    LimitJob(LimitJobArgs),
    /// Runs the job of `large-state` in this process.
    #[command(hide = true)]
    LargeStateJob {
        /// Where state and checkpoints are.
        dir: PathBuf,
        #[command(flatten)]
        args: LargeStateArgs,
    },
}

#[derive(Debug, clap::Args)]
struct LimitsArgs {
    /// Measures only these; may be repeated.
    #[arg(long)]
    only: Vec<Limit>,
    /// How long each job runs.
    #[arg(long, default_value_t = 5_000)]
    millis: u64,
}

#[derive(Debug, clap::Args)]
struct CheckpointsArgs {
    /// Keys of the table whose pauses are measured.
    #[arg(long, default_value_t = 10_000_000)]
    keys: u64,
    /// Records of each run of the keyed count.
    #[arg(long, default_value_t = 200_000_000)]
    records: u64,
    /// Runs of the keyed count, with and without checkpoints; the median ratio counts.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Threads of the keyed count.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallelism: u16,
}

#[derive(Debug, clap::Args)]
struct LimitJobArgs {
    limit: Limit,
    #[arg(long)]
    millis: u64,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// A name out of `flott-bench list`, or `all`.
    scenario: String,
    /// How many records each run has [default: by scenario].
    #[arg(long)]
    records: Option<u64>,
    /// Threads of every contender; may be repeated [default: 1 and 2].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallelism: Vec<u16>,
    /// How often each contender runs; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Runs only these contenders; may be repeated. The first that runs is the reference.
    #[arg(long)]
    only: Vec<Family>,
    /// Runs only cases whose name starts with this text, as in `--case '1000 '`.
    #[arg(long)]
    case: Option<String>,
    /// Prints one JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("unknown scenario {0:?}: `flott-bench list` shows all")]
    UnknownScenario(String),
    #[error("no case of the scenario starts with {0:?}: `flott-bench list` shows all")]
    UnknownCase(String),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    LargeState(#[from] LargeStateError),
    #[error("cannot measure with Kafka: {0}")]
    NoBroker(String),
    #[error("far beyond the limit: {0}")]
    FarBeyond(Reading),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::List => {
            list();
            Ok(())
        }
        Command::Run(args) => run(&args),
        Command::Limits(args) => run_limits(&args),
        Command::Checkpoints(args) => {
            run_checkpoints(&args);
            Ok(())
        }
        Command::Kafka(args) => {
            kafka::measure(&args).map(|seen| println!("{seen}")).map_err(BenchError::NoBroker)
        }
        Command::LargeState(args) => {
            large_state::measure(args).map_err(BenchError::from).map(|seen| println!("{seen}"))
        }
        Command::LargeStateJob { dir, args } => {
            large_state::run(args, &dir);
            Ok(())
        }
        Command::Formats { rounds } => {
            formats::measure_all(rounds).iter().for_each(|line| println!("{line}"));
            Ok(())
        }
        Command::Smoke => smoke(),
        Command::LimitJob(args) => {
            limits::run_job(args.limit, Duration::from_millis(args.millis));
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flott-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn scenarios() -> Vec<Scenario> {
    vec![
        keyed_tumbling::scenario(),
        sliding::scenario(),
        sliding_slices::scenario(),
        session::scenario(),
        chain::scenario(),
        nexmark::scenario(),
        state::scenario(),
    ]
}

fn list() {
    for scenario in scenarios() {
        println!("{}: {} ({} M records)", scenario.name, scenario.about, scenario.records / 1_000_000);
        for case in &scenario.cases {
            let names: Vec<&str> = case.contenders.iter().map(|contender| contender.name).collect();
            println!("  {}: {}", case.name, names.join(", "));
        }
    }
}

fn run(args: &RunArgs) -> Result<(), BenchError> {
    let all = scenarios();
    let chosen: Vec<&Scenario> =
        all.iter().filter(|scenario| args.scenario == "all" || args.scenario == scenario.name).collect();
    if chosen.is_empty() {
        return Err(BenchError::UnknownScenario(args.scenario.clone()));
    }
    let case_part = args.case.as_deref().unwrap_or_default();
    let mut report = Report::default();
    let mut has_run = false;
    for scenario in chosen {
        for case in scenario.cases.iter().filter(|case| case.name.starts_with(case_part)) {
            has_run = true;
            let measurements = configs(args, scenario)
                .iter()
                .filter_map(|config| run_case(case, config).transpose())
                .collect::<Result<Vec<_>, _>>()?;
            report.add(scenario, case, &measurements);
            if !args.json {
                println!("{}", report::table(scenario, case, &measurements));
            }
        }
    }
    if !has_run {
        return Err(BenchError::UnknownCase(case_part.to_owned()));
    }
    if args.json {
        println!("{}", report.to_json());
    }
    Ok(())
}

fn run_limits(args: &LimitsArgs) -> Result<(), BenchError> {
    let chosen = if args.only.is_empty() { &Limit::ALL[..] } else { &args.only };
    for limit in chosen {
        println!("{}", limits::measure(*limit, Duration::from_millis(args.millis))?);
    }
    Ok(())
}

fn run_checkpoints(args: &CheckpointsArgs) {
    for backend in [StateBackendType::Hashmap, StateBackendType::Disk] {
        for is_incremental in [false, true] {
            println!("{}", checkpoints::pauses(backend, args.keys, PAUSES, is_incremental));
        }
    }
    println!("{}", checkpoints::pauses_of_timers(args.keys, PAUSES));
    let parallelism = usize::from(args.parallelism);
    for n_keys in [1_000_000, 1_000] {
        println!("{}", checkpoints::throughput(n_keys, args.records, parallelism, args.pairs));
    }
}

/// Checkpoints whose pauses are measured.
const PAUSES: usize = 10;

/// Small enough for a minute on a busy machine without optimisation, large enough that windows fire.
const SMOKE_RECORDS: u64 = 200_000;

/// A time that is missed by more than this factor is broken, whatever else the machine does. Memory does not depend on that.
const SMOKE_GENEROSITY: f64 = 20.0;

fn smoke() -> Result<(), BenchError> {
    for scenario in scenarios() {
        for case in &scenario.cases {
            for parallelism in [1, 2] {
                let config = RunConfig { records: SMOKE_RECORDS, parallelism, runs: 1, only: Vec::new() };
                run_case(case, &config)?;
            }
            println!("{}, {}: all agree", scenario.name, case.name);
        }
    }
    for backend in [StateBackendType::Hashmap, StateBackendType::Disk] {
        for is_incremental in [false, true] {
            println!("{}", checkpoints::pauses(backend, SMOKE_RECORDS, 2, is_incremental));
        }
    }
    println!("{}", checkpoints::pauses_of_timers(SMOKE_RECORDS, 2));
    println!("{}", checkpoints::throughput(1_000, SMOKE_RECORDS, 1, 1));
    formats::measure_all(1).iter().for_each(|line| println!("{line}"));
    for limit in Limit::ALL {
        let reading = limits::measure(limit, Duration::from_millis(500))?;
        if !reading.is_within(SMOKE_GENEROSITY) {
            return Err(BenchError::FarBeyond(reading));
        }
        println!("{reading}");
    }
    Ok(())
}

fn configs(args: &RunArgs, scenario: &Scenario) -> Vec<RunConfig> {
    let parallelisms = if args.parallelism.is_empty() { &[1, 2][..] } else { &args.parallelism };
    parallelisms
        .iter()
        .map(|&parallelism| RunConfig {
            records: args.records.unwrap_or(scenario.records),
            parallelism: usize::from(parallelism),
            runs: usize::from(args.runs),
            only: args.only.clone(),
        })
        .collect()
}
