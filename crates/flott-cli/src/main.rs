//! `flott`: runs the demo, benchmark queries and built programs, and explains the configuration.
//!
//! A subcommand is a module with its arguments and a function `run`: [`demo`], [`nexmark`], [`run_program`],
//! [`config_reference`], [`savepoint`].
//! Around a job that a subcommand runs itself: [`settings`] (`-D` and `-p`), [`span`] (`--from` and `--until`), [`interrupt`] (Ctrl-C), [`progress`];
//! [`logging`] for all.
//!
//! It is *not* a place for anything that a program could want: programs link the library `flott` only.

mod config_reference;
mod demo;
mod failure;
mod interrupt;
mod logging;
mod nexmark;
mod progress;
mod run_program;
mod savepoint;
mod settings;
mod span;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

// Records are freed by other threads than allocated them, which slows the default allocator by a factor.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Flott: stateful computations over data streams.
#[derive(Debug, Parser)]
#[command(name = "flott", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    logging: logging::LoggingArgs,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  flott demo                            a month of real flights, out of order, hour by hour
  flott demo --speed 7200               the same, two hours of it in a second
  flott demo --from 2013-01-10 --until 2013-01-12
                                        the same, two days of it
  flott run target/release/my-program   a program of yours
  flott nexmark --query q5 --events 5M  a query of the Nexmark benchmark, measured
  flott config watermark                the configuration keys about watermarks
  flott savepoint inspect DIRECTORY     what is in a savepoint or checkpoint

`flott COMMAND --help` says more about each.";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Run(run_program::RunArgs),
    Nexmark(nexmark::NexmarkArgs),
    Config(config_reference::ConfigArgs),
    Savepoint(savepoint::SavepointArgs),
}

fn main() -> ExitCode {
    let Cli { logging, command } = Cli::parse();
    logging.start();
    let done = match command {
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run_program::run(&args),
        Command::Nexmark(args) => nexmark::run(&args),
        Command::Config(args) => config_reference::run(&args),
        Command::Savepoint(args) => savepoint::run(&args),
    };
    done.unwrap_or_else(|error| failure::report(&error))
}
