//! `flott demo`: a continuous program over a month of real flights whose records arrive hours out of order.
//!
//! * [`program`]: the dataflow, which is what a user of `flott` would write.
//! * [`flight`], [`results`]: the records that go in and come out.
//! * [`screen`]: the live table and the summary. [`tally`]: what the summary counts. [`tables`]: results in a database.
//! * [`output`]: the directory that the results are written to. [`exactly_once`]: how a run that was killed goes on.
//! * [`new_york`]: times as a clock on the wall in New York shows them.
//!
//! Event time is the scheduled departure. A flight is reported when it is over, so long and delayed flights come after
//! others that were scheduled later; examples/data/README.md has the figures.

mod exactly_once;
mod flight;
mod new_york;
mod output;
mod program;
mod results;
mod screen;
mod tables;
mod tally;

use crate::interrupt::{self, Interrupt};
use crate::progress;
use crate::settings::{Settings, duration, positive_duration};
use crate::span::SpanArgs;
use anyhow::{Context, Result};
use exactly_once::ExactlyOnce;
use flott::env::Env;
use flott::{JobExecutionResult, JobStatus, StreamExecutionEnvironment};
use output::OutputDirectory;
use program::DemoConfig;
use screen::Screen;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tally::Tally;

/// Runs a continuous program over a month of real flights.
///
/// The flights out of New York in January 2013 come in the order in which they were over, which is hours out of the
/// order in which they were scheduled. The program shows, live, what is known about each hour of each airport and
/// corrects it when more arrives; then, per airline, the periods in which its flights were delayed; and it writes files.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// A CSV file with the columns of examples/data/README.md, also gzipped [default: the flights in this binary].
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Where results are written; those of an earlier run are replaced.
    #[arg(long, value_name = "DIR", default_value = "demo-output")]
    output: PathBuf,
    /// Replays the flights as they arrived, so many seconds of theirs in one of ours: 3600 shows an hour in a second
    /// [default: as fast as possible].
    #[arg(long, value_name = "N", value_parser = speed)]
    speed: Option<f64>,
    /// How long an hour stays open for records that come out of order.
    #[arg(long, value_name = "DURATION", default_value = "3 h", value_parser = duration)]
    out_of_orderness: Duration,
    /// How long after that a late record still corrects its hour. What comes later is counted and written to late/.
    #[arg(long, value_name = "DURATION", default_value = "3 h", value_parser = duration)]
    lateness: Duration,
    /// A period of delays of an airline ends when it has had no delayed flight for so long.
    #[arg(long, value_name = "DURATION", default_value = "30 min", value_parser = positive_duration)]
    gap: Duration,
    /// Takes checkpoints, and writes each result exactly once: also to tables of DIR/flights.db. A run that was killed, whatever killed
    /// it, goes on from its last checkpoint when it is started again.
    #[arg(long)]
    exactly_once: bool,
    /// Prints the summary only.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    span: SpanArgs,
    #[command(flatten)]
    settings: Settings,
}

const EXAMPLES: &str = "\
Examples:
  flott demo                              the whole month at once
  flott demo --speed 7200                 two hours of it in a second, live; Ctrl-C ends it
  flott demo --quiet --lateness \"0 s\"     the summary only, and no corrections
  flott demo --out-of-orderness \"48 h\"    wait so long that no record is late
  flott demo -p 2 --output month          two subtasks of each operator, results in month/
  flott demo --from 2013-01-10 --until 2013-01-20
                                          ten days of it, hour by hour as in the whole month
  flott demo --exactly-once --speed 200000
                                          13 seconds; kill -9 it as often as you like and start it again: nothing is
                                          lost or doubled

Results, below the output directory:
  hourly/origin=EWR/*.csv   a line per hour and correction; the highest revision of an hour is the final one
  sessions/*.jsonl          a line per period of delays of an airline
  late/*.csv                the flights that came too late
  flights.db                with --exactly-once, the same in an SQLite database: hours (the newest revision of each, by
                            key), sessions (transactional), late_committed (a view on late, which is written at once)";

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed.is_finite() => Ok(speed),
        Ok(_) | Err(_) => Err("expected a number above 0".to_owned()),
    }
}

pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode> {
    let env = Env::real().context("cannot start the runtime")?;
    let mut config = args.settings.load(&env)?;
    args.span.configure(&mut config)?;
    if let Some(input) = &args.input {
        env.fs().open(input).with_context(|| format!("cannot read the input '{}'", input.display()))?;
    }
    let life = ExactlyOnce::of(args);
    let output = OutputDirectory::prepare(&env, &args.output, life.as_ref())?;
    let input = match &args.input {
        Some(input) => input.clone(),
        None => output.unpack_flights()?,
    };
    let demo = DemoConfig {
        input,
        output: args.output.clone(),
        database: life.as_ref().map(|_| output.database()),
        speed: args.speed,
        out_of_orderness: args.out_of_orderness,
        lateness: args.lateness,
        gap: args.gap,
    };
    let screen = if args.quiet { Screen::quiet() } else { Screen::live() };
    let tally = Tally::default();
    if life.is_some() {
        output.configure(&mut config);
    }

    let execution = StreamExecutionEnvironment::with_env(env.clone(), config);
    program::build(&execution, &demo, &screen, &tally)?;
    let interrupt = Interrupt::listen()?;
    screen.title(&env, &demo, output.goes_on())?;
    let (result, is_cancelled) = execute(&execution, &demo, &interrupt, screen.moves_on_a_terminal())?;
    output.ended()?;
    screen.summary(&env, &demo, &tally.counts(), &result, &output.files()?)?;
    Ok(if is_cancelled { interrupt::exit_code() } else { ExitCode::SUCCESS })
}

/// Runs the job; Ctrl-C cancels it.
fn execute(
    execution: &StreamExecutionEnvironment,
    demo: &DemoConfig,
    interrupt: &Interrupt,
    is_live: bool,
) -> Result<(JobExecutionResult, bool)> {
    let job = execution.execute_async("flights")?;
    interrupt.cancels(job.canceler());
    if !is_live && progress::is_seen() {
        progress::watch(execution.env(), &job, |operator| demo.is_entry(operator), new_york::date_and_time);
    }
    let result = job.wait()?;
    let is_cancelled = result.status == JobStatus::Canceled;
    Ok((result, is_cancelled))
}
