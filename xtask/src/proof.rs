//! `cargo xtask sim`, `canaries` and `chaos`: the proofs of exactly once (docs/guide/proofs.md).
//!
//! They build and call `flott-sim` and `flott-chaos`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::metadata::{Metadata, cargo};

fn build(args: &[&str]) -> Result<PathBuf> {
    let status = cargo().args(["build", "--package", "flott-sim"]).args(args).status()?;
    ensure!(status.success(), "flott-sim does not build");
    let profile = if args.contains(&"--release") { "release" } else { "debug" };
    binary(profile, "flott-sim")
}

fn binary(profile: &str, name: &str) -> Result<PathBuf> {
    Ok(Metadata::load()?.workspace_root.join("target").join(profile).join(name))
}

fn flott_sim(build_args: &[&str], args: &[&str]) -> Result<()> {
    let mut command = Command::new(build(build_args)?);
    let status = command.args(args).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "flott-sim {} has failed: see above", args.join(" "));
    Ok(())
}

/// `cargo xtask sim [--seeds N | --hours N | --replay PLAN]`: random jobs under random faults.
pub(crate) fn sim(args: &[&str]) -> Result<()> {
    match args {
        [] => flott_sim(&["--release"], &["faults"]),
        ["--seeds", n] => flott_sim(&["--release"], &["faults", "--seeds", n, "--seconds", "86400"]),
        ["--hours", n] => {
            let hours: f64 = n.parse().context("--hours takes a number")?;
            let seconds = format!("{}", (hours * 3_600.0) as u64);
            flott_sim(&["--release"], &["faults", "--seeds", "1000000000", "--seconds", &seconds])
        }
        ["--replay", plan] => flott_sim(&["--release"], &["faults", "--plan", plan]),
        _ => bail!("usage: cargo xtask sim [--seeds N | --hours N | --replay PLAN]"),
    }
}

/// `cargo xtask sweep`: every crash point of the scenarios.
pub(crate) fn sweep() -> Result<()> {
    flott_sim(&["--release"], &["sweep"])
}

/// `cargo xtask canaries`: deliberate bugs, each of which must be noticed.
pub(crate) fn canaries(args: &[&str]) -> Result<()> {
    let only = args.first().copied().unwrap_or_default();
    // Not optimised: all of the engine is built for the feature, and most canaries do not live long.
    let binary = build(&["--features", "canaries"])?;
    let mut command = Command::new(binary);
    let status = command.args(["canaries", "--only", only]).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "a canary was not noticed: see above");
    Ok(())
}

/// `cargo xtask chaos [--faults N] [--seconds N] …`: real processes that are killed, stopped and replaced; with `--with kafka,postgres,s3` between these
/// systems, which are struck too.
pub(crate) fn chaos(args: &[&str]) -> Result<()> {
    if !args.contains(&"--with") {
        return flott_sim(&["--release"], &[&["chaos"], args].concat());
    }
    // Not optimised: what takes time is done by the servers. With the features of the whole workspace, which the tests are built with.
    let built = cargo().args(["build", "--workspace", "--bin", "flott-chaos"]).status()?;
    ensure!(built.success(), "flott-chaos does not build");
    let mut command = Command::new(binary("debug", "flott-chaos")?);
    let status = command.args(args).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "flott-chaos {} has failed: see above", args.join(" "));
    Ok(())
}
