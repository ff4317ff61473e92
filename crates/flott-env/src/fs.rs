//! Files, as far as the engine and its connectors need them: real, or in memory for the simulation.

pub(crate) mod memory;

use std::any::Any;
use std::fmt;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

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

/// Which file it is, whatever it is called. A file that is created may get the number of one that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// The disk that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
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
    /// The entries of a directory, sorted by name, with what is known of each. Entries that go away meanwhile are left out.
    fn list_with_metadata(&self, path: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
        let mut found = Vec::new();
        for entry in self.list(path)? {
            match self.metadata(&entry) {
                Ok(metadata) => found.push((entry, metadata)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
    /// Creates a directory and its parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory survive a power failure.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives an existing file a second name; fails with [`io::ErrorKind::AlreadyExists`] if there is anything of that name. With a file written
    /// and synced under a temporary name before, this publishes it whole, and at most once.
    fn hard_link(&self, existing: &Path, link: &Path) -> io::Result<()> {
        let _unused = (existing, link);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Which file has this name now.
    fn file_id(&self, path: &Path) -> io::Result<FileId> {
        let _unused = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Takes the lock of a file, which is created if need be; `None` if somebody holds it, in this process or another.
    fn try_lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        let _unused = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a directory; fails with [`io::ErrorKind::DirectoryNotEmpty`] if there is anything in it.
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let _unused = path;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A lock that is held until this is dropped, or the process ends, however it ends.
pub type FileLock = Box<dyn Any + Send + Sync>;

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
    fn hard_link(&self, existing: &Path, link: &Path) -> io::Result<()> {
        std::fs::hard_link(existing, link)
    }
    #[cfg(unix)]
    fn file_id(&self, path: &Path) -> io::Result<FileId> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path)?;
        Ok(FileId { device: metadata.dev(), inode: metadata.ino() })
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        let file = std::fs::File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }
}

#[cfg(test)]
mod tests;
