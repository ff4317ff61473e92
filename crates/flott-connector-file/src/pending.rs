//! Files that are complete and on disk, and need only their names.
//!
//! Until it is committed a file is in the subdirectory `.flott` of the sink's directory, whatever its partition: so a restart finds what
//! earlier attempts left by listing one directory, and a checkpoint syncs one. Its name there says whose it is and how old:
//! `<final name>.<sink>-<subtask>-<mark>-<history>-<generation>`, where the mark is the last checkpoint whose barrier came before the file was begun.
//! Files never span a barrier, so a file belongs to a checkpoint `c` or an earlier one exactly if its mark is less than `c`. History and generation
//! are those of [`SinkGeneration`](flott_api::SinkGeneration), and are missing if the job has none.

use crate::directory::{cannot, create_durably_below};
use crate::files::files;
use flott_api::{SinkContext, SinkGeneration};
use flott_env::FileSystem;
use flott_types::{CheckpointId, Error, ErrorKind, Result, SubtaskIndex, key_hash};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The subdirectory of files without names.
pub(crate) const STAGING: &str = ".flott";

/// Directories that are known to be durable; beyond that they are synced again.
const KNOWN_DIRECTORIES_MAX: usize = 10_000;

/// Who a sink is, in the names of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SinkKey {
    /// The same after restarts.
    pub(crate) sink: u64,
    /// Another in each attempt, of whatever job: nobody else ever writes files with these names, a writer that is believed dead included.
    pub(crate) run: u64,
    /// The same for all subtasks from one start of the whole job to the next.
    pub(crate) execution: u64,
    generation: Option<SinkGeneration>,
}

/// Whose a hidden file is.
struct HiddenOwner {
    subtask: u32,
    mark: CheckpointId,
    /// The history and the generation.
    generation: Option<(u128, u64)>,
}

impl SinkKey {
    pub(crate) fn new(ctx: &SinkContext) -> Self {
        let (job, uid) = (ctx.job_id.0, ctx.uid.0.as_str());
        let of = |number: u64| key_hash(&(number, job, uid));
        Self {
            sink: key_hash(&(job, uid)),
            run: of(ctx.run_id),
            execution: of(ctx.execution_id),
            generation: ctx.generation,
        }
    }

    pub(crate) fn hidden_name(self, name: &str, subtask: SubtaskIndex, mark: CheckpointId) -> String {
        let generation = self.generation.map(|of| format!("-{:032x}-{}", of.history, of.subtask));
        format!("{name}.{:016x}-{}-{}{}", self.sink, subtask.0, mark.0, generation.unwrap_or_default())
    }

    /// Whose a file is, if it is of this sink.
    fn parse(self, hidden_name: &str) -> Option<HiddenOwner> {
        let (_, owner) = hidden_name.rsplit_once('.')?;
        let mut parts = owner.split('-');
        if parts.next()? != format!("{:016x}", self.sink) {
            return None;
        }
        let (subtask, mark) = (parts.next()?.parse().ok()?, CheckpointId(parts.next()?.parse().ok()?));
        let generation = match (parts.next(), parts.next()) {
            (Some(history), Some(number)) => {
                Some((u128::from_str_radix(history, 16).ok()?, number.parse().ok()?))
            }
            _ => None,
        };
        Some(HiddenOwner { subtask, mark, generation })
    }

    /// Whether a file is of a later attempt, to which this one, which was believed dead and wakes up, would do harm.
    fn is_older_than(self, owner: &HiddenOwner) -> bool {
        let (Some(mine), Some((history, generation))) = (self.generation, owner.generation) else {
            return false;
        };
        mine.history == history && mine.subtask < generation
    }

    /// The file in which a subtask says how far it has committed; see `partition_commit`.
    pub(crate) fn progress_name(self, subtask: u32) -> String {
        format!("progress.{:016x}-{subtask}", self.sink)
    }
}

/// A file that can be committed by anybody at any later time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingFile {
    /// The sink's directory.
    pub(crate) base: PathBuf,
    /// The relative path of the partition; empty for none.
    pub(crate) partition: String,
    /// Its name once it is committed.
    pub(crate) name: String,
    /// Its name until then, in the subdirectory of files without names.
    pub(crate) hidden_name: String,
    pub(crate) len: u64,
}

impl PendingFile {
    pub(crate) fn hidden(&self) -> PathBuf {
        self.base.join(STAGING).join(&self.hidden_name)
    }

    fn directory(&self) -> PathBuf {
        self.base.join(&self.partition)
    }

    pub(crate) fn complete(&self) -> PathBuf {
        self.directory().join(&self.name)
    }

    fn check_len(&self, path: &Path, len: u64) -> Result<()> {
        if len == self.len {
            return Ok(());
        }
        let message = format!(
            "file '{}' has {len} bytes instead of the {} that were written: somebody has changed it",
            path.display(),
            self.len
        );
        Err(Error::new(ErrorKind::Corruption, message))
    }

    #[cold]
    pub(crate) fn lost(&self) -> Error {
        Error::new(
            ErrorKind::Corruption,
            format!(
                "file '{}' is lost: it is neither there nor, waiting to be committed, at '{}'; if a reader has moved it after it was \
                 committed, put it back until the next checkpoint is complete",
                self.complete().display(),
                self.hidden().display()
            ),
        )
    }
}

/// Gives files their names.
pub(crate) struct Publisher {
    fs: Arc<dyn FileSystem>,
    known_directories: BTreeSet<PathBuf>,
}

impl Publisher {
    pub(crate) fn new(ctx: &SinkContext) -> Self {
        Self { fs: files(&ctx.env), known_directories: BTreeSet::new() }
    }

    /// When this returns, all files have their names and survive a power failure. Files that have them already stay as they are.
    ///
    /// A hard link and not a renaming: it never replaces a file, and at no time, not even after a power failure on a file system without a
    /// journal, is a file under neither of its names.
    pub(crate) fn publish<'a>(&mut self, files: impl Iterator<Item = &'a PendingFile> + Clone) -> Result<()> {
        let fs = self.fs.as_ref();
        for file in files.clone() {
            let directory = file.directory();
            if !self.known_directories.contains(&directory) {
                create_durably_below(fs, &file.base, &directory)?;
                if self.known_directories.len() >= KNOWN_DIRECTORIES_MAX {
                    self.known_directories.clear();
                }
                self.known_directories.insert(directory);
            }
            publish_one(fs, file)?;
        }
        let directories: BTreeSet<PathBuf> = files.clone().map(PendingFile::directory).collect();
        for directory in &directories {
            fs.sync_dir(directory).map_err(|error| cannot("sync directory", directory, error))?;
        }
        remove_hidden(fs, files)
    }
}

/// Removes hidden files whose content has another name, durably: else a hidden name could come back when nobody knows any more that the file has
/// another. Also if this call has removed none: an earlier one may have, and failed.
pub(crate) fn remove_hidden<'a>(
    fs: &dyn FileSystem,
    files: impl Iterator<Item = &'a PendingFile> + Clone,
) -> Result<()> {
    for hidden in files.clone().map(PendingFile::hidden) {
        match fs.remove(&hidden) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(|error| cannot("remove file", &hidden, error))?,
        }
    }
    let staging: BTreeSet<PathBuf> = files.map(|file| file.base.join(STAGING)).collect();
    staging.iter().try_for_each(|path| match fs.sync_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced.map_err(|error| cannot("sync directory", path, error)),
    })
}

pub(crate) fn exists(fs: &dyn FileSystem, path: &Path) -> Result<bool> {
    len_of(fs, path).map(|len| len.is_some())
}

/// The file with the length that it has under its name, if it has that already.
pub(crate) fn named(fs: &dyn FileSystem, file: &PendingFile) -> Result<Option<PendingFile>> {
    Ok(len_of(fs, &file.complete())?.map(|len| PendingFile { len, ..file.clone() }))
}

fn len_of(fs: &dyn FileSystem, path: &Path) -> Result<Option<u64>> {
    match fs.metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("look for file", path, error)),
    }
}

fn publish_one(fs: &dyn FileSystem, file: &PendingFile) -> Result<()> {
    let (hidden, complete) = (file.hidden(), file.complete());
    if let Some(len) = len_of(fs, &complete)? {
        return file.check_len(&complete, len);
    }
    match len_of(fs, &hidden)? {
        Some(len) => file.check_len(&hidden, len)?,
        // Somebody else may have been faster: an attempt that is believed dead may commit what is committed.
        None if len_of(fs, &complete)?.is_some() => return Ok(()),
        None => return Err(file.lost()),
    }
    let linked = match fs.hard_link(&hidden, &complete) {
        // There are file systems without links. Nobody else has this name, so nothing is replaced.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) =>
        {
            fs.rename(&hidden, &complete)
        }
        linked => linked,
    };
    match linked {
        Ok(()) => Ok(()),
        Err(_) if len_of(fs, &complete)?.is_some() => Ok(()),
        Err(error) => Err(cannot("give its name to file", &complete, error)),
    }
}

/// Removes files that subtasks which this one stands for have left in earlier attempts and that belong to no checkpoint up to `restored`.
/// Those of checkpoints before are not touched: they are committed, or going to be.
///
/// When this returns they are gone durably: one that came back with a power failure behind the next checkpoint would look as if that had it, and stay.
/// Also if this call has removed none: an earlier one may have, and died.
pub(crate) fn remove_leftovers(
    fs: &dyn FileSystem,
    base: &Path,
    ctx: &SinkContext,
    restored: Option<CheckpointId>,
) -> Result<()> {
    let staging = base.join(STAGING);
    let listed = match fs.list(&staging) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(|error| cannot("list directory", &staging, error))?,
    };
    let key = SinkKey::new(ctx);
    let from = restored.unwrap_or(CheckpointId(0));
    for path in listed {
        let owner = path.file_name().and_then(|name| name.to_str()).and_then(|name| key.parse(name));
        let Some(owner) = owner else { continue };
        let is_mine = owner.subtask % ctx.parallelism == ctx.subtask.0 && !key.is_older_than(&owner);
        if is_mine && owner.mark >= from {
            match fs.remove(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|error| cannot("remove file", &path, error))?,
            }
        }
    }
    fs.sync_dir(&staging).map_err(|error| cannot("sync directory", &staging, error))
}
