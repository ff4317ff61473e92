use super::{put, read_all};
use crate::FileSource;
use flott_api::testing::SourceDriver;
use flott_api::{Boundedness, Source};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::SubtaskIndex;
use std::path::Path;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn tree() -> Env {
    let env = Simulation::new(1).env();
    for (path, text) in [
        ("/d/a.txt", "a\n"),
        ("/d/b.csv", "b\n"),
        ("/d/.hidden", "hidden\n"),
        ("/d/_SUCCESS", ""),
        ("/d/.part-0.inprogress", "torn"),
        ("/d/sub/c.txt", "c\n"),
        ("/d/sub/deep/d.txt", "d\n"),
        ("/d/_sub/e.txt", "hidden\n"),
        ("/d/.sub/f.txt", "hidden\n"),
    ] {
        put(&env, path, text);
    }
    env
}

#[test]
fn files_are_chosen_by_depth_and_name_and_hidden_ones_left_out() {
    let env = tree();
    let lines = |source: FileSource<String>| read_all(&source, &env, 1, 10).concat();
    let source = || FileSource::lines("/d");
    assert_eq!(lines(source()), "ab");
    assert_eq!(lines(source().recursive()), "abcd");
    assert_eq!(lines(source().with_name_glob("*.txt")), "a");
    assert_eq!(lines(source().recursive().with_name_glob("?.t*t")), "acd");
    assert_eq!(lines(source().with_name_glob("a.tx")), "");
    assert_eq!(lines(source().with_name_glob("axtxt")), "");
    assert_eq!(lines(source().recursive().with_name_regex("^[bd]").expect("a regular expression")), "bd");
    assert_eq!(lines(source().with_name_filter(|name| name.ends_with("csv"))), "b");
    assert_eq!(lines(FileSource::lines("/d/sub").and_path("/d/b.csv").and_path("/d/sub/c.txt")), "bc");
    // A file that is named is read whatever its name is.
    assert_eq!(lines(FileSource::lines("/d/.hidden")), "hidden");
    let error = source().with_name_regex("(").expect_err("no regular expression");
    assert!(
        error.report().starts_with("'(' is no regular expression for file names: "),
        "{}",
        error.report()
    );
}

#[test]
fn an_empty_directory_is_an_empty_source() {
    let env = Simulation::new(1).env();
    env.fs().create_dir_all(Path::new("/empty")).expect("created");
    assert_eq!(read_all(&FileSource::lines("/empty"), &env, 2, 10), [] as [String; 0]);
}

#[test]
fn readers_get_about_as_many_bytes_each() {
    let env = Simulation::new(1).env();
    for (name, n) in [("a", 900), ("b", 100), ("c", 400), ("d", 300), ("e", 300)] {
        put(&env, &format!("/d/{name}"), "xx\n".repeat(n));
    }
    let mut driver = SourceDriver::start(&FileSource::lines("/d"), &env, 2).expect("starts");
    let mut cx = Context::from_waker(Waker::noop());
    let mut n_records = [0, 0];
    for (subtask, n) in n_records.iter_mut().enumerate() {
        while let Poll::Ready(read) = driver.poll_one(&mut cx, SubtaskIndex(subtask as u32), 100) {
            *n += read.expect("reads").records.len();
        }
    }
    assert_eq!(n_records, [900, 1100]);
}

#[test]
fn a_watched_directory_yields_each_new_file_once() {
    let env = tree();
    let source = FileSource::lines("/d").monitor_continuously(Duration::from_secs(1));
    assert_eq!(source.boundedness(), Boundedness::ContinuousUnbounded);
    let mut driver = SourceDriver::start(&source, &env, 2).expect("starts");
    let read = |driver: &mut SourceDriver<FileSource<String>>| {
        let mut records = driver.read_available(10).expect("reads").into_records();
        records.sort_unstable();
        records.concat()
    };
    assert_eq!(read(&mut driver), "ab");
    driver.discover().expect("discovers");
    assert_eq!(read(&mut driver), "");
    put(&env, "/d/g", "g1\ng2\n");
    put(&env, "/d/.later", "h\n");
    driver.discover().expect("discovers");
    assert_eq!(read(&mut driver), "g1g2");
    env.fs().rename(Path::new("/d/.later"), Path::new("/d/later")).expect("renamed");
    put(&env, "/d/g", "changed\n");
    driver.discover().expect("discovers");
    assert_eq!(read(&mut driver), "h");
    assert!(!driver.has_ended());

    // What was found before a snapshot is not found again after it.
    put(&env, "/d/i", "i\n");
    driver.discover().expect("discovers");
    let snapshot = driver.snapshot().expect("a snapshot");
    put(&env, "/d/j", "j\n");
    let mut driver = SourceDriver::restore(&source, &env, 1, snapshot).expect("restores");
    assert_eq!(read(&mut driver), "i");
    driver.discover().expect("discovers");
    assert_eq!(read(&mut driver), "j");
}

#[test]
fn a_watched_directory_yields_every_record_once_wherever_the_job_restarts() {
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).expect("written");
        encoder.finish().expect("finished")
    };
    // One file more each time the directory is looked at.
    let stages: [(&str, Vec<u8>); 5] = [
        ("/w/a", b"a1\na2\na3\n".to_vec()),
        ("/w/b.gz", gzip("b1\nb2\nb3\n")),
        ("/w/c.zst", zstd::encode_all(&b"c1\nc2\n"[..], 1).expect("encoded")),
        ("/w/0", b"01\n\n02".to_vec()),
        ("/w/e", Vec::new()),
    ];
    let expected = ["", "01", "02", "a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2"];
    let source = FileSource::lines("/w").monitor_continuously(Duration::from_secs(1)).split_bytes(4);
    // A restart before the call with this number, and another so many calls later.
    for first in 0..24 {
        for second in 1..8 {
            let env = Simulation::new(1).env();
            env.fs().create_dir_all(Path::new("/w")).expect("created");
            let mut driver = SourceDriver::start(&source, &env, 2).expect("starts");
            let mut cx = Context::from_waker(Waker::noop());
            let mut records = Vec::new();
            for call in 0..32 {
                if let Some((path, content)) = stages.get(call / 3).filter(|_| call % 3 == 0) {
                    put(&env, path, content);
                }
                if call == first || call == first + second {
                    // Between the file's appearance and its discovery, too.
                    let mut snapshot = driver.snapshot().expect("a snapshot");
                    // What is read and discovered after the snapshot is done again.
                    driver.discover().expect("discovers");
                    drop(driver.poll_all(&mut cx, 1));
                    let bytes = flott_state::encode("splits", &snapshot.splits).expect("encodes");
                    snapshot.splits = flott_state::decode("splits", &bytes).expect("decodes");
                    driver = SourceDriver::restore(&source, &env, 1 + call as u32 % 3, snapshot)
                        .expect("restores");
                }
                if call % 2 == 0 {
                    driver.discover().expect("discovers");
                }
                if let Poll::Ready(read) = driver.poll_all(&mut cx, 1) {
                    records.extend(read.expect("reads").into_records());
                }
            }
            records.extend(driver.read_available(10).expect("reads").into_records());
            records.sort_unstable();
            assert_eq!(records, expected, "restarts before call {first} and {second} later");
        }
    }
}

#[test]
fn a_bounded_source_keeps_to_the_files_it_found_first() {
    let env = tree();
    let source = FileSource::lines("/d");
    let mut driver = SourceDriver::start(&source, &env, 1).expect("starts");
    let snapshot = driver.snapshot().expect("a snapshot");
    put(&env, "/d/new", "new\n");
    let mut driver = SourceDriver::restore(&source, &env, 3, snapshot).expect("restores");
    assert_eq!(driver.read_available(1).expect("reads").into_records().concat(), "ab");
    assert!(driver.has_ended());
}

#[test]
fn real_files_are_read_too() {
    let env = Env::real().expect("an environment");
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    put(&env, &path("a"), "1\n2\n3");
    put(&env, &path("sub/b.zst"), zstd::encode_all(&b"4\n5\n"[..], 1).expect("encoded"));
    let source = FileSource::lines(directory.path()).recursive().split_bytes(2);
    let mut records = read_all(&source, &env, 2, 1);
    records.sort_unstable();
    assert_eq!(records.concat(), "12345");
}
