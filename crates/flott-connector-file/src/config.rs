//! What users see of the source.

use crate::SPLIT_BYTES_DEFAULT;
use crate::enumerator::{Depth, FileEnumerator, FileEnumeratorConfig, FileSelection};
use crate::files::files;
use crate::format::{CsvFormat, JsonFormat, LinesFormat};
use crate::reader::FileSplitReader;
use crate::split::FileSplit;
use flott_api::format::DecodeFormat;
use flott_api::{
    Boundedness, EnumeratorInit, Source, SourceReader, SourceReaderContext, SplitEnumerator,
    SplitSourceReader,
};
use flott_types::{Data, Error, Result};
use regex_lite::Regex;
use serde::de::DeserializeOwned;
use std::fmt;
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
pub(crate) fn glob_to_regex(glob: &str) -> String {
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
/// A path may be a URI of an object store that the environment knows (`s3://bucket/path`).
///
/// A file must be complete when it appears under its name: write it elsewhere or under a hidden name and rename it, as
/// [`FileSink`](crate::FileSink) does. Every file is read once; one that changes after it was read is not read again.
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
            fs: files(&init.env),
            selection: self.selection.clone(),
            format: Arc::clone(&self.format),
            split_bytes: self.split_bytes,
            discovery_interval: self.discovery_interval,
            parallelism: init.parallelism,
            start: init.start,
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
