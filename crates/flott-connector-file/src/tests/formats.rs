use super::{Flight, env_with, flight, get, prefix, put, read_all, transcript, tree, writer};
use crate::{Compression, CsvFormat, FileSink, FileSource, JsonFormat, LineParser, LinesWriter};
use expect_test::{Expect, expect};
use flott_api::SinkWriter;
use flott_env::sim::Simulation;
use flott_types::RecordBatch;
use serde::{Deserialize, Serialize};
use std::path::Path;

fn flights() -> Vec<Flight> {
    vec![
        flight("UA", Some(-3), 1400.5),
        flight("a \"quoted\", name\nof two lines", None, 0.25),
        flight("", Some(i32::MIN), -1e300),
        flight("日本航空", Some(0), 3.0),
    ]
}

#[test]
fn every_format_and_compression_reads_what_it_wrote() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let env = Simulation::new(1).env();
        let csv = FileSink::csv("/out/csv").compression(compression);
        let json = FileSink::json("/out/json").compression(compression);
        let other = CsvFormat::new().delimiter(b';').quote(b'\'').without_header();
        let positional = FileSink::format("/out/other", other.clone()).compression(compression);
        for sink in [csv, json, positional] {
            let mut writer = writer(&sink, &env, 0);
            writer.write(RecordBatch::untimed(flights())).expect("written");
            writer.write(RecordBatch::untimed(flights())).expect("written");
            writer.finish().expect("finished");
        }
        let expected = [flights(), flights()].concat();
        assert_eq!(read_all::<Flight>(&FileSource::csv("/out/csv"), &env, 1, 3), expected);
        assert_eq!(read_all::<Flight>(&FileSource::json("/out/json"), &env, 1, 3), expected);
        assert_eq!(read_all::<Flight>(&FileSource::format("/out/other", other), &env, 1, 3), expected);
        let name = format!("csv/{}0.csv{}", prefix(0), compression.suffix());
        assert_eq!(tree(&env, Path::new("/out"))[0], name);
    }
}

#[test]
fn lines_are_written_as_display_or_a_function_says() {
    let env = Simulation::new(1).env();
    let squares = LinesWriter::new(|record: &u64, line: &mut String| {
        line.push_str(&(record * record).to_string());
        Ok(())
    });
    for sink in [FileSink::lines("/out/a"), FileSink::format("/out/b", squares)] {
        let mut writer = writer(&sink, &env, 1);
        writer.write(RecordBatch::untimed(vec![2_u64, 3])).expect("written");
        writer.finish().expect("finished");
    }
    assert_eq!(tree(&env, Path::new("/out"))[0], format!("a/{}0.txt", prefix(1)));
    assert_eq!(get(&env, Path::new(&format!("/out/a/{}0.txt", prefix(1)))), b"2\n3\n");
    assert_eq!(get(&env, Path::new(&format!("/out/b/{}0.txt", prefix(1)))), b"4\n9\n");
}

fn check_csv(format: CsvFormat, text: &str, expected: Expect) {
    expected
        .assert_eq(&transcript(&FileSource::<Flight>::format("/f.csv", format), &env_with("/f.csv", text)));
}

#[test]
fn csv_columns_are_found_by_name_in_any_order_and_unknown_ones_are_ignored() {
    check_csv(
        CsvFormat::new(),
        "miles,ignored,carrier,delay\n1.5,x,UA,2\r\n\r\n\n2,y,DL,\n3,z,\"B6\",4",
        expect![[r#"
            Flight { carrier: "UA", delay: Some(2), miles: 1.5 }
            Flight { carrier: "DL", delay: None, miles: 2.0 }
            Flight { carrier: "B6", delay: Some(4), miles: 3.0 }
        "#]],
    );
}

#[test]
fn csv_options_change_delimiter_quotes_comments_header_and_nulls() {
    check_csv(
        CsvFormat::new().delimiter(b'\t').comment(b'#').null_value("NA").null_value("-"),
        "# made by hand\n#\n\ncarrier\tdelay\tmiles\n# one\nUA\tNA\t1\n#\n#two\nDL\t-\t2\n# end",
        expect![[r#"
            Flight { carrier: "UA", delay: None, miles: 1.0 }
            Flight { carrier: "DL", delay: None, miles: 2.0 }
        "#]],
    );
    check_csv(
        CsvFormat::new().without_header().without_quotes(),
        "\"UA\",1,2\n\"a,2,3\n",
        expect![[r#"
            Flight { carrier: "\"UA\"", delay: Some(1), miles: 2.0 }
            Flight { carrier: "\"a", delay: Some(2), miles: 3.0 }
        "#]],
    );
    check_csv(
        CsvFormat::new().flexible(),
        "carrier,delay,miles\nUA,1,2,3,4\n",
        expect![[r#"
            Flight { carrier: "UA", delay: Some(1), miles: 2.0 }
        "#]],
    );
}

#[test]
fn line_ends_of_all_systems_and_byte_order_marks_are_understood() {
    for line_end in ["\n", "\r\n", "\r"] {
        let text = ["\u{feff}carrier,delay,miles", "UA,1,2", "DL,3,4"].join(line_end);
        for text in [text.clone(), text + line_end] {
            let read = read_all::<Flight>(&FileSource::csv("/f.csv"), &env_with("/f.csv", text), 1, 9);
            assert_eq!(read, [flight("UA", Some(1), 2.0), flight("DL", Some(3), 4.0)], "{line_end:?}");
        }
    }
    let lines = read_all(&FileSource::lines("/f"), &env_with("/f", "\u{feff}a\r\n\n b \r\n\r\nc"), 1, 9);
    assert_eq!(lines, ["a", "", " b ", "", "c"]);
    let json = "\u{feff}{\"carrier\":\"UA\",\"delay\":null,\"miles\":1}\r\n\r\n  \n";
    assert_eq!(
        read_all::<Flight>(&FileSource::json("/f"), &env_with("/f", json), 1, 9),
        [flight("UA", None, 1.0)]
    );
}

#[test]
fn empty_files_hold_no_records() {
    for text in ["", "\n", "\r\n\n", "\u{feff}"] {
        assert_eq!(read_all::<Flight>(&FileSource::csv("/f"), &env_with("/f", text), 2, 9), []);
        assert_eq!(read_all::<Flight>(&FileSource::json("/f"), &env_with("/f", text), 2, 9), []);
    }
    assert_eq!(read_all::<Flight>(&FileSource::csv("/f"), &env_with("/f", "carrier,delay,miles"), 2, 9), []);
    assert_eq!(read_all(&FileSource::lines("/f"), &env_with("/f", ""), 2, 9), [] as [String; 0]);
}

#[test]
fn lines_are_parsed_by_a_function() {
    let parse = LineParser::new(|line: &str| Ok(line.parse::<i64>()?));
    let source = FileSource::format("/f", parse);
    expect![[r#"
        1
        -3
        bad: /f at line 2: invalid digit found in string "two"
    "#]]
    .assert_eq(&transcript(&source, &env_with("/f", "1\ntwo\n-3\n")));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Person,
    Auction { id: u64 },
}

#[test]
fn json_reads_and_writes_nested_values() {
    let env = Simulation::new(1).env();
    let records = vec![(Kind::Person, vec![1, 2]), (Kind::Auction { id: 7 }, Vec::new())];
    let mut writer = writer(&FileSink::format("/out", JsonFormat::new()), &env, 0);
    writer.write(RecordBatch::untimed(records.clone())).expect("written");
    writer.finish().expect("finished");
    assert_eq!(read_all::<(Kind, Vec<i32>)>(&FileSource::json("/out"), &env, 2, 1), records);
}

#[test]
fn archives_of_several_members_are_read_to_their_end() {
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).expect("written");
        encoder.finish().expect("finished")
    };
    let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 1).expect("encoded");
    let env = Simulation::new(1).env();
    put(&env, "/d/a.gz", [gzip("1\n2"), gzip("3\n4\n")].concat());
    put(&env, "/d/b.zst", [zstd("5\n6"), zstd("7\n8\n")].concat());
    put(&env, "/d/c", "9\n");
    assert_eq!(read_all(&FileSource::lines("/d"), &env, 1, 9), ["1", "23", "4", "5", "67", "8", "9"]);
}
