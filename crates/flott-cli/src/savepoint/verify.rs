//! `flott savepoint verify`: whether every byte of a snapshot is what was written.

use crate::progress::grouped;
use crate::savepoint::export::rows::decode_entries;
use crate::savepoint::schemas::Schemas;
use crate::savepoint::{counted, open, print, print_json};
use anyhow::{Context, Result};
use flott::env::Env;
use flott_checkpoint::{
    OpenSnapshot, SOURCE_SPLITS, STATE_SCHEMAS, Verification, verify_snapshot, visit_operators,
};
use flott_schema::{EntrySchemas, OperatorSchemas, decode as decode_value};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Reads every file of a savepoint or checkpoint and checks that it can be restored.
///
/// Checked are: the manifest; of each file presence, length, checksum and that it can be decoded; that it has exactly the
/// operators that the manifest says; that every key group is within the range of its subtask and in one file only; that
/// keys were hashed as this build does it; and, of states with a schema, that every entry is what the schema says.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// The directory of the savepoint or checkpoint, or its file _metadata.
    path: PathBuf,
    /// Prints one JSON object instead.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  flott savepoint verify /data/savepoints/savepoint-abcdef-28774723d06f
  flott savepoint verify chk-17 --json | jq .files

Exit code 1 and the name of the first file that is broken, with what is wrong and where, if anything is. What the program itself
would say to its state (a uid that is gone, a type that has changed) is only known to the program: it says so when it starts.";

pub(crate) fn run(env: &Env, args: &VerifyArgs) -> Result<ExitCode> {
    let snapshot = open(env, &args.path)?;
    let path = snapshot.path();
    let broken = || format!("'{path}' is broken");
    let verification = verify_snapshot(&snapshot).with_context(broken)?;
    let decoded = decode_all(&snapshot).with_context(broken)?;
    if args.json {
        return print_json(
            env,
            &Verified { path: &path, is_whole: true, verification: &verification, decoded },
        );
    }
    print(env, &report(&path, &verification, decoded))
}

#[derive(Serialize)]
struct Verified<'a> {
    path: &'a str,
    is_whole: bool,
    #[serde(flatten)]
    verification: &'a Verification,
    #[serde(flatten)]
    decoded: Decoded,
}

/// What was decoded by schema.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Decoded {
    states_with_schema: usize,
    keyed_entries: u64,
    operator_entries: u64,
}

fn decode_all(snapshot: &OpenSnapshot) -> Result<Decoded> {
    let mut names = BTreeSet::new();
    let (mut keyed_entries, mut operator_entries) = (0, 0);
    let mut failed = None;
    visit_operators(snapshot, |uid, subtask, part| {
        if failed.is_none() {
            let mut decode = || -> Result<()> {
                let records = part.union.get(STATE_SCHEMAS).into_iter().flatten().map(Vec::as_slice);
                let schemas = Schemas::read(records)?;
                for (name, groups) in &part.keyed {
                    for (group, bytes) in groups {
                        let Some(ty) = schemas.of_group(name, group.0) else { continue };
                        let count = |_| {
                            keyed_entries += 1;
                            Ok(())
                        };
                        let place = || format!("key group {group} of state '{name}'");
                        decode_entries(name, ty, bytes, count).with_context(place)?;
                    }
                }
                names.extend(schemas.types().keys().map(|name| (uid.clone(), (*name).to_owned())));
                let OperatorSchemas { list, union, broadcast } = &part.schemas;
                let mut check = |recorded: &EntrySchemas, name: &str, entries: &[Vec<u8>]| -> Result<()> {
                    for (index, (entry, ty)) in entries.iter().zip(recorded.of(name)).enumerate() {
                        let Some(ty) = ty else { continue };
                        names.insert((uid.clone(), name.to_owned()));
                        decode_value(ty, entry)
                            .with_context(|| format!("entry {index} of state '{name}'"))?;
                        operator_entries += 1;
                    }
                    Ok(())
                };
                let mut lists = part.list.iter().filter(|(name, _)| *name != SOURCE_SPLITS);
                lists.try_for_each(|(name, entries)| check(list, name, entries))?;
                part.union.iter().try_for_each(|(name, entries)| check(union, name, entries))?;
                let broadcasts = &mut part.broadcast.iter();
                broadcasts
                    .try_for_each(|(name, entry)| check(broadcast, name, std::slice::from_ref(entry)))?;
                Ok(())
            };
            let place = || format!("subtask {subtask} of operator '{uid}'");
            failed = decode().with_context(place).err();
        }
        Ok(())
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(Decoded { states_with_schema: names.len(), keyed_entries, operator_entries }),
    }
}

fn report(path: &str, verification: &Verification, decoded: Decoded) -> String {
    let mut text = String::new();
    for file in &verification.files {
        // Writing to a string does not fail.
        writeln!(text, "  ok  {}  {} bytes  xxh3 {}", file.path, grouped(file.bytes), file.checksum).ok();
    }
    let bytes = verification.files.iter().map(|file| file.bytes).sum();
    writeln!(
        text,
        "'{path}' is whole: the manifest, {} with {}, {}, {} in {}, {} of operator state",
        counted(verification.files.len() as u64, "file"),
        counted(bytes, "byte"),
        counted(verification.operators as u64, "operator"),
        counted(verification.key_groups as u64, "key group"),
        counted(verification.keyed_states as u64, "keyed state"),
        if verification.entries == 1 {
            "1 entry".to_owned()
        } else {
            format!("{} entries", verification.entries)
        },
    )
    .ok();
    if decoded.states_with_schema > 0 {
        let states = counted(decoded.states_with_schema as u64, "state");
        let others = match decoded.operator_entries {
            0 => String::new(),
            entries => format!(" and {} of operator state", grouped(entries)),
        };
        writeln!(
            text,
            "{} keyed entries{others} in {states} with a schema were decoded",
            grouped(decoded.keyed_entries)
        )
        .ok();
    }
    text
}
