//! State that is larger than memory, through a checkpoint, a `kill -9` and a restore, in processes whose memory is looked at.
//!
//! One process fills keyed state on disk and is killed once a checkpoint has all of it; a second one goes on from there and
//! compares what it finds. Neither may ever have had more memory than it is allowed.

#![expect(
    clippy::disallowed_methods,
    reason = "looks at the files and the processes from outside of the engine"
)]

mod job;

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use flott_env::Env;

use crate::clock;

use job::FILLED;
pub(crate) use job::run;

/// Bytes of the value of a key.
const VALUE_BYTES: u64 = 2000;

/// How often the parent looks whether the checkpoint is there.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a checkpoint may take, with what a slow disk needs for each gigabyte.
const LOOK_FOR: Duration = Duration::from_secs(300);
const LOOK_FOR_EACH_GB: Duration = Duration::from_secs(60);

/// How much state, in how much memory.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct LargeStateArgs {
    /// Keyed state, in MB.
    #[arg(long, default_value_t = 2048)]
    megabytes: u64,
    /// What a process may have at most, in MB.
    #[arg(long, default_value_t = 128)]
    limit: u64,

    /// Seconds between two checkpoints. With more than it takes to fill state there is one, and room on disk is needed for no other.
    #[arg(long, default_value_t = 10)]
    interval: u64,

    /// Checkpoints have what has changed since the one before; while state is filled there are several.
    #[arg(long)]
    incremental: bool,
}

/// Why it is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LargeStateError {
    #[error("cannot run the child processes")]
    Io(#[from] io::Error),
    #[error("the process that fills state has ended before it was killed")]
    EndedEarly,
    #[error("no checkpoint of all state within {0:?}")]
    NoCheckpoint(Duration),
    #[error("the restored process has said {0:?} instead of {1:?}")]
    Wrong(String, String),
    #[error("a process had {0} MB, {1} are allowed")]
    TooMuchMemory(u64, u64),
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct LargeState {
    args: LargeStateArgs,
    fill: Duration,
    checkpoint: Duration,
    checkpoint_bytes: u64,
    restore: Duration,
    peaks_mb: [u64; 2],
}

impl fmt::Display for LargeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, fill, checkpoint, checkpoint_bytes, restore, peaks_mb } = self;
        write!(
            f,
            "{} MB of state: filled in {:.1} s, in a checkpoint of {} MB after {:.1} s more, restored and compared in {:.1} s; \
             the processes had {} and {} MB of {} MB",
            args.megabytes,
            fill.as_secs_f64(),
            checkpoint_bytes >> 20,
            checkpoint.as_secs_f64(),
            restore.as_secs_f64(),
            peaks_mb[0],
            peaks_mb[1],
            args.limit
        )
    }
}

/// Fills, takes a checkpoint, kills, restores and compares.
pub(crate) fn measure(args: LargeStateArgs) -> Result<LargeState, LargeStateError> {
    let dir = tempfile::tempdir()?;
    let mut filling = spawn(args, dir.path())?;
    let mut output = output_of(&mut filling.0)?;
    let (fill, filled) = clock::measure(|| line(&mut output));
    if filled? != FILLED {
        return Err(LargeStateError::EndedEarly);
    }
    let checkpoints = dir.path().join("checkpoints");
    let (checkpoint, checkpoint_bytes) =
        clock::measure(|| wait_for_checkpoint(&checkpoints, args.look_for()));
    let checkpoint_bytes = checkpoint_bytes?;
    let first_mb = peak_mb(filling.0.id())?;
    filling.0.kill()?;
    filling.0.wait()?;

    let mut restored = spawn(args, dir.path())?;
    let mut output = output_of(&mut restored.0)?;
    let (restore, said) = clock::measure(|| line(&mut output));
    let (said, expected) = (said?, job::expected(args.n_keys()));
    if said != expected {
        return Err(LargeStateError::Wrong(said, expected));
    }
    let second_mb = peak_mb(restored.0.id())?;
    let peaks_mb = [first_mb, second_mb];
    match peaks_mb.into_iter().max() {
        Some(peak) if peak > args.limit => Err(LargeStateError::TooMuchMemory(peak, args.limit)),
        _ => Ok(LargeState { args, fill, checkpoint, checkpoint_bytes, restore, peaks_mb }),
    }
}

impl LargeStateArgs {
    fn look_for(self) -> Duration {
        let gigabytes = u32::try_from(self.megabytes >> 10).unwrap_or(u32::MAX);
        LOOK_FOR + Duration::from_secs(self.interval) + LOOK_FOR_EACH_GB.saturating_mul(gigabytes)
    }

    pub(crate) fn n_keys(self) -> u64 {
        (self.megabytes << 20) / VALUE_BYTES
    }

    /// An eighth: in memory are also a copy of the write buffer and of what a snapshot sends, and what reads and merges runs.
    pub(crate) fn table_megabytes(self) -> u64 {
        self.limit / 8
    }
}

/// A process that goes with its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn spawn(args: LargeStateArgs, dir: &Path) -> io::Result<Killed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("large-state-job").arg(dir);
    command.args(["--megabytes", &args.megabytes.to_string(), "--limit", &args.limit.to_string()]);
    command.args(["--interval", &args.interval.to_string()]);
    if args.incremental {
        command.arg("--incremental");
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().map(Killed)
}

fn output_of(child: &mut Child) -> io::Result<BufReader<ChildStdout>> {
    child.stdout.take().map(BufReader::new).ok_or_else(|| io::Error::other("the child has no output"))
}

fn line(output: &mut BufReader<ChildStdout>) -> io::Result<String> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Waits for a checkpoint that was begun after now, and returns the bytes of its files.
fn wait_for_checkpoint(checkpoints: &Path, look_for: Duration) -> Result<u64, LargeStateError> {
    let newest = newest_checkpoint(checkpoints)?.map_or(0, |(number, _)| number);
    let env = Env::real()?;
    let mut looks = look_for.as_millis() / LOOK_EVERY.as_millis();
    loop {
        if let Some((number, dir)) = newest_checkpoint(checkpoints)?
            && number > newest
            && dir.join("_metadata").exists()
        {
            let files = fs::read_dir(dir)?.map(|entry| entry?.metadata());
            return Ok(files.map(|file| file.map(|file| file.len())).sum::<io::Result<u64>>()?);
        }
        looks = looks.checked_sub(1).ok_or(LargeStateError::NoCheckpoint(look_for))?;
        env.block_on(env.sleep(LOOK_EVERY));
    }
}

/// The directory of the newest checkpoint, complete or not, with its number.
fn newest_checkpoint(checkpoints: &Path) -> io::Result<Option<(u64, std::path::PathBuf)>> {
    let Some(job) = fs::read_dir(checkpoints)?.next().transpose()? else { return Ok(None) };
    let mut newest = None;
    for entry in fs::read_dir(job.path())? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("chk-")?.parse().ok());
        newest = newest.max(number.map(|number: u64| (number, entry.path())));
    }
    Ok(newest)
}

/// The most memory that a process ever had.
fn peak_mb(pid: u32) -> io::Result<u64> {
    let mut status = String::new();
    fs::File::open(format!("/proc/{pid}/status"))?.read_to_string(&mut status)?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(str::trim);
    let kb = peak.and_then(|peak| peak.trim_end_matches(" kB").parse::<u64>().ok());
    kb.map(|kb| kb >> 10).ok_or_else(|| io::Error::other("the kernel does not tell the peak"))
}
