//! Operators that go on from a snapshot of which the bytes are a part. The first byte says which operator, the second which part.

use flott_api::OutputTag;
use flott_api::windowing::{
    CountTrigger, EventTimeSessionWindows, GlobalWindows, SlidingEventTimeWindows, TumblingEventTimeWindows,
};
use flott_state::{GroupBytes, OperatorSnapshot};
use flott_testkit::{KeyValue, TestDriver};
use std::time::Duration;

type Driver = TestDriver<KeyValue, KeyValue>;

/// Each with what it gets before the snapshot.
const OPERATORS: [fn() -> Driver; 6] = [tumbling, sliding, session, counted, running, general];
const BEFORE: &str = "+a=1@10 +b=2@70 +a=3@95 W40";
const AFTER: &str = "+a=4@100 +c=5@1000 W120 W2000";

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn add(sum: &mut KeyValue, next: KeyValue) {
    sum.value = sum.value.wrapping_add(next.value);
}

fn tumbling() -> Driver {
    TestDriver::window(KeyValue::key_of, TumblingEventTimeWindows::of(ms(50))).reduce(add)
}

fn sliding() -> Driver {
    let windows = SlidingEventTimeWindows::of(ms(60), ms(20));
    TestDriver::window(KeyValue::key_of, windows).allowed_lateness(ms(30)).reduce(add)
}

fn session() -> Driver {
    let windows = EventTimeSessionWindows::with_gap(ms(30));
    TestDriver::window(KeyValue::key_of, windows).side_output_late_data(&OutputTag::new("late")).reduce(add)
}

fn counted() -> Driver {
    TestDriver::window(KeyValue::key_of, GlobalWindows).trigger(CountTrigger::of(2)).reduce(add)
}

fn running() -> Driver {
    TestDriver::reduce(KeyValue::key_of, add)
}

fn general() -> Driver {
    let windows = SlidingEventTimeWindows::of(ms(60), ms(20));
    TestDriver::window(KeyValue::key_of, windows).with_general_operator().reduce(add)
}

fn snapshot(make: fn() -> Driver) -> OperatorSnapshot {
    let mut driver = make().with_max_parallelism(1);
    driver.run(BEFORE).expect("it works");
    driver.snapshot().expect("a snapshot")
}

/// Every run of bytes in a snapshot, in order.
pub(super) fn parts(snapshot: &mut OperatorSnapshot) -> Vec<Part<'_>> {
    let OperatorSnapshot { keyed, list, union, broadcast, .. } = snapshot;
    let groups = keyed.values_mut().flat_map(|groups| groups.values_mut()).map(Part::Group);
    let entries = list.values_mut().chain(union.values_mut()).flatten().chain(broadcast.values_mut());
    groups.chain(entries.map(Part::Entry)).collect()
}

pub(super) enum Part<'a> {
    Group(&'a mut GroupBytes),
    Entry(&'a mut Vec<u8>),
}

impl Part<'_> {
    pub(super) fn get(&self) -> Vec<u8> {
        match self {
            Self::Group(group) => group.to_vec().expect("it is in memory"),
            Self::Entry(entry) => entry.to_vec(),
        }
    }

    pub(super) fn set(&mut self, bytes: &[u8]) {
        match self {
            Self::Group(group) => **group = bytes.to_vec().into(),
            Self::Entry(entry) => **entry = bytes.to_vec(),
        }
    }
}

pub(crate) fn restore(input: &[u8]) {
    let [which, part, bytes @ ..] = input else { return };
    let Some(make) = OPERATORS.get(usize::from(*which) % OPERATORS.len()) else { return };
    let mut snapshot = snapshot(*make);
    let mut parts = parts(&mut snapshot);
    let n_parts = parts.len();
    if let Some(part) = parts.get_mut(usize::from(*part) % n_parts) {
        part.set(bytes);
    }
    let mut driver = make().with_max_parallelism(1).restored_from(&snapshot);
    if driver.run(AFTER).is_ok() {
        driver.restart().expect("what it wrote itself is read");
        drop(driver.run("W9223372036854775807"));
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let of_operator = |(which, make): (u8, &fn() -> Driver)| {
        let mut snapshot = snapshot(*make);
        let parts = (0_u8..).zip(parts(&mut snapshot));
        parts.map(move |(idx, part)| [&[which, idx], &part.get()[..]].concat()).collect::<Vec<_>>()
    };
    (0..).zip(&OPERATORS).flat_map(of_operator).collect()
}
