//! Which subtask a record goes to.

use flott_types::{Timestamp, key_group, subtask_for_key_group};
use std::rc::Rc;

type Split<T> = Rc<dyn Fn(Vec<(T, Timestamp)>, u32, u32) -> Vec<Vec<(T, Timestamp)>>>;

/// How the records of an input are divided among subtasks.
type Hash<T> = Rc<dyn Fn(&T) -> u64>;

pub(crate) struct Route<T> {
    split: Split<T>,
    /// The hash of a record's key.
    pub(crate) hash: Option<Hash<T>>,
    /// Whether each record goes to all.
    pub(crate) is_broadcast: bool,
}

impl<T> Clone for Route<T> {
    fn clone(&self) -> Self {
        Self { split: Rc::clone(&self.split), hash: self.hash.clone(), is_broadcast: self.is_broadcast }
    }
}

impl<T: 'static> Route<T> {
    /// The records of each subtask.
    pub(crate) fn split(
        &self,
        records: Vec<(T, Timestamp)>,
        parallelism: u32,
        max_parallelism: u32,
    ) -> Vec<Vec<(T, Timestamp)>> {
        (self.split)(records, parallelism, max_parallelism)
    }

    /// In turn.
    pub(crate) fn round_robin() -> Self {
        let next = std::cell::Cell::new(0);
        let split = move |records: Vec<(T, Timestamp)>, parallelism: u32, _| {
            let mut parts = empty_parts(parallelism);
            for record in records {
                let idx = next.get() % parallelism as usize;
                next.set(idx + 1);
                if let Some(part) = parts.get_mut(idx) {
                    part.push(record);
                }
            }
            parts
        };
        Self { split: Rc::new(split), hash: None, is_broadcast: false }
    }

    /// By key group.
    pub(crate) fn by_key_hash(hash: impl Fn(&T) -> u64 + 'static) -> Self {
        let hash = Rc::new(hash);
        let hash_to_split = Rc::clone(&hash);
        let split = move |records: Vec<(T, Timestamp)>, parallelism: u32, max_parallelism: u32| {
            let mut parts = empty_parts(parallelism);
            for (record, timestamp) in records {
                let group = key_group(hash_to_split(&record), max_parallelism);
                let subtask = subtask_for_key_group(group, max_parallelism, parallelism);
                if let Some(part) = parts.get_mut(subtask.as_usize()) {
                    part.push((record, timestamp));
                }
            }
            parts
        };
        Self { split: Rc::new(split), hash: Some(hash), is_broadcast: false }
    }

    /// Each record to all.
    pub(crate) fn broadcast() -> Self
    where
        T: Clone,
    {
        let split = |records: Vec<(T, Timestamp)>, parallelism: u32, _| vec![records; parallelism as usize];
        Self { split: Rc::new(split), hash: None, is_broadcast: true }
    }
}

fn empty_parts<T>(parallelism: u32) -> Vec<Vec<T>> {
    (0..parallelism).map(|_| Vec::new()).collect()
}
