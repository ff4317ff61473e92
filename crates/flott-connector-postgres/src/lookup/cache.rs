//! Answers that are remembered.

use flott_env::Instant;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

type Key = Vec<String>;

#[derive(Debug)]
struct Entry<T> {
    rows: Arc<Vec<T>>,
    written: Instant,
    /// In `used`.
    turn: u64,
}

/// The rows of keys that were asked for lately. One that was not used for longest makes room.
#[derive(Debug)]
pub(super) struct Cache<T> {
    entries: BTreeMap<Key, Entry<T>>,
    /// Keys in the order of their last use.
    used: BTreeMap<u64, Key>,
    turn: u64,
    keys_max: usize,
    age_max: Option<Duration>,
    keeps_missing: bool,
}

impl<T> Cache<T> {
    pub(super) fn new(keys_max: usize, age_max: Option<Duration>, keeps_missing: bool) -> Self {
        // With an age alone, there is a bound of memory, too.
        let keys_max = if keys_max == 0 && age_max.is_some() { KEYS_MAX_DEFAULT } else { keys_max };
        Self { entries: BTreeMap::new(), used: BTreeMap::new(), turn: 0, keys_max, age_max, keeps_missing }
    }

    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Option<Arc<Vec<T>>> {
        let entry = self.entries.get_mut(key)?;
        self.used.remove(&entry.turn);
        if self.age_max.is_some_and(|age_max| now - entry.written >= age_max) {
            self.entries.remove(key);
            return None;
        }
        self.turn += 1;
        entry.turn = self.turn;
        self.used.insert(self.turn, key.clone());
        Some(Arc::clone(&entry.rows))
    }

    pub(super) fn put(&mut self, key: Key, rows: Arc<Vec<T>>, now: Instant) {
        if self.keys_max == 0 || rows.is_empty() && !self.keeps_missing {
            return;
        }
        self.turn += 1;
        self.used.insert(self.turn, key.clone());
        let entry = Entry { rows, written: now, turn: self.turn };
        if let Some(former) = self.entries.insert(key, entry) {
            self.used.remove(&former.turn);
        }
        while self.entries.len() > self.keys_max
            && let Some((_, oldest)) = self.used.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }
}

const KEYS_MAX_DEFAULT: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::Cache;
    use flott_env::Instant;
    use std::sync::Arc;
    use std::time::Duration;

    fn at(seconds: u64) -> Instant {
        Instant(Duration::from_secs(seconds))
    }

    fn key(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    fn check(cache: &mut Cache<u8>, now: u64, expected: &[(&str, Option<&[u8]>)]) {
        for (name, rows) in expected {
            let found = cache.get(&key(name), at(now));
            assert_eq!(found.as_deref().map(Vec::as_slice), *rows, "{name} at {now}");
        }
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room_and_what_is_old_is_forgotten() {
        let mut cache = Cache::new(2, Some(Duration::from_secs(10)), true);
        cache.put(key("a"), Arc::new(vec![1]), at(0));
        cache.put(key("b"), Arc::new(vec![2, 3]), at(1));
        check(&mut cache, 2, &[("a", Some(&[1])), ("c", None)]);
        cache.put(key("c"), Arc::new(Vec::new()), at(2));
        check(&mut cache, 9, &[("b", None), ("a", Some(&[1])), ("c", Some(&[]))]);
        check(&mut cache, 10, &[("a", None), ("c", Some(&[]))]);
        cache.put(key("c"), Arc::new(vec![4]), at(11));
        check(&mut cache, 20, &[("c", Some(&[4])), ("a", None)]);
        check(&mut cache, 21, &[("c", None)]);
        assert!(cache.entries.is_empty() && cache.used.is_empty());
    }

    #[test]
    fn missing_keys_are_remembered_only_if_somebody_wants_that_and_nothing_without_room() {
        let mut cache = Cache::new(2, None, false);
        cache.put(key("a"), Arc::new(Vec::new()), at(0));
        check(&mut cache, 0, &[("a", None)]);
        let mut cache = Cache::new(0, None, true);
        cache.put(key("a"), Arc::new(vec![1]), at(0));
        check(&mut cache, 0, &[("a", None)]);
    }
}
