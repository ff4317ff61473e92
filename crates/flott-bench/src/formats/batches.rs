//! Messages to Arrow batches, as many at once as a reader takes by default.

use super::{Decode, avro as avro_format, checksum};
use flott_api::message::DeserializationSchema;
use flott_format_arrow::array::{Array, Int64Array, StringArray};
use flott_format_arrow::schema::{DataType, Field, Schema, SchemaRef};
use flott_format_arrow::{ArrowBatch, ArrowFormat};
use flott_format_csv::CsvFormat;
use flott_format_json::JsonFormat;
use flott_format_protobuf::ProtobufFormat;
use prost::Message;
use prost_reflect::prost_types::field_descriptor_proto::Type;
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};
use std::sync::Arc;

const BATCH_MESSAGES: usize = 1024;

/// The columns, and what they are as Protocol Buffers.
const COLUMNS: [(&str, DataType, Type); 7] = [
    ("auction", DataType::Int64, Type::Int64),
    ("bidder", DataType::Int64, Type::Int64),
    ("price", DataType::Int64, Type::Int64),
    ("channel", DataType::Utf8, Type::String),
    ("url", DataType::Utf8, Type::String),
    ("date_time", DataType::Int64, Type::Int64),
    ("extra", DataType::Utf8, Type::String),
];

fn schema() -> SchemaRef {
    let field = |(name, data_type, _)| Field::new(name, data_type, false);
    Arc::new(Schema::new(COLUMNS.map(field).to_vec()))
}

pub(super) fn json() -> Decode {
    decoder(&JsonFormat::new().arrow(schema()))
}

pub(super) fn csv() -> Decode {
    decoder(&CsvFormat::new().arrow(schema()))
}

pub(super) fn avro() -> Decode {
    decoder(&avro_format().arrow().expect("columns"))
}

pub(super) fn protobuf() -> Decode {
    let field = |(idx, (name, _, kind)): (usize, (&str, DataType, Type))| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(idx as i32 + 1),
        r#type: Some(kind.into()),
        ..FieldDescriptorProto::default()
    };
    let message = DescriptorProto {
        name: Some("Bid".to_owned()),
        field: COLUMNS.into_iter().enumerate().map(field).collect(),
        ..DescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("bid.proto".to_owned()),
        message_type: vec![message],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    };
    let files = FileDescriptorSet { file: vec![file] }.encode_to_vec();
    decoder(&ProtobufFormat::<()>::new().arrow(&files, "Bid").expect("columns"))
}

fn decoder(format: &ArrowFormat) -> Decode {
    let mut decoder = format.create_decoder().expect("made");
    Box::new(move |messages| {
        let mut batches = Vec::new();
        let mut sum = 0_u64;
        for (idx, message) in messages.iter().enumerate() {
            decoder.decode(message, &mut batches).expect("kept");
            if (idx + 1) % BATCH_MESSAGES == 0 || idx + 1 == messages.ends.len() {
                decoder.flush(&mut batches, &mut |bad| panic!("{bad:?}")).expect("flushed");
                sum = batches.drain(..).map(|batch| checksum_of(&batch)).fold(sum, u64::wrapping_add);
            }
        }
        sum
    })
}

fn integers(batch: &ArrowBatch, name: &str) -> Vec<u64> {
    let column = batch.column_by_name(name).expect("a column").as_any();
    let column = column.downcast_ref::<Int64Array>().expect("integers");
    column.values().iter().map(|value| value.cast_unsigned()).collect()
}

fn checksum_of(batch: &ArrowBatch) -> u64 {
    let numbers = ["auction", "bidder", "price", "date_time"].map(|name| integers(batch, name));
    let texts = ["channel", "url", "extra"].map(|name| {
        let column = batch.column_by_name(name).expect("a column").as_any();
        column.downcast_ref::<StringArray>().expect("texts")
    });
    (0..batch.num_rows())
        .map(|row| {
            let numbers = numbers.each_ref().map(|column| column.get(row).copied().unwrap_or_default());
            checksum(numbers, texts.iter().map(|column| column.value(row).len()).sum())
        })
        .fold(0_u64, u64::wrapping_add)
}
