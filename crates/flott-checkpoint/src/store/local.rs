//! Objects as files.

use super::{ObjectStore, ObjectWriter, TEMP_PREFIX};
use flott_env::{FileSystem, FileWrite, Metadata, canary};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

    /// Opens a file under a temporary name beside `target`.
    fn begin(&self, target: &Path) -> io::Result<LocalWriter> {
        let dir = target.parent().unwrap_or(&self.root).to_owned();
        let serial = self.written.fetch_add(1, Ordering::Relaxed);
        let temp = dir.join(format!("{TEMP_PREFIX}{:016x}-{serial}", self.nonce));
        self.ensure_dir(&dir)?;
        let file = match self.fs.create(&temp) {
            // Somebody's clean-up took the directory for one that is not used any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.durable_dirs().remove(&dir);
                self.ensure_dir(&dir).and_then(|()| self.fs.create(&temp))
            }
            created => created,
        };
        let fs = Arc::clone(&self.fs);
        Ok(LocalWriter { fs, file: Some(file?), dir, temp, target: target.to_owned() })
    }
}

/// A file under a temporary name.
struct LocalWriter {
    fs: Arc<dyn FileSystem>,
    /// Until it is published.
    file: Option<Box<dyn FileWrite>>,
    dir: PathBuf,
    temp: PathBuf,
    target: PathBuf,
}

impl fmt::Debug for LocalWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWriter").field("target", &self.target).finish_non_exhaustive()
    }
}

impl ObjectWriter for LocalWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(bytes)
    }

    fn publish(mut self: Box<Self>) -> io::Result<()> {
        let mut file = self.file.take().ok_or(io::ErrorKind::NotFound)?;
        let synced = if canary("skip-file-sync") { file.flush() } else { file.sync() };
        let published = synced.and_then(|()| self.fs.hard_link(&self.temp, &self.target));
        drop(file);
        // Whether or not it worked, the temporary name has served; should it stay, garbage collection removes it.
        let removed = self.fs.remove(&self.temp);
        published?;
        // The object is there, but not yet for ever.
        if !canary("skip-directory-sync") {
            self.fs.sync_dir(&self.dir)?;
        }
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            drop(file);
            // Should it stay, garbage collection removes it.
            drop(self.fs.remove(&self.temp));
        }
    }
}

impl ObjectStore for LocalStore {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let target = self.full(path);
        let put = || {
            let mut writer = Box::new(self.begin(&target)?);
            writer.write(bytes)?;
            writer.publish()
        };
        match put() {
            // Somebody's clean-up took our temporary file for one whose writer is dead.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.durable_dirs().remove(target.parent().unwrap_or(&self.root));
                put()
            }
            made => made,
        }
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(self.begin(&self.full(path))?))
    }

    fn get_range(&self, path: &str, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut file = self.fs.open(&self.full(path))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        // What a damaged index says is not allocated before it is there.
        file.take(len).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != len {
            let message = format!("'{path}' has {} of {len} bytes from {offset} on", bytes.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(bytes)
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

    /// A second name: objects are never changed.
    fn copy_if_absent(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.full(from), self.full(to));
        let dir = to.parent().unwrap_or(&self.root);
        self.ensure_dir(dir)?;
        self.fs.hard_link(&from, &to)?;
        self.fs.sync_dir(dir)
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
