//! What a job meets outside of itself: a disk and user code whose events are counted, and at some of which something goes wrong.

use super::cut::Cut;
use super::plan::{Action, Fault, Job, Phase, Unsynced};
use flott_env::sim::{CrashMode, MemoryFs, Simulation};
use flott_env::{
    AsyncStream, Env, EnvBackend, FileLock, FileSystem, FileWrite, Metadata, ReadSeek, TaskHandle,
};
use flott_types::CheckpointId;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The disk, and the faults to come. Clones are the same; it outlives every process.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) disk: MemoryFs,
    state: Arc<Mutex<WorldState>>,
    reader: Option<Arc<Reader>>,
    /// Nothing is read here.
    pub(crate) is_still: bool,
}

/// Who looks at the sink's files whenever one has got its name.
type Reader = dyn Fn(&World) + Send + Sync;

/// What somebody asks of the running job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Cancel,
    Older,
    Rescale(u32),
    Resume(u32),
    Savepoint,
    Successor,
}

#[derive(Default)]
struct WorldState {
    n_events: u64,
    by_phase: BTreeMap<Phase, u64>,
    faults: Vec<Fault>,
    fired: Vec<(Phase, &'static str)>,
    log: Option<Vec<Phase>>,
    /// The process has died and does not know.
    dead: Option<Unsynced>,
    requests: Vec<Request>,
    driver: Option<Waker>,
    full_for: u64,
    slow_ms: u64,
    clock_ms: i64,
    violations: Vec<String>,
    /// The start of the job whose end has been heard of.
    known_end: Option<u64>,
    /// The checkpoint whose state was compared last.
    compared: Option<CheckpointId>,
    /// Checkpoints whose state was compared, and entries in it.
    n_states: (u64, u64),
}

/// What becomes of one event.
enum Verdict {
    Happens,
    HappensThenDies,
    Fails(io::Error),
    FailsAfter(io::Error),
    Panics,
}

/// Violations that are kept: the first ones say enough.
const VIOLATIONS_MAX: usize = 5;

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("events", &self.lock().n_events).finish_non_exhaustive()
    }
}

impl World {
    pub(crate) fn new(faults: &[Fault]) -> Self {
        let state = WorldState { faults: faults.to_vec(), ..WorldState::default() };
        Self { disk: MemoryFs::default(), state: Arc::new(Mutex::new(state)), reader: None, is_still: false }
    }

    /// A copy of the disk in a world in which nothing goes wrong, and nothing is read.
    pub(crate) fn in_peace(&self) -> Self {
        let world = Self { disk: self.disk.fork(), is_still: true, ..Self::new(&[]) };
        world.hear_of_end(self.known_end());
        world
    }

    /// The same world with somebody who reads the sink's files all the time.
    pub(crate) fn with_reader(self, reader: impl Fn(&Self) + Send + Sync + 'static) -> Self {
        Self { reader: Some(Arc::new(reader)), ..self }
    }

    fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a list of the phases of all events from now on.
    pub(crate) fn record(&self) {
        self.lock().log = Some(Vec::new());
    }

    pub(crate) fn recorded(&self) -> Vec<Phase> {
        self.lock().log.take().unwrap_or_default()
    }

    pub(crate) fn n_events(&self) -> u64 {
        self.lock().n_events
    }

    /// Faults that have come so far: at what, and of which kind.
    pub(crate) fn fired(&self) -> Vec<(Phase, &'static str)> {
        self.lock().fired.clone()
    }

    /// Notes what must never be seen.
    pub(crate) fn violation(&self, what: String) {
        let mut state = self.lock();
        if state.violations.len() < VIOLATIONS_MAX {
            state.violations.push(what);
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    /// Compares the state in a checkpoint with a replay, unless it is the one of the last time.
    pub(crate) fn compare_state(&self, job: &Job, cut: &Cut) -> Result<(), String> {
        if self.lock().compared == Some(cut.id) {
            return Ok(());
        }
        let n_entries = cut.compare_state(job).map_err(|what| format!("checkpoint {}: {what}", cut.id))?;
        let mut state = self.lock();
        state.compared = Some(cut.id);
        state.n_states = (state.n_states.0 + 1, state.n_states.1 + n_entries);
        Ok(())
    }

    /// Checkpoints whose state was compared, and entries in it.
    pub(crate) fn n_states(&self) -> (u64, u64) {
        self.lock().n_states
    }

    /// The start of the job whose end whoever starts the next process has heard of.
    pub(crate) fn known_end(&self) -> Option<u64> {
        self.lock().known_end
    }

    pub(crate) fn hear_of_end(&self, start: Option<u64>) {
        self.lock().known_end = start;
    }

    /// What the driver of a life waits for: the death of the process, or a request. `Err` is the death.
    pub(crate) fn poll_driver(&self, cx: &Context<'_>) -> Poll<Result<Request, ()>> {
        let mut state = self.lock();
        if state.dead.is_some() {
            return Poll::Ready(Err(()));
        }
        state.driver = Some(cx.waker().clone());
        if state.requests.is_empty() { Poll::Pending } else { Poll::Ready(Ok(state.requests.remove(0))) }
    }

    /// The process is gone, if it has died, and the disk has kept what it has kept.
    pub(crate) fn bury(&self) {
        let dead = self.lock().dead;
        if let Some(unsynced) = dead {
            self.disk.crash(match unsynced {
                Unsynced::Lost => CrashMode::LoseUnsynced,
                Unsynced::Kept => CrashMode::KeepUnsynced,
                Unsynced::Mixed(seed) => CrashMode::Random(seed),
            });
        }
        let mut state = self.lock();
        state.dead = None;
        state.requests.clear();
        state.driver = None;
        state.full_for = 0;
    }

    /// Something happens, or not.
    pub(crate) fn event<T>(&self, phase: Phase, happen: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let verdict = {
            let mut state = self.lock();
            let verdict = state.judge(phase);
            // Whoever watches the process learns of its death, or of what is asked of it.
            if (state.dead.is_some() || !state.requests.is_empty())
                && let Some(driver) = state.driver.take()
            {
                driver.wake();
            }
            verdict
        };
        match verdict {
            Verdict::Happens => happen(),
            Verdict::HappensThenDies => happen().and_then(|_| Err(power_failure())),
            Verdict::Fails(error) => Err(error),
            Verdict::FailsAfter(error) => happen().and_then(|_| Err(error)),
            Verdict::Panics => panic!("simulated panic in {phase:?}"),
        }
    }

    fn check_power(&self) -> io::Result<()> {
        if self.lock().dead.is_some() { Err(power_failure()) } else { Ok(()) }
    }

    fn take_slow(&self) -> u64 {
        std::mem::take(&mut self.lock().slow_ms)
    }

    /// The environment of a process in `simulation`.
    pub(crate) fn env(&self, simulation: &Simulation) -> Env {
        Env::from_backend(Arc::new(Life { simulation: simulation.clone(), world: self.clone() }))
    }
}

fn power_failure() -> io::Error {
    io::Error::other("the simulated process is dead")
}

impl WorldState {
    fn judge(&mut self, phase: Phase) -> Verdict {
        if self.dead.is_some() {
            return Verdict::Fails(power_failure());
        }
        let at = self.n_events;
        let of_phase = self.by_phase.entry(phase).or_default();
        let in_phase = *of_phase;
        *of_phase += 1;
        self.n_events += 1;
        if let Some(log) = &mut self.log {
            log.push(phase);
        }
        let comes = |fault: &Fault| match fault.phase {
            Some(of) => of == phase && fault.nth == in_phase,
            None => fault.nth == at,
        };
        let fault = self.faults.iter().position(comes).map(|idx| self.faults.remove(idx));
        if let Some(fault) = fault {
            self.fired.push((phase, fault.action.kind()));
            return self.strike(phase, fault.action);
        }
        if phase.is_disk() && self.full_for > 0 {
            self.full_for -= 1;
            return Verdict::Fails(io::ErrorKind::StorageFull.into());
        }
        Verdict::Happens
    }

    fn strike(&mut self, phase: Phase, action: Action) -> Verdict {
        let failed = || io::Error::other(format!("simulated failure in {phase:?}"));
        match action {
            Action::CrashBefore(unsynced) => {
                self.dead = Some(unsynced);
                return Verdict::Fails(power_failure());
            }
            Action::CrashAfter(unsynced) => {
                self.dead = Some(unsynced);
                return Verdict::HappensThenDies;
            }
            Action::Fail => return Verdict::Fails(failed()),
            Action::FailAfter => return Verdict::FailsAfter(failed()),
            Action::Panic if phase.is_disk() => return Verdict::Fails(failed()),
            Action::Panic => return Verdict::Panics,
            Action::Full(operations) => {
                self.full_for = operations;
                return Verdict::Fails(io::ErrorKind::StorageFull.into());
            }
            Action::Slow(ms) => self.slow_ms = ms,
            Action::Clock(ms) => self.clock_ms += ms,
            Action::Cancel => self.requests.push(Request::Cancel),
            Action::Older => self.requests.push(Request::Older),
            Action::Rescale(parallelism) => self.requests.push(Request::Rescale(parallelism)),
            Action::Resume(parallelism) => self.requests.push(Request::Resume(parallelism)),
            Action::Savepoint => self.requests.push(Request::Savepoint),
            Action::Successor => self.requests.push(Request::Successor),
        }
        Verdict::Happens
    }
}

/// One process: a simulated world with the disk that outlives it.
struct Life {
    simulation: Simulation,
    world: World,
}

/// Waits before it is polled when storage is slow.
struct Slowed {
    world: World,
    simulation: Simulation,
    pause: Option<BoxFuture<()>>,
    future: BoxFuture<()>,
}

impl Future for Slowed {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let slow_ms = this.world.take_slow();
        if slow_ms > 0 {
            let until = EnvBackend::elapsed(&this.simulation) + Duration::from_millis(slow_ms);
            this.pause = Some(this.simulation.sleep_until(until));
        }
        if let Some(pause) = &mut this.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.pause = None;
        }
        this.future.as_mut().poll(cx)
    }
}

impl EnvBackend for Life {
    fn elapsed(&self) -> Duration {
        EnvBackend::elapsed(&self.simulation)
    }
    fn wall_clock_ms(&self) -> i64 {
        self.simulation.wall_clock_ms() + self.world.lock().clock_ms
    }
    fn random_u64(&self) -> u64 {
        self.simulation.random_u64()
    }
    fn spawn(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        self.simulation.spawn(name, future)
    }
    fn spawn_subtask(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        // What blocks on storage has a task of its own; these are the names of such tasks.
        if name.ends_with("snapshots") || name == "checkpoint storage" {
            let (world, simulation) = (self.world.clone(), self.simulation.clone());
            return self
                .simulation
                .spawn_subtask(name, Box::pin(Slowed { world, simulation, pause: None, future }));
        }
        self.simulation.spawn_subtask(name, future)
    }
    fn sleep_until(&self, deadline: Duration) -> BoxFuture<()> {
        self.simulation.sleep_until(deadline)
    }
    fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(WorldFs(self.world.clone()))
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

/// The directory of the sink's files.
pub(crate) const OUT: &str = "/out";
/// The directory of checkpoints.
pub(crate) const CHECKPOINTS: &str = "/checkpoints";
/// The directory of savepoints.
pub(crate) const SAVEPOINTS: &str = "/savepoints";
/// Of keyed state on disk.
pub(crate) const LOCAL_STATE: &str = "/local-state";

fn phase_of(operation: &str, path: &Path) -> Phase {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_inside = |what: &str| {
        path.components().any(|part| part.as_os_str().to_str().is_some_and(|part| part.starts_with(what)))
    };
    if path.starts_with(OUT) {
        Phase::SinkFile
    } else if path.starts_with(LOCAL_STATE) {
        Phase::LocalState
    } else if operation == "remove_dir" || (operation == "remove" && !name.starts_with(".tmp-")) {
        Phase::Cleanup
    } else if name == "_metadata" {
        Phase::Manifest
    } else if is_inside("chk-") || is_inside("savepoint-") {
        Phase::Upload
    } else {
        Phase::Ownership
    }
}

#[derive(Debug)]
struct WorldFs(World);

impl WorldFs {
    fn change<T>(
        &self,
        name: &str,
        path: &Path,
        f: impl FnOnce(&MemoryFs) -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.event(phase_of(name, path), || f(&self.0.disk))
    }
    fn read<T>(&self, f: impl FnOnce(&MemoryFs) -> io::Result<T>) -> io::Result<T> {
        self.0.check_power()?;
        f(&self.0.disk)
    }
}

struct WorldFile {
    world: World,
    path: PathBuf,
    file: Box<dyn FileWrite>,
}

impl Write for WorldFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Self { world, path, file } = self;
        world.event(phase_of("write", path), || file.write(buf))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileWrite for WorldFile {
    fn sync(&mut self) -> io::Result<()> {
        let Self { world, path, file } = self;
        world.event(phase_of("sync", path), || file.sync())
    }
}

impl FileSystem for WorldFs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>> {
        self.read(|disk| disk.open(path))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWrite>> {
        let file = self.change("create", path, |disk| disk.create(path))?;
        Ok(Box::new(WorldFile { world: self.0.clone(), path: path.to_owned(), file }))
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.read(|disk| disk.metadata(path))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.read(|disk| disk.list(path))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change("create_dir_all", path, |disk| disk.create_dir_all(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("rename", to, |disk| disk.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change("remove", path, |disk| disk.remove(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change("sync_dir", path, |disk| disk.sync_dir(path))
    }
    fn hard_link(&self, existing: &Path, link: &Path) -> io::Result<()> {
        let linked = self.change("hard_link", link, |disk| disk.hard_link(existing, link));
        if let (true, Some(reader)) = (link.starts_with(OUT), &self.0.reader) {
            reader(&self.0);
        }
        linked
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        self.change("try_lock", path, |disk| disk.try_lock(path))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change("remove_dir", path, |disk| disk.remove_dir(path))
    }
}
