//! The real world with a disk in memory, and what clients do in it.

#![expect(clippy::disallowed_methods, reason = "clients of the real server, and a free port for it")]

use crate::HttpSource;
use flott_env::sim::MemoryFs;
use flott_env::{AsyncStream, Env, EnvBackend, FileSystem, Instant, TaskHandle};
use flott_testkit::contract::RecordId;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Longer than any answer takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Posted {
    pub(super) partition: u32,
    pub(super) number: u64,
}

impl Posted {
    pub(super) fn json(self) -> String {
        format!("{{\"partition\":{},\"number\":{}}}", self.partition, self.number)
    }
}

impl From<RecordId> for Posted {
    fn from(RecordId { partition, number }: RecordId) -> Self {
        Self { partition, number }
    }
}

impl From<Posted> for RecordId {
    fn from(Posted { partition, number }: Posted) -> Self {
        Self { partition, number }
    }
}

struct WithDisk {
    real: Env,
    disk: MemoryFs,
}

impl EnvBackend for WithDisk {
    fn elapsed(&self) -> Duration {
        self.real.now().0
    }
    fn wall_clock_ms(&self) -> i64 {
        self.real.processing_time()
    }
    fn random_u64(&self) -> u64 {
        self.real.random_u64()
    }
    fn spawn(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        self.real.spawn(name, future)
    }
    fn spawn_subtask(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        self.real.spawn_subtask(name, future)
    }
    fn sleep_until(&self, deadline: Duration) -> BoxFuture<()> {
        self.real.sleep_until(Instant(deadline))
    }
    fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(self.disk.clone())
    }
    fn connect(&self, address: String) -> BoxFuture<io::Result<Box<dyn AsyncStream>>> {
        let real = self.real.clone();
        Box::pin(async move { real.connect(&address).await })
    }
    fn block_on(&self, future: BoxFuture<()>) {
        self.real.block_on(future);
    }
    fn cores(&self) -> usize {
        self.real.cores()
    }
    fn trace(&self, _: u64) {}
    fn print(&self, bytes: &[u8]) -> io::Result<()> {
        self.real.print(bytes)
    }
}

/// A disk, and an address.
pub(super) struct World {
    real: Env,
    pub(super) disk: MemoryFs,
    address: String,
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl World {
    pub(super) fn new(real: &Env) -> Self {
        Self { real: real.clone(), disk: MemoryFs::default(), address: free_address() }
    }

    pub(super) fn env(&self) -> Env {
        Env::from_backend(Arc::new(WithDisk { real: self.real.clone(), disk: self.disk.clone() }))
    }

    pub(super) fn source(&self) -> HttpSource<Posted> {
        HttpSource::json(&self.address, "/data/log")
    }

    /// At an address that no earlier attempt still has.
    pub(super) fn source_elsewhere(&mut self) -> HttpSource<Posted> {
        self.address = free_address();
        self.source()
    }

    pub(super) fn request(&self, key: &str, body: &str) -> Vec<u8> {
        let len = body.len();
        let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close";
        format!("{head}\r\nidempotency-key: \"{key}\"\r\ncontent-length: {len}\r\n\r\n{body}").into_bytes()
    }

    /// The status of the answer, if one has come.
    pub(super) fn send(&self, request: &[u8]) -> Option<u16> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).ok()?;
        stream.write_all(request).ok()?;
        let mut answer = Vec::new();
        // A connection may be reset behind the answer.
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8(answer).ok()?;
        answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    /// Nobody waits for an answer.
    pub(super) fn send_and_go(&self, request: &[u8]) {
        drop(TcpStream::connect(&self.address).and_then(|mut stream| stream.write_all(request)));
    }

    /// Gives an attempt time to begin, or to end.
    pub(super) fn pause(&self) {
        self.real.block_on(self.real.sleep(Duration::from_millis(1)));
    }
}
