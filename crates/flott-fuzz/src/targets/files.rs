//! Files that a source reads: the first byte says how they are compressed, cut into splits and read.

use super::{put, tagged};
use flate2::write::GzEncoder;
use flott_api::testing::SourceDriver;
use flott_api::{Sink, SinkContext, SinkWriter};
use flott_connector_file::{CsvFormat, FileSink, FileSource, JsonFormat, LinesFormat, RollingPolicy};
use flott_env::sim::Simulation;
use flott_format_parquet::{ParquetCompression, ParquetFormat};
use flott_types::{Data, RecordBatch, SubtaskIndex};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::path::Path;

/// A row with everything that rows have.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    name: String,
    number: Option<i32>,
    share: f64,
    is_on: bool,
}

const SUFFIXES: [&str; 3] = ["", ".gz", ".zst"];
const RECORD_BYTES_MAX: usize = 1 << 16;
const SPLITS_MAX: u64 = 8;

/// The records of the file of an input, in a fixed order, if it can be read to its end.
fn read<T: Data + Debug>(
    (suffix, content): (&str, &[u8]),
    (split_bytes, records_max): (u64, usize),
    source: impl Fn(&str) -> FileSource<T>,
) -> Option<Vec<String>> {
    let path = format!("/file{suffix}");
    let env = Simulation::new(1).env();
    put(&env, Path::new(&path), content);
    let source = source(&path).split_bytes(split_bytes);
    let read = SourceDriver::start(&source, &env, 2).ok()?.read_available(records_max).ok()?;
    let mut records: Vec<_> = read.records.iter().map(|(_, record, _)| format!("{record:?}")).collect();
    records.extend(read.bad_records.iter().map(|_| "bad".to_owned()));
    records.sort();
    Some(records)
}

/// Reads the file of an input as a whole, and in small splits record by record.
fn read_both<T: Data + Debug>(
    input: &[u8],
    source: impl Fn(&str) -> FileSource<T>,
) -> Option<[Option<Vec<String>>; 2]> {
    let (how, content) = input.split_first()?;
    let file = (SUFFIXES.get(usize::from(how % 3)).copied().unwrap_or_default(), content);
    let read = |how| read(file, how, &source);
    let split_bytes = (content.len() as u64 / SPLITS_MAX).max(u64::from(how >> 2) + 1);
    Some([read((u64::MAX, 1_000)), read((split_bytes, 1))])
}

/// As [`read_both`], where splits make no difference.
fn read_same<T: Data + Debug>(input: &[u8], source: impl Fn(&str) -> FileSource<T>) {
    if let Some([whole, in_splits]) = read_both(input, source) {
        assert_eq!(whole, in_splits);
    }
}

pub(crate) fn csv(bytes: &[u8]) {
    let format = || CsvFormat::new().max_record_bytes(RECORD_BYTES_MAX);
    read_same(bytes, |path| FileSource::<Row>::format(path, format()));
    read_same(bytes, |path| {
        FileSource::<(String, u8)>::format(path, format().without_header().comment(b'#'))
    });
    read_same(bytes, |path| FileSource::<Row>::format(path, format().one_line_records().flexible()));
}

pub(crate) fn json(bytes: &[u8]) {
    let format = || JsonFormat::new().max_record_bytes(RECORD_BYTES_MAX);
    read_same(bytes, |path| FileSource::<Row>::format(path, format()));
    read_same(bytes, |path| FileSource::<BTreeMap<String, Vec<Option<f64>>>>::format(path, format()));
}

pub(crate) fn lines(bytes: &[u8]) {
    let format = || LinesFormat::new().max_record_bytes(RECORD_BYTES_MAX);
    read_same(bytes, |path| FileSource::<String>::format(path, format()));
}

pub(crate) fn parquet(bytes: &[u8]) {
    read_same(bytes, |path| FileSource::<Row>::format(path, ParquetFormat::new()));
    read_same(bytes, |path| FileSource::<Nested>::format(path, ParquetFormat::new()));
}

/// The text in each kind of file.
fn packed(text: &str) -> Vec<Vec<u8>> {
    let mut gzip = GzEncoder::new(vec![1], flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).expect("written");
    let zstd = zstd::encode_all(text.as_bytes(), 1).expect("compressed");
    let plain = tagged(60, text.as_bytes());
    vec![plain, gzip.finish().expect("compressed"), tagged(2, &zstd)]
}

pub(crate) fn csv_files() -> Vec<Vec<u8>> {
    let texts =
        ["name,number,share,is_on\na,1,0.5,true\n\"b, \"\"c\"\"\nd\",,1e9,false\n", "x,1\n#y\nz,2\r\n"];
    texts.into_iter().flat_map(packed).collect()
}

pub(crate) fn json_files() -> Vec<Vec<u8>> {
    let texts = [
        "{\"name\":\"a\\u00e9\",\"number\":null,\"share\":1,\"is_on\":true}\n\n{\"name\":\"b\"}\n",
        "{\"k\":[1,null,2.5e3]}\n",
    ];
    texts.into_iter().flat_map(packed).collect()
}

pub(crate) fn line_files() -> Vec<Vec<u8>> {
    packed("first\r\nsecond\n\nlast without an end \u{e9}")
}

/// What stands in several columns.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Nested {
    name: String,
    list: Vec<Option<i64>>,
    map: BTreeMap<String, f32>,
    inner: Option<(bool, String)>,
}

fn written<T: Data + Serialize + for<'de> Deserialize<'de>>(
    format: ParquetFormat,
    records: Vec<T>,
) -> Vec<u8> {
    let env = Simulation::new(1).env();
    let sink = FileSink::format("/out", format).rolling(RollingPolicy::never());
    let mut writer = sink.create_writer(SinkContext::new(env.clone(), SubtaskIndex(0), 1, 1)).expect("made");
    writer.write(RecordBatch::untimed(records)).expect("written");
    writer.finish().expect("finished");
    let path = env.fs().list(Path::new("/out")).expect("a directory").pop().expect("a file");
    let mut bytes = vec![0];
    env.fs().open(&path).expect("there").read_to_end(&mut bytes).expect("read");
    bytes
}

pub(crate) fn parquet_files() -> Vec<Vec<u8>> {
    let row = |n: i32| Row { name: n.to_string(), number: Some(n), share: f64::from(n), is_on: n > 1 };
    let nested = |n: u16| Nested {
        name: "x".repeat(n.into()),
        list: (0..n).map(|n| (n % 2 == 0).then_some(n.into())).collect(),
        map: (0..n % 3).map(|n| (n.to_string(), n.into())).collect(),
        inner: n.is_multiple_of(3).then(|| (true, "inner".to_owned())),
    };
    let compressions = [ParquetCompression::None, ParquetCompression::Snappy, ParquetCompression::Zstd];
    let formats = compressions.map(|compression| ParquetFormat::new().compression(compression));
    let files = formats.into_iter().flat_map(|format| {
        let small = format.clone().row_group_bytes(1);
        [written(small, (0..3).map(row).collect()), written(format, (0..9).map(nested).collect())]
    });
    files.collect()
}
