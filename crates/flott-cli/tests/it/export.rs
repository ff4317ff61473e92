//! `flott savepoint export`, `inspect` and `diff` on savepoints of a real job with state of every kind: what is exported is what the program
//! has computed, naively computed again.

use crate::fixtures::program::{HALF, LATER, N_KEYS, N_SPLITS, Numbered, key, timestamp};
use crate::fixtures::take;
use crate::support::succeeds;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// The records before the savepoint.
fn records() -> impl Iterator<Item = Numbered> {
    (0..N_SPLITS).flat_map(|split| (0..HALF).map(move |number| (split, number)))
}

fn of_key(wanted: u64) -> impl Iterator<Item = Numbered> {
    records().filter(move |record| key(record) == wanted)
}

/// The rows of a state, without key groups and times of last use, as text, sorted.
fn rows(savepoint: &Path, operator: &str, state: &str) -> BTreeSet<String> {
    let arguments =
        ["savepoint", "export", ".", "--operator", operator, "--state", state, "--format", "json"];
    let text = succeeds(savepoint, &[&arguments[..], &["--output", "-"]].concat());
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).expect("JSON");
        let fields = row.as_object_mut().expect("a row");
        let place = fields.remove("key_group").or_else(|| fields.remove("subtask"));
        assert!(place.is_some_and(|place| place.is_number()));
        fields.remove("last_used_ms");
        row.to_string()
    };
    text.lines().map(row).collect()
}

fn expected(rows: impl Iterator<Item = Value>) -> BTreeSet<String> {
    rows.map(|row| row.to_string()).collect()
}

fn sum(records: impl Iterator<Item = Numbered>) -> u64 {
    records.map(|(_, number)| number).sum()
}

#[test]
fn state_that_belongs_to_no_key_is_exported_as_the_program_wrote_it() {
    let here = tempfile::tempdir().expect("a directory");
    let savepoint = take(here.path());
    let all: BTreeSet<_> = records().map(|record| json!(record).to_string()).collect();
    for state in ["list", "union"] {
        let rows = rows(&savepoint, "lists", state);
        let values = rows.iter().map(|row| {
            let row: Value = serde_json::from_str(row).expect("JSON");
            assert!(row["index"].is_number());
            row["value"].to_string()
        });
        assert_eq!(values.collect::<BTreeSet<_>>(), all, "{state}");
    }
    let names = (0..N_SPLITS).map(|split| json!({"key": split, "value": format!("name of {split}")}));
    assert_eq!(rows(&savepoint, "named", "names"), expected(names));
    let output = succeeds(&savepoint, &["savepoint", "inspect", ".", "--operator", "lists"]);
    assert!(output.contains("list: (u32, u64)") && output.contains("union: (u32, u64)"), "{output}");
}

#[test]
fn every_kind_of_state_of_a_real_job_is_exported_as_the_program_computed_it() {
    let here = tempfile::tempdir().expect("a directory");
    let savepoint = take(here.path());
    let keys = || (0..N_KEYS).filter(|key| of_key(*key).next().is_some());
    let counts = keys().map(|key| json!({"key": key, "value": of_key(key).count()}));
    assert_eq!(rows(&savepoint, "kinds", "count"), expected(counts));
    let highest = keys().map(|key| json!({"key": key, "value": of_key(key).map(|it| it.1).max()}));
    assert_eq!(rows(&savepoint, "kinds", "highest"), expected(highest));
    let sums = keys()
        .map(|key| json!({"key": key, "value": [sum(of_key(key)), format!("sum {}", sum(of_key(key)))]}));
    assert_eq!(rows(&savepoint, "kinds", "sum"), expected(sums));
    // Two sources: in which order their records came is not known.
    let numbers = rows(&savepoint, "kinds", "numbers");
    let numbers: Vec<Value> = numbers.iter().map(|row| serde_json::from_str(row).expect("JSON")).collect();
    let found: BTreeSet<_> =
        numbers.iter().map(|row| (row["key"].to_string(), row["value"].to_string())).collect();
    let all = records().map(|record| (key(&record).to_string(), json!(record).to_string()));
    assert_eq!(found, all.collect());
    let places: BTreeSet<_> =
        numbers.iter().map(|row| (row["key"].to_string(), row["index"].to_string())).collect();
    assert_eq!(places.len(), records().count(), "each has an index of its own");
    let by_split = rows(&savepoint, "kinds", "by split");
    let pairs: BTreeSet<_> = records().map(|record| (key(&record), record.0)).collect();
    assert_eq!(by_split.len(), pairs.len());
    for (key, split) in pairs {
        let of_split: Vec<_> = of_key(key).filter(|record| record.0 == split).collect();
        let last = of_split.iter().map(|record| record.1).max();
        let seen = match of_split.len() {
            1 => json!("Once"),
            times => json!({"Often": {"times": times, "last": last}}),
        };
        assert!(
            by_split.contains(&json!({"key": key, "map_key": split, "value": seen}).to_string()),
            "{by_split:?}"
        );
    }
    let timers = keys().map(|key| json!({"key": key, "timestamp_ms": LATER, "namespace": null}));
    assert_eq!(rows(&savepoint, "kinds", "_timers/event"), expected(timers));
    let reduced = rows(&savepoint, "reduced", "_reduce");
    assert_eq!(reduced.len(), keys().count());
    for key in keys() {
        let found = reduced.iter().map(|row| serde_json::from_str::<Value>(row).expect("JSON"));
        let found = found.filter(|row| row["key"] == key).map(|row| row["value"][1].as_u64());
        assert_eq!(found.collect::<Vec<_>>(), [Some(sum(of_key(key)))]);
    }
}

#[test]
fn windows_of_a_real_job_are_exported_as_the_program_computed_them() {
    let here = tempfile::tempdir().expect("a directory");
    let savepoint = take(here.path());
    let keys = || (0..N_KEYS).filter(|key| of_key(*key).next().is_some());
    let total = |key| json!([of_key(key).count(), sum(of_key(key))]);
    let slices = keys().map(|key| json!({"key": key, "slice_end_ms": LATER, "value": total(key)}));
    assert_eq!(rows(&savepoint, "tumbling", "_windows/slices"), expected(slices));
    let sessions = keys().map(|key| {
        let times = || of_key(key).map(|record| timestamp(&record));
        let window = json!({"start": times().min(), "end": times().max().map(|last| last + LATER)});
        json!({"key": key, "value": {"window": window, "accumulator": total(key)}})
    });
    assert_eq!(rows(&savepoint, "sessions", "_windows/sessions"), expected(sessions));
    let whole = rows(&savepoint, "whole", "_windows");
    assert_eq!(whole.len(), keys().count());
    let contents = whole.iter().map(|row| serde_json::from_str::<Value>(row).expect("JSON"));
    let n_records = contents.map(|row| row["value"]["windows"][0]["contents"].as_array().map_or(0, Vec::len));
    assert_eq!(n_records.sum::<usize>(), records().count());
}

#[test]
fn state_of_a_real_job_is_written_as_csv() {
    let here = tempfile::tempdir().expect("a directory");
    let savepoint = take(here.path());
    let arguments =
        ["savepoint", "export", ".", "--operator", "kinds", "--state", "count", "--format", "csv"];
    let text = succeeds(&savepoint, &[&arguments[..], &["--output", "-"]].concat());
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().expect("a heading"), &["key_group", "key", "value", "last_used_ms"][..]);
    let found: BTreeSet<(u64, usize)> = reader
        .records()
        .map(|row| row.expect("a row"))
        .map(|row| (row[1].parse().expect("a key"), row[2].parse().expect("a count")))
        .collect();
    let keys = (0..N_KEYS).filter(|key| of_key(*key).next().is_some());
    assert_eq!(found, keys.map(|key| (key, of_key(key).count())).collect());
}

#[cfg(feature = "parquet")]
#[test]
fn state_of_a_real_job_is_written_as_parquet_that_flotts_own_source_reads() {
    use flott::prelude::*;
    use flott_format_parquet::ParquetFormat;
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Count {
        key: u64,
        value: u64,
    }
    let here = tempfile::tempdir().expect("a directory");
    let savepoint = take(here.path());
    let file = here.path().join("count.parquet");
    let arguments =
        ["savepoint", "export", ".", "--operator", "kinds", "--state", "count", "--format", "parquet"];
    succeeds(&savepoint, &[&arguments[..], &["--output", &file.display().to_string()]].concat());
    let env =
        StreamExecutionEnvironment::with_configuration(Configuration::default()).expect("an environment");
    let (sink, counts) = collect_sink();
    let source = FileSource::<Count>::format(file, ParquetFormat::new());
    env.from_source(source, WatermarkStrategy::no_watermarks(), "counts").sink_to(sink);
    env.execute("counts").expect("executed");
    let found: BTreeSet<_> = counts.take().into_iter().map(|Count { key, value }| (key, value)).collect();
    let keys = (0..N_KEYS).filter(|key| of_key(*key).next().is_some());
    assert_eq!(found, keys.map(|key| (key, of_key(key).count() as u64)).collect());
}

#[test]
fn inspect_shows_the_schemas_of_a_real_job() {
    let here = tempfile::tempdir().expect("a directory");
    let savepoint = take(here.path());
    let text = succeeds(&savepoint, &["savepoint", "inspect", ".", "--operator", "kinds"]);
    let seen = "Seen { Once, Often { times: u16, last: option<u64> } }";
    for line in [
        "    count: (u64, Stored { value: u64, used_at: option<i64> })".to_owned(),
        "    numbers: (u64, list<Stored { value: (u32, u64), used_at: option<i64> }>)".to_owned(),
        format!("    by split: (u64, map<u32, Stored {{ value: {seen}, used_at: option<i64> }}>)"),
        "    _timers/event: (i64, u64, unit)".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let whole = succeeds(&savepoint, &["savepoint", "verify", "."]);
    assert!(whole.contains(" with a schema were decoded"), "{whole}");
}
