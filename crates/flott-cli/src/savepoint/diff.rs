//! `flott savepoint diff`: what two snapshots differ in.

use crate::progress::grouped;
use crate::savepoint::{counted, open, print, print_json};
use anyhow::{Context, Result};
use flott::env::Env;
use flott_checkpoint::{
    Change, ListChange, OperatorDifference, SnapshotDifference, StateDifference, compare_snapshots,
    describe_snapshot,
};
use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Compares two savepoints or checkpoints: operators and states added and removed, parallelism, bytes, key groups, types of state.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DiffArgs {
    /// The older one.
    old: PathBuf,
    /// The newer one.
    new: PathBuf,
    /// Ends with exit code 1 if there is any difference.
    #[arg(long)]
    exit_code: bool,
    /// Prints one JSON object instead.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  flott savepoint diff chk-17 chk-18
  flott savepoint diff savepoint-before savepoint-after --json | jq '.operators[] | select(.change == \"removed\")'

Signs: + in the newer one only, - in the older one only, ~ in both and different. Operators are matched by uid and states by name;
what is the same is not shown. Key groups count as changed if their bytes differ, and a restore may write the same entries
in another order.";

pub(crate) fn run(env: &Env, args: &DiffArgs) -> Result<ExitCode> {
    let describe = |path: &Path| {
        let described = open(env, path).and_then(|snapshot| Ok(describe_snapshot(&snapshot)?));
        described.with_context(|| format!("cannot describe '{}'", path.display()))
    };
    let difference = compare_snapshots(&describe(&args.old)?, &describe(&args.new)?);
    if args.json {
        print_json(env, &difference)?;
    } else {
        print(env, &report(&difference))?;
    }
    let is_failure = args.exit_code && !difference.operators.is_empty();
    Ok(if is_failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

const fn sign(change: ListChange) -> char {
    match change {
        ListChange::Added => '+',
        ListChange::Removed => '-',
        ListChange::Changed => '~',
    }
}

fn report(difference: &SnapshotDifference) -> String {
    let mut text = format!("- {}\n+ {}\n", difference.old, difference.new);
    if !difference.same_job {
        text.push_str("they are of different jobs\n");
    }
    if difference.operators.is_empty() {
        text.push_str("no operator differs\n");
    }
    for operator in &difference.operators {
        operator_lines(&mut text, operator);
    }
    text
}

fn operator_lines(text: &mut String, operator: &OperatorDifference) {
    let OperatorDifference { uid, name, change, parallelism, max_parallelism, positions, bytes, states } =
        operator;
    // Writing to a string does not fail.
    write!(text, "\n{} operator '{uid}' ({name}): ", sign(*change)).ok();
    let mut parts = vec![about("bytes", *bytes)];
    if *change != ListChange::Changed {
        let there =
            Change { old: parallelism.old.max(parallelism.new), new: parallelism.old.max(parallelism.new) };
        parts.insert(0, about("parallelism", there));
    } else {
        for (what, change) in [("parallelism", parallelism), ("key groups", max_parallelism)] {
            if change.is_change() {
                parts.insert(0, about(what, *change));
            }
        }
    }
    if positions.is_change() {
        parts.push(about("positions", *positions));
    }
    writeln!(text, "{}", parts.join(", ")).ok();
    states.iter().for_each(|state| state_line(text, state));
}

fn state_line(text: &mut String, state: &StateDifference) {
    let kinds = match (state.kind.old, state.kind.new) {
        (Some(old), Some(new)) if old != new => format!("{old} -> {new}"),
        (old, new) => new.or(old).map(|kind| kind.to_string()).unwrap_or_default(),
    };
    let mut line =
        format!("    {} {}  {kinds}, {}", sign(state.change), state.name, about("bytes", state.bytes));
    if state.key_groups_changed > 0 {
        let changed = counted(state.key_groups_changed as u64, "key group");
        // Writing to a string does not fail.
        write!(line, ", {changed} changed").ok();
    }
    text.push_str(&line);
    text.push('\n');
    for change in &state.types {
        writeln!(text, "        type: {change}").ok();
    }
}

/// `bytes 10 -> 12`, or `bytes 10` if it is the same.
fn about<T: Copy + Into<u64> + PartialEq>(what: impl Display, change: Change<T>) -> String {
    let (old, new): (u64, u64) = (change.old.into(), change.new.into());
    if old == new {
        format!("{what} {}", grouped(new))
    } else {
        format!("{what} {} -> {}", grouped(old), grouped(new))
    }
}
