//! `flott savepoint inspect`: what is in a snapshot.

use crate::progress::grouped;
use crate::savepoint::schemas::Schemas;
use crate::savepoint::{counted, open, print, print_json, time, unknown_operator};
use anyhow::Result;
use flott::env::Env;
use flott_checkpoint::{
    OperatorDescription, Scope, SnapshotDescription, StateDescription, describe_snapshot,
};
use flott_schema::Type;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shows what is in a savepoint or checkpoint: operators, their states, how many key groups and bytes.
///
/// All files are read and compared with the manifest on the way.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// The directory of the savepoint or checkpoint, or its file _metadata.
    path: PathBuf,
    /// Shows this operator only, with its subtasks and the schemas of its states.
    #[arg(long, value_name = "UID")]
    operator: Option<String>,
    /// Prints one JSON object instead.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  flott savepoint inspect /data/savepoints/savepoint-abcdef-28774723d06f
  flott savepoint inspect /data/checkpoints/4c5e.../chk-17 --operator counts
  flott savepoint inspect chk-17 --json | jq '.operators[] | {uid, bytes}'

States whose name begins with _ are the engine's: timers, windows, watermarks, positions of sources. How many entries a keyed
state has is not shown: the bytes of a key group are entries of a type that only the program knows.";

pub(crate) fn run(env: &Env, args: &InspectArgs) -> Result<ExitCode> {
    let mut description = describe_snapshot(&open(env, &args.path)?)?;
    let Some(uid) = &args.operator else {
        return if args.json { print_json(env, &description) } else { print(env, &overview(&description)) };
    };
    let uids: Vec<_> = description.operators.iter().map(|operator| operator.uid.clone()).collect();
    description.operators.retain(|operator| operator.uid == *uid);
    let Some(operator) = description.operators.first() else {
        return Err(unknown_operator(uid, uids.into_iter()));
    };
    let schemas = Schemas::read(operator.schemas.iter().map(Vec::as_slice))?;
    let schemas = all_types(operator, &schemas);
    if args.json {
        return print_json(env, &Details { operator, schemas });
    }
    print(env, &details(operator, &schemas))
}

/// The types of all states of an operator.
fn all_types<'a>(operator: &'a OperatorDescription, keyed: &'a Schemas) -> BTreeMap<&'a str, Vec<&'a Type>> {
    let mut types = keyed.types();
    let others =
        operator.states.iter().filter(|state| state.scope != Scope::Keyed && !state.types.is_empty());
    for state in others {
        types.entry(&state.name).or_default().extend(&state.types);
    }
    types
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(flatten)]
    operator: &'a OperatorDescription,
    schemas: BTreeMap<&'a str, Vec<&'a Type>>,
}

fn overview(snapshot: &SnapshotDescription) -> String {
    let mut text = heading(snapshot);
    for operator in &snapshot.operators {
        text.push('\n');
        text.push_str(&operator_lines(operator));
    }
    text
}

fn heading(snapshot: &SnapshotDescription) -> String {
    let is_final = if snapshot.is_final { ", after all input" } else { "" };
    format!(
        "{} {} of job {}\n  path      {}\n  taken     {} by generation {}{is_final}\n  files     {} with {}\n  formats   \
         manifest {}, parts {}, key hash {}\n",
        snapshot.kind,
        snapshot.checkpoint_id,
        snapshot.job_id,
        snapshot.path,
        time(snapshot.timestamp_ms),
        snapshot.generation,
        snapshot.files,
        counted(snapshot.bytes, "byte"),
        snapshot.manifest_version,
        snapshot.part_version,
        snapshot.key_hash_version,
    )
}

fn operator_lines(operator: &OperatorDescription) -> String {
    let OperatorDescription { uid, name, parallelism, max_parallelism, positions, bytes, .. } = operator;
    let mut text = format!(
        "operator '{uid}' ({name})\n  parallelism {parallelism}, {}, {}",
        counted((*max_parallelism).into(), "key group"),
        counted(*bytes, "byte"),
    );
    if let Some(positions) = positions {
        // Writing to a string does not fail.
        write!(text, ", source with {}", counted(*positions, "position")).ok();
    }
    let n_finished = operator.subtasks.iter().filter(|subtask| subtask.finished).count();
    if n_finished > 0 {
        write!(text, ", {} finished", counted(n_finished as u64, "subtask")).ok();
    }
    text.push('\n');
    let width = operator.states.iter().map(|state| state.name.chars().count()).max().unwrap_or(0);
    for state in &operator.states {
        text.push_str(&state_line(state, width));
    }
    text
}

fn state_line(state: &StateDescription, width: usize) -> String {
    let parts = match (state.key_groups, state.entries) {
        (Some(groups), _) => counted(groups as u64, "key group"),
        (None, Some(1)) => "1 entry".to_owned(),
        (None, entries) => format!("{} entries", grouped(entries.unwrap_or_default())),
    };
    format!("    {:<width$}  {:<22}{parts:>18}{:>18} bytes\n", state.name, state.kind, grouped(state.bytes))
}

fn details(operator: &OperatorDescription, schemas: &BTreeMap<&str, Vec<&Type>>) -> String {
    let mut text = operator_lines(operator);
    text.push_str("  subtasks\n");
    for subtask in &operator.subtasks {
        let (first, end) = subtask.key_groups;
        let finished = if subtask.finished { "  finished" } else { "" };
        let file = subtask.file.as_deref().unwrap_or("no file");
        let bytes = grouped(subtask.bytes);
        // Writing to a string does not fail.
        writeln!(
            text,
            "    {:<6}key groups {first:>5}..{end:<5}{bytes:>14} bytes  {file}{finished}",
            subtask.index
        )
        .ok();
    }
    if schemas.is_empty() {
        text.push_str("  schemas: none are recorded; the types of its state are known to the program only\n");
        return text;
    }
    text.push_str("  schemas of entries\n");
    for (name, types) in schemas {
        for ty in types {
            writeln!(text, "    {name}: {ty}").ok();
        }
    }
    text
}
