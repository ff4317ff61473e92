//! Version 1 of a program stops with a savepoint, and a version with other types, operators, parallelism or backend goes on from it: the
//! output is that of a run that nothing has disturbed, or the restore refuses and says what does not fit.

mod operators;
mod program;
mod unkeyed;

use crate::checkpoints::finished;
use crate::support::{directory, simulated};
use crate::transactional::Transactions;
use flott_datastream::{AtStop, StreamExecutionEnvironment};
use flott_types::{Error, ErrorKind, MemorySize, StateBackendType, options};
use program::{First, Origin, Reading, build, build_small, origin, reading};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Fields in another order, wider numbers, an optional field, a variant in front of the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Second {
    unit: String,
    origin: WiderOrigin,
    sum: u64,
    key: u32,
    note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum WiderOrigin {
    Estimate { by: String },
    Copy(u16),
    Sensor,
}

/// A field renamed, one that has a default, and wider numbers again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Third {
    #[serde(alias = "sum")]
    total: i128,
    origin: WiderOrigin,
    #[serde(default = "three")]
    version: u8,
    unit: String,
    #[serde(alias = "key")]
    sensor: u64,
    note: Option<String>,
}

fn three() -> u8 {
    3
}

fn wider(key: u64) -> WiderOrigin {
    match origin(key) {
        Origin::Sensor => WiderOrigin::Sensor,
        Origin::Copy(of) => WiderOrigin::Copy(of.into()),
    }
}

reading!(Second, key: u32, sum: u64, |key, sum| Second {
    unit: "m".to_owned(), origin: wider(key.into()), sum, key, note: None
});
reading!(Third, sensor: u64, total: i128, |sensor, total| Third {
    total, origin: wider(sensor), version: 3, unit: "m".to_owned(), sensor, note: None
});

/// Where a run begins, and where state is while it runs.
#[derive(Clone, Copy, Debug)]
struct Run<'a> {
    parallelism: u32,
    backend: StateBackendType,
    from: Option<&'a str>,
}

impl<'a> Run<'a> {
    fn new(parallelism: u32, backend: StateBackendType) -> Self {
        Self { parallelism, backend, from: None }
    }

    fn from(self, path: &'a str) -> Self {
        Self { from: Some(path), ..self }
    }

    fn configure(self, env: &mut StreamExecutionEnvironment, dir: &str) {
        env.set_parallelism(self.parallelism);
        env.set(options::STATE_BACKEND, self.backend);
        env.set(options::STATE_DISK_MEMORY, MemorySize(16 << 10));
        env.set(options::STATE_LOCAL_DIR, Some(format!("{dir}-local")));
        env.set(options::CHECKPOINTING_SAVEPOINT_DIR, Some(dir.to_owned()));
        env.set(options::STATE_RECOVERY_PATH, self.from.map(str::to_owned));
    }
}

/// Runs the program for a while and stops it with a savepoint, whose path is returned.
fn stop(env: &StreamExecutionEnvironment, after_ms: u64) -> String {
    let client = env.execute_async("evolution").unwrap();
    let (handle, world) = (client.savepoints(), env.env().clone());
    env.env().block_on(async move {
        world.sleep(Duration::from_millis(after_ms)).await;
        let path = handle.stop_with_savepoint(None, AtStop::Suspend).await.unwrap();
        finished(client.result().await);
        path
    })
}

/// What the program says if nothing disturbs it.
fn expected() -> Vec<String> {
    let env = simulated(1, 1);
    let sink = Transactions::new();
    build::<First>(&env, &sink);
    finished(env.execute("undisturbed"));
    sink.committed()
}

#[test]
fn a_job_goes_on_with_changed_types_twice_at_other_parallelism_and_on_other_backends() {
    use StateBackendType::{Disk, Hashmap};
    let expected = expected();
    for what in ["total", "reduced", "joined", "tumbling", "sliding", "session", "counted", "whole"] {
        assert!(expected.iter().filter(|line| line.starts_with(what)).count() > 3, "too little of '{what}'");
    }
    for (seed, runs) in [
        [(2, Hashmap), (3, Disk), (1, Hashmap)],
        [(3, Disk), (1, Hashmap), (2, Disk)],
        [(1, Disk), (1, Disk), (3, Disk)],
    ]
    .into_iter()
    .enumerate()
    {
        let mut env = simulated(1, 20 + seed as u64);
        let [one, two, three] = runs.map(|(parallelism, backend)| Run::new(parallelism, backend));
        let (sink, dir) = (Transactions::new(), directory(&env));
        one.configure(&mut env, &dir);
        build::<First>(&env, &sink);
        let first = stop(&env, 40);
        two.from(&first).configure(&mut env, &dir);
        build::<Second>(&env, &sink);
        let second = stop(&env, 10);
        let n_committed = sink.committed().len();
        assert!(n_committed < expected.len(), "{n_committed} lines before the last run");
        three.from(&second).configure(&mut env, &dir);
        build::<Third>(&env, &sink);
        finished(env.execute("evolution"));
        assert_eq!(sink.committed(), expected, "{runs:?}");
    }
}

/// A savepoint of the first version, in a world that goes on.
fn first_savepoint(seed: u64, build: Build) -> (StreamExecutionEnvironment, String, String) {
    let mut env = simulated(1, seed);
    let dir = directory(&env);
    Run::new(2, StateBackendType::Hashmap).configure(&mut env, &dir);
    build(&env, &Transactions::new());
    let path = stop(&env, 40);
    (env, dir, path)
}

type Build = fn(&StreamExecutionEnvironment, &Transactions<String>);

/// What another version says when it is to go on from the first. Nothing may come out of it.
fn refused(first: Build, other: Build) -> Error {
    let (mut env, dir, path) = first_savepoint(31, first);
    Run::new(2, StateBackendType::Hashmap).from(&path).configure(&mut env, &dir);
    let sink = Transactions::new();
    other(&env, &sink);
    let error = env.execute("refused").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UserError, "{}", error.report());
    assert!(sink.attempts().is_empty(), "nothing has run");
    error
}

/// The states of the program that have a reading in them, with the field as it is called there; the first `n_states` of them.
#[track_caller]
fn assert_refused(error: &Error, field: &str, reason: &str, n_states: usize) {
    let report = error.report();
    let states = [
        ("totals", "last", format!("value.{field}")),
        ("totals", "all", format!("[].value.{field}")),
        ("totals", "by rest", format!("{{}}.value.{field}")),
        ("totals", "reduced", format!("value.{field}")),
        ("totals", "aggregated", format!("value.{field}")),
        ("reduced", "_reduce", field.to_owned()),
        ("tumbling", "_windows/slices", format!("1.{field}")),
        ("joined", "_interval_join", format!("left.records{{}}.{field}")),
        ("sliding", "_windows/slices", format!("1.{field}")),
        ("sessions", "_windows/sessions", format!("accumulator.{field}")),
        ("counted", "_windows", format!("windows[].contents.{field}")),
        ("whole", "_windows", format!("windows[].contents[].0.{field}")),
    ];
    for (uid, state, place) in states.into_iter().take(n_states) {
        let of = report
            .lines()
            .find(|line| line.contains(&format!("(uid '{uid}')")) && line.contains(&format!("'{state}'")));
        let of = of.unwrap_or_else(|| panic!("nothing is said of '{state}' of '{uid}': {report}"));
        assert!(of.contains(&format!("field '{place}' {reason}")), "{of}");
    }
}

/// How many states the small program has of these.
const SMALL: usize = 7;

fn small<R: Reading>() -> Error {
    refused(build_small::<First>, build_small::<R>)
}

#[test]
fn what_would_lose_something_is_refused_at_once_in_all_states_with_the_field() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Removed {
        key: u16,
        sum: u32,
        origin: Origin,
    }
    reading!(Removed, key: u16, sum: u32, |key, sum| Removed { key, sum, origin: Origin::Sensor });
    assert_refused(&small::<Removed>(), "unit", "was removed", SMALL);

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Narrowed {
        key: u16,
        sum: u16,
        origin: Origin,
        unit: String,
    }
    reading!(Narrowed, key: u16, sum: u16, |key, sum| Narrowed { key, sum, origin: Origin::Sensor, unit: String::new() });
    let whole = refused(build::<First>, build::<Narrowed>);
    assert_refused(&whole, "sum", "was u32 and is u16", usize::MAX);

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct OtherType {
        key: u16,
        sum: u32,
        origin: Origin,
        unit: Option<String>,
    }
    reading!(OtherType, key: u16, sum: u32, |key, sum| OtherType { key, sum, origin: Origin::Sensor, unit: None });
    assert_refused(&small::<OtherType>(), "unit", "was string and is option<string>", SMALL);

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Required {
        key: u16,
        sum: u32,
        origin: Origin,
        unit: String,
        more: u8,
    }
    reading!(Required, key: u16, sum: u32, |key, sum| Required { key, sum, origin: Origin::Sensor, unit: String::new(), more: 0 });
    assert_refused(&small::<Required>(), "more", "was added and may not be missing", SMALL);
}

#[test]
fn a_key_that_would_have_another_hash_is_refused() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct OtherKey {
        key: i16,
        sum: u32,
        origin: Origin,
        unit: String,
    }
    reading!(OtherKey, key: i16, sum: u32, |key, sum| OtherKey { key, sum, origin: Origin::Sensor, unit: String::new() });
    let report = small::<OtherKey>().report();
    for uid in ["totals", "reduced", "tumbling"] {
        let of: Vec<_> = report.lines().filter(|line| line.contains(&format!("(uid '{uid}')"))).collect();
        assert!(of.iter().any(|line| line.contains("field 'key' was u16 and is i16")), "{uid}: {report}");
    }
    let timers = "state '_timers/event' has changed: field 'key' was u16 and is i16";
    assert!(report.contains(timers), "{report}");
}
