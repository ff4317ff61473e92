//! A server that speaks the protocol of S3: moto, from the Python package index, in an environment below `target`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Its conditional puts are atomic, which those of other small servers are not.
const PACKAGE: &str = "moto[s3,server]==5.2.*";
const START_LIMIT: Duration = Duration::from_secs(120);

/// Runs until it is dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
    buckets: AtomicU64,
}

impl Server {
    /// Installs it if need be and starts it; else says why not.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Result<Self, String> {
        let program = install()?;
        let mut command = Command::new(program);
        command
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .envs(variables.iter().copied());
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut process = spawned.map_err(|error| format!("moto_server does not start: {error}"))?;
        let stderr = process.stderr.take().expect("it is piped");
        let (sender, found) = mpsc::sync_channel(1);
        // It writes a line for each request, which somebody has to read.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("Running on http://") {
                    sender.try_send(address.trim().to_owned()).ok();
                }
            }
        });
        let address = found.recv_timeout(START_LIMIT);
        // Made before the answer is looked at: it stops the process when dropped.
        let server =
            Self { process, address: address.clone().unwrap_or_default(), buckets: AtomicU64::new(0) };
        address.map(|_| server).map_err(|_| "moto_server did not say where it listens".to_owned())
    }

    /// A new bucket.
    pub(crate) fn bucket(&self) -> String {
        let bucket = format!("bucket-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        let answer = request(&self.address, "PUT", &format!("/{bucket}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "no bucket: {answer}");
        bucket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A request without a body; returns the whole answer.
pub(crate) fn request(address: &str, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The directory `target` that this binary is in, at `target/<profile>/deps`.
pub(crate) fn profile_dir() -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    binary.ancestors().nth(2).unwrap().to_owned()
}

fn install() -> Result<PathBuf, String> {
    let dir = profile_dir().parent().unwrap().join("services").join("moto-5.2");
    let (server, done) = (dir.join("bin").join("moto_server"), dir.join("installed"));
    if done.exists() && server.exists() {
        return Ok(server);
    }
    println!("installing {PACKAGE} in {}", dir.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir), "python3 -m venv")?;
    let options = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "2",
        "--timeout",
        "20",
    ];
    run(Command::new(dir.join("bin").join("python")).args(options).arg(PACKAGE), "pip install moto")?;
    write(&done)?;
    Ok(server)
}

fn write(path: &Path) -> Result<(), String> {
    std::fs::write(path, PACKAGE).map_err(|error| format!("cannot write '{}': {error}", path.display()))
}

fn run(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{what} fails: {}", said.lines().last().unwrap_or("it says nothing")))
}
