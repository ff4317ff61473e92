//! Which file is which: the files that are there, matched with those that are known.

use super::names::{Kind, Names};
use super::split::{PREFIX_BYTES_MAX, Prefix, TailSplit, TailedFile};
use flott_env::{FileSystem, ReadSeek};
use flott_types::{Error, ErrorKind, Result};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A file that is there.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) id: (u64, u64),
    pub(super) len: u64,
    pub(super) kind: Kind,
    modified_ms: i64,
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Retry, format!("cannot {what} '{}'", path.display())).with_source(error)
}

/// What `look` says, or `None` if the file has gone meanwhile.
fn unless_gone<T>(path: &Path, look: io::Result<T>) -> Result<Option<T>> {
    match look {
        Ok(seen) => Ok(Some(seen)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("look at", path, error)),
    }
}

/// The files of a pattern, oldest first.
pub(super) fn find(fs: &dyn FileSystem, directory: &Path, names: &Names) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in fs.list(directory).map_err(|error| cannot("list", directory, error))? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        let Some(kind) = names.kind(&name) else { continue };
        let Some(metadata) = unless_gone(&path, fs.metadata(&path))? else { continue };
        let Some(id) = unless_gone(&path, fs.file_id(&path))? else { continue };
        if !metadata.is_dir {
            let id = (id.device, id.inode);
            found.push(Found { path, name, id, len: metadata.len, kind, modified_ms: metadata.modified_ms });
        }
    }
    // `app.log.2` is older than `app.log.1`.
    found.sort_by(|a, b| (a.kind, a.modified_ms, &b.name).cmp(&(b.kind, b.modified_ms, &a.name)));
    // A file that was renamed between two entries of the list is in it twice.
    let ids: Vec<_> = found.iter().map(|file| file.id).collect();
    let mut idx = 0;
    found.retain(|file| {
        idx += 1;
        !ids.get(idx..).unwrap_or_default().contains(&file.id)
    });
    Ok(found)
}

/// A file that is open, with its first bytes.
pub(super) struct Opened {
    pub(super) file: Box<dyn ReadSeek>,
    pub(super) head: Vec<u8>,
}

/// Opens a file that was found, unless there is another one of its name by now.
pub(super) fn open(fs: &dyn FileSystem, found: &Found) -> Result<Option<Opened>> {
    let path = &found.path;
    let Some(mut file) = unless_gone(path, fs.open(path))? else { return Ok(None) };
    let Some(id) = unless_gone(path, fs.file_id(path))? else { return Ok(None) };
    if (id.device, id.inode) != found.id {
        return Ok(None);
    }
    let mut head = Vec::new();
    let read = file.by_ref().take(PREFIX_BYTES_MAX as u64).read_to_end(&mut head);
    read.map_err(|error| cannot("read", path, error))?;
    Ok(Some(Opened { file, head }))
}

/// What has become of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is gone, and so many bytes of it were not read.
    Removed { name: String, n_unread: u64 },
    /// It was begun anew, and what it had behind this offset is nowhere.
    Truncated { name: String, offset: u64 },
}

impl TailSplit {
    /// Takes note of what was found: new names, new files, files that are gone or were begun anew. Files that were not there for
    /// `looks_max` looks are gone; this one counts for `n_looks`.
    pub(super) fn follow(
        &mut self,
        fs: &dyn FileSystem,
        found: &[Found],
        n_looks: u32,
        looks_max: u32,
    ) -> Result<Vec<Lost>> {
        let mut lost = Vec::new();
        for file in &mut self.files {
            match found.iter().find(|found| found.id == file.id) {
                Some(found) => {
                    let is_changed = found.len != file.seen_len || found.name != file.name;
                    file.n_idle = if is_changed { 0 } else { file.n_idle.saturating_add(n_looks) };
                    (file.n_missing, file.seen_len) = (0, found.len);
                    file.name.clone_from(&found.name);
                }
                None => file.n_missing = file.n_missing.saturating_add(n_looks),
            }
        }
        self.files.retain(|file| {
            let is_gone = file.n_missing >= looks_max;
            if is_gone && file.seen_len > file.offset {
                lost.push(Lost::Removed { name: file.name.clone(), n_unread: file.seen_len - file.offset });
            }
            !is_gone
        });
        let heads = found.iter().map(|found| Ok(open(fs, found)?.map(|opened| opened.head)));
        let heads = heads.collect::<Result<Vec<_>>>()?;
        let there = || found.iter().zip(&heads).filter_map(|(found, head)| Some((found, head.as_deref()?)));
        for (found, head) in there() {
            self.look_at(fs, found, head, &mut lost)?;
        }
        for (found, head) in there() {
            let is_new = self.files.iter().all(|file| file.id != found.id);
            // A copy of a file that is there is not read a second time; it is taken when that one is truncated.
            let is_copy_of = |(other, other_head): (&Found, &[u8])| {
                other.id != found.id && other.len >= found.len && other_head.starts_with(head)
            };
            if is_new && (found.kind == Kind::Live || !there().any(is_copy_of)) {
                let mut file = TailedFile::new(found.id, found.name.clone());
                file.seen_len = found.len;
                self.files.push(file);
            }
        }
        Ok(lost)
    }

    /// Looks whether a file that is known is as it was, as far as it was read.
    fn look_at(
        &mut self,
        fs: &dyn FileSystem,
        found: &Found,
        head: &[u8],
        lost: &mut Vec<Lost>,
    ) -> Result<()> {
        let Some(file) = self.files.iter_mut().find(|file| file.id == found.id) else { return Ok(()) };
        if found.len >= file.offset && file.prefix.is_of(head) {
            return Ok(());
        }
        // Truncated, and perhaps written to again; or another file with the number of one that was removed.
        let before = std::mem::replace(file, TailedFile::new(found.id, found.name.clone()));
        file.seen_len = found.len;
        match self.copy_of(fs, &before)? {
            Some(copy) => self.files.push(copy),
            None => lost.push(Lost::Truncated { name: before.name, offset: before.offset }),
        }
        Ok(())
    }

    /// A file that nobody knows, and that begins like `file` and is as long at least.
    fn copy_of(&self, fs: &dyn FileSystem, file: &TailedFile) -> Result<Option<TailedFile>> {
        if file.prefix.is_empty() {
            // Nothing was read of it, so whatever copy there is is read as a file of its own.
            return Ok(None);
        }
        for found in find(fs, Path::new(&self.directory), &Names::new(&self.glob)?)? {
            let is_new = self.files.iter().all(|known| known.id != found.id);
            if is_new
                && found.kind == Kind::Rotated
                && found.len >= file.offset
                && let Some(opened) = open(fs, &found)?
                && file.prefix.is_of(&opened.head)
            {
                let copy = TailedFile { id: found.id, name: found.name, seen_len: found.len, ..file.clone() };
                return Ok(Some(copy));
            }
        }
        Ok(None)
    }

    /// `head` is what the file begins with.
    pub(super) fn advance(file: &mut TailedFile, offset: u64, head: &[u8]) {
        file.offset = offset;
        file.prefix = Prefix::of(head, offset);
        file.n_idle = 0;
    }
}
