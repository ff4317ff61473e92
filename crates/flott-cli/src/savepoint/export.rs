//! `flott savepoint export`: a state as rows.

#[cfg(feature = "parquet")]
mod columns;
mod files;
pub(super) mod rows;
#[cfg(test)]
mod tests;

use crate::savepoint::schemas::Schemas;
use crate::savepoint::{counted, local_path, open, print, print_json, unknown_operator};
use anyhow::{Context, Result, anyhow};
use files::{Format, Output};
use flott::env::Env;
use flott_checkpoint::{
    OpenSnapshot, OperatorDescription, STATE_SCHEMAS, Scope, StateDescription, StateKind, describe_snapshot,
    visit_operator,
};
use flott_schema::{Type, decode};
use rows::{Layout, decode_entries};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Writes a state of a savepoint or checkpoint as rows of JSON lines, CSV or Parquet.
///
/// Each row of keyed state has key_group and key; value and last_used_ms (if the state has a time to live); and index for list state, map_key
/// for map state. Timers have timestamp_ms and namespace, slices of windows slice_end_ms.
/// Rows of list and union state have subtask, index and value, those of broadcast state, which is the same in all subtasks, subtask, key and value. In Parquet, numbers, text, structs and lists have columns of their
/// own, and everything else (maps, enums that hold something, 128-bit numbers, types that contain themselves) is JSON text.
///
/// State is stored as bytes of the program's types, which do not describe themselves. It can be exported if the snapshot
/// records the state's schema; `flott savepoint inspect --operator UID` shows the schemas that it has.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// The directory of the savepoint or checkpoint, or its file _metadata.
    path: PathBuf,
    /// The operator.
    #[arg(long, value_name = "UID")]
    operator: String,
    /// The state, by the name of its handle; _timers/event and other names of the engine too.
    #[arg(long, value_name = "NAME")]
    state: String,
    /// What the rows are written as.
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Format,
    /// The file to write, which must not exist yet; - for standard output.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Prints one JSON object about the export instead of a sentence.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  flott savepoint export chk-17 --operator counts --state total --format parquet --output total.parquet
  flott savepoint export chk-17 --operator counts --state total --format jsonl --output - | jq .value
  duckdb -c \"SELECT key, value FROM 'total.parquet' ORDER BY value DESC LIMIT 10\"";

#[derive(Serialize)]
struct Exported<'a> {
    operator: &'a str,
    state: &'a str,
    rows: u64,
    output: String,
    schema: &'a Type,
}

pub(crate) fn run(env: &Env, args: &ExportArgs) -> Result<ExitCode> {
    let snapshot = open(env, &args.path)?;
    let description = describe_snapshot(&snapshot)?;
    let operators = &description.operators;
    let operator = operators.iter().find(|operator| operator.uid == args.operator).ok_or_else(|| {
        unknown_operator(&args.operator, operators.iter().map(|operator| operator.uid.clone()))
    })?;
    let state = find_state(operator, &args.state)?;
    let schemas = Schemas::read(operator.schemas.iter().map(Vec::as_slice))?;
    let types = match state.scope {
        Scope::Keyed => schemas.types_of(&args.state),
        Scope::List | Scope::Union | Scope::Broadcast => state.types.iter().collect(),
    };
    let schema = match types.as_slice() {
        [] => return Err(no_schema(operator, state)),
        [schema] => *schema,
        several => return Err(several_schemas(operator, state, several)),
    };
    let context = || format!("cannot export state '{}' of operator '{}'", state.name, operator.uid);
    let layout = Layout::new(state.scope, state.kind, schema).with_context(context)?;
    let is_stdout = args.output == Path::new("-");
    let target = if is_stdout { args.output.clone() } else { local_path(&args.output)? };
    let mut output = Output::create(env, &target, args.format, &layout)?;
    let rows = match write_rows(&snapshot, args, (state.scope, schema), &layout, &mut output)
        .with_context(context)
    {
        Ok(rows) => rows,
        Err(error) => {
            output.abandon(env);
            return Err(error);
        }
    };
    output.finish(env)?;
    let (operator, state) = (&args.operator, &args.state);
    match (args.json, is_stdout) {
        (true, false) => {
            let output = target.display().to_string();
            print_json(env, &Exported { operator, state, rows, output, schema })
        }
        (false, false) => {
            let what = format!("{} of state '{state}' of operator '{operator}'", counted(rows, "row"));
            print(env, &format!("{what} written to '{}'\n", target.display()))
        }
        // Standard output has the rows.
        (_, true) => Ok(ExitCode::SUCCESS),
    }
}

fn find_state<'a>(operator: &'a OperatorDescription, name: &str) -> Result<&'a StateDescription> {
    let found = operator.states.iter().find(|state| state.name == name);
    match found {
        Some(state) if state.kind == StateKind::InFlight => Err(anyhow!(
            "'{name}' of operator '{}' is what was in flight to it, of all its inputs: it cannot be exported",
            operator.uid
        )),
        Some(state) if state.kind == StateKind::Positions => Err(anyhow!(
            "'{name}' of operator '{}' are source positions: see 'flott savepoint positions'",
            operator.uid
        )),
        Some(state) => Ok(state),
        None => {
            let can = |state: &&StateDescription| {
                state.scope == Scope::Keyed
                    || !state.types.is_empty()
                        && !matches!(state.kind, StateKind::InFlight | StateKind::Positions)
            };
            let names: Vec<_> =
                operator.states.iter().filter(can).map(|state| format!("'{}'", state.name)).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(anyhow!("operator '{}' has no state '{name}' in it; states: {names}", operator.uid))
        }
    }
}

fn no_schema(operator: &OperatorDescription, state: &StateDescription) -> anyhow::Error {
    let records_any =
        !operator.schemas.is_empty() || operator.states.iter().any(|state| !state.types.is_empty());
    let recorded = if !records_any {
        "the snapshot records no schemas for this operator: it was taken by a version of Flott that did not record any, or nothing in \
         it is of a type of the program"
    } else {
        "the snapshot records schemas of this operator, but none for this state: its type has none (serde's flatten and untagged, or a \
         type that refuses every made-up value), or nobody has used the state since the job was restored"
    };
    let places = match state.entries {
        Some(1) => "1 entry".to_owned(),
        Some(entries) => format!("{entries} entries"),
        None => counted(state.groups.len() as u64, "key group"),
    };
    anyhow!(
        "state '{}' of operator '{}' cannot be exported: its {} in {places} are of a Rust type that only the program knows, and {recorded}. \
         A program can read it: restore the snapshot and emit the state",
        state.name,
        operator.uid,
        counted(state.bytes, "byte"),
    )
}

fn several_schemas(
    operator: &OperatorDescription,
    state: &StateDescription,
    several: &[&Type],
) -> anyhow::Error {
    let types: Vec<_> = several.iter().map(ToString::to_string).collect();
    anyhow!(
        "state '{}' of operator '{}' cannot be exported: its type has changed, and not every subtask has read it since; in some places it \
         is {}. Once the program has used the state in all of them, the next snapshot can be exported",
        state.name,
        operator.uid,
        types.join(", in others "),
    )
}

fn write_rows(
    snapshot: &OpenSnapshot,
    args: &ExportArgs,
    (scope, schema): (Scope, &Type),
    layout: &Layout,
    output: &mut Output,
) -> Result<u64> {
    let mut n_rows = 0;
    let mut failed = None;
    let mut has_broadcast = false;
    visit_operator(snapshot, &args.operator, |subtask, part| {
        if failed.is_some() {
            return Ok(());
        }
        let records = part.union.get(STATE_SCHEMAS).into_iter().flatten().map(Vec::as_slice);
        let mut write = |row| {
            n_rows += 1;
            output.write(row)
        };
        let written = Schemas::read(records).and_then(|schemas| {
            let entries = match scope {
                Scope::Keyed => &[],
                Scope::List => part.list.get(&args.state).map_or(&[][..], Vec::as_slice),
                Scope::Union => part.union.get(&args.state).map_or(&[][..], Vec::as_slice),
                // Every subtask has the same.
                Scope::Broadcast if std::mem::replace(&mut has_broadcast, true) => &[],
                Scope::Broadcast => part.broadcast.get(&args.state).map_or(&[][..], std::slice::from_ref),
            };
            for (index, entry) in entries.iter().enumerate() {
                let value = decode(schema, entry).with_context(|| format!("entry {index}"))?;
                layout.operator_rows(subtask.0, index, value, &mut write)?;
            }
            if scope != Scope::Keyed {
                return Ok(());
            }
            for (group, bytes) in part.keyed.get(&args.state).into_iter().flatten() {
                let ty = schemas.of_group(&args.state, group.0);
                let ty = ty.with_context(|| format!("no schema is recorded for key group {group}"))?;
                decode_entries(&args.state, ty, bytes, |entry| layout.rows(group.0, entry, &mut write))
                    .with_context(|| format!("key group {group}"))?;
            }
            Ok(())
        });
        failed = written.err().map(|error| error.context(format!("subtask {subtask}")));
        Ok(())
    })?;
    failed.map_or(Ok(n_rows), Err)
}
