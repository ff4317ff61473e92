//! Whatever happens to a table while its snapshot is under way: the snapshot has what was there at the barrier.

use super::*;
use crate::begun::{BegunSnapshot, GroupLayout};
use crate::codec::{decode, encode_into};
use crate::schemas::EntryReader;
use crate::snapshot::{KeyGroupBytes, OperatorSnapshot};
use crate::table::Slot;
use crate::testing::memory_space;
use flott_types::{ErrorKind, KeyGroup, key_group, key_hash};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(in crate::table) const MAX_PARALLELISM: u32 = 5;

#[derive(Clone, Debug)]
pub(in crate::table) enum Op {
    Begin,
    Step(usize),
    Insert(u16, u32),
    Remove(u16),
    GetMut(u16, u32),
    GetOrInsert(u16, u32),
    Upsert(u16, u32),
    Slot(u16, u32),
    /// By hash alone, if the value is this modulo 2: adds something, or removes it.
    Find(u16, u32, Option<u32>),
    Replace(u16, Option<u32>),
    CleanUp(usize, bool),
    Reserve(usize),
    RetainBelow(u32),
    Drain,
}

pub(in crate::table) fn ops(n_keys: u16) -> impl Strategy<Value = Vec<Op>> {
    let key = 0..n_keys;
    let pair = (0..n_keys, 0..9_u32);
    let op = prop_oneof![
        3 => Just(Op::Begin),
        20 => (1..12_usize).prop_map(Op::Step),
        8 => pair.clone().prop_map(|(key, value)| Op::Insert(key, value)),
        6 => key.prop_map(Op::Remove),
        4 => pair.clone().prop_map(|(key, value)| Op::GetMut(key, value)),
        4 => pair.clone().prop_map(|(key, value)| Op::GetOrInsert(key, value)),
        4 => pair.clone().prop_map(|(key, value)| Op::Upsert(key, value)),
        4 => pair.prop_map(|(key, value)| Op::Slot(key, value)),
        6 => (0..n_keys, 0..2_u32, any::<Option<u32>>()).prop_map(|(key, odd, add)| Op::Find(key, odd, add)),
        4 => (0..n_keys, any::<Option<u32>>()).prop_map(|(key, value)| Op::Replace(key, value)),
        3 => any::<(usize, bool)>().prop_map(|(place, keeps)| Op::CleanUp(place, keeps)),
        1 => (0..100_usize).prop_map(Op::Reserve),
        1 => (0..9_u32).prop_map(Op::RetainBelow),
        1 => Just(Op::Drain),
    ];
    vec(op, 1..300)
}

/// Values that own memory are copied as well as those that do not.
pub(in crate::table) trait Value: Data + PartialEq + fmt::Debug {
    fn of(number: u32) -> Self;
    fn number(&self) -> u32;
}

impl Value for u32 {
    fn of(number: u32) -> Self {
        number
    }
    fn number(&self) -> u32 {
        *self
    }
}

impl Value for String {
    fn of(number: u32) -> Self {
        number.to_string()
    }
    fn number(&self) -> u32 {
        self.parse().unwrap()
    }
}

pub(in crate::table) type Model<V> = BTreeMap<u16, V>;

pub(in crate::table) fn apply<V: Value>(table: &mut KeyedTable<u16, V>, model: &mut Model<V>, op: Op) {
    let add = |value: &mut V, number: u32| *value = V::of(value.number().wrapping_add(number) % 1000);
    match op {
        Op::Begin | Op::Step(_) => {}
        Op::Insert(key, value) => {
            table.insert(key_hash(&key), &key, V::of(value));
            model.insert(key, V::of(value));
        }
        Op::Remove(key) => assert_eq!(table.remove(key_hash(&key), &key), model.remove(&key)),
        Op::GetMut(key, value) => {
            if let Some(stored) = table.get_mut(key_hash(&key), &key) {
                add(stored, value);
            }
            model.entry(key).and_modify(|stored| add(stored, value));
        }
        Op::GetOrInsert(key, value) => {
            add(table.get_or_insert_with(key_hash(&key), &key, || V::of(7)), value);
            add(model.entry(key).or_insert(V::of(7)), value);
        }
        Op::Upsert(key, value) => {
            table.upsert(key_hash(&key), &key, || V::of(7), |stored| add(stored, value));
            add(model.entry(key).or_insert(V::of(7)), value);
        }
        Op::Slot(key, value) => {
            match table.slot(key_hash(&key), &key) {
                Slot::Occupied(stored) => add(stored, value),
                Slot::Vacant(place) => place.insert(key, V::of(value)),
            }
            model.entry(key).and_modify(|stored| add(stored, value)).or_insert(V::of(value));
        }
        Op::Find(key, odd, value) => {
            let is_meant = |stored: &V| stored.number() % 2 == odd;
            let found = table.find_mut(key_hash(&key), is_meant).unwrap();
            assert_eq!(found.is_some(), model.get(&key).is_some_and(is_meant));
            match (found, value) {
                (Some(mut found), Some(value)) => {
                    assert_eq!(*found.get_mut().0, key);
                    add(found.get_mut().1, value);
                    model.entry(key).and_modify(|stored| add(stored, value));
                }
                (Some(found), None) => assert_eq!(Some(found.remove()), model.remove_entry(&key)),
                (None, _) => {}
            }
        }
        Op::Replace(key, value) => {
            table.replace(key_hash(&key), &key, |_| value.map(V::of));
            model.remove(&key);
            model.extend(value.map(|value| (key, V::of(value))));
        }
        Op::CleanUp(place, keeps) => {
            let mut seen = None;
            table.sweep(place, |value| {
                seen = Some(value.clone());
                add(value, 500);
                keeps
            });
            // The table does not say whose place it was.
            *model = table.iter().map(|(key, value)| (*key, value.clone())).collect();
        }
        Op::Reserve(additional) => table.reserve(additional),
        Op::RetainBelow(end) => {
            table.retain(|_, value| value.number() < end);
            model.retain(|_, value| value.number() < end);
        }
        Op::Drain => assert_eq!(table.drain().collect::<Model<V>>(), std::mem::take(model)),
    }
}

/// The entries of a snapshot, each once and in its key group.
fn entries<V: Value>(snapshot: BegunSnapshot) -> Model<V> {
    // In many sections.
    let groups = snapshot.divided(7, OperatorSnapshot::default()).unwrap().keyed.remove("table").unwrap();
    let mut found = Model::new();
    for (group, bytes) in &groups {
        let read = |section: &[u8]| {
            EntryReader::default().read_entries("table", *group, section, |(key, value): (u16, V)| {
                assert_eq!(key_group(key_hash(&key), MAX_PARALLELISM), *group);
                assert_eq!(found.insert(key, value), None, "key {key} is there twice");
                Ok(())
            })
        };
        bytes.for_each_section(read).unwrap();
    }
    found
}

fn begin<V: Value>(table: &mut KeyedTable<u16, V>) -> BegunSnapshot {
    let mut begun = BegunSnapshot::default();
    let stream = begun.stream("table", MAX_PARALLELISM, GroupLayout::Entries);
    table.begin_snapshot_of_pairs(&stream).unwrap();
    begun
}

/// What a program does with a table on disk.
pub(in crate::table) fn apply_on_disk(
    table: &mut KeyedTable<u16, u32>,
    model: &mut Model<u32>,
    op: Op,
) -> Result<()> {
    let key = match &op {
        Op::Insert(key, _)
        | Op::Remove(key)
        | Op::GetMut(key, _)
        | Op::GetOrInsert(key, _)
        | Op::Upsert(key, _)
        | Op::Slot(key, _)
        | Op::Replace(key, _) => Some(*key),
        Op::Find(..) => {
            apply(table, model, op);
            return Ok(());
        }
        Op::Begin | Op::Step(_) | Op::CleanUp(..) | Op::Reserve(_) | Op::RetainBelow(_) | Op::Drain => None,
    };
    if let Some(key) = key {
        table.load_mut(key_hash(&key), &key)?;
        apply(table, model, op);
        return Ok(());
    }
    match op {
        Op::CleanUp(place, keeps) => {
            let mut seen = Vec::new();
            table.sweep(place, |value| {
                seen.push(*value);
                *value = value.wrapping_add(500) % 1000;
                keeps
            });
            model.clear();
            table.for_each(|key, value| {
                model.insert(*key, *value);
                Ok(())
            })?;
        }
        // Only reads, which bring entries into memory.
        Op::Reserve(key) => {
            let key = key as u16;
            assert_eq!(table.load(key_hash(&key), &key)?.get(key_hash(&key), &key), model.get(&key));
        }
        Op::Drain => {
            let mut drained = Model::new();
            table.drain_each(|key, value| {
                drained.insert(key, value);
                Ok(())
            })?;
            assert_eq!(drained, std::mem::take(model));
        }
        _ => {}
    }
    Ok(())
}

fn check_on_disk(ops: Vec<Op>, memory_bytes: u64) -> Result<()> {
    let (_, space) = memory_space(memory_bytes);
    let (mut table, mut model) = (KeyedTable::<u16, u32>::on_disk(&space), Model::new());
    let mut under_way: Option<(BegunSnapshot, Model<u32>)> = None;
    let check = |under_way: Option<(BegunSnapshot, Model<u32>)>| {
        if let Some((begun, expected)) = under_way {
            assert_eq!(entries::<u32>(begun), expected);
        }
    };
    for op in ops {
        match op {
            Op::Begin => {
                table.finish_snapshot();
                check(under_way.take());
                under_way = Some((begin(&mut table), model.clone()));
            }
            Op::Step(places) => {
                if table.snapshot_step(places) == SnapshotProgress::Complete {
                    check(under_way.take());
                }
            }
            op => apply_on_disk(&mut table, &mut model, op)?,
        }
    }
    table.finish_snapshot();
    check(under_way);
    let mut found = Model::new();
    table.for_each(|key, value| {
        found.insert(*key, *value);
        Ok(())
    })?;
    assert_eq!(found, model);
    Ok(())
}

fn check<V: Value>(ops: Vec<Op>) {
    let (mut table, mut model) = (KeyedTable::<u16, V>::default(), Model::new());
    let mut under_way: Option<(BegunSnapshot, Model<V>)> = None;
    let check = |under_way: Option<(BegunSnapshot, Model<V>)>| {
        if let Some((begun, expected)) = under_way {
            assert_eq!(entries::<V>(begun), expected);
        }
    };
    for op in ops {
        match op {
            Op::Begin => {
                table.finish_snapshot();
                check(under_way.take());
                under_way = Some((begin(&mut table), model.clone()));
            }
            Op::Step(places) => {
                if table.snapshot_step(places) == SnapshotProgress::Complete {
                    check(under_way.take());
                }
            }
            op => apply(&mut table, &mut model, op),
        }
        assert_eq!(table.iter().map(|(key, value)| (*key, value.clone())).collect::<Model<V>>(), model);
    }
    table.finish_snapshot();
    check(under_way);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_snapshot_has_what_was_there_when_it_was_begun(ops in ops(40)) {
        check::<u32>(ops);
    }

    #[test]
    fn a_snapshot_of_a_table_on_disk_has_what_was_there(
        ops in prop_oneof![ops(40), ops(300)],
        memory_bytes in prop_oneof![Just(0_u64), 0_u64..4_000],
    ) {
        check_on_disk(ops, memory_bytes).unwrap();
    }

    #[test]
    fn a_snapshot_of_values_that_own_memory_has_them_as_they_were(ops in ops(300)) {
        check::<String>(ops);
    }
}

#[test]
fn a_large_table_is_sent_in_pieces() {
    let mut table = KeyedTable::<u16, u32>::default();
    (0..u16::MAX).for_each(|key| table.insert(key_hash(&key), &key, u32::from(key)));
    let begun = begin(&mut table);
    let mut n_steps = 0;
    while table.snapshot_step(1000) == SnapshotProgress::Unfinished {
        let key = n_steps * 97;
        table.insert(key_hash(&key), &key, 1_000_000);
        n_steps += 1;
    }
    assert!(n_steps > 60, "{n_steps}");
    let expected = (0..u16::MAX).map(|key| (key, u32::from(key))).collect();
    assert_eq!(entries::<u32>(begun), expected);
}

#[test]
fn a_sweep_does_not_wait_for_a_writer_that_is_gone() {
    type Large = ([u64; 32], [u64; 32], [u64; 32], [u64; 32]);
    let mut table = KeyedTable::<u16, Large>::default();
    for key in 0..20_000_u16 {
        table.insert(key_hash(&key), &key, Large::default());
    }
    let mut begun = BegunSnapshot::default();
    let stream = begun.stream("table", MAX_PARALLELISM, GroupLayout::Entries);
    table.begin_snapshot_of_pairs(&stream).unwrap();
    while table.snapshot_step(100) == SnapshotProgress::Unfinished {}
    assert_eq!(table.snapshot_step(100), SnapshotProgress::WriterBehind);
    drop(begun);
    while table.snapshot_step(100) == SnapshotProgress::Unfinished {}
    assert!(!table.is_in_snapshot());
}

/// The map makes room for a key before it looks whether it has it.
#[test]
fn a_full_map_is_swept_before_an_access_that_may_add_a_key() {
    let mut table = KeyedTable::<u16, u32>::default();
    table.reserve(1);
    let n_keys = table.table.capacity() as u16;
    (0..n_keys).for_each(|key| table.insert(key_hash(&key), &key, 0));
    let n_buckets = table.table.num_buckets();
    let begun = begin(&mut table);
    table.upsert(key_hash(&0_u16), &0, || 1, |value| *value += 1);
    assert!(!table.is_in_snapshot() && table.table.num_buckets() > n_buckets);
    assert_eq!(entries::<u32>(begun), (0..n_keys).map(|key| (key, 0)).collect());
}

#[test]
fn a_table_that_goes_away_leaves_no_snapshot() {
    let mut table = KeyedTable::<u16, u32>::default();
    table.insert(key_hash(&1_u16), &1, 1);
    let begun = begin(&mut table);
    drop(table);
    let error = begun.complete().unwrap_err();
    assert_eq!(error.to_string(), "only 0 of 1 tables of state 'table' were written whole");
}

#[test]
fn an_empty_table_is_complete_at_once() {
    let mut table = KeyedTable::<u16, u32>::default();
    let begun = begin(&mut table);
    assert!(!table.is_in_snapshot());
    assert_eq!(begun.complete().unwrap().keyed["table"], KeyGroupBytes::new());
}

#[test]
fn several_tables_are_one_state_and_their_entries_are_counted() {
    let mut begun = BegunSnapshot::default();
    let stream = begun.whole_stream("table", 1, GroupLayout::Counted);
    let mut tables = [KeyedTable::<u16, u32>::default(), KeyedTable::default()];
    for (table, end) in tables.iter_mut().zip([10_u32, 20]) {
        (0..200).for_each(|key| table.insert(key_hash(&key), &key, u32::from(key)));
        let encode = move |key: &u16, value: &u32, bytes: &mut Vec<u8>| {
            encode_into("table", &(key, (end, value)), bytes).map(|()| 1)
        };
        table.begin_snapshot(&stream, encode).unwrap();
    }
    stream.send_all(vec![(9_u16, 9_u32)], |key, value, bytes| {
        encode_into("table", &(key, (30_u32, value)), bytes).map(|()| 1)
    });
    drop(stream);
    tables.iter_mut().for_each(KeyedTable::finish_snapshot);
    let groups = begun.complete().unwrap().keyed.remove("table").unwrap();
    let mut entries: Vec<(u16, (u32, u32))> =
        decode("table", &groups[&KeyGroup(0)].to_vec().unwrap()).unwrap();
    entries.sort_unstable();
    assert_eq!(
        (entries.len(), entries[0], entries[1], entries[20]),
        (401, (0, (10, 0)), (0, (20, 0)), (9, (30, 9)))
    );
}

#[test]
fn what_is_left_out_is_not_there() {
    let mut table = KeyedTable::<u16, u32>::default();
    (0..100).for_each(|key| table.insert(key_hash(&key), &key, u32::from(key)));
    let mut begun = BegunSnapshot::default();
    let stream = begun.stream("table", 1, GroupLayout::Kind(9));
    let encode = |key: &u16, value: &u32, bytes: &mut Vec<u8>| {
        if *key != 3 {
            return Ok(0);
        }
        encode_into("table", &(key, value), bytes).map(|()| 1)
    };
    table.begin_snapshot(&stream, encode).unwrap();
    table.finish_snapshot();
    assert_eq!(begun.complete().unwrap().keyed["table"][&KeyGroup(0)], vec![9, 3, 3].into());
}

#[test]
fn what_cannot_be_serialized_fails_the_snapshot() {
    let mut table = KeyedTable::<u16, u32>::default();
    table.insert(key_hash(&1_u16), &1, 1);
    let mut begun = BegunSnapshot::default();
    let stream = begun.stream("table", 1, GroupLayout::Entries);
    table.begin_snapshot(&stream, |_, _, _| Err(flott_types::Error::user("no"))).unwrap();
    table.finish_snapshot();
    assert_eq!(begun.complete().unwrap_err().kind(), ErrorKind::UserError);
}
