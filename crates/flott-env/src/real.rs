//! The real world.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the seam that everybody else goes through"
)]

use crate::env::{EnvBackend, TaskHandle, TaskPanic};
use crate::fs::{FileSystem, RealFs};
use crate::net::AsyncStream;
use futures_util::FutureExt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Clocks of the system, tokio for timers, sockets and light tasks, a thread for each subtask.
///
/// A subtask runs user code, and user code blocks: it sleeps, calls a database, computes for a second. With a
/// thread each, it holds up nobody but its own back-pressure chain, and shows under its name in `top -H`.
pub(crate) struct RealEnv {
    started: Instant,
    /// There until the drop.
    runtime: Option<Runtime>,
    random: RandomState,
    drawn: AtomicU64,
}

impl RealEnv {
    pub(crate) fn new() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("flott-control")
            .enable_all()
            .build()?;
        let started = Instant::now();
        Ok(Self { started, runtime: Some(runtime), random: RandomState::new(), drawn: AtomicU64::new(0) })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is there until the drop")
    }
}

/// The last to hold the environment may be a subtask, whose thread must not wait for the runtime's.
impl Drop for RealEnv {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn catch(future: BoxFuture<()>) -> Result<(), TaskPanic> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|payload| TaskPanic::from_payload(payload.as_ref()))
}

impl EnvBackend for RealEnv {
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
    fn wall_clock_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }
    fn random_u64(&self) -> u64 {
        // RandomState is keyed from the operating system's entropy once, and then hashes a counter.
        self.random.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed))
    }
    fn spawn(&self, _: &str, future: BoxFuture<()>) -> TaskHandle {
        let (sender, receiver) = oneshot::channel();
        self.runtime().spawn(async move {
            // Nobody may wait for the task.
            drop(sender.send(catch(future).await));
        });
        TaskHandle(receiver)
    }
    fn spawn_subtask(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        let (sender, receiver) = oneshot::channel();
        let handle = self.runtime().handle().clone();
        let run = move || drop(sender.send(handle.block_on(catch(future))));
        // A thread that cannot be started drops `sender`, which the handle reports as a lost task.
        drop(std::thread::Builder::new().name(name.to_owned()).spawn(run));
        TaskHandle(receiver)
    }
    fn sleep_until(&self, deadline: Duration) -> BoxFuture<()> {
        let deadline = tokio::time::Instant::from_std(self.started + deadline);
        let _in_runtime = self.runtime().enter();
        Box::pin(tokio::time::sleep_until(deadline))
    }
    fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(RealFs)
    }
    fn connect(&self, address: String) -> BoxFuture<io::Result<Box<dyn AsyncStream>>> {
        Box::pin(async move {
            Ok(Box::new(tokio::net::TcpStream::connect(address).await?) as Box<dyn AsyncStream>)
        })
    }
    fn block_on(&self, future: BoxFuture<()>) {
        self.runtime().block_on(future);
    }
    fn cores(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }
    fn trace(&self, _: u64) {}
    fn print(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }
}
