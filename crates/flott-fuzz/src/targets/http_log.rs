//! The log of an HTTP source, of two files, as a crash has left it.

use super::{cut, joined, put};
use flott_connector_http::fuzzing::known_keys;
use flott_connector_http::read_log;
use flott_env::Env;
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
    file_of(base, &records.iter().map(|record| Entry::Record(record.as_bytes())).collect::<Vec<_>>())
}

/// What stands in a file.
#[derive(Clone, Copy)]
enum Entry<'a> {
    Record(&'a [u8]),
    Key {
        key: &'a [u8],
        n_records: u32,
        /// Whether they follow.
        is_here: bool,
    },
}

fn file_of(base: u64, entries: &[Entry<'_>]) -> Vec<u8> {
    let mut file = [&b"flottlg1"[..], &base.to_le_bytes()].concat();
    let mut number = base;
    for entry in entries {
        let (flag, seed, bytes) = match entry {
            Entry::Record(record) => (0, number, record.to_vec()),
            Entry::Key { key, n_records, is_here } => {
                let bytes = [&[u8::from(*is_here)][..], &[7; 24], &n_records.to_le_bytes(), key].concat();
                (1 << 31, !number, bytes)
            }
        };
        file.extend_from_slice(&(bytes.len() as u32 | flag).to_le_bytes());
        file.extend_from_slice(&XxHash3_64::oneshot_with_seed(seed, &bytes).to_le_bytes());
        file.extend_from_slice(&bytes);
        number += u64::from(matches!(entry, Entry::Record(_)));
    }
    file
}

/// Entries, each with a byte for its kind, one for how many records a key has, and one for its length.
fn read_entries(mut bytes: &[u8]) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    while let Some(([kind, n_records, len], rest)) = bytes.split_first_chunk() {
        let (body, rest) = rest.split_at(rest.len().min((len % 8).into()));
        entries.push(match kind % 3 {
            0 => Entry::Record(body),
            kind => Entry::Key { key: body, n_records: (n_records % 4).into(), is_here: kind == 1 },
        });
        bytes = rest;
    }
    entries
}

/// The records that follow the entry, up to the next key with records of its own.
fn n_records_behind(entries: &[Entry<'_>], idx: usize) -> u32 {
    let behind = entries.iter().skip(idx + 1);
    let of_request = behind.take_while(|entry| !matches!(entry, Entry::Key { is_here: true, .. }));
    of_request.filter(|entry| matches!(entry, Entry::Record(_))).count() as u32
}

/// A log of two files, of which the second is cut where the first two bytes say.
pub(crate) fn recover(bytes: &[u8]) {
    let Some((keep, rest)) = bytes.split_first_chunk() else { return };
    let log = Path::new("/log");
    let (first, second) = cut(rest);
    let (mut first, second) = (read_entries(first), read_entries(second));
    // A second file is begun when what was asked for is in the first.
    first.retain(|entry| !matches!(entry, Entry::Key { is_here: true, .. }));
    let base = first.iter().filter(|entry| matches!(entry, Entry::Record(_))).count() as u64;
    let file = file_of(base, &second);
    let n_kept = usize::from(u16::from_le_bytes(*keep)) % (file.len() + 1);
    let open = |second: &[u8]| -> Option<(Env, Vec<Vec<u8>>)> {
        let env = Simulation::new(1).env();
        if base > 0 {
            put(&env, &log.join(name(0)), &file_of(0, &first));
        }
        put(&env, &log.join(name(base)), second);
        let records = read_log(env.fs(), log).ok()?;
        assert_eq!(read_log(env.fs(), log).expect("was read before"), records);
        Some((env, records))
    };
    let Some((env, whole)) = open(&file) else { return };
    for (key, n_records) in known_keys(env.fs(), log).expect("was read before") {
        let is_it = |(idx, entry): (usize, &Entry<'_>), entries: &[Entry<'_>]| match entry {
            Entry::Key { key: of, n_records: n, is_here } if *of == key.as_bytes() && *n == n_records => {
                !is_here || n_records_behind(entries, idx) >= n_records
            }
            Entry::Key { .. } | Entry::Record(_) => false,
        };
        let is_in = |entries: &[Entry<'_>]| entries.iter().enumerate().any(|entry| is_it(entry, entries));
        assert!(is_in(&first) || is_in(&second), "{key} is known, and its {n_records} records are not there");
    }
    // What is cut off takes no record with it that was there before, but for those of its own request.
    if let Some((_, cut)) = open(file.get(..n_kept).unwrap_or_default()) {
        assert!(whole.starts_with(&cut) && cut.len() as u64 >= base, "{whole:?} {cut:?}");
    }
}

fn name(base: u64) -> String {
    format!("{base:020}.log")
}

pub(crate) fn entries() -> Vec<Vec<u8>> {
    let record = |body: &[u8]| [&[0, 0, body.len() as u8], body].concat();
    let key = |kind, n_records, key: &[u8]| [&[kind, n_records, key.len() as u8], key].concat();
    let first = [key(1, 2, b"a"), record(b"one"), record(b""), record(b"two")].concat();
    let second =
        [key(2, 2, b"a"), key(1, 1, b"b"), record(b"three"), key(1, 3, b"c"), record(b"four")].concat();
    let whole = u16::MAX.to_le_bytes();
    [&first, &second]
        .map(|second| [&whole[..], &joined(&first, second)].concat())
        .into_iter()
        .chain([[&[70, 0][..], &joined(&first, &second)].concat()])
        .collect()
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
