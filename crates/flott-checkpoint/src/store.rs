//! Whole objects by path: the little that checkpoints need from a file system or an object store.

mod contract;
mod prefixed;

pub use contract::check_store_contract;
pub use prefixed::PrefixedStore;

use flott_env::{FileSystem, Metadata, canary};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where objects are. Paths are relative, with components separated by `/`; calls block.
///
/// What implementations promise, and the protocol of docs/design/0003-checkpoints.md rests on:
/// * of any number of [`put_if_absent`](Self::put_if_absent) calls for one path at most one succeeds, and an object is seen whole or not at all;
/// * an object whose put has returned survives any failure that the store survives;
/// * [`list`](Self::list) shows every object whose put had returned, or was visible to anybody, before the call began.
///
/// Local disks and the object stores of today (S3 since 2020, GCS, Azure) can do this. [`check_store_contract`] checks it.
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Creates an object and makes it durable.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is one. After any other error it may exist or not.
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// The content of an object.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none, [`io::ErrorKind::FileTooLarge`] if it has more than `len_max` bytes.
    fn get(&self, path: &str, len_max: u64) -> io::Result<Vec<u8>>;

    /// Length of an object, and when it was made.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is none.
    fn metadata(&self, path: &str) -> io::Result<Metadata>;

    /// The names (not paths) of objects and directories directly in a directory, sorted; none if the directory does not exist. The root is `""`.
    ///
    /// # Errors
    /// If the store does not answer: that is never "empty".
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Deletes an object; one that does not exist is deleted already. It may come back after a power failure: who needs
    /// it gone calls [`sync`](Self::sync).
    ///
    /// # Errors
    /// Whatever the store says.
    fn delete(&self, path: &str) -> io::Result<()>;

    /// Makes deletions in a directory durable.
    ///
    /// # Errors
    /// Whatever the store says.
    fn sync(&self, dir: &str) -> io::Result<()>;

    /// Removes a directory if it is empty; does nothing else, and nothing where directories are only prefixes.
    ///
    /// # Errors
    /// Whatever the store says, but not that it is not empty.
    fn remove_empty_dir(&self, dir: &str) -> io::Result<()>;

    /// Where the root is, for who opens it again later.
    fn location(&self) -> String;
}

/// Names that begin so are being written; they are nobody's object.
pub(crate) const TEMP_PREFIX: &str = ".tmp-";

/// Objects as files below a directory.
///
/// An object is written under a temporary name, synced, made visible by a hard link, which fails if the name exists, and its
/// directory is synced, and so are those above it when this store first uses them: a directory that another process made may not be
/// durable yet.
#[derive(Debug)]
pub struct LocalStore {
    fs: Arc<dyn FileSystem>,
    root: PathBuf,
    /// Distinguishes temporary names of this store from those of others, at random.
    nonce: u64,
    written: AtomicU64,
    /// Directories whose own entries this store has made durable.
    durable_dirs: Mutex<BTreeSet<PathBuf>>,
}

impl LocalStore {
    /// A store below `root`, which is created with the first object. `nonce` is a random number: two stores, in one process or in
    /// several, must not have the same.
    pub fn new(fs: Arc<dyn FileSystem>, root: impl Into<PathBuf>, nonce: u64) -> Self {
        Self { fs, root: root.into(), nonce, written: AtomicU64::new(0), durable_dirs: Mutex::default() }
    }

    /// The directory below which everything is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn full(&self, path: &str) -> PathBuf {
        path.split('/').filter(|part| !part.is_empty()).fold(self.root.clone(), |full, part| full.join(part))
    }

    /// Creates `dir` and makes it durable with everything above it, whoever has made that: a process that was killed may have left
    /// directories that are not durable yet.
    fn ensure_dir(&self, dir: &Path) -> io::Result<()> {
        let durable = |dir: &Path| self.durable_dirs().contains(dir);
        let new =
            dir.ancestors().take_while(|ancestor| !ancestor.as_os_str().is_empty() && !durable(ancestor));
        let new: Vec<_> =
            new.map(|ancestor| (ancestor.to_owned(), self.fs.metadata(ancestor).is_err())).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.fs.create_dir_all(dir)?;
        // From the top down: an entry is worth nothing before those above it.
        for (created, was_missing) in new.iter().rev() {
            let Some(parent) = created.parent() else { continue };
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match self.fs.sync_dir(parent) {
                // Far above there may be directories that we cannot even open; those were not made by us.
                Err(_) if !was_missing && !created.starts_with(&self.root) => {}
                result => result?,
            }
        }
        self.durable_dirs().extend(new.into_iter().map(|(created, _)| created));
        Ok(())
    }

    fn durable_dirs(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_temp(&self, temp: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.fs.create(temp)?;
        file.write_all(bytes)?;
        if canary("skip-file-sync") { Ok(()) } else { file.sync() }
    }
}

impl ObjectStore for LocalStore {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let target = self.full(path);
        let dir = target.parent().unwrap_or(&self.root).to_owned();
        self.ensure_dir(&dir)?;
        let serial = self.written.fetch_add(1, Ordering::Relaxed);
        let temp = dir.join(format!("{TEMP_PREFIX}{:016x}-{serial}", self.nonce));
        let publish = || self.write_temp(&temp, bytes).and_then(|()| self.fs.hard_link(&temp, &target));
        let published = match publish() {
            // Somebody's clean-up took our temporary file for one whose writer is dead, or the directory for one that is not used any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.durable_dirs().remove(&dir);
                self.ensure_dir(&dir).and_then(|()| publish())
            }
            published => published,
        };
        // Whether or not it worked, the temporary name has served; should it stay, garbage collection removes it.
        let removed = self.fs.remove(&temp);
        published?;
        // The object is there, but not yet for ever.
        if !canary("skip-directory-sync") {
            self.fs.sync_dir(&dir)?;
        }
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn get(&self, path: &str, len_max: u64) -> io::Result<Vec<u8>> {
        let full = self.full(path);
        let metadata = self.fs.metadata(&full)?;
        if metadata.is_dir {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, format!("'{path}' is a directory")));
        }
        let mut bytes = Vec::new();
        self.fs.open(&full)?.take(len_max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > len_max {
            let message = format!("'{path}' has {} bytes, {len_max} are expected at most", metadata.len);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(bytes)
    }

    fn metadata(&self, path: &str) -> io::Result<Metadata> {
        self.fs.metadata(&self.full(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match self.fs.list(&self.full(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let name = |entry: PathBuf| entry.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut names: Vec<_> = entries.into_iter().filter_map(name).collect();
        names.sort();
        Ok(names)
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        match self.fs.remove(&self.full(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync(&self, dir: &str) -> io::Result<()> {
        match self.fs.sync_dir(&self.full(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn remove_empty_dir(&self, dir: &str) -> io::Result<()> {
        let full = self.full(dir);
        // Before the directory is gone, so that a put that comes now makes it again and syncs it.
        self.durable_dirs().remove(&full);
        match self.fs.remove_dir(&full) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests;
