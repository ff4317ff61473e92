//! `flott config`: every configuration key with its default and description.

use anyhow::{Context, Result};
use std::fmt::Write;
use std::process::ExitCode;

/// Lists the configuration keys with defaults and descriptions.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    /// Lists only keys and descriptions that contain this text.
    filter: Option<String>,
}

const EXAMPLES: &str = "\
Where keys are set; later ones win:
  config.yaml       in the directory that FLOTT_CONF_DIR or FLINK_CONF_DIR names, nested or dotted
  FLOTT_PROPERTIES  or FLINK_PROPERTIES, an environment variable with lines `key: value`
  -D key=value      on the command line of `flott` or of a program

Examples:
  flott config
  flott config watermark
  flott demo -D execution.batch-size=64 -D \"execution.buffer-timeout.interval=10 ms\"";

pub(crate) fn run(args: &ConfigArgs) -> Result<ExitCode> {
    let text = reference(args.filter.as_deref().unwrap_or_default());
    if text.is_empty() {
        anyhow::bail!("no configuration key matches '{}'", args.filter.as_deref().unwrap_or_default());
    }
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())
        .context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

fn reference(filter: &str) -> String {
    let mut text = String::new();
    let filter = filter.to_lowercase();
    for (key, default, description) in flott::options::reference() {
        if !key.contains(&filter) && !description.to_lowercase().contains(&filter) {
            continue;
        }
        // Writing to a string does not fail.
        writeln!(text, "{key}\n    default: {}", readable(&default)).ok();
        for line in wrapped(&description, 96) {
            writeln!(text, "    {line}").ok();
        }
        text.push('\n');
    }
    text
}

/// A default as a person would write it: `200 ms` for `200000000 ns`, `4 mb` for `4194304 b`.
fn readable(default: &str) -> String {
    const NANOS: &[(u64, &str)] = &[
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    const BYTES: &[(u64, &str)] = &[(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    let units = match default.rsplit_once(' ') {
        Some((number, "ns")) => number.parse::<u64>().ok().zip(Some(NANOS)),
        Some((number, "b")) => number.parse::<u64>().ok().zip(Some(BYTES)),
        Some(_) | None => None,
    };
    let Some((number, units)) = units else { return default.to_owned() };
    match units.iter().find(|(size, _)| number > 0 && number.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{} {unit}", number / size),
        None => default.to_owned(),
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_listed_with_a_readable_default() {
        let all = reference("");
        for (key, _, _) in flott::options::reference() {
            assert!(all.contains(&format!("{key}\n    default: ")), "{key}");
        }
        assert!(all.contains("execution.buffer-timeout.interval\n    default: 100 ms\n"), "{all}");
        assert!(all.contains("default: 1 mb\n"), "{all}");
        assert!(!reference("watermark").contains("parallelism.default\n"));
    }

    #[test]
    fn defaults_keep_their_value() {
        for (default, expected) in [
            ("0 ns", "0 ns"),
            ("1500 ns", "1500 ns"),
            ("90000000000 ns", "90 s"),
            ("3 b", "3 b"),
            ("true", "true"),
        ] {
            assert_eq!(readable(default), expected);
        }
    }
}
