//! The log of an HTTP source, of two files, as a crash has left it.

use super::{cut, joined, put};
use flott_connector_http::read_log;
use flott_env::sim::Simulation;
use std::path::Path;
use twox_hash::XxHash3_64;

pub(crate) fn read(bytes: &[u8]) {
    let (first, second) = cut(bytes);
    let env = Simulation::new(1).env();
    let directory = Path::new("/log");
    put(&env, &directory.join("00000000000000000000.log"), first);
    put(&env, &directory.join("00000000000000000002.log"), second);
    // What is recovered is recovered a second time.
    if let Ok(records) = read_log(env.fs(), directory) {
        assert_eq!(read_log(env.fs(), directory).expect("was read before"), records);
    }
}

fn file(base: u64, records: &[&str]) -> Vec<u8> {
    let mut file = [&b"flottlg1"[..], &base.to_le_bytes()].concat();
    for (number, record) in (base..).zip(records) {
        file.extend_from_slice(&(record.len() as u32).to_le_bytes());
        file.extend_from_slice(&XxHash3_64::oneshot_with_seed(number, record.as_bytes()).to_le_bytes());
        file.extend_from_slice(record.as_bytes());
    }
    file
}

pub(crate) fn logs() -> Vec<Vec<u8>> {
    let logs = [file(0, &["one", "two"]), file(2, &["three", "", "four"])];
    let [first, second] = &logs;
    assert_eq!(
        whole(first, second),
        ["one", "two", "three", "", "four"].map(|record| record.as_bytes().to_vec())
    );
    vec![joined(first, second), joined(first, &file(2, &["three"])), joined(&file(0, &["one"]), second)]
}

/// What a log that nothing has happened to holds.
fn whole(first: &[u8], second: &[u8]) -> Vec<Vec<u8>> {
    let env = Simulation::new(1).env();
    put(&env, Path::new("/log/00000000000000000000.log"), first);
    put(&env, Path::new("/log/00000000000000000002.log"), second);
    read_log(env.fs(), Path::new("/log")).expect("a good log")
}
