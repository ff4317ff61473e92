//! `flott-sim`: tries random programs, and replays those that fail.

#![expect(clippy::print_stdout, reason = "a command line tool whose output is its report")]

use clap::{Parser, Subcommand};
use flott_env::Env;
use flott_sim::chaos::{Chaos, run_victim};
use flott_sim::faults::{
    CANARIES, FaultCampaign, FaultPlan, Scenario, catch, generate_faults, shrink_faults, sweep, try_faults,
};
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
    /// Starts real processes, kills them, and reads what they commit.
    Chaos(ChaosArgs),
    /// Runs the job of a process that `chaos` has started.
    #[command(hide = true)]
    Victim {
        /// The job, as JSON.
        job: String,
    },
    /// Tries every crash point of some scenarios of jobs with checkpoints.
    Sweep {
        /// Only scenarios with this in their names.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Runs random jobs with checkpoints under random faults; or one plan again.
    Faults(FaultArgs),
    /// Looks whether deliberate bugs of the engine are noticed; needs the feature `canaries`.
    Canaries {
        /// Only those with this in their names.
        #[arg(long, default_value = "")]
        only: String,
    },
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
struct ChaosArgs {
    /// How many faults.
    #[arg(long, default_value_t = 200)]
    faults: u64,
    /// No fault comes after this time.
    #[arg(long, default_value_t = 3_600)]
    seconds: u64,
    /// Faults that there must have been in this time.
    #[arg(long, default_value_t = 0)]
    at_least: u64,
    /// The seed of the first job [default: a random one].
    #[arg(long)]
    from: Option<u64>,
    /// Jobs at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// It can mount small disks: it has started itself so.
    #[arg(long, hide = true)]
    in_namespace: bool,
}

#[derive(Debug, clap::Args)]
struct FaultArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 5_000)]
    seeds: u64,
    /// Ends after this time at the latest.
    #[arg(long, default_value_t = 480)]
    seconds: u64,
    /// The first seed [default: a random one].
    #[arg(long)]
    from: Option<u64>,
    /// Threads [default: one per core].
    #[arg(long)]
    jobs: Option<usize>,
    /// A plan as JSON, a file with one, or a seed: instead of random ones.
    #[arg(long)]
    plan: Option<String>,
    /// How many smaller plans are tried after a failure.
    #[arg(long, default_value_t = 600)]
    tries: usize,
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

/// Panics that a plan wants are no news; thousands of backtraces would take longer than all runs.
fn keep_quiet_about_simulated_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|text| text.starts_with("simulated panic")) {
            report(info);
        }
    }));
}

fn main() -> ExitCode {
    keep_quiet_about_simulated_panics();
    let done = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Replay(args) => replay(&args),
        Command::Faults(args) => faults(&args),
        Command::Chaos(args) => chaos(&args),
        Command::Victim { job } => run_victim(&job).map(|()| true),
        Command::Canaries { only } => canaries(&only),
        Command::Sweep { only } => sweep_all(&only),
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

fn faults(args: &FaultArgs) -> Result<bool, String> {
    let env = real()?;
    if let Some(text) = &args.plan {
        let plan = match text.parse() {
            Ok(seed) => generate_faults(seed),
            Err(_) => FaultPlan::from_json(&read_plan(text)?)?,
        };
        println!("{plan}");
        return match try_faults(&plan, true) {
            Ok(trial) => {
                println!("right: {trial:?}");
                Ok(true)
            }
            Err(failure) => Ok(print_faults(&plan, &failure, args.tries)),
        };
    }
    let first = args.from.unwrap_or_else(|| env.random_u64());
    let jobs = args.jobs.unwrap_or_else(|| env.cores());
    println!("first seed {first}");
    let time = Duration::from_secs(args.seconds);
    let report = FaultCampaign { first, seeds: args.seeds, time, jobs }.run(&env);
    if let Some((plan, failure)) = &report.failure {
        return Ok(print_faults(plan, failure, args.tries));
    }
    println!("{}", report.coverage);
    let empty = report.coverage.empty_cells();
    println!("{} cells of the table are empty: {empty:?}", empty.len());
    let (n_plans, seconds) = (report.coverage.n_plans, report.elapsed.as_secs_f64());
    println!("{n_plans} seeds in {seconds:.1} s, {:.0} seeds/s, no failure", n_plans as f64 / seconds);
    Ok(true)
}

fn chaos(args: &ChaosArgs) -> Result<bool, String> {
    let env = real()?;
    let binary = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let seed = args.from.unwrap_or_else(|| env.random_u64());
    let time = Duration::from_secs(args.seconds);
    let mut chaos = Chaos::new(binary, seed, args.faults, time);
    chaos.jobs = args.jobs;
    chaos.may_mount = args.in_namespace;
    if !args.in_namespace {
        let again: Vec<String> = std::env::args().skip(1).collect();
        if let Some(is_right) = chaos.in_namespace(&again) {
            return Ok(is_right);
        }
        println!("no disk can be mounted here: full disks are skipped");
    }
    println!("first seed {seed}, below {}", chaos.base.display());
    let began = env.now();
    let report = chaos.run(&env);
    println!("{}\n{:.0} s", report.text, (env.now() - began).as_secs_f64());
    report.failures.iter().for_each(|failure| println!("FAILED: {failure}"));
    if report.n_faults < args.at_least {
        println!("FAILED: {} faults are fewer than {}", report.n_faults, args.at_least);
    }
    Ok(report.failures.is_empty() && report.n_faults >= args.at_least)
}

fn print_faults(plan: &FaultPlan, failure: &Failure, tries: usize) -> bool {
    println!("FAILED: {plan}{failure}\nreplay it with\n  cargo xtask sim --replay '{}'", plan.to_json());
    let (smaller, failure) = shrink_faults(plan, failure, tries);
    println!("the smallest plan that was found:\n{smaller}{failure}");
    println!("replay it with\n  cargo xtask sim --replay '{}'", smaller.to_json());
    false
}

/// The plans are the same in each run: whether a canary is noticed is not left to chance.
const CANARY_SEED: u64 = 20_261_122;

#[cfg(not(feature = "canaries"))]
const fn release(_: Option<&'static str>) {}

#[cfg(feature = "canaries")]
fn release(name: Option<&'static str>) {
    flott_env::release_canary(name);
}

fn canaries(only: &str) -> Result<bool, String> {
    if !cfg!(feature = "canaries") {
        return Err("there are no canaries in this build: use `cargo xtask canaries`".to_owned());
    }
    let env = real()?;
    let (mut n_caught, mut n_tried) = (0, 0);
    for canary in CANARIES.iter().filter(|canary| canary.name.contains(only)) {
        let began = env.now();
        release(Some(canary.name));
        let caught = catch(canary, CANARY_SEED);
        release(None);
        n_tried += 1;
        let seconds = (env.now() - began).as_secs_f64();
        match caught {
            Some(caught) => {
                n_caught += 1;
                let by = caught.after_seeds.map_or_else(|| "sweep".to_owned(), |n| format!("seed {n}"));
                let what = caught.failure.to_string().replace('\n', " ");
                let what: String = what.chars().take(150).collect();
                println!("{:<30} {by:>9} {seconds:>6.1} s  {what}", canary.name);
            }
            None => println!("{:<30} NOT NOTICED {seconds:>6.1} s", canary.name),
        }
    }
    println!("{n_caught} of {n_tried} canaries noticed");
    Ok(n_caught == n_tried)
}

fn sweep_all(only: &str) -> Result<bool, String> {
    let env = real()?;
    let started = env.now();
    let mut n_runs = 0;
    for scenario in Scenario::all().iter().filter(|scenario| scenario.name.contains(only)) {
        let began = env.now();
        match sweep(scenario) {
            Ok(report) => {
                n_runs += report.n_single + report.n_pairs;
                println!(
                    "{:<24} {:>4} events, {:>3} durable, {:>2} commits: {:>5} crash points and errors, {:>6} pairs; {:>6} processes, {:>6} commits \
                     compared, {} ended unheard; {:.1} s",
                    scenario.name,
                    report.n_events,
                    report.n_durable,
                    report.n_commits,
                    report.n_single,
                    report.n_pairs,
                    report.n_lives,
                    report.n_cuts,
                    report.n_unreported,
                    (env.now() - began).as_secs_f64()
                );
            }
            Err(failed) => {
                let (plan, failure) = *failed;
                println!("FAILED: scenario {}\n{plan}{failure}", scenario.name);
                println!("replay it with\n  flott-sim faults --plan '{}'", plan.to_json());
                return Ok(false);
            }
        }
    }
    println!("{n_runs} runs in {:.1} s, no failure", (env.now() - started).as_secs_f64());
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
