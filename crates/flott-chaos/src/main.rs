//! Jobs between real systems under faults: `cargo xtask chaos --with kafka,postgres --faults N`.
//!
//! A *round* is one pipeline: records are written into its source all the while, its job runs in a process of its own (this binary again), and
//! a reader of what is committed watches its destination. Faults strike the process, the connections and the servers, in the middle of whatever is
//! going on. At the end each record must have come through exactly once, with the counts that state kept for it; and at no time may the
//! reader see a record twice.
//!
//! What strikes the engine alone, at named steps of its protocol, is `flott-sim chaos`; this is about the systems at both ends.
//!
//! Reading order: `pipeline` (the jobs), `input`, `watch` (both ends), `strike` (the faults), `round`.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "a harness: it starts real processes, waits for them and prints"
)]

mod input;
mod pipeline;
mod round;
mod strike;
mod topics;
mod watch;

use anyhow::{Result, ensure};
use clap::Parser;
use pipeline::{Job, Pipeline};
use round::{Outcome, run_round};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use strike::{Services, Strike, System};

/// Jobs between real systems under faults.
#[derive(Debug, Parser)]
#[command(name = "flott-chaos")]
struct Arguments {
    /// The systems to run pipelines between.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kafka,postgres,s3")]
    with: Vec<System>,
    /// How many faults in all.
    #[arg(long, default_value_t = 300)]
    faults: u32,
    /// Only pipelines whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// No round begins after so many seconds.
    #[arg(long, default_value_t = 3_600)]
    seconds: u64,
    /// Fails if there were fewer faults than this by then.
    #[arg(long, default_value_t = 0)]
    at_least: u32,
    /// What the order of faults is made of [default: the time].
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, job] = arguments.as_slice()
        && word == "job"
    {
        return Job::run(job);
    }
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How many faults a round has: enough that several come together in one job, and not so many that pipelines get none.
const FAULTS_PER_ROUND: std::ops::RangeInclusive<u32> = 5..=25;

fn run(arguments: &Arguments) -> Result<()> {
    let mut services = match Services::start(&arguments.with) {
        Ok(services) => services,
        Err(reason) => {
            println!("skipped: chaos with {:?}: {reason}", arguments.with);
            return Ok(());
        }
    };
    let pipelines: Vec<Pipeline> = Pipeline::all(&arguments.with)
        .into_iter()
        .filter(|pipeline| pipeline.name().contains(&arguments.only))
        .collect();
    ensure!(!pipelines.is_empty(), "there is no pipeline between {:?}", arguments.with);
    let per_round = arguments.faults / pipelines.len() as u32;
    let per_round = per_round.clamp(*FAULTS_PER_ROUND.start(), *FAULTS_PER_ROUND.end());
    let started = Instant::now();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seed = arguments.seed.unwrap_or(now.as_secs());
    println!("the order of faults is that of --seed {seed}");
    let mut random = Random(seed);
    let mut struck: BTreeMap<(&str, Strike), u32> = BTreeMap::new();
    let (mut n_faults, mut n_records, mut n_rounds) = (0, 0, 0);
    for pipeline in pipelines.iter().cycle() {
        if n_faults >= arguments.faults || started.elapsed() > Duration::from_secs(arguments.seconds) {
            break;
        }
        let budget = per_round.min(arguments.faults - n_faults);
        let Outcome { strikes, n_records: came, seconds, n_committed_reads } =
            run_round(*pipeline, budget, &mut services, &mut random)?;
        println!(
            "{:<28} {came:>6} records, {} faults, {seconds:.0} s, {n_committed_reads} looks: each record once",
            pipeline.name(),
            strikes.len()
        );
        n_faults += strikes.len() as u32;
        n_records += came;
        n_rounds += 1;
        strikes.into_iter().for_each(|strike| *struck.entry((pipeline.name(), strike)).or_default() += 1);
    }
    println!("\nfaults by pipeline:");
    for ((pipeline, strike), n) in &struck {
        println!("  {pipeline:<28} {strike:<28} {n:>4}", strike = strike.name());
    }
    let seconds = started.elapsed().as_secs();
    println!(
        "{n_faults} faults in {n_rounds} jobs, {n_records} records, {seconds} s: 0 lost, 0 doubled, 0 phantom"
    );
    ensure!(
        n_faults >= arguments.at_least,
        "{n_faults} faults in {seconds} s; {} are wanted",
        arguments.at_least
    );
    Ok(())
}

/// Numbers from a seed (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}
