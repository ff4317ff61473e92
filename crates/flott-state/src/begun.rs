//! A snapshot that was begun at a barrier and is written while the records behind the barrier are processed.
//!
//! What is small is in the [`OperatorSnapshot`] at once. A keyed state is a [`KeyedStream`]: tables send copies of their
//! entries as they were at the barrier, a few at a time (`table/capture.rs`), and whoever writes the snapshot, on another
//! thread, serializes them and puts them into key groups.

mod sections;
mod stream;
mod writer;

pub use sections::SectionSink;
pub use stream::{KeyedStream, Piece};
pub use writer::SnapshotWriter;

use crate::codec::encode_into;
use crate::cold::ColdSnapshot;
use crate::snapshot::OperatorSnapshot;
use flott_env::sync::mpsc;
use flott_types::{
    CheckpointBarrier, CheckpointId, Data, FileHandle, Increment, Key, KeyGroupRange, OperatorUid, Result,
};
use serde::Serialize;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use stream::{EntriesOf, Everywhere, PieceKind};

/// What the operators of a chain leave for a checkpoint.
#[derive(Debug)]
pub struct ChainSnapshot {
    checkpoint_id: CheckpointId,
    increment: Increment,
    /// The files that the operators may go on from, oldest first.
    pub bases: Vec<FileHandle>,
    /// In the order in which their streams are sent.
    pub operators: Vec<(OperatorUid, BegunSnapshot)>,
}

impl ChainSnapshot {
    /// For the checkpoint of `barrier`. Where that may go on from an earlier one, `bases` are the files of that one, oldest first; none if
    /// everything is to be written.
    pub fn new(barrier: &CheckpointBarrier, bases: Vec<FileHandle>) -> Self {
        let increment = match barrier.increment {
            Increment::Since(_) if bases.is_empty() => Increment::Base,
            increment => increment,
        };
        Self { checkpoint_id: barrier.id, increment, bases, operators: Vec::new() }
    }

    /// For an operator to begin its snapshot.
    pub fn begin(&self) -> BegunSnapshot {
        let increment = Some((self.checkpoint_id, self.increment));
        BegunSnapshot { increment, ..BegunSnapshot::default() }
    }

    /// Adds what an operator has begun.
    pub fn push(&mut self, uid: &OperatorUid, begun: BegunSnapshot) {
        self.operators.push((uid.clone(), begun));
    }
}

/// What one operator subtask leaves for a checkpoint.
#[derive(Debug, Default)]
pub struct BegunSnapshot {
    /// What was taken at the barrier.
    pub snapshot: OperatorSnapshot,
    /// Keyed states that follow; none of them is in `snapshot`. They are to be read in this order.
    pub streams: Vec<KeyedStream>,
    /// The checkpoint that it is for, and what it may go on from.
    increment: Option<(CheckpointId, Increment)>,
}

impl From<OperatorSnapshot> for BegunSnapshot {
    fn from(snapshot: OperatorSnapshot) -> Self {
        Self { snapshot, ..Self::default() }
    }
}

impl BegunSnapshot {
    /// Announces the keyed state `name`: all that there is, or what has changed. If more than one table sends, the caller knows which of
    /// both, and says so with [`KeyedStreamSender::set_continues`].
    pub fn stream(&mut self, name: &str, max_parallelism: u32, layout: GroupLayout) -> KeyedStreamSender {
        KeyedStreamSender { increment: self.increment, ..self.whole_stream(name, max_parallelism, layout) }
    }

    /// Announces the keyed state `name`, which tables and others send whole.
    pub fn whole_stream(
        &mut self,
        name: &str,
        max_parallelism: u32,
        layout: GroupLayout,
    ) -> KeyedStreamSender {
        #[expect(
            clippy::disallowed_methods,
            reason = "what is about to change cannot wait; what can, waits for the writer to follow"
        )]
        let (sender, pieces) = mpsc::unbounded_channel();
        let (name, shared) = (Arc::<str>::from(name), Arc::<Shared>::default());
        let stream =
            KeyedStream::new(Arc::clone(&name), max_parallelism, layout, pieces, Arc::clone(&shared));
        self.streams.push(stream);
        KeyedStreamSender { name, pieces: sender, shared, increment: None }
    }

    /// The whole snapshot in memory, once all streams have been sent completely. What is changes of another snapshot is to be put behind that:
    /// [`BegunSnapshot::complete_over`].
    ///
    /// # Errors
    /// If an entry cannot be serialized, or something is missing.
    pub fn complete(self) -> Result<OperatorSnapshot> {
        self.divided(usize::MAX, OperatorSnapshot::default())
    }

    /// The same for a snapshot that may go on from `older`: its changes are behind what that has.
    ///
    /// # Errors
    /// As [`BegunSnapshot::complete`].
    pub fn complete_over(self, older: OperatorSnapshot) -> Result<OperatorSnapshot> {
        self.divided(usize::MAX, older)
    }

    /// The same with key groups in sections of about so many bytes.
    pub(crate) fn divided(
        mut self,
        section_bytes: usize,
        mut older: OperatorSnapshot,
    ) -> Result<OperatorSnapshot> {
        for mut stream in self.streams {
            let continues = stream.begin(section_bytes);
            let name = stream.name().to_owned();
            let older = older.keyed.remove(&name).filter(|_| continues);
            let mut groups = older.unwrap_or_default();
            let mut sink = |group, kind, bytes| {
                groups.entry(group).or_default().push(kind, bytes);
                Ok(())
            };
            while let Some(piece) = stream.try_next() {
                stream.write(piece, &mut sink)?;
            }
            stream.finish(&mut sink)?;
            self.snapshot.keyed.insert(name, groups);
        }
        Ok(self.snapshot)
    }
}

/// How far what an operator has begun has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotProgress {
    /// Everything was sent.
    Complete,
    /// There is more to do.
    Unfinished,
    /// There is more to do when what was sent has been written.
    WriterBehind,
}

/// What the bytes of a section of a key group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupLayout {
    /// Entries, one after the other.
    Entries,
    /// A byte that tells the kind of the state, and entries.
    Kind(u8),
    /// The number of entries as a varint, and entries: a vector, for serde.
    Counted,
}

/// What senders and reader of a stream both know.
#[derive(Debug, Default)]
struct Shared {
    /// Tables that have begun to send.
    n_begun: AtomicUsize,
    /// Bytes of copies that wait to be written.
    waiting_bytes: AtomicUsize,
    /// What is sent are changes.
    continues: AtomicBool,
}

/// Serializes what there is for a key into the bytes of its key group; how many entries these are, none if it is to be left out.
pub(crate) type EncodeEntry<K, V> = Arc<dyn Fn(&K, &V, &mut Vec<u8>) -> Result<u64> + Send + Sync>;

/// The same for an entry whose key and value were serialized when it went to disk.
pub(crate) type EncodeCold = Box<dyn Fn(&[u8], &[u8], &mut Vec<u8>) -> Result<u64> + Send>;

/// For tables, to send the entries that they had at the barrier. Clones send to the same stream.
#[derive(Clone)]
pub struct KeyedStreamSender {
    name: Arc<str>,
    pieces: mpsc::UnboundedSender<Piece>,
    shared: Arc<Shared>,
    increment: Option<(CheckpointId, Increment)>,
}

impl fmt::Debug for KeyedStreamSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStreamSender").field("name", &self.name).finish_non_exhaustive()
    }
}

impl KeyedStreamSender {
    /// What serializes entries as pairs.
    pub(crate) fn encode_pairs<K: Key, V: Data>(
        &self,
    ) -> impl Fn(&K, &V, &mut Vec<u8>) -> Result<u64> + Send + Sync + 'static {
        let name = Arc::clone(&self.name);
        move |key, value, bytes| encode_into(&name, &(key, value), bytes).map(|()| 1)
    }

    /// For another table that sends, until it says that this was all. One that goes away without has its stream fail.
    pub(crate) fn begin(&self) -> TableSender {
        let table = self.shared.n_begun.fetch_add(1, Ordering::Relaxed);
        TableSender { table, stream: self.clone() }
    }

    /// The checkpoint that the stream is for, and what it may go on from; `None` if it is to be whole.
    pub fn increment(&self) -> Option<(CheckpointId, Increment)> {
        self.increment
    }

    /// What is sent are changes of what the checkpoint that it goes on from has, also what tables send that have everything to send.
    pub fn set_continues(&self) {
        self.shared.continues.store(true, Ordering::Relaxed);
    }

    /// Sends that in each key group of `range` what `entry` stands for is gone; before anything else is sent. The stream has to be one of
    /// changes.
    pub fn send_removed_everywhere<E: Serialize + Send + 'static>(&self, range: KeyGroupRange, entry: E) {
        let sender = self.begin();
        sender.send_piece(PieceKind::Removed(Box::new(Everywhere { range, entry })));
        sender.end();
    }

    /// Sends entries that no table has.
    pub fn send_all<K: Key, V: Data>(
        &self,
        entries: Vec<(K, V)>,
        encode: impl Fn(&K, &V, &mut Vec<u8>) -> Result<u64> + Send + Sync + 'static,
    ) {
        let sender = self.begin();
        sender.send(entries, &(Arc::new(encode) as EncodeEntry<K, V>));
        sender.end();
    }
}

/// How one table sends what it has.
pub(crate) struct TableSender {
    table: usize,
    stream: KeyedStreamSender,
}

impl TableSender {
    /// Bytes of copies that wait to be written, of all tables of the stream.
    pub(crate) fn waiting_bytes(&self) -> usize {
        if self.stream.pieces.is_closed() {
            // Nobody will ever write them: the checkpoint was given up.
            return 0;
        }
        self.stream.shared.waiting_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn send<K: Key, V: Data>(&self, entries: Vec<(K, V)>, encode: &EncodeEntry<K, V>) {
        let entries = EntriesOf::new(entries, Arc::clone(encode));
        self.stream.shared.waiting_bytes.fetch_add(entries.n_bytes(), Ordering::Relaxed);
        self.send_piece(PieceKind::Entries(Box::new(entries)));
    }

    /// Sends what the table has on disk. What it has in memory follows, and counts where both have a key.
    pub(crate) fn send_cold(&self, cold: ColdSnapshot, encode: EncodeCold) {
        self.send_piece(PieceKind::Cold(Box::new(cold), encode));
    }

    /// Sends the keys of entries that were removed; what the table has in memory follows, and some of them may be there again.
    pub(crate) fn send_removed<K: Key>(&self, keys: Arc<Mutex<Vec<K>>>) {
        self.send_piece(PieceKind::Removed(Box::new(keys)));
    }

    /// This was all.
    pub(crate) fn end(&self) {
        self.send_piece(PieceKind::Complete);
    }

    fn send_piece(&self, kind: PieceKind) {
        // If nobody reads, the snapshot is of no interest any more.
        drop(self.stream.pieces.send(Piece { table: self.table, kind }));
    }
}
