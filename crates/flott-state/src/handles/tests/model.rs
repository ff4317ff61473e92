//! Random programs on each kind of state, compared with a list of elements per key that is searched and copied; with
//! and without time to live, and restarted at random parallelism.

use crate::testing::Subtasks;
use crate::{
    AggregatingState, KeyedStateBackend, ListState, MapState, ReducingState, StateTtlConfig, TtlUpdate,
    TtlVisibility, ValueState,
};
use flott_types::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;
use std::time::Duration;

const MAX_PARALLELISM: u32 = 8;

#[derive(Clone, Copy, Debug)]
struct Ttl {
    ms: i64,
    renew_on_read: bool,
    return_expired: bool,
    cleanup_entries: usize,
}

impl Ttl {
    fn config(self) -> StateTtlConfig {
        let update = if self.renew_on_read { TtlUpdate::OnReadAndWrite } else { TtlUpdate::OnCreateAndWrite };
        let visibility = match self.return_expired {
            true => TtlVisibility::ReturnExpiredIfNotCleanedUp,
            false => TtlVisibility::NeverReturnExpired,
        };
        StateTtlConfig::new(Duration::from_millis(self.ms as u64))
            .update_type(update)
            .visibility(visibility)
            .cleanup_incrementally(self.cleanup_entries)
    }
}

/// What a state has for one key.
struct Model<T> {
    ttl: Option<Ttl>,
    now: Timestamp,
    elements: Vec<(T, Timestamp)>,
}

impl<T: Clone> Model<T> {
    fn write(&mut self, element: T) {
        let expires_at = self.ttl.map_or(Timestamp::MAX, |ttl| self.now + ttl.ms);
        self.elements.push((element, expires_at));
    }

    /// The elements that can be seen, not counting as a read.
    fn look(&self) -> Vec<T> {
        let seen = self.elements.iter().filter(|(_, expires_at)| {
            *expires_at > self.now || self.ttl.is_some_and(|ttl| ttl.return_expired)
        });
        seen.map(|(element, _)| element.clone()).collect()
    }

    fn read(&mut self, selected: impl Fn(&T) -> bool) -> Vec<T> {
        let (mut seen, mut kept) = (Vec::new(), Vec::new());
        for (element, expires_at) in self.elements.drain(..) {
            let expired = expires_at <= self.now;
            if !selected(&element) {
                kept.push((element, expires_at));
            } else if !expired {
                seen.push(element.clone());
                let renewed = self.ttl.filter(|ttl| ttl.renew_on_read).map(|ttl| self.now + ttl.ms);
                kept.push((element, renewed.unwrap_or(expires_at)));
            } else if self.ttl.is_some_and(|ttl| ttl.return_expired) {
                seen.push(element);
            }
        }
        self.elements = kept;
        seen
    }

    fn take(&mut self) -> Vec<T> {
        let seen = self.look();
        self.elements.clear();
        seen
    }
}

/// A kind of state with the operations that a random program uses; results are compared as text.
trait Subject {
    type Op: Clone + Debug;
    type Element: Clone;
    fn new(ttl: Option<StateTtlConfig>) -> Self;
    fn run(&self, store: &mut KeyedStateBackend<u64>, op: Self::Op) -> String;
    fn expected(model: &mut Model<Self::Element>, op: Self::Op) -> String;
    fn clear(&self, store: &mut KeyedStateBackend<u64>);
}

#[derive(Clone, Debug)]
enum Step<O> {
    Advance(i64),
    Restart(u32),
    At(u64, O),
}

fn steps<O: Clone + Debug>(op: impl Strategy<Value = O>) -> impl Strategy<Value = Vec<Step<O>>> {
    let step = prop_oneof![
        10 => (0_u64..6, op).prop_map(|(key, op)| Step::At(key, op)),
        2 => (0_i64..8).prop_map(Step::Advance),
        1 => (1_u32..=5).prop_map(Step::Restart),
    ];
    vec(step, 1..80)
}

fn ttls() -> impl Strategy<Value = Option<Ttl>> {
    let ttl = (1_i64..12, any::<bool>(), any::<bool>(), prop_oneof![Just(0_usize), 1_usize..6]);
    let ttl = ttl.prop_map(|(ms, renew_on_read, return_expired, cleanup_entries)| Ttl {
        ms,
        renew_on_read,
        return_expired,
        // Whether an expired element is seen otherwise depends on where in the table it is.
        cleanup_entries: if return_expired { 0 } else { cleanup_entries },
    });
    prop::option::of(ttl)
}

/// The same in memory and on disk, where next to nothing stays in memory.
fn check<S: Subject>(ttl: Option<Ttl>, steps: Vec<Step<S::Op>>) {
    check_on::<S>(ttl, steps.clone(), Subtasks::new(2, MAX_PARALLELISM));
    check_on::<S>(ttl, steps, Subtasks::on_disk(2, MAX_PARALLELISM, 0));
}

fn check_on<S: Subject>(ttl: Option<Ttl>, steps: Vec<Step<S::Op>>, mut subtasks: Subtasks) {
    let state = S::new(ttl.map(Ttl::config));
    let mut models = BTreeMap::<u64, Model<S::Element>>::new();
    for step in steps {
        match step {
            Step::Advance(ms) => subtasks.now += ms,
            Step::Restart(parallelism) => {
                if ttl.is_some_and(|ttl| ttl.return_expired) {
                    // State that nobody has read is written as it is, with what has expired meanwhile.
                    for key in subtasks.key_of_each(1_000) {
                        state.clear(subtasks.at(key));
                    }
                }
                subtasks.restart(parallelism);
                models.values_mut().for_each(|model| model.elements.retain(|(_, at)| *at > subtasks.now));
            }
            Step::At(key, op) => {
                let now = subtasks.now;
                let model = models.entry(key).or_insert_with(|| Model { ttl, now, elements: Vec::new() });
                model.now = now;
                assert_eq!(state.run(subtasks.at(key), op.clone()), S::expected(model, op));
            }
        }
    }
}

macro_rules! model_tests {
    ($($name:ident $subject:ty, $ops:expr;)*) => {
        proptest! {
            $(#[test]
            fn $name(ttl in ttls(), steps in steps($ops)) {
                check::<$subject>(ttl, steps);
            })*
        }
    };
}

model_tests! {
    value_state_does_what_its_model_does ValueState<i32>, value_ops();
    list_state_does_what_its_model_does ListState<i32>, list_ops();
    map_state_does_what_its_model_does MapState<u8, i32>, map_ops();
    reducing_state_does_what_its_model_does ReducingState<i32>, adding_ops();
    aggregating_state_does_what_its_model_does Average, adding_ops();
}

#[derive(Clone, Debug)]
enum ValueOp {
    Get,
    Set(i32),
    UpdateOr(i32, i32),
    Take,
    Clear,
}

fn value_ops() -> impl Strategy<Value = ValueOp> {
    prop_oneof![
        3 => Just(ValueOp::Get),
        2 => any::<i32>().prop_map(ValueOp::Set),
        2 => (0..9, 0..9).prop_map(|(default, add)| ValueOp::UpdateOr(default, add)),
        1 => Just(ValueOp::Take),
        1 => Just(ValueOp::Clear),
    ]
}

impl Subject for ValueState<i32> {
    type Op = ValueOp;
    type Element = i32;

    fn new(ttl: Option<StateTtlConfig>) -> Self {
        let state = ValueState::new("value");
        ttl.into_iter().fold(state, ValueState::with_ttl)
    }

    fn run(&self, store: &mut KeyedStateBackend<u64>, op: ValueOp) -> String {
        match op {
            ValueOp::Get => format!("{:?}", self.get(store).unwrap()),
            ValueOp::Set(value) => format!("{:?}", self.set(store, value).unwrap()),
            ValueOp::UpdateOr(default, add) => {
                format!(
                    "{:?}",
                    self.update_or(store, default, |value| *value = value.wrapping_add(add)).unwrap()
                )
            }
            ValueOp::Take => format!("{:?}", self.take(store).unwrap()),
            ValueOp::Clear => format!("{:?}", ValueState::clear(self, store).unwrap()),
        }
    }

    fn expected(model: &mut Model<i32>, op: ValueOp) -> String {
        match op {
            ValueOp::Get => format!("{:?}", model.read(|_| true).first()),
            ValueOp::Set(value) => {
                model.take();
                format!("{:?}", model.write(value))
            }
            ValueOp::UpdateOr(default, add) => {
                let value = model.take().first().map_or(default, |value| *value).wrapping_add(add);
                model.write(value);
                format!("{value:?}")
            }
            ValueOp::Take => format!("{:?}", model.take().first()),
            ValueOp::Clear => {
                model.take();
                "()".to_owned()
            }
        }
    }

    fn clear(&self, store: &mut KeyedStateBackend<u64>) {
        ValueState::clear(self, store).unwrap();
    }
}

#[derive(Clone, Debug)]
enum ListOp {
    Get,
    Add(i32),
    AddAll(Vec<i32>),
    Update(Vec<i32>),
    Take,
    Clear,
}

fn list_ops() -> impl Strategy<Value = ListOp> {
    prop_oneof![
        4 => Just(ListOp::Get),
        4 => any::<i32>().prop_map(ListOp::Add),
        2 => vec(any::<i32>(), 0..4).prop_map(ListOp::AddAll),
        1 => vec(any::<i32>(), 0..3).prop_map(ListOp::Update),
        1 => Just(ListOp::Take),
        1 => Just(ListOp::Clear),
    ]
}

impl Subject for ListState<i32> {
    type Op = ListOp;
    type Element = i32;

    fn new(ttl: Option<StateTtlConfig>) -> Self {
        let state = ListState::new("list");
        ttl.into_iter().fold(state, ListState::with_ttl)
    }

    fn run(&self, store: &mut KeyedStateBackend<u64>, op: ListOp) -> String {
        match op {
            ListOp::Get => format!("{:?}", self.get(store).unwrap().collect::<Vec<_>>()),
            ListOp::Add(element) => format!("{:?}", self.add(store, element).unwrap()),
            ListOp::AddAll(elements) => format!("{:?}", self.add_all(store, elements).unwrap()),
            ListOp::Update(elements) => format!("{:?}", self.update(store, elements).unwrap()),
            ListOp::Take => format!("{:?}", self.take(store).unwrap()),
            ListOp::Clear => format!("{:?}", ListState::clear(self, store).unwrap()),
        }
    }

    fn expected(model: &mut Model<i32>, op: ListOp) -> String {
        match op {
            ListOp::Get => return format!("{:?}", model.read(|_| true)),
            ListOp::Add(element) => model.write(element),
            ListOp::AddAll(elements) => elements.into_iter().for_each(|element| model.write(element)),
            ListOp::Update(elements) => {
                model.take();
                elements.into_iter().for_each(|element| model.write(element));
            }
            ListOp::Take => return format!("{:?}", model.take()),
            ListOp::Clear => drop(model.take()),
        }
        "()".to_owned()
    }

    fn clear(&self, store: &mut KeyedStateBackend<u64>) {
        ListState::clear(self, store).unwrap();
    }
}

type Bounds = (Bound<u8>, Bound<u8>);

#[derive(Clone, Debug)]
enum MapOp {
    Get(u8),
    Contains(u8),
    Put(u8, i32),
    UpdateOr(u8, i32),
    Remove(u8),
    Iter,
    Range(Bounds),
    RemoveRange(Bounds),
    RetainKeysBelow(u8),
    IsEmpty,
    Clear,
}

fn map_ops() -> impl Strategy<Value = MapOp> {
    let key = || 0_u8..5;
    let bound = || {
        prop_oneof![key().prop_map(Bound::Included), key().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
    };
    prop_oneof![
        3 => key().prop_map(MapOp::Get),
        1 => key().prop_map(MapOp::Contains),
        6 => (key(), any::<i32>()).prop_map(|(key, value)| MapOp::Put(key, value)),
        2 => (key(), 0..9).prop_map(|(key, add)| MapOp::UpdateOr(key, add)),
        1 => key().prop_map(MapOp::Remove),
        1 => Just(MapOp::Iter),
        2 => (bound(), bound()).prop_map(MapOp::Range),
        1 => (bound(), bound()).prop_map(MapOp::RemoveRange),
        1 => key().prop_map(MapOp::RetainKeysBelow),
        1 => Just(MapOp::IsEmpty),
        1 => Just(MapOp::Clear),
    ]
}

fn within(bounds: Bounds, key: u8) -> bool {
    std::ops::RangeBounds::contains(&bounds, &key)
}

impl Subject for MapState<u8, i32> {
    type Op = MapOp;
    type Element = (u8, i32);

    fn new(ttl: Option<StateTtlConfig>) -> Self {
        let state = MapState::new("map");
        ttl.into_iter().fold(state, MapState::with_ttl)
    }

    fn run(&self, store: &mut KeyedStateBackend<u64>, op: MapOp) -> String {
        match op {
            MapOp::Get(key) => format!("{:?}", self.get(store, &key).unwrap()),
            MapOp::Contains(key) => format!("{:?}", self.contains(store, &key).unwrap()),
            MapOp::Put(key, value) => format!("{:?}", self.put(store, key, value).unwrap()),
            MapOp::UpdateOr(key, add) => {
                format!("{:?}", self.update_or(store, key, 100, |v| *v = v.wrapping_add(add)).unwrap())
            }
            MapOp::Remove(key) => format!("{:?}", self.remove(store, &key).unwrap()),
            MapOp::Iter => {
                let keys: Vec<u8> = self.keys(store).unwrap().copied().collect();
                let values: Vec<i32> = self.values(store).unwrap().copied().collect();
                format!("{keys:?} {values:?} {:?}", self.iter(store).unwrap().rev().collect::<Vec<_>>())
            }
            MapOp::Range(bounds) => format!("{:?}", self.range(store, bounds).unwrap().collect::<Vec<_>>()),
            MapOp::RemoveRange(bounds) => format!("{:?}", self.remove_range(store, bounds).unwrap()),
            MapOp::RetainKeysBelow(end) => format!("{:?}", self.retain(store, |key, _| *key < end).unwrap()),
            MapOp::IsEmpty => format!("{:?}", self.is_empty(store).unwrap()),
            MapOp::Clear => format!("{:?}", MapState::clear(self, store).unwrap()),
        }
    }

    fn expected(model: &mut Model<(u8, i32)>, op: MapOp) -> String {
        let sorted = |mut entries: Vec<(u8, i32)>| {
            entries.sort_unstable();
            entries
        };
        let value_of = |entries: &[(u8, i32)], key| entries.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        match op {
            MapOp::Get(key) => return format!("{:?}", value_of(&model.read(|(k, _)| *k == key), key)),
            MapOp::Contains(key) => return format!("{}", !model.read(|(k, _)| *k == key).is_empty()),
            MapOp::Put(key, value) => {
                model.elements.retain(|((k, _), _)| *k != key);
                model.write((key, value));
            }
            MapOp::UpdateOr(key, add) => {
                let value = value_of(&model.look(), key).unwrap_or(100).wrapping_add(add);
                model.elements.retain(|((k, _), _)| *k != key);
                model.write((key, value));
                return format!("{value}");
            }
            MapOp::Remove(key) => {
                let value = value_of(&model.look(), key);
                model.elements.retain(|((k, _), _)| *k != key);
                return format!("{value:?}");
            }
            MapOp::Iter => {
                // Three reads, of which only the first sees what has expired.
                let keys: Vec<u8> = sorted(model.read(|_| true)).into_iter().map(|(key, _)| key).collect();
                let mut entries = sorted(model.read(|_| true));
                let values: Vec<i32> = entries.iter().map(|(_, value)| *value).collect();
                entries.reverse();
                return format!("{keys:?} {values:?} {entries:?}");
            }
            MapOp::Range(bounds) => {
                return format!("{:?}", sorted(model.read(|(key, _)| within(bounds, *key))));
            }
            MapOp::RemoveRange(bounds) => model.elements.retain(|((key, _), _)| !within(bounds, *key)),
            MapOp::RetainKeysBelow(end) => model.elements.retain(|((key, _), _)| *key < end),
            MapOp::IsEmpty => return format!("{}", model.look().is_empty()),
            MapOp::Clear => drop(model.take()),
        }
        "()".to_owned()
    }

    fn clear(&self, store: &mut KeyedStateBackend<u64>) {
        MapState::clear(self, store).unwrap();
    }
}

#[derive(Clone, Debug)]
enum AddingOp {
    Add(i32),
    Get,
    Clear,
}

fn adding_ops() -> impl Strategy<Value = AddingOp> {
    prop_oneof![4 => (0..99).prop_map(AddingOp::Add), 3 => Just(AddingOp::Get), 1 => Just(AddingOp::Clear)]
}

impl Subject for ReducingState<i32> {
    type Op = AddingOp;
    type Element = i32;

    fn new(ttl: Option<StateTtlConfig>) -> Self {
        // Not commutative, so that the order of arguments matters.
        let state =
            ReducingState::new("reducing", |so_far: i32, added| so_far.wrapping_mul(31).wrapping_add(added));
        ttl.into_iter().fold(state, ReducingState::with_ttl)
    }

    fn run(&self, store: &mut KeyedStateBackend<u64>, op: AddingOp) -> String {
        match op {
            AddingOp::Add(value) => format!("{:?}", self.add(store, value).unwrap()),
            AddingOp::Get => format!("{:?}", self.get(store).unwrap()),
            AddingOp::Clear => format!("{:?}", ReducingState::clear(self, store).unwrap()),
        }
    }

    fn expected(model: &mut Model<i32>, op: AddingOp) -> String {
        match op {
            AddingOp::Add(value) => {
                let so_far = model.take();
                model.write(
                    so_far.first().map_or(value, |so_far| so_far.wrapping_mul(31).wrapping_add(value)),
                );
            }
            AddingOp::Get => return format!("{:?}", model.read(|_| true).first()),
            AddingOp::Clear => drop(model.take()),
        }
        "()".to_owned()
    }

    fn clear(&self, store: &mut KeyedStateBackend<u64>) {
        ReducingState::clear(self, store).unwrap();
    }
}

type Average = AggregatingState<i32, (i64, i64), String>;

fn average(accumulator: &(i64, i64)) -> String {
    format!("{}/{}", accumulator.0, accumulator.1)
}

impl Subject for Average {
    type Op = AddingOp;
    type Element = (i64, i64);

    fn new(ttl: Option<StateTtlConfig>) -> Self {
        let add = |accumulator: &mut (i64, i64), input| {
            accumulator.0 += i64::from(input);
            accumulator.1 += 1;
        };
        let state = AggregatingState::new("average", || (0, 0), add, average);
        ttl.into_iter().fold(state, AggregatingState::with_ttl)
    }

    fn run(&self, store: &mut KeyedStateBackend<u64>, op: AddingOp) -> String {
        match op {
            AddingOp::Add(value) => format!("{:?}", self.add(store, value).unwrap()),
            AddingOp::Get => format!("{:?}", self.get(store).unwrap()),
            AddingOp::Clear => format!("{:?}", AggregatingState::clear(self, store).unwrap()),
        }
    }

    fn expected(model: &mut Model<(i64, i64)>, op: AddingOp) -> String {
        match op {
            AddingOp::Add(value) => {
                let (sum, n) = model.take().first().map_or((0, 0), |accumulator| *accumulator);
                model.write((sum + i64::from(value), n + 1));
            }
            AddingOp::Get => return format!("{:?}", model.read(|_| true).first().map(average)),
            AddingOp::Clear => drop(model.take()),
        }
        "()".to_owned()
    }

    fn clear(&self, store: &mut KeyedStateBackend<u64>) {
        AggregatingState::clear(self, store).unwrap();
    }
}
