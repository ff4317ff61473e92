//! The writer's end of a keyed state: copies of entries come in, the bytes of key groups go out.

use super::{EncodeCold, EncodeEntry, GroupLayout, Shared};
use crate::codec::{encode, encode_into};
use crate::cold::{ColdSnapshot, MergeCursor, Record, Spool};
use crate::table::{hash_of, order_of};
use flott_env::sync::mpsc;
use flott_types::{Data, Error, ErrorKind, Key, KeyGroup, Result, key_group, key_hash};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    /// The table has sent everything.
    Complete,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            PieceKind::Cold(..) => f.write_str("Cold"),
            PieceKind::Entries(entries) => write!(f, "Entries({} bytes)", entries.n_bytes()),
            PieceKind::Complete => f.write_str("Complete"),
        }
    }
}

pub(super) trait Entries: Send {
    fn n_bytes(&self) -> usize;
    fn write(self: Box<Self>, groups: &mut Groups) -> Result<()>;
    /// Serializes keys and values apart, to be merged with what is on disk.
    fn spool(self: Box<Self>, spool: &mut Spool) -> Result<()>;
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

    fn write(self: Box<Self>, groups: &mut Groups) -> Result<()> {
        let Self { entries, encode } = *self;
        entries.iter().try_for_each(|(key, value)| {
            groups.add(key_group(key_hash(key), groups.max_parallelism), |bytes| encode(key, value, bytes))
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
    layout: GroupLayout,
    /// What came from tables in memory.
    groups: Groups,
    /// What came from tables with a disk, by their number.
    spools: BTreeMap<usize, (Spool, EncodeCold)>,
    n_complete: usize,
}

impl fmt::Debug for KeyedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStream").field("name", &self.groups.name).finish_non_exhaustive()
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
        let groups = Groups { name, max_parallelism, groups: BTreeMap::new() };
        Self { pieces, shared, layout, groups, spools: BTreeMap::new(), n_complete: 0 }
    }

    /// The name of the state.
    pub fn name(&self) -> &str {
        &self.groups.name
    }

    /// Waits for the next piece; `None` when no table will send any more.
    pub async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }

    pub(super) fn try_next(&mut self) -> Option<Piece> {
        self.pieces.try_recv().ok()
    }

    /// Serializes what came.
    ///
    /// # Errors
    /// If an entry cannot be serialized, or the local disk cannot be written.
    pub fn write(&mut self, piece: Piece) -> Result<()> {
        match piece.kind {
            PieceKind::Cold(cold, encode) => {
                self.spools.insert(piece.table, (Spool::new(*cold), encode));
                Ok(())
            }
            PieceKind::Entries(entries) => {
                let n_bytes = entries.n_bytes();
                let written = match self.spools.get_mut(&piece.table) {
                    Some((spool, _)) => entries.spool(spool),
                    None => entries.write(&mut self.groups),
                };
                self.shared.waiting_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
                written
            }
            PieceKind::Complete => {
                self.n_complete += 1;
                Ok(())
            }
        }
    }

    /// Calls `each` with the bytes of every key group that has any, in order: one of them is in memory at a time, beside
    /// what came from tables in memory.
    ///
    /// # Errors
    /// If a table has gone before it had sent everything; if the local disk cannot be read; if `each` fails.
    pub fn finish(self, mut each: impl FnMut(KeyGroup, Vec<u8>) -> Result<()>) -> Result<()> {
        let Self { shared, layout, groups: all, spools, n_complete, .. } = self;
        let Groups { name, max_parallelism, groups } = all;
        let n_begun = shared.n_begun.load(Ordering::Relaxed);
        if n_complete != n_begun {
            let message =
                format!("only {n_complete} of {n_begun} tables of state '{name}' were written whole");
            return Err(Error::subtask(message));
        }
        let sorted = spools.into_values().map(|(spool, encode)| Ok((spool.finish()?, encode)));
        let mut sorted = sorted.collect::<Result<Vec<_>>>()?;
        let (mut groups, mut last) = (groups, None);
        loop {
            let cold = sorted.iter().filter_map(|(records, _)| records.current());
            let cold = cold.map(|record| key_group(hash_of(record.order), max_parallelism));
            let Some(number) = groups.keys().next().copied().into_iter().chain(cold).min() else {
                return Ok(());
            };
            if last.is_some_and(|last| last >= number) {
                let message = format!("state '{name}' on disk is not in the order of key groups");
                return Err(Error::new(ErrorKind::Corruption, message));
            }
            last = Some(number);
            let mut group = groups.remove(&number).unwrap_or_default();
            for (records, encode) in &mut sorted {
                group.add_cold(number, max_parallelism, records, encode)?;
            }
            if group.n_entries > 0 {
                each(number, group.into_bytes(layout)?)?;
            }
        }
    }
}

/// Serialized entries by key group.
pub(super) struct Groups {
    name: Arc<str>,
    max_parallelism: u32,
    groups: BTreeMap<KeyGroup, Group>,
}

#[derive(Debug, Default)]
struct Group {
    n_entries: u64,
    bytes: Vec<u8>,
}

impl Groups {
    fn add(&mut self, group: KeyGroup, encode: impl FnOnce(&mut Vec<u8>) -> Result<bool>) -> Result<()> {
        let group = self.groups.entry(group).or_default();
        group.n_entries += u64::from(encode(&mut group.bytes)?);
        Ok(())
    }
}

impl Group {
    /// Adds the records of this key group, which are the next ones.
    fn add_cold(
        &mut self,
        number: KeyGroup,
        max_parallelism: u32,
        records: &mut MergeCursor<'_>,
        encode: &EncodeCold,
    ) -> Result<()> {
        while let Some(record) = records.current() {
            if key_group(hash_of(record.order), max_parallelism) != number {
                return Ok(());
            }
            if let Some(value) = record.value {
                self.n_entries += u64::from(encode(record.key, value, &mut self.bytes)?);
            }
            records.advance()?;
        }
        Ok(())
    }

    fn into_bytes(self, layout: GroupLayout) -> Result<Vec<u8>> {
        let mut whole = match layout {
            GroupLayout::Entries => return Ok(self.bytes),
            GroupLayout::Kind(kind) => vec![kind],
            GroupLayout::Counted => encode("the number of entries", &self.n_entries)?,
        };
        whole.extend_from_slice(&self.bytes);
        Ok(whole)
    }
}
