//! What was written and is not yet in a run.

use super::record::Record;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Records in memory, the newest of each key.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteBuffer {
    /// Records one after the other, also those that were replaced since.
    bytes: Vec<u8>,
    /// Where each key's newest record begins, with the order of the key.
    places: HashTable<(u64, usize)>,
}

/// The order of a timer is its time, which is no hash.
#[inline]
fn spread(order: u64) -> u64 {
    let product = u128::from(order) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline]
fn record_at(bytes: &[u8], at: usize) -> Record<'_> {
    let record = bytes.get(at..).and_then(Record::read);
    record.expect("the buffer has a record at each of its places").0
}

impl WriteBuffer {
    /// Writes the newest record of a key.
    pub(crate) fn put(&mut self, record: Record<'_>) {
        let at = self.bytes.len();
        let Self { bytes, places } = self;
        let is_same =
            |(order, at): &(u64, usize)| *order == record.order && record_at(bytes, *at).key == record.key;
        match places.entry(spread(record.order), is_same, |(order, _)| spread(*order)) {
            Entry::Occupied(mut entry) => entry.get_mut().1 = at,
            Entry::Vacant(entry) => drop(entry.insert((record.order, at))),
        }
        record.write(&mut self.bytes);
    }

    /// The newest record of a key.
    pub(crate) fn get(&self, order: u64, key: &[u8]) -> Option<Record<'_>> {
        let is_same = |(known, at): &(u64, usize)| *known == order && record_at(&self.bytes, *at).key == key;
        self.places.find(spread(order), is_same).map(|(_, at)| record_at(&self.bytes, *at))
    }

    /// Whether some key of this order may have a record.
    pub(crate) fn may_contain(&self, order: u64) -> bool {
        self.places.find(spread(order), |(known, _)| *known == order).is_some()
    }

    /// The records of this order.
    pub(crate) fn of_order(&self, order: u64) -> impl Iterator<Item = Record<'_>> {
        let places = self.places.iter_hash(spread(order)).filter(move |(known, _)| *known == order);
        places.map(|(_, at)| record_at(&self.bytes, *at))
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes of records, also of those that were replaced.
    pub(crate) fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.places.allocation_size()
    }

    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    /// Where the newest record of each key begins, in the order of runs.
    pub(crate) fn sorted(&self) -> Vec<usize> {
        let mut places: Vec<(u64, usize)> = self.places.iter().copied().collect();
        places.sort_unstable_by(|(order, at), (other_order, other_at)| {
            let by_key = || record_at(&self.bytes, *at).key.cmp(record_at(&self.bytes, *other_at).key);
            order.cmp(other_order).then_with(by_key)
        });
        places.into_iter().map(|(_, at)| at).collect()
    }

    /// The record at a place that [`WriteBuffer::sorted`] told.
    pub(crate) fn record(&self, at: usize) -> Record<'_> {
        record_at(&self.bytes, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(order: u64, key: &'a [u8], value: Option<&'a [u8]>) -> Record<'a> {
        Record { order, key, value }
    }

    #[test]
    fn the_newest_record_of_a_key_counts() {
        let mut buffer = WriteBuffer::default();
        buffer.put(record(2, b"a", Some(b"1")));
        buffer.put(record(2, b"b", Some(b"2")));
        buffer.put(record(1, b"c", Some(b"3")));
        buffer.put(record(2, b"b", None));
        assert_eq!(buffer.get(2, b"a"), Some(record(2, b"a", Some(b"1"))));
        assert_eq!(buffer.get(2, b"b"), Some(record(2, b"b", None)));
        assert_eq!(buffer.get(3, b"a"), None);
        assert!(buffer.may_contain(2) && !buffer.may_contain(3));
        let sorted: Vec<_> = buffer.sorted().into_iter().map(|at| buffer.record(at).key).collect();
        assert_eq!(sorted, [b"c", b"a", b"b"]);
        assert_eq!(buffer.len(), 3);
    }
}
