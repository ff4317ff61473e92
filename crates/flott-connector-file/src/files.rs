//! Files by path: of this machine, and objects below `s3:`, `gs:` or `abfs:` URIs, which are files to the rest of this crate.
//!
//! An object is made whole, when its file is synced, and never changed. A second name for it is a copy that the store makes; a directory is there
//! when there is something in it.

use flott_checkpoint::{Location, ObjectStore, ObjectWriter, RemoteLocation};
use flott_env::{Env, FileLock, FileSystem, FileWrite, Metadata, ReadSeek};
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is read of an object at once. A reader has up to 64 files open, so this is not more.
const READ_AHEAD_BYTES: u64 = 1 << 20;
/// The first request of a file is for less: an index at its end, or the first line, is often all.
const FIRST_READ_BYTES: u64 = 128 << 10;

/// The files that `env` has, wherever they are.
pub(crate) fn files(env: &Env) -> Arc<dyn FileSystem> {
    Arc::new(Files { local: env.fs(), env: env.clone() })
}

fn remote(path: &Path) -> Option<RemoteLocation> {
    match Location::parse(path.to_str().filter(|text| text.contains("://"))?) {
        Ok(Location::Remote(remote)) => Some(remote),
        Ok(Location::Local(_)) | Err(_) => None,
    }
}

/// Whether a path is one in an object store.
pub(crate) fn is_remote(path: &Path) -> bool {
    remote(path).is_some()
}

/// The keys of two objects of one bucket.
type TwoObjects = (Arc<dyn ObjectStore>, String, String);

#[derive(Clone)]
struct Files {
    local: Arc<dyn FileSystem>,
    env: Env,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Files {
    /// The bucket and the key of a path, if it is one of an object.
    fn object(&self, path: &Path) -> io::Result<Option<(Arc<dyn ObjectStore>, String)>> {
        let Some(RemoteLocation { scheme, authority, path }) = remote(path) else { return Ok(None) };
        let bucket = Location::Remote(RemoteLocation { scheme, authority, path: String::new() });
        let store = bucket.open(&self.env).map_err(|error| io::Error::other(error.report()))?;
        Ok(Some((store, path)))
    }

    fn both(&self, from: &Path, to: &Path) -> io::Result<Option<TwoObjects>> {
        match (remote(from), remote(to)) {
            (Some(a), Some(b)) if (&a.scheme, &a.authority) == (&b.scheme, &b.authority) => {
                Ok(self.object(from)?.map(|(store, from)| (store, from, b.path)))
            }
            (None, None) => Ok(None),
            _ => {
                Err(io::Error::new(io::ErrorKind::CrossesDevices, "from one store to another nothing moves"))
            }
        }
    }
}

impl FileSystem for Files {
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>> {
        let Some((store, key)) = self.object(path)? else { return self.local.open(path) };
        let len = store.metadata(&key)?.len;
        Ok(Box::new(ObjectReader { store, key, len, at: 0, ahead: Vec::new(), ahead_at: 0, has_read: false }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FileWrite>> {
        let Some((store, key)) = self.object(path)? else { return self.local.create(path) };
        // What is created replaces what was there.
        store.delete(&key)?;
        Ok(Box::new(ObjectFile { object: Some(store.create(&key)?) }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let Some((store, key)) = self.object(path)? else { return self.local.metadata(path) };
        let directory = || Metadata { len: 0, is_dir: true, modified_ms: 0 };
        if key.is_empty() {
            return Ok(directory());
        }
        match store.metadata(&key) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match store.list(&key)?.is_empty() {
                true => Err(error),
                false => Ok(directory()),
            },
            known => known,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let Some((store, key)) = self.object(path)? else { return self.local.list(path) };
        Ok(store.list(&key)?.into_iter().map(|name| path.join(name)).collect())
    }

    fn list_with_metadata(&self, path: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
        let Some((store, key)) = self.object(path)? else { return self.local.list_with_metadata(path) };
        let listed = store.list_with_metadata(&key)?;
        Ok(listed.into_iter().map(|(name, metadata)| (path.join(name), metadata)).collect())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if is_remote(path) { Ok(()) } else { self.local.create_dir_all(path) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some((store, from, to)) = self.both(from, to)? else { return self.local.rename(from, to) };
        store.delete(&to)?;
        store.copy_if_absent(&from, &to)?;
        store.delete(&from)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.object(path)? {
            Some((store, key)) => store.delete(&key),
            None => self.local.remove(path),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.object(path)? {
            Some((store, key)) => store.sync(&key),
            None => self.local.sync_dir(path),
        }
    }

    fn hard_link(&self, existing: &Path, link: &Path) -> io::Result<()> {
        match self.both(existing, link)? {
            Some((store, existing, link)) => store.copy_if_absent(&existing, &link),
            None => self.local.hard_link(existing, link),
        }
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        if is_remote(path) { Err(io::ErrorKind::Unsupported.into()) } else { self.local.try_lock(path) }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if is_remote(path) { Ok(()) } else { self.local.remove_dir(path) }
    }
}

/// An object that comes to be when it is synced.
struct ObjectFile {
    object: Option<Box<dyn ObjectWriter>>,
}

impl Write for ObjectFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let finished = || io::Error::other("an object is not changed once it is there");
        self.object.as_mut().ok_or_else(finished)?.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileWrite for ObjectFile {
    fn sync(&mut self) -> io::Result<()> {
        self.object.take().map_or(Ok(()), ObjectWriter::publish)
    }
}

/// Reads an object in ranges.
struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    key: String,
    len: u64,
    at: u64,
    ahead: Vec<u8>,
    /// Where `ahead` begins.
    ahead_at: u64,
    has_read: bool,
}

impl ObjectReader {
    /// What was read ahead of the position.
    fn rest(&self) -> &[u8] {
        let skipped = self.at.checked_sub(self.ahead_at).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.ahead.get(skipped..)).unwrap_or_default()
    }
}

impl Read for ObjectReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.len || out.is_empty() {
            return Ok(0);
        }
        if self.rest().is_empty() {
            let wanted = if self.has_read { READ_AHEAD_BYTES } else { FIRST_READ_BYTES };
            let n = wanted.max(out.len() as u64).min(self.len - self.at);
            self.ahead = self.store.get_range(&self.key, self.at, n)?;
            (self.ahead_at, self.has_read) = (self.at, true);
        }
        let n = Read::read(&mut self.rest(), out)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a seek before the start"))?;
        Ok(self.at)
    }
}
