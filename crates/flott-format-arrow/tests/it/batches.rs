use crate::{Read, read_batches};
use flott_api::message::DeserializationSchema;
use flott_format_arrow::array::{Array, BinaryArray, Int64Array, RecordBatch, StringArray};
use flott_format_arrow::schema::{DataType, Field, Schema};
use flott_format_arrow::{ArrowBatch, ArrowFormat};
use flott_format_json::JsonFormat;
use std::sync::Arc;

fn batch() -> ArrowBatch {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true).with_metadata([("unit".to_owned(), "m".to_owned())].into()),
    ]);
    let names = StringArray::from(vec![Some("a"), None, Some("ü")]);
    let columns = vec![Arc::new(Int64Array::from(vec![1, 2, 3])) as _, Arc::new(names) as _];
    ArrowBatch(RecordBatch::try_new(Arc::new(schema), columns).expect("a batch"))
}

#[test]
fn a_batch_comes_back_from_a_snapshot_with_its_schema() {
    for batch in [batch(), ArrowBatch(batch().slice(1, 2)), ArrowBatch(batch().slice(0, 0))] {
        let bytes = postcard::to_stdvec(&batch).expect("written");
        let read: ArrowBatch = postcard::from_bytes(&bytes).expect("read");
        assert_eq!(read, batch);
        assert_eq!(read.schema(), batch.schema());
    }
}

#[test]
fn bytes_that_are_no_batch_are_an_error() {
    let bytes = postcard::to_stdvec(&batch()).expect("written");
    for end in [1, 10, bytes.len() / 2] {
        let cut = postcard::to_stdvec(&serde_bytes_of(&bytes[2..end + 2])).expect("written");
        let error = postcard::from_bytes::<ArrowBatch>(&cut);
        assert!(error.is_err(), "{end}");
    }
}

fn serde_bytes_of(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

#[test]
fn a_row_format_says_how_batches_are_made() {
    let mut records: Vec<ArrowBatch> = Vec::new();
    let malformed = JsonFormat::new().create_decoder().expect("a decoder").decode(b"{}", &mut records);
    assert!(format!("{malformed:?}").contains("by its method `arrow`"), "{malformed:?}");
}

#[test]
fn raw_messages_are_a_column_even_if_they_are_empty() {
    let messages = [b"a".to_vec(), Vec::new(), vec![0, 255]];
    let Read { rows, malformed } = read_batches(&ArrowFormat::raw("value"), &messages);
    assert_eq!((rows.len(), malformed.len()), (1, 0));
    let column: &BinaryArray = rows[0].column(0).as_any().downcast_ref().expect("bytes");
    assert_eq!(
        column.iter().flatten().collect::<Vec<_>>(),
        messages.iter().map(Vec::as_slice).collect::<Vec<_>>()
    );
}

#[test]
fn a_flush_without_messages_gives_no_batch_and_numbers_begin_anew() {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::UInt64, false)]));
    let mut decoder = JsonFormat::new().arrow(schema).create_decoder().expect("a decoder");
    let (mut batches, mut malformed) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        decoder.flush(&mut batches, &mut |bad| malformed.push(bad.idx)).expect("flushed");
        assert!(batches.is_empty() && malformed.is_empty());
    }
    for _ in 0..2 {
        for message in [&b"{\"id\":1}"[..], b"", b"{}", b"{\"id\":2}"] {
            decoder.decode(message, &mut batches).expect("kept");
        }
        decoder.flush(&mut batches, &mut |bad| malformed.push(bad.idx)).expect("flushed");
    }
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(malformed, [2, 2]);
}
