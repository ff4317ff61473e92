//! The table against a map, its sweep, and what it writes.

use super::*;
use crate::local::Space;
use crate::testing::memory_space;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Op {
    Insert(u8, u32),
    Remove(u8),
    GetOrInsert(u8, u32),
    Replace(u8, Option<u32>),
    RetainBelow(u32),
    Drain,
    SnapshotAndRestore,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => any::<(u8, u32)>().prop_map(|(key, value)| Op::Insert(key, value)),
        4 => any::<u8>().prop_map(Op::Remove),
        4 => any::<(u8, u32)>().prop_map(|(key, value)| Op::GetOrInsert(key, value)),
        4 => any::<(u8, Option<u32>)>().prop_map(|(key, value)| Op::Replace(key, value)),
        1 => any::<u32>().prop_map(Op::RetainBelow),
        1 => Just(Op::Drain),
        1 => Just(Op::SnapshotAndRestore),
    ];
    vec(op, 1..200)
}

fn contents(table: &KeyedTable<u8, u32>) -> BTreeMap<u8, u32> {
    table.iter().map(|(key, value)| (*key, *value)).collect()
}

fn all(table: &KeyedTable<u8, u32>) -> BTreeMap<u8, u32> {
    let mut all = BTreeMap::new();
    let each = |key: &u8, value: &u32| {
        assert_eq!(all.insert(*key, *value), None, "a key comes once");
        Ok(())
    };
    table.for_each(each).unwrap();
    all
}

/// What a program does with a table that may be on disk.
fn run_on_disk(
    table: &mut KeyedTable<u8, u32>,
    map: &mut BTreeMap<u8, u32>,
    space: &Arc<Space>,
    op: Op,
) -> Result<()> {
    match op {
        Op::Insert(key, value) => {
            let hash = key_hash(&key);
            table.load_mut(hash, &key)?.insert(hash, &key, value);
            map.insert(key, value);
        }
        Op::Remove(key) => {
            let hash = key_hash(&key);
            assert_eq!(table.load_mut(hash, &key)?.remove(hash, &key), map.remove(&key));
        }
        Op::GetOrInsert(key, value) => {
            let hash = key_hash(&key);
            let stored = table.load_mut(hash, &key)?.get_or_insert_with(hash, &key, || value);
            assert_eq!(stored, map.entry(key).or_insert(value));
            *stored = stored.wrapping_add(1);
            map.entry(key).and_modify(|value| *value = value.wrapping_add(1));
        }
        Op::Replace(key, value) => {
            let (hash, mut seen) = (key_hash(&key), None);
            table.load_mut(hash, &key)?.replace(hash, &key, |old| {
                seen = old;
                value
            });
            assert_eq!(seen, map.remove(&key));
            map.extend(value.map(|value| (key, value)));
        }
        Op::RetainBelow(key) => {
            let key = key as u8;
            let hash = key_hash(&key);
            assert_eq!(table.load(hash, &key)?.get(hash, &key), map.get(&key));
        }
        Op::Drain => {
            let mut drained = BTreeMap::new();
            table.drain_each(|key, value| {
                drained.insert(key, value);
                Ok(())
            })?;
            assert_eq!(drained, std::mem::take(map));
        }
        Op::SnapshotAndRestore => {
            let groups = table.snapshot("table", 5)?;
            *table = KeyedTable::on_disk(space);
            table.restore("table", 5, &groups, &EntryReader::default())?;
        }
    }
    Ok(())
}

proptest! {
    /// With next to no memory, and with some.
    #[test]
    fn a_table_on_disk_does_what_a_map_does(ops in ops(), memory in prop_oneof![Just(0_u64), 0_u64..2_000]) {
        let (_, space) = memory_space(memory);
        let (mut table, mut map) = (KeyedTable::on_disk(&space), BTreeMap::new());
        for op in ops {
            run_on_disk(&mut table, &mut map, &space, op).unwrap();
            prop_assert_eq!(all(&table), map.clone());
            prop_assert_eq!((table.len(), table.is_empty()), (map.len(), map.is_empty()));
        }
    }

    #[test]
    fn a_table_does_what_a_map_does(ops in ops(), max_parallelism in 1_u32..300) {
        let (mut table, mut map) = (KeyedTable::<u8, u32>::default(), BTreeMap::new());
        for op in ops {
            match op {
                Op::Insert(key, value) => {
                    table.insert(key_hash(&key), &key, value);
                    map.insert(key, value);
                }
                Op::Remove(key) => prop_assert_eq!(table.remove(key_hash(&key), &key), map.remove(&key)),
                Op::GetOrInsert(key, value) => {
                    let stored = table.get_or_insert_with(key_hash(&key), &key, || value);
                    prop_assert_eq!(stored, map.entry(key).or_insert(value));
                }
                Op::Replace(key, value) => {
                    let mut seen = None;
                    table.replace(key_hash(&key), &key, |old| {
                        seen = old;
                        value
                    });
                    prop_assert_eq!(seen, map.remove(&key));
                    map.extend(value.map(|value| (key, value)));
                }
                Op::RetainBelow(end) => {
                    table.retain(|_, value| *value < end);
                    map.retain(|_, value| *value < end);
                }
                Op::Drain => {
                    let drained: BTreeMap<_, _> = table.drain().collect();
                    prop_assert_eq!(drained, std::mem::take(&mut map));
                }
                Op::SnapshotAndRestore => {
                    let groups = table.snapshot("table", max_parallelism).unwrap();
                    table = KeyedTable::default();
                    table.restore("table", max_parallelism, &groups, &EntryReader::default()).unwrap();
                }
            }
            prop_assert_eq!(contents(&table), map.clone());
            prop_assert_eq!((table.len(), table.is_empty()), (map.len(), map.is_empty()));
        }
        for key in 0..=u8::MAX {
            prop_assert_eq!(table.get(key_hash(&key), &key), map.get(&key));
            prop_assert_eq!(table.get_mut(key_hash(&key), &key), map.get_mut(&key));
        }
    }

    #[test]
    fn one_sweep_around_the_table_looks_at_each_entry_once(n_keys in 0_u64..300, start in any::<usize>()) {
        let mut table = KeyedTable::<u64, u32>::default();
        table.reserve(n_keys as usize);
        (0..n_keys).for_each(|key| table.insert(key_hash(&key), &key, 0));
        let mut cursor = start % 1000;
        for _ in 0..table.table.num_buckets() {
            cursor = table.sweep(cursor, |seen| {
                *seen += 1;
                true
            });
        }
        prop_assert!(table.iter().all(|(_, seen)| *seen == 1));
        for _ in 0..table.table.num_buckets() {
            cursor = table.sweep(cursor, |_| false);
        }
        prop_assert!(table.is_empty());
    }
}

#[test]
fn the_order_of_a_table_repeats() {
    let fill = || {
        let mut table = KeyedTable::<u64, u64>::default();
        (0..1000).for_each(|key| table.insert(key_hash(&key), &key, key));
        table.retain(|key, _| key % 3 != 0);
        table.iter().map(|(key, _)| *key).collect::<Vec<_>>()
    };
    assert_eq!(fill(), fill());
}

#[test]
fn an_entry_of_no_bytes_is_an_entry() {
    let mut table = KeyedTable::<(), ()>::default();
    table.insert(key_hash(&()), &(), ());
    let groups = table.snapshot("unit", 8).unwrap();
    let mut restored = KeyedTable::<(), ()>::default();
    restored.restore("unit", 8, &groups, &EntryReader::default()).unwrap();
    assert_eq!(restored.len(), 1);
}

#[test]
fn a_key_that_cannot_be_serialized_is_the_users_error() {
    #[derive(Clone, serde::Deserialize)]
    struct Refuses;
    impl serde::Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let mut table = KeyedTable::<u8, Refuses>::default();
    table.insert(key_hash(&1_u8), &1, Refuses);
    let error = table.snapshot("table", 8).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::UserError, "cannot serialize table"));
}
