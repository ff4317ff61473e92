//! The log: records one behind the other in files, none of which is written to after another has begun.
//!
//! An append is durable when it returns. Opening the log finds what was appended, without what a crash has cut off at the end; and writes the last
//! file anew, so that what is read from then on is durable, too: otherwise a checkpoint could be past records that the next power failure takes away,
//! and their numbers would be given a second time.
//!
//! A request with a key is in the log with all its records or not at all: what a crash has cut short is taken away when the log is opened. Each file begins with the keys that are known,
//! so that the older ones can go.

pub(crate) mod reader;
mod segment;

use crate::keys::{KeyEntry, KeyLimits, Keys};
use flott_env::{FileLock, FileSystem, FileWrite};
use flott_types::{Error, ErrorKind, Result};
use segment::{
    EntryKind, HEADER_BYTES, Place, RECORD_HEADER_BYTES, SegmentReader, decode_key, encode_header,
    encode_key, encode_record,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

/// What writer and reader share.
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) directory: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// In order; the last may be written to.
    pub(crate) segments: Vec<Segment>,
    /// The number of the first record that is not durable.
    pub(crate) end: u64,
    /// Why nothing is appended any more.
    pub(crate) failed: Option<String>,
    /// Who waits for records.
    pub(crate) waker: Option<Waker>,
    pub(crate) keys: Keys,
}

/// What is appended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry<'a> {
    Record(&'a [u8]),
    /// The key of a request, whose records follow.
    Key(&'a KeyEntry),
}

impl<'a> From<&'a [u8]> for Entry<'a> {
    fn from(record: &'a [u8]) -> Self {
        Self::Record(record)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The number of its first record.
    pub(crate) base: u64,
    pub(crate) n_bytes: u64,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn path(&self, base: u64) -> PathBuf {
        self.directory.join(format!("{base:020}{SUFFIX}"))
    }

    pub(crate) fn n_bytes(&self) -> u64 {
        self.state().segments.iter().map(|segment| segment.n_bytes).sum()
    }

    /// Deletes files that have no record from `position` on.
    pub(crate) fn delete_before(&self, position: u64) -> io::Result<()> {
        loop {
            let mut state = self.state();
            let (Some(oldest), Some(next)) = (state.segments.first().copied(), state.segments.get(1)) else {
                return Ok(());
            };
            if next.base > position {
                return Ok(());
            }
            match self.fs.remove(&self.path(oldest.base)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => drop(state.segments.remove(0)),
            }
            drop(state);
            // Else an older file may come back after a power failure, and a newer one not.
            self.fs.sync_dir(&self.directory)?;
        }
    }
}

const SUFFIX: &str = ".log";
const UNFINISHED: &str = "unfinished.tmp";
const LOCK: &str = "lock";

/// The writer.
pub(crate) struct Log {
    shared: Arc<Shared>,
    segment_bytes: u64,
    /// The file that is written to, if one was begun since the log was opened.
    file: Option<Box<dyn FileWrite>>,
    buffer: Vec<u8>,
    /// Bytes at the start of the file that are no entries of its own.
    carried_bytes: u64,
    key_limits: KeyLimits,
    _lock: FileLock,
}

/// A directory is an entry of its parent, and so on up: each may have been made a moment ago, by an attempt that died before it synced them.
fn create_durably(fs: &dyn FileSystem, directory: &Path) -> io::Result<()> {
    fs.create_dir_all(directory)?;
    for parent in directory.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match fs.sync_dir(parent) {
            // What this process may not open it has not made.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Retry, format!("cannot {what} '{}', the log of an HTTP source", path.display()))
        .with_source(error)
}

impl Log {
    /// Opens the log in `directory`, or begins it there; `None` if somebody else has it.
    pub(crate) fn open(
        fs: Arc<dyn FileSystem>,
        directory: &Path,
        segment_bytes: u64,
    ) -> Result<Option<Self>> {
        create_durably(fs.as_ref(), directory).map_err(|error| failed("make", directory, error))?;
        let lock = fs.try_lock(&directory.join(LOCK)).map_err(|error| failed("lock", directory, error))?;
        let Some(lock) = lock else { return Ok(None) };
        let shared = Shared { fs, directory: directory.to_owned(), state: Mutex::default() };
        let state = recover(&shared)?;
        *shared.state() = state;
        Ok(Some(Self {
            shared: Arc::new(shared),
            segment_bytes,
            file: None,
            buffer: Vec::new(),
            carried_bytes: 0,
            key_limits: KeyLimits { n_max: usize::MAX, retention: Duration::MAX },
            _lock: lock,
        }))
    }

    /// Forgets keys beyond these limits, from the next one on; by default none.
    pub(crate) fn with_key_limits(self, key_limits: KeyLimits) -> Self {
        Self { key_limits, ..self }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Appends records and keys. They are durable when this returns; after an error nobody knows, and nothing can be appended any more.
    pub(crate) fn append<'a, E: Into<Entry<'a>>>(
        &mut self,
        entries: impl IntoIterator<Item = E>,
    ) -> io::Result<()> {
        let (mut end, mut segments) = {
            let state = self.shared.state();
            if let Some(why) = &state.failed {
                return Err(io::Error::other(why.clone()));
            }
            (state.end, state.segments.clone())
        };
        let mut keys = Vec::new();
        let entries = entries.into_iter().map(|entry| {
            let entry = entry.into();
            if let Entry::Key(key) = entry {
                keys.push(key.clone());
            }
            entry
        });
        let appended = self.append_to(&mut segments, &mut end, entries);
        let mut state = self.shared.state();
        match &appended {
            Ok(()) => {
                keys.into_iter().for_each(|key| state.keys.insert(key, &self.key_limits));
                // The reader may have deleted what it has read.
                let oldest = state.segments.first().map_or(0, |segment| segment.base);
                segments.retain(|segment| segment.base >= oldest);
                (state.segments, state.end) = (segments, end);
            }
            Err(error) => state.failed = Some(error.to_string()),
        }
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        appended
    }

    fn append_to<'a>(
        &mut self,
        segments: &mut Vec<Segment>,
        end: &mut u64,
        entries: impl IntoIterator<Item = Entry<'a>>,
    ) -> io::Result<()> {
        self.buffer.clear();
        let bytes_max = self.segment_bytes.saturating_add(self.carried_bytes);
        let is_full = segments.last().is_none_or(|segment| segment.n_bytes >= bytes_max);
        let is_new = is_full || self.file.is_none();
        if is_new {
            self.file = Some(self.shared.fs.create(&self.shared.path(*end))?);
            segments.push(Segment { base: *end, n_bytes: 0 });
            encode_header(*end, &mut self.buffer);
            let n_before = self.buffer.len();
            for key in self.shared.state().keys.known() {
                encode_key(*end, key, Place::Earlier, &mut self.buffer)?;
            }
            self.carried_bytes = (self.buffer.len() - n_before) as u64;
        }
        for entry in entries {
            match entry {
                Entry::Key(key) => encode_key(*end, key, Place::Here, &mut self.buffer)?,
                Entry::Record(record) => {
                    encode_record(*end, record, &mut self.buffer)?;
                    *end += 1;
                }
            }
        }
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("no file was begun"))?;
        file.write_all(&self.buffer)?;
        file.sync()?;
        if is_new {
            self.shared.fs.sync_dir(&self.shared.directory)?;
        }
        if let Some(segment) = segments.last_mut() {
            segment.n_bytes += self.buffer.len() as u64;
        }
        Ok(())
    }
}

/// All records of a log that no source uses: those that were acknowledged and not deleted, and perhaps some that were not acknowledged.
///
/// # Errors
/// If the log cannot be read, is in use, or is damaged before its end.
pub fn read_log(fs: Arc<dyn FileSystem>, directory: &Path) -> Result<Vec<Vec<u8>>> {
    let log = Log::open(fs, directory, u64::MAX)?.ok_or_else(|| {
        Error::new(ErrorKind::Retry, format!("the log in '{}' is in use", directory.display()))
    })?;
    let mut reader = reader::LogReader::new(Arc::clone(&log.shared), None)?;
    let mut records = Vec::new();
    while reader.is_ready(&mut Context::from_waker(Waker::noop()))? {
        reader.read(usize::MAX, |_, record| records.push(record.to_vec()))?;
    }
    Ok(records)
}

/// How many bytes of the log records of these sizes take.
pub(crate) fn bytes_of_records<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    records.into_iter().map(|record| (record.len() + RECORD_HEADER_BYTES) as u64).sum()
}

/// The number of the oldest record of a log, whoever has it now, or of the first that is going to be there.
pub(crate) fn oldest(fs: &dyn FileSystem, directory: &Path) -> Result<u64> {
    match fs.list(directory) {
        Ok(paths) => Ok(paths.iter().filter_map(|path| base_of(path)).min().unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(failed("list", directory, error)),
    }
}

/// The number of the first record of a file, if it is one of the log.
fn base_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.parse().ok()
}

/// Finds the files, and writes the last one anew with the records in it that are whole.
fn recover(shared: &Shared) -> Result<State> {
    let Shared { fs, directory, .. } = shared;
    let mut segments = Vec::new();
    for path in fs.list(directory).map_err(|error| failed("list", directory, error))? {
        let Some(base) = base_of(&path) else { continue };
        let metadata = fs.metadata(&path).map_err(|error| failed("look at", &path, error))?;
        segments.push(Segment { base, n_bytes: metadata.len });
    }
    segments.sort_by_key(|segment| segment.base);
    let Some(last) = segments.last_mut() else { return Ok(State::default()) };
    let path = shared.path(last.base);
    let mut recovered = rewrite(shared, last.base, &path).map_err(|error| failed("recover", &path, error))?;
    let end = recovered.end;
    last.n_bytes = recovered.bytes.len() as u64;
    if end == last.base {
        fs.remove(&path).map_err(|error| failed("remove", &path, error))?;
        segments.pop();
        // It had not become the one that all keys are in.
        if let Some(last) = segments.last() {
            let path = shared.path(last.base);
            recovered =
                whole_entries(shared, last.base, &path).map_err(|error| failed("read", &path, error))?;
        }
    }
    let mut keys = Keys::default();
    let all = KeyLimits { n_max: usize::MAX, retention: Duration::MAX };
    recovered.keys.into_iter().for_each(|key| keys.insert(key, &all));
    Ok(State { segments, end, failed: None, waker: None, keys })
}

/// What a file holds.
struct Recovered {
    bytes: Vec<u8>,
    /// The number behind its last record.
    end: u64,
    keys: Vec<KeyEntry>,
}

/// A request of which not all records were found yet.
struct Unfinished {
    key: KeyEntry,
    n_left: u32,
    /// What the file holds without it.
    end: u64,
    n_bytes: usize,
}

/// The entries of a file that are whole, without a request at the end that is not.
fn whole_entries(shared: &Shared, base: u64, path: &Path) -> io::Result<Recovered> {
    let mut recovered = Recovered { bytes: Vec::with_capacity(HEADER_BYTES), end: base, keys: Vec::new() };
    let Recovered { bytes, end, keys } = &mut recovered;
    encode_header(base, bytes);
    let mut unfinished: Option<Unfinished> = None;
    let mut reader = SegmentReader::start(shared.fs.open(path)?, base);
    while let Some(kind) = reader.next_entry(*end)? {
        match kind {
            // Nobody writes a request between the records of another: so nothing behind is taken for whole either.
            EntryKind::Key if unfinished.is_some() => break,
            EntryKind::Key => {
                let unknown = || io::Error::other("a key that another version has written");
                let (key, place) = decode_key(&reader.entry).ok_or_else(unknown)?;
                let n_bytes = bytes.len();
                encode_key(*end, &key, place, bytes)?;
                match place {
                    Place::Here if key.n_records > 0 => {
                        let n_left = key.n_records;
                        unfinished = Some(Unfinished { key, n_left, end: *end, n_bytes });
                    }
                    Place::Here | Place::Earlier => keys.push(key),
                }
            }
            EntryKind::Record => {
                encode_record(*end, &reader.entry, bytes)?;
                *end += 1;
                if let Some(request) = &mut unfinished {
                    request.n_left = request.n_left.saturating_sub(1);
                }
                keys.extend(unfinished.take_if(|request| request.n_left == 0).map(|request| request.key));
            }
        }
    }
    if let Some(request) = unfinished {
        bytes.truncate(request.n_bytes);
        *end = request.end;
    }
    Ok(recovered)
}

/// Writes a file anew.
fn rewrite(shared: &Shared, base: u64, path: &Path) -> io::Result<Recovered> {
    let Shared { fs, directory, .. } = shared;
    let recovered = whole_entries(shared, base, path)?;
    let unfinished = directory.join(UNFINISHED);
    let mut file = fs.create(&unfinished)?;
    file.write_all(&recovered.bytes)?;
    file.sync()?;
    fs.rename(&unfinished, path)?;
    fs.sync_dir(directory)?;
    Ok(recovered)
}
