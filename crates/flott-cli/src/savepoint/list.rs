//! `flott savepoint list`: the snapshots below a directory.

use crate::progress::grouped;
use crate::savepoint::{location, print, print_json, time};
use anyhow::Result;
use flott::env::Env;
use flott_checkpoint::{Completeness, ListedSnapshot, list_snapshots};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Lists the checkpoints and savepoints in a directory, newest first, complete or not.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    /// What execution.checkpointing.dir or .savepoint-dir is set to, or the directory of one job in it.
    directory: PathBuf,
    /// Prints a JSON array instead.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  flott savepoint list /data/savepoints
  flott savepoint list /data/checkpoints --json | jq -r '[.[] | select(.completeness == \"complete\")][0].path'

Only manifests are read: `flott savepoint verify` looks at the other files. One without a manifest is being written or was aborted;
its time is that of its newest file.";

pub(crate) fn run(env: &Env, args: &ListArgs) -> Result<ExitCode> {
    let directory = location(&args.directory)?;
    let listed = list_snapshots(env, &directory)?;
    let directory = directory.to_string();
    if args.json { print_json(env, &listed) } else { print(env, &table(&directory, &listed)) }
}

fn table(directory: &str, listed: &[ListedSnapshot]) -> String {
    if listed.is_empty() {
        return format!("no checkpoints or savepoints in '{directory}'\n");
    }
    let mut text = format!(
        "{:<26}{:<28}{:>6}  {:<11}{:>6}{:>16}  path\n",
        "taken (UTC)", "kind", "number", "state", "files", "bytes"
    );
    for snapshot in listed {
        let completeness = match snapshot.completeness {
            Completeness::Complete => "complete",
            Completeness::Incomplete => "incomplete",
            Completeness::Damaged => "damaged",
        };
        let number = snapshot.checkpoint_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let below = snapshot.path.strip_prefix(directory).map(|path| path.trim_start_matches('/'));
        let path = below.filter(|path| !path.is_empty()).unwrap_or(&snapshot.path);
        // Writing to a string does not fail.
        writeln!(
            text,
            "{:<26}{:<28}{number:>6}  {completeness:<11}{:>6}{:>16}  {}",
            time(snapshot.timestamp_ms),
            snapshot.kind,
            snapshot.files,
            grouped(snapshot.bytes),
            path,
        )
        .ok();
    }
    for snapshot in listed.iter().filter(|snapshot| snapshot.completeness == Completeness::Damaged) {
        let problem = snapshot.problem.as_deref().unwrap_or_default();
        writeln!(text, "damaged: {}: {problem}", snapshot.path).ok();
    }
    text
}
