//! Files, as far as the engine and its connectors need them: real, or in memory for the simulation.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A file open for reading.
pub trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// A file open for writing.
pub trait FileWrite: Write + Send {
    /// Makes what was written so far survive a power failure.
    ///
    /// # Errors
    /// Whatever the disk says; after an error nothing is known about the file.
    fn sync(&mut self) -> io::Result<()>;
}

/// What is known about a path without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Bytes in the file; 0 for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Milliseconds since the epoch at which the file was last written; 0 where unknown.
    pub modified_ms: i64,
}

/// Files and directories. All methods fail as their namesakes in `std::fs` do.
#[expect(clippy::missing_errors_doc, reason = "one sentence above for all of them")]
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// Opens an existing file.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>>;
    /// Creates a file, or truncates an existing one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWrite>>;
    /// What `path` is.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
    /// The entries of a directory, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Creates a directory and its parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory survive a power failure.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

#[derive(Debug)]
pub(crate) struct RealFs;

impl FileWrite for io::BufWriter<std::fs::File> {
    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.get_ref().sync_all()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the seam that everybody else goes through")]
impl FileSystem for RealFs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(std::fs::File::open(path)?))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWrite>> {
        Ok(Box::new(io::BufWriter::new(std::fs::File::create(path)?)))
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let metadata = std::fs::metadata(path)?;
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(Metadata {
            len: if metadata.is_dir() { 0 } else { metadata.len() },
            is_dir: metadata.is_dir(),
            modified_ms: modified.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0),
        })
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }
}

/// Files in memory: the simulation's disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryFs {
    entries: Arc<Mutex<BTreeMap<PathBuf, Option<Vec<u8>>>>>,
}

impl MemoryFs {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<PathBuf, Option<Vec<u8>>>) -> T) -> T {
        f(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn missing(path: &Path) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, format!("no such file: {}", path.display()))
    }
}

struct MemoryFile {
    fs: MemoryFs,
    path: PathBuf,
}

impl Write for MemoryFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.fs.with(|entries| {
            entries
                .entry(self.path.clone())
                .or_insert_with(|| Some(Vec::new()))
                .get_or_insert_default()
                .extend(buf);
        });
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileWrite for MemoryFile {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileSystem for MemoryFs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>> {
        let content = self.with(|entries| entries.get(path).cloned().flatten());
        content
            .map(|bytes| Box::new(io::Cursor::new(bytes)) as Box<dyn ReadSeek>)
            .ok_or_else(|| Self::missing(path))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWrite>> {
        self.with(|entries| entries.insert(path.to_owned(), Some(Vec::new())));
        Ok(Box::new(MemoryFile { fs: self.clone(), path: path.to_owned() }))
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.with(|entries| match entries.get(path) {
            Some(Some(bytes)) => Ok(Metadata { len: bytes.len() as u64, is_dir: false, modified_ms: 0 }),
            Some(None) => Ok(Metadata { len: 0, is_dir: true, modified_ms: 0 }),
            None => Err(Self::missing(path)),
        })
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        if !self.metadata(path)?.is_dir {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("not a directory: {}", path.display()),
            ));
        }
        Ok(self
            .with(|entries| entries.keys().filter(|entry| entry.parent() == Some(path)).cloned().collect()))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.with(|entries| {
            for ancestor in path.ancestors() {
                entries.entry(ancestor.to_owned()).or_insert(None);
            }
        });
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|entries| {
            let content = entries.remove(from).ok_or_else(|| Self::missing(from))?;
            entries.insert(to.to_owned(), content);
            Ok(())
        })
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.with(|entries| entries.remove(path)).map(|_| ()).ok_or_else(|| Self::missing(path))
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}
