//! Processes, ports and waiting.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A port that nobody listened at a moment ago.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

/// Where servers are installed: `target/services`, found from where this binary lies below `target`.
///
/// # Errors
/// If this binary does not lie there.
pub fn services_dir() -> Result<PathBuf, String> {
    let binary = std::env::current_exe().map_err(|error| format!("where is this binary: {error}"))?;
    let target = binary.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    target
        .map(|target| target.join("services"))
        .ok_or_else(|| format!("'{}' does not lie in a directory that cargo builds in", binary.display()))
}

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let (errors, said) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let last = errors.lines().chain(said.lines()).rfind(|line| !line.trim().is_empty());
    Err(format!("{what} fails: {}", last.unwrap_or("it says nothing")))
}

/// Waits until a condition of another process holds; whether it did within `limit`.
pub fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !holds() {
        if started.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// What a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// End, in order.
    Term,
    /// End, at once.
    Kill,
    /// Stand still.
    Stop,
    /// Go on.
    Cont,
}

impl Signal {
    /// Sends it.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn send(self, process: &Child) -> Result<(), String> {
        let name = match self {
            Self::Term => "-TERM",
            Self::Kill => "-KILL",
            Self::Stop => "-STOP",
            Self::Cont => "-CONT",
        };
        run(Command::new("kill").args([name, &process.id().to_string()]), "kill")
    }
}
