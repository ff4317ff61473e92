//! A source of paced splits and a transactional sink whose committed output can be seen, for tests of checkpoints.

use flott_api::{
    Boundedness, Committable, Committer, InputStatus, Sink, SinkContext, SinkWriter, SourceReaderContext,
    SourceSplit, SplitOutput, SplitReader, SplitSource, UserResult,
};
use flott_env::Env;
use flott_types::{CheckpointId, RecordBatch, Result, SplitId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

/// A record that knows where it is from.
pub(crate) type Numbered = (u32, u64);

/// So many records that a source does not end.
pub(crate) const ENDLESS: u64 = u64::MAX;

/// `n_splits` splits of `count` records `(split, number)` each, read in random portions with pauses.
#[derive(Clone, Debug)]
pub(crate) struct PacedSource {
    pub(crate) n_splits: u32,
    pub(crate) count: u64,
    pub(crate) pause_ms_max: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PacedSplit {
    pub(crate) split: u32,
    pub(crate) next: u64,
}

impl SourceSplit for PacedSplit {
    fn split_id(&self) -> SplitId {
        SplitId(format!("paced-{}", self.split))
    }
}

impl SplitSource for PacedSource {
    type Record = Numbered;
    type Split = PacedSplit;
    type Reader = PacedReader;
    fn boundedness(&self) -> Boundedness {
        match self.count {
            ENDLESS => Boundedness::ContinuousUnbounded,
            _ => Boundedness::Bounded,
        }
    }
    fn splits(&self, _: u32) -> Result<Vec<PacedSplit>> {
        Ok((0..self.n_splits).map(|split| PacedSplit { split, next: 0 }).collect())
    }
    fn open(&self, split: PacedSplit, ctx: &SourceReaderContext) -> Result<PacedReader> {
        Ok(PacedReader::new(split, self.count, self.pause_ms_max, ctx))
    }
}

pub(crate) struct PacedReader {
    env: Env,
    split: PacedSplit,
    count: u64,
    pause_ms_max: u64,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl PacedReader {
    /// Reads the split up to the number `count`.
    pub(crate) fn new(split: PacedSplit, count: u64, pause_ms_max: u64, ctx: &SourceReaderContext) -> Self {
        Self { env: ctx.env.clone(), split, count, pause_ms_max, pause: None }
    }
}

impl SplitReader for PacedReader {
    type Record = Numbered;
    type Split = PacedSplit;
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        _: usize,
        out: &mut SplitOutput<Numbered>,
    ) -> Poll<Result<InputStatus>> {
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        if self.split.next >= self.count {
            return Poll::Ready(Ok(InputStatus::EndOfInput));
        }
        for _ in 0..=self.env.random_u64() % 16 {
            if self.split.next < self.count {
                out.collect((self.split.split, self.split.next));
                self.split.next += 1;
            }
        }
        // Whole milliseconds, as the intervals of checkpoints are: in a simulation only what happens at the same time is interleaved.
        let millis = self.env.random_u64() % (2 * self.pause_ms_max + 1);
        if millis <= self.pause_ms_max && millis > 0 {
            self.pause = Some(self.env.sleep(Duration::from_millis(millis)));
        }
        Poll::Ready(Ok(InputStatus::MoreAvailable))
    }
    fn split(&self) -> PacedSplit {
        self.split.clone()
    }
}

/// What a destination with transactions knows.
#[derive(Debug)]
struct Store<T> {
    prepared: BTreeMap<u64, Vec<T>>,
    committed: BTreeMap<u64, Vec<T>>,
    next: u64,
    /// Commits that fail, half of them although they have worked.
    failures: u32,
    n_final: u32,
    seen: Vec<String>,
}

/// A destination with transactions; clones are the same.
#[derive(Debug)]
pub(crate) struct Transactions<T>(Arc<Mutex<Store<T>>>);

impl<T> Clone for Transactions<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone + Ord + Debug> Transactions<T> {
    pub(crate) fn new() -> Self {
        Self::failing(0)
    }

    /// One whose first commits fail.
    pub(crate) fn failing(failures: u32) -> Self {
        let (prepared, committed, seen) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self(Arc::new(Mutex::new(Store { prepared, committed, next: 0, failures, n_final: 0, seen })))
    }

    fn lock(&self) -> MutexGuard<'_, Store<T>> {
        self.0.lock().unwrap()
    }

    /// What a reader of committed data sees, sorted.
    pub(crate) fn committed(&self) -> Vec<T> {
        let mut rows: Vec<T> = self.lock().committed.values().flatten().cloned().collect();
        rows.sort();
        rows
    }

    pub(crate) fn n_commits(&self) -> usize {
        self.lock().committed.len()
    }

    /// How often a writer was told that nothing follows.
    pub(crate) fn n_final(&self) -> u32 {
        self.lock().n_final
    }

    /// `attempt restored-checkpoint` of each writer, in order.
    pub(crate) fn attempts(&self) -> Vec<String> {
        self.lock().seen.clone()
    }
}

pub(crate) struct TransactionWriter<T> {
    store: Transactions<T>,
    ctx: SinkContext,
    rows: Vec<T>,
}

impl<T: Clone + Ord + Debug + Send + 'static> Sink<T> for Transactions<T> {
    type Writer = TransactionWriter<T>;
    fn create_writer(&self, ctx: SinkContext) -> Result<Self::Writer> {
        Ok(TransactionWriter { store: self.clone(), ctx, rows: Vec::new() })
    }
    fn create_committer(&self, _: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(TransactionCommitter { store: self.clone() })))
    }
}

impl<T: Clone + Ord + Debug + Send + 'static> SinkWriter<T> for TransactionWriter<T> {
    fn write(&mut self, batch: RecordBatch<T>) -> UserResult {
        self.rows.extend(batch.into_columns().0);
        Ok(())
    }
    fn prepare_commit(&mut self, _: CheckpointId, is_final: bool) -> UserResult<Vec<Vec<u8>>> {
        let mut store = self.store.lock();
        store.n_final += u32::from(is_final);
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        store.next += 1;
        let id = store.next;
        store.prepared.insert(id, std::mem::take(&mut self.rows));
        Ok(vec![id.to_le_bytes().to_vec()])
    }
    fn restore(&mut self, entries: Vec<Vec<u8>>, restored: Option<CheckpointId>) -> UserResult {
        assert!(entries.is_empty() && restored == self.ctx.restored_checkpoint);
        let restored = restored.map_or_else(|| "nothing".to_owned(), |id| id.to_string());
        self.store.lock().seen.push(format!("{} from {restored}", self.ctx.attempt));
        Ok(())
    }
}

struct TransactionCommitter<T> {
    store: Transactions<T>,
}

impl<T: Clone + Ord + Debug + Send + 'static> Committer for TransactionCommitter<T> {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        let mut store = self.store.lock();
        let failure = store.failures.checked_sub(1);
        if let Some(left) = failure {
            store.failures = left;
            if left % 2 == 0 {
                return Err("not reached".into());
            }
        }
        for Committable { payload, .. } in committables {
            let id = u64::from_le_bytes(payload.as_slice().try_into()?);
            if store.committed.contains_key(&id) {
                continue;
            }
            let rows = store.prepared.remove(&id).ok_or_else(|| format!("transaction {id} is lost"))?;
            store.committed.insert(id, rows);
        }
        match failure {
            Some(_) => Err("the answer was lost".into()),
            None => Ok(()),
        }
    }
}
