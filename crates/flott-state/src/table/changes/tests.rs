//! Whatever happens to a table, and whichever checkpoints fail: what was written since an earlier one, put over that, is what was there.

use super::*;
use crate::begun::{BegunSnapshot, ChainSnapshot, GroupLayout, SnapshotProgress};
use crate::schemas::EntryReader;
use crate::snapshot::{GroupBytes, KeyGroupBytes};
use crate::table::capture::tests::{MAX_PARALLELISM, Model, Op, Value, apply, apply_on_disk, ops};
use crate::testing::memory_space;
use flott_types::{CheckpointBarrier, CheckpointKind, Data, FileHandle, key_hash};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn begun(id: u64, increment: Increment) -> BegunSnapshot {
    let (id, kind) = (CheckpointId(id), CheckpointKind::Checkpoint);
    let barrier = CheckpointBarrier { id, timestamp: 0, kind, increment };
    let base = FileHandle { path: "base".to_owned(), len: 0, checksum: 0 };
    ChainSnapshot::new(&barrier, vec![base]).begin()
}

/// The sections of a snapshot that was sent, and whether they are changes.
fn written(mut begun: BegunSnapshot) -> (bool, KeyGroupBytes) {
    let mut stream = begun.streams.remove(0);
    let continues = stream.begin(7);
    let mut groups = KeyGroupBytes::new();
    let mut sink = |group, kind, bytes| {
        groups.entry(group).or_default().push(kind, bytes);
        Ok(())
    };
    while let Some(piece) = stream.try_next() {
        stream.write(piece, &mut sink).unwrap();
    }
    stream.finish(&mut sink).unwrap();
    (continues, groups)
}

fn contents<V: Data>(table: &KeyedTable<u16, V>) -> Model<V> {
    let mut found = Model::new();
    let each = |key: &u16, value: &V| {
        assert!(found.insert(*key, value.clone()).is_none(), "key {key} is there twice");
        Ok(())
    };
    table.for_each(each).unwrap();
    found
}

/// A table with its checkpoints.
struct Checkpointed<V> {
    table: KeyedTable<u16, V>,
    model: Model<V>,
    /// What a restore of each would read.
    checkpoints: BTreeMap<u64, KeyGroupBytes>,
    under_way: Option<(u64, Increment, BegunSnapshot, Model<V>)>,
    next_id: u64,
    complete: Option<u64>,
    n_increments: usize,
}

impl<V: Value> Checkpointed<V> {
    fn new(table: KeyedTable<u16, V>) -> Self {
        let (checkpoints, model) = (BTreeMap::new(), Model::new());
        Self { table, model, checkpoints, under_way: None, next_id: 1, complete: None, n_increments: 0 }
    }

    fn barrier(&mut self) {
        self.table.finish_snapshot();
        self.settle();
        let increment =
            self.complete.map_or(Increment::Base, |complete| Increment::Since(CheckpointId(complete)));
        self.begin(increment);
    }

    fn begin(&mut self, increment: Increment) {
        let mut begun = begun(self.next_id, increment);
        let stream = begun.stream("table", MAX_PARALLELISM, GroupLayout::Entries);
        self.table.begin_snapshot_of_pairs(&stream).unwrap();
        self.under_way = Some((self.next_id, increment, begun, self.model.clone()));
        self.next_id += 1;
    }

    fn step(&mut self, places: usize) {
        if self.table.snapshot_step(places) == SnapshotProgress::Complete {
            self.settle();
        }
    }

    /// Everything was sent: restores it, and compares.
    fn settle(&mut self) {
        let Some((id, increment, begun, expected)) = self.under_way.take() else { return };
        let (continues, mut groups) = written(begun);
        if continues {
            let Increment::Since(base) = increment else { panic!("changes of nothing") };
            let changes = std::mem::replace(&mut groups, self.checkpoints[&base.0].clone());
            for (group, changes) in changes {
                groups.entry(group).or_default().extend(changes);
            }
            self.n_increments += 1;
        } else {
            assert!(groups.values().all(|group| !group.has_changes()));
        }
        let (_disk, space) = memory_space(500 * (1 + expected.len() as u64 / 50));
        for mut restored in [KeyedTable::default(), KeyedTable::on_disk(&space)] {
            restored.restore("table", MAX_PARALLELISM, &groups, &EntryReader::default()).unwrap();
            assert_eq!(contents(&restored), expected, "checkpoint {id} of {increment:?}");
        }
        self.checkpoints.insert(id, groups);
    }

    /// The newest that was written, or the one before it, becomes complete.
    fn complete(&mut self, is_late: bool) {
        let newest = self.checkpoints.keys().rev().nth(usize::from(is_late)).copied();
        self.complete = self.complete.max(newest);
    }
}

/// What becomes of a checkpoint before the next barrier.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Complete,
    Late,
    Failed,
}

fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    let outcome =
        prop_oneof![5 => Just(Outcome::Complete), 2 => Just(Outcome::Late), 2 => Just(Outcome::Failed)];
    vec(outcome, 8)
}

fn check<V: Value>(
    table: KeyedTable<u16, V>,
    ops: Vec<Op>,
    outcomes: &[Outcome],
    apply: impl Fn(&mut KeyedTable<u16, V>, &mut Model<V>, Op),
) {
    let mut checkpointed = Checkpointed::new(table);
    let mut outcomes = outcomes.iter().cycle();
    for op in ops {
        match op {
            Op::Begin => {
                match outcomes.next() {
                    Some(Outcome::Complete) => checkpointed.complete(false),
                    Some(Outcome::Late) => checkpointed.complete(true),
                    Some(Outcome::Failed) | None => {}
                }
                checkpointed.barrier();
            }
            Op::Step(places) => checkpointed.step(places),
            // Changes of what may as well come back are in no increment.
            Op::CleanUp(_, true) => {}
            op => apply(&mut checkpointed.table, &mut checkpointed.model, op),
        }
    }
    checkpointed.barrier();
    checkpointed.table.finish_snapshot();
    checkpointed.settle();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn changes_over_their_base_are_what_was_there(ops in prop_oneof![ops(40), ops(300)], outcomes in outcomes()) {
        check::<u32>(KeyedTable::default(), ops, &outcomes, apply);
    }

    #[test]
    fn changes_of_values_that_own_memory_are_what_was_there(ops in ops(100), outcomes in outcomes()) {
        check::<String>(KeyedTable::default(), ops, &outcomes, apply);
    }

    #[test]
    fn changes_of_a_table_on_disk_are_what_was_there(
        ops in prop_oneof![ops(40), ops(300)],
        outcomes in outcomes(),
        memory_bytes in prop_oneof![Just(0_u64), 0_u64..4_000],
    ) {
        let (_disk, space) = memory_space(memory_bytes);
        let apply = |table: &mut _, model: &mut _, op| apply_on_disk(table, model, op).unwrap();
        check::<u32>(KeyedTable::on_disk(&space), ops, &outcomes, apply);
    }
}

/// Values of a table of 10,000 keys.
fn filled(table: KeyedTable<u16, u32>) -> Checkpointed<u32> {
    let mut filled = Checkpointed::new(table);
    for key in 0..10_000 {
        apply_on_disk(&mut filled.table, &mut filled.model, Op::Insert(key, 7)).unwrap();
    }
    filled.barrier();
    filled.table.finish_snapshot();
    filled.settle();
    filled.complete(false);
    filled
}

fn change_a_few(checkpointed: &mut Checkpointed<u32>) {
    let Checkpointed { table, model, .. } = checkpointed;
    for op in [Op::Insert(9_999, 8), Op::Remove(17), Op::GetMut(18, 1), Op::Remove(19), Op::Insert(19, 3)] {
        apply_on_disk(table, model, op).unwrap();
    }
}

fn n_bytes(checkpointed: &Checkpointed<u32>, id: u64) -> u64 {
    checkpointed.checkpoints[&id].values().map(GroupBytes::n_bytes).sum()
}

#[test]
fn little_is_written_where_little_has_changed() {
    let (_disk, space) = memory_space(20_000);
    for table in [KeyedTable::default(), KeyedTable::on_disk(&space)] {
        let mut checkpointed = filled(table);
        for _ in 0..5 {
            change_a_few(&mut checkpointed);
            checkpointed.barrier();
            checkpointed.table.finish_snapshot();
            checkpointed.settle();
            checkpointed.complete(false);
        }
        assert_eq!(checkpointed.n_increments, 5);
        let (first, last) = (n_bytes(&checkpointed, 1), n_bytes(&checkpointed, 6));
        assert!(last > first && last < first + first / 100, "{first} {last}");
    }
}

/// Maps grow, and removed entries use their room up: what is known of the others moves along.
#[test]
fn changes_are_known_though_entries_move() {
    let (_disk, space) = memory_space(20_000);
    for table in [KeyedTable::default(), KeyedTable::on_disk(&space)] {
        let mut checkpointed = filled(table);
        let mut n_buckets = Vec::new();
        for round in 0..6_u16 {
            let Checkpointed { table, model, .. } = &mut checkpointed;
            for n in 0..1000_u16 {
                let (hot, new, gone) = (n % 12, 20_000 + round * 1000 + n, round * 300 + n % 300);
                for op in [Op::GetOrInsert(hot, 1), Op::Insert(new, 1), Op::Remove(gone)] {
                    apply_on_disk(table, model, op).unwrap();
                }
            }
            n_buckets.push(table.table.num_buckets());
            checkpointed.barrier();
            checkpointed.table.finish_snapshot();
            checkpointed.settle();
            checkpointed.complete(false);
        }
        assert_eq!(checkpointed.n_increments, 6);
        let grows = checkpointed.table.spill.is_none();
        assert_eq!(n_buckets.iter().min() < n_buckets.iter().max(), grows, "{n_buckets:?}");
    }
}

#[test]
fn after_some_failures_in_a_row_everything_is_written_once_more() {
    let mut checkpointed = filled(KeyedTable::default());
    for _ in 0..10 {
        change_a_few(&mut checkpointed);
        checkpointed.barrier();
        checkpointed.table.finish_snapshot();
        checkpointed.settle();
    }
    assert_eq!(checkpointed.n_increments, INTERVALS_MAX);
}

#[test]
fn a_savepoint_is_whole_and_changes_nothing() {
    let mut checkpointed = filled(KeyedTable::default());
    change_a_few(&mut checkpointed);
    checkpointed.begin(Increment::None);
    checkpointed.table.finish_snapshot();
    checkpointed.settle();
    assert_eq!(checkpointed.n_increments, 0);
    checkpointed.barrier();
    checkpointed.table.finish_snapshot();
    checkpointed.settle();
    assert_eq!(checkpointed.n_increments, 1);
}

#[test]
fn many_removed_keys_are_not_remembered() {
    let mut checkpointed = filled(KeyedTable::default());
    let removed = 0..checkpointed.table.table.num_buckets() as u16 / 2 + 1;
    for key in removed {
        apply(&mut checkpointed.table, &mut checkpointed.model, Op::Remove(key));
    }
    checkpointed.barrier();
    checkpointed.table.finish_snapshot();
    checkpointed.settle();
    assert_eq!(checkpointed.n_increments, 0);
}

#[test]
fn what_is_left_out_of_changes_is_removed_from_what_they_go_on_from() {
    let mut table = KeyedTable::<u16, u32>::default();
    let mut restored = KeyedTable::<u16, u32>::default();
    (0..10_u16).for_each(|key| table.insert(key_hash(&key), &key, 7));
    for (id, increment) in [(1, Increment::Base), (2, Increment::Since(CheckpointId(1)))] {
        let mut begun = begun(id, increment);
        let stream = begun.stream("table", MAX_PARALLELISM, GroupLayout::Entries);
        let encode = |key: &u16, value: &u32, bytes: &mut Vec<u8>| {
            let pair = (*value != 0).then_some((key, value));
            pair.map_or(Ok(()), |pair| crate::codec::encode_into("table", &pair, bytes))
                .map(|()| u64::from(pair.is_some()))
        };
        table.begin_snapshot(&stream, encode).unwrap();
        table.finish_snapshot();
        let (continues, groups) = written(begun);
        assert_eq!(continues, id == 2);
        restored.restore("table", MAX_PARALLELISM, &groups, &EntryReader::default()).unwrap();
        table.insert(key_hash(&4_u16), &4, 0);
    }
    assert_eq!(contents(&restored).len(), 9);
}
