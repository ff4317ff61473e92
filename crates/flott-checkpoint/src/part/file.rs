//! A part in its store: compared with its handle, then read section by section.

use super::index::{self, HEADER_LEN, IndexedOperator, Section, TRAILER_LEN};
use super::{PartOperator, PartOperators, checksum_of, lists};
use crate::codec::{Reader, checksum, corrupt};
use crate::owner::failed;
use crate::store::ObjectStore;
use flott_state::{OperatorSnapshot, StoredSection};
use flott_types::{CheckpointId, Error, ErrorKind, FileHandle, OperatorUid, Result};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// The way to the file of a handle.
#[derive(Clone, Debug)]
pub(crate) struct PartFile {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Where it is in `store`.
    pub(crate) path: String,
    pub(crate) handle: FileHandle,
    /// Whose it is, for messages.
    pub(crate) checkpoint_id: CheckpointId,
}

impl PartFile {
    /// Compares the file with its handle, and reads it: as a whole if it has at most `whole_max` bytes, otherwise its index.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] that names the file if it is missing or not what was written, [`ErrorKind::Retry`] if the store does
    /// not answer.
    pub(crate) fn open(self, whole_max: u64) -> Result<PartOperators> {
        if self.handle.len <= whole_max {
            return super::decode(&self.handle.path, &self.read_whole()?);
        }
        self.verify()?;
        let header = self.read(0, HEADER_LEN as u64)?;
        if super::version(&header) == 1 {
            // As it always was.
            return super::decode(&self.handle.path, &self.read_whole()?);
        }
        let file = self.handle.path.clone();
        let len = self.handle.len;
        let trailer = self.read(len.saturating_sub(TRAILER_LEN as u64), TRAILER_LEN as u64)?;
        let index_len = index::index_len(&file, len, &trailer)? + TRAILER_LEN as u64;
        let base = len - index_len;
        let index = self.read(base, index_len)?;
        let operators = index::decode(&file, &header, base as usize, &index)?;
        let (file, version) = (Arc::new(self), super::version(&header));
        operators.into_iter().map(|operator| file.operator(version, operator)).collect()
    }

    /// The version of its format, as it says.
    pub(crate) fn version(&self) -> Result<u32> {
        self.read(0, HEADER_LEN as u64).map(|header| super::version(&header))
    }

    fn operator(
        self: &Arc<Self>,
        version: u32,
        operator: IndexedOperator,
    ) -> Result<(OperatorUid, PartOperator)> {
        let IndexedOperator { uid, key_hash_version, max_parallelism, keyed, lists } = operator;
        let mut snapshot =
            OperatorSnapshot { key_hash_version, max_parallelism, ..OperatorSnapshot::default() };
        let mut continued = BTreeSet::new();
        for (name, state) in keyed {
            if state.continues {
                continued.insert(name.clone());
            }
            let of_state = snapshot.keyed.entry(name).or_default();
            for (group, sections) in state.groups {
                let bytes = of_state.entry(group).or_default();
                for section in sections {
                    let of_file = SectionOfFile { file: Arc::clone(self), section };
                    bytes.push_stored(section.kind, Arc::new(of_file));
                }
            }
        }
        let bytes = self.read_section(&lists)?;
        let mut reader = Reader::at(&self.handle.path, lists.offset as usize, &bytes);
        lists::read(&mut reader, version, &mut snapshot)?;
        reader.finish()?;
        Ok((uid, PartOperator { snapshot, continued }))
    }

    /// Compares length and checksum, block by block.
    fn verify(&self) -> Result<()> {
        let FileHandle { len, checksum, .. } = self.handle;
        let found = self.store.metadata(&self.path).map_err(|error| self.failed(error))?.len;
        if found != len {
            return Err(self.damaged(format_args!("has {found} of its {len} bytes")));
        }
        let computed =
            checksum_of(self.store.as_ref(), &self.path, len).map_err(|error| self.failed(error))?;
        self.check(computed, checksum)
    }

    fn read_whole(&self) -> Result<Vec<u8>> {
        let FileHandle { len, checksum: expected, .. } = self.handle;
        let bytes = self.store.get(&self.path, len).map_err(|error| self.failed(error))?;
        if bytes.len() as u64 != len {
            return Err(self.damaged(format_args!("has {} of its {len} bytes", bytes.len())));
        }
        self.check(checksum(&bytes), expected).map(|()| bytes)
    }

    fn check(&self, computed: u64, expected: u64) -> Result<()> {
        if computed == expected {
            return Ok(());
        }
        Err(self.damaged(format_args!("has checksum {computed:016x} instead of {expected:016x}")))
    }

    fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.store.get_range(&self.path, offset, len).map_err(|error| self.failed(error))
    }

    fn read_section(&self, section: &Section) -> Result<Vec<u8>> {
        let bytes = self.read(section.offset, section.len)?;
        if checksum(&bytes) == section.checksum {
            return Ok(bytes);
        }
        let what = format_args!("the section of {} bytes has another checksum", section.len);
        Err(corrupt(&self.handle.path, section.offset as usize, what))
    }

    fn damaged(&self, what: std::fmt::Arguments<'_>) -> Error {
        let Self { handle, checkpoint_id, .. } = self;
        let message = format!("file '{}' of checkpoint {checkpoint_id} {what}", handle.path);
        Error::new(ErrorKind::Corruption, message)
    }

    fn failed(&self, error: io::Error) -> Error {
        let FileHandle { path, len, .. } = &self.handle;
        match error.kind() {
            io::ErrorKind::NotFound => self.damaged(format_args!("is missing")),
            io::ErrorKind::FileTooLarge => self.damaged(format_args!("has more than its {len} bytes")),
            io::ErrorKind::UnexpectedEof => {
                self.damaged(format_args!("has less than its {len} bytes")).with_source(error)
            }
            _ => failed(&format!("read '{path}'"), error),
        }
    }
}

/// A section of a key group.
#[derive(Debug)]
struct SectionOfFile {
    file: Arc<PartFile>,
    section: Section,
}

impl StoredSection for SectionOfFile {
    fn n_bytes(&self) -> u64 {
        self.section.len
    }

    fn first_byte(&self) -> Option<u8> {
        (self.section.len > 0).then_some(self.section.first)
    }

    fn read(&self) -> Result<Vec<u8>> {
        self.file.read_section(&self.section)
    }
}
