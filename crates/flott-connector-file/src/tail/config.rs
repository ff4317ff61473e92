//! What users see: the source and its options.

use super::names::Names;
use super::reader::TailReader;
use super::split::TailSplit;
use crate::MAX_RECORD_BYTES_DEFAULT;
use flott_api::message::{DeserializationSchema, StringFormat};
use flott_api::{Boundedness, SourceReaderContext, SplitSource};
use flott_types::{Data, Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Reads lines of log files as they are written, through rotations, from the start of the files on.
///
/// A file is known by what it is on the disk and by its first bytes, not by its name. One that is renamed (`app.log` becomes `app.log.1`)
/// is read to its end, before or after a restart, and so is one that was copied and then truncated, from the copy. Rotated files are those in
/// the same directory with a `.` or `-` and more behind the name; compressed ones are left alone. A line is a record when its line end has
/// been written; a last line without one counts when the file was rotated and has not changed for a while.
///
/// What could not be read because a file was removed or truncated too early is a bad record. One subtask reads the files of a pattern.
pub struct FileTailSource<T> {
    patterns: Vec<PathBuf>,
    pub(super) format: Arc<dyn DeserializationSchema<T>>,
    pub(super) poll_interval: Duration,
    pub(super) max_record_bytes: usize,
}

impl<T> Clone for FileTailSource<T> {
    fn clone(&self) -> Self {
        let Self { patterns, format, poll_interval, max_record_bytes } = self;
        let (poll_interval, max_record_bytes) = (*poll_interval, *max_record_bytes);
        Self { patterns: patterns.clone(), format: Arc::clone(format), poll_interval, max_record_bytes }
    }
}

impl<T> fmt::Debug for FileTailSource<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FileTailSource").field("patterns", &self.patterns).finish_non_exhaustive()
    }
}

impl FileTailSource<String> {
    /// Lines of text of the files of `pattern`: a directory that exists, and in it a name, which may have `*` and `?`.
    pub fn lines(pattern: impl Into<PathBuf>) -> Self {
        Self::format(pattern, StringFormat)
    }
}

impl<T: Data> FileTailSource<T> {
    /// As [`FileTailSource::lines`], with a format that makes records of lines.
    pub fn format(pattern: impl Into<PathBuf>, format: impl DeserializationSchema<T>) -> Self {
        Self {
            patterns: vec![pattern.into()],
            format: Arc::new(format),
            poll_interval: Duration::from_millis(200),
            max_record_bytes: MAX_RECORD_BYTES_DEFAULT,
        }
    }

    /// Follows the files of another pattern, too. No file may belong to two.
    #[must_use]
    pub fn and(mut self, pattern: impl Into<PathBuf>) -> Self {
        self.patterns.push(pattern.into());
        self
    }

    /// How long it waits before it looks for new lines again: 200 ms unless said otherwise.
    #[must_use]
    pub fn poll_interval(self, poll_interval: Duration) -> Self {
        Self { poll_interval, ..self }
    }

    /// How long a line may be; a longer one is a bad record and is not held in memory.
    #[must_use]
    pub fn max_record_bytes(self, max_record_bytes: usize) -> Self {
        Self { max_record_bytes, ..self }
    }
}

impl<T: Data> SplitSource for FileTailSource<T> {
    type Record = T;
    type Split = TailSplit;
    type Reader = TailReader<T>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::ContinuousUnbounded
    }

    fn splits(&self, _: u32) -> Result<Vec<TailSplit>> {
        let split = |pattern: &PathBuf| {
            let glob = pattern.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
                Error::user(format!(
                    "cannot follow '{}': expected a directory and a name in UTF-8",
                    pattern.display()
                ))
            })?;
            Names::new(glob)?;
            let directory = match pattern.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            Ok(TailSplit::new(directory, glob))
        };
        self.patterns.iter().map(split).collect()
    }

    fn open(&self, split: TailSplit, ctx: &SourceReaderContext) -> Result<TailReader<T>> {
        TailReader::new(self, split, ctx.env.clone())
    }
}
