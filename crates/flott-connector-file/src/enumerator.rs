//! Finds files and deals them out.

use crate::config::NameFilter;
use crate::split::FileSplit;
use flott_api::format::{ByteRange, DecodeFormat};
use flott_api::{SplitEnumerator, SplitEnumeratorContext, StartingPosition};
use flott_env::FileSystem;
use flott_types::{Error, Result, SubtaskIndex};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A directory tree deeper than this has a link into itself.
const DIRECTORY_DEPTH_MAX: usize = 64;

/// Which files a source consists of.
#[derive(Clone, Debug)]
pub(crate) struct FileSelection {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) depth: Depth,
    pub(crate) filter: Option<NameFilter>,
}

/// How far directories are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    FilesOnly,
    Recursive,
}

/// A file that belongs to the source.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FoundFile {
    path: String,
    len: u64,
}

/// Hidden files are being written, or tell about others (`_SUCCESS`).
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_')
}

impl FileSelection {
    /// The files that are there now, in order of their names. A path that was named is taken whatever its name is.
    fn list(&self, fs: &dyn FileSystem) -> Result<Vec<FoundFile>> {
        let mut found = Vec::new();
        for path in &self.paths {
            let metadata = fs.metadata(path).map_err(|error| cannot_read(path, error))?;
            if metadata.is_dir {
                self.list_directory(fs, path, 0, &mut found)?;
            } else {
                found.push(FoundFile { path: utf8(path)?, len: metadata.len });
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found.dedup_by(|a, b| a.path == b.path);
        Ok(found)
    }

    fn list_directory(
        &self,
        fs: &dyn FileSystem,
        directory: &Path,
        depth: usize,
        found: &mut Vec<FoundFile>,
    ) -> Result<()> {
        if depth > DIRECTORY_DEPTH_MAX {
            let directory = directory.display();
            return Err(Error::user(format!(
                "directory '{directory}' is nested too deeply: is it a link upwards?"
            )));
        }
        let entries = fs.list_with_metadata(directory).map_err(|error| cannot_read(directory, error))?;
        for (path, metadata) in entries {
            let Some(name) = path.file_name() else { continue };
            let name = name.to_string_lossy();
            if is_hidden(&name) {
                continue;
            }
            if metadata.is_dir {
                if self.depth == Depth::Recursive {
                    self.list_directory(fs, &path, depth + 1, found)?;
                }
            } else if self.filter.as_ref().is_none_or(|filter| filter.matches(&name)) {
                found.push(FoundFile { path: utf8(&path)?, len: metadata.len });
            }
        }
        Ok(())
    }
}

fn cannot_read(path: &Path, error: io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "there is no file or directory",
        _ => "cannot read file or directory",
    };
    Error::user(format!("{what} '{}'", path.display())).with_source(error)
}

/// Paths are part of snapshots, which are text.
fn utf8(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::user(format!("the name of file '{}' is not UTF-8", path.display())))
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct EnumeratorState {
    unassigned: VecDeque<(FileSplit, u64)>,
    /// The files that were assigned, when new ones are looked for. It grows with them: one name a file.
    seen: BTreeSet<String>,
}

/// Deals out files at the start, and new ones as they appear.
///
/// Each goes, in the order of names, to the reader with the fewest bytes so far. All are dealt out at once rather than
/// on request: event time then knows of every file, and does not pass one that nobody has opened.
pub(crate) struct FileEnumerator<T> {
    fs: Arc<dyn FileSystem>,
    selection: FileSelection,
    format: Arc<dyn DecodeFormat<T>>,
    split_bytes: u64,
    discovery_interval: Option<Duration>,
    state: EnumeratorState,
    bytes_assigned: Vec<u64>,
}

/// What [`FileEnumerator::new`] needs.
pub(crate) struct FileEnumeratorConfig<T> {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) selection: FileSelection,
    pub(crate) format: Arc<dyn DecodeFormat<T>>,
    pub(crate) split_bytes: u64,
    pub(crate) discovery_interval: Option<Duration>,
    pub(crate) parallelism: u32,
    pub(crate) start: StartingPosition,
}

impl<T: 'static> FileEnumerator<T> {
    /// An enumerator of the files that are there now, or one that goes on from a snapshot.
    pub(crate) fn new(config: FileEnumeratorConfig<T>, restored: Option<&[u8]>) -> Result<Self> {
        let FileEnumeratorConfig {
            fs,
            selection,
            format,
            split_bytes,
            discovery_interval,
            parallelism,
            start,
        } = config;
        let bytes_assigned = vec![0; parallelism as usize];
        let state = EnumeratorState::default();
        let mut enumerator =
            Self { fs, selection, format, split_bytes, discovery_interval, state, bytes_assigned };
        match (restored, start.splits()?) {
            (Some(bytes), _) => enumerator.state = flott_state::decode("the files of an enumerator", bytes)?,
            (None, None) => enumerator.find_files()?,
            (None, Some(splits)) => enumerator.start_at(splits)?,
        }
        Ok(enumerator)
    }

    /// Queues these splits and no others.
    fn start_at(&mut self, splits: Vec<FileSplit>) -> Result<()> {
        if self.discovery_interval.is_some() {
            return Err(Error::user(
                "a watched directory cannot start at positions, which do not say what was read to its end: restore the source's snapshot, or do not watch",
            ));
        }
        let bytes =
            |split: &FileSplit| split.range().end.map_or(1, |end| end.saturating_sub(split.range().start));
        self.state.unassigned.extend(splits.into_iter().map(|split| {
            let bytes = bytes(&split);
            (split, bytes)
        }));
        Ok(())
    }

    /// Queues the files that were not there before.
    fn find_files(&mut self) -> Result<()> {
        for FoundFile { path, len } in self.selection.list(self.fs.as_ref())? {
            if self.state.seen.contains(&path) {
                continue;
            }
            let ranges = self.format.divide(self.fs.as_ref(), Path::new(&path), len, self.split_bytes)?;
            for range in ranges {
                let bytes = range.end.unwrap_or(len).saturating_sub(range.start);
                self.state.unassigned.push_back((FileSplit::new(path.clone(), range), bytes));
            }
            if self.discovery_interval.is_some() {
                self.state.seen.insert(path);
            }
        }
        Ok(())
    }

    fn assign_all(&mut self, ctx: &mut dyn SplitEnumeratorContext<FileSplit>) {
        for (split, bytes) in self.state.unassigned.drain(..) {
            let least = self.bytes_assigned.iter_mut().enumerate().min_by_key(|(_, assigned)| **assigned);
            let Some((subtask, assigned)) = least else { return };
            // An empty file costs something too: a thousand of them are spread.
            *assigned += bytes.max(1);
            ctx.assign_split(SubtaskIndex(subtask as u32), split);
        }
    }
}

impl<T: 'static> SplitEnumerator<FileSplit> for FileEnumerator<T> {
    fn start(&mut self, ctx: &mut dyn SplitEnumeratorContext<FileSplit>) -> Result<()> {
        self.assign_all(ctx);
        if self.discovery_interval.is_none() {
            (0..ctx.parallelism()).for_each(|subtask| ctx.signal_no_more_splits(SubtaskIndex(subtask)));
        }
        Ok(())
    }

    fn handle_split_request(
        &mut self,
        _: SubtaskIndex,
        ctx: &mut dyn SplitEnumeratorContext<FileSplit>,
    ) -> Result<()> {
        self.assign_all(ctx);
        Ok(())
    }

    fn add_splits_back(&mut self, splits: Vec<FileSplit>, subtask: SubtaskIndex) {
        if let Some(assigned) = self.bytes_assigned.get_mut(subtask.as_usize()) {
            *assigned = 0;
        }
        self.state.unassigned.extend(splits.into_iter().map(|split| {
            let range = split.range();
            let bytes = range.end.map_or(0, |end| end.saturating_sub(range.start));
            (split, bytes)
        }));
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.discovery_interval
    }

    fn discover(&mut self, ctx: &mut dyn SplitEnumeratorContext<FileSplit>) -> Result<()> {
        self.find_files()?;
        self.assign_all(ctx);
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        flott_state::encode("the files of an enumerator", &self.state)
    }
}

/// The ranges of a file whose records are found by the next newline.
pub(crate) fn divide_by_lines(len: u64, range_bytes: u64) -> Vec<ByteRange> {
    let n_ranges = len.div_ceil(range_bytes.max(1)).max(1);
    let bound = |idx: u64| (u128::from(len) * u128::from(idx) / u128::from(n_ranges)) as u64;
    (0..n_ranges)
        .map(|idx| {
            // The last range takes what was appended since the file was listed.
            let end = (idx + 1 < n_ranges).then(|| bound(idx + 1));
            ByteRange { start: bound(idx), end }
        })
        .collect()
}
