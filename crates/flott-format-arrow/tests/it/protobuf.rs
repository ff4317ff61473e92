use crate::{check_alike, read_batches, read_rows, rows_of};
use flott_format_protobuf::ProtobufFormat;
use flott_schema_registry::testing::TestRegistry;
use flott_schema_registry::{Schema, SchemaRegistry, SchemaType};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MessageOptions,
    OneofDescriptorProto,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
struct Order {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, optional, tag = "2")]
    note: Option<String>,
    #[prost(sint32, repeated, tag = "3")]
    numbers: Vec<i32>,
    #[prost(btree_map = "string, double", tag = "4")]
    shares: BTreeMap<String, f64>,
    #[prost(message, optional, tag = "5")]
    inner: Option<Inner>,
    #[prost(message, repeated, tag = "6")]
    lines: Vec<Inner>,
    #[prost(bool, tag = "7")]
    is_paid: bool,
    #[prost(float, tag = "8")]
    share: f32,
}

#[derive(Clone, PartialEq, Message, Serialize, Deserialize)]
struct Inner {
    #[prost(int64, tag = "1")]
    a: i64,
    #[prost(fixed32, tag = "2")]
    b: u32,
}

fn field(name: &str, number: i32, r#type: Type, label: Label) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(r#type.into()),
        ..FieldDescriptorProto::default()
    }
}

/// `example.Order` as a compiler of `.proto` files describes it.
fn files() -> Vec<u8> {
    let of = |field: FieldDescriptorProto, name: &str| FieldDescriptorProto {
        type_name: Some(format!(".example.{name}")),
        ..field
    };
    let entry = DescriptorProto {
        name: Some("SharesEntry".to_owned()),
        field: vec![
            field("key", 1, Type::String, Label::Optional),
            field("value", 2, Type::Double, Label::Optional),
        ],
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..DescriptorProto::default()
    };
    let note = FieldDescriptorProto {
        oneof_index: Some(0),
        proto3_optional: Some(true),
        ..field("note", 2, Type::String, Label::Optional)
    };
    let order = DescriptorProto {
        name: Some("Order".to_owned()),
        field: vec![
            field("id", 1, Type::Uint64, Label::Optional),
            note,
            field("numbers", 3, Type::Sint32, Label::Repeated),
            of(field("shares", 4, Type::Message, Label::Repeated), "Order.SharesEntry"),
            of(field("inner", 5, Type::Message, Label::Optional), "Inner"),
            of(field("lines", 6, Type::Message, Label::Repeated), "Inner"),
            field("is_paid", 7, Type::Bool, Label::Optional),
            field("share", 8, Type::Float, Label::Optional),
        ],
        nested_type: vec![entry],
        oneof_decl: vec![OneofDescriptorProto { name: Some("_note".to_owned()), options: None }],
        ..DescriptorProto::default()
    };
    let inner = DescriptorProto {
        name: Some("Inner".to_owned()),
        field: vec![
            field("a", 1, Type::Int64, Label::Optional),
            field("b", 2, Type::Fixed32, Label::Optional),
        ],
        ..DescriptorProto::default()
    };
    let node = DescriptorProto {
        name: Some("Node".to_owned()),
        field: vec![of(field("next", 1, Type::Message, Label::Optional), "Node")],
        ..DescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("example.proto".to_owned()),
        package: Some("example".to_owned()),
        message_type: vec![order, inner, node],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

prop_compose! {
    fn order()(
        (id, note, numbers, is_paid, share) in any::<(u64, Option<String>, Vec<i32>, bool, i16)>(),
        shares in prop::collection::btree_map(any::<String>(), -1e9..1e9, 0..4),
        inner in any::<Option<(i64, u32)>>(),
        lines in any::<Vec<(i64, u32)>>(),
    ) -> Order {
        let inner_of = |(a, b)| Inner { a, b };
        Order {
            id, note, numbers, shares, is_paid,
            inner: inner.map(inner_of),
            lines: lines.into_iter().map(inner_of).collect(),
            share: share.into(),
        }
    }
}

proptest! {
    #[test]
    fn the_rows_are_those_of_the_generated_type(orders in prop::collection::vec(order(), 0..20)) {
        let messages: Vec<_> = orders.iter().map(Message::encode_to_vec).collect();
        let format = ProtobufFormat::<Order>::new();
        check_alike::<Order>(&format, &format.clone().arrow(&files(), "example.Order").expect("columns"), &messages);
    }

    #[test]
    fn damaged_messages_are_refused(orders in prop::collection::vec((order(), any::<prop::sample::Index>(), any::<u8>()), 1..10)) {
        let mut messages: Vec<_> = orders.iter().map(|(order, ..)| order.encode_to_vec()).collect();
        for (message, (_, at, byte)) in messages.iter_mut().zip(&orders) {
            if !message.is_empty() {
                let at = at.index(message.len());
                message[at] = *byte;
            }
        }
        let format = ProtobufFormat::<Order>::new();
        check_alike::<Order>(&format, &format.clone().arrow(&files(), "example.Order").expect("columns"), &messages);
    }
}

#[test]
fn with_a_registry_only_messages_of_the_type_are_read() {
    let server = TestRegistry::start().expect("a registry");
    let registry = SchemaRegistry::new(&server.url());
    let proto = Schema {
        schema_type: SchemaType::Protobuf,
        schema: "syntax = \"proto3\"; message Order {}".to_owned(),
        references: Vec::new(),
    };
    let id = registry.register("orders", &proto).expect("registered");
    let frame = |indexes: &[u8]| [&[0][..], &id.to_be_bytes(), indexes, b"\x08\x96\x01"].concat();
    let messages = [frame(&[0]), Vec::new(), frame(&[2, 2]), b"no frame".to_vec()];
    let format = ProtobufFormat::<Order>::confluent(registry);
    let found = read_batches(&format.clone().arrow(&files(), "example.Order").expect("columns"), &messages);
    let expected = read_rows::<Order>(&format, &messages);
    assert_eq!(rows_of::<Order>(&found.rows), expected.rows);
    assert_eq!((found.rows.len(), found.malformed), (1, expected.malformed));
}

#[test]
fn what_has_no_columns_is_said_when_the_format_is_made() {
    let refused =
        |files: &[u8], name| ProtobufFormat::<()>::new().arrow(files, name).expect_err("refused").report();
    assert!(refused(&files(), "example.Node").contains("contains itself"));
    assert!(refused(&files(), "example.Nobody").contains("no message 'example.Nobody'"));
    assert!(refused(b"\xff", "example.Order").contains("cannot read a set of files"));
}

#[test]
fn a_field_that_was_written_as_another_type_is_malformed_as_for_the_generated_type() {
    // The id as bytes, a share as an integer, an inner number in four bytes; and numbers that are not packed.
    let messages =
        [&b"\x0a\x01x"[..], b"\x22\x05\x0a\x01k\x10\x07", b"\x2a\x05\x0d\0\0\0\0", b"\x18\x02\x18\x04"];
    let messages = messages.map(<[u8]>::to_vec);
    let format = ProtobufFormat::<Order>::new();
    let arrow = format.clone().arrow(&files(), "example.Order").expect("columns");
    check_alike::<Order>(&format, &arrow, &messages);
    let read = read_batches(&arrow, &messages);
    let expected = "field 'shares': field 'value': written as Varint, expected SixtyFourBit";
    assert_eq!((read.malformed.len(), read.malformed[1].1.as_str()), (3, expected));
}
