//! Writes a part while its sections come.

use super::index::{self, IndexedOperator, IndexedState, Section};
use super::{VERSION, checksum_of, lists};
use crate::owner::failed;
use crate::store::{ObjectStore, ObjectWriter};
use flott_env::canary;
use flott_state::{OperatorSnapshot, SectionKind, SnapshotWriter};
use flott_types::{Error, ErrorKind, FileHandle, KeyGroup, OperatorUid, Result};
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io;
use std::sync::Arc;
use twox_hash::XxHash3_64;

/// Bytes that are collected before the store gets them.
const WRITE_BYTES: usize = 64 << 10;

/// A part that is being written; see [`SnapshotWriter`].
pub struct PartWriter {
    store: Arc<dyn ObjectStore>,
    path: String,
    /// Until something fails.
    object: Option<Box<dyn ObjectWriter>>,
    buffer: Vec<u8>,
    hasher: XxHash3_64,
    /// Bytes so far, those in the buffer included.
    len: u64,
    operators: Vec<IndexedOperator>,
    /// Of the operator that comes next.
    keyed: BTreeMap<String, IndexedState>,
    /// To which sections belong.
    state: String,
}

impl std::fmt::Debug for PartWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl PartWriter {
    /// Begins the object `path` of `store`.
    pub(crate) fn new(store: &Arc<dyn ObjectStore>, path: String) -> Result<Self> {
        let object = store.create(&path).map_err(|error| failed(&format!("create '{path}'"), error))?;
        let mut writer = Self {
            store: Arc::clone(store),
            path,
            object: Some(object),
            buffer: Vec::new(),
            hasher: XxHash3_64::new(),
            len: 0,
            operators: Vec::new(),
            keyed: BTreeMap::new(),
            state: String::new(),
        };
        writer.append(&index::header(VERSION))?;
        Ok(writer)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.len += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < WRITE_BYTES { Ok(()) } else { self.flush() }
    }

    /// After an error nothing can be written any more.
    fn flush(&mut self) -> Result<()> {
        let attempt = format!("write '{}'", self.path);
        let mut object =
            self.object.take().ok_or_else(|| failed(&attempt, io::ErrorKind::BrokenPipe.into()))?;
        self.hasher.write(&self.buffer);
        object.write(&self.buffer).map_err(|error| failed(&attempt, error))?;
        self.object = Some(object);
        self.buffer.clear();
        Ok(())
    }

    fn add(&mut self, kind: SectionKind, bytes: &[u8]) -> Result<Section> {
        let section = Section::of(self.len, kind, bytes);
        self.append(bytes).map(|()| section)
    }

    /// Whether what is there is what was to be made; if it is, it is durable.
    fn is_there(&self, handle: &FileHandle) -> io::Result<bool> {
        let store = self.store.as_ref();
        if store.metadata(&handle.path)?.len != handle.len {
            return Ok(false);
        }
        let is_same = checksum_of(store, &handle.path, handle.len)? == handle.checksum;
        if is_same {
            store.sync(handle.path.rsplit_once('/').map_or("", |(dir, _)| dir))?;
        }
        Ok(is_same)
    }
}

impl SnapshotWriter for PartWriter {
    fn state(&mut self, name: &str, continues: bool) -> Result<()> {
        name.clone_into(&mut self.state);
        let state = IndexedState { continues, ..IndexedState::default() };
        match self.keyed.insert(name.to_owned(), state) {
            None => Ok(()),
            Some(_) => Err(Error::subtask(format!("an operator has two keyed states '{name}'"))),
        }
    }

    fn section(&mut self, group: KeyGroup, kind: SectionKind, bytes: &[u8]) -> Result<()> {
        let section = self.add(kind, bytes)?;
        let state = self.keyed.entry(self.state.clone()).or_default();
        state.groups.entry(group).or_default().push(section);
        Ok(())
    }

    fn operator(&mut self, uid: &OperatorUid, snapshot: &OperatorSnapshot) -> Result<()> {
        // By name, so that a field that is added does not compile until the format has it.
        let OperatorSnapshot {
            key_hash_version,
            max_parallelism,
            keyed,
            list: _,
            union: _,
            broadcast: _,
            schemas: _,
        } = snapshot;
        for (name, groups) in keyed {
            self.state(name, false)?;
            for (group, bytes) in groups {
                bytes.for_each_change(|kind, section| self.section(*group, kind, section))?;
            }
        }
        let mut bytes = Vec::new();
        lists::put(&mut bytes, snapshot)?;
        let lists = self.add(SectionKind::Whole, &bytes)?;
        self.operators.push(IndexedOperator {
            uid: uid.clone(),
            key_hash_version: *key_hash_version,
            max_parallelism: *max_parallelism,
            keyed: std::mem::take(&mut self.keyed),
            lists,
        });
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<FileHandle> {
        let index = index::encode(&index::header(VERSION), &self.operators);
        self.append(&index)?;
        self.flush()?;
        let handle = FileHandle { path: self.path.clone(), len: self.len, checksum: self.hasher.finish() };
        let Some(object) = self.object.take() else { return Err(Error::subtask("a part is written once")) };
        if canary("acknowledge-before-durable") {
            return Ok(handle);
        }
        let Err(error) = object.publish() else { return Ok(handle) };
        // Also after other errors: the object may have been made and only the answer lost.
        match self.is_there(&handle) {
            Ok(true) => Ok(handle),
            Ok(false) => {
                let message = format!("part '{}' exists with another content", handle.path);
                Err(Error::new(ErrorKind::Retry, message))
            }
            Err(_) => Err(failed(&format!("create '{}'", handle.path), error)),
        }
    }
}
