//! One file of a sink, from its beginning until it is complete and on disk.

use crate::compaction::ClosedFile;
use crate::compression::CompressedFile;
use crate::directory::cannot;
use crate::pending::PendingFile;
use crate::sink::FileSinkConfig;
use flott_api::UserResult;
use flott_api::format::RecordEncoder;
use flott_env::FileSystem;
use flott_types::Result;

/// Encoded bytes go to the file in pieces of about this size.
const PENDING_BYTES: usize = 64 << 10;

/// The part that is open in a partition.
pub(crate) struct Part<T> {
    encoder: Box<dyn RecordEncoder<T>>,
    file: CompressedFile,
    /// Encoded and not written.
    pending: Vec<u8>,
    /// What it will be.
    becomes: PendingFile,
    /// Milliseconds since the epoch at which it was begun.
    pub(crate) begun_at: i64,
    /// Milliseconds since the epoch at which the last record came.
    pub(crate) written_at: i64,
}

impl<T: 'static> Part<T> {
    /// Begins a part that is to become `becomes`. The directory of its hidden name exists.
    pub(crate) fn begin(
        config: &FileSinkConfig<T>,
        fs: &dyn FileSystem,
        becomes: PendingFile,
        now: i64,
    ) -> Result<Self> {
        let hidden = becomes.hidden();
        let file = fs.create(&hidden).and_then(|file| CompressedFile::new(file, config.compression));
        Ok(Self {
            encoder: config.format.start_file()?,
            file: file.map_err(|error| cannot("create file", &hidden, error))?,
            pending: Vec::new(),
            becomes,
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
        written.map_err(|error| cannot("write file", &self.becomes.hidden(), error))?;
        self.pending.clear();
        Ok(())
    }

    /// Bytes so far, those in buffers as they are before compression.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.file.n_bytes() + self.pending.len() as u64 + self.encoder.buffered_bytes()
    }

    /// Completes the file: when this returns its content survives a power failure. Its hidden name does when the directory is synced.
    pub(crate) fn close(mut self) -> UserResult<ClosedFile> {
        self.encoder.finish(&mut self.pending)?;
        self.write_pending()?;
        let len = self.file.finish().map_err(|error| cannot("write file", &self.becomes.hidden(), error))?;
        let header_bytes = self.encoder.header_bytes();
        Ok(ClosedFile { file: PendingFile { len, ..self.becomes }, header_bytes })
    }
}
