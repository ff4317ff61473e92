//! The log: records one behind the other in files, none of which is written to after another has begun.
//!
//! An append is durable when it returns. Opening the log finds what was appended, without what a crash has cut off at the end; and writes the last
//! file anew, so that what is read from then on is durable, too: otherwise a checkpoint could be past records that the next power failure takes away,
//! and their numbers would be given a second time.

pub(crate) mod reader;
mod segment;

use flott_env::{FileLock, FileSystem, FileWrite};
use flott_types::{Error, ErrorKind, Result};
use segment::{HEADER_BYTES, RECORD_HEADER_BYTES, SegmentReader, encode_header, encode_record};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

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
            _lock: lock,
        }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Appends records. They are durable when this returns; after an error nobody knows, and nothing can be appended any more.
    pub(crate) fn append<'a>(&mut self, records: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
        let (mut end, mut segments) = {
            let state = self.shared.state();
            if let Some(why) = &state.failed {
                return Err(io::Error::other(why.clone()));
            }
            (state.end, state.segments.clone())
        };
        let appended = self.append_to(&mut segments, &mut end, records);
        let mut state = self.shared.state();
        match &appended {
            Ok(()) => {
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
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        self.buffer.clear();
        let is_full = segments.last().is_none_or(|segment| segment.n_bytes >= self.segment_bytes);
        let is_new = is_full || self.file.is_none();
        if is_new {
            self.file = Some(self.shared.fs.create(&self.shared.path(*end))?);
            segments.push(Segment { base: *end, n_bytes: 0 });
            encode_header(*end, &mut self.buffer);
        }
        for record in records {
            encode_record(*end, record, &mut self.buffer)?;
            *end += 1;
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

/// Finds the files, and writes the last one anew with the records in it that are whole.
fn recover(shared: &Shared) -> Result<State> {
    let Shared { fs, directory, .. } = shared;
    let mut segments = Vec::new();
    for path in fs.list(directory).map_err(|error| failed("list", directory, error))? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(base) = name.strip_suffix(SUFFIX).and_then(|base| base.parse().ok()) else { continue };
        let metadata = fs.metadata(&path).map_err(|error| failed("look at", &path, error))?;
        segments.push(Segment { base, n_bytes: metadata.len });
    }
    segments.sort_by_key(|segment| segment.base);
    let Some(last) = segments.last_mut() else { return Ok(State::default()) };
    let path = shared.path(last.base);
    let rewrite = || rewrite(shared, last.base, &path);
    let (end, n_bytes) = rewrite().map_err(|error| failed("recover", &path, error))?;
    last.n_bytes = n_bytes;
    if end == last.base {
        fs.remove(&path).map_err(|error| failed("remove", &path, error))?;
        segments.pop();
    }
    Ok(State { segments, end, failed: None, waker: None })
}

/// Returns the end of the file, and how large it is.
fn rewrite(shared: &Shared, base: u64, path: &Path) -> io::Result<(u64, u64)> {
    let Shared { fs, directory, .. } = shared;
    let mut buffer = Vec::with_capacity(HEADER_BYTES);
    encode_header(base, &mut buffer);
    let mut end = base;
    let mut records = SegmentReader::start(fs.open(path)?, base);
    while let Some(record) = records.next_record(end)? {
        encode_record(end, record, &mut buffer)?;
        end += 1;
    }
    let unfinished = directory.join(UNFINISHED);
    let mut file = fs.create(&unfinished)?;
    file.write_all(&buffer)?;
    file.sync()?;
    fs.rename(&unfinished, path)?;
    fs.sync_dir(directory)?;
    Ok((end, buffer.len() as u64))
}
