//! What functions inside of a running program write down for the checker.

use crate::record::Record;
use flott_api::sinks::CollectHandle;
use flott_types::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many violations are kept: the first ones say enough.
const VIOLATIONS_MAX: usize = 20;

/// The notebook that all functions of a program share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lab(Arc<Mutex<Notes>>);

/// What was noted.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// What no function should ever have seen.
    pub(crate) violations: Vec<String>,
    /// Records by exchange and receiving subtask.
    pub(crate) arrived: BTreeMap<usize, BTreeMap<u32, u64>>,
    /// The subtask at which a key was seen, by operator and key.
    key_homes: BTreeMap<(usize, u32), u32>,
    /// The last watermark by operator and subtask.
    watermarks: BTreeMap<(usize, u32), Timestamp>,
    /// Calls of a record so far, by operator and uid.
    calls: BTreeMap<(usize, u64), u32>,
    /// Whether a sabotage has come to its effect.
    pub(crate) sabotaged: bool,
}

impl Lab {
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes `what` if it does not hold.
    pub(crate) fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let mut notes = self.notes();
            if notes.violations.len() < VIOLATIONS_MAX {
                notes.violations.push(what());
            }
        }
    }

    /// A function of `node` sees this watermark.
    pub(crate) fn watermark(&self, node: usize, subtask: u32, watermark: Timestamp) {
        let known = self.notes().watermarks.insert((node, subtask), watermark).unwrap_or(Timestamp::MIN);
        self.expect(known <= watermark, || {
            format!("the watermark of n{node} subtask {subtask} went back from {known} to {watermark}")
        });
    }

    /// A keyed function of `node` sees this key.
    pub(crate) fn key(&self, node: usize, subtask: u32, key: u32) {
        let home = *self.notes().key_homes.entry((node, key)).or_insert(subtask);
        self.expect(home == subtask, || {
            format!("key {key} of n{node} is at subtask {home} and at {subtask}")
        });
    }

    /// A record has come through an exchange.
    pub(crate) fn arrival(&self, node: usize, subtask: u32) {
        *self.notes().arrived.entry(node).or_default().entry(subtask).or_default() += 1;
    }

    /// Counts a call and says how many came before.
    pub(crate) fn call(&self, node: usize, uid: u64) -> u32 {
        let mut notes = self.notes();
        let calls = notes.calls.entry((node, uid)).or_default();
        *calls += 1;
        *calls - 1
    }
}

/// The records that came out of the tapped outputs, with their timestamps.
pub(crate) type Taps = BTreeMap<crate::plan::Port, CollectHandle<Record>>;
