//! The decoders.

pub(crate) mod batches;
pub(crate) mod cold;
pub(crate) mod config;
pub(crate) mod encoded;
pub(crate) mod entries;
pub(crate) mod files;
pub(crate) mod http_log;
pub(crate) mod joins;
pub(crate) mod kafka;
pub(crate) mod keyed_state;
pub(crate) mod messages;
pub(crate) mod operator_state;
pub(crate) mod operators;
pub(crate) mod parts;
pub(crate) mod postgres;
pub(crate) mod sinks;
pub(crate) mod snapshots;
pub(crate) mod socket;
pub(crate) mod splits;
pub(crate) mod sqlite;
pub(crate) mod values;

use flott_env::Env;
use std::io::Write;
use std::path::Path;

/// Puts a file onto the disk of a simulated world.
fn put(env: &Env, path: &Path, bytes: &[u8]) {
    env.fs().create_dir_all(path.parent().unwrap_or(path)).expect("created");
    env.fs().create(path).expect("created").write_all(bytes).expect("written");
}

/// Cuts `bytes` in two: the first two say how long the first piece is.
fn cut(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk() else { return (&[], &[]) };
    rest.split_at_checked(u16::from_le_bytes(*len).into()).unwrap_or((rest, &[]))
}

/// The reverse of [`cut`].
fn joined(first: &[u8], second: &[u8]) -> Vec<u8> {
    [&(first.len() as u16).to_le_bytes()[..], first, second].concat()
}

/// The input with a first byte that says how the rest is used.
fn tagged(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag], bytes].concat()
}
