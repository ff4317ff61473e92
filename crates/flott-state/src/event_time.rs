//! How far event time has come, for each key group.
//!
//! If barriers overtake records, the subtasks of an operator stand at different watermarks when they take their snapshots. A subtask that
//! gets key groups of several is at the least of these, and knows of the others that they had come further: there the windows up to
//! then have fired, and records up to then are late.

use crate::codec::{decode, encode};
use crate::snapshot::OperatorSnapshot;
use flott_env::canary;
use flott_types::{Error, ErrorKind, Key, KeyGroup, KeyGroupRange, Result, Watermark, key_group, key_hash};
use serde::{Deserialize, Serialize};

/// The union state with the watermarks of subtasks. Snapshots of older builds have nothing else.
const WATERMARK: &str = "_watermark";

/// The union state with the watermarks of their key groups.
pub const KEY_GROUP_WATERMARKS: &str = "_watermark/key_groups";

/// Key groups that have come equally far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    start: u32,
    end: u32,
    watermark: Watermark,
}

/// What a subtask says of all its key groups.
#[derive(Serialize, Deserialize)]
struct Reached {
    max_parallelism: u32,
    runs: Vec<Run>,
}

/// The event time that a subtask of a keyed operator has reached.
///
/// Operators ask for the time of a key where they tell what is late, and where something might fire for the second time. As long as
/// no key group is ahead of the others, which is after any watermark that is not older than the snapshot, that is one comparison.
#[derive(Clone, Debug)]
pub struct KeyedEventTime {
    watermark: Watermark,
    range: KeyGroupRange,
    max_parallelism: u32,
    /// Key groups that had come further when the snapshot was taken, in their order.
    ahead: Vec<Run>,
}

impl Default for KeyedEventTime {
    fn default() -> Self {
        Self::new(KeyGroupRange { start: 0, end: 1 }, 1)
    }
}

impl KeyedEventTime {
    /// The beginning of event time, for the key groups of `range`.
    pub const fn new(range: KeyGroupRange, max_parallelism: u32) -> Self {
        Self { watermark: Watermark::MIN, range, max_parallelism, ahead: Vec::new() }
    }

    /// The watermark of the subtask: of the key groups that have come least far.
    #[inline]
    pub const fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// A watermark has come; says whether event time advances. After a restore the first ones may be older than the snapshot.
    pub fn advance(&mut self, watermark: Watermark) -> bool {
        let advances = watermark > self.watermark;
        if advances {
            self.watermark = watermark;
            self.ahead.retain(|run| run.watermark > watermark);
        }
        advances
    }

    /// Whether some key groups had come further.
    #[inline]
    pub const fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// The watermark of the key groups that have come furthest, without those whose input had ended.
    pub fn furthest(&self) -> Watermark {
        let ahead = self.ahead.iter().map(|run| run.watermark);
        ahead.filter(|watermark| *watermark != Watermark::MAX).max().unwrap_or(self.watermark)
    }

    /// How far event time has come for `key`.
    #[inline]
    pub fn of_key<K: Key>(&self, key: &K) -> Watermark {
        if self.is_ahead() { self.of_hash(key_hash(key)) } else { self.watermark }
    }

    /// The same for a key with this [`key_hash`].
    #[inline]
    pub fn of_hash(&self, hash: u64) -> Watermark {
        if self.is_ahead() { self.of_group(key_group(hash, self.max_parallelism)) } else { self.watermark }
    }

    fn of_group(&self, group: KeyGroup) -> Watermark {
        let next = self.ahead.partition_point(|run| run.end <= group.0);
        let run = self.ahead.get(next).filter(|run| run.start <= group.0);
        run.map_or(self.watermark, |run| run.watermark)
    }

    /// Writes it down.
    ///
    /// # Errors
    /// None that can happen: numbers can be serialized.
    pub fn snapshot(&self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        let mut runs = filled(self.ahead.clone(), self.range, self.watermark)?;
        if canary("forget-event-time") {
            runs.iter_mut().for_each(|run| run.watermark = Watermark::MIN);
        }
        let reached = Reached { max_parallelism: self.max_parallelism, runs };
        snapshot.union.insert(WATERMARK.to_owned(), vec![encode(WATERMARK, &self.watermark)?]);
        snapshot.union.insert(KEY_GROUP_WATERMARKS.to_owned(), vec![encode(KEY_GROUP_WATERMARKS, &reached)?]);
        Ok(())
    }

    /// Reads it back. A key group of which nothing is known is where the last subtask of all was.
    ///
    /// # Errors
    /// [`ErrorKind::Corruption`] if the bytes are not what was written.
    pub fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        let entries = |name: &str| snapshot.union.get(name).into_iter().flatten();
        let watermarks = entries(WATERMARK).map(|bytes| decode(WATERMARK, bytes));
        let least = watermarks.collect::<Result<Vec<Watermark>>>()?.into_iter().min();
        let mut runs = Vec::new();
        for bytes in entries(KEY_GROUP_WATERMARKS) {
            let reached: Reached = decode(KEY_GROUP_WATERMARKS, bytes)?;
            if reached.max_parallelism == self.max_parallelism {
                runs.extend(reached.runs.into_iter().filter_map(|run| self.own(run)));
            }
        }
        if canary("forget-event-time-of-key-groups") {
            runs.clear();
        }
        runs.sort_by_key(|run| run.start);
        let mut runs = filled(runs, self.range, least.unwrap_or(Watermark::MIN))?;
        self.watermark = runs.iter().map(|run| run.watermark).min().unwrap_or(Watermark::MIN);
        runs.retain(|run| run.watermark > self.watermark);
        self.ahead = runs;
        Ok(())
    }

    /// The part of a run that is of this subtask.
    fn own(&self, run: Run) -> Option<Run> {
        let Run { start, end, watermark } = run;
        let (start, end) = (start.max(self.range.start), end.min(self.range.end));
        (start < end).then_some(Run { start, end, watermark })
    }
}

/// The runs with the gaps between them filled, so that they cover `range`.
fn filled(runs: Vec<Run>, range: KeyGroupRange, watermark: Watermark) -> Result<Vec<Run>> {
    let mut filled = Vec::with_capacity(2 * runs.len() + 1);
    let mut next = range.start;
    for run in runs {
        if run.start < next {
            let message = format!("the watermark of key group {} is known twice", run.start);
            return Err(Error::new(ErrorKind::Corruption, message));
        }
        if next < run.start {
            filled.push(Run { start: next, end: run.start, watermark });
        }
        next = run.end;
        filled.push(run);
    }
    if next < range.end {
        filled.push(Run { start: next, end: range.end, watermark });
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
