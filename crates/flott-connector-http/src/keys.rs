//! Which requests are in the log, by the keys that clients gave them (`Idempotency-Key`).

use crate::log::Shared;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A request with a key, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyEntry {
    pub(crate) key: String,
    /// Of the request's body.
    pub(crate) fingerprint: u128,
    pub(crate) n_records: u32,
    /// When it came, in milliseconds since the epoch.
    pub(crate) time: i64,
}

/// How many keys are known, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyLimits {
    pub(crate) n_max: usize,
    pub(crate) retention: Duration,
}

/// The keys that are known, and those of requests that are on their way into the log.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: BTreeMap<String, KeyEntry>,
    /// In the order in which they came.
    order: VecDeque<String>,
    in_progress: BTreeSet<String>,
}

impl Keys {
    /// In the order in which they came.
    pub(crate) fn known(&self) -> impl Iterator<Item = &KeyEntry> {
        self.order.iter().filter_map(|key| self.known.get(key))
    }

    /// A request is in the log; keys that are too old or too many by that are forgotten.
    pub(crate) fn insert(&mut self, entry: KeyEntry, limits: &KeyLimits) {
        let now = entry.time;
        // A key that has expired may come again.
        if self.known.contains_key(&entry.key) {
            self.order.retain(|key| *key != entry.key);
        }
        self.order.push_back(entry.key.clone());
        self.known.insert(entry.key.clone(), entry);
        while let Some(oldest) = self.order.front()
            && (self.order.len() > limits.n_max
                || self.known.get(oldest).is_none_or(|entry| is_expired(entry, now, limits)))
        {
            self.known.remove(oldest);
            self.order.pop_front();
        }
    }
}

fn is_expired(entry: &KeyEntry, now: i64, limits: &KeyLimits) -> bool {
    let age = u128::try_from(now.saturating_sub(entry.time)).unwrap_or(0);
    age > limits.retention.as_millis()
}

/// What is known of a key.
pub(crate) enum Claimed {
    /// Nothing: whoever has the claim appends the request.
    New(Claim),
    /// A request with this body and so many records is in the log.
    Answered(u32),
    /// A request with this key is on its way into the log.
    InProgress,
    /// A request with this key and another body is in the log.
    OtherBody,
}

/// A key in use; it is free again when this is dropped.
pub(crate) struct Claim {
    shared: Arc<Shared>,
    key: String,
    fingerprint: u128,
    time: i64,
}

impl Claim {
    pub(crate) fn entry(&self, n_records: usize) -> KeyEntry {
        KeyEntry {
            key: self.key.clone(),
            fingerprint: self.fingerprint,
            n_records: u32::try_from(n_records).unwrap_or(u32::MAX),
            time: self.time,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.state().keys.in_progress.remove(&self.key);
    }
}

/// Asks for a key at a time, in milliseconds since the epoch.
pub(crate) fn claim(
    shared: &Arc<Shared>,
    key: &str,
    fingerprint: u128,
    time: i64,
    limits: &KeyLimits,
) -> Claimed {
    let mut state = shared.state();
    match state.keys.known.get(key) {
        Some(entry) if !is_expired(entry, time, limits) => {
            return if entry.fingerprint == fingerprint {
                Claimed::Answered(entry.n_records)
            } else {
                Claimed::OtherBody
            };
        }
        Some(_) | None => {}
    }
    if !state.keys.in_progress.insert(key.to_owned()) {
        return Claimed::InProgress;
    }
    Claimed::New(Claim { shared: Arc::clone(shared), key: key.to_owned(), fingerprint, time })
}
