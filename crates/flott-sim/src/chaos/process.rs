//! A process that runs the job, and what is heard of it.

use super::victim::Victim;
use flott_env::Env;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What a victim says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The job runs.
    Started,
    /// It is halted at its point.
    At,
    /// A manifest was made visible.
    Checkpoint,
    /// There is a savepoint.
    Savepoint(String),
    /// The job stops with a savepoint.
    Stopped(String),
    /// A savepoint was not taken.
    Refused(String),
    /// The job has ended by itself.
    Finished,
    /// Somebody has cancelled it.
    Canceled,
    /// It has failed: the kind of error, and the report.
    Failed(String, String),
    /// The process is gone.
    Gone,
}

impl Said {
    /// `None` if the line is nothing that concerns the harness.
    fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "started" => Self::Started,
            "at" => Self::At,
            "checkpoint" => Self::Checkpoint,
            "savepoint" => Self::Savepoint(rest.to_owned()),
            "stopped" => Self::Stopped(rest.to_owned()),
            "refused" => Self::Refused(rest.to_owned()),
            "finished" => Self::Finished,
            "canceled" => Self::Canceled,
            "failed" => {
                let (kind, report) = rest.split_once(' ').unwrap_or((rest, ""));
                Self::Failed(kind.to_owned(), report.to_owned())
            }
            _ => return None,
        })
    }

    /// Whether the process ends with this.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::Finished | Self::Canceled | Self::Failed(..) | Self::Gone => true,
            Self::Started
            | Self::At
            | Self::Checkpoint
            | Self::Savepoint(_)
            | Self::Stopped(_)
            | Self::Refused(_) => false,
        }
    }
}

#[derive(Default)]
struct Heard {
    lines: Mutex<VecDeque<Said>>,
    more: Condvar,
}

impl Heard {
    fn push(&self, said: Said) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push_back(said);
        self.more.notify_all();
    }
}

/// A victim; it is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    heard: Arc<Heard>,
    /// Whether its disk was full at any time.
    pub(crate) has_suffered: bool,
    /// The newest generation of the job when it was started.
    pub(crate) owner_before: u64,
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Process {
    /// Starts `binary` as a victim, whose panics go to the file `log`.
    pub(crate) fn start(env: &Env, binary: &Path, victim: &Victim, log: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", binary.display());
        let text = serde_json::to_string(victim).map_err(|error| error.to_string())?;
        let mut command = Command::new(binary);
        command.args(["victim", &text]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr(log));
        let mut child = command.spawn().map_err(failed)?;
        let missing = || failed(std::io::Error::other("it has no pipes"));
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let heard = Arc::<Heard>::default();
        let into = Arc::clone(&heard);
        // It ends with the process.
        let _detached = env.spawn_subtask("listener", async move {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                Said::parse(&line).into_iter().for_each(|said| into.push(said));
            }
            into.push(Said::Gone);
        });
        Ok(Self { child, stdin, heard, has_suffered: false, owner_before: 0 })
    }

    /// The next thing that is said, if it is within `limit`.
    pub(crate) fn hear(&self, limit: Duration) -> Option<Said> {
        let lines = self.heard.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.more.wait_timeout_while(lines, limit, |lines| lines.is_empty());
        let (mut lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        lines.pop_front()
    }

    /// Asks for something; if the process has gone nobody hears it.
    pub(crate) fn ask(&mut self, line: &str) {
        drop(writeln!(self.stdin, "{line}"));
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Stops the process, or lets it go on.
    pub(crate) fn signal(&self, name: &str) -> Result<(), String> {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            failed => Err(format!("kill {name}: {failed:?}")),
        }
    }
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
pub(crate) fn rest(time: Duration) {
    std::thread::sleep(time);
}

#[expect(clippy::disallowed_methods, reason = "a real process writes to a real file")]
fn stderr(log: &Path) -> Stdio {
    std::fs::File::options().create(true).append(true).open(log).map_or_else(|_| Stdio::null(), Stdio::from)
}
