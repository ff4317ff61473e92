//! Arrow batches beside serde records: the same rows of the same messages, and the same messages malformed.

mod avro;
mod batches;
mod columns;
mod csv;
mod json;
mod protobuf;

use flott_api::message::{DecodeError, DeserializationSchema};
use flott_format_arrow::{ArrowBatch, ArrowFormat};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// What the messages say: rows in order, and what is wrong with those that say nothing, by their numbers.
#[derive(Debug, PartialEq)]
struct Read<T> {
    rows: Vec<T>,
    malformed: Vec<(usize, String)>,
}

fn read_rows<T: Debug>(schema: &impl DeserializationSchema<T>, messages: &[Vec<u8>]) -> Read<T> {
    let mut decoder = schema.create_decoder().expect("a decoder");
    let (mut rows, mut malformed) = (Vec::new(), Vec::new());
    for (idx, message) in messages.iter().enumerate() {
        let mut out = Vec::new();
        match decoder.decode(message, &mut out) {
            Ok(()) => rows.append(&mut out),
            Err(DecodeError::Malformed(why)) => malformed.push((idx, why)),
            Err(DecodeError::Failed(error)) => panic!("{error:?}"),
        }
    }
    Read { rows, malformed }
}

fn read_batches(format: &ArrowFormat, messages: &[Vec<u8>]) -> Read<ArrowBatch> {
    let mut decoder = format.create_decoder().expect("a decoder");
    let (mut rows, mut malformed) = (Vec::new(), Vec::new());
    for message in messages {
        decoder.decode(message, &mut rows).expect("it is looked at later");
    }
    assert!(rows.is_empty(), "batches are made when the reader says so");
    decoder
        .flush(&mut rows, &mut |bad| {
            assert_eq!(bad.message, messages[bad.idx]);
            malformed.push((bad.idx, bad.why));
        })
        .expect("flushed");
    Read { rows, malformed }
}

/// The rows of the batches as records.
fn rows_of<T: DeserializeOwned>(batches: &[ArrowBatch]) -> Vec<T> {
    let rows = |batch: &ArrowBatch| serde_arrow::from_record_batch::<Vec<T>>(batch).expect("rows");
    batches.iter().flat_map(rows).collect()
}

/// The same rows, and the same messages malformed.
fn check_alike<T: DeserializeOwned + Debug + PartialEq>(
    rows: &impl DeserializationSchema<T>,
    batches: &ArrowFormat,
    messages: &[Vec<u8>],
) {
    let expected = read_rows::<T>(rows, messages);
    let Read { rows: found, malformed } = read_batches(batches, messages);
    assert_eq!(rows_of::<T>(&found), expected.rows);
    let numbers = |malformed: &[(usize, String)]| malformed.iter().map(|(idx, _)| *idx).collect::<Vec<_>>();
    assert_eq!(numbers(&malformed), numbers(&expected.malformed), "{malformed:?} {:?}", expected.malformed);
    let n_good = messages.len() - malformed.len();
    assert!(found.len() <= 1 && (n_good > 0 || found.is_empty()), "one batch for all");
}
