//! `flott savepoint`: looks at checkpoints and savepoints, compares them, exports their state, deletes them.
//!
//! Each action is a module with its arguments and a function `run`. What they do is in `flott_checkpoint` (descriptions, checks,
//! disposal) and `flott_schema` (state without its Rust type); here it is shown.

mod diff;
mod dispose;
mod export;
mod inspect;
mod list;
mod positions;
mod schemas;
mod verify;

use crate::progress::grouped;
use crate::settings::{checked_pair, configuration};
use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use flott::env::Env;
use flott::with_object_stores;
use flott_checkpoint::{Location, OpenSnapshot, open_snapshot};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Looks at checkpoints and savepoints, compares, verifies, exports and deletes them.
///
/// A savepoint is a directory `savepoint-...`, a checkpoint one named `chk-N` in the directory of its job; both have a file
/// _metadata that says what belongs to them. Every action takes either, by the directory or by that file; directories may also be in an
/// object store: s3://bucket/path, gs://bucket/path, abfs://container@account.dfs.core.windows.net/path.
///
/// Savepoints are triggered by the program itself (JobClient::trigger_savepoint, stop_with_savepoint), and restored with
/// -D execution.state-recovery.path=DIRECTORY.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SavepointArgs {
    #[command(subcommand)]
    action: Action,
    /// Sets a configuration key, such as s3.endpoint for s3: paths; may be repeated.
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = checked_pair, global = true)]
    define: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  flott savepoint list /data/savepoints                newest first, complete or not
  flott savepoint inspect /data/savepoints/savepoint-abcdef-28774723d06f
  flott savepoint verify chk-17                        reads every file, names the first broken one
  flott savepoint diff chk-17 chk-18
  flott savepoint export chk-17 --operator counts --state total --format jsonl --output total.jsonl
  flott savepoint positions chk-17                     where its sources go on
  flott savepoint dispose savepoint-abcdef-28774723d06f

Exit codes: 0 if it worked, 1 if it did not (verify: if anything is broken), 2 if the command line is wrong.
With --json the result is one JSON object on standard output; errors are text on standard error.";

#[derive(Debug, Subcommand)]
enum Action {
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
    Diff(diff::DiffArgs),
    List(list::ListArgs),
    Dispose(dispose::DisposeArgs),
    Export(export::ExportArgs),
    Positions(positions::PositionsArgs),
}

pub(crate) fn run(args: &SavepointArgs) -> Result<ExitCode> {
    let env = Env::real().context("cannot start the runtime")?;
    let config = configuration(&env, &args.define)?;
    let env = with_object_stores(&env, &config);
    match &args.action {
        Action::Inspect(args) => inspect::run(&env, args),
        Action::Verify(args) => verify::run(&env, args),
        Action::Diff(args) => diff::run(&env, args),
        Action::List(args) => list::run(&env, args),
        Action::Dispose(args) => dispose::run(&env, args),
        Action::Export(args) => export::run(&env, args),
        Action::Positions(args) => positions::run(&env, args),
    }
}

/// Where a snapshot is, as the configuration says it: a path, made absolute, or a URI.
fn location(path: &Path) -> Result<Location> {
    match path.to_str() {
        Some(text) => Ok(Location::parse(text)?),
        // Only paths of this machine can be other than text.
        None => std::path::absolute(path)
            .map(Location::Local)
            .with_context(|| format!("'{}' is not a path", path.display())),
    }
}

/// A path of this machine, absolute, also if it is given as a `file:` URI as in the configuration.
fn local_path(path: &Path) -> Result<PathBuf> {
    match location(path)? {
        Location::Local(path) => Ok(path),
        Location::Remote(remote) => Err(anyhow!("'{remote}' is not a path of this machine")),
    }
}

fn open(env: &Env, path: &Path) -> Result<OpenSnapshot> {
    Ok(open_snapshot(env, location(path)?)?)
}

fn print(env: &Env, text: &str) -> Result<ExitCode> {
    env.print(text.as_bytes()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn print_json<T: Serialize>(env: &Env, value: &T) -> Result<ExitCode> {
    let mut text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    text.push('\n');
    print(env, &text)
}

/// Milliseconds since the epoch as people and machines read them.
fn time(timestamp_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(timestamp_ms) {
        Ok(at) => at.to_string(),
        Err(_) => format!("{timestamp_ms} ms"),
    }
}

/// A number with its noun.
fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", grouped(number))
}

/// The uids of a snapshot, for whoever named one that is not there.
fn unknown_operator(uid: &str, known: impl Iterator<Item = String>) -> anyhow::Error {
    let known: Vec<String> = known.map(|uid| format!("'{uid}'")).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    anyhow!("there is no operator with uid '{uid}' in it; it has: {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_as_in_the_configuration() {
        for (path, expected) in
            [("/a/b", Some("/a/b")), ("file:///a/b", Some("/a/b")), ("file:/a", Some("/a"))]
        {
            assert_eq!(local_path(Path::new(path)).ok().as_deref(), expected.map(Path::new));
        }
        let error = local_path(Path::new("s3://bucket/key")).expect_err("it is elsewhere");
        assert!(error.to_string().contains("not a path of this machine"), "{error}");
        assert_eq!(location(Path::new("s3://bucket/key/")).expect("a URI").to_string(), "s3://bucket/key");
        assert!(local_path(Path::new("chk-1")).expect("a path").is_absolute());
    }

    #[test]
    fn times_and_counts_are_readable() {
        assert_eq!(time(1_700_000_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(time(i64::MAX), format!("{} ms", i64::MAX));
        assert_eq!((counted(1, "byte"), counted(12_345, "byte")), ("1 byte".into(), "12,345 bytes".into()));
    }
}
