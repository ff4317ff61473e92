//! The simulated world: one thread, a seed, virtual time.
//!
//! The executor keeps the ready tasks in a list and runs a random one; when none is ready, time jumps to the
//! next timer; when there is none either, the run has deadlocked and says which tasks wait. Every choice comes
//! from the seed, so a run repeats exactly. The method is FoundationDB's; the random choice among ready tasks
//! is madsim's.

use crate::env::{Env, EnvBackend, TaskHandle, TaskPanic};
use crate::fs::FileSystem;
pub use crate::fs::memory::{CrashMode, Fault, FaultEffect, FsOperation, MemoryFs};
use crate::net::AsyncStream;
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::sync::oneshot;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The wall clock of a simulation at its start: 2020-09-13T12:26:40Z.
pub const WALL_CLOCK_START_MS: i64 = 1_600_000_000_000;

/// SplitMix64 (Steele, Lea, Flood 2014): small, seedable, good enough to choose with.
#[derive(Clone, Debug)]
pub struct SimRng(u64);

impl SimRng {
    /// A stream of random numbers that `seed` determines.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `range`.
    pub fn range(&mut self, range: std::ops::RangeInclusive<i64>) -> i64 {
        let width = range.end().wrapping_sub(*range.start()) as u64;
        range.start().wrapping_add(self.below(width.saturating_add(1)) as i64)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct TaskId(u64);

struct Task {
    name: String,
    /// `None` while it is being polled.
    future: Option<BoxFuture<()>>,
    waker: Waker,
}

struct State {
    rng: SimRng,
    now: Duration,
    next_task: u64,
    next_timer: u64,
    tasks: BTreeMap<TaskId, Task>,
    ready: Vec<TaskId>,
    timers: BTreeMap<(Duration, u64), Waker>,
    served: BTreeMap<String, Vec<u8>>,
    printed: Vec<u8>,
    trace: u64,
    steps: u64,
}

/// Why a simulated run did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimError {
    /// Every task waits, and no timer is set; the names of the waiting tasks.
    Deadlock(Vec<String>),
    /// More steps than the limit: something spins.
    TooManySteps(u64),
}

impl std::fmt::Display for SimError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deadlock(tasks) => write!(f, "deadlock: waiting are {}", tasks.join(", ")),
            Self::TooManySteps(steps) => write!(f, "no end after {steps} steps"),
        }
    }
}
impl std::error::Error for SimError {}

/// A simulated world with its seed.
#[derive(Clone)]
pub struct Simulation {
    state: Arc<Mutex<State>>,
    fs: MemoryFs,
    steps_max: u64,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("steps", &self.lock().steps).finish_non_exhaustive()
    }
}

impl Simulation {
    /// A world in which `seed` decides everything that is left to chance.
    pub fn new(seed: u64) -> Self {
        let state = State {
            rng: SimRng::new(seed),
            now: Duration::ZERO,
            next_task: 0,
            next_timer: 0,
            tasks: BTreeMap::new(),
            ready: Vec::new(),
            timers: BTreeMap::new(),
            served: BTreeMap::new(),
            printed: Vec::new(),
            trace: 0,
            steps: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), fs: MemoryFs::default(), steps_max: 50_000_000 }
    }

    /// The same world with another limit of steps, after which a run that does not end is given up.
    #[must_use]
    pub fn with_steps_max(mut self, steps_max: u64) -> Self {
        self.steps_max = steps_max;
        self
    }

    /// The same world with another disk, such as one that an earlier world has left behind at its crash.
    #[must_use]
    pub fn with_disk(mut self, disk: MemoryFs) -> Self {
        self.fs = disk;
        self
    }

    /// The disk: to make it fail, or to take it into the next world.
    pub fn disk(&self) -> &MemoryFs {
        &self.fs
    }

    /// The environment to run the engine in.
    pub fn env(&self) -> Env {
        Env::from_backend(Arc::new(self.clone()))
    }

    /// Makes `connect(address)` deliver `bytes` and then end.
    pub fn serve(&self, address: &str, bytes: Vec<u8>) {
        self.lock().served.insert(address.to_owned(), bytes);
    }

    /// What was written to standard output so far.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.lock().printed).into_owned()
    }

    /// A hash over every choice and every [`Env::trace`] call so far: equal for equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.lock().trace
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.lock().now
    }

    /// Runs `future` and everything it spawns until `future` ends; what still runs then is dropped.
    ///
    /// # Errors
    /// [`SimError::Deadlock`] if all tasks wait for one another, [`SimError::TooManySteps`] if the run does not end.
    pub fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, SimError> {
        let (sender, mut receiver) = oneshot::channel();
        self.start("main", Box::pin(async move { drop(sender.send(future.await)) }));
        let result = loop {
            if let Ok(value) = receiver.try_recv() {
                break Ok(value);
            }
            if let Err(error) = self.step() {
                break Err(error);
            }
        };
        // Tasks hold handles to this world: dropping them here breaks the cycle.
        let leftover = std::mem::take(&mut self.lock().tasks);
        drop(leftover);
        result
    }

    /// Lets what was spawned run for `duration` of virtual time, and does not end what still runs then: it goes on with the next call.
    ///
    /// # Errors
    /// [`SimError::TooManySteps`] if the tasks spin.
    pub fn run_for(&self, duration: Duration) -> Result<(), SimError> {
        let until = self.elapsed() + duration;
        loop {
            {
                let mut state = self.lock();
                let is_quiet = state.ready.is_empty()
                    && state.timers.first_key_value().is_none_or(|((at, _), _)| *at > until);
                if is_quiet || state.now >= until {
                    state.now = state.now.max(until);
                    return Ok(());
                }
            }
            self.step()?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, name: &str, future: BoxFuture<()>) {
        let mut state = self.lock();
        let id = TaskId(state.next_task);
        state.next_task += 1;
        let waker = Waker::from(Arc::new(TaskWaker { id, state: Arc::downgrade(&self.state) }));
        // A simulation that runs inside of a tokio task is one poll of that task, however long it runs: without this,
        // channels would say `Pending` for ever as soon as the task's budget is spent.
        let future: BoxFuture<()> = Box::pin(tokio::task::unconstrained(future));
        state.tasks.insert(id, Task { name: name.to_owned(), future: Some(future), waker });
        state.ready.push(id);
    }

    /// Polls one ready task, or jumps to the next timer.
    fn step(&self) -> Result<(), SimError> {
        let mut state = self.lock();
        if state.ready.is_empty() {
            let Some(((at, _), waker)) = state.timers.pop_first() else {
                return Err(SimError::Deadlock(state.tasks.values().map(|task| task.name.clone()).collect()));
            };
            state.now = state.now.max(at);
            drop(state);
            waker.wake();
            return Ok(());
        }
        state.steps += 1;
        if state.steps > self.steps_max {
            return Err(SimError::TooManySteps(self.steps_max));
        }
        let n_ready = state.ready.len() as u64;
        let chosen = state.rng.below(n_ready) as usize;
        let id = state.ready.swap_remove(chosen);
        // Time passes while code runs, a little and not evenly, and due timers fire.
        let cost = Duration::from_nanos(50 + state.rng.below(1_000));
        state.now += cost;
        state.trace = mix(state.trace, id.0);
        let due: Vec<Waker> = {
            let now = state.now;
            let later = state.timers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.timers, later).into_values().collect()
        };
        // A task that woke itself in its last step is gone.
        let chosen = state.tasks.get_mut(&id).map(|task| (task.waker.clone(), task.future.take()));
        drop(state);
        due.into_iter().for_each(Waker::wake);
        let Some((waker, Some(mut future))) = chosen else { return Ok(()) };
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {
                // Its own drop may spawn or wake: outside the lock.
                drop(future);
                self.lock().tasks.remove(&id);
            }
            Poll::Pending => {
                if let Some(task) = self.lock().tasks.get_mut(&id) {
                    task.future = Some(future);
                }
            }
        }
        Ok(())
    }
}

const fn mix(trace: u64, value: u64) -> u64 {
    (trace ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
}

struct TaskWaker {
    id: TaskId,
    state: Weak<Mutex<State>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let Some(state) = self.state.upgrade() else { return };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.tasks.contains_key(&self.id) && !state.ready.contains(&self.id) {
            state.ready.push(self.id);
        }
    }
}

struct SimSleep {
    state: Weak<Mutex<State>>,
    deadline: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for SimSleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(state) = self.state.upgrade() else { return Poll::Pending };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = self.key.take() {
            state.timers.remove(&key);
        }
        if state.now >= self.deadline {
            return Poll::Ready(());
        }
        let key = (self.deadline, state.next_timer);
        state.next_timer += 1;
        state.timers.insert(key, cx.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for SimSleep {
    fn drop(&mut self) {
        if let (Some(key), Some(state)) = (self.key, self.state.upgrade()) {
            state.lock().unwrap_or_else(PoisonError::into_inner).timers.remove(&key);
        }
    }
}

impl EnvBackend for Simulation {
    fn elapsed(&self) -> Duration {
        self.lock().now
    }
    fn wall_clock_ms(&self) -> i64 {
        WALL_CLOCK_START_MS + i64::try_from(self.lock().now.as_millis()).unwrap_or(i64::MAX)
    }
    fn random_u64(&self) -> u64 {
        self.lock().rng.next_u64()
    }
    fn spawn(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        let (sender, receiver) = oneshot::channel();
        self.start(
            name,
            Box::pin(async move {
                let ended = AssertUnwindSafe(future).catch_unwind().await;
                drop(sender.send(ended.map_err(|payload| TaskPanic::from_payload(payload.as_ref()))));
            }),
        );
        TaskHandle(receiver)
    }
    fn spawn_subtask(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        EnvBackend::spawn(self, name, future)
    }
    fn sleep_until(&self, deadline: Duration) -> BoxFuture<()> {
        Box::pin(SimSleep { state: Arc::downgrade(&self.state), deadline, key: None })
    }
    fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(self.fs.clone())
    }
    fn connect(&self, address: String) -> BoxFuture<io::Result<Box<dyn AsyncStream>>> {
        let served = self.lock().served.get(&address).cloned();
        Box::pin(async move {
            let refused =
                || io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody serves {address}"));
            served.map(|bytes| Box::new(io::Cursor::new(bytes)) as Box<dyn AsyncStream>).ok_or_else(refused)
        })
    }
    fn block_on(&self, future: BoxFuture<()>) {
        self.run(future).expect("the simulated run ends");
    }
    fn cores(&self) -> usize {
        2
    }
    fn trace(&self, hash: u64) {
        let mut state = self.lock();
        state.trace = mix(state.trace, hash);
    }
    fn print(&self, bytes: &[u8]) -> io::Result<()> {
        self.lock().printed.extend_from_slice(bytes);
        Ok(())
    }
    fn may_block(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::yield_now;
    use tokio::sync::mpsc;

    fn two_tasks(seed: u64) -> (Vec<u32>, u64) {
        let simulation = Simulation::new(seed);
        let env = simulation.env();
        let (sender, mut receiver) = mpsc::channel(100);
        for idx in 0..2 {
            let (sender, env2) = (sender.clone(), env.clone());
            env.spawn("worker", async move {
                for step in 0..5 {
                    sender.send(idx * 10 + step).await.expect("the receiver lives");
                    if step == 2 {
                        env2.sleep(Duration::from_secs(3600)).await;
                    }
                    yield_now().await;
                }
            });
        }
        drop(sender);
        let order = simulation
            .run(async move {
                let mut order = Vec::new();
                while let Some(value) = receiver.recv().await {
                    order.push(value);
                }
                order
            })
            .expect("no deadlock");
        assert!(simulation.elapsed() >= Duration::from_secs(3600), "time jumped over the sleep");
        (order, simulation.trace_hash())
    }

    #[test]
    fn the_same_seed_gives_the_same_run_and_other_seeds_give_others() {
        assert_eq!(two_tasks(7), two_tasks(7));
        let orders: std::collections::BTreeSet<_> = (0..20).map(|seed| two_tasks(seed).0).collect();
        assert!(orders.len() > 5, "only {} orders in 20 seeds", orders.len());
    }

    #[test]
    fn what_runs_for_a_while_goes_on_with_the_next_call() {
        let simulation = Simulation::new(1);
        let env = simulation.env();
        let (sender, mut receiver) = mpsc::channel(100);
        let sleeper = env.clone();
        env.spawn("sleeper", async move {
            for step in 1..=3 {
                sleeper.sleep(Duration::from_secs(2)).await;
                sender.send(step).await.expect("the receiver lives");
            }
        });
        let mut received = Vec::new();
        for second in 1..=7 {
            simulation.run_for(Duration::from_secs(1)).expect("nothing spins");
            assert!(simulation.elapsed() >= Duration::from_secs(second));
            received.push(receiver.try_recv().ok());
        }
        // What a task does takes a little time, too.
        assert_eq!(received, [None, None, Some(1), None, Some(2), None, Some(3)]);
    }

    #[test]
    fn tasks_that_wait_for_each_other_are_named() {
        let simulation = Simulation::new(1);
        let (_keep, mut receiver) = mpsc::channel::<()>(1);
        let error = simulation.run(async move { receiver.recv().await }).expect_err("nobody sends");
        assert_eq!(error, SimError::Deadlock(vec!["main".to_owned()]));
    }

    #[test]
    fn a_task_that_was_woken_in_its_last_poll_takes_no_timer_along() {
        for seed in 0..20 {
            let simulation = Simulation::new(seed);
            let env = simulation.env();
            let run = simulation.run(async move {
                let sleepers = (0..10_u64).map(|n| env.sleep(Duration::from_nanos(700 * n)));
                let sleepers: Vec<_> = sleepers.map(|sleep| env.spawn("sleeper", sleep)).collect();
                for _ in 0..20 {
                    let woken = std::future::poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        Poll::Ready(())
                    });
                    drop(env.spawn("woken", woken));
                }
                for sleeper in sleepers {
                    sleeper.await.expect("a sleeper does not panic");
                }
            });
            assert_eq!(run, Ok(()), "seed {seed}");
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_its_handle_and_nobody_else() {
        let simulation = Simulation::new(1);
        let env = simulation.env();
        let ended = simulation.run(async move { env.spawn("bad", async { panic!("oh {}", 1) }).await });
        assert_eq!(ended, Ok(Err(TaskPanic("oh 1".to_owned()))));
    }

    #[test]
    fn files_in_memory_behave_like_files() {
        let fs = MemoryFs::default();
        fs.create_dir_all(std::path::Path::new("a/b")).expect("created");
        let path = std::path::Path::new("a/b/c");
        io::Write::write_all(&mut fs.create(path).expect("created"), b"hello").expect("written");
        assert_eq!(fs.metadata(path).expect("is there").len, 5);
        fs.rename(path, std::path::Path::new("a/b/d")).expect("renamed");
        assert_eq!(
            fs.list(std::path::Path::new("a/b")).expect("a directory"),
            [std::path::PathBuf::from("a/b/d")]
        );
        assert!(fs.open(path).is_err());
    }
}
