//! From requests to the log: appends of several requests are synced together.

use crate::keys::{Claim, Claimed, KeyEntry, KeyLimits, claim};
use crate::log::{Entry, Log, Shared, bytes_of_records};
use flott_env::sync::{mpsc, oneshot};
use std::sync::Arc;

/// Requests that wait for the log.
const WAITING_MAX: usize = 64;

/// Requests are written together up to so many bytes.
const GROUP_BYTES_MAX: u64 = 4 << 20;

/// Records of a request.
struct Append {
    records: Vec<Vec<u8>>,
    /// The key of the request. It stays in use until the records are in the log, whether the client waits or not.
    key: Option<(Claim, KeyEntry)>,
    done: oneshot::Sender<Result<(), Refused>>,
}

/// Why records are not in the log, or not for sure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Stopping,
    Failed(String),
}

/// Where requests put their records.
#[derive(Clone)]
pub(crate) struct Ingest {
    sender: mpsc::Sender<Append>,
    shared: Arc<Shared>,
    log_bytes_max: u64,
}

impl Ingest {
    /// Returns what writes, too: to be run beside, until all copies of the ingest are dropped.
    pub(crate) fn new(log: Log, log_bytes_max: u64) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let shared = Arc::clone(log.shared());
        (Self { sender, shared, log_bytes_max }, write(log, receiver))
    }

    /// Asks for a key at a time, in milliseconds since the epoch.
    pub(crate) fn claim(&self, key: &str, fingerprint: u128, time: i64, limits: &KeyLimits) -> Claimed {
        claim(&self.shared, key, fingerprint, time, limits)
    }

    /// Returns when the records are durable, and the key with them.
    pub(crate) async fn append(&self, records: Vec<Vec<u8>>, key: Option<Claim>) -> Result<(), Refused> {
        let n_bytes = bytes_of_records(records.iter().map(Vec::as_slice));
        if self.shared.n_bytes().saturating_add(n_bytes) > self.log_bytes_max {
            return Err(Refused::Full);
        }
        let (done, appended) = oneshot::channel();
        let key = key.map(|claim| {
            let entry = claim.entry(records.len());
            (claim, entry)
        });
        self.sender.send(Append { records, key, done }).await.map_err(|_| Refused::Stopping)?;
        appended.await.unwrap_or(Err(Refused::Stopping))
    }
}

async fn write(mut log: Log, mut receiver: mpsc::Receiver<Append>) {
    while let Some(first) = receiver.recv().await {
        let mut n_bytes = bytes_of_records(first.records.iter().map(Vec::as_slice));
        let mut group = vec![first];
        while n_bytes < GROUP_BYTES_MAX
            && let Ok(next) = receiver.try_recv()
        {
            n_bytes += bytes_of_records(next.records.iter().map(Vec::as_slice));
            group.push(next);
        }
        let appended = log.append(group.iter().flat_map(|Append { records, key, .. }| {
            let key = key.iter().map(|(_, entry)| Entry::Key(entry));
            key.chain(records.iter().map(|record| Entry::Record(record)))
        }));
        let answer = appended.map_err(|error| Refused::Failed(error.to_string()));
        for Append { key, done, .. } in group {
            // The log knows the key before it is free.
            drop(key);
            // A client that has gone does not hear it.
            drop(done.send(answer.clone()));
        }
    }
}
