//! What users see: the source, the sink and their options.

use crate::enumerator::{Depth, FileEnumerator, FileEnumeratorConfig, FileSelection};
use crate::format::{CsvFormat, JsonFormat, LinesFormat};
use crate::partition::PartitionPath;
use crate::reader::FileSplitReader;
use crate::split::FileSplit;
use crate::writer::FileWriter;
use crate::{Compression, SPLIT_BYTES_DEFAULT};
use flott_api::format::{DecodeFormat, EncodeFormat, FileLayout};
use flott_api::{
    Boundedness, EnumeratorInit, Sink, SinkContext, Source, SourceReader, SourceReaderContext,
    SplitEnumerator, SplitSourceReader,
};
use flott_types::{Data, Error, Result};
use regex_lite::Regex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Chooses files by their names.
#[derive(Clone)]
pub(crate) struct NameFilter(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl NameFilter {
    pub(crate) fn matches(&self, name: &str) -> bool {
        (self.0)(name)
    }
}

impl fmt::Debug for NameFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameFilter")
    }
}

/// The regular expression for a shell pattern.
fn glob_to_regex(glob: &str) -> String {
    let mut regex = String::from("^");
    for character in glob.chars() {
        match character {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            literal => regex.push_str(&regex_lite::escape(literal.encode_utf8(&mut [0; 4]))),
        }
    }
    regex.push('$');
    regex
}

/// Reads files: one, several, or those of a directory, once or watching for new ones.
///
/// A directory's files are read whose names begin neither with `.` nor with `_` and pass the filter, if there is one.
/// A path that does not exist fails the job. Files that end in `.gz` (also several archives in one) or `.zst` are
/// decompressed. Big files in formats that allow it are read in ranges, by several readers. The files of one reader
/// are read side by side, up to 64 of them.
///
/// A file must be complete when it appears under its name: write it elsewhere or under a hidden name and rename it, as
/// [`FileSink`] does. Every file is read once; one that changes after it was read is not read again.
pub struct FileSource<T> {
    selection: FileSelection,
    format: Arc<dyn DecodeFormat<T>>,
    split_bytes: u64,
    discovery_interval: Option<Duration>,
}

impl<T> Clone for FileSource<T> {
    fn clone(&self) -> Self {
        Self { selection: self.selection.clone(), format: Arc::clone(&self.format), ..*self }
    }
}

impl<T> fmt::Debug for FileSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource")
            .field("selection", &self.selection)
            .field("split_bytes", &self.split_bytes)
            .field("discovery_interval", &self.discovery_interval)
            .finish_non_exhaustive()
    }
}

impl FileSource<String> {
    /// Text lines of a file or directory.
    pub fn lines(path: impl Into<PathBuf>) -> Self {
        Self::format(path, LinesFormat::new())
    }
}

impl<T: DeserializeOwned + 'static> FileSource<T> {
    /// CSV with commas and a header, from a file or directory; [`FileSource::format`] takes a [`CsvFormat`] with other
    /// options.
    pub fn csv(path: impl Into<PathBuf>) -> Self {
        Self::format(path, CsvFormat::new())
    }

    /// A JSON value per line, from a file or directory.
    pub fn json(path: impl Into<PathBuf>) -> Self {
        Self::format(path, JsonFormat::new())
    }
}

impl<T> FileSource<T> {
    /// Records in `format` of a file or directory.
    pub fn format(path: impl Into<PathBuf>, format: impl DecodeFormat<T>) -> Self {
        Self {
            selection: FileSelection { paths: vec![path.into()], depth: Depth::FilesOnly, filter: None },
            format: Arc::new(format),
            split_bytes: SPLIT_BYTES_DEFAULT,
            discovery_interval: None,
        }
    }

    /// Reads this file or directory too.
    #[must_use]
    pub fn and_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.selection.paths.push(path.into());
        self
    }

    /// Reads directories in directories too; hidden ones are left out.
    #[must_use]
    pub fn recursive(mut self) -> Self {
        self.selection.depth = Depth::Recursive;
        self
    }

    /// Of a directory, reads the files whose names match: `*` stands for any text, `?` for any character.
    ///
    /// # Panics
    /// If there are thousands of `*` in the pattern.
    #[must_use]
    pub fn with_name_glob(self, glob: &str) -> Self {
        let regex =
            Regex::new(&glob_to_regex(glob)).expect("an escaped pattern of sane length is an expression");
        self.with_name_filter(move |name| regex.is_match(name))
    }

    /// Of a directory, reads the files in whose names the regular expression is found.
    ///
    /// # Errors
    /// If it is no regular expression.
    pub fn with_name_regex(self, regex: &str) -> Result<Self> {
        let message = || format!("'{regex}' is no regular expression for file names");
        let regex = Regex::new(regex).map_err(|error| Error::user(message()).with_source(error))?;
        Ok(self.with_name_filter(move |name| regex.is_match(name)))
    }

    /// Of a directory, reads the files whose names `filter` accepts.
    #[must_use]
    pub fn with_name_filter(mut self, filter: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.selection.filter = Some(NameFilter(Arc::new(filter)));
        self
    }

    /// Looks for new files every `interval` and does not end. The names of all files seen are kept in snapshots.
    #[must_use]
    pub fn monitor_continuously(self, interval: Duration) -> Self {
        Self { discovery_interval: Some(interval), ..self }
    }

    /// The size of the ranges in which big files are read.
    #[must_use]
    pub fn split_bytes(self, split_bytes: u64) -> Self {
        Self { split_bytes: split_bytes.max(1), ..self }
    }
}

impl<T: Data> Source for FileSource<T> {
    type Record = T;
    type Split = FileSplit;

    fn boundedness(&self) -> Boundedness {
        match self.discovery_interval {
            Some(_) => Boundedness::ContinuousUnbounded,
            None => Boundedness::Bounded,
        }
    }

    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<FileSplit>>> {
        let config = FileEnumeratorConfig {
            fs: init.env.fs(),
            selection: self.selection.clone(),
            format: Arc::clone(&self.format),
            split_bytes: self.split_bytes,
            discovery_interval: self.discovery_interval,
            parallelism: init.parallelism,
        };
        Ok(Box::new(FileEnumerator::new(config, init.restored.as_deref())?))
    }

    fn create_reader(
        &self,
        ctx: SourceReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = T, Split = FileSplit>>> {
        let format = Arc::clone(&self.format);
        let open = move |split| FileSplitReader::open(format.as_ref(), split, &ctx);
        Ok(Box::new(SplitSourceReader::new(open)))
    }
}

/// When a file is complete and the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollingPolicy {
    pub(crate) max_part_size: u64,
    pub(crate) rollover_interval: Option<Duration>,
    pub(crate) inactivity_interval: Option<Duration>,
}

impl RollingPolicy {
    /// Flink's defaults: 128 MB, a minute after the file was begun, a minute after the last record.
    #[expect(clippy::new_without_default, reason = "configurations have none")]
    pub fn new() -> Self {
        let minute = Duration::from_secs(60);
        Self { max_part_size: 128 << 20, rollover_interval: Some(minute), inactivity_interval: Some(minute) }
    }

    /// Files end with the job.
    pub fn never() -> Self {
        Self { max_part_size: u64::MAX, rollover_interval: None, inactivity_interval: None }
    }

    /// A file is complete when it has at least so many bytes.
    #[must_use]
    pub fn max_part_size(self, max_part_size: u64) -> Self {
        Self { max_part_size, ..self }
    }

    /// A file is complete when it was begun so long ago, on the wall clock.
    #[must_use]
    pub fn rollover_interval(self, interval: Duration) -> Self {
        Self { rollover_interval: Some(interval), ..self }
    }

    /// A file is complete when no record was written to it for so long, on the wall clock.
    #[must_use]
    pub fn inactivity_interval(self, interval: Duration) -> Self {
        Self { inactivity_interval: Some(interval), ..self }
    }
}

/// How many files a subtask writes at once unless it is told otherwise.
const OPEN_PARTITIONS_MAX_DEFAULT: usize = 128;

type PartitionBy<T> = dyn Fn(&T) -> PartitionPath + Send + Sync;

/// What a writer is made from.
pub(crate) struct FileSinkConfig<T> {
    pub(crate) directory: PathBuf,
    pub(crate) format: Arc<dyn EncodeFormat<T>>,
    pub(crate) rolling: RollingPolicy,
    pub(crate) partition: Option<Arc<PartitionBy<T>>>,
    pub(crate) compression: Compression,
    pub(crate) file_prefix: String,
    pub(crate) open_partitions_max: usize,
}

impl<T> Clone for FileSinkConfig<T> {
    fn clone(&self) -> Self {
        Self {
            directory: self.directory.clone(),
            format: Arc::clone(&self.format),
            partition: self.partition.clone(),
            file_prefix: self.file_prefix.clone(),
            ..*self
        }
    }
}

/// Writes files into a directory, in parts that roll by size and time, and per partition.
///
/// Files are called `part-<subtask>-<run>-<number>.<extension>`. While it is written, a file has a hidden name,
/// `.part-….inprogress`; it is renamed when it is complete and on disk, and never changes after.
///
/// After a crash the files without a dot are whole, and each holds records in the order they came; hidden files may be
/// torn and can be deleted. The records in hidden files are lost unless the sources read them again, and what sources
/// read again is written again: each record is written at least once if the job restarts from a snapshot, not
/// exactly once.
pub struct FileSink<T> {
    config: FileSinkConfig<T>,
}

impl<T> Clone for FileSink<T> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone() }
    }
}

impl<T> fmt::Debug for FileSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink")
            .field("directory", &self.config.directory)
            .field("rolling", &self.config.rolling)
            .finish_non_exhaustive()
    }
}

impl<T: 'static> FileSink<T> {
    /// Text lines, as `Display` has them; [`LinesWriter`](crate::LinesWriter) makes them with a function.
    pub fn lines(directory: impl Into<PathBuf>) -> Self
    where
        T: Display,
    {
        Self::format(directory, LinesFormat::new())
    }

    /// CSV with commas and, for structs, a header in each file.
    pub fn csv(directory: impl Into<PathBuf>) -> Self
    where
        T: Serialize,
    {
        Self::format(directory, CsvFormat::new())
    }

    /// A JSON value per line.
    pub fn json(directory: impl Into<PathBuf>) -> Self
    where
        T: Serialize,
    {
        Self::format(directory, JsonFormat::new())
    }

    /// Records in `format`.
    pub fn format(directory: impl Into<PathBuf>, format: impl EncodeFormat<T>) -> Self {
        Self {
            config: FileSinkConfig {
                directory: directory.into(),
                format: Arc::new(format),
                rolling: RollingPolicy::new(),
                partition: None,
                compression: Compression::None,
                file_prefix: "part".to_owned(),
                open_partitions_max: OPEN_PARTITIONS_MAX_DEFAULT,
            },
        }
    }

    /// When a file is complete.
    #[must_use]
    pub fn rolling(mut self, rolling: RollingPolicy) -> Self {
        self.config.rolling = rolling;
        self
    }

    /// Writes each record into a subdirectory that `partition` names, for example `origin=JFK`; see [`PartitionPath`]
    /// for several levels and for what happens to special characters.
    #[must_use]
    pub fn partition_by<P: Into<PartitionPath>>(
        mut self,
        partition: impl Fn(&T) -> P + Send + Sync + 'static,
    ) -> Self {
        self.config.partition = Some(Arc::new(move |record| partition(record).into()));
        self
    }

    /// Compresses the files of row formats; bulk formats, which compress inside, have options of their own.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// What file names begin with instead of `part`.
    #[must_use]
    pub fn file_prefix(mut self, file_prefix: impl Into<String>) -> Self {
        self.config.file_prefix = file_prefix.into();
        self
    }

    /// How many partitions a subtask writes side by side; the one that has had no record for longest is completed to
    /// make room.
    #[must_use]
    pub fn open_partitions_max(mut self, open_partitions_max: usize) -> Self {
        self.config.open_partitions_max = open_partitions_max.max(1);
        self
    }
}

impl<T: Send + 'static> Sink<T> for FileSink<T> {
    type Writer = FileWriter<T>;

    fn create_writer(&self, ctx: SinkContext) -> Result<FileWriter<T>> {
        let FileSinkConfig { compression, file_prefix, format, directory, .. } = &self.config;
        if *compression != Compression::None && format.layout() == FileLayout::Bulk {
            let extension = format.extension();
            return Err(Error::user(format!(
                "a {extension} file cannot be compressed as a whole: set the compression of the format instead"
            )));
        }
        if file_prefix.is_empty() || file_prefix.starts_with(['.', '_']) || file_prefix.contains(['/', '\\'])
        {
            return Err(Error::user(format!(
                "'{file_prefix}' cannot begin the name of a file that is to be read"
            )));
        }
        let created = ctx.env.fs().create_dir_all(directory);
        created.map_err(|error| {
            Error::user(format!("cannot create directory '{}'", directory.display())).with_source(error)
        })?;
        Ok(FileWriter::new(self.config.clone(), ctx))
    }
}
