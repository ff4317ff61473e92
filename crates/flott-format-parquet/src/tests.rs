mod batches;

use crate::{ParquetCompression, ParquetFormat};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use expect_test::{Expect, expect};
use flott_api::testing::SourceDriver;
use flott_api::{Sink, SinkContext, SinkWriter};
use flott_connector_file::{Compression, FileSink, FileSource, RollingPolicy};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::{Data, RecordBatch, SubtaskIndex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Class {
    First,
    Economy,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Leg {
    from: String,
    miles: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Trip {
    id: u64,
    delay: Option<i32>,
    carrier: String,
    class: Class,
    late: bool,
    legs: Vec<Leg>,
    tags: BTreeMap<String, i64>,
    first: Leg,
}

fn trip(id: u64) -> Trip {
    let leg = |n: u64| Leg { from: format!("é{n}"), miles: n as f64 / 3.0 };
    Trip {
        id,
        delay: (!id.is_multiple_of(3)).then_some(id as i32 - 50),
        carrier: "x".repeat(id as usize % 7),
        class: if id.is_multiple_of(2) { Class::First } else { Class::Economy },
        late: id.is_multiple_of(5),
        legs: (0..id % 4).map(leg).collect(),
        tags: (0..id % 2).map(|n| (format!("tag{n}"), n as i64)).collect(),
        first: leg(id),
    }
}

/// Writes one file and returns its path.
fn write<T: Data>(env: &Env, format: ParquetFormat, records: Vec<T>) -> PathBuf {
    let sink = FileSink::format("/out", format).rolling(RollingPolicy::never());
    let ctx = SinkContext::new(env.clone(), SubtaskIndex(0), 1, 1);
    let mut writer = sink.create_writer(ctx).expect("a writer");
    writer.write(RecordBatch::untimed(records)).expect("written");
    writer.finish().expect("finished");
    env.fs().list(Path::new("/out")).expect("a directory").pop().expect("a file")
}

fn get(env: &Env, path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    env.fs().open(path).expect("there is a file").read_to_end(&mut bytes).expect("read");
    bytes
}

fn put(env: &Env, path: &Path, bytes: &[u8]) {
    env.fs().create(path).expect("created").write_all(bytes).expect("written");
}

fn source<T: Data>(path: &Path) -> FileSource<T> {
    FileSource::format(path, ParquetFormat::new())
}

/// What is read of a file, a line each.
fn transcript<T: Data + Debug>(env: &Env, path: &Path) -> String {
    let (read, error) = match SourceDriver::start(&source::<T>(path), env, 1) {
        Ok(mut driver) => match driver.read_available(2) {
            Ok(read) => (read, None),
            Err(failed) => (failed.before, Some(failed.error)),
        },
        Err(error) => return format!("error: {}\n", error.report()),
    };
    let mut lines: Vec<String> = read.records.iter().map(|(_, record, _)| format!("{record:?}\n")).collect();
    lines.extend(read.bad_records.iter().map(|bad| format!("bad: at {}: {}\n", bad.position, bad.message)));
    lines.extend(error.map(|error| format!("error: {}\n", error.report())));
    lines.concat()
}

fn read_all<T: Data + Debug>(
    source: &FileSource<T>,
    env: &Env,
    parallelism: u32,
    records_max: usize,
) -> Vec<T> {
    let mut driver = SourceDriver::start(source, env, parallelism).expect("starts");
    let read = driver.read_available(records_max).expect("reads");
    assert_eq!(read.bad_records, []);
    assert!(driver.has_ended());
    read.into_records()
}

#[test]
fn what_was_written_is_read_whatever_the_compression_and_row_groups() {
    for n_records in [1, 1023, 1024, 2500] {
        for compression in [ParquetCompression::None, ParquetCompression::Snappy, ParquetCompression::Zstd] {
            for row_group_bytes in [1, 1 << 20] {
                let env = Simulation::new(1).env();
                let records: Vec<Trip> = (0..n_records).map(trip).collect();
                let format = ParquetFormat::new().compression(compression).row_group_bytes(row_group_bytes);
                let path = write(&env, format, records.clone());
                assert!(read_all::<Trip>(&source(&path), &env, 1, 700) == records);
            }
        }
    }
}

/// Reads `n_calls` times, takes a snapshot and reads the rest from there.
fn read_interrupted<T: Data + Debug>(
    source: &FileSource<T>,
    env: &Env,
    n_calls: usize,
    records_max: usize,
) -> Vec<T> {
    let mut driver = SourceDriver::start(source, env, 1).expect("starts");
    let mut cx = Context::from_waker(Waker::noop());
    let mut records = Vec::new();
    for _ in 0..n_calls {
        if let Poll::Ready(read) = driver.poll_all(&mut cx, records_max) {
            records.extend(read.expect("reads").into_records());
        }
    }
    let snapshot = driver.snapshot().expect("a snapshot");
    let mut driver = SourceDriver::restore(source, env, 2, snapshot).expect("restores");
    records.extend(driver.read_available(100).expect("reads").into_records());
    records
}

#[test]
fn reading_goes_on_exactly_where_it_stopped_after_every_row() {
    let env = Simulation::new(1).env();
    let records: Vec<Trip> = (0..40).map(trip).collect();
    let path = write(&env, ParquetFormat::new(), records.clone());
    for n_calls in 0..42 {
        assert_eq!(
            read_interrupted::<Trip>(&source(&path), &env, n_calls, 1),
            records,
            "after {n_calls} calls"
        );
    }
    let records: Vec<u64> = (0..5000).collect();
    let records: Vec<(u64, String)> = records.into_iter().map(|id| (id, format!("{id}"))).collect();
    let env = Simulation::new(1).env();
    let path = write(&env, ParquetFormat::new().row_group_bytes(1), records.clone());
    for n_calls in 0..9 {
        assert!(
            read_interrupted::<(u64, String)>(&source(&path), &env, n_calls, 700) == records,
            "after {n_calls} calls"
        );
    }
}

#[test]
fn ranges_of_any_size_give_each_row_group_once() {
    let env = Simulation::new(1).env();
    let records: Vec<(u64, String)> = (0..5000).map(|id| (id, format!("{id}"))).collect();
    let path = write(&env, ParquetFormat::new().row_group_bytes(1), records.clone());
    let len = env.fs().metadata(&path).expect("a file").len;
    for n_ranges in [1, 2, 3, 4, 5, 6, 20] {
        let source = source::<(u64, String)>(&path).split_bytes(len.div_ceil(n_ranges));
        let mut read = read_all(&source, &env, 2, 700);
        read.sort_unstable();
        assert!(read == records, "{n_ranges} ranges");
    }
}

#[test]
fn a_truncated_file_is_an_error_wherever_it_is_cut() {
    let env = Simulation::new(1).env();
    let path = write(&env, ParquetFormat::new(), (0..20).map(trip).collect());
    let bytes = get(&env, &path);
    let cut = Path::new("/cut.parquet");
    for len in 0..bytes.len() {
        put(&env, cut, &bytes[..len]);
        let error = SourceDriver::start(&source::<Trip>(cut), &env, 1).expect_err("it is truncated").report();
        assert!(error.contains("'/cut.parquet' is no Parquet file, a damaged one, or truncated"), "{error}");
    }
}

#[test]
fn a_damaged_file_is_an_error_or_bad_records_but_no_panic_and_no_missing_rows() {
    let env = Simulation::new(1).env();
    let format = ParquetFormat::new().compression(ParquetCompression::None);
    let path = write(&env, format, (0..20).map(trip).collect());
    let bytes = get(&env, &path);
    let damaged = Path::new("/damaged.parquet");
    let (mut n_errors, mut n_read) = (0, 0);
    let mut rng = flott_env::sim::SimRng::new(1);
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << rng.below(8);
        put(&env, damaged, &bytes);
        let outcome = SourceDriver::start(&source::<Trip>(damaged), &env, 1)
            .and_then(|mut driver| driver.read_available(100).map_err(|failed| failed.error));
        match outcome {
            Ok(read) => {
                n_read += 1;
                let n_rows = read.records.len() + read.bad_records.len();
                assert_eq!(n_rows, 20, "byte {at} is damaged");
            }
            Err(error) => {
                n_errors += 1;
                assert!(error.report().contains("/damaged.parquet"), "byte {at}: {}", error.report());
            }
        }
    }
    assert!(n_errors > 100 && n_read > 100, "{n_errors} errors, {n_read} read");
}

fn check<T: Data, R: Data + Debug>(records: Vec<T>, expected: Expect) {
    let env = Simulation::new(1).env();
    let path = write(&env, ParquetFormat::new(), records);
    let text = transcript::<R>(&env, &path);
    expected.assert_eq(&text.replace(path.to_str().expect("UTF-8"), "FILE"));
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Wide {
    id: i64,
    name: Option<String>,
    score: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Narrow {
    score: f64,
    id: u8,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    id: i64,
    score: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Renamed {
    #[serde(alias = "name")]
    title: Option<String>,
    id: i64,
    added: Option<bool>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Missing {
    id: i64,
    airline: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct WrongType {
    name: Option<i32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NotNull {
    name: String,
}

fn wide() -> Vec<Wide> {
    let row = |id: i64, name: Option<&str>| Wide { id, name: name.map(str::to_owned), score: 0.5 };
    vec![row(1, Some("a")), row(300, None), row(3, Some("c"))]
}

#[test]
fn columns_are_found_by_name_and_others_left_out() {
    check::<_, Renamed>(
        wide(),
        expect![[r#"
            Renamed { title: Some("a"), id: 1, added: None }
            Renamed { title: None, id: 300, added: None }
            Renamed { title: Some("c"), id: 3, added: None }
        "#]],
    );
}

#[test]
fn the_row_after_a_bad_one_is_read_properly() {
    check::<_, Narrow>(
        wide(),
        expect![[r#"
            Narrow { score: 0.5, id: 1 }
            Narrow { score: 0.5, id: 3 }
            bad: at row 2: column 'id' of type Int64: integer conversion failed: out of range integral type conversion attempted
        "#]],
    );
    check::<_, NotNull>(
        wide(),
        expect![[r#"
            NotNull { name: "a" }
            NotNull { name: "c" }
            bad: at row 2: column 'name' of type Utf8: required array value is null
        "#]],
    );
}

#[test]
fn a_column_that_is_missing_unknown_or_of_another_type_fails_the_file() {
    check::<_, Missing>(
        wide(),
        expect![[r#"
        error: reading split FILE: Parquet file 'FILE' has no column 'airline', only id, name, score
    "#]],
    );
    check::<_, WrongType>(
        wide(),
        expect![[r#"
        error: reading split FILE: column 'name' of Parquet file 'FILE': expected Int32, found Utf8
    "#]],
    );
    check::<_, Strict>(
        wide(),
        expect![[r#"
            error: reading split FILE: Parquet file 'FILE' has an unknown column 'name', expected `id` or `score`
        "#]],
    );
}

#[test]
fn what_is_no_parquet_file_is_an_error() {
    let env = Simulation::new(1).env();
    for text in ["", "PAR1", "plain text that is long enough to hold a footer"] {
        put(&env, Path::new("/f"), text.as_bytes());
        let text = transcript::<Wide>(&env, Path::new("/f"));
        assert!(text.starts_with("error: opening split /f: file '/f' is no Parquet file"), "{text}");
    }
}

#[test]
fn a_schema_gives_columns_other_types() {
    let env = Simulation::new(1).env();
    let schema = Schema::new(vec![
        Field::new("id", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("name", DataType::Utf8, true),
        Field::new("score", DataType::Float32, false),
    ]);
    let path = write(&env, ParquetFormat::new().schema(Arc::new(schema)), wide());
    let records = read_all(&source::<Wide>(&path), &env, 1, 9);
    assert_eq!(
        records.iter().map(|record| (record.id, record.score)).collect::<Vec<_>>(),
        [(1, 0.5), (300, 0.5), (3, 0.5)]
    );
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Left(i64),
    Right(String),
}

#[test]
fn records_without_columns_and_whole_file_compression_are_refused() {
    let env = Simulation::new(1).env();
    let ctx = || SinkContext::new(env.clone(), SubtaskIndex(0), 1, 1);
    let sink = FileSink::format("/out", ParquetFormat::new());
    let error = sink.create_writer(ctx()).and_then(|mut writer| {
        let written = writer.write(RecordBatch::untimed(vec![Either::Left(1), Either::Right(String::new())]));
        written.map_err(|error| flott_types::Error::user(error.to_string()))
    });
    let error = error.expect_err("it has no columns").report();
    assert!(error.contains("Either are not known, give the format a schema"), "{error}");
    let sink = FileSink::<Wide>::format("/out", ParquetFormat::new()).compression(Compression::Gzip);
    let error = sink.create_writer(ctx()).expect_err("it is compressed inside").report();
    assert!(error.starts_with("a parquet file cannot be compressed as a whole"), "{error}");
}

/// Refuses 13, when other columns have their value already.
fn refuse_13<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        13 => Err(serde::ser::Error::custom("13 is unlucky")),
        number => serializer.serialize_u64(*number),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Picky {
    id: u64,
    tags: Vec<String>,
    #[serde(serialize_with = "refuse_13")]
    number: u64,
}

#[test]
fn a_record_that_is_no_row_is_left_out_and_the_others_are_whole() {
    let env = Simulation::new(1).env();
    let sink = FileSink::format("/out", ParquetFormat::new()).rolling(RollingPolicy::never());
    let ctx = SinkContext::new(env.clone(), SubtaskIndex(0), 1, 1);
    let picky = |id: u64| Picky { id, tags: vec!["x".to_owned(); id as usize % 3], number: id % 20 };
    let records: Vec<Picky> = (0..3_000).map(picky).collect();
    let bad = ctx.with_on_error::<Picky>(flott_api::OnError::Skip);
    let (rejected, mut writer) = (bad.bad_records.clone(), sink.create_writer(bad).expect("a writer"));
    writer.write(RecordBatch::untimed(records.clone())).expect("written");
    writer.finish().expect("finished");
    assert_eq!(rejected.take().n_records, 150);
    let good: Vec<Picky> = records.into_iter().filter(|record| record.number != 13).collect();
    assert_eq!(read_all::<Picky>(&source(Path::new("/out")), &env, 1, 1000), good);
    // Nobody pays for the look before if the job is to fail anyway.
    let mut writer = sink.create_writer(SinkContext::new(env, SubtaskIndex(0), 1, 2)).expect("a writer");
    let error = writer.write(RecordBatch::untimed(vec![picky(13)])).expect_err("it fails").to_string();
    assert!(error.contains("13 is unlucky") && error.contains("set on_error of the sink"), "{error}");
}

#[test]
fn files_roll_by_size_and_are_hidden_until_they_have_their_index() {
    let env = Simulation::new(1).env();
    let format = ParquetFormat::new().compression(ParquetCompression::None).row_group_bytes(20_000);
    let sink = FileSink::format("/out", format).rolling(RollingPolicy::never().max_part_size(100_000));
    let ctx = SinkContext::new(env.clone(), SubtaskIndex(0), 1, 1);
    let mut writer = sink.create_writer(ctx).expect("a writer");
    let mut rng = flott_env::sim::SimRng::new(1);
    let records: Vec<(u64, u64)> = (0..40_000).map(|id| (id, rng.next_u64())).collect();
    for batch in records.chunks(500) {
        writer.write(RecordBatch::untimed(batch.to_vec())).expect("written");
    }
    writer.finish().expect("finished");
    let mut paths = env.fs().list(Path::new("/out")).expect("a directory");
    // The sink's own directory.
    paths.retain(|path| !path.ends_with(".flott"));
    let sizes: Vec<u64> = paths.iter().map(|path| env.fs().metadata(path).expect("a file").len).collect();
    assert!(
        sizes.len() >= 4 && sizes[..sizes.len() - 1].iter().all(|size| (90_000..200_000).contains(size)),
        "{sizes:?}"
    );
    let mut read = read_all(&source::<(u64, u64)>(Path::new("/out")), &env, 2, 1000);
    read.sort_unstable();
    assert!(read == records);
}

#[test]
fn real_files_are_written_and_read() {
    let env = Env::real().expect("an environment");
    let directory = tempfile::tempdir().expect("a directory");
    let sink = FileSink::format(directory.path(), ParquetFormat::new().compression(ParquetCompression::Zstd));
    let ctx = SinkContext::new(env.clone(), SubtaskIndex(0), 1, 1);
    let mut writer = sink.create_writer(ctx).expect("a writer");
    let records: Vec<Trip> = (0..100).map(trip).collect();
    writer.write(RecordBatch::untimed(records.clone())).expect("written");
    writer.finish().expect("finished");
    assert_eq!(read_all::<Trip>(&source(directory.path()), &env, 2, 7), records);
}
