//! A server that speaks the protocol of S3: moto, from the Python package index. Its objects are in memory.

use crate::http::Message;
use crate::process::{Listening, Signal, installed, run};
use crate::proxy::Proxy;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// It looks and writes within one request of few milliseconds, without a lock: of 24 conditional puts at once one succeeded in each of 150 rounds, of
/// 24 requests that complete uploads four did in one of 50.
const PACKAGE: &str = "moto[s3,server]==5.2.*";

/// An S3 server, which runs until it is dropped. It takes any key for its own, in the region `us-east-1`.
pub struct S3 {
    server: Listening,
    proxy: Proxy,
    buckets: AtomicU64,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl S3 {
    /// Installs it if need be and starts it, with these environment variables.
    ///
    /// # Errors
    /// Why it cannot be had: there is no Python, the package index is out of reach, ….
    pub fn start(variables: &[(&str, &str)]) -> Result<Self, String> {
        let mut command = Command::new(install()?);
        command
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .envs(variables.iter().copied());
        let server = Listening::start(&mut command, "moto_server", "Running on http://")?;
        let proxy = Proxy::start(server.address())?;
        Ok(Self { server, proxy, buckets: AtomicU64::new(0) })
    }

    /// `host:port` of the server.
    pub fn address(&self) -> &str {
        self.server.address()
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
        self.server.signal(signal)
    }

    /// A new bucket; its name.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn bucket(&self) -> String {
        let bucket = format!("bucket-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        let answer = self.request("PUT", &format!("/{bucket}"));
        assert!(answer.start.contains(" 200"), "no bucket: {answer:?}");
        bucket
    }

    /// Whether pieces of an object that was never completed are in a bucket.
    ///
    /// # Panics
    /// If it does not say.
    pub fn has_uploads(&self, bucket: &str) -> bool {
        let answer = self.request("GET", &format!("/{bucket}?uploads"));
        assert!(answer.start.contains(" 200"), "no list of uploads: {answer:?}");
        String::from_utf8_lossy(&answer.body).contains("<UploadId>")
    }

    fn request(&self, method: &str, path: &str) -> Message {
        let address = self.address();
        let mut request = Message::new(format!("{method} {path} HTTP/1.1"));
        request.set("Host", address);
        request.set("Content-Length", "0");
        request.exchange(address).unwrap_or_else(|error| panic!("{method} {path} at {address}: {error}"))
    }
}

fn install() -> Result<PathBuf, String> {
    let dir = installed("moto-5.2", |dir| {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(dir), "python3 -m venv")?;
        let mut pip = Command::new(dir.join("bin").join("python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--retries", "2", "--timeout", "20", PACKAGE]);
        run(&mut pip, "pip install moto")
    })?;
    Ok(dir.join("bin").join("moto_server"))
}
