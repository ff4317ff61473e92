//! Messages of brokers: what is decoded is encoded and decoded again, and must be the same.

use super::tagged;
use flott_api::message::{DecodeError, DeserializationSchema, MessageDecoder, SerializationSchema};
use flott_format_csv::CsvFormat;
use flott_format_json::{DebeziumJsonFormat, JsonFormat};
use flott_types::RowChange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;

/// A record with everything that records have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    name: String,
    number: Option<i32>,
    #[serde(default)]
    list: Vec<Kind>,
    #[serde(default)]
    map: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    Struct { share: Option<f64> },
    Inner(Box<Record>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    name: String,
    number: Option<i32>,
    letter: char,
}

/// The records of a message, if it has any; a format without a registry says at once what it thinks of it. What a decoder has read
/// before makes no difference, whether that was a message or not (FLINK-34474).
pub(super) fn decode<T: Debug>(schema: &impl DeserializationSchema<T>, message: &[u8]) -> Option<Vec<T>> {
    let records = decode_next(&mut *schema.create_decoder().expect("made"), message);
    let mut used = schema.create_decoder().expect("made");
    let (half, _) = message.split_at(message.len() / 2);
    for before in [message, half] {
        drop(used.decode(before, &mut Vec::new()));
        let again = decode_next(&mut *used, message);
        assert_eq!(format!("{again:?}"), format!("{records:?}"), "after {}", before.escape_ascii());
    }
    records
}

fn decode_next<T>(decoder: &mut dyn MessageDecoder<T>, message: &[u8]) -> Option<Vec<T>> {
    let mut records = Vec::new();
    match decoder.decode(message, &mut records) {
        Ok(()) => Some(records),
        Err(DecodeError::Malformed(_)) => None,
        Err(DecodeError::Failed(error)) => panic!("{error:?}"),
    }
}

/// Decodes, and looks whether records come back as `expected` says if they are written and read again.
pub(super) fn round_trip<T: Debug + PartialEq>(
    format: &(impl DeserializationSchema<T> + SerializationSchema<T>),
    message: &[u8],
    expected: impl Fn(T) -> T,
) {
    for record in decode(format, message).into_iter().flatten() {
        let mut again = Vec::new();
        if format.create_encoder().expect("made").encode(&record, &mut again).is_ok() {
            assert_eq!(decode(format, &again), Some(vec![expected(record)]), "{}", again.escape_ascii());
        }
    }
}

pub(crate) fn json(bytes: &[u8]) {
    round_trip::<Record>(&JsonFormat::new(), bytes, |record| record);
    round_trip::<Record>(&JsonFormat::new().encode_ignore_null_fields(true), bytes, |record| record);
    let strict = JsonFormat::new().fail_on_missing_field(true).ignore_unknown_fields(false);
    round_trip::<Record>(&strict, bytes, |record| record);
    // What a strict reader takes, the other takes, too, for the same.
    if let Some(records) = decode::<Record>(&strict, bytes) {
        assert_eq!(decode(&JsonFormat::new(), bytes), Some(records));
    }
}

pub(crate) fn debezium(bytes: &[u8]) {
    use flott_types::RowKind::{Delete, Insert};
    let as_read =
        |RowChange { kind, row }| RowChange { kind: if kind.is_addition() { Insert } else { Delete }, row };
    round_trip::<RowChange<Record>>(&DebeziumJsonFormat::new(), bytes, as_read);
    decode::<RowChange<Record>>(&DebeziumJsonFormat::new().schema_include(true), bytes);
}

pub(crate) fn csv(bytes: &[u8]) {
    let Some((how, message)) = bytes.split_first() else { return };
    let format = match how % 4 {
        0 => CsvFormat::new(),
        1 => CsvFormat::new().field_delimiter(b';').quote_character(b'\'').allow_comments(true),
        2 => CsvFormat::new().escape_character(b'\\'),
        _ => CsvFormat::new().null_literal("NULL").ignore_trailing_unmappable(true),
    };
    round_trip::<Row>(&format, message, |row| row);
    round_trip::<(u8, bool)>(&format, message, |row| row);
    decode::<Vec<Option<f64>>>(&format, message);
    decode::<Row>(&format.disable_quote_character(), message);
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let inner = r#"{"name":"inner","number":null,"list":["Unit"],"map":{}}"#;
    let whole = format!(
        r#" {{"more":[{{}}],"name":"a\u00e9\"","number":-7,"list":["Unit",{{"Struct":{{"share":1.5e3}}}},{{"Inner":{inner}}}],"map":{{"k":1}}}}"#
    );
    [whole.as_str(), inner, r#"{"name":"x"}"#, "[]"].map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(crate) fn debezium_seeds() -> Vec<Vec<u8>> {
    let change = |op| {
        format!(
            r#"{{"before":{{"name":"a","number":1}},"after":{{"name":"b"}},"source":{{"lsn":5}},"op":"{op}"}}"#
        )
    };
    let mut seeds: Vec<_> = ["c", "r", "u", "d", "t", "m"].map(|op| change(op).into_bytes()).to_vec();
    seeds.push(format!(r#"{{"schema":{{"type":"struct"}},"payload":{}}}"#, change("u")).into_bytes());
    seeds.push(b"null".to_vec());
    seeds
}

pub(crate) fn csv_seeds() -> Vec<Vec<u8>> {
    let rows = ["\"a,\"\"b\n\",7,x\r\n", "'a;';;y", "\"a\\\"\",-1,z", "a,NULL,x,more", "1,true", "1.5,,2"];
    rows.iter().zip([0, 1, 2, 3, 0, 0]).map(|(row, how)| tagged(how, row.as_bytes())).collect()
}
