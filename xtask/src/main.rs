//! `cargo xtask`: the project's gates, written in Rust so that a machine with the toolchain can run them.
//!
//! `cargo xtask ci` is the whole gate, the same for a developer and for CI; `cargo xtask tidy` is its one step that is
//! our own: rules on layers, modules and text that no compiler lint knows.
//!
//! Reading order: [`ci`] (the table of steps), [`guard`] (runs a command under limits), [`tidy`] (the rules),
//! [`proof`] (sweep, swarm, canaries, chaos), [`fuzz`], [`metadata`] (what cargo knows about the workspace).

#![expect(
    clippy::print_stdout,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "automation runs outside the engine: it prints, reads the work tree and measures wall time"
)]

mod ci;
mod fuzz;
mod guard;
mod metadata;
mod proof;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

commands:
  ci [STEP...]   run the whole gate, or only the named steps
  tidy           check layers, module documents, banned text and test files
  sweep          every crash point of jobs with checkpoints, in the simulated world
  sim            random jobs under random faults: [--seeds N | --hours N | --replay PLAN]
  canaries       deliberate bugs of the engine, each of which must be noticed: [NAME]
  chaos          real processes that are killed, stopped and replaced: [--faults N] [--seconds N] [--from SEED]
  fuzz           every decoder of outside bytes: [TARGET] [--seconds N]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["ci", steps @ ..] => ci::run(steps),
        ["tidy"] => tidy::run(),
        ["sweep"] => proof::sweep(),
        ["sim", args @ ..] => proof::sim(args),
        ["canaries", args @ ..] => proof::canaries(args),
        ["chaos", args @ ..] => proof::chaos(args),
        ["fuzz", args @ ..] => fuzz::run(args),
        _ => Err(anyhow::anyhow!("{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
