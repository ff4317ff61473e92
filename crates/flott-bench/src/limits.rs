//! What is not a rate: latency, the time to a first result, memory.
//!
//! Each limit is measured in a child process that runs one job and prints one number, so that neither the allocator's
//! leftovers nor the threads of another measurement count.

mod jobs;
mod recovery;

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use crate::clock;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Limit {
    /// From source to sink, the slowest of a hundred records.
    Latency,
    /// From the start of a process to the first result of a trivial job.
    Startup,
    /// Resident memory of a process whose unbounded job has nothing to do.
    IdleMemory,
    /// Resident memory while a sink that sleeps holds a fast source back.
    StalledSink,
    /// From the failure of a region to the next record that it processes.
    Recovery,
}

/// A measured number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) limit: Limit,
    value: f64,
}

/// Why a limit could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LimitError {
    #[error("cannot run a child process")]
    Child(#[from] io::Error),
    #[error("the child process for {0} printed {1:?} instead of a number")]
    NoNumber(Limit, String),
}

impl Limit {
    pub(crate) const ALL: [Self; 5] =
        [Self::Latency, Self::Startup, Self::IdleMemory, Self::StalledSink, Self::Recovery];

    fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Startup => "startup",
            Self::IdleMemory => "idle-memory",
            Self::StalledSink => "stalled-sink",
            Self::Recovery => "recovery",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Latency => {
                "p99 from source to sink over a keyed exchange, 10,000 records/s, parallelism 2, ms"
            }
            Self::Startup => "process start to first result, median of 11, ms",
            Self::IdleMemory => "resident memory with an idle unbounded job, MB",
            Self::StalledSink => "peak resident memory, 1e9 records into a sink that sleeps, MB",
            Self::Recovery => {
                "failure of a region to its next record, with a checkpoint to go back to, median, ms"
            }
        }
    }

    /// What it has to stay below.
    fn target(self) -> f64 {
        match self {
            Self::Latency => 5.0,
            Self::Startup => 50.0,
            Self::IdleMemory => 30.0,
            Self::StalledSink => 100.0,
            Self::Recovery => 200.0,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Reading {
    pub(crate) fn is_within(&self, generosity_of_times: f64) -> bool {
        let generosity = match self.limit {
            Limit::IdleMemory | Limit::StalledSink => 1.0,
            Limit::Latency | Limit::Startup | Limit::Recovery => generosity_of_times,
        };
        self.value < self.limit.target() * generosity
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, value } = self;
        write!(f, "{limit:<14}{value:>8.1}  of at most {:>5}  ({})", limit.target(), limit.about())
    }
}

/// Measures one limit; the job runs for about `duration`.
pub(crate) fn measure(limit: Limit, duration: Duration) -> Result<Reading, LimitError> {
    let value = match limit {
        Limit::Startup => median((0..11).map(|_| startup_ms()).collect::<Result<_, _>>()?),
        Limit::Latency | Limit::IdleMemory | Limit::StalledSink | Limit::Recovery => {
            let mut child = child(limit, duration)?.spawn()?;
            let mut text = String::new();
            if let Some(mut output) = child.stdout.take() {
                output.read_to_string(&mut text)?;
            }
            child.wait()?;
            text.trim().parse().map_err(|_| LimitError::NoNumber(limit, text))?
        }
    };
    Ok(Reading { limit, value })
}

fn child(limit: Limit, duration: Duration) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["limit-job", limit.name(), "--millis", &duration.as_millis().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// From before the process is made until its first line is read.
fn startup_ms() -> Result<f64, LimitError> {
    let mut command = child(Limit::Startup, Duration::ZERO)?;
    let (elapsed, child) = clock::measure(|| -> io::Result<_> {
        let mut child = command.spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        Ok((child, line))
    });
    let (mut child, line) = child?;
    child.wait()?;
    if line.trim() != jobs::FIRST_RESULT {
        return Err(LimitError::NoNumber(Limit::Startup, line));
    }
    Ok(elapsed.as_secs_f64() * 1e3)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What the child process does.
pub(crate) fn run_job(limit: Limit, duration: Duration) {
    match limit {
        Limit::Latency => jobs::latency(duration),
        Limit::Startup => jobs::startup(),
        Limit::IdleMemory => jobs::idle_memory(duration),
        Limit::StalledSink => jobs::stalled_sink(duration),
        Limit::Recovery => recovery::recovery(duration),
    }
}
