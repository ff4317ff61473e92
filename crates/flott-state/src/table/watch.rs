//! Who wants to know what changes in a table: a snapshot that is under way, and the next one, which may be of what has changed only.

use super::KeyedTable;
use super::capture::Capture;
use super::changes::Changes;
use super::spill::CHANGED;
use flott_types::{Key, key_hash};
use hashbrown::HashTable;

/// The entries that a map of so many buckets has room for: of `hashbrown`'s 7 in 8, or all but one of a few.
fn full_capacity(n_buckets: usize) -> usize {
    if n_buckets <= 8 { n_buckets.saturating_sub(1) } else { n_buckets / 8 * 7 }
}

#[derive(Debug)]
pub(super) struct Watch<K, V> {
    /// The snapshot that is under way.
    pub(super) capture: Option<Capture<K, V>>,
    /// What has changed since the last ones.
    pub(super) changes: Option<Changes<K>>,
}

impl<K: Key, V> Watch<K, V> {
    /// Before the entry in a bucket is changed.
    pub(super) fn before_change(&mut self, bucket: usize, entry: &(K, V)) {
        self.save(bucket, entry);
        if let Some(changes) = &mut self.changes {
            changes.mark(bucket);
        }
    }

    /// Before the entry in a bucket is no more what it was, or no more there.
    pub(super) fn save(&mut self, bucket: usize, entry: &(K, V)) {
        if let Some(capture) = &mut self.capture {
            capture.save(bucket, entry);
        }
    }

    /// A key was removed from a table in memory; [`Watch::save`] was called before.
    pub(super) fn removed(&mut self, key: &K) {
        if let Some(changes) = &mut self.changes
            && !changes.remove(key)
        {
            self.changes = None;
        }
    }

    /// A bucket has a new entry.
    pub(super) fn inserted(&mut self, bucket: usize) {
        if let Some(capture) = &mut self.capture {
            capture.settle(bucket);
        }
        if let Some(changes) = &mut self.changes {
            changes.mark(bucket);
        }
    }

    /// A bucket has an entry that came back from disk. A snapshot that is under way has it from there.
    pub(super) fn promoted(&mut self, bucket: usize) {
        if let Some(capture) = &mut self.capture {
            capture.settle(bucket);
        }
        if let Some(changes) = &mut self.changes {
            changes.clear(bucket);
        }
    }
}

impl<K: Key, V> KeyedTable<K, V> {
    /// Before keys are added: buckets must not move behind the back of who watches.
    pub(super) fn make_room_in_watch(&mut self, additional: usize) {
        let (n_buckets, n_entries) = (self.table.num_buckets(), self.table.len());
        if self.table.capacity() - n_entries < additional {
            // As the map does it: if removed entries have left it little room, it stays as large as it is.
            let grows = n_entries + additional > full_capacity(n_buckets) / 2;
            let capacity = full_capacity(n_buckets) + usize::from(grows);
            self.move_entries(capacity.max(n_entries + additional));
        }
    }

    /// Moves all entries into a map with room for `capacity` of them, and what is known of their buckets along. A snapshot that is under way is
    /// completed before.
    pub(super) fn move_entries(&mut self, capacity: usize) {
        self.finish_snapshot();
        let mut old = std::mem::replace(&mut self.table, HashTable::with_capacity(capacity));
        let Self { table, spill, watch } = self;
        let n_buckets = table.num_buckets();
        let mut changes = watch.as_mut().and_then(|watch| watch.changes.as_mut());
        let changed = changes.as_mut().map(|changes| changes.relocate(n_buckets)).unwrap_or_default();
        let flags = spill.as_mut().map(|spill| std::mem::replace(&mut spill.flags, vec![CHANGED; n_buckets]));
        for from in 0..old.num_buckets() {
            let Ok(entry) = old.get_bucket_entry(from) else { continue };
            let (entry, _) = entry.remove();
            let entry = table.insert_unique(key_hash(&entry.0), entry, |(key, _)| key_hash(key));
            let to = entry.bucket_index();
            if let Some(changes) = &mut changes {
                changes.carry(&changed, from, to);
            }
            if let (Some(spill), Some(flags)) = (spill.as_mut(), &flags)
                && let (Some(known), Some(flags)) = (spill.flags.get_mut(to), flags.get(from))
            {
                *known = *flags;
            }
        }
    }

    /// Before much changes at once: completes the snapshot that is under way, and the next one will be whole.
    pub(super) fn end_watch(&mut self) {
        self.finish_snapshot();
        self.watch = None;
    }

    /// The snapshot that is under way.
    pub(super) fn capture(&self) -> Option<&Capture<K, V>> {
        self.watch.as_ref()?.capture.as_ref()
    }

    /// Watches from now on.
    pub(super) fn watch_mut(&mut self) -> &mut Watch<K, V> {
        self.watch.get_or_insert_with(|| Box::new(Watch { capture: None, changes: None }))
    }

    /// Nobody may be left who wants to know.
    pub(super) fn drop_idle_watch(&mut self) {
        self.watch.take_if(|watch| watch.capture.is_none() && watch.changes.is_none());
    }
}
