//! `flott savepoint positions`: where the sources of a snapshot go on.

use crate::savepoint::{open, print, print_json, unknown_operator};
use anyhow::{Context, Result};
use flott::env::Env;
use flott::{Error, ErrorKind};
use flott_checkpoint::{SOURCE_POSITIONS, visit_operators};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shows where the sources of a savepoint or checkpoint go on: their splits with the positions of the next records.
///
/// Another job can start there, without the rest of the snapshot.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PositionsArgs {
    /// The directory of the savepoint or checkpoint, or its file _metadata.
    path: PathBuf,
    /// Prints the splits of this source only, as one JSON array.
    #[arg(long, value_name = "UID")]
    operator: Option<String>,
    /// Prints one JSON object with an array for each source instead.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  flott savepoint positions chk-17
  flott run -D \"source.orders.scan.startup.specific-positions=$(flott savepoint positions chk-17 --operator orders)\" my-program

A split that has been read to its end has no position. A source that looks for new splits remembers in its snapshot which it has
seen; positions alone do not say that.";

pub(crate) fn run(env: &Env, args: &PositionsArgs) -> Result<ExitCode> {
    let mut positions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    visit_operators(&open(env, &args.path)?, |uid, _, part| {
        if let Some(splits) = part.list.get(SOURCE_POSITIONS) {
            let of_source = positions.entry(uid.to_string()).or_default();
            for (idx, bytes) in splits.iter().enumerate() {
                let split = serde_json::from_slice(bytes).map_err(|error| {
                    let what = format!(
                        "split {idx} of source '{uid}' is not JSON: the engine has not written it so"
                    );
                    Error::new(ErrorKind::Corruption, what).with_source(error)
                })?;
                of_source.push(split);
            }
        }
        Ok(())
    })?;
    if let Some(uid) = &args.operator {
        let known = || positions.keys().cloned();
        let splits = positions.get(uid).ok_or_else(|| unknown_operator(uid, known()))?;
        let line = serde_json::to_string(splits).context("cannot write JSON")?;
        return print(env, &(line + "\n"));
    }
    if args.json { print_json(env, &positions) } else { print(env, &shown(&positions)) }
}

fn shown(positions: &BTreeMap<String, Vec<Value>>) -> String {
    let lines = positions.iter().flat_map(|(uid, splits)| {
        let splits = splits.iter().map(|split| format!("  {split}\n"));
        std::iter::once(format!("source '{uid}'\n")).chain(splits)
    });
    let lines: String = lines.collect();
    if lines.is_empty() { "no source has recorded positions in it\n".to_owned() } else { lines }
}
