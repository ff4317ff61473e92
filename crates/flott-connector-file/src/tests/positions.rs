use super::{Flight, env_with, flight, put, read_all};
use crate::{CsvFormat, FileSink, FileSource, FileSplit};
use flott_api::testing::SourceDriver;
use flott_api::{SourceSplit, StartingPosition};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::Data;
use std::fmt::Debug;
use std::task::{Context, Poll, Waker};

/// Reads `n_calls` times, takes a snapshot, sends it through bytes and reads the rest from there.
fn read_interrupted<T: Data + Debug + PartialEq>(
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
    let mut snapshot = driver.snapshot().expect("a snapshot");
    let bytes = flott_state::encode("splits", &snapshot.splits).expect("encodes");
    snapshot.splits = flott_state::decode("splits", &bytes).expect("decodes");
    let start = StartingPosition::of_splits(&snapshot.splits).expect("JSON");
    let mut driver = SourceDriver::restore(source, env, 2, snapshot).expect("restores");
    let rest = driver.read_available(100).expect("reads").into_records();
    // Another job that is told the positions reads the same, with splits in an order of its own.
    let mut other = SourceDriver::start_at(source, env, 2, start).expect("starts");
    let in_order = |records: &[T]| {
        let mut records: Vec<_> = records.iter().map(|record| format!("{record:?}")).collect();
        records.sort();
        records
    };
    let read_by_other = other.read_available(100).expect("reads").into_records();
    assert_eq!(in_order(&read_by_other), in_order(&rest));
    records.extend(rest);
    records.extend(driver.read_available(100).expect("reads").into_records());
    records
}

fn check_resume<T: Data + Debug + PartialEq>(source: &FileSource<T>, env: &Env) {
    let whole = read_all(source, env, 1, 1);
    for n_calls in 0..whole.len() + 2 {
        assert_eq!(read_interrupted(source, env, n_calls, 1), whole, "{source:?} after {n_calls} calls");
    }
}

const CSV: &str = "\u{feff}# a comment\r\n\ncarrier,delay,miles\nUA,1,1\r\n\r\n\"A\nA\",,2\n# another\n\
    \"B\r\n\r\n6\",3,3\r\n\n\nDL,4,4\n日本,5,5";

#[test]
fn reading_goes_on_exactly_where_it_stopped_after_every_record() {
    let lines = "a\n\nbb\r\n\r\nccc\n日本\nlast";
    let json = "{\"a\":1}\n\n  \r\n{\"a\":2}\r\n{\"a\":3}\n\n{\"a\":4}";
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).expect("written");
        encoder.finish().expect("finished")
    };
    let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 1).expect("encoded");
    for suffix in ["", ".gz", ".zst"] {
        let encode = |text: &str| match suffix {
            ".gz" => gzip(text),
            ".zst" => zstd(text),
            _ => text.as_bytes().to_vec(),
        };
        let path = format!("/f{suffix}");
        check_resume(&FileSource::lines(&path), &env_with(&path, encode(lines)));
        let source = FileSource::<std::collections::BTreeMap<String, i32>>::json(&path);
        check_resume(&source, &env_with(&path, encode(json)));
        let source = FileSource::<Flight>::format(&path, CsvFormat::new().comment(b'#'));
        check_resume(&source, &env_with(&path, encode(CSV)));
    }
}

/// Reads with ranges of every size, so that a border falls on every byte, and compares with the file as one range.
fn check_ranges<T: Data + Debug + PartialEq>(source: &FileSource<T>, env: &Env, len: u64) {
    let whole = read_all(&source.clone().split_bytes(u64::MAX), env, 1, 100);
    for split_bytes in 1..=len + 1 {
        let source = source.clone().split_bytes(split_bytes);
        let mut driver = SourceDriver::start(&source, env, 3).expect("starts");
        let splits = driver.snapshot().expect("a snapshot").splits;
        assert_eq!(splits.len() as u64, len.div_ceil(split_bytes));
        let read = driver.read_available(1).expect("reads");
        assert_eq!(read.bad_records, []);
        let starts = |id: &flott_types::SplitId| {
            splits.iter().find(|split| split.split_id() == *id).map(|split| split.range().start)
        };
        let mut records = read.records;
        records.sort_by_key(|(split, ..)| starts(split));
        let records: Vec<T> = records.into_iter().map(|(_, record, _)| record).collect();
        assert_eq!(records, whole, "ranges of {split_bytes} bytes");
        for n_calls in 0..4 {
            let read = read_interrupted(&source, env, n_calls, 2);
            assert_eq!(
                read.len(),
                whole.len(),
                "ranges of {split_bytes} bytes, stopped after {n_calls} calls"
            );
        }
    }
}

#[test]
fn ranges_cut_at_any_byte_give_each_record_once() {
    for text in ["a\nbb\n\nccc\r\n\r\ndddd\n", "a\nbb\n\nccc", "\u{feff}ab\ncd\n", "\n\n\n", "no line end"] {
        check_ranges(&FileSource::lines("/f"), &env_with("/f", text), text.len() as u64);
    }
    let json = "{\"a\":1}\n\n  \r\n{\"a\":2}\r\n{\"a\":3}\n\n{\"a\":4}";
    let source = FileSource::<std::collections::BTreeMap<String, i32>>::json("/f");
    check_ranges(&source, &env_with("/f", json), json.len() as u64);
    let csv = "carrier,delay,miles\r\nUA,1,1\r\n\r\n\n#x\nB6,2,2\n\n\r\nDL,3,3\n#\n\n";
    for text in [csv.to_owned(), format!("\u{feff}{csv}AA,4,4"), format!("#\n\n{csv}")] {
        let format = CsvFormat::new().one_line_records().comment(b'#');
        let source = FileSource::<Flight>::format("/f", format);
        check_ranges(&source, &env_with("/f", &text), text.len() as u64);
    }
    let bare = "UA,1,1\nDL,2,2\r\nB6,3,3";
    let source = FileSource::<Flight>::format("/f", CsvFormat::new().one_line_records().without_header());
    check_ranges(&source, &env_with("/f", bare), bare.len() as u64);
}

#[test]
fn csv_with_line_ends_in_fields_is_one_range_and_an_error_where_ranges_were_asked_for() {
    let text = "carrier,delay,miles\nUA,1,1\n\"two\nlines\",2,2\nDL,3,3\n";
    let env = env_with("/f", text);
    let safe = FileSource::<Flight>::csv("/f").split_bytes(5);
    assert_eq!(read_all(&safe, &env, 3, 1).len(), 3);
    for text in
        [text, "carrier,delay,miles\nUA,1,1\n\"open,2,2\nDL,3,3\n", "carrier,delay,miles\rUA,1,1\rDL,2,2\r"]
    {
        let env = env_with("/f", text);
        for split_bytes in 1..=text.len() as u64 {
            let format = CsvFormat::new().one_line_records();
            let source = FileSource::<Flight>::format("/f", format).split_bytes(split_bytes);
            let error = super::read(&source, &env, 1, 1).expect_err("the promise is broken");
            assert!(error.contains("one_line_records"), "{error}");
        }
    }
}

#[test]
fn compressed_files_are_one_range() {
    let env = Simulation::new(1).env();
    put(&env, "/f.zst", zstd::encode_all("a\n".repeat(1000).as_bytes(), 1).expect("encoded"));
    let source = FileSource::lines("/f.zst").split_bytes(10);
    let mut driver = SourceDriver::start(&source, &env, 2).expect("starts");
    assert_eq!(driver.snapshot().expect("a snapshot").splits.len(), 1);
    assert_eq!(driver.read_available(7).expect("reads").records.len(), 1000);
}

#[test]
fn many_records_survive_buffers_batches_and_ranges() {
    let env = Simulation::new(1).env();
    let n_records = 30_000;
    let records: Vec<Flight> =
        (0..n_records).map(|i| flight(&"x".repeat(i % 50), Some(i as i32), i as f64)).collect();
    let mut writer = super::writer(&FileSink::csv("/csv"), &env, 0);
    flott_api::SinkWriter::write(&mut writer, flott_types::RecordBatch::untimed(records.clone()))
        .expect("written");
    flott_api::SinkWriter::<Flight>::finish(&mut writer).expect("finished");
    let format = CsvFormat::new().one_line_records();
    let source = FileSource::<Flight>::format("/csv", format).split_bytes(100_000);
    let mut read = read_all(&source, &env, 3, 1000);
    read.sort_by_key(|record| record.delay);
    assert!(read == records);
    for n_calls in [1, 17, 29] {
        let source = FileSource::<Flight>::csv("/csv");
        assert!(read_interrupted(&source, &env, n_calls, 1000) == records);
    }
}

#[test]
fn a_file_that_became_shorter_than_its_position_is_an_error() {
    let env = env_with("/f", "a\nb\nc\n");
    let source = FileSource::lines("/f");
    let mut driver = SourceDriver::start(&source, &env, 1).expect("starts");
    let mut cx = Context::from_waker(Waker::noop());
    assert!(driver.poll_all(&mut cx, 2).is_ready());
    let snapshot = driver.snapshot().expect("a snapshot");
    let positions: Vec<_> = snapshot.splits.iter().filter_map(FileSplit::position).collect();
    assert_eq!((positions[0].offset, positions[0].records, positions[0].lines), (4, 2, 2));
    put(&env, "/f", "a\n");
    let error = SourceDriver::restore(&source, &env, 1, snapshot).expect_err("the file is shorter").report();
    assert!(error.contains("'/f' has become shorter"), "{error}");
}

#[test]
fn a_position_in_the_header_is_an_error() {
    let env = env_with("/f", "name\na\n");
    let position =
        r#"{"path":"/f","range":{"start":0,"end":null},"position":{"offset":3,"records":0,"lines":0}}"#;
    let start = StartingPosition::Positions(vec![position.to_owned()]);
    let error =
        SourceDriver::start_at(&FileSource::<(String,)>::csv("/f"), &env, 1, start).expect_err("refused");
    assert!(error.report().contains("byte 3 of file '/f' lies before its first record at byte 5"), "{error}");
}
