//! The hand-written dataflow: generators, a batched exchange by key and one operator per thread.
//!
//! Each of `parallelism` threads generates its blocks and also aggregates the keys it owns; with as
//! many threads as cores nothing waits for a context switch, and records a thread keeps for itself
//! never leave its cache. Batches travel through one bounded channel per receiver, each with the
//! sender's watermark; emptied vectors travel back. A thread whose receiver is full works off its
//! own inbox meanwhile, so two full inboxes cannot block each other.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use crate::hash::owner_of_key;
use crate::records::{BLOCK_LEN, Record, generator_blocks};
use crate::scenario::Checksum;
use crate::threads::run_on_threads;

/// A batch is sent when it has at least this many records.
const BATCH_LEN: usize = 1024;

/// How many batches may wait in an inbox.
const INBOX_BATCHES_MAX: usize = 8;

/// How far, in time units, a generator may run ahead of the slowest one. An inbox does not bound
/// this: a thread may work off its inbox faster than it generates.
pub(crate) const DRIFT_MAX: i64 = 64 * BLOCK_LEN as i64;

/// The watermark of a sender that has not sent: time begins at zero.
const BEFORE_TIME: i64 = -1;

/// How long a thread sleeps on its own inbox before it looks again whether a full one has room.
/// Spinning is no faster on idle cores, and on busy ones it delays the thread that it waits for.
const FULL_INBOX_WAIT: Duration = Duration::from_micros(20);

/// What one thread does with the records of its keys.
pub(crate) trait Operator {
    /// Takes records of one sender; each sender's records come in event-time order.
    fn on_records(&mut self, sender: usize, records: &[Record]);

    /// Learns that no record with a timestamp at or before `watermark` will follow, of any sender;
    /// `i64::MAX` at the end of the input.
    fn on_watermark(&mut self, watermark: i64);

    /// The checksum of all emitted results.
    fn checksum(&self) -> Checksum;
}

/// Runs `records` records made by `generate` through one operator per thread.
pub(crate) fn run<O: Operator>(
    records: u64,
    parallelism: usize,
    generate: impl Fn(u64) -> Record + Copy + Send,
    new_operator: impl Fn() -> O + Copy + Send,
) -> Checksum {
    if parallelism == 1 {
        return run_on_one_thread(records, generate, new_operator());
    }
    run_on_threads(connect(parallelism), move |links| {
        Subtask::new(links, new_operator()).run(records, generate)
    })
}

fn run_on_one_thread(
    records: u64,
    generate: impl Fn(u64) -> Record,
    mut operator: impl Operator,
) -> Checksum {
    let mut batch = Vec::with_capacity(BLOCK_LEN as usize);
    for block in generator_blocks(records, 0, 1) {
        batch.clear();
        batch.extend(block.map(&generate));
        operator.on_records(0, &batch);
        if let Some(last) = batch.last() {
            operator.on_watermark(last.1);
        }
    }
    operator.on_watermark(i64::MAX);
    operator.checksum()
}

/// Records of one sender and the watermark that holds after them.
struct Batch {
    sender: usize,
    records: Vec<Record>,
    watermark: i64,
}

/// One thread's ends of all channels.
struct Links {
    subtask: usize,
    inbox: Receiver<Batch>,
    peers: Vec<SyncSender<Batch>>,
    emptied: Receiver<Vec<Record>>,
    give_back: Vec<SyncSender<Vec<Record>>>,
}

fn connect(parallelism: usize) -> Vec<Links> {
    let (peers, inboxes): (Vec<_>, Vec<_>) =
        (0..parallelism).map(|_| sync_channel(INBOX_BATCHES_MAX)).unzip();
    let (give_back, emptied): (Vec<_>, Vec<_>) =
        (0..parallelism).map(|_| sync_channel(INBOX_BATCHES_MAX * parallelism)).unzip();
    inboxes
        .into_iter()
        .zip(emptied)
        .enumerate()
        .map(|(subtask, (inbox, emptied))| Links {
            subtask,
            inbox,
            peers: peers.clone(),
            emptied,
            give_back: give_back.clone(),
        })
        .collect()
}

struct Subtask<O> {
    links: Links,
    operator: O,
    /// The last watermark of each sender, this thread among them.
    watermarks: Vec<i64>,
    /// Records waiting to be sent, by receiver.
    pending: Vec<Vec<Record>>,
}

impl<O: Operator> Subtask<O> {
    fn new(links: Links, operator: O) -> Self {
        let parallelism = links.peers.len();
        let batch_capacity = BATCH_LEN + BLOCK_LEN as usize;
        Self {
            links,
            operator,
            watermarks: vec![BEFORE_TIME; parallelism],
            pending: (0..parallelism).map(|_| Vec::with_capacity(batch_capacity)).collect(),
        }
    }

    fn run(mut self, records: u64, generate: impl Fn(u64) -> Record) -> Checksum {
        let parallelism = self.links.peers.len();
        for block in generator_blocks(records, self.links.subtask, parallelism) {
            let mut watermark = i64::MIN;
            for index in block {
                let record = generate(index);
                watermark = record.1;
                self.pending[owner_of_key(record.0, parallelism)].push(record);
            }
            self.send_pending(BATCH_LEN, watermark);
            self.work_off_inbox();
            if watermark > self.lowest_watermark().saturating_add(DRIFT_MAX) {
                self.send_pending(0, watermark);
                while watermark > self.lowest_watermark().saturating_add(DRIFT_MAX) {
                    self.receive_next();
                }
            }
        }
        self.send_pending(0, i64::MAX);
        while self.lowest_watermark() < i64::MAX {
            self.receive_next();
        }
        self.operator.checksum()
    }

    fn receive_next(&mut self) {
        let batch = self.links.inbox.recv().expect("every sender ends with a last watermark");
        self.receive(batch);
    }

    fn lowest_watermark(&self) -> i64 {
        self.watermarks.iter().copied().min().unwrap_or(i64::MAX)
    }

    /// Sends each receiver's records if they are at least `len_min`, this thread's own included.
    fn send_pending(&mut self, len_min: usize, watermark: i64) {
        for receiver in 0..self.pending.len() {
            if self.pending[receiver].len() < len_min {
                continue;
            }
            if receiver == self.links.subtask {
                self.operator.on_records(receiver, &self.pending[receiver]);
                self.pending[receiver].clear();
                self.advance(receiver, watermark);
            } else {
                let empty = self
                    .links
                    .emptied
                    .try_recv()
                    .unwrap_or_else(|_| Vec::with_capacity(BATCH_LEN + BLOCK_LEN as usize));
                let records = std::mem::replace(&mut self.pending[receiver], empty);
                self.send(receiver, Batch { sender: self.links.subtask, records, watermark });
            }
        }
    }

    fn send(&mut self, receiver: usize, mut batch: Batch) {
        loop {
            match self.links.peers[receiver].try_send(batch) {
                Ok(()) => return,
                Err(TrySendError::Full(unsent)) => batch = unsent,
                Err(TrySendError::Disconnected(_)) => panic!("a bench thread ended before its input"),
            }
            if !self.work_off_inbox()
                && let Ok(batch) = self.links.inbox.recv_timeout(FULL_INBOX_WAIT)
            {
                self.receive(batch);
            }
        }
    }

    /// Takes a few batches that wait, and tells whether there were any. Not all: a faster sender
    /// would refill the inbox meanwhile, and then wait for this thread's generator.
    fn work_off_inbox(&mut self) -> bool {
        let mut has_worked = false;
        for _ in 1..self.links.peers.len() * 2 {
            match self.links.inbox.try_recv() {
                Ok(batch) => self.receive(batch),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return has_worked,
            }
            has_worked = true;
        }
        has_worked
    }

    fn receive(&mut self, batch: Batch) {
        let Batch { sender, mut records, watermark } = batch;
        self.operator.on_records(sender, &records);
        records.clear();
        // A sender that has more spare vectors than batches in flight, or is gone, needs none back.
        drop(self.links.give_back[sender].try_send(records));
        self.advance(sender, watermark);
    }

    fn advance(&mut self, sender: usize, watermark: i64) {
        self.watermarks[sender] = watermark;
        self.operator.on_watermark(self.lowest_watermark());
    }
}
