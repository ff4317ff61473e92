//! The writer's end of a keyed state: copies of entries come in, the bytes of key groups go out.

use super::sections::{Groups, SectionSink};
use super::{EncodeCold, EncodeEntry, GroupLayout, Shared};
use crate::codec::encode_into;
use crate::cold::{ColdSnapshot, MergeCursor, Record, Spool};
use crate::snapshot::SectionKind;
use crate::table::{hash_of, order_of};
use flott_env::sync::mpsc;
use flott_types::{Data, Error, ErrorKind, Key, KeyGroup, KeyGroupRange, Result, key_group, key_hash};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

/// A part of what a [`KeyedStream`] consists of.
pub struct Piece {
    /// The number of the table that has sent it.
    pub(super) table: usize,
    pub(super) kind: PieceKind,
}

pub(super) enum PieceKind {
    /// What the table had on disk; it comes before its entries.
    Cold(Box<ColdSnapshot>, EncodeCold),
    Entries(Box<dyn Entries>),
    /// Keys that the table has not any more; they come before its entries.
    Removed(Box<dyn Keys>),
    /// The table has sent everything.
    Complete,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            PieceKind::Cold(..) => f.write_str("Cold"),
            PieceKind::Entries(entries) => write!(f, "Entries({} bytes)", entries.n_bytes()),
            PieceKind::Removed(_) => f.write_str("Removed"),
            PieceKind::Complete => f.write_str("Complete"),
        }
    }
}

pub(super) trait Entries: Send {
    fn n_bytes(&self) -> usize;
    fn write(self: Box<Self>, sections: &mut Sections, sink: SectionSink<'_>) -> Result<()>;
    /// Serializes keys and values apart, to be merged with what is on disk.
    fn spool(self: Box<Self>, spool: &mut Spool) -> Result<()>;
}

pub(super) trait Keys: Send {
    fn write(self: Box<Self>, sections: &mut Sections, sink: SectionSink<'_>) -> Result<()>;
}

impl<K: Key> Keys for Arc<Mutex<Vec<K>>> {
    fn write(self: Box<Self>, sections: &mut Sections, sink: SectionSink<'_>) -> Result<()> {
        let keys = self.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().try_for_each(|key| {
            let group = sections.group_of(key_hash(key));
            sections.remove(group, |name, bytes| encode_into(name, key, bytes), sink)
        })
    }
}

/// What is gone in each of these key groups.
pub(super) struct Everywhere<E> {
    pub(super) range: KeyGroupRange,
    pub(super) entry: E,
}

impl<E: Serialize + Send> Keys for Everywhere<E> {
    fn write(self: Box<Self>, sections: &mut Sections, sink: SectionSink<'_>) -> Result<()> {
        (self.range.start..self.range.end).try_for_each(|group| {
            sections.remove(KeyGroup(group), |name, bytes| encode_into(name, &self.entry, bytes), sink)
        })
    }
}

/// Serialized entries on their way into sections, and with changes serialized keys of what is gone.
pub(super) struct Sections {
    name: Arc<str>,
    max_parallelism: u32,
    continues: bool,
    entries: Groups,
    removed: Groups,
}

impl Sections {
    fn group_of(&self, hash: u64) -> KeyGroup {
        key_group(hash, self.max_parallelism)
    }

    /// Adds an entry. Of one that is left out, because it has expired, the checkpoint before may have an earlier value.
    fn add(
        &mut self,
        group: KeyGroup,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<u64>,
        encode_key: impl FnOnce(&str, &mut Vec<u8>) -> Result<()>,
        sink: SectionSink<'_>,
    ) -> Result<()> {
        let mut n_entries = 0;
        let encode = |bytes: &mut Vec<u8>| {
            n_entries = encode(bytes)?;
            Ok(n_entries)
        };
        self.entries.add(group, encode, sink)?;
        if n_entries > 0 { Ok(()) } else { self.remove(group, encode_key, sink) }
    }

    /// Adds a key that is gone.
    fn remove(
        &mut self,
        group: KeyGroup,
        encode_key: impl FnOnce(&str, &mut Vec<u8>) -> Result<()>,
        sink: SectionSink<'_>,
    ) -> Result<()> {
        let Self { name, removed, .. } = self;
        if self.continues {
            removed.add(group, |bytes| encode_key(name, bytes).map(|()| 1), sink)
        } else {
            Ok(())
        }
    }

    /// Adds the records of a key group, which are the next ones.
    fn add_cold(
        &mut self,
        group: KeyGroup,
        records: &mut MergeCursor<'_>,
        encode: &EncodeCold,
        sink: SectionSink<'_>,
    ) -> Result<()> {
        while let Some(record) = records.current() {
            if self.group_of(hash_of(record.order)) != group {
                return Ok(());
            }
            let encode_key = |_: &str, bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(record.key);
                Ok(())
            };
            match record.value {
                Some(value) => self.add(group, |bytes| encode(record.key, value, bytes), encode_key, sink)?,
                None => self.remove(group, encode_key, sink)?,
            }
            records.advance()?;
        }
        Ok(())
    }
}

pub(super) struct EntriesOf<K, V> {
    entries: Vec<(K, V)>,
    encode: EncodeEntry<K, V>,
}

impl<K, V> EntriesOf<K, V> {
    pub(super) fn new(entries: Vec<(K, V)>, encode: EncodeEntry<K, V>) -> Self {
        Self { entries, encode }
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(K, V)>()
    }
}

impl<K: Key, V: Data> Entries for EntriesOf<K, V> {
    fn n_bytes(&self) -> usize {
        Self::n_bytes(self)
    }

    fn write(self: Box<Self>, sections: &mut Sections, sink: SectionSink<'_>) -> Result<()> {
        let Self { entries, encode } = *self;
        entries.iter().try_for_each(|(key, value)| {
            let group = sections.group_of(key_hash(key));
            let encode = |bytes: &mut Vec<u8>| encode(key, value, bytes);
            sections.add(group, encode, |name, bytes| encode_into(name, key, bytes), sink)
        })
    }

    fn spool(self: Box<Self>, spool: &mut Spool) -> Result<()> {
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        self.entries.iter().try_for_each(|(key, value)| {
            key_bytes.clear();
            value_bytes.clear();
            encode_into("a key of state on disk", key, &mut key_bytes)?;
            encode_into("a value of state on disk", value, &mut value_bytes)?;
            spool.put(Record { order: order_of(key_hash(key)), key: &key_bytes, value: Some(&value_bytes) })
        })
    }
}

/// A keyed state on its way into a snapshot.
pub struct KeyedStream {
    pieces: mpsc::UnboundedReceiver<Piece>,
    shared: Arc<Shared>,
    /// What came from tables in memory and was not handed on yet.
    sections: Sections,
    /// What came from tables with a disk, by their number.
    spools: BTreeMap<usize, (Spool, EncodeCold)>,
    n_complete: usize,
}

impl fmt::Debug for KeyedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStream").field("name", &self.sections.name).finish_non_exhaustive()
    }
}

impl KeyedStream {
    pub(super) fn new(
        name: Arc<str>,
        max_parallelism: u32,
        layout: GroupLayout,
        pieces: mpsc::UnboundedReceiver<Piece>,
        shared: Arc<Shared>,
    ) -> Self {
        let entries = Groups::new(SectionKind::Whole, layout);
        let removed = Groups::new(SectionKind::Removed, layout);
        let sections = Sections { name, max_parallelism, continues: false, entries, removed };
        Self { pieces, shared, sections, spools: BTreeMap::new(), n_complete: 0 }
    }

    /// Before the first piece is written: has key groups handed on in sections of about so many bytes. Returns whether these are changes
    /// of what the checkpoint before has.
    pub fn begin(&mut self, section_bytes: usize) -> bool {
        let Sections { continues, entries, removed, .. } = &mut self.sections;
        entries.divide(section_bytes);
        removed.divide(section_bytes);
        *continues = self.shared.continues.load(Ordering::Relaxed);
        if *continues {
            entries.set_kind(SectionKind::Changed);
        }
        *continues
    }

    /// The name of the state.
    pub fn name(&self) -> &str {
        &self.sections.name
    }

    /// Waits for the next piece; `None` when no table will send any more.
    pub async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }

    pub(crate) fn try_next(&mut self) -> Option<Piece> {
        self.pieces.try_recv().ok()
    }

    /// Serializes what came. Sections that are full are given to `sink`, of key groups in any order.
    ///
    /// # Errors
    /// If an entry cannot be serialized, or the local disk cannot be written; if `sink` fails.
    pub fn write(&mut self, piece: Piece, sink: SectionSink<'_>) -> Result<()> {
        match piece.kind {
            PieceKind::Cold(cold, encode) => {
                self.spools.insert(piece.table, (Spool::new(*cold), encode));
                Ok(())
            }
            PieceKind::Entries(entries) => {
                let n_bytes = entries.n_bytes();
                let written = match self.spools.get_mut(&piece.table) {
                    Some((spool, _)) => entries.spool(spool),
                    None => entries.write(&mut self.sections, sink),
                };
                self.shared.waiting_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
                written
            }
            PieceKind::Removed(keys) => {
                keys.write(&mut self.sections, sink)?;
                // Now: some of them may be there again.
                self.sections.removed.hand_all_on(sink)
            }
            PieceKind::Complete => {
                self.n_complete += 1;
                Ok(())
            }
        }
    }

    /// Gives the rest to `sink`, key group by key group: a section of one of them is in memory at a time, beside what came from
    /// tables in memory.
    ///
    /// # Errors
    /// If a table has gone before it had sent everything; if the local disk cannot be read; if `sink` fails.
    pub fn finish(self, sink: SectionSink<'_>) -> Result<()> {
        let Self { shared, mut sections, spools, n_complete, .. } = self;
        let n_begun = shared.n_begun.load(Ordering::Relaxed);
        if n_complete != n_begun {
            let name = &sections.name;
            let message =
                format!("only {n_complete} of {n_begun} tables of state '{name}' were written whole");
            return Err(Error::subtask(message));
        }
        let sorted = spools.into_values().map(|(spool, encode)| Ok((spool.finish()?, encode)));
        let mut sorted = sorted.collect::<Result<Vec<_>>>()?;
        let mut last = None;
        loop {
            let cold = sorted.iter().filter_map(|(records, _)| records.current());
            let cold = cold.map(|record| sections.group_of(hash_of(record.order)));
            let Some(group) = sections.entries.first().into_iter().chain(cold).min() else {
                return sections.removed.hand_all_on(sink);
            };
            if last.is_some_and(|last| last >= group) {
                let message = format!("state '{}' on disk is not in the order of key groups", sections.name);
                return Err(Error::new(ErrorKind::Corruption, message));
            }
            last = Some(group);
            for (records, encode) in &mut sorted {
                sections.add_cold(group, records, encode, sink)?;
            }
            sections.entries.hand_on(group, sink)?;
        }
    }
}
