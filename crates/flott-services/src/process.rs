//! Processes, ports and waiting.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
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

/// Installs something in a directory of its own below [`services_dir`], once; returns that directory. What was begun and not finished is
/// begun again.
pub(crate) fn installed(
    name: &str,
    install: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    /// Two servers of a kind may be started at a time.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let dir = services_dir()?.join(name);
    let done = dir.join("installed");
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if !done.exists() {
        install(&dir)?;
        std::fs::write(&done, name).map_err(|error| format!("cannot write '{}': {error}", done.display()))?;
    }
    Ok(dir)
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

/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A server that says itself where it listens. It runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    process: Child,
    address: String,
}

impl Listening {
    /// Starts `name`, which prints its address behind `marker`.
    pub(crate) fn start(command: &mut Command, name: &str, marker: &'static str) -> Result<Self, String> {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = spawned.map_err(|error| format!("{name} does not start: {error}"))?;
        let (sender, found) = sync_channel(1);
        let last = Arc::<Mutex<String>>::default();
        if let Some(stream) = process.stdout.take() {
            follow(stream, marker, sender.clone(), Arc::clone(&last));
        }
        if let Some(stream) = process.stderr.take() {
            follow(stream, marker, sender.clone(), Arc::clone(&last));
        }
        drop(sender);
        let found = found.recv_timeout(START_LIMIT);
        let mut server = Self { process, address: String::new() };
        server.address = found.map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("{name} did not say where it listens"),
            RecvTimeoutError::Disconnected => {
                format!("{name} ended: {}", last.lock().unwrap_or_else(PoisonError::into_inner))
            }
        })?;
        Ok(server)
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), String> {
        signal.send(&self.process)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Reads what a server prints, to its end: it prints for each request, which somebody has to read.
fn follow(
    stream: impl Read + Send + 'static,
    marker: &'static str,
    sender: SyncSender<String>,
    last: Arc<Mutex<String>>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once(marker) {
                sender.try_send(address.trim().to_owned()).ok();
            }
            if !line.trim().is_empty() {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
        }
    });
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

/// Waits until a condition of another process holds.
///
/// # Panics
/// If it does not for two minutes; `what` was waited for.
pub fn wait_for(what: &str, holds: impl FnMut() -> bool) {
    assert!(wait_until(Duration::from_secs(120), holds), "waited for {what} for too long");
}

/// The output of a future whose work is done by other threads.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
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
