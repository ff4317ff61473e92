//! `cargo xtask fuzz`: random changes of good inputs for every decoder of outside bytes. It builds and calls `flott-fuzz`.

use anyhow::{Result, bail, ensure};

use crate::metadata::cargo;

/// For each target, unless it is said.
const SECONDS: &str = "30";

/// `cargo xtask fuzz [TARGET] [--seconds N]`.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let (target, seconds) = match args {
        [] => (None, SECONDS),
        ["--seconds", seconds] => (None, *seconds),
        [target] => (Some(*target), SECONDS),
        [target, "--seconds", seconds] => (Some(*target), *seconds),
        _ => bail!("usage: cargo xtask fuzz [TARGET] [--seconds N]"),
    };
    // A debug build, with checks: an overflow is a finding.
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "flott-fuzz", "--", seconds]).args(target);
    ensure!(command.status()?.success(), "an input did harm: see above");
    Ok(())
}
