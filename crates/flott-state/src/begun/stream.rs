//! The writer's end of a keyed state: copies of entries come in, the bytes of key groups go out.

use super::sections::{Groups, SectionSink};
use super::{EncodeCold, EncodeEntry, GroupLayout, Shared};
use crate::codec::encode_into;
use crate::cold::{ColdSnapshot, Record, Spool};
use crate::table::{hash_of, order_of};
use flott_env::sync::mpsc;
use flott_types::{Data, Error, ErrorKind, Key, Result, key_group, key_hash};
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
    fn write(self: Box<Self>, groups: &mut Groups, sink: SectionSink<'_>) -> Result<()>;
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

    fn write(self: Box<Self>, groups: &mut Groups, sink: SectionSink<'_>) -> Result<()> {
        let Self { entries, encode } = *self;
        entries.iter().try_for_each(|(key, value)| {
            let group = key_group(key_hash(key), groups.max_parallelism);
            groups.add(group, |bytes| encode(key, value, bytes), sink)
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
        let groups = Groups::new(name, max_parallelism, layout);
        Self { pieces, shared, groups, spools: BTreeMap::new(), n_complete: 0 }
    }

    /// Has key groups handed on in sections of about so many bytes; without this each is one section.
    pub fn divide(&mut self, section_bytes: usize) {
        self.groups.divide(section_bytes);
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
                    None => entries.write(&mut self.groups, sink),
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

    /// Gives the rest to `sink`, key group by key group: a section of one of them is in memory at a time, beside what came from
    /// tables in memory.
    ///
    /// # Errors
    /// If a table has gone before it had sent everything; if the local disk cannot be read; if `sink` fails.
    pub fn finish(self, sink: SectionSink<'_>) -> Result<()> {
        let Self { shared, mut groups, spools, n_complete, .. } = self;
        let n_begun = shared.n_begun.load(Ordering::Relaxed);
        if n_complete != n_begun {
            let name = &groups.name;
            let message =
                format!("only {n_complete} of {n_begun} tables of state '{name}' were written whole");
            return Err(Error::subtask(message));
        }
        let sorted = spools.into_values().map(|(spool, encode)| Ok((spool.finish()?, encode)));
        let mut sorted = sorted.collect::<Result<Vec<_>>>()?;
        let mut last = None;
        loop {
            let cold = sorted.iter().filter_map(|(records, _)| records.current());
            let cold = cold.map(|record| key_group(hash_of(record.order), groups.max_parallelism));
            let Some(number) = groups.first().into_iter().chain(cold).min() else {
                return Ok(());
            };
            if last.is_some_and(|last| last >= number) {
                let message = format!("state '{}' on disk is not in the order of key groups", groups.name);
                return Err(Error::new(ErrorKind::Corruption, message));
            }
            last = Some(number);
            for (records, encode) in &mut sorted {
                groups.add_cold(number, records, encode, sink)?;
            }
            groups.hand_on(number, sink)?;
        }
    }
}
