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
use crate::snapshot::{KeyGroupBytes, OperatorSnapshot};
use flott_env::sync::mpsc;
use flott_types::{Data, Key, Result};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use stream::{EntriesOf, PieceKind};

/// What one operator subtask leaves for a checkpoint.
#[derive(Debug, Default)]
pub struct BegunSnapshot {
    /// What was taken at the barrier.
    pub snapshot: OperatorSnapshot,
    /// Keyed states that follow; none of them is in `snapshot`. They are to be read in this order.
    pub streams: Vec<KeyedStream>,
}

impl From<OperatorSnapshot> for BegunSnapshot {
    fn from(snapshot: OperatorSnapshot) -> Self {
        Self { snapshot, streams: Vec::new() }
    }
}

impl BegunSnapshot {
    /// Announces the keyed state `name`; the sender is for its tables.
    pub fn stream(&mut self, name: &str, max_parallelism: u32, layout: GroupLayout) -> KeyedStreamSender {
        #[expect(
            clippy::disallowed_methods,
            reason = "what is about to change cannot wait; what can, waits for the writer to follow"
        )]
        let (sender, pieces) = mpsc::unbounded_channel();
        let (name, shared) = (Arc::<str>::from(name), Arc::<Shared>::default());
        let stream =
            KeyedStream::new(Arc::clone(&name), max_parallelism, layout, pieces, Arc::clone(&shared));
        self.streams.push(stream);
        KeyedStreamSender { name, pieces: sender, shared }
    }

    /// The whole snapshot in memory, once all streams have been sent completely.
    ///
    /// # Errors
    /// If an entry cannot be serialized, or something is missing.
    pub fn complete(self) -> Result<OperatorSnapshot> {
        self.divided(usize::MAX)
    }

    /// The same with key groups in sections of about so many bytes.
    pub(crate) fn divided(mut self, section_bytes: usize) -> Result<OperatorSnapshot> {
        for mut stream in self.streams {
            stream.divide(section_bytes);
            let name = stream.name().to_owned();
            let mut groups = KeyGroupBytes::new();
            let mut sink = |group, bytes| {
                groups.entry(group).or_default().push(bytes);
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
}

/// Serializes an entry into the bytes of its key group; false for one that is to be left out.
pub(crate) type EncodeEntry<K, V> = Arc<dyn Fn(&K, &V, &mut Vec<u8>) -> Result<bool> + Send + Sync>;

/// The same for an entry whose key and value were serialized when it went to disk.
pub(crate) type EncodeCold = Box<dyn Fn(&[u8], &[u8], &mut Vec<u8>) -> Result<bool> + Send>;

/// For tables, to send the entries that they had at the barrier. Clones send to the same stream.
#[derive(Clone)]
pub struct KeyedStreamSender {
    name: Arc<str>,
    pieces: mpsc::UnboundedSender<Piece>,
    shared: Arc<Shared>,
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
    ) -> impl Fn(&K, &V, &mut Vec<u8>) -> Result<bool> + Send + Sync + 'static {
        let name = Arc::clone(&self.name);
        move |key, value, bytes| encode_into(&name, &(key, value), bytes).map(|()| true)
    }

    /// For another table that sends, until it says that this was all. One that goes away without has its stream fail.
    pub(crate) fn begin(&self) -> TableSender {
        let table = self.shared.n_begun.fetch_add(1, Ordering::Relaxed);
        TableSender { table, stream: self.clone() }
    }

    /// Sends entries that no table has.
    pub fn send_all<K: Key, V: Data>(
        &self,
        entries: Vec<(K, V)>,
        encode: impl Fn(&K, &V, &mut Vec<u8>) -> Result<bool> + Send + Sync + 'static,
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

    /// This was all.
    pub(crate) fn end(&self) {
        self.send_piece(PieceKind::Complete);
    }

    fn send_piece(&self, kind: PieceKind) {
        // If nobody reads, the snapshot is of no interest any more.
        drop(self.stream.pieces.send(Piece { table: self.table, kind }));
    }
}
