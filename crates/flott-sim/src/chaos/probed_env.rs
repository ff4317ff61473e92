//! The real world, with files that tell what happens to them and a clock that can jump.

use super::point::Step;
use super::probe::Probe;
use flott_env::{
    AsyncStream, Env, EnvBackend, FileLock, FileSystem, FileWrite, Instant, Metadata, ReadSeek, TaskHandle,
};
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// `env`, with the files below `dir` probed.
pub(crate) fn probed(env: &Env, probe: &Probe, dir: &Path) -> Env {
    let fs = ProbedFs { fs: env.fs(), probe: probe.clone(), dir: dir.to_owned() };
    Env::from_backend(Arc::new(ProbedEnv { env: env.clone(), probe: probe.clone(), fs: Arc::new(fs) }))
}

struct ProbedEnv {
    env: Env,
    probe: Probe,
    fs: Arc<ProbedFs>,
}

impl EnvBackend for ProbedEnv {
    fn elapsed(&self) -> Duration {
        self.env.now().0
    }
    fn wall_clock_ms(&self) -> i64 {
        self.env.processing_time().saturating_add(self.probe.clock_ms())
    }
    fn random_u64(&self) -> u64 {
        self.env.random_u64()
    }
    fn spawn(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        self.env.spawn(name, future)
    }
    fn spawn_subtask(&self, name: &str, future: BoxFuture<()>) -> TaskHandle {
        self.env.spawn_subtask(name, future)
    }
    fn sleep_until(&self, deadline: Duration) -> BoxFuture<()> {
        self.env.sleep_until(Instant(deadline))
    }
    fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::clone(&self.fs) as Arc<dyn FileSystem>
    }
    fn connect(&self, address: String) -> BoxFuture<io::Result<Box<dyn AsyncStream>>> {
        let env = self.env.clone();
        Box::pin(async move { env.connect(&address).await })
    }
    fn block_on(&self, future: BoxFuture<()>) {
        self.env.block_on(future);
    }
    fn cores(&self) -> usize {
        self.env.cores()
    }
    fn trace(&self, hash: u64) {
        self.env.trace(hash);
    }
    fn print(&self, bytes: &[u8]) -> io::Result<()> {
        self.env.print(bytes)
    }
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    Sync,
    Link,
    Remove,
}

struct ProbedFs {
    fs: Arc<dyn FileSystem>,
    probe: Probe,
    dir: PathBuf,
}

impl fmt::Debug for ProbedFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbedFs").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The step that an operation on a file below the directory of a job is, if it is one.
fn step_of(operation: Operation, relative: &Path) -> Option<Step> {
    let name = relative.file_name()?.to_str()?;
    let place = relative.components().next()?.as_os_str().to_str()?;
    let is_temporary = name.starts_with(".tmp-");
    match (place, operation) {
        ("out", Operation::Create) => Some(Step::FILE_BEGUN),
        ("out", Operation::Sync) => Some(Step::FILE_SYNCED),
        ("out", Operation::Link) => Some(Step::FILE_NAMED),
        ("state", Operation::Create) => Some(Step::STATE_RUN),
        ("checkpoints" | "savepoints", Operation::Link) => Some(match name {
            "_metadata" => Step::MANIFEST,
            _ if name.ends_with(".start") => Step::BASE,
            _ if name.ends_with(".end") => Step::END,
            _ if name.starts_with("owner-") => Step::CLAIM,
            _ => Step::PART,
        }),
        ("checkpoints" | "savepoints", Operation::Remove) if is_temporary => None,
        ("checkpoints" | "savepoints", Operation::Remove) => {
            Some(if name == "_metadata" { Step::SUBSUME } else { Step::COLLECT })
        }
        _ => None,
    }
}

impl ProbedFs {
    fn step(&self, operation: Operation, path: &Path) -> Option<Step> {
        path.strip_prefix(&self.dir).ok().and_then(|relative| step_of(operation, relative))
    }

    fn take<R>(&self, operation: Operation, path: &Path, f: impl FnOnce() -> R) -> R {
        match self.step(operation, path) {
            Some(step) => self.probe.take(step, f),
            None => f(),
        }
    }
}

/// A file whose sync is a step.
struct ProbedFile {
    file: Box<dyn FileWrite>,
    probe: Probe,
    step: Option<Step>,
}

impl Write for ProbedFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl FileWrite for ProbedFile {
    fn sync(&mut self) -> io::Result<()> {
        let Self { file, probe, step } = self;
        match step {
            Some(step) => probe.take(*step, || file.sync()),
            None => file.sync(),
        }
    }
}

impl FileSystem for ProbedFs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>> {
        self.fs.open(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWrite>> {
        let file = self.take(Operation::Create, path, || self.fs.create(path))?;
        let step = self.step(Operation::Sync, path);
        Ok(Box::new(ProbedFile { file, probe: self.probe.clone(), step }))
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.fs.metadata(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.fs.list(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.fs.create_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.take(Operation::Link, to, || self.fs.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.take(Operation::Remove, path, || self.fs.remove(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.sync_dir(path)
    }
    fn hard_link(&self, existing: &Path, link: &Path) -> io::Result<()> {
        let step = self.step(Operation::Link, link);
        self.take(Operation::Link, link, || {
            let linked = self.fs.hard_link(existing, link);
            if linked.is_ok() && step == Some(Step::MANIFEST) {
                self.probe.say("checkpoint");
            }
            linked
        })
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        self.fs.try_lock(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.remove_dir(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_on_files_are_the_steps_of_the_protocol() {
        for (operation, path, expected) in [
            (Operation::Link, "checkpoints/0a/owner-1", Some(Step::CLAIM)),
            (Operation::Link, "checkpoints/0a/owner-1.start", Some(Step::BASE)),
            (Operation::Link, "checkpoints/0a/owner-1.end", Some(Step::END)),
            (Operation::Link, "checkpoints/0a/chk-3/0-0.g1", Some(Step::PART)),
            (Operation::Link, "checkpoints/0a/chk-3/_metadata", Some(Step::MANIFEST)),
            (Operation::Remove, "checkpoints/0a/chk-3/_metadata", Some(Step::SUBSUME)),
            (Operation::Remove, "checkpoints/0a/chk-3/0-0.g1", Some(Step::COLLECT)),
            (Operation::Remove, "checkpoints/0a/chk-3/.tmp-1-1", None),
            (Operation::Create, "checkpoints/0a/chk-3/.tmp-1-1", None),
            (Operation::Create, "out/.flott/x", Some(Step::FILE_BEGUN)),
            (Operation::Link, "out/part-0", Some(Step::FILE_NAMED)),
        ] {
            assert_eq!(step_of(operation, Path::new(path)), expected, "{operation:?} {path}");
        }
    }
}
