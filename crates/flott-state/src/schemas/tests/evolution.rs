//! Every kind of handle, from each backend to each, at another parallelism, over two changes of the type.

use super::*;
use crate::handles::{AggregatingState, ListState, MapState, ReducingState, ValueState};
use crate::schemas::{HandleTypes, KeyedSchemas, StateTypes};
use crate::timers::TimerService;
use crate::ttl::{StateTtlConfig, TtlVisibility};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

mod v1 {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Visit {
        pub(super) page: String,
        pub(super) seconds: u16,
        pub(super) how: How,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum How {
        Link,
        Search(u8),
    }
}

mod v2 {
    use super::*;
    /// Reordered, widened, with an optional field and a variant.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Visit {
        pub(super) seconds: u32,
        pub(super) page: String,
        pub(super) how: How,
        pub(super) country: Option<String>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum How {
        Mail { campaign: u64 },
        Search(u32),
        Link,
    }
}

mod v3 {
    use super::*;
    /// Renamed, with a default.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Visit {
        #[serde(alias = "page")]
        pub(super) url: String,
        pub(super) seconds: u64,
        #[serde(default = "level")]
        pub(super) level: u8,
        pub(super) how: v2::How,
        pub(super) country: Option<String>,
    }
    pub(super) fn level() -> u8 {
        9
    }
}

const KEYS: u32 = 300;

fn first(key: u32) -> v1::Visit {
    let how = if key.is_multiple_of(2) { v1::How::Link } else { v1::How::Search(key as u8) };
    v1::Visit { page: format!("/{key}"), seconds: key as u16, how }
}

fn second(key: u32) -> v2::Visit {
    let how = if key.is_multiple_of(2) { v2::How::Link } else { v2::How::Search(u32::from(key as u8)) };
    v2::Visit { seconds: key, page: format!("/{key}"), how, country: None }
}

fn third(key: u32) -> v3::Visit {
    let v2::Visit { seconds, page, how, country } = second(key);
    v3::Visit { url: page, seconds: seconds.into(), level: 9, how, country }
}

/// One handle of each kind.
struct Handles<V> {
    value: ValueState<V>,
    list: ListState<V>,
    map: MapState<String, V>,
    reducing: ReducingState<V>,
    aggregating: AggregatingState<V, V, V>,
}

impl<V: flott_types::Data + PartialEq + Debug + Sync> Handles<V> {
    fn new(zero: V) -> Self {
        let ttl =
            StateTtlConfig::new(Duration::from_secs(3_600)).visibility(TtlVisibility::NeverReturnExpired);
        Self {
            value: ValueState::new("value"),
            list: ListState::new("list").with_ttl(ttl),
            map: MapState::new("map"),
            reducing: ReducingState::new("reducing", |_, new| new),
            aggregating: AggregatingState::new(
                "aggregating",
                move || zero.clone(),
                |kept: &mut V, new: V| *kept = new,
                V::clone,
            ),
        }
    }

    fn write(&self, state: &mut KeyedStateBackend<impl Key>, visit: &V) {
        self.value.set(state, visit.clone()).expect("set");
        self.list.add_all(state, [visit.clone(), visit.clone()]).expect("added");
        self.map.put(state, "last".to_owned(), visit.clone()).expect("put");
        self.reducing.add(state, visit.clone()).expect("added");
        self.aggregating.add(state, visit.clone()).expect("added");
    }

    #[track_caller]
    fn assert(&self, state: &mut KeyedStateBackend<impl Key>, visit: &V) {
        assert_eq!(self.value.get(state).expect("read"), Some(visit));
        assert!(self.list.get(state).expect("read").eq([visit, visit]));
        assert_eq!(self.map.get(state, "last").expect("read"), Some(visit));
        assert_eq!(self.reducing.get(state).expect("read"), Some(visit));
        assert_eq!(self.aggregating.get(state).expect("read").as_ref(), Some(visit));
    }
}

#[test]
fn all_kinds_of_state_are_read_as_new_types_twice_in_each_backend_at_another_parallelism() {
    use Backend::{Disk, Memory};
    for [one, two, three] in [[Memory, Disk, Memory], [Disk, Memory, Disk], [Disk, Disk, Disk]] {
        let mut program = Program::<u16>::start(&[], 2, one);
        let handles = Handles::new(first(0));
        (0..KEYS).for_each(|key| handles.write(program.at(key as u16), &first(key)));

        // The key is wider, too: its hash is the same.
        let mut program = Program::<u32>::start(&program.stop(), 3, two);
        let handles = Handles::new(second(0));
        (0..KEYS).for_each(|key| handles.assert(program.at(key), &second(key)));

        let parts = program.stop();
        let mut program = Program::<u64>::start(&parts, 2, three);
        let handles = Handles::new(third(0));
        (0..KEYS).for_each(|key| handles.assert(program.at(key.into()), &third(key)));
        assert_eq!(
            program.stop(),
            Program::<u64>::start(&program.stop(), 2, three).stop(),
            "nobody has read it"
        );
    }
}

#[test]
fn unchanged_types_are_read_as_they_are() {
    let mut program = Program::<u32>::start(&[], 1, Backend::Memory);
    Handles::new(first(0)).write(program.at(1), &first(1));
    let parts = program.stop();
    let mut restored = Program::<u32>::start(&parts, 1, Backend::Memory);
    let schemas = restored.subtasks[0].schemas();
    let reader = schemas.bind::<(u32, crate::ttl::Stored<v1::Visit>)>("value").expect("the same type");
    assert!(reader.is_unchanged());
}

#[test]
fn what_would_lose_something_is_refused_with_its_field_and_kept() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Removed {
        page: String,
        how: v1::How,
    }
    #[derive(Clone, Serialize, Deserialize)]
    struct Narrowed {
        page: String,
        seconds: u8,
        how: v1::How,
    }
    #[derive(Clone, Serialize, Deserialize)]
    struct OtherType {
        page: u64,
        seconds: u16,
        how: v1::How,
    }
    let mut program = Program::<(u16, i8)>::start(&[], 1, Backend::Memory);
    ValueState::new("visit").set(program.at((1, 2)), first(1)).expect("set");
    MapState::new("visits").put(program.at((1, 2)), 3_u16, first(1)).expect("put");
    let parts = program.stop();
    let mut program = Program::<(u16, i8)>::start(&parts, 1, Backend::Memory);
    let errors = [
        report(ValueState::<Removed>::new("visit").get(program.at((1, 2)))),
        report(ValueState::<Narrowed>::new("visit").get(program.at((1, 2)))),
        report(ValueState::<OtherType>::new("visit").get(program.at((1, 2)))),
        report(ListState::<v1::Visit>::new("visit").get(program.at((1, 2)))),
        report(MapState::<u16, Narrowed>::new("visits").get(program.at((1, 2)), &3)),
        report(MapState::<u8, v1::Visit>::new("visits").get(program.at((1, 2)), &3)),
    ];
    expect_test::expect![[r#"
        restoring state 'visit': the type of state 'visit' has changed: field 'value.seconds' was removed; if it was renamed, the new field needs #[serde(alias = "…")] with the old name
        restoring state 'visit': the type of state 'visit' has changed: field 'value.seconds' was u16 and is u8
        restoring state 'visit': the type of state 'visit' has changed: field 'value.page' was string and is u64
        restoring state 'visit': the snapshot has 'visit' as value state, the program as list
        restoring state 'visits': the type of state 'visits' has changed: field '{}.value.seconds' was u16 and is u8
        restoring state 'visits': the type of state 'visits' has changed: field '{key}' was u16 and is u8"#]]
    .assert_eq(&errors.join("\n"));
    let mut program = Program::<(i8, u16)>::start(&parts, 1, Backend::Memory);
    expect_test::expect![
        "restoring state 'visit': the type of state 'visit' has changed: field 'key.0' was u16 and is i8"
    ]
    .assert_eq(&report(ValueState::<v1::Visit>::new("visit").get(program.at((1, 2)))));
    let mut program = Program::<(u16, i8)>::start(&program.stop(), 1, Backend::Memory);
    assert_eq!(ValueState::new("visit").get(program.at((1, 2))).expect("kept"), Some(&first(1)));
}

#[test]
fn a_state_of_which_nothing_is_there_may_become_anything() {
    let mut program = Program::<u32>::start(&[], 1, Backend::Memory);
    let state = ValueState::<String>::new("x");
    state.set(program.at(1), "a".to_owned()).expect("set");
    state.clear(program.at(1)).expect("cleared");
    let mut program = Program::<u32>::start(&program.stop(), 1, Backend::Memory);
    ValueState::new("x").set(program.at(1), 1_u8).expect("set");
    assert_eq!(ValueState::new("x").get(program.at(1)).expect("read"), Some(&1_u8));
}

#[test]
fn timers_are_read_with_new_keys_and_namespaces() {
    let mut timers = TimerService::<u16, u8>::default();
    (0..100).for_each(|key| timers.event.register(i64::from(key), &key, &7));
    let mut schemas_of_keys = KeyedSchemas::default();
    TimerService::<u16, u8>::bind(&mut schemas_of_keys).expect("bound");
    let mut snapshot = OperatorSnapshot::default();
    timers.snapshot(1, &mut snapshot).expect("written");
    schemas_of_keys.snapshot(&mut snapshot).expect("written");

    let mut schemas = KeyedSchemas::default();
    schemas.restore(&snapshot).expect("read");
    let mut restored = TimerService::<u64, i64>::default();
    restored.restore(&snapshot, &mut schemas.clone()).expect("wider");
    let popped: BTreeSet<_> = std::iter::from_fn(|| restored.event.pop_due(1_000)).collect();
    assert_eq!(popped, (0..100).map(|key| (key as i64, key, 7_i64)).collect());
    let narrow = TimerService::<u8, u8>::default().restore(&snapshot, &mut schemas);
    expect_test::expect!["the type of state '_timers/event' has changed: field 'key' was u16 and is u8"]
        .assert_eq(&report(narrow));
}

#[test]
fn a_snapshot_is_compared_with_the_types_of_a_program_without_reading_it() {
    let mut program = Program::<u16>::start(&[], 2, Backend::Memory);
    let handles = Handles::new(first(0));
    (0..50).for_each(|key| handles.write(program.at(key), &first(key.into())));
    let parts = program.stop();
    let types = |make: &dyn Fn()| {
        let mut types = StateTypes::default();
        types.add_handles::<u32>(&HandleTypes::of(make).1);
        types
    };
    let fit = types(&|| drop(Handles::new(second(0)))).compare(&parts).expect("compared");
    assert!(fit.check().is_ok());
    assert_eq!(fit.migrated.len(), 5);
    let changes: Vec<_> = fit.migrated["value"].iter().map(String::as_str).collect();
    expect_test::expect![[r#"
        field 'key' is widened from u16 to u32
        field 'value.country' is added
        field 'value.how::Link' has another place
        field 'value.how::Search' is widened from u8 to u32
        field 'value.seconds' has another place
        field 'value.seconds' is widened from u16 to u32"#]]
    .assert_eq(&changes.join("\n"));
    let other =
        types(&|| drop((ValueState::<u8>::new("value"), ReducingState::<v1::Visit>::new("list", |a, _| a))));
    let error = report(other.compare(&parts).expect("compared").check());
    expect_test::expect!["the snapshot has 'list' as list state, the program as reducing; the type of state 'value' has changed: field 'value' was Visit { page: string, seconds: u16, how: How { Link, Search(u8) } } and is u8"].assert_eq(&error);
    let mut engine = StateTypes::default();
    engine.add::<(u16, u8)>("_reduce");
    let fit = engine.compare(&parts).expect("compared");
    assert_eq!(fit.unclaimed.len(), 5, "an operator without handles has no use for it");
}
