//! The local disk of one operator subtask: settings, a directory, and the files in it.
//!
//! Each subtask whose state may go to disk has a directory of its own below `state.backend.local-dir`, with a lock file
//! that it holds. The system gives the lock back when the process ends, also by `kill -9`; so whoever starts finds the
//! directories that nobody owns any more and removes them.

mod parked;

use crate::snapshot::{GroupBytes, KeyGroupBytes};
use crate::table::KeyedTable;
use flott_env::{Env, FileLock, FileSystem, FileWrite, ReadSeek};
use flott_types::{Configuration, Data, Error, Key, Result, StateBackendType, SubtaskIndex, options};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where keyed state is: the settings of a job. [`Env::with_settings`] takes them to the operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSettings {
    /// `state.backend.type`
    pub backend: StateBackendType,
    /// `state.backend.disk.memory`: bytes for each subtask of a keyed operator.
    pub memory_bytes: u64,
    /// `state.backend.local-dir`
    pub local_dir: PathBuf,
    /// `state.backend.snapshot-section-size`
    pub section_bytes: usize,
}

impl StateSettings {
    /// Reads the settings; unset ones have their defaults.
    pub fn new(config: &Configuration) -> Self {
        let local_dir = config.get(options::STATE_LOCAL_DIR).map(PathBuf::from);
        Self {
            backend: config.get(options::STATE_BACKEND),
            memory_bytes: config.get(options::STATE_DISK_MEMORY).0,
            local_dir: local_dir.unwrap_or_else(|| std::env::temp_dir().join("flott-state")),
            section_bytes: usize::try_from(config.get(options::STATE_SNAPSHOT_SECTION).0)
                .unwrap_or(usize::MAX),
        }
    }

    /// Bytes of a section of a key group in a snapshot, by the settings in `env` if there are any.
    pub fn section_bytes(env: &Env) -> usize {
        let bytes = env.settings::<Self>().map(|settings| settings.section_bytes);
        bytes.unwrap_or_else(|| Self::new(&Configuration::default()).section_bytes)
    }
}

/// Makes the keyed tables of one operator subtask, as the settings of the job want them.
#[derive(Clone, Debug, Default)]
pub struct LocalState {
    space: Option<Arc<Space>>,
}

impl LocalState {
    /// For a subtask of the operator that is called so. Without settings in `env`, state is in memory.
    ///
    /// What processes that are gone have left in the directory is removed.
    ///
    /// # Errors
    /// If state goes to disk and its directory cannot be made.
    pub fn open(env: &Env, operator: &str, subtask: SubtaskIndex) -> Result<Self> {
        let Some(settings) = env.settings::<StateSettings>() else { return Ok(Self::default()) };
        match settings.backend {
            StateBackendType::Hashmap => Ok(Self::default()),
            StateBackendType::Disk => {
                let name = format!("{}-{subtask}", file_name(operator));
                let space = Space::new(env, &settings.local_dir, &name, settings.memory_bytes)?;
                Ok(Self { space: Some(Arc::new(space)) })
            }
        }
    }

    /// Key groups that nothing outside of this process is needed for any more: what is in files is read into memory, or if state
    /// is not there copied to the local disk.
    ///
    /// # Errors
    /// If a section cannot be read, or the local disk not be written.
    pub(crate) fn keep(&self, groups: &KeyGroupBytes) -> Result<KeyGroupBytes> {
        if let Some(space) = &self.space
            && groups.values().any(GroupBytes::is_stored)
        {
            return parked::park(space, groups);
        }
        groups.iter().map(|(group, bytes)| Ok((*group, bytes.in_memory()?))).collect()
    }

    /// An empty table, which takes its share of the subtask's memory.
    pub fn table<K: Key, V: Data>(&self) -> KeyedTable<K, V> {
        self.space.as_ref().map_or_else(KeyedTable::default, KeyedTable::on_disk)
    }
}

/// The beginning of an operator's name, without what a file name cannot have.
fn file_name(operator: &str) -> String {
    let tame = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    operator.chars().take(40).map(tame).collect()
}

const LOCK: &str = "LOCK";

/// How often a name for a directory is drawn; another process may be removing what looks abandoned to it.
const ATTEMPTS_MAX: u32 = 8;

/// A directory, and the memory that the tables whose files are in it share.
pub(crate) struct Space {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    memory_bytes: u64,
    n_tables: AtomicU64,
    n_files: AtomicU64,
    /// Given back when all files are gone.
    _lock: FileLock,
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Space {
    /// A new directory below `local_dir`.
    pub(crate) fn new(env: &Env, local_dir: &Path, name: &str, memory_bytes: u64) -> Result<Self> {
        let fs = env.fs();
        let failed = |error: io::Error| {
            let message = format!("cannot make a directory for state in '{}'", local_dir.display());
            Error::subtask(message).with_source(error)
        };
        fs.create_dir_all(local_dir).map_err(failed)?;
        remove_abandoned(fs.as_ref(), local_dir);
        for _ in 0..ATTEMPTS_MAX {
            let dir = local_dir.join(format!("{name}-{:016x}", env.random_u64()));
            fs.create_dir_all(&dir).map_err(failed)?;
            let lock = match fs.try_lock(&dir.join(LOCK)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                tried => tried.map_err(failed)?,
            };
            // Somebody may have taken it for abandoned and removed it before it was locked.
            if let Some(lock) = lock.filter(|_| fs.metadata(&dir.join(LOCK)).is_ok()) {
                let (n_tables, n_files) = (AtomicU64::new(0), AtomicU64::new(0));
                return Ok(Self { fs, dir, memory_bytes, n_tables, n_files, _lock: lock });
            }
        }
        Err(failed(io::ErrorKind::AlreadyExists.into()))
    }

    /// Counts one more table.
    pub(crate) fn add_table(&self) {
        self.n_tables.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a table less.
    pub(crate) fn remove_table(&self) {
        self.n_tables.fetch_sub(1, Ordering::Relaxed);
    }

    /// Bytes of memory for each table.
    pub(crate) fn share_bytes(&self) -> u64 {
        self.memory_bytes / self.n_tables.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        remove_dir(self.fs.as_ref(), &self.dir);
    }
}

/// Removes the directories whose owners are gone.
fn remove_abandoned(fs: &dyn FileSystem, local_dir: &Path) {
    for dir in fs.list(local_dir).unwrap_or_default() {
        let lock = dir.join(LOCK);
        if (fs.metadata(&lock).is_ok() || has_lost_its_lock(fs, &dir))
            && let Ok(Some(_lock)) = fs.try_lock(&lock)
        {
            remove_dir(fs, &dir);
        }
    }
}

/// Whether a power failure has left files and no lock, which are not made durable: nothing but such files, by their names, in a directory
/// with a name such as [`Space::new`] gives. What others have in the directory stays.
fn has_lost_its_lock(fs: &dyn FileSystem, dir: &Path) -> bool {
    let name =
        |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let has_number = name(dir)
        .rsplit_once('-')
        .is_some_and(|(_, number)| number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let is_run = |path: &PathBuf| {
        name(path)
            .strip_suffix(".run")
            .is_some_and(|number| number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let files = fs.list(dir).unwrap_or_default();
    // One that is empty may just be being made.
    has_number && !files.is_empty() && files.iter().all(is_run)
}

/// Removes a directory with its files, the lock last. What cannot be removed stays for the next one who starts: nobody
/// waits for it.
fn remove_dir(fs: &dyn FileSystem, dir: &Path) {
    let lock = dir.join(LOCK);
    for path in fs.list(dir).unwrap_or_default().iter().filter(|path| **path != lock) {
        drop(fs.remove(path));
    }
    drop(fs.remove(&lock));
    drop(fs.remove_dir(dir));
}

/// A file of a [`Space`], which is removed when this is dropped.
pub(crate) struct LocalFile {
    space: Arc<Space>,
    path: PathBuf,
}

impl LocalFile {
    /// A new file, open for writing.
    pub(crate) fn create(space: &Arc<Space>) -> Result<(Self, Box<dyn FileWrite>)> {
        let number = space.n_files.fetch_add(1, Ordering::Relaxed);
        let file = Self { space: Arc::clone(space), path: space.dir.join(format!("{number:06}.run")) };
        let writer = file.space.fs.create(&file.path).map_err(|error| file.error("create", error))?;
        Ok((file, writer))
    }

    /// Opens the file for reading.
    pub(crate) fn open(&self) -> Result<Box<dyn ReadSeek>> {
        self.space.fs.open(&self.path).map_err(|error| self.error("open", error))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The subtask cannot go on: it has lost state, or has no room for it.
    pub(crate) fn error(&self, attempt: &str, error: io::Error) -> Error {
        Error::subtask(format!("cannot {attempt} state on disk: '{}'", self.path.display()))
            .with_source(error)
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        // If it cannot be removed, it goes with the directory.
        drop(self.space.fs.remove(&self.path));
    }
}

impl fmt::Debug for LocalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, f)
    }
}
