//! A server that speaks the protocol of S3: moto, from the Python package index. Its objects are in memory.

use crate::process::{Signal, run, services_dir};
use crate::proxy::Proxy;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Its conditional puts are atomic, which those of other small servers are not.
const PACKAGE: &str = "moto[s3,server]==5.2.*";
const START_LIMIT: Duration = Duration::from_secs(120);

/// An S3 server, which runs until it is dropped. It takes any key for its own, in the region `us-east-1`.
pub struct S3 {
    process: Child,
    address: String,
    proxy: Proxy,
    buckets: AtomicU64,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("address", &self.address).finish_non_exhaustive()
    }
}

impl S3 {
    /// Installs it if need be and starts it, with these environment variables.
    ///
    /// # Errors
    /// Why it cannot be had: there is no Python, the package index is out of reach, ….
    pub fn start(variables: &[(&str, &str)]) -> Result<Self, String> {
        let program = install()?;
        let mut command = Command::new(program);
        command
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .envs(variables.iter().copied());
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut process = spawned.map_err(|error| format!("moto_server does not start: {error}"))?;
        let started = address_of(&mut process)
            .and_then(|address| Proxy::start(address.clone()).map(|proxy| (address, proxy)));
        match started {
            Ok((address, proxy)) => Ok(Self { process, address, proxy, buckets: AtomicU64::new(0) }),
            Err(reason) => {
                process.kill().ok();
                process.wait().ok();
                Err(reason)
            }
        }
    }

    /// `host:port` of the server.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `host:port` of the server behind its proxy.
    pub fn proxied_address(&self) -> String {
        format!("127.0.0.1:{}", self.proxy.port())
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Has the process stand still, or go on.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        signal.send(&self.process)
    }

    /// A new bucket; its name.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn bucket(&self) -> String {
        let bucket = format!("bucket-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        let answer = self.request("PUT", &format!("/{bucket}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "no bucket: {answer}");
        bucket
    }

    /// A request without a body; returns the whole answer.
    ///
    /// # Panics
    /// If there is no answer.
    pub fn request(&self, method: &str, path: &str) -> String {
        let address = &self.address;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let ask = || {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(head.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        ask().unwrap_or_else(|error| panic!("{method} {path} at {address}: {error}"))
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Where it listens, which it says itself.
fn address_of(process: &mut Child) -> Result<String, String> {
    let stderr = process.stderr.take().ok_or("moto_server has no standard error")?;
    let (sender, found) = mpsc::sync_channel(1);
    // It writes a line for each request, which somebody has to read.
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("Running on http://") {
                sender.try_send(address.trim().to_owned()).ok();
            }
        }
    });
    found.recv_timeout(START_LIMIT).map_err(|_| "moto_server did not say where it listens".to_owned())
}

fn install() -> Result<PathBuf, String> {
    let dir = services_dir()?.join("moto-5.2");
    let (server, done) = (dir.join("bin").join("moto_server"), dir.join("installed"));
    if done.exists() && server.exists() {
        return Ok(server);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir), "python3 -m venv")?;
    let mut pip = Command::new(dir.join("bin").join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--retries", "2", "--timeout", "20", PACKAGE]);
    run(&mut pip, "pip install moto")?;
    std::fs::write(&done, PACKAGE).map_err(|error| format!("cannot write '{}': {error}", done.display()))?;
    Ok(server)
}
