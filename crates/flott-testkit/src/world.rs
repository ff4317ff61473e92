//! Where a driver's operators run: virtual time, files in memory, no threads.

use flott_env::sim::{SimError, Simulation};
use flott_env::{AsyncStream, Env, EnvBackend, FileSystem, Instant, TaskHandle};
use flott_types::{Error, Result, Timestamp};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A simulation whose wall clock starts where the test wants it. Time passes only while one of the `run` methods does.
#[derive(Clone, Debug)]
pub(crate) struct World {
    simulation: Simulation,
    started_at: Timestamp,
    env: Env,
}

impl World {
    pub(crate) fn new(started_at: Timestamp) -> Self {
        let simulation = Simulation::new(0);
        let env = Env::from_backend(Arc::new(Backend { simulation: simulation.clone(), started_at }));
        Self { simulation, started_at, env }
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    pub(crate) fn processing_time(&self) -> Timestamp {
        self.env.processing_time()
    }

    /// Lets time pass up to `at` and polls at the start and whenever somebody asks for it.
    pub(crate) fn run_until(
        &self,
        at: Timestamp,
        mut poll: impl FnMut(&mut Context<'_>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let since_start = u64::try_from(at.saturating_sub(self.started_at)).unwrap_or(0);
        let mut alarm = self.env.sleep_until(Instant(Duration::from_millis(since_start)));
        self.run(std::future::poll_fn(move |cx| {
            poll(cx)?;
            alarm.as_mut().poll(cx).map(Ok)
        }))
    }

    /// Lets time pass until `poll` is ready.
    pub(crate) fn run_until_ready(
        &self,
        poll: impl FnMut(&mut Context<'_>) -> Poll<Result<()>> + Send + 'static,
    ) -> Result<()> {
        self.run(std::future::poll_fn(poll))
    }

    /// Lets time pass until nothing can happen any more.
    pub(crate) fn run_until_quiet(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let never_ends = std::future::poll_fn(move |cx| match poll(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        });
        match self.simulation.run(never_ends) {
            Ok(failed) => failed,
            Err(SimError::Deadlock(_)) => Ok(()),
            Err(error @ SimError::TooManySteps(_)) => Err(stuck(error)),
        }
    }

    fn run(&self, future: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
        self.simulation.run(future).map_err(stuck)?
    }
}

fn stuck(error: SimError) -> Error {
    Error::subtask("the operator does not get on").with_source(error)
}

/// The simulation with another wall clock.
struct Backend {
    simulation: Simulation,
    started_at: Timestamp,
}

impl EnvBackend for Backend {
    fn elapsed(&self) -> Duration {
        self.simulation.elapsed()
    }
    fn wall_clock_ms(&self) -> i64 {
        self.started_at.saturating_add(flott_types::duration_ms(self.simulation.elapsed()))
    }
    fn random_u64(&self) -> u64 {
        self.simulation.random_u64()
    }
    fn spawn(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        EnvBackend::spawn(&self.simulation, name, future)
    }
    fn spawn_subtask(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        EnvBackend::spawn_subtask(&self.simulation, name, future)
    }
    fn sleep_until(&self, deadline: Duration) -> BoxFuture<()> {
        self.simulation.sleep_until(deadline)
    }
    fn fs(&self) -> Arc<dyn FileSystem> {
        EnvBackend::fs(&self.simulation)
    }
    fn connect(&self, address: String) -> BoxFuture<io::Result<Box<dyn AsyncStream>>> {
        self.simulation.connect(address)
    }
    fn block_on(&self, future: BoxFuture<()>) {
        self.simulation.block_on(future);
    }
    fn cores(&self) -> usize {
        self.simulation.cores()
    }
    fn trace(&self, hash: u64) {
        self.simulation.trace(hash);
    }
    fn print(&self, bytes: &[u8]) -> io::Result<()> {
        self.simulation.print(bytes)
    }
    fn may_block(&self) -> bool {
        false
    }
}
