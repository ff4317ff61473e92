use super::*;
use crate::testing::memory_space;
use flott_env::sim::{Fault, FaultEffect, MemoryFs};
use flott_types::ErrorKind;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Model = BTreeMap<(u64, Vec<u8>), Vec<u8>>;

fn put(store: &mut ColdStore, order: u64, key: &[u8], value: Option<&[u8]>) -> Result<()> {
    store.put(Record { order, key, value }, &mut |_| Ok(false))
}

fn contents(store: &ColdStore, from: u64) -> Result<Model> {
    let (mut model, mut records) = (Model::new(), store.scan(from)?);
    let mut last = None;
    while let Some(Record { order, key, value }) = records.current() {
        let place = Some((order, key.to_vec()));
        assert!(last < place, "keys come in order and once");
        last = place;
        if let Some(value) = value {
            model.insert((order, key.to_vec()), value.to_vec());
        }
        records.advance()?;
    }
    Ok(model)
}

/// Some orders are equal: two keys may have one hash.
fn key_of(number: u64) -> (u64, Vec<u8>) {
    ((number / 3).wrapping_mul(0x9e37_79b9_7f4a_7c15), number.to_be_bytes()[6..].to_vec())
}

/// Writes values of many sizes; about a fifth of the writes remove.
fn write(store: &mut ColdStore, model: &mut Model, n_writes: u64, n_keys: u64) -> Result<()> {
    for write in 0..n_writes {
        let (order, key) = key_of(write.wrapping_mul(write + 7) % n_keys);
        let value = vec![write as u8; (write % 97) as usize];
        let value = (write % 5 != 0).then_some(value);
        // What was put counts also if the disk fails after that.
        match value.clone() {
            Some(value) => drop(model.insert((order, key.clone()), value)),
            None => drop(model.remove(&(order, key.clone()))),
        }
        put(store, order, &key, value.as_deref())?;
    }
    Ok(())
}

#[test]
fn the_newest_value_is_found_through_flushes_and_merges() {
    let (fs, space) = memory_space(64 << 10);
    let (mut store, mut model) = (ColdStore::new(&space, 64 << 10), Model::new());
    write(&mut store, &mut model, 60_000, 5_000).unwrap();
    assert!(store.runs.len() < 16 && store.file_bytes() > 50_000, "{store:?}");
    assert_eq!(contents(&store, 0).unwrap(), model);
    for number in 0..6_000 {
        let (order, key) = key_of(number);
        let expected = model.get(&(order, key.clone())).map(Vec::as_slice);
        assert_eq!(store.get(order, &key).unwrap(), expected);
        assert!(expected.is_none() || store.may_contain(order));
    }
    let from = u64::MAX / 3;
    assert_eq!(contents(&store, from).unwrap(), model.split_off(&(from, Vec::new())));
    assert_eq!(
        fs.files().len(),
        store.runs.len() + store.merges.len() + 1,
        "merged runs are removed: {store:?}"
    );
    store.clear();
    assert!(store.is_empty() && contents(&store, 0).unwrap().is_empty());
    assert_eq!(fs.files().len(), 1, "only the lock is left");
    drop((store, space));
    assert_eq!(fs.files().len(), 0);
}

#[test]
fn a_store_without_values_gets_rid_of_its_tombstones() {
    let (_, space) = memory_space(16 << 10);
    let mut store = ColdStore::new(&space, 16 << 10);
    for round in 0..200_u64 {
        for number in 0..200 {
            let (order, key) = key_of(number);
            put(&mut store, order, &key, (round % 2 == 0).then_some(&[1; 20])).unwrap();
        }
    }
    assert!(store.file_bytes() < 64 << 10, "{} bytes", store.file_bytes());
}

#[test]
fn values_that_have_expired_are_merged_away() {
    let (_, space) = memory_space(16 << 10);
    let mut store = ColdStore::new(&space, 16 << 10);
    for number in 0..40_000_u64 {
        let record =
            Record { order: number.wrapping_mul(0x9e37_79b9_7f4a_7c15), key: b"", value: Some(&[7; 16]) };
        store.put(record, &mut |record| Ok(record.value.is_some_and(|value| value[0] == 7))).unwrap();
    }
    assert!(store.file_bytes() < 40_000 * 24 / 2, "{} bytes", store.file_bytes());
}

#[test]
fn a_damaged_file_is_named_and_never_read_as_something_else() {
    let (fs, space) = memory_space(16 << 10);
    let (mut store, mut model) = (ColdStore::new(&space, 16 << 10), Model::new());
    write(&mut store, &mut model, 3_000, 500).unwrap();
    // The simulated disk has opened files as they were: damage what is read next.
    let runs: Vec<_> =
        fs.files().into_iter().filter(|(path, _)| path.to_string_lossy().ends_with(".run")).collect();
    let mut n_damaged = 0;
    for (path, content) in runs {
        for at in (0..content.len()).step_by(101) {
            let mut damaged = content.clone();
            damaged[at] ^= 0x10;
            fs.corrupt(&path, damaged);
            n_damaged += usize::from(contents(&store, 0).is_err_and(|error| {
                assert_eq!(error.kind(), ErrorKind::Corruption, "{}", error.report());
                assert!(
                    error.report().contains(&*path.to_string_lossy()) && error.report().contains("offset")
                );
                true
            }));
            fs.corrupt(&path, content[..at].to_vec());
            match contents(&store, 0) {
                Ok(read) => assert_eq!(read, model),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{}", error.report()),
            }
        }
        fs.corrupt(&path, content);
    }
    assert!(n_damaged > 100, "{n_damaged}");
    assert_eq!(contents(&store, 0).unwrap(), model);
}

#[test]
fn every_failure_of_the_disk_is_an_error_and_loses_nothing() {
    let (fs, space) = memory_space(16 << 10);
    let (mut store, mut model) = (ColdStore::new(&space, 16 << 10), Model::new());
    let start = fs.operations();
    write(&mut store, &mut model, 2_000, 300).unwrap();
    let n_operations = fs.operations() - start;
    drop((store, space));
    assert!(n_operations > 50, "{n_operations}");
    for effect in [FaultEffect::Before, FaultEffect::AppliedButError] {
        for at in 0..n_operations {
            let (fs, space) = memory_space(16 << 10);
            let (mut store, mut model) = (ColdStore::new(&space, 16 << 10), Model::new());
            fs.set_fault(Some(Fault { at: fs.operations() + at, effect, halts: false }));
            if let Err(error) = write(&mut store, &mut model, 2_000, 300) {
                assert_eq!(error.kind(), ErrorKind::FailSubtask, "{}", error.report());
            }
            assert_eq!(contents(&store, 0).unwrap(), model, "operation {at}, {effect:?}");
        }
    }
}

fn reopened(fs: &MemoryFs) -> usize {
    fs.files().len()
}

#[test]
fn what_a_dead_process_left_is_removed_and_what_others_use_is_not() {
    let (fs, space) = memory_space(16 << 10);
    let (mut store, mut model) = (ColdStore::new(&space, 16 << 10), Model::new());
    write(&mut store, &mut model, 3_000, 500).unwrap();
    let n_files = reopened(&fs);
    let neighbour = crate::testing::space_on(&fs, 16 << 10);
    assert_eq!(reopened(&fs), n_files + 1, "the lock of the second one came");
    drop(neighbour);
    fs.crash(flott_env::sim::CrashMode::KeepUnsynced);
    assert_eq!(reopened(&fs), n_files);
    let next = crate::testing::space_on(&fs, 16 << 10);
    assert_eq!(reopened(&fs), 1, "only the new lock is left");
    drop((next, store, space));
}

proptest! {
    #[test]
    fn a_store_does_what_a_map_does(
        memory in 1_u64..200_000,
        writes in vec((0_u64..300, prop::option::weighted(0.7, 0_usize..300)), 1..1_500),
    ) {
        let (_, space) = memory_space(memory);
        let (mut store, mut model) = (ColdStore::new(&space, memory), Model::new());
        for (idx, (number, len)) in writes.into_iter().enumerate() {
            let (order, key) = key_of(number);
            let value = len.map(|len| vec![idx as u8; len]);
            put(&mut store, order, &key, value.as_deref()).unwrap();
            match value {
                Some(value) => drop(model.insert((order, key), value)),
                None => drop(model.remove(&(order, key))),
            }
            let (order, key) = key_of(idx as u64 * 7 % 300);
            let expected = model.get(&(order, key.clone())).map(Vec::as_slice);
            prop_assert_eq!(store.get(order, &key).unwrap(), expected);
        }
        prop_assert_eq!(contents(&store, 0).unwrap(), model);
    }
}
