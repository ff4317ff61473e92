use super::{decode, encode};
use crate::DebeziumJsonFormat;
use expect_test::{Expect, expect};
use flott_api::message::SerializationSchema;
use flott_types::{RowChange, RowKind};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The table of Debezium's tutorial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Customer {
    id: i32,
    first_name: String,
    email: Option<String>,
}

fn check(format: DebeziumJsonFormat, message: &str, expected: Expect) {
    expected.assert_eq(&match decode::<RowChange<Customer>>(&format, message) {
        Ok(changes) => changes.into_iter().fold(String::new(), |mut text, RowChange { kind, row }| {
            let Customer { id, first_name, email } = row;
            write!(text, "{}({id}, {first_name}, {email:?}) ", kind.short_string()).unwrap();
            text
        }),
        Err(why) => why,
    });
}

/// As PostgreSQL's connector writes it, with `schemas.enable=false`.
const UPDATE: &str = r#"{"before":{"id":1004,"first_name":"Anne","last_name":"Kretchmar","email":"annek@noanswer.org"},
    "after":{"id":1004,"first_name":"Anne Marie","last_name":"Kretchmar","email":null},
    "source":{"version":"2.7.3.Final","connector":"postgresql","name":"dbserver1","ts_ms":1732340000123,"snapshot":"false","db":"inventory",
      "sequence":"[\"33964824\",\"33965448\"]","schema":"inventory","table":"customers","txId":760,"lsn":33965448,"xmin":null},
    "transaction":null,"op":"u","ts_ms":1732340000500}"#;

#[test]
fn each_op_is_the_changes_that_it_means() {
    let check = |message: &str, expected| check(DebeziumJsonFormat::new(), message, expected);
    check(UPDATE, expect![[r#"-U(1004, Anne, Some("annek@noanswer.org")) +U(1004, Anne Marie, None) "#]]);
    check(r#"{"before":null,"after":{"id":1,"first_name":"a"},"op":"c"}"#, expect!["+I(1, a, None) "]);
    check(r#"{"after":{"id":1,"first_name":"a"},"op":"r","ts_ms":1}"#, expect!["+I(1, a, None) "]);
    check(r#"{"op":"d","before":{"id":1,"first_name":"a"},"after":null}"#, expect!["-D(1, a, None) "]);
    check(r#"{"op":"m","message":{"prefix":"p","content":"eA=="}}"#, expect![""]);
}

#[test]
fn tombstones_say_nothing() {
    check(DebeziumJsonFormat::new(), "", expect![""]);
    check(DebeziumJsonFormat::new(), "null", expect![""]);
    check(DebeziumJsonFormat::new().schema_include(true), "", expect![""]);
    check(DebeziumJsonFormat::new().schema_include(true), r#"{"schema":null,"payload":null}"#, expect![""]);
}

#[test]
fn a_row_that_the_database_does_not_tell_is_an_error_with_the_remedy() {
    let check = |message: &str, expected| check(DebeziumJsonFormat::new(), message, expected);
    check(
        r#"{"before":null,"after":{"id":1,"first_name":"a"},"op":"u"}"#,
        expect![
            "op 'u': field 'before' is null or lacks: for PostgreSQL, set REPLICA IDENTITY FULL for the table (ALTER TABLE … REPLICA IDENTITY FULL), so that it tells the row as it was"
        ],
    );
    check(
        r#"{"before":null,"after":null,"op":"d"}"#,
        expect![
            "op 'd': field 'before' is null or lacks: for PostgreSQL, set REPLICA IDENTITY FULL for the table (ALTER TABLE … REPLICA IDENTITY FULL), so that it tells the row as it was"
        ],
    );
    check(r#"{"before":null,"after":null,"op":"c"}"#, expect!["op 'c': field 'after' is null or lacks"]);
    check(
        r#"{"before":null,"after":null,"op":"t"}"#,
        expect![
            "op 't': the table was truncated, and which rows it had is not said; leave truncations out of the stream with skipped.operations=t of the connector, or start again from a snapshot"
        ],
    );
    check(r#"{"before":null,"after":null,"op":"x"}"#, expect!["unknown op 'x'"]);
    check(r#"{"id":1}"#, expect!["no field 'op': not a message of Debezium, or one that was transformed"]);
    check(
        r#"{"before":null,"after":{"id":1,"first_name":null},"op":"c"}"#,
        expect!["field 'after.first_name': invalid type: null, expected a string, at column 48"],
    );
}

#[test]
fn schemas_are_read_over_and_a_wrong_option_is_named() {
    let (with, without) = (DebeziumJsonFormat::new().schema_include(true), DebeziumJsonFormat::new());
    let schema = r#"{"type":"struct","fields":[{"type":"struct","fields":[{"type":"int32","optional":false,"field":"id"}],"optional":true,"name":"dbserver1.inventory.customers.Value","field":"before"}],"optional":false,"name":"dbserver1.inventory.customers.Envelope"}"#;
    let message = format!(r#"{{"schema":{schema},"payload":{UPDATE}}}"#);
    check(
        with,
        &message,
        expect![[r#"-U(1004, Anne, Some("annek@noanswer.org")) +U(1004, Anne Marie, None) "#]],
    );
    check(
        without,
        &message,
        expect![
            "no field 'op', but a 'payload': the message has its schema with it, so use schema_include(true)"
        ],
    );
    check(
        with,
        UPDATE,
        expect!["no field 'payload': the message has no schema with it, so leave schema_include off"],
    );
    let error = SerializationSchema::<RowChange<Customer>>::create_encoder(&with).err().unwrap();
    assert!(error.to_string().contains("schema_include"), "{error}");
}

#[test]
fn nothing_is_put_out_of_half_an_update() {
    let message = r#"{"before":{"id":1,"first_name":"a"},"after":null,"op":"u"}"#;
    let why = decode::<RowChange<Customer>>(&DebeziumJsonFormat::new(), message).unwrap_err();
    assert_eq!(why, "op 'u': field 'after' is null or lacks");
}

proptest! {
    #[test]
    fn a_change_comes_back_as_flink_would_read_it(id: i32, first_name: String, email: Option<String>, kind in 0..4_usize) {
        let format = DebeziumJsonFormat::new();
        let kinds = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete];
        let change = RowChange { kind: kinds[kind], row: Customer { id, first_name, email } };
        let kind = if change.kind.is_addition() { RowKind::Insert } else { RowKind::Delete };
        let read = decode::<RowChange<Customer>>(&format, encode(&format, &change));
        prop_assert_eq!(read, Ok(vec![RowChange { kind, ..change }]));
    }
}
