//! Snapshot and restore, at the same and at other parallelism.

use crate::schemas::STATE_SCHEMAS;
use crate::testing::Subtasks;
use crate::{AggregatingState, ListState, MapState, OperatorSnapshot, ReducingState, ValueState};
use flott_types::SubtaskIndex;

const N_KEYS: u64 = 500;

struct States {
    value: ValueState<String>,
    list: ListState<u64>,
    map: MapState<String, Option<u64>>,
    reducing: ReducingState<u64>,
    aggregating: AggregatingState<u64, Vec<u64>, usize>,
}

impl States {
    fn new() -> Self {
        Self {
            value: ValueState::new("value"),
            list: ListState::new("list"),
            map: MapState::new("map"),
            reducing: ReducingState::new("reducing", |a, b| a + b),
            aggregating: AggregatingState::new("aggregating", Vec::new, Vec::push, Vec::len),
        }
    }

    fn write(&self, subtasks: &mut Subtasks, key: u64) {
        let store = subtasks.at(key);
        self.value.set(store, format!("value of {key}")).unwrap();
        self.list.add_all(store, 0..key % 4).unwrap();
        for i in 0..key % 3 {
            self.map.put(store, format!("{i}"), (i > 0).then_some(key)).unwrap();
        }
        self.reducing.add(store, key).unwrap();
        self.aggregating.add(store, key).unwrap();
    }

    fn read(&self, subtasks: &mut Subtasks, key: u64) -> String {
        let store = subtasks.at(key);
        let mut text = format!("{:?} ", self.value.get(store).unwrap());
        text += &format!("{:?} ", self.list.get(store).unwrap().collect::<Vec<_>>());
        text += &format!("{:?} ", self.map.iter(store).unwrap().collect::<Vec<_>>());
        text += &format!("{:?} ", self.reducing.get(store).unwrap());
        text + &format!("{:?}", self.aggregating.get(store).unwrap())
    }

    fn read_all(&self, subtasks: &mut Subtasks) -> Vec<String> {
        (0..N_KEYS + 10).map(|key| self.read(subtasks, key)).collect()
    }
}

#[test]
fn a_restart_at_any_parallelism_changes_nothing() {
    for max_parallelism in [7, 128] {
        let mut subtasks = Subtasks::new(1, max_parallelism);
        let states = States::new();
        (0..N_KEYS).for_each(|key| states.write(&mut subtasks, key));
        let written = states.read_all(&mut subtasks);
        for parallelism in [3, 2, 2, 7, 1] {
            subtasks.restart(parallelism);
            assert_eq!(states.read_all(&mut subtasks), written, "at {parallelism} of {max_parallelism}");
        }
    }
}

/// The parts together hold each key group once, and the same bytes at any parallelism.
#[test]
fn the_key_groups_of_all_subtasks_together_stay_the_same() {
    let mut subtasks = Subtasks::new(1, 16);
    let states = States::new();
    (0..N_KEYS).for_each(|key| states.write(&mut subtasks, key));
    let union = |subtasks: &Subtasks| {
        let mut whole = OperatorSnapshot::reassign(&subtasks.snapshots(), SubtaskIndex(0), 1).unwrap();
        assert_eq!(whole.union.remove(STATE_SCHEMAS).unwrap().len(), subtasks.backends.len());
        assert_eq!(whole.keyed.len(), 5);
        assert!(
            whole.keyed.values().all(|groups| groups.len() == 16),
            "500 keys are in all of 16 key groups"
        );
        whole
    };
    let before = union(&subtasks);
    for parallelism in [3, 2, 5] {
        subtasks.restart(parallelism);
        let parts = subtasks.snapshots();
        let n_groups: usize =
            parts.iter().flat_map(|part| part.keyed.values()).map(|groups| groups.len()).sum();
        assert_eq!(n_groups, 5 * 16);
        assert_eq!(union(&subtasks), before);
    }
}

#[test]
fn state_that_nobody_reads_survives_restarts() {
    let mut subtasks = Subtasks::new(1, 16);
    let states = States::new();
    (0..N_KEYS).for_each(|key| states.write(&mut subtasks, key));
    let written = states.read_all(&mut subtasks);
    for parallelism in [3, 2, 4] {
        subtasks.restart(parallelism);
        // One of the states is read, and only by one of the subtasks.
        ValueState::<String>::new("value").get(subtasks.at(0)).unwrap();
    }
    assert_eq!(states.read_all(&mut subtasks), written);
}

#[test]
fn cleared_state_does_not_come_back() {
    let mut subtasks = Subtasks::new(2, 16);
    let states = States::new();
    (0..10).for_each(|key| states.write(&mut subtasks, key));
    subtasks.restart(3);
    (0..10).for_each(|key| states.value.clear(subtasks.at(key)).unwrap());
    subtasks.restart(1);
    for key in 0..10 {
        assert_eq!(states.value.get(subtasks.at(key)).unwrap(), None);
        assert_eq!(states.reducing.get(subtasks.at(key)).unwrap(), Some(&key));
    }
}

#[test]
fn the_bytes_of_a_state_without_time_to_live_are_pinned() {
    let mut subtasks = Subtasks::new(1, 1);
    let store = subtasks.at(300);
    ValueState::new("value").set(store, 7_u8).unwrap();
    ListState::new("list").add_all(store, [1_u8, 2]).unwrap();
    MapState::new("map").put(store, "k".to_owned(), 9_u8).unwrap();
    let snapshot = subtasks.snapshots().remove(0);
    let lines = snapshot.keyed.iter().map(|(name, groups)| {
        let groups: Vec<_> = groups.iter().map(|(group, bytes)| format!("{group}: {bytes:?}")).collect();
        format!("{name} {}\n", groups.join(" "))
    });
    expect_test::expect![[r#"
        list 0: [2, 172, 2, 2, 1, 0, 2, 0]
        map 0: [3, 172, 2, 1, 1, 107, 9, 0]
        value 0: [1, 172, 2, 7, 0]
    "#]]
    .assert_eq(&lines.collect::<String>());
}
