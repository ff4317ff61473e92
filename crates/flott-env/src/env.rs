//! The handle through which engine code reaches the outside world.

use crate::fs::FileSystem;
use crate::net::AsyncStream;
use crate::real::RealEnv;
use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A moment on the monotonic clock of an [`Env`], counted from the start of that environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub Duration);

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl Sub for Instant {
    type Output = Duration;
    /// The time since `rhs`, zero if `rhs` is later.
    fn sub(self, rhs: Self) -> Duration {
        self.0.saturating_sub(rhs.0)
    }
}

/// What an environment implements; engine code uses [`Env`].
pub trait EnvBackend: Send + Sync {
    /// Time since the environment started.
    fn elapsed(&self) -> Duration;
    /// Milliseconds since the epoch.
    fn wall_clock_ms(&self) -> i64;
    /// Uniform random bits.
    fn random_u64(&self) -> u64;
    /// Runs a light task.
    fn spawn(&self, name: &str, future: BoxFuture<()>) -> TaskHandle;
    /// Runs a task that computes, and may block in user code, on a thread of its own.
    fn spawn_subtask(&self, name: &str, future: BoxFuture<()>) -> TaskHandle;
    /// Completes at `deadline`.
    fn sleep_until(&self, deadline: Duration) -> BoxFuture<()>;
    /// Files.
    fn fs(&self) -> Arc<dyn FileSystem>;
    /// Opens a TCP connection.
    fn connect(&self, address: String) -> BoxFuture<io::Result<Box<dyn AsyncStream>>>;
    /// Drives `future` to its end.
    fn block_on(&self, future: BoxFuture<()>);
    /// Number of tasks that can run at once.
    fn cores(&self) -> usize;
    /// Adds to the trace that tells one simulated run from another; the real environment ignores it.
    fn trace(&self, hash: u64);
    /// Writes to standard output.
    ///
    /// # Errors
    /// If nobody reads it any more.
    fn print(&self, bytes: &[u8]) -> io::Result<()>;
    /// Whether a subtask may block its thread: not where all tasks share one.
    fn may_block(&self) -> bool {
        true
    }
}

/// A cheap handle to the outside world; clones share it.
#[derive(Clone)]
pub struct Env(Arc<dyn EnvBackend>, Settings);

/// At most one value of each type.
type Settings = Arc<BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>>;

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    /// The real world: the system's clocks, files and network, tokio's timers, a thread per subtask.
    ///
    /// # Errors
    /// If the operating system refuses threads or an event queue.
    pub fn real() -> io::Result<Self> {
        Ok(Self(Arc::new(RealEnv::new()?), Settings::default()))
    }

    /// A handle to another implementation.
    pub fn from_backend(backend: Arc<dyn EnvBackend>) -> Self {
        Self(backend, Settings::default())
    }

    /// The same world with settings that concern what it is used for, such as where state lies: they go wherever the
    /// handle goes. Settings of the same type of an earlier call are replaced, others stay.
    #[must_use]
    pub fn with_settings<T: Any + Send + Sync>(&self, settings: T) -> Self {
        let mut all = BTreeMap::clone(&self.1);
        all.insert(TypeId::of::<T>(), Arc::new(settings));
        Self(Arc::clone(&self.0), Arc::new(all))
    }

    /// The settings of this type, if [`Env::with_settings`] was given any.
    pub fn settings<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.1.get(&TypeId::of::<T>())?.downcast_ref()
    }

    /// Now, on the monotonic clock.
    pub fn now(&self) -> Instant {
        Instant(self.0.elapsed())
    }

    /// Processing time: milliseconds since the epoch on the wall clock, which may jump.
    pub fn processing_time(&self) -> i64 {
        self.0.wall_clock_ms()
    }

    /// Uniform random bits.
    pub fn random_u64(&self) -> u64 {
        self.0.random_u64()
    }

    /// Starts a light task that never blocks its thread. Dropping the handle lets it run on.
    pub fn spawn(&self, name: &str, future: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        self.0.spawn(name, Box::pin(future))
    }

    /// Starts a task that computes or runs user code, which may block: it gets a thread of its own, named `name`.
    pub fn spawn_subtask(&self, name: &str, future: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        self.0.spawn_subtask(name, Box::pin(future))
    }

    /// Waits for `duration`.
    pub fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.sleep_until(self.now() + duration)
    }

    /// Waits until `deadline`.
    pub fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.sleep_until(deadline.0)
    }

    /// The file system.
    pub fn fs(&self) -> Arc<dyn FileSystem> {
        self.0.fs()
    }

    /// Opens a TCP connection to `host:port`.
    ///
    /// # Errors
    /// Whatever the network says: the name is unknown, nobody listens, ….
    pub async fn connect(&self, address: &str) -> io::Result<Box<dyn AsyncStream>> {
        self.0.connect(address.to_owned()).await
    }

    /// Runs `future` to its end on the calling thread.
    ///
    /// # Panics
    /// If the future panics; in the simulation also if every task waits for another for ever.
    pub fn block_on<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, mut receiver) = tokio::sync::oneshot::channel();
        self.0.block_on(Box::pin(async move {
            let value = future.await;
            // The receiver lives until block_on returns.
            drop(sender.send(value));
        }));
        receiver.try_recv().expect("block_on ran the future to its end")
    }

    /// Number of tasks that can run at once.
    pub fn cores(&self) -> usize {
        self.0.cores()
    }

    /// Adds `hash` to the trace of a simulated run; free in the real world.
    pub fn trace(&self, hash: u64) {
        self.0.trace(hash);
    }

    /// Writes all of `bytes` to standard output at once, so that lines of several subtasks do not mix.
    ///
    /// # Errors
    /// If nobody reads standard output any more.
    pub fn print(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.print(bytes)
    }

    /// Whether a subtask may block its thread until another task acts. Under simulation it may not: all tasks share
    /// one thread, and the other would never run.
    pub fn may_block(&self) -> bool {
        self.0.may_block()
    }
}

/// A task that ended by a panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPanic(
    /// What the panic said.
    pub String,
);

impl TaskPanic {
    pub(crate) fn from_payload(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Self(
            text.or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a panic".to_owned()),
        )
    }
}

/// Resolves when the task ended.
#[derive(Debug)]
pub struct TaskHandle(pub(crate) tokio::sync::oneshot::Receiver<Result<(), TaskPanic>>);

impl Future for TaskHandle {
    type Output = Result<(), TaskPanic>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A dropped sender means that the executor itself was torn down with the task unfinished.
        Pin::new(&mut self.0).poll(cx).map(|ended| {
            ended.unwrap_or_else(|_| Err(TaskPanic("the task was dropped before its end".to_owned())))
        })
    }
}

/// Lets other tasks run once.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use crate::sim::Simulation;

    #[test]
    fn settings_of_different_types_stay_beside_each_other() {
        let env = Simulation::new(1).env().with_settings(1_u8).with_settings("one");
        assert_eq!((env.settings::<u8>(), env.settings::<&str>()), (Some(&1), Some(&"one")));
        let changed = env.with_settings(2_u8);
        assert_eq!((changed.settings::<u8>(), changed.settings::<&str>()), (Some(&2), Some(&"one")));
        assert_eq!((env.settings::<u8>(), env.settings::<u16>()), (Some(&1), None));
    }
}
