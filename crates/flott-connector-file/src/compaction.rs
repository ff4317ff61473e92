//! Making one file of several small ones before anybody sees them.
//!
//! Files that are complete are held back, hidden, as state of the writer. When there are enough of a partition, they are handed out together, as a
//! *group*, with a checkpoint. When that is complete, the committer makes one file of them, gives it its name, and removes them. So a reader sees
//! a record in one file, once, and each step can be done again: as long as the file has no name its parts are there.
//!
//! A group has a name from its first file on. Who goes back to a snapshot in which a part was held back, and finds the group under its name, knows
//! that the part is in it.

use crate::compression::{CompressedFile, Compression};
use crate::directory::cannot;
use crate::files::files;
use crate::pending::{PendingFile, Publisher, SinkKey, exists, named, remove_hidden};
use flott_api::format::{ByteRange, DecodeFormat, DecodeInput, EncodeFormat};
use flott_api::{InputStatus, SinkContext, SplitOutput, UserResult};
use flott_env::FileSystem;
use flott_types::{CheckpointId, Error, ErrorKind, RecordBatch, Result, SplitId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 64 << 10;
/// Records that are copied at a time.
const COPY_RECORDS: usize = 1024;

/// When small files become one: as soon as one of the conditions holds. In Flink `FileCompactStrategy`, and in SQL `auto-compaction` with
/// `compaction.file-size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCompactStrategy {
    pub(crate) checkpoints: u32,
    pub(crate) size_threshold: u64,
}

impl FileCompactStrategy {
    /// When so many checkpoints have come since the first of the files; with 1 the files of a checkpoint become one.
    pub fn on_checkpoint(checkpoints: u32) -> Self {
        Self { checkpoints: checkpoints.max(1), size_threshold: u64::MAX }
    }

    /// When the files together have so many bytes. Records wait until they have, or the input ends, or the partition is complete.
    pub fn on_size(size_threshold: u64) -> Self {
        Self { checkpoints: u32::MAX, size_threshold }
    }

    /// Also when the files together have so many bytes.
    #[must_use]
    pub fn size_threshold(self, size_threshold: u64) -> Self {
        Self { size_threshold, ..self }
    }

    pub(crate) fn is_due(self, group: &Group) -> bool {
        group.n_checkpoints >= self.checkpoints || group.len() >= self.size_threshold
    }
}

/// How one file is made of several.
pub(crate) enum Compactor<T> {
    /// Their bytes one after the other, with one header.
    Concatenate,
    /// Their records are read and written again.
    RecordWise(Arc<dyn DecodeFormat<T>>),
}

impl<T> Clone for Compactor<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Concatenate => Self::Concatenate,
            Self::RecordWise(format) => Self::RecordWise(Arc::clone(format)),
        }
    }
}

impl<T> fmt::Debug for Compactor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Concatenate => "Concatenate",
            Self::RecordWise(_) => "RecordWise",
        })
    }
}

/// A complete file, and how much of its beginning is no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClosedFile {
    pub(crate) file: PendingFile,
    pub(crate) header_bytes: u64,
}

/// Files of one partition and one writer that become one. Part of the snapshot format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) files: Vec<ClosedFile>,
    /// Barriers since its first file.
    pub(crate) n_checkpoints: u32,
}

impl Group {
    pub(crate) fn new(first: ClosedFile) -> Self {
        Self { files: vec![first], n_checkpoints: 0 }
    }

    fn len(&self) -> u64 {
        self.files.iter().map(|file| file.file.len).sum()
    }

    pub(crate) fn partition(&self) -> &str {
        self.files.first().map_or("", |first| &first.file.partition)
    }

    /// The file that it becomes.
    fn output(&self, ctx: &SinkContext) -> Result<PendingFile> {
        let first = self.files.first().ok_or_else(|| {
            Error::new(ErrorKind::Corruption, "a group of files that are to become one has none")
        })?;
        let (key, name) = (SinkKey::new(ctx), format!("compacted-{}", first.file.name));
        // Nobody else writes to it, not even an attempt that is believed dead; and every later attempt removes it.
        let hidden = format!("{name}~{:016x}", key.run);
        let hidden_name = key.hidden_name(&hidden, ctx.subtask, CheckpointId(u64::MAX));
        Ok(PendingFile { name, hidden_name, len: 0, ..first.file.clone() })
    }

    /// What of a group in a snapshot is still to be committed: nothing if it has its name already, be it that the job went back to an older snapshot.
    pub(crate) fn not_yet_committed(
        mut self,
        ctx: &SinkContext,
        publisher: &mut Publisher,
    ) -> Result<Option<Self>> {
        let fs = files(&ctx.env);
        if let Some(output) = named(fs.as_ref(), &self.output(ctx)?)? {
            // Whoever has given it its name may have died before that was durable, and from now on nobody asks for it.
            publisher.publish(std::iter::once(&output))?;
            remove_hidden(fs.as_ref(), self.files.iter().map(|closed| &closed.file))?;
            return Ok(None);
        }
        let mut left = Vec::new();
        for closed in self.files {
            if exists(fs.as_ref(), &closed.file.hidden())? {
                left.push(closed);
            } else if exists(fs.as_ref(), &closed.file.complete())? {
                publisher.publish(std::iter::once(&closed.file))?;
            } else {
                return Err(closed.file.lost());
            }
        }
        self.files = left;
        Ok((!self.files.is_empty()).then_some(self))
    }
}

/// What the committer needs to make one file of several.
pub(crate) struct Compaction<T> {
    pub(crate) compactor: Compactor<T>,
    pub(crate) format: Arc<dyn EncodeFormat<T>>,
    pub(crate) compression: Compression,
}

impl<T: 'static> Compaction<T> {
    /// Makes one file of a group and gives it its name; when this returns it survives a power failure, and its parts are gone. A group that has its
    /// name already stays as it is.
    pub(crate) fn commit(&self, ctx: &SinkContext, publisher: &mut Publisher, group: &Group) -> UserResult {
        let fs = files(&ctx.env);
        let output = group.output(ctx)?;
        let missing = || {
            let is_missing =
                |closed: &&ClosedFile| !exists(fs.as_ref(), &closed.file.hidden()).is_ok_and(|it| it);
            group.files.iter().find(is_missing)
        };
        let output = match (named(fs.as_ref(), &output)?, missing()) {
            (Some(output), _) => output,
            (None, None) => PendingFile { len: self.write(&fs, group, &output)?, ..output },
            // Somebody else may have been faster: an attempt that is believed dead may commit what is committed.
            (None, Some(missing)) => named(fs.as_ref(), &output)?.ok_or_else(|| missing.file.lost())?,
        };
        // Also if it has its name already: that may not be durable.
        publisher.publish(std::iter::once(&output))?;
        // With what an earlier call has left.
        let hidden = group.files.iter().map(|closed| &closed.file).chain(std::iter::once(&output));
        Ok(remove_hidden(fs.as_ref(), hidden)?)
    }

    /// Writes the file under its hidden name, durably; returns its length.
    fn write(&self, fs: &Arc<dyn FileSystem>, group: &Group, output: &PendingFile) -> UserResult<u64> {
        let hidden = output.hidden();
        let failed = |error| cannot("write file", &hidden, error);
        let file = fs.create(&hidden).map_err(failed)?;
        match &self.compactor {
            Compactor::Concatenate => {
                // Archives one after the other are an archive. A header in the middle can only be left out of what is not compressed.
                let has_header = group.files.iter().any(|closed| closed.header_bytes > 0);
                let outside = if has_header { self.compression } else { Compression::None };
                let mut file = CompressedFile::new(file, outside).map_err(failed)?;
                self.concatenate(fs, group, outside, &mut file)?;
                Ok(file.finish().map_err(failed)?)
            }
            Compactor::RecordWise(reader) => {
                let mut file = CompressedFile::new(file, self.compression).map_err(failed)?;
                self.copy_records(fs, group, reader.as_ref(), &mut file)?;
                Ok(file.finish().map_err(failed)?)
            }
        }
    }

    fn concatenate(
        &self,
        fs: &Arc<dyn FileSystem>,
        group: &Group,
        compression: Compression,
        into: &mut CompressedFile,
    ) -> UserResult {
        let mut first_header = None;
        for ClosedFile { file, header_bytes } in &group.files {
            let hidden = file.hidden();
            let copy = |into: &mut CompressedFile, first_header: &mut Option<Vec<u8>>| -> io::Result<bool> {
                let mut from = compression.decompress(Box::new(fs.open(&hidden)?))?;
                let mut header = Vec::new();
                from.by_ref().take(*header_bytes).read_to_end(&mut header)?;
                match first_header {
                    None => into.write_all(&header)?,
                    Some(first) if *first != header => return Ok(false),
                    Some(_) => {}
                }
                first_header.get_or_insert(header);
                let mut buffer = vec![0; COPY_BYTES];
                loop {
                    match from.read(&mut buffer)? {
                        0 => return Ok(true),
                        n => into.write_all(buffer.get(..n).unwrap_or_default())?,
                    }
                }
            };
            let is_same =
                copy(into, &mut first_header).map_err(|error| cannot("copy file", &hidden, error))?;
            if !is_same {
                let message = format!("file '{}' has another header than those before it", hidden.display());
                return Err(Error::new(ErrorKind::Corruption, message).into());
            }
        }
        Ok(())
    }

    fn copy_records(
        &self,
        fs: &Arc<dyn FileSystem>,
        group: &Group,
        reader: &dyn DecodeFormat<T>,
        into: &mut CompressedFile,
    ) -> UserResult {
        let mut encoder = self.format.start_file()?;
        let mut encoded = Vec::new();
        for ClosedFile { file, .. } in &group.files {
            let path = file.hidden();
            let input = DecodeInput {
                fs: Arc::clone(fs),
                path: path.clone(),
                range: ByteRange::WHOLE,
                position: None,
            };
            let mut decoder = reader.open(input)?;
            loop {
                let mut out = SplitOutput {
                    id: SplitId(String::new()),
                    batch: RecordBatch::default(),
                    bad_records: Vec::new(),
                    position: None,
                    finished: false,
                    caught_up: false,
                };
                let status = decoder.decode(COPY_RECORDS, &mut out)?;
                if let Some(bad) = out.bad_records.first() {
                    let message =
                        format!("file '{}' cannot be read to make it larger: {bad:?}", path.display());
                    return Err(Error::new(ErrorKind::Corruption, message).into());
                }
                for (record, _) in out.batch {
                    encoder.encode(&record, &mut encoded)?;
                }
                into.write_all(&encoded).map_err(|error| cannot("copy file", &path, error))?;
                encoded.clear();
                if status == InputStatus::EndOfInput {
                    break;
                }
            }
        }
        encoder.finish(&mut encoded)?;
        Ok(into.write_all(&encoded).map_err(|error| cannot("copy file", &group_path(group), error))?)
    }
}

fn group_path(group: &Group) -> std::path::PathBuf {
    group.files.first().map(|first| first.file.hidden()).unwrap_or_default()
}
