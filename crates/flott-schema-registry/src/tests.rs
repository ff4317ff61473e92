use crate::testing::{Fault, TestRegistry};
use crate::wire::{decode_frame, encode_frame};
use crate::{Reference, Schema, SchemaRegistry, SchemaType};
use flott_types::{Error, ErrorKind};
use std::time::Duration;

const SCHEMA: &str = r#"{"type":"record","name":"Order","fields":[]}"#;

fn registry(server: &TestRegistry) -> SchemaRegistry {
    SchemaRegistry::new(&server.url()).retries(2, Duration::ZERO)
}

fn assert_error(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let report = error.report();
    assert_eq!(error.kind(), kind, "{report}");
    assert!(parts.iter().all(|part| report.contains(part)), "{report}");
}

#[test]
fn what_was_registered_is_found_by_its_id_and_asked_for_once() {
    let server = TestRegistry::start().unwrap();
    let registry = registry(&server);
    let proto = Schema {
        references: vec![Reference { name: "a.proto".to_owned(), subject: "a".to_owned(), version: 1 }],
        ..Schema::new(SchemaType::Protobuf, "syntax = \"proto3\";")
    };
    let avro = Schema::new(SchemaType::Avro, SCHEMA);
    for _ in 0..3 {
        assert_eq!(registry.register("orders/ü-value", &avro).unwrap(), 1);
        assert_eq!(registry.register("orders/ü-value", &proto).unwrap(), 2);
        assert_eq!(registry.clone().schema(1).unwrap(), Some(avro.clone()));
        assert_eq!(registry.schema(2).unwrap(), Some(proto.clone()));
    }
    assert_eq!(
        registry.version("orders%2F%C3%BC-value", 1).err().map(|error| error.kind()),
        Some(ErrorKind::UserError)
    );
    let path = "/subjects/orders%2F%C3%BC-value/versions";
    assert_eq!(
        server.requests()[..4],
        [
            format!("POST {path}"),
            format!("POST {path}"),
            "GET /schemas/ids/1".to_owned(),
            "GET /schemas/ids/2".to_owned()
        ]
    );
}

#[test]
fn a_schema_that_is_not_there_is_none_and_asked_for_again() {
    let server = TestRegistry::start().unwrap();
    let registry = registry(&server);
    assert_eq!(registry.schema(1).unwrap(), None);
    registry.register("later", &Schema::new(SchemaType::Avro, SCHEMA)).unwrap();
    assert!(registry.schema(1).unwrap().is_some());
}

#[test]
fn trouble_of_the_server_is_tried_again_and_then_an_error_that_may_be_tried_again() {
    let server = TestRegistry::start().unwrap();
    let registry = registry(&server);
    registry.register("s", &Schema::new(SchemaType::Avro, SCHEMA)).unwrap();
    let down = || Fault::Answer(503, "<html>down</html>".to_owned());
    server.fail_next([down(), Fault::HangUp]);
    assert!(registry.schema(1).unwrap().is_some());

    server.fail_next([
        down(),
        down(),
        Fault::Answer(500, r#"{"error_code":50001,"message":"Error in the backend data store"}"#.to_owned()),
    ]);
    let error = registry.schema(7).unwrap_err();
    assert_error(
        &error,
        ErrorKind::Retry,
        &["look up schema 7", "answers 500: Error in the backend data store (error 50001)"],
    );
}

#[test]
fn a_registry_that_is_away_is_an_error_that_may_be_tried_again_and_the_next_url_is_asked() {
    let server = TestRegistry::start().unwrap();
    let gone = {
        let gone = TestRegistry::start().unwrap();
        gone.url()
    };
    let registry = SchemaRegistry::new(&gone).retries(1, Duration::ZERO);
    assert_error(
        &registry.schema(1).unwrap_err(),
        ErrorKind::Retry,
        &["look up schema 1", &gone, "does not answer"],
    );
    let registry = SchemaRegistry::new(&format!("{gone}, {}/", server.url())).retries(0, Duration::ZERO);
    assert_eq!(registry.schema(1).unwrap(), None);
}

#[test]
fn a_schema_that_is_not_compatible_is_refused_with_what_the_registry_says() {
    let server = TestRegistry::start().unwrap();
    let registry = registry(&server);
    registry.register("s", &Schema::new(SchemaType::Avro, SCHEMA)).unwrap();
    server.freeze();
    let error = registry.register("s", &Schema::new(SchemaType::Avro, "\"int\"")).unwrap_err();
    assert_error(
        &error,
        ErrorKind::UserError,
        &["subject 's'", "incompatible with an earlier schema", "compatibility level"],
    );
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn secrets_are_sent_and_never_shown() {
    let server = TestRegistry::start().unwrap();
    server.require("Basic dXNlcjpzM2NyM3Q=");
    let with_user = registry(&server).basic_auth("user", "s3cr3t");
    let in_url = SchemaRegistry::new(&server.url().replace("http://", "http://user:s3cr3t@"));
    for registry in [&with_user, &in_url] {
        assert_eq!(registry.schema(1).unwrap(), None);
        let shown = format!("{registry:?}");
        assert!(!shown.contains("s3cr3t") && !shown.contains("dXNlcjpzM2NyM3Q"), "{shown}");
    }
    for (wrong, remedy) in [
        (registry(&server), "say basic_auth"),
        (registry(&server).bearer_token("t0k3n"), "password"),
        (registry(&server).basic_auth("user", "wr0ng"), "password"),
    ] {
        let error = wrong.schema(1).unwrap_err();
        assert_error(&error, ErrorKind::UserError, &["answers 401: Unauthorized (error 401)", remedy]);
        let shown = error.report();
        assert!(!shown.contains("t0k3n") && !shown.contains("wr0ng"), "{shown}");
    }
}

#[test]
fn what_is_no_registry_is_an_error_that_says_so() {
    let server = TestRegistry::start().unwrap();
    server.fail_next([
        Fault::Answer(200, "<html></html>".to_owned()),
        Fault::Answer(404, "not here".to_owned()),
        Fault::Answer(302, String::new()),
    ]);
    let registry = registry(&server);
    assert_error(&registry.schema(1).unwrap_err(), ErrorKind::UserError, &["no schema registry"]);
    assert_error(
        &registry.schema(1).unwrap_err(),
        ErrorKind::UserError,
        &["answers 404: not here", "registry's URL"],
    );
    assert_error(&registry.schema(1).unwrap_err(), ErrorKind::UserError, &["redirects are not followed"]);
    assert_error(&SchemaRegistry::new("").schema(1).unwrap_err(), ErrorKind::UserError, &["no URL"]);
    assert_error(
        &SchemaRegistry::new("not a url").schema(1).unwrap_err(),
        ErrorKind::UserError,
        &["does not answer"],
    );
    let error = registry.root_certificates("none").schema(1).unwrap_err();
    assert_error(&error, ErrorKind::UserError, &["no certificate in PEM"]);
}

#[test]
fn frames_are_a_zero_and_the_id() {
    let mut message = Vec::new();
    encode_frame(0x0102_0304, &mut message);
    message.push(9);
    assert_eq!(message, [0, 1, 2, 3, 4, 9]);
    assert_eq!(decode_frame(&message), Ok((0x0102_0304, &[9][..])));
    assert_eq!(decode_frame(&message[..5]), Ok((0x0102_0304, &[][..])));
    assert!(decode_frame(&message[..4]).unwrap_err().starts_with("only 4 bytes"));
    assert!(decode_frame(b"{\"a\":1}").unwrap_err().starts_with("begins with byte 123"));
}
