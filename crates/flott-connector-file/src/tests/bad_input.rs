use super::{Flight, env_with, put, read, transcript};
use crate::{CsvFormat, FileSource, JsonFormat, LinesFormat};
use expect_test::{Expect, expect};
use flott_api::format::{ByteRange, DecodeFormat, DecodeInput};
use flott_api::testing::SourceDriver;
use flott_api::{BadRecord, InputStatus, SourceOutput};
use flott_env::sim::{MemoryFs, Simulation};
use flott_env::{FileSystem, FileWrite, Metadata, ReadSeek};
use flott_types::SplitId;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn check<T: flott_types::Data + std::fmt::Debug>(
    format: impl DecodeFormat<T>,
    text: impl AsRef<[u8]>,
    expected: Expect,
) {
    expected.assert_eq(&transcript(&FileSource::format("/dir/f", format), &env_with("/dir/f", text)));
}

#[test]
fn the_record_after_a_bad_csv_record_is_read_properly() {
    check::<Flight>(
        CsvFormat::new(),
        b"carrier,delay,miles\nUA,1,1\nUA,x,1\nUA,2,2\nUA,3\nUA,4,4\nUA,5,5,5\n\nU\xffA,6,6\nUA,99999999999,7\n\
          UA,8,far\n\"two\nlines\",y,9\nUA,10,10\n\"open,11,11\nUA,12,12\n",
        expect![[r#"
            Flight { carrier: "UA", delay: Some(1), miles: 1.0 }
            Flight { carrier: "UA", delay: Some(2), miles: 2.0 }
            Flight { carrier: "UA", delay: Some(4), miles: 4.0 }
            Flight { carrier: "UA", delay: Some(10), miles: 10.0 }
            bad: /dir/f at line 3: column 'delay': expected an integer, found 'x' "UA,x,1"
            bad: /dir/f at line 5: expected 3 fields as in the header, found 2 "UA,3"
            bad: /dir/f at line 7: expected 3 fields as in the header, found 4 "UA,5,5,5"
            bad: /dir/f at line 9: column 'carrier': expected UTF-8 text, found 'U�A' "U�A,6,6"
            bad: /dir/f at line 10: column 'delay': expected an integer of the column's range, found '99999999999' "UA,99999999999,7"
            bad: /dir/f at line 11: column 'miles': expected a number, found 'far' "UA,8,far"
            bad: /dir/f at line 12: column 'delay': expected an integer, found 'y' "\"two\nlines\",y,9"
            bad: /dir/f at line 15: a quoted field that does not end before the file does "\"open,11,11\nUA,12,12\n"
        "#]],
    );
}

#[test]
fn csv_columns_without_names_have_numbers() {
    check::<(String, u8, bool)>(
        CsvFormat::new().without_header(),
        "a,1,true\nb,256,true\nc,3,maybe\nd\ne,5,false\n",
        expect![[r#"
            ("a", 1, true)
            ("e", 5, false)
            bad: /dir/f at line 2: column 2: expected an integer of the column's range, found '256' "b,256,true"
            bad: /dir/f at line 3: column 3: expected true or false, found 'maybe' "c,3,maybe"
            bad: /dir/f at line 4: invalid length 1, expected a tuple of size 3 "d"
        "#]],
    );
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Color {
    Red,
    Green,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    name: String,
    color: Color,
}

#[test]
fn a_column_that_is_missing_or_unknown_fails_the_file_not_the_record() {
    check::<Flight>(
        CsvFormat::new(),
        "carrier,late,miles\nUA,1,1\n",
        expect![[r#"
            Flight { carrier: "UA", delay: None, miles: 1.0 }
        "#]],
    );
    check::<Flight>(
        CsvFormat::new(),
        "airline,delay,miles\nUA,1,1\nDL,2,2\n",
        expect![[r#"
            error: reading split /dir/f: CSV file '/dir/f' has no column 'carrier', only airline, delay, miles
        "#]],
    );
    check::<Strict>(
        CsvFormat::new(),
        "name,color,size\na,red,1\n",
        expect![[r#"
            error: reading split /dir/f: CSV file '/dir/f' has an unknown column 'size', expected `name` or `color`
        "#]],
    );
    check::<Strict>(
        CsvFormat::new(),
        "name,color\na,red\nb,blue\nc,green\n",
        expect![[r#"
            Strict { name: "a", color: Red }
            Strict { name: "c", color: Green }
            bad: /dir/f at line 3: column 'color': unknown variant `blue`, expected `red` or `green`, found 'blue' "b,blue"
        "#]],
    );
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Nested {
    name: String,
    tags: Vec<Strict>,
}

#[test]
fn the_record_after_a_bad_json_record_is_read_properly() {
    check::<Nested>(
        JsonFormat::new(),
        b"{\"name\":\"a\",\"tags\":[]}\n{\"name\":\"b\",\"tags\":[\n{\"name\":7,\"tags\":[]}\n\n{\"tags\":[]}\n\
          {\"name\":\"c\",\"tags\":[{\"name\":\"x\",\"color\":1}]}\n{\"name\":\"d\",\"tags\":[{\"size\":1}]}\nnull\n\
          {\"name\":\"\xff\",\"tags\":[]}\n{\"name\":\"e\",\"tags\":[]} {}\n{\"name\":\"f\",\"tags\":[]}",
        expect![[r#"
            Nested { name: "a", tags: [] }
            Nested { name: "f", tags: [] }
            bad: /dir/f at line 2: field 'tags': EOF while parsing a list, at column 20 "{\"name\":\"b\",\"tags\":["
            bad: /dir/f at line 3: field 'name': invalid type: integer `7`, expected a string, at column 9 "{\"name\":7,\"tags\":[]}"
            bad: /dir/f at line 5: missing field `name`, at column 11 "{\"tags\":[]}"
            bad: /dir/f at line 6: field 'tags[0].color': expected value, at column 41 "{\"name\":\"c\",\"tags\":[{\"name\":\"x\",\"color\":"
            bad: /dir/f at line 7: field 'tags[0].size': unknown field `size`, expected `name` or `color`, at column 27 "{\"name\":\"d\",\"tags\":[{\"size\":1}]}"
            bad: /dir/f at line 8: invalid type: null, expected struct Nested, at column 4 "null"
            bad: /dir/f at line 9: field 'name': invalid unicode code point, at column 10 "{\"name\":\"�\",\"tags\":[]}"
            bad: /dir/f at line 10: trailing characters, at column 24 "{\"name\":\"e\",\"tags\":[]} {}"
        "#]],
    );
}

#[test]
fn a_line_that_is_not_text_or_too_long_is_a_bad_record() {
    check::<String>(
        LinesFormat::new().max_record_bytes(5),
        b"12345\n123456\n1234567\r\n12345\r\n12345678901234567890\n12\xff45\nlast5",
        expect![[r#"
            "12345"
            "12345"
            "last5"
            bad: /dir/f at line 2: longer than 5 bytes, the limit for a record (max_record_bytes) "123456"
            bad: /dir/f at line 3: longer than 5 bytes, the limit for a record (max_record_bytes) "1234567"…
            bad: /dir/f at line 5: longer than 5 bytes, the limit for a record (max_record_bytes) "1234567"…
            bad: /dir/f at line 6: not UTF-8: byte 3 of the line is no character "12�45"
        "#]],
    );
    check::<Flight>(
        CsvFormat::new().max_record_bytes(22),
        "carrier,delay,miles\nUA,1,1\nUA,2,2.000000000000000000000000001\nUA,3,3\n\"a,4,4\nUA,5,5\nb\",6,6\nUA,7,7\n",
        expect![[r#"
            Flight { carrier: "UA", delay: Some(1), miles: 1.0 }
            Flight { carrier: "UA", delay: Some(3), miles: 3.0 }
            Flight { carrier: "a,4,4\nUA,5,5\nb", delay: Some(6), miles: 6.0 }
            Flight { carrier: "UA", delay: Some(7), miles: 7.0 }
            bad: /dir/f at line 3: longer than 22 bytes, the limit for a record (max_record_bytes) "UA,2,2.00000000000000000"…
        "#]],
    );
    check::<Flight>(
        CsvFormat::new().max_record_bytes(20),
        "carrier,delay,miles\n\"a,4,4\nUA,5,5\nUA,6,6\nUA,7,7\nb\",8,8\nUA,9,9\n",
        expect![[r#"
            Flight { carrier: "UA", delay: Some(9), miles: 9.0 }
            bad: /dir/f at line 2: longer than 20 bytes, the limit for a record (max_record_bytes); is a quote missing? "\"a,4,4\nUA,5,5\nUA,6,6\nU"…
        "#]],
    );
}

#[test]
fn bad_records_of_later_ranges_are_found_by_their_line() {
    let source = FileSource::<i64>::format("/f", crate::LineParser::new(|line: &str| Ok(line.parse()?)));
    expect![[r#"
        1
        3
        2
        bad: /f[3..6] at line 3: invalid digit found in string "x"
        bad: /f[6..] at line 5: invalid digit found in string "y"
    "#]]
    .assert_eq(&transcript(&source.split_bytes(4), &env_with("/f", "1\n2\nx\n3\ny\n")));
}

/// For every length of the archive: what was read is a prefix of its content, and all of it or an error.
fn check_truncation(path: &str, archive: &[u8], lines: &[String]) {
    for len in 0..=archive.len() {
        let env = env_with(path, &archive[..len]);
        let source = FileSource::lines(path);
        let mut driver = match SourceDriver::start(&source, &env, 1) {
            Ok(driver) => driver,
            Err(error) => {
                assert!(len < archive.len(), "the whole archive opens");
                assert!(error.report().contains(path), "{}", error.report());
                continue;
            }
        };
        match driver.read_available(3) {
            Ok(read) => {
                assert_eq!(
                    len,
                    archive.len(),
                    "{len} bytes of {} were taken for the whole archive",
                    archive.len()
                );
                assert_eq!(read.into_records(), lines);
            }
            Err(failed) => {
                let error = failed.error.report();
                assert!(len < archive.len(), "the whole archive is read: {error}");
                assert!(error.contains(path) && error.contains("truncated"), "{len}: {error}");
                let before = failed.before.into_records();
                assert_eq!(before, lines[..before.len()], "{len} bytes");
                let share = len as f64 / archive.len() as f64;
                let expected = (lines.len() as f64 * (share - 0.3)) as usize;
                assert!(before.len() >= expected, "{} records were read of {len} bytes", before.len());
            }
        }
    }
}

#[test]
fn an_archive_cut_anywhere_is_an_error_after_the_records_before_the_cut() {
    // Text that hardly compresses, so that content and archive advance together.
    let mut rng = flott_env::sim::SimRng::new(1);
    let lines: Vec<String> = (0..150).map(|_| format!("{:016x}", rng.next_u64())).collect();
    let text = lines.join("\n");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, text.as_bytes()).expect("written");
    check_truncation("/f.gz", &gzip.finish().expect("finished"), &lines);
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    for line in text.split_inclusive('\n') {
        io::Write::write_all(&mut zstd, line.as_bytes()).expect("written");
        io::Write::flush(&mut zstd).expect("flushed");
    }
    check_truncation("/f.zst", &zstd.finish().expect("finished"), &lines);
}

#[test]
fn what_is_no_archive_is_an_error_that_says_so() {
    for path in ["/f.gz", "/f.zst"] {
        let error =
            read(&FileSource::lines(path), &env_with(path, "plain text"), 1, 1).expect_err("no archive");
        assert!(error.contains(path) && error.contains("is no"), "{error}");
    }
}

#[test]
fn paths_that_are_missing_or_unreadable_are_named() {
    let env = Simulation::new(1).env();
    let error = read(&FileSource::lines("/no/such"), &env, 1, 1).expect_err("it is missing");
    assert!(error.starts_with("there is no file or directory '/no/such'"), "{error}");
    put(&env, "/d/ok", "a\n");
    let source = FileSource::lines("/d").and_path("/gone");
    let error = read(&source, &env, 1, 1).expect_err("one is missing");
    assert!(error.starts_with("there is no file or directory '/gone'"), "{error}");
}

#[test]
fn a_directory_that_may_not_be_read_is_an_error() {
    let fs = Arc::new(DeniedFs(MemoryFs::default()));
    fs.0.create_dir_all(Path::new("/secret")).expect("created");
    let selection = crate::enumerator::FileSelection {
        paths: vec![PathBuf::from("/secret")],
        depth: crate::enumerator::Depth::FilesOnly,
        filter: None,
    };
    let config = crate::enumerator::FileEnumeratorConfig::<String> {
        fs,
        selection,
        format: Arc::new(LinesFormat::new()),
        split_bytes: 1,
        discovery_interval: None,
        parallelism: 1,
        start: flott_api::StartingPosition::Earliest,
    };
    let error =
        crate::enumerator::FileEnumerator::new(config, None).err().expect("it may not be read").report();
    assert_eq!(error, "cannot read file or directory '/secret': permission denied");
}

#[derive(Debug)]
struct DeniedFs(MemoryFs);

/// A file of 100 MB in which one line is almost all there is, made while it is read.
#[derive(Debug)]
struct HugeFs;

const HUGE_LINE_BYTES: u64 = 100 << 20;

/// `ok,1,1`, a line of `HUGE_LINE_BYTES`, `ok,2,2`, after a header.
struct HugeFile {
    at: u64,
}

const BEFORE: &[u8] = b"carrier,delay,miles\nok,1,1\n";
const AFTER: &[u8] = b"\nok,2,2\n";

impl Read for HugeFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (before, after) = (BEFORE.len() as u64, BEFORE.len() as u64 + HUGE_LINE_BYTES);
        let n = if self.at < before {
            (&BEFORE[self.at as usize..]).read(buf)?
        } else if self.at < after {
            let n = buf.len().min((after - self.at) as usize);
            buf[..n].fill(b'x');
            n
        } else {
            (&AFTER[(self.at - after) as usize..]).read(buf)?
        };
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for HugeFile {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.at = match pos {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            SeekFrom::End(by) => {
                (BEFORE.len() as u64 + HUGE_LINE_BYTES + AFTER.len() as u64).saturating_add_signed(by)
            }
        };
        Ok(self.at)
    }
}

macro_rules! file_system {
    ($name:ty, open: $open:expr, list: $list:expr, metadata: $metadata:expr) => {
        impl FileSystem for $name {
            fn open(&self, path: &Path) -> io::Result<Box<dyn ReadSeek>> {
                ($open)(self, path)
            }
            fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
                ($list)(self, path)
            }
            fn metadata(&self, path: &Path) -> io::Result<Metadata> {
                ($metadata)(self, path)
            }
            fn create(&self, _: &Path) -> io::Result<Box<dyn FileWrite>> {
                Err(io::ErrorKind::Unsupported.into())
            }
            fn create_dir_all(&self, _: &Path) -> io::Result<()> {
                Err(io::ErrorKind::Unsupported.into())
            }
            fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
                Err(io::ErrorKind::Unsupported.into())
            }
            fn remove(&self, _: &Path) -> io::Result<()> {
                Err(io::ErrorKind::Unsupported.into())
            }
            fn sync_dir(&self, _: &Path) -> io::Result<()> {
                Ok(())
            }
        }
    };
}

file_system!(DeniedFs, open: |fs: &DeniedFs, path| fs.0.open(path),
    list: |_: &DeniedFs, _| Err(io::ErrorKind::PermissionDenied.into()),
    metadata: |fs: &DeniedFs, path| fs.0.metadata(path));
file_system!(HugeFs, open: |_: &HugeFs, _| Ok(Box::new(HugeFile { at: 0 }) as Box<dyn ReadSeek>),
    list: |_: &HugeFs, _| Err(io::ErrorKind::NotADirectory.into()),
    metadata: |_: &HugeFs, _| Err(io::ErrorKind::Unsupported.into()));

/// Peak memory of this process so far, in bytes.
#[expect(
    clippy::disallowed_methods,
    reason = "a question to the operating system, not to the engine's files"
)]
fn memory_peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<usize>().ok()? << 10)
}

fn check_huge_line<T: std::fmt::Debug>(format: impl DecodeFormat<T>, n_records: usize) {
    let before = memory_peak();
    let path = PathBuf::from("/huge");
    let input = DecodeInput { fs: Arc::new(HugeFs), path, range: ByteRange::WHOLE, position: None };
    let mut decoder = format.open(input).expect("opens");
    let mut output = SourceOutput::default();
    let out = output.split(&SplitId("huge".to_owned()));
    while decoder.decode(10, out).expect("reads") == InputStatus::MoreAvailable {}
    assert_eq!(out.batch.len(), n_records);
    let too_long = |bad: &&BadRecord| bad.message.contains("longer than 1048576 bytes");
    let too_long: Vec<_> = out.bad_records.iter().filter(too_long).collect();
    assert_eq!(too_long.len(), 1, "{:?}", out.bad_records);
    assert_eq!(too_long[0].raw.len(), 4096);
    let grown = memory_peak().zip(before).map(|(after, before)| after - before);
    assert!(grown.is_none_or(|grown| grown < 24 << 20), "memory grew by {grown:?} bytes");
}

#[test]
fn a_line_of_100_mb_is_a_bad_record_in_little_memory() {
    check_huge_line::<String>(LinesFormat::new().max_record_bytes(1 << 20), 3);
    check_huge_line::<Flight>(CsvFormat::new().max_record_bytes(1 << 20), 2);
    // The other lines are no JSON.
    check_huge_line::<Flight>(JsonFormat::new().max_record_bytes(1 << 20), 0);
}
