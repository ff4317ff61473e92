//! One file of a sink, from its beginning until it is complete and on disk.

use crate::compaction::ClosedFile;
use crate::compression::CompressedFile;
use crate::directory::cannot;
use crate::pending::PendingFile;
use crate::sink::FileSinkConfig;
use flott_api::format::{FileLayout, RecordEncoder};
use flott_api::{BoxError, UserResult};
use flott_env::FileSystem;
use flott_types::Result;

/// Encoded bytes go to the file in pieces of about this size.
const PENDING_BYTES: usize = 64 << 10;

/// Records on their way into a file.
pub(crate) struct Rows<T> {
    encoder: Box<dyn RecordEncoder<T>>,
    layout: FileLayout,
    /// Encoded and not written.
    pending: Vec<u8>,
}

impl<T: 'static> Rows<T> {
    pub(crate) fn start(config: &FileSinkConfig<T>) -> Result<Self> {
        let (encoder, layout) = (config.format.start_file()?, config.format.layout());
        Ok(Self { encoder, layout, pending: Vec::new() })
    }

    /// Encodes a record, or says why it cannot stand in such a file: then nothing of it does, and the next may come. Of bulk formats that can be known
    /// only if it is asked for (`are_tolerated`), at some cost.
    pub(crate) fn encode(&mut self, record: &T, are_tolerated: bool) -> UserResult<Result<(), BoxError>> {
        let Self { encoder, layout, pending } = self;
        let end = pending.len();
        match (layout, are_tolerated) {
            (FileLayout::Bulk, true) => {
                if let Err(refused) = encoder.check(record) {
                    return Ok(Err(refused));
                }
                encoder.encode(record, pending)?;
                Ok(Ok(()))
            }
            (FileLayout::Rows, _) | (FileLayout::Bulk, false) => {
                let encoded = encoder.encode(record, pending);
                if encoded.is_err() {
                    pending.truncate(end);
                }
                Ok(encoded)
            }
        }
    }
}

/// The part that is open in a partition.
pub(crate) struct Part<T> {
    pub(crate) rows: Rows<T>,
    file: CompressedFile,
    /// What it will be.
    becomes: PendingFile,
    /// Milliseconds since the epoch at which it was begun.
    pub(crate) begun_at: i64,
    /// Milliseconds since the epoch at which the last record came.
    pub(crate) written_at: i64,
}

impl<T: 'static> Part<T> {
    /// Begins a part with `rows` that is to become `becomes`. The directory of its hidden name exists.
    pub(crate) fn begin(
        config: &FileSinkConfig<T>,
        fs: &dyn FileSystem,
        becomes: PendingFile,
        rows: Rows<T>,
        now: i64,
    ) -> Result<Self> {
        let hidden = becomes.hidden();
        let file = fs.create(&hidden).and_then(|file| CompressedFile::new(file, config.compression));
        Ok(Self {
            rows,
            file: file.map_err(|error| cannot("create file", &hidden, error))?,
            becomes,
            begun_at: now,
            written_at: now,
        })
    }

    /// A record has come.
    pub(crate) fn write(&mut self, now: i64) -> Result<()> {
        self.written_at = now;
        if self.rows.pending.len() >= PENDING_BYTES { self.write_pending() } else { Ok(()) }
    }

    fn write_pending(&mut self) -> Result<()> {
        let written = self.file.write_all(&self.rows.pending);
        written.map_err(|error| cannot("write file", &self.becomes.hidden(), error))?;
        self.rows.pending.clear();
        Ok(())
    }

    /// Bytes so far, those in buffers as they are before compression.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.file.n_bytes() + self.rows.pending.len() as u64 + self.rows.encoder.buffered_bytes()
    }

    /// Completes the file: when this returns its content survives a power failure. Its hidden name does when the directory is synced.
    pub(crate) fn close(mut self) -> UserResult<ClosedFile> {
        self.rows.encoder.finish(&mut self.rows.pending)?;
        self.write_pending()?;
        let len = self.file.finish().map_err(|error| cannot("write file", &self.becomes.hidden(), error))?;
        let header_bytes = self.rows.encoder.header_bytes();
        Ok(ClosedFile { file: PendingFile { len, ..self.becomes }, header_bytes })
    }
}
