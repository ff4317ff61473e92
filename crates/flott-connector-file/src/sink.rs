//! What users see of the sink.

use crate::Compression;
use crate::committer::FileCommitter;
use crate::compaction::{Compactor, FileCompactStrategy};
use crate::directory::create_durably;
use crate::files::files;
use crate::format::{CsvFormat, JsonFormat, LinesFormat};
use crate::partition::PartitionPath;
use crate::partition_commit::PartitionCommit;
use crate::writer::FileWriter;
use flott_api::format::{DecodeFormat, EncodeFormat, FileLayout};
use flott_api::{Committer, Sink, SinkContext};
use flott_types::{Error, Result};
use serde::Serialize;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    pub(crate) partition_commit: Option<PartitionCommit>,
    pub(crate) compact: Option<FileCompactStrategy>,
    pub(crate) compactor: Compactor<T>,
}

impl<T> Clone for FileSinkConfig<T> {
    fn clone(&self) -> Self {
        Self {
            directory: self.directory.clone(),
            format: Arc::clone(&self.format),
            partition: self.partition.clone(),
            file_prefix: self.file_prefix.clone(),
            partition_commit: self.partition_commit.clone(),
            compactor: self.compactor.clone(),
            ..*self
        }
    }
}

/// Writes files into a directory, in parts that roll by size and time, and per partition.
///
/// Files are called `part-<subtask>-<run>-<number>.<extension>`. While it is written, a file is in the hidden subdirectory `.flott`; it gets its
/// name when it is complete and on disk, and never changes after.
///
/// In a job that takes checkpoints, a file gets its name when a checkpoint that has all its records is complete, so each record is in exactly one
/// file, once, whatever fails. Each checkpoint completes all files, beside the [`RollingPolicy`]: checkpoints that come often make small files. When
/// the job goes on from a checkpoint, hidden files that were begun after it are deleted, those of this sink only.
///
/// The directory may be a URI of an object store that the environment knows (`s3://bucket/path`). A file is an object there, and gets its name by
/// a copy that the store makes.
///
/// In a job without checkpoints a file gets its name as soon as it is complete. After a crash the files with names are whole; hidden ones may
/// be torn and can be deleted.
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
                partition_commit: None,
                compact: None,
                compactor: Compactor::Concatenate,
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

    /// Says with a file `_SUCCESS` that a partition is complete.
    #[must_use]
    pub fn partition_commit(mut self, policy: PartitionCommit) -> Self {
        self.config.partition_commit = Some(policy);
        self
    }

    /// Makes one file of several small ones of a partition, which stay hidden until then; each subtask those that it has written. Needs checkpoints,
    /// and a format of rows: files are concatenated, with one header.
    #[must_use]
    pub fn enable_compact(mut self, strategy: FileCompactStrategy) -> Self {
        (self.config.compact, self.config.compactor) = (Some(strategy), Compactor::Concatenate);
        self
    }

    /// The same for formats whose files cannot be concatenated, such as Parquet: records are read with `reader`, and written again.
    #[must_use]
    pub fn enable_compact_with(
        mut self,
        strategy: FileCompactStrategy,
        reader: impl DecodeFormat<T>,
    ) -> Self {
        (self.config.compact, self.config.compactor) =
            (Some(strategy), Compactor::RecordWise(Arc::new(reader)));
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

impl<T: 'static> FileSink<T> {
    fn check_compaction(&self, ctx: &SinkContext) -> Result<()> {
        let FileSinkConfig { compact, compactor, compression, format, .. } = &self.config;
        if compact.is_none() {
            return Ok(());
        }
        if !ctx.has_checkpoints {
            return Err(Error::user(
                "small files become one with checkpoints only: set 'execution.checkpointing.interval', or remove enable_compact",
            ));
        }
        match compactor {
            Compactor::Concatenate if format.layout() == FileLayout::Bulk => Err(Error::user(format!(
                "{} files cannot be concatenated: use enable_compact_with and the format that reads them",
                format.extension()
            ))),
            Compactor::RecordWise(_) if *compression != Compression::None => {
                Err(Error::user("compressed files are concatenated, not read: use enable_compact"))
            }
            Compactor::Concatenate | Compactor::RecordWise(_) => Ok(()),
        }
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
        if self.config.partition_commit.is_some() && self.config.partition.is_none() {
            return Err(Error::user("a policy for committing partitions needs partitions: set partition_by"));
        }
        self.check_compaction(&ctx)?;
        create_durably(files(&ctx.env).as_ref(), directory)?;
        Ok(FileWriter::new(self.config.clone(), ctx))
    }

    fn create_committer(&self, ctx: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(FileCommitter::new(&self.config, &ctx))))
    }
}
