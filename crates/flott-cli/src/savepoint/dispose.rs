//! `flott savepoint dispose`: deletes a snapshot.

use crate::savepoint::{counted, location, print, print_json};
use anyhow::{Result, anyhow};
use flott::env::Env;
use flott_checkpoint::plan_disposal;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Deletes exactly the files of a savepoint.
///
/// The manifest goes first, so that what is left after an interruption is never taken for a savepoint; run it again to go on.
/// Files that the manifest does not name stay, and so does the directory if there are any.
///
/// Checkpoints belong to their job, which deletes them itself: they are refused, with the reason, unless --force says that you know
/// better. So is what has no readable manifest.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DisposeArgs {
    /// The directory of the savepoint, or its file _metadata.
    path: PathBuf,
    /// Deletes also what is refused without it; what cannot be known to belong to the savepoint stays even so.
    #[arg(long)]
    force: bool,
    /// Shows what would be deleted, and deletes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Prints one JSON object instead.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  flott savepoint dispose /data/savepoints/savepoint-abcdef-28774723d06f
  flott savepoint dispose --dry-run savepoint-abcdef-28774723d06f
  flott savepoint dispose --force /data/checkpoints/4c5e.../chk-17   a retained checkpoint of a job that is gone

A job that was started from a savepoint needs it until its own first checkpoint is complete, and after stop-with-savepoint a later start
of the job without a path goes on from that savepoint: dispose of it when the job has newer checkpoints.";

#[derive(Serialize)]
struct Disposed<'a> {
    path: String,
    deleted: bool,
    files: &'a [String],
    /// Of earlier checkpoints that it goes on from, and nothing else does.
    bases: &'a [String],
    left: &'a [String],
}

pub(crate) fn run(env: &Env, args: &DisposeArgs) -> Result<ExitCode> {
    let disposal = plan_disposal(env, location(&args.path)?)?;
    let path = disposal.dir.to_string();
    if let Some(refusal) = &disposal.refusal
        && !args.force
        && !args.dry_run
    {
        return Err(anyhow!("'{path}' is not deleted: {refusal}. If you are sure, --force deletes it"));
    }
    if !args.dry_run {
        disposal.execute(env)?;
    }
    let (files, bases, left) = (&disposal.files, &disposal.bases, &disposal.left);
    if args.json {
        return print_json(env, &Disposed { path, deleted: !args.dry_run, files, bases, left });
    }
    let n_files = counted(files.len() as u64, "file");
    let mut text = match args.dry_run {
        // The text of Flink's command line, which scripts look for.
        false => format!("Savepoint '{path}' disposed.\n{n_files} deleted\n"),
        true => format!("would delete {n_files} of '{path}': {}\n", files.join(", ")),
    };
    // Writing to a string does not fail.
    if !bases.is_empty() {
        writeln!(text, "and what only it goes on from: {}", bases.join(", ")).ok();
    }
    if !left.is_empty() {
        writeln!(text, "not its files, left in place: {}", left.join(", ")).ok();
    }
    if let (true, Some(refusal)) = (args.dry_run, &disposal.refusal) {
        writeln!(text, "but only with --force: {refusal}").ok();
    }
    print(env, &text)
}
