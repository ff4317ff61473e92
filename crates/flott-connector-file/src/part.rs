//! One file of a sink, from its hidden beginning to its final name.

use crate::compression::CompressedFile;
use crate::config::FileSinkConfig;
use flott_api::UserResult;
use flott_api::format::RecordEncoder;
use flott_env::FileSystem;
use flott_types::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};

/// Encoded bytes go to the file in pieces of about this size.
const PENDING_BYTES: usize = 64 << 10;

/// The part that is open in a partition.
pub(crate) struct Part<T> {
    encoder: Box<dyn RecordEncoder<T>>,
    file: CompressedFile,
    /// Encoded and not written.
    pending: Vec<u8>,
    in_progress: PathBuf,
    complete: PathBuf,
    /// Milliseconds since the epoch at which it was begun.
    pub(crate) begun_at: i64,
    /// Milliseconds since the epoch at which the last record came.
    pub(crate) written_at: i64,
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Error {
    Error::subtask(format!("cannot {what} '{}'", path.display())).with_source(error)
}

impl<T: 'static> Part<T> {
    /// Begins a part called `name` in `directory`, which exists.
    pub(crate) fn begin(
        config: &FileSinkConfig<T>,
        fs: &dyn FileSystem,
        directory: &Path,
        name: &str,
        now: i64,
    ) -> Result<Self> {
        let in_progress = directory.join(format!(".{name}.inprogress"));
        let file = fs.create(&in_progress).and_then(|file| CompressedFile::new(file, config.compression));
        Ok(Self {
            encoder: config.format.start_file()?,
            file: file.map_err(|error| cannot("create file", &in_progress, error))?,
            pending: Vec::new(),
            in_progress,
            complete: directory.join(name),
            begun_at: now,
            written_at: now,
        })
    }

    pub(crate) fn write(&mut self, record: T, now: i64) -> UserResult {
        self.encoder.encode(record, &mut self.pending)?;
        self.written_at = now;
        if self.pending.len() >= PENDING_BYTES {
            self.write_pending()?;
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<()> {
        let written = self.file.write_all(&self.pending);
        written.map_err(|error| cannot("write file", &self.in_progress, error))?;
        self.pending.clear();
        Ok(())
    }

    /// Bytes so far, those in buffers as they are before compression.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.file.n_bytes() + self.pending.len() as u64 + self.encoder.buffered_bytes()
    }

    /// Completes the file: when this returns it survives a power failure under its final name.
    pub(crate) fn complete(mut self, fs: &dyn FileSystem) -> UserResult {
        self.encoder.finish(&mut self.pending)?;
        self.write_pending()?;
        self.file.finish().map_err(|error| cannot("write file", &self.in_progress, error))?;
        let renamed = fs.rename(&self.in_progress, &self.complete);
        renamed.map_err(|error| cannot("rename file", &self.in_progress, error))?;
        let directory = self.complete.parent().unwrap_or(Path::new("."));
        Ok(fs.sync_dir(directory).map_err(|error| cannot("sync directory", directory, error))?)
    }
}
