//! `cargo xtask sim`, `canaries` and `chaos`: the proofs of exactly once (docs/guide/proofs.md).
//!
//! The first two only build and call `flott-sim`. Chaos is here: it starts real processes, kills and stops them, and starts others
//! in their place.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::metadata::{Metadata, cargo};

/// Records of each split of a job that is killed: some seconds of work.
const RECORDS: &str = "1500";
/// A job that is left alone has ended after this time.
const HEAL_LIMIT: Duration = Duration::from_secs(60);

fn build(args: &[&str]) -> Result<PathBuf> {
    let status = cargo().args(["build", "--package", "flott-sim"]).args(args).status()?;
    ensure!(status.success(), "flott-sim does not build");
    let profile = if args.contains(&"--release") { "release" } else { "debug" };
    Ok(Metadata::load()?.workspace_root.join("target").join(profile).join("flott-sim"))
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

/// Random numbers: xorshift64, Marsaglia 2003.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// What was done to processes.
#[derive(Debug, Default)]
struct Counts {
    rounds: u64,
    kills: u64,
    kills_early: u64,
    zombies: u64,
    zombies_fenced: u64,
    unheard: u64,
    looks: u64,
    rows: u64,
}

impl Counts {
    fn faults(&self) -> u64 {
        self.kills + self.kills_early + self.zombies
    }
}

/// `cargo xtask chaos [--faults N] [--seconds N]`: real processes under `kill -9` and SIGSTOP.
pub(crate) fn chaos(args: &[&str]) -> Result<()> {
    let (mut faults, mut seconds) = (200, 3_600);
    for pair in args.chunks(2) {
        match pair {
            ["--faults", n] => faults = n.parse().context("--faults takes a number")?,
            ["--seconds", n] => seconds = n.parse().context("--seconds takes a number")?,
            _ => bail!("usage: cargo xtask chaos [--faults N] [--seconds N]"),
        }
    }
    let binary = build(&["--release"])?;
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64 | 1;
    let (mut dice, mut counts) = (Dice(seed), Counts::default());
    let until = Instant::now() + Duration::from_secs(seconds);
    let base = std::env::temp_dir().join(format!("flott-chaos-{}", std::process::id()));
    println!("seed {seed}, below {}", base.display());
    while counts.faults() < faults && Instant::now() < until {
        let dir = base.join(counts.rounds.to_string());
        std::fs::create_dir_all(&dir)?;
        let mut round = Round { binary: &binary, dir: &dir, victims: Vec::new() };
        round.run(&mut dice, &mut counts, faults, until)?;
        std::fs::remove_dir_all(&dir)?;
        counts.rounds += 1;
    }
    std::fs::remove_dir_all(&base)?;
    println!("{} faults: {counts:?}; nothing lost, nothing twice, nothing too early", counts.faults());
    Ok(())
}

/// One job, from its start to its end.
struct Round<'a> {
    binary: &'a Path,
    dir: &'a Path,
    /// The last is the one that should go on; those before were taken for dead.
    victims: Vec<Child>,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        // Nothing stays behind when a round fails.
        for victim in &mut self.victims {
            victim.kill().ok();
            victim.wait().ok();
        }
    }
}

impl Round<'_> {
    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(self.binary);
        command.arg(what).arg("--dir").arg(self.dir).args(["--records", RECORDS]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    fn start(&mut self) -> Result<()> {
        self.victims.push(self.command("victim").spawn()?);
        Ok(())
    }

    fn run(&mut self, dice: &mut Dice, counts: &mut Counts, faults: u64, until: Instant) -> Result<()> {
        let mut reader = self.command("watch").spawn()?;
        let watched = self.torment(dice, counts, faults, until, &mut reader);
        std::fs::write(self.dir.join("stop"), "")?;
        let output = reader.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        watched?;
        ensure!(output.status.success(), "the reader of {}: {said}", self.dir.display());
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        counts.rows += numbers.first().copied().unwrap_or_default();
        counts.looks += numbers.last().copied().unwrap_or_default();
        Ok(())
    }

    /// Until the job has ended.
    fn torment(
        &mut self,
        dice: &mut Dice,
        counts: &mut Counts,
        faults: u64,
        until: Instant,
        reader: &mut Child,
    ) -> Result<()> {
        self.start()?;
        let mut heals_since = None;
        loop {
            if reader.try_wait()?.is_some() {
                bail!("the reader has seen something: {}", self.dir.display());
            }
            let is_healing = counts.faults() >= faults || Instant::now() >= until;
            let kind = dice.below(10);
            let pause = if kind < 3 { dice.millis(1, 40) } else { dice.millis(20, 500) };
            std::thread::sleep(pause);
            let Some(victim) = self.victims.last_mut() else { bail!("nobody runs") };
            if let Some(status) = victim.try_wait()? {
                let Some(ended) = self.victims.pop() else { bail!("nobody runs") };
                let said = String::from_utf8_lossy(&ended.wait_with_output()?.stdout).into_owned();
                if status.success() {
                    return Ok(());
                }
                bail!("a job that nobody had taken over has failed: {said}");
            }
            if is_healing {
                let since = *heals_since.get_or_insert_with(Instant::now);
                ensure!(since.elapsed() < HEAL_LIMIT, "no end after the last fault: {}", self.dir.display());
                continue;
            }
            if kind == 9 {
                self.zombie(dice, counts)?;
                continue;
            }
            victim.kill()?;
            victim.wait()?;
            self.victims.clear();
            *(if kind < 3 { &mut counts.kills_early } else { &mut counts.kills }) += 1;
            // A job that has ended begins anew when it is started again: whoever starts it looks first.
            if self.has_ended()? {
                counts.unheard += 1;
                return Ok(());
            }
            self.start()?;
        }
    }

    /// Stops the job, starts it a second time, and lets the first go on.
    fn zombie(&mut self, dice: &mut Dice, counts: &mut Counts) -> Result<()> {
        let Some(zombie) = self.victims.last() else { bail!("nobody runs") };
        let id = zombie.id().to_string();
        signal("-STOP", &id)?;
        if self.has_ended()? {
            // It was about to end; to start it again would be to run it anew.
            return signal("-CONT", &id);
        }
        counts.zombies += 1;
        self.start()?;
        std::thread::sleep(dice.millis(5, 400));
        signal("-CONT", &id)?;
        let Some(mut zombie) = self.victims.len().checked_sub(2).map(|idx| self.victims.remove(idx)) else {
            bail!("there are not two");
        };
        let deadline = Instant::now() + HEAL_LIMIT;
        while zombie.try_wait()?.is_none() {
            if Instant::now() > deadline {
                zombie.kill()?;
                bail!("a job that was taken over does not notice it: {}", self.dir.display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = zombie.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            return Ok(());
        }
        ensure!(
            said.contains("belongs to generation"),
            "a job that was taken over has failed otherwise: {said}"
        );
        counts.zombies_fenced += 1;
        Ok(())
    }

    /// Whether the job has recorded its end.
    fn has_ended(&self) -> Result<bool> {
        let checkpoints = self.dir.join("checkpoints");
        let Ok(jobs) = std::fs::read_dir(checkpoints) else { return Ok(false) };
        for job in jobs {
            for entry in std::fs::read_dir(job?.path())? {
                if entry?.file_name().to_string_lossy().ends_with(".end") {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn signal(name: &str, id: &str) -> Result<()> {
    let status = Command::new("kill").args([name, id]).status()?;
    ensure!(status.success(), "kill {name} {id} has failed");
    Ok(())
}
