//! `flott-sim`: tries random programs, and replays those that fail.

#![expect(clippy::print_stdout, reason = "a command line tool whose output is its report")]

use clap::{Parser, Subcommand};
use flott_env::Env;
use flott_sim::{Campaign, Failure, Limit, Plan, generate, shrink, try_plan};
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

// The default allocator is a factor slower when one thread frees what another allocated.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs random programs in a simulated world and compares them with a naive reference.
#[derive(Debug, Parser)]
#[command(name = "flott-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tries many seeds; ends with a table of what occurred, or with the first failure.
    Run(RunArgs),
    /// Tries one seed or plan again and shows everything about it.
    Replay(ReplayArgs),
    /// Prints the plan that a seed means.
    Show {
        /// The seed.
        seed: u64,
        /// As JSON, which `replay --plan` reads.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed [default: a random one].
    #[arg(long)]
    from: Option<u64>,
    /// Runs for this long instead of a number of seeds.
    #[arg(long, conflicts_with = "seeds")]
    seconds: Option<u64>,
    /// Threads [default: one per core].
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// The seed.
    seed: Option<u64>,
    /// A plan as JSON, or a file with one.
    #[arg(long)]
    plan: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    #[command(flatten)]
    subject: Subject,
    /// Looks for a smaller plan that fails too.
    #[arg(long)]
    shrink: bool,
    /// How many smaller plans are tried.
    #[arg(long, default_value_t = 3_000)]
    tries: usize,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Replay(args) => replay(&args),
        Command::Show { seed, json } => {
            let plan = generate(seed);
            println!("{}", if json { plan.to_json() } else { plan.to_string() });
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            println!("flott-sim: {message}");
            ExitCode::FAILURE
        }
    }
}

fn real() -> Result<Env, String> {
    Env::real().map_err(|error| format!("cannot start: {error}"))
}

fn run(args: &RunArgs) -> Result<bool, String> {
    let env = real()?;
    let first = args.from.unwrap_or_else(|| env.random_u64());
    let limit =
        args.seconds.map_or(Limit::Seeds(args.seeds), |seconds| Limit::Time(Duration::from_secs(seconds)));
    let campaign = Campaign { first, limit, jobs: args.jobs.unwrap_or_else(|| env.cores()) };
    println!("first seed {first}: the same run again is `flott-sim run --from {first} {}`", limit_args(args));
    let shown = AtomicU64::new(0);
    let report = campaign.run(&env, move |report| {
        let seconds = report.elapsed.as_secs();
        if seconds / 2 > shown.swap(seconds / 2, Ordering::Relaxed) {
            println!("{:>6} s {:>9} seeds", seconds, report.n_tried());
        }
    });
    if let Some((_, (plan, failure))) = report.failures.first_key_value() {
        println!("after {} seeds:", report.n_tried());
        print_failure(plan, failure);
        return Ok(false);
    }
    println!("{}", report.coverage);
    let seconds = report.elapsed.as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s, {:.0} seeds/s, no failure",
        report.n_tried(),
        report.n_tried() as f64 / seconds
    );
    Ok(true)
}

fn limit_args(args: &RunArgs) -> String {
    match args.seconds {
        Some(seconds) => format!("--seconds {seconds}"),
        None => format!("--seeds {}", args.seeds),
    }
}

fn replay(args: &ReplayArgs) -> Result<bool, String> {
    let plan = match (&args.subject.seed, &args.subject.plan) {
        (Some(seed), _) => generate(*seed),
        (None, Some(text)) => Plan::from_json(&read_plan(text)?)?,
        (None, None) => return Err("a seed or a plan is needed".to_owned()),
    };
    println!("{plan}");
    match try_plan(&plan, true) {
        Ok(trial) => {
            println!("{:<16} {:>8} {:>8} {:>8}", "operator", "in", "out", "dropped");
            for operator in &trial.operators {
                let (n_in, n_out, n_dropped) =
                    (operator.records_in, operator.records_out, operator.late_records_dropped);
                println!("{:<16} {n_in:>8} {n_out:>8} {n_dropped:>8}", operator.name);
            }
            let (processed, late) = (trial.n_processed, trial.n_late);
            println!(
                "right: {processed} records processed, {late} late, {:?} of virtual time",
                trial.elapsed
            );
            println!("fingerprint {:016x}", trial.fingerprint);
            Ok(true)
        }
        Err(failure) => {
            print_failure(&plan, &failure);
            if args.shrink {
                let (smaller, failure) = shrink(&plan, &failure, args.tries);
                println!("\nthe smallest plan that was found:\n{smaller}\n{failure}");
                println!("replay it with\n  flott-sim replay --plan '{}'", smaller.to_json());
            }
            Ok(false)
        }
    }
}

/// The text itself if it is a plan, or that of the file it names.
fn read_plan(text: &str) -> Result<String, String> {
    if text.trim_start().starts_with('{') {
        return Ok(text.to_owned());
    }
    let mut read = String::new();
    let opened = real()?.fs().open(Path::new(text)).and_then(|mut file| file.read_to_string(&mut read));
    opened.map(|_| read).map_err(|error| format!("cannot read {text}: {error}"))
}

fn print_failure(plan: &Plan, failure: &Failure) {
    println!("FAILED: seed {}\n{plan}\n{failure}", plan.seed);
    println!("replay it with\n  cargo run --release -p flott-sim -- replay {} --shrink", plan.seed);
}
