//! The loops: one thread, records one after the other as the generator makes them, no engine.
//!
//! The generator hands them whole records in blocks, as it does to everybody: a loop does not skip the making of the
//! fields that it does not read. They may rely on what they see: the standard stream is in order, so event time is that of the last record. Ids are
//! opaque keys to them: tables hash, although a generator's ids happen to be dense.

mod joins;
mod stateless;
mod windows;

use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;

use flott_connector_nexmark::oracle::Fingerprint;
use flott_connector_nexmark::{NexmarkRecord, Sequence};
use flott_nexmark::Query;
use serde::Serialize;

use super::config;
use crate::hash::key_hash;
use crate::records::BLOCK_LEN;
use crate::scenario::Outcome;

pub(super) fn run(query: Query, events: u64) -> Outcome {
    Outcome::measure(|| match query {
        Query::Q0 => stateless::q0(events).0.into(),
        Query::Q1 => stateless::q1(events).0.into(),
        Query::Q2 => stateless::q2(events).0.into(),
        Query::Q3 => joins::q3(events).0.into(),
        Query::Q4 => joins::q4(events).0.into(),
        Query::Q5 => windows::q5(events).0.into(),
        Query::Q7 => windows::q7(events).0.into(),
        Query::Q8 => joins::q8(events).0.into(),
        Query::Q11 => windows::q11(events).0.into(),
        Query::Q12 => windows::q12(events),
    })
}

/// What was emitted.
#[derive(Debug, Default)]
struct Results(Fingerprint);

impl Results {
    #[inline(always)]
    fn add<T: Serialize>(&mut self, result: &T) {
        self.0.add(result);
    }
}

fn sequence<R: NexmarkRecord>(events: u64) -> Sequence<R> {
    Sequence::new(&config(events)).expect("the standard options are valid")
}

/// Calls `each` with all records, block by block.
#[inline(always)]
fn for_each_block<R: NexmarkRecord>(events: u64, mut each: impl FnMut(&[R])) {
    let sequence = sequence::<R>(events);
    let mut block = Vec::with_capacity(BLOCK_LEN as usize);
    for start in (0..sequence.len()).step_by(BLOCK_LEN as usize) {
        block.clear();
        let end = (start + BLOCK_LEN).min(sequence.len());
        block.extend((start..end).map(|position| sequence.get(position)));
        each(black_box(&block));
    }
}

/// Calls `each` with all records.
#[inline(always)]
fn for_each<R: NexmarkRecord>(events: u64, mut each: impl FnMut(&R)) {
    for_each_block(events, |block| block.iter().for_each(&mut each));
}

/// A general map, with the hash of the other hand-written versions.
type KeyMap<V> = hashbrown::HashMap<u64, V, BuildHasherDefault<KeyHasher>>;

#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    #[inline(always)]
    fn write_u64(&mut self, key: u64) {
        self.0 = key_hash(self.0 ^ key);
    }
}
