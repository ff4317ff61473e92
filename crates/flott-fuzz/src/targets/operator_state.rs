//! State that is no keyed state of a handle: timers, lists, broadcast state.

use super::{cut, joined};
use flott_state::{
    BroadcastState, KEY_GROUP_WATERMARKS, KeyedSchemas, OperatorListState, OperatorSnapshot,
    OperatorStateBackend, TimerService,
};
use flott_types::{KeyGroup, Result, SubtaskIndex, Watermark};

type Timers = TimerService<String, (i64, bool)>;

fn timers_of(group: &[u8], watermark: &[u8], of_key_groups: &[u8]) -> OperatorSnapshot {
    let mut snapshot = OperatorSnapshot { max_parallelism: 1, ..OperatorSnapshot::default() };
    for name in ["_timers/event", "_timers/processing"] {
        snapshot.keyed.insert(name.to_owned(), [(KeyGroup(0), group.to_vec().into())].into());
    }
    snapshot.union.insert("_watermark".to_owned(), vec![watermark.to_vec()]);
    if !of_key_groups.is_empty() {
        snapshot.union.insert(KEY_GROUP_WATERMARKS.to_owned(), vec![of_key_groups.to_vec()]);
    }
    snapshot
}

/// A watermark, those of key groups if there are any, and the bytes of a key group.
pub(crate) fn timers(bytes: &[u8]) {
    let (watermark, rest) = cut(bytes);
    let (of_key_groups, group) = cut(rest);
    let mut timers = Timers::default();
    let snapshot = timers_of(group, watermark, of_key_groups);
    if timers.restore(&snapshot, &mut KeyedSchemas::default()).is_err() {
        return;
    }
    let mut written = OperatorSnapshot::default();
    timers.snapshot(1, &mut written).expect("written");
    let mut again = Timers::default();
    again.restore(&written, &mut KeyedSchemas::default()).expect("what was written is read");
    assert_eq!(again.event_time.watermark(), timers.event_time.watermark());
    assert_eq!(again.event.len(), timers.event.len());
    while let Some(timer) = timers.event.pop_due(i64::MAX) {
        assert_eq!(again.event.pop_due(i64::MAX), Some(timer));
    }
}

pub(crate) fn timer_seeds() -> Vec<Vec<u8>> {
    let mut timers = Timers::default();
    timers.event_time.advance(Watermark(1_000));
    for (at, key) in [(5, "a"), (i64::MAX, "key"), (-1, "")] {
        timers.event.register(at, &key.to_owned(), &(at, true));
    }
    let mut snapshot = OperatorSnapshot::default();
    timers.snapshot(1, &mut snapshot).expect("written");
    let union = |name: &str| snapshot.union.get(name).and_then(|list| list.first()).expect("written");
    let group = snapshot.keyed.get("_timers/event").and_then(|groups| groups.get(&KeyGroup(0)));
    let group = group.expect("written").to_vec().expect("it is in memory");
    let (watermark, of_key_groups) = (union("_watermark"), union(KEY_GROUP_WATERMARKS));
    vec![joined(watermark, &joined(of_key_groups, &group)), joined(watermark, &joined(&[], &group))]
}

type Entry = (String, Option<Vec<u16>>);
type Contents = (Vec<Entry>, Vec<i64>, Vec<(u32, Entry)>);

/// A list, a union list and a broadcast state.
struct States {
    list: OperatorListState<Entry>,
    union: OperatorListState<i64>,
    broadcast: BroadcastState<u32, Entry>,
}

impl States {
    fn new() -> Self {
        Self {
            list: OperatorListState::new("list"),
            union: OperatorListState::union("union"),
            broadcast: BroadcastState::new("broadcast"),
        }
    }

    fn all(&self, backend: &OperatorStateBackend) -> Result<Contents> {
        let broadcast = self.broadcast.iter(backend)?.map(|(key, value)| (*key, value.clone()));
        Ok((self.list.get(backend)?.to_vec(), self.union.get(backend)?.to_vec(), broadcast.collect()))
    }
}

fn restored(snapshot: &OperatorSnapshot) -> OperatorStateBackend {
    let mut backend = OperatorStateBackend::new(SubtaskIndex(0));
    backend.restore(snapshot).expect("the names are right");
    backend
}

/// An entry of the list, one of the union list, and the broadcast state.
pub(crate) fn restore(bytes: &[u8]) {
    let (first, rest) = cut(bytes);
    let (second, broadcast) = cut(rest);
    let mut snapshot = OperatorSnapshot::default();
    snapshot.list.insert("list".to_owned(), vec![first.to_vec()]);
    snapshot.union.insert("union".to_owned(), vec![second.to_vec()]);
    snapshot.broadcast.insert("broadcast".to_owned(), broadcast.to_vec());
    let (states, backend) = (States::new(), restored(&snapshot));
    let Ok(read) = states.all(&backend) else { return };
    let mut written = OperatorSnapshot::default();
    backend.snapshot(&mut written).expect("written");
    assert_eq!(States::new().all(&restored(&written)).expect("what was written is read"), read);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut backend = OperatorStateBackend::new(SubtaskIndex(0));
    let states = States::new();
    let entry = ("text".to_owned(), Some(vec![1, 300]));
    states.list.add(&mut backend, entry.clone()).expect("added");
    states.union.add(&mut backend, -70).expect("added");
    states.broadcast.put(&mut backend, 7, entry).expect("put");
    let mut snapshot = OperatorSnapshot::default();
    backend.snapshot(&mut snapshot).expect("written");
    let entry = |entries: Option<&Vec<Vec<u8>>>| entries.and_then(|entries| entries.first()).cloned();
    let first = entry(snapshot.list.get("list")).expect("written");
    let second = entry(snapshot.union.get("union")).expect("written");
    let broadcast = snapshot.broadcast.get("broadcast").expect("written");
    vec![joined(&first, &joined(&second, broadcast)), joined(&first, &joined(&second, &[0]))]
}
