use crate::{check_alike, read_batches};
use flott_api::message::SerializationSchema;
use flott_format_arrow::schema::{DataType, Field, Schema, SchemaRef};
use flott_format_csv::CsvFormat;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    id: u64,
    number: Option<i32>,
    text: String,
    note: Option<String>,
    is_paid: bool,
    share: Option<f64>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::UInt64, false),
        Field::new("number", DataType::Int32, true),
        Field::new("text", DataType::Utf8, false),
        Field::new("note", DataType::Utf8, true),
        Field::new("is_paid", DataType::Boolean, false),
        Field::new("share", DataType::Float64, true),
    ]))
}

prop_compose! {
    fn row()(
        (id, number, text, note, is_paid) in any::<(u64, Option<i32>, String, Option<String>, bool)>(),
        share in prop::option::of(-1e9..1e9),
    ) -> Row {
        Row { id, number, text, note, is_paid, share }
    }
}

fn encoded(format: &CsvFormat, rows: &[Row]) -> Vec<Vec<u8>> {
    let mut encoder = format.create_encoder().expect("an encoder");
    let encode = |row| {
        let mut message = Vec::new();
        // A text that is the null literal cannot be written.
        drop(encoder.encode(row, &mut message));
        message
    };
    rows.iter().map(encode).collect()
}

proptest! {
    #[test]
    fn the_rows_are_those_of_the_serde_type(rows in prop::collection::vec(row(), 0..20), null: bool) {
        let mut format = CsvFormat::new().field_delimiter(b';');
        if null {
            format = format.null_literal("NULL");
        }
        check_alike::<Row>(&format, &format.clone().arrow(schema()), &encoded(&format, &rows));
    }

    #[test]
    fn damaged_messages_are_refused(
        rows in prop::collection::vec((row(), any::<prop::sample::Index>(), "[;\"x1.\n-]"), 1..10),
        ignore_trailing: bool,
    ) {
        let format = CsvFormat::new().field_delimiter(b';').ignore_trailing_unmappable(ignore_trailing);
        let records: Vec<_> = rows.iter().map(|(row, ..)| row.clone()).collect();
        let mut messages = encoded(&format, &records);
        for (message, (_, at, byte)) in messages.iter_mut().zip(&rows) {
            let at = at.index(message.len());
            message.splice(at..=at, byte.bytes());
        }
        check_alike::<Row>(&format, &format.clone().arrow(schema()), &messages);
    }
}

#[test]
fn it_names_the_column() {
    let messages =
        ["1;2;a;;true;", "1;x;a;;true;", "# nothing", "1;2;a"].map(|text| text.as_bytes().to_vec());
    let format = CsvFormat::new().field_delimiter(b';').allow_comments(true);
    let read = read_batches(&format.arrow(schema()), &messages);
    assert_eq!(read.rows[0].num_rows(), 1);
    let expected = [
        (1, "column 'number': expected an integer of 32 bits, found 'x'".to_owned()),
        (3, "expected 6 fields, found 3".to_owned()),
    ];
    assert_eq!(read.malformed, expected);
}
