//! Tests of the source and the sink as a job sees them, on the simulation's files unless they say otherwise.

mod bad_input;
mod bad_records;
mod commits;
mod compaction;
mod contract;
mod crashes;
mod directories;
mod formats;
mod harness;
mod partitions;
mod positions;
mod rolling;

use crate::FileSource;
use crate::pending::SinkKey;
use flott_api::testing::{ReadRecords, SourceDriver};
use flott_api::{Sink, SinkContext};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::{Data, SubtaskIndex};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flight {
    carrier: String,
    delay: Option<i32>,
    miles: f64,
}

fn flight(carrier: &str, delay: Option<i32>, miles: f64) -> Flight {
    Flight { carrier: carrier.to_owned(), delay, miles }
}

fn put(env: &Env, path: &str, bytes: impl AsRef<[u8]>) {
    let path = Path::new(path);
    env.fs().create_dir_all(path.parent().expect("a directory")).expect("created");
    let mut file = env.fs().create(path).expect("created");
    file.write_all(bytes.as_ref()).expect("written");
    file.sync().expect("synced");
}

fn get(env: &Env, path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    env.fs().open(path).expect("there is a file").read_to_end(&mut bytes).expect("read");
    bytes
}

/// A world with one file.
fn env_with(path: &str, bytes: impl AsRef<[u8]>) -> Env {
    let env = Simulation::new(1).env();
    put(&env, path, bytes);
    env
}

/// All records of a source that has no errors and no bad records.
fn read_all<T: Data>(source: &FileSource<T>, env: &Env, parallelism: u32, records_max: usize) -> Vec<T> {
    let read = read(source, env, parallelism, records_max).expect("reads");
    assert!(read.bad_records.is_empty(), "{:?}", read.bad_records);
    read.into_records()
}

fn read<T: Data>(
    source: &FileSource<T>,
    env: &Env,
    parallelism: u32,
    records_max: usize,
) -> Result<ReadRecords<T>, String> {
    let mut driver = SourceDriver::start(source, env, parallelism).map_err(|error| error.report())?;
    let read = driver.read_available(records_max).map_err(|failed| failed.error.report())?;
    assert!(driver.has_ended());
    Ok(read)
}

/// What is read of a file, a line each: records as they debug, and what is said about the others.
fn transcript<T: Data + std::fmt::Debug>(source: &FileSource<T>, env: &Env) -> String {
    let mut driver = match SourceDriver::start(source, env, 1) {
        Ok(driver) => driver,
        Err(error) => return format!("error: {}\n", error.report()),
    };
    let (read, error) = match driver.read_available(1) {
        Ok(read) => (read, None),
        Err(failed) => (failed.before, Some(failed.error)),
    };
    let mut lines: Vec<String> = read.records.iter().map(|(_, record, _)| format!("{record:?}\n")).collect();
    for bad in read.bad_records {
        let raw: String = String::from_utf8_lossy(&bad.raw).chars().take(40).collect();
        lines.push(format!(
            "bad: {} at {}: {} {raw:?}{}\n",
            bad.split,
            bad.position,
            bad.message,
            if bad.is_truncated { "…" } else { "" }
        ));
    }
    lines.extend(error.map(|error| format!("error: {}\n", error.report())));
    lines.concat()
}

fn context(env: &Env, subtask: u32) -> SinkContext {
    SinkContext::new(env.clone(), SubtaskIndex(subtask), 2, 0xabc)
}

/// What the names of the files of a subtask begin with.
fn prefix(subtask: u32) -> String {
    format!("part-{subtask}-{:016x}-", SinkKey::new(&context(&Simulation::new(1).env(), subtask)).run)
}

fn writer<T, S: Sink<T>>(sink: &S, env: &Env, subtask: u32) -> S::Writer {
    sink.create_writer(context(env, subtask)).expect("a writer")
}

/// The names of all files below a directory, hidden ones too, relative to it.
fn tree(env: &Env, directory: &Path) -> Vec<String> {
    fn walk(env: &Env, root: &Path, directory: &Path, names: &mut Vec<String>) {
        for path in env.fs().list(directory).expect("a directory") {
            if env.fs().metadata(&path).expect("it is there").is_dir {
                walk(env, root, &path, names);
            } else {
                names.push(path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned());
            }
        }
    }
    let mut names = Vec::new();
    walk(env, directory, directory, &mut names);
    names
}
