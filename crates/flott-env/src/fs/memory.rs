//! A disk in memory that knows what was synced: the simulation's.
//!
//! A file has content, and content that would survive a power failure: that of its last `sync`. A directory has entries, and entries
//! that would survive: those at its last `sync_dir`. [`MemoryFs::crash`] is the power failure. What was not synced may be lost, but need
//! not be, as on a real disk; [`CrashMode`] says which.
//!
//! Operations that change something are counted, and a [`Fault`] hits one of them. So a test runs a scenario once to
//! count, and then once for every operation and effect.

use super::{FileId, FileLock, FileSystem, FileWrite, Metadata, ReadSeek};
use crate::sim::SimRng;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Files in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryFs {
    disk: Arc<Mutex<Disk>>,
}

/// What becomes of changes that were not synced when the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// All are lost: files have the content of their last sync, or none at all.
    LoseUnsynced,
    /// All have reached the disk just in time.
    KeepUnsynced,
    /// Each is lost or not, and what was appended may be there in part, as a seed decides.
    Random(u64),
}

/// A failure to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which operation it hits, counted from 0 when the disk was made; see [`MemoryFs::operations`].
    pub at: u64,
    /// What happens to this operation.
    pub effect: FaultEffect,
    /// Whether all later operations, reads too, fail until [`MemoryFs::crash`]: the process is dead but does not know.
    pub halts: bool,
}

/// What a fault does to the operation that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultEffect {
    /// It does nothing and returns an error.
    Before,
    /// It is done and succeeds; of use with `halts`.
    After,
    /// It is done and returns an error: the answer is lost.
    AppliedButError,
}

/// An operation that changed, or should have changed, something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsOperation {
    /// The name of the method.
    pub name: &'static str,
    /// On what.
    pub path: PathBuf,
}

type Inode = u64;

/// A directory, or the number of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Dir,
    File(Inode),
}

#[derive(Clone, Debug, Default)]
struct Content {
    current: Vec<u8>,
    /// At the last sync.
    durable: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    entries: BTreeMap<PathBuf, Entry>,
    /// Entries at the last sync of their directory. Roots are always there.
    durable: BTreeMap<PathBuf, Entry>,
    files: BTreeMap<Inode, Content>,
    next_inode: Inode,
    n_operations: u64,
    log: Option<Vec<FsOperation>>,
    fault: Option<Fault>,
    is_halted: bool,
    /// Files that were open at a crash are open no more.
    n_crashes: u64,
    /// Who held a lock at a crash does not hold it any more.
    locks: BTreeSet<PathBuf>,
}

impl MemoryFs {
    /// The power fails and comes back: files that are open are lost, and so is what was not synced, according to `mode`. Faults that were to come do
    /// not come any more.
    pub fn crash(&self, mode: CrashMode) {
        self.with(|disk| disk.crash(mode));
    }

    /// Another disk that is as this one is now: to try several futures.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { disk: Arc::new(Mutex::new(self.with(|disk| disk.clone()))) }
    }

    /// The number of operations so far that change something; the next one has this number.
    pub fn operations(&self) -> u64 {
        self.with(|disk| disk.n_operations)
    }

    /// Makes one operation fail; `None` takes a fault back that has not come yet.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.with(|disk| disk.fault = fault);
    }

    /// Whether a fault with `halts` has come.
    pub fn is_halted(&self) -> bool {
        self.with(|disk| disk.is_halted)
    }

    /// Keeps a list of operations from now on, or drops it.
    pub fn record(&self, on: bool) {
        self.with(|disk| disk.log = on.then(Vec::new));
    }

    /// The operations since [`MemoryFs::record`].
    pub fn recorded(&self) -> Vec<FsOperation> {
        self.with(|disk| disk.log.clone().unwrap_or_default())
    }

    /// Every file with its content, as it would be read now.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.with(|disk| {
            let file = |(path, entry): (&PathBuf, &Entry)| match entry {
                Entry::File(inode) => Some((path.clone(), disk.files.get(inode)?.current.clone())),
                Entry::Dir => None,
            };
            disk.entries.iter().filter_map(file).collect()
        })
    }

    /// Replaces the content of a file, durably and without counting: bits rot.
    pub fn corrupt(&self, path: &Path, content: Vec<u8>) {
        self.with(|disk| {
            if let Some(Entry::File(inode)) = disk.entries.get(path) {
                let durable = content.clone();
                disk.files.insert(*inode, Content { current: content, durable });
            }
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut Disk) -> T) -> T {
        f(&mut self.disk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does an operation that changes something, unless a fault is in the way.
    fn change<T>(
        &self,
        name: &'static str,
        path: &Path,
        f: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        self.with(|disk| {
            disk.check_power()?;
            let number = disk.n_operations;
            disk.n_operations += 1;
            if let Some(log) = &mut disk.log {
                log.push(FsOperation { name, path: path.to_owned() });
            }
            let Some(fault) = disk.fault.filter(|fault| fault.at == number) else { return f(disk) };
            disk.fault = None;
            let failed = || io::Error::other(format!("simulated failure of {name} '{}'", path.display()));
            let result = match fault.effect {
                FaultEffect::Before => Err(failed()),
                FaultEffect::After => f(disk),
                FaultEffect::AppliedButError => f(disk).and_then(|_| Err(failed())),
            };
            disk.is_halted = fault.halts;
            result
        })
    }

    fn read<T>(&self, f: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        self.with(|disk| {
            disk.check_power()?;
            f(disk)
        })
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no such file: {}", path.display()))
}

fn failure(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{kind}: {}", path.display()))
}

impl Disk {
    fn check_power(&self) -> io::Result<()> {
        if self.is_halted { Err(io::Error::other("the simulated power has failed")) } else { Ok(()) }
    }

    fn file(&self, path: &Path) -> io::Result<Inode> {
        match self.entries.get(path) {
            Some(Entry::File(inode)) => Ok(*inode),
            Some(Entry::Dir) => Err(failure(io::ErrorKind::IsADirectory, path)),
            None => Err(missing(path)),
        }
    }

    fn crash(&mut self, mode: CrashMode) {
        let mut luck =
            Luck { mode, rng: SimRng::new(if let CrashMode::Random(seed) = mode { seed } else { 0 }) };
        let mut entries: Vec<(PathBuf, Entry)> = Vec::with_capacity(self.entries.len());
        // Where the last one was: mostly the next one is there, too.
        let mut known: Option<&Path> = None;
        for (path, now, durable) in both(&self.entries, &self.durable) {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let survivor = if parent.is_none() || now == durable || luck.keeps() { now } else { durable };
            let Some(survivor) = survivor else { continue };
            // An entry is worth nothing without its directory.
            let is_known = parent.is_none_or(|parent| {
                known.is_some_and(|known| known.as_os_str() == parent.as_os_str())
                    || entries.binary_search_by(|(entry, _)| entry.as_path().cmp(parent)).is_ok()
            });
            if is_known {
                known = parent;
                entries.push((path.clone(), *survivor));
            }
        }
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        for content in self.files.values_mut().filter(|content| content.current != content.durable) {
            luck.strike(content);
        }
        let file = |entry: &Entry| if let Entry::File(inode) = entry { Some(*inode) } else { None };
        let used: BTreeSet<_> = entries.values().filter_map(file).collect();
        self.files.retain(|inode, _| used.contains(inode));
        self.durable.clone_from(&entries);
        self.entries = entries;
        self.is_halted = false;
        self.fault = None;
        self.n_crashes += 1;
        self.locks.clear();
    }
}

/// The paths that are in one or both, in order.
fn both<'a>(
    now: &'a BTreeMap<PathBuf, Entry>,
    durable: &'a BTreeMap<PathBuf, Entry>,
) -> impl Iterator<Item = (&'a PathBuf, Option<&'a Entry>, Option<&'a Entry>)> {
    let (mut now, mut durable) = (now.iter().peekable(), durable.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (now.peek(), durable.peek()) {
            (Some((a, _)), Some((b, _))) if a.as_os_str() == b.as_os_str() => Ordering::Equal,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let now = if order == Ordering::Greater { None } else { now.next() };
        let durable = if order == Ordering::Less { None } else { durable.next() };
        let (path, _) = now.or(durable)?;
        Some((path, now.map(|(_, entry)| entry), durable.map(|(_, entry)| entry)))
    })
}

/// What is in a directory.
fn children<'a>(
    entries: &'a BTreeMap<PathBuf, Entry>,
    dir: &'a Path,
) -> impl Iterator<Item = (&'a PathBuf, Entry)> {
    // What is below a directory follows it.
    let behind = entries.range::<Path, _>((Bound::Excluded(dir), Bound::Unbounded));
    let below = behind.take_while(move |(path, _)| path.starts_with(dir));
    below.filter(move |(path, _)| path.parent() == Some(dir)).map(|(path, entry)| (path, *entry))
}

/// Decides what survives.
struct Luck {
    mode: CrashMode,
    rng: SimRng,
}

impl Luck {
    fn keeps(&mut self) -> bool {
        match self.mode {
            CrashMode::LoseUnsynced => false,
            CrashMode::KeepUnsynced => true,
            CrashMode::Random(_) => self.rng.one_in(2),
        }
    }

    /// Leaves of a file that was not synced what was synced, all, or, if it had been appended to, a part.
    fn strike(&mut self, content: &mut Content) {
        let is_appended = content.current.starts_with(&content.durable);
        match self.mode {
            CrashMode::Random(_) if is_appended => {
                let appended = (content.current.len() - content.durable.len()) as u64;
                let kept = content.durable.len() + self.rng.below(appended + 1) as usize;
                content.current.truncate(kept);
            }
            CrashMode::Random(_) | CrashMode::LoseUnsynced | CrashMode::KeepUnsynced => {
                if !self.keeps() {
                    content.current.clone_from(&content.durable);
                }
            }
        }
        content.durable.clone_from(&content.current);
    }
}

/// The lock of a file is given back.
struct MemoryLock {
    fs: MemoryFs,
    path: PathBuf,
    n_crashes: u64,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.fs.with(|disk| {
            if disk.n_crashes == self.n_crashes {
                disk.locks.remove(&self.path);
            }
        });
    }
}

struct MemoryFile {
    fs: MemoryFs,
    path: PathBuf,
    inode: Inode,
    n_crashes: u64,
}

impl MemoryFile {
    fn change(&mut self, name: &'static str, f: impl FnOnce(&mut Content)) -> io::Result<()> {
        let (inode, n_crashes) = (self.inode, self.n_crashes);
        self.fs.change(name, &self.path, |disk| {
            if disk.n_crashes != n_crashes {
                return Err(io::Error::other("the file was open when the simulated power failed"));
            }
            // It may have been removed meanwhile; it stays as long as it is open.
            f(disk.files.entry(inode).or_default());
            Ok(())
        })
    }
}

impl Write for MemoryFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.change("write", |content| content.current.extend(buf))?;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileWrite for MemoryFile {
    fn sync(&mut self) -> io::Result<()> {
        self.change("sync", |content| content.durable.clone_from(&content.current))
    }
}

impl FileSystem for MemoryFs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>> {
        self.read(|disk| {
            let inode = disk.file(path)?;
            let content = disk.files.get(&inode).map(|content| content.current.clone());
            Ok(Box::new(io::Cursor::new(content.unwrap_or_default())) as Box<dyn ReadSeek>)
        })
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWrite>> {
        let (inode, n_crashes) = self.change("create", path, |disk| {
            let inode = match disk.entries.get(path) {
                Some(Entry::File(inode)) => *inode,
                Some(Entry::Dir) => return Err(failure(io::ErrorKind::IsADirectory, path)),
                None => {
                    disk.next_inode += 1;
                    disk.entries.insert(path.to_owned(), Entry::File(disk.next_inode));
                    disk.next_inode
                }
            };
            disk.files.entry(inode).or_default().current.clear();
            Ok((inode, disk.n_crashes))
        })?;
        Ok(Box::new(MemoryFile { fs: self.clone(), path: path.to_owned(), inode, n_crashes }))
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.read(|disk| match disk.entries.get(path) {
            Some(Entry::File(inode)) => {
                let len = disk.files.get(inode).map_or(0, |content| content.current.len() as u64);
                Ok(Metadata { len, is_dir: false, modified_ms: 0 })
            }
            Some(Entry::Dir) => Ok(Metadata { len: 0, is_dir: true, modified_ms: 0 }),
            None => Err(missing(path)),
        })
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        if !self.metadata(path)?.is_dir {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("not a directory: {}", path.display()),
            ));
        }
        self.read(|disk| Ok(children(&disk.entries, path).map(|(entry, _)| entry.clone()).collect()))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change("create_dir_all", path, |disk| {
            for ancestor in path.ancestors() {
                disk.entries.entry(ancestor.to_owned()).or_insert(Entry::Dir);
            }
            Ok(())
        })
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change("rename", to, |disk| {
            let inode = disk.file(from)?;
            disk.entries.remove(from);
            disk.entries.insert(to.to_owned(), Entry::File(inode));
            Ok(())
        })
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change("remove", path, |disk| {
            disk.file(path)?;
            disk.entries.remove(path);
            Ok(())
        })
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change("sync_dir", path, |disk| {
            let entries: Vec<_> =
                children(&disk.entries, path).map(|(entry, kind)| (entry.clone(), kind)).collect();
            // Files may be in directories that nobody created.
            if path != Path::new(".") && entries.is_empty() && !disk.entries.contains_key(path) {
                return Err(missing(path));
            }
            let gone =
                |(entry, _): (&PathBuf, Entry)| (!disk.entries.contains_key(entry)).then(|| entry.clone());
            let gone: Vec<_> = children(&disk.durable, path).filter_map(gone).collect();
            for entry in &gone {
                disk.durable.remove(entry);
            }
            disk.durable.extend(entries);
            Ok(())
        })
    }
    fn hard_link(&self, existing: &Path, link: &Path) -> io::Result<()> {
        self.change("hard_link", link, |disk| {
            let inode = disk.file(existing)?;
            if disk.entries.contains_key(link) {
                return Err(failure(io::ErrorKind::AlreadyExists, link));
            }
            disk.entries.insert(link.to_owned(), Entry::File(inode));
            Ok(())
        })
    }
    fn file_id(&self, path: &Path) -> io::Result<FileId> {
        self.read(|disk| Ok(FileId { device: 0, inode: disk.file(path)? }))
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        drop(if self.metadata(path).is_ok() { None } else { Some(self.create(path)?) });
        self.read(|_| Ok(()))?;
        let held = self.with(|disk| disk.locks.insert(path.to_owned()).then_some(disk.n_crashes));
        let lock = |n_crashes| MemoryLock { fs: self.clone(), path: path.to_owned(), n_crashes };
        Ok(held.map(|n_crashes| Box::new(lock(n_crashes)) as FileLock))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change("remove_dir", path, |disk| {
            match disk.entries.get(path) {
                Some(Entry::Dir) => {}
                Some(Entry::File(_)) => return Err(failure(io::ErrorKind::NotADirectory, path)),
                None => return Err(missing(path)),
            }
            if children(&disk.entries, path).next().is_some() {
                return Err(failure(io::ErrorKind::DirectoryNotEmpty, path));
            }
            disk.entries.remove(path);
            Ok(())
        })
    }
}
