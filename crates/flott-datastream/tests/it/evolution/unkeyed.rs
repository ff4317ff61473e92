//! What belongs to no key, of a type that changes: list, union and broadcast state, calls under way, and records in flight.

use crate::checkpoints::{finished, source};
use crate::support::{directory, simulated};
use crate::transactional::{Numbered, Transactions};
use crate::unaligned::{cancel_after, in_flight, set, slow};
use flott_api::{
    BroadcastContext, BroadcastProcessFunction, Collector, ProcessContext, ProcessFunction, UserResult,
};
use flott_checkpoint::{SnapshotDescription, StateDescription, describe_snapshot, open_snapshot};
use flott_datastream::StreamExecutionEnvironment;
use flott_state::{BroadcastState, OperatorListState, OperatorStateBackend};
use flott_types::{Data, ErrorKind, RestartStrategyType, options};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

const N_SPLITS: u32 = 2;
const COUNT: u64 = 150;
const N_NAMES: u64 = 5;

/// What flows and is kept. A value that was migrated is what the newer version would have made.
trait Rule: Data + Debug + PartialEq + Sync {
    fn of(record: Numbered) -> Self;
    fn record(&self) -> Numbered;
}

macro_rules! rule {
    ($type:ty, $number:ident: $number_type:ty, $make:expr) => {
        impl Rule for $type {
            fn of((split, number): Numbered) -> Self {
                let make: fn(u8, $number_type) -> Self = $make;
                make(split as u8, number as $number_type)
            }
            fn record(&self) -> Numbered {
                (self.split.into(), self.$number as u64)
            }
        }
    };
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct First {
    split: u8,
    number: u16,
    place: Place,
    tags: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    height: f32,
}

rule!(First, number: u16, |split, number| First {
    split, number, place: Place { height: 0.5 }, tags: vec![format!("{number}")]
});

/// Renamed, widened, moved and added, also inside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Second {
    note: Option<String>,
    #[serde(alias = "number")]
    count: u64,
    split: u8,
    place: WiderPlace,
    tags: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WiderPlace {
    #[serde(default)]
    is_known: bool,
    height: f64,
}

rule!(Second, count: u64, |split, count| Second {
    note: None, count, split, place: WiderPlace { is_known: false, height: 0.5 }, tags: vec![format!("{count}")]
});

/// As many bytes, and another meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Signed {
    split: u8,
    number: i16,
    place: Place,
    tags: Vec<String>,
}

rule!(Signed, number: i16, |split, number| Signed {
    split, number, place: Place { height: 0.5 }, tags: vec![format!("{number}")]
});

/// Fails for a value that is not what its version would have made.
fn checked<R: Rule>(rule: &R) -> UserResult<Numbered> {
    let record = rule.record();
    if *rule == R::of(record) { Ok(record) } else { Err(format!("{rule:?} was misread").into()) }
}

#[derive(Clone)]
struct Named<R> {
    names: BroadcastState<u64, R>,
}

impl<R: Rule> BroadcastProcessFunction<R, R, R> for Named<R> {
    fn process_element(
        &mut self,
        rule: R,
        _: &mut ProcessContext<'_>,
        broadcast: &OperatorStateBackend,
        out: &mut Collector<'_, R>,
    ) -> UserResult {
        for (number, name) in self.names.iter(broadcast)? {
            assert_eq!(checked(name)?.1, *number);
        }
        out.collect(rule);
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        rule: R,
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, R>,
    ) -> UserResult {
        Ok(self.names.put(ctx.state, rule.record().1, rule)?)
    }
}

/// Says with its first record what it has, and keeps every record in both lists.
#[derive(Clone)]
struct Lists<R> {
    list: OperatorListState<R>,
    union: OperatorListState<R>,
    has_begun: bool,
}

impl<R: Rule> ProcessFunction<R, (String, R)> for Lists<R> {
    fn process_element(
        &mut self,
        rule: R,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, (String, R)>,
    ) -> UserResult {
        if !std::mem::replace(&mut self.has_begun, true) {
            for (what, kept) in [("list", self.list.get(ctx.state)?), ("union", self.union.get(ctx.state)?)] {
                kept.iter().for_each(|rule| out.collect((what.to_owned(), rule.clone())));
            }
        }
        self.list.add(ctx.state, rule.clone())?;
        self.union.add(ctx.state, rule.clone())?;
        out.collect(("record".to_owned(), rule));
        Ok(())
    }
}

type Line = (String, Numbered);

fn program<R: Rule>(env: &StreamExecutionEnvironment, sink: &Transactions<Line>) {
    let names = source(env, 1, N_NAMES, "names").map(R::of).to_broadcast();
    let rules = source(env, N_SPLITS, COUNT, "numbers").map(R::of).seal().rebalance();
    let named = rules
        .connect_broadcast(&names)
        .process(Named::<R> { names: BroadcastState::new("names") })
        .uid("named");
    let lists = Lists::<R> {
        list: OperatorListState::new("list"),
        union: OperatorListState::union("union"),
        has_begun: false,
    };
    let lines = named.rebalance().process(lists).uid("lists");
    slow(&lines, env.env(), 2)
        .uid("slow")
        .map(|(what, rule): (String, R)| (what, checked(&rule).unwrap_or_else(|error| panic!("{error}"))))
        .seal()
        .sink_to(sink.clone())
        .uid("sink");
}

/// Runs the first version until a checkpoint that has everything; returns its path.
fn checkpoint(env: &mut StreamExecutionEnvironment, sink: &Transactions<Line>, dir: &str) -> String {
    set(env, 0, dir, None);
    program::<First>(env, sink);
    cancel_after(env.execute_async("unkeyed").unwrap(), env, 100, dir)
}

fn describe(env: &StreamExecutionEnvironment, path: &str) -> SnapshotDescription {
    describe_snapshot(&open_snapshot(env.env(), Path::new(path)).unwrap()).unwrap()
}

fn state<'a>(snapshot: &'a SnapshotDescription, uid: &str, name: &str) -> &'a StateDescription {
    let operator = snapshot.operators.iter().find(|operator| operator.uid == uid).unwrap();
    operator.states.iter().find(|state| state.name == name).unwrap()
}

/// The states of the program that have a rule in them.
const STATES: [(&str, &str); 5] = [
    ("lists", "list"),
    ("lists", "union"),
    ("lists", "_in_flight"),
    ("named", "names"),
    ("slow", "_async_wait"),
];

#[test]
fn a_job_goes_on_with_changed_types_of_what_belongs_to_no_key() {
    for (seed, (before, after)) in [(2, 2), (2, 3), (3, 1), (3, 2)].into_iter().enumerate() {
        let mut env = simulated(before, 70 + seed as u64);
        let (dir, sink) = (directory(&env), Transactions::new());
        let path = checkpoint(&mut env, &sink, &dir);
        assert!(in_flight(&env, &path)["lists"] > 0);
        let snapshot = describe(&env, &path);
        for (uid, name) in STATES {
            let types = &state(&snapshot, uid, name).types;
            assert_eq!(types.len(), 1, "'{name}' of '{uid}': {types:?}");
        }
        let [n_listed, n_union] =
            ["list", "union"].map(|name| state(&snapshot, "lists", name).entries.unwrap());
        assert!(n_listed > 0 && n_union > 0 && state(&snapshot, "named", "names").bytes > 1);

        env.set_parallelism(after);
        set(&mut env, 0, &dir, Some(path));
        program::<Second>(&env, &sink);
        finished(env.execute("unkeyed"));
        let committed = sink.committed();
        let of = |what: &str| {
            committed.iter().filter(|line| line.0 == what).map(|line| line.1).collect::<Vec<_>>()
        };
        let mut records = of("record");
        records.sort_unstable();
        let expected: Vec<_> = (0..N_SPLITS).flat_map(|split| (0..COUNT).map(move |n| (split, n))).collect();
        assert_eq!(records, expected, "from {before} to {after}");
        let distinct = |lines: Vec<Numbered>| lines.into_iter().collect::<BTreeSet<_>>().len() as u64;
        assert_eq!((of("list").len() as u64, distinct(of("list"))), (n_listed, n_listed));
        assert_eq!(of("union").len() as u64, n_union * u64::from(after));
        assert_eq!(distinct(of("union")), n_union);
    }
}

fn all_files(env: &StreamExecutionEnvironment, dir: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut left = vec![PathBuf::from(dir)];
    while let Some(path) = left.pop() {
        left.extend(env.env().fs().list(&path).unwrap_or_default());
        found.insert(path);
    }
    found
}

#[test]
fn a_type_that_does_not_fit_is_refused_in_everything_at_once_and_nothing_is_claimed() {
    let mut env = simulated(2, 80);
    let (dir, sink) = (directory(&env), Transactions::new());
    let path = checkpoint(&mut env, &sink, &dir);
    assert!(in_flight(&env, &path)["lists"] > 0);
    let before = all_files(&env, &dir);
    set(&mut env, 0, &dir, Some(path));
    env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::None));
    let other = Transactions::new();
    program::<Signed>(&env, &other);
    let error = env.execute("refused").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UserError);
    let report = error.report();
    for (uid, what) in [
        ("lists", "state 'list' has changed: field 'number' was u16 and is i16"),
        ("lists", "state 'union' has changed: field 'number' was u16 and is i16"),
        ("lists", "records in flight from 'named' to 'lists' has changed: field 'number' was u16 and is i16"),
        ("named", "state 'names' has changed: field '{}.number' was u16 and is i16"),
        ("slow", "state '_async_wait' has changed: field '0.1.number' was u16 and is i16"),
    ] {
        let is_said = |line: &str| line.contains(&format!("(uid '{uid}')")) && line.contains(what);
        assert!(report.lines().any(is_said), "nothing is said of '{uid}', {what}: {report}");
    }
    assert!(other.attempts().is_empty(), "nothing has run");
    assert_eq!(all_files(&env, &dir), before, "nothing is claimed");
}
