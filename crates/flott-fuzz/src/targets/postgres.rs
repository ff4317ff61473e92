//! What a PostgreSQL server sends, or who stands in its place.

use flott_connector_postgres::fuzzing::server_messages;
use serde::Deserialize;

#[derive(Debug, PartialEq, Deserialize)]
struct Record {
    id: i64,
    name: Option<String>,
    is_on: bool,
    price: f64,
    list: Vec<Option<i32>>,
    bytes: Vec<u8>,
    json: Option<Box<Json>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Json {
    a: Vec<u8>,
}

pub(crate) fn server(bytes: &[u8]) {
    let rows = server_messages::<Record>(bytes);
    assert_eq!(rows.len(), server_messages::<Record>(bytes).len());
    server_messages::<(i32, String)>(bytes);
    server_messages::<char>(bytes);
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn column(name: &str, type_oid: u32) -> Vec<u8> {
    [name.as_bytes(), &[0; 7], &type_oid.to_be_bytes(), &[0; 8]].concat()
}

fn cell(text: Option<&str>) -> Vec<u8> {
    let Some(text) = text else { return (-1_i32).to_be_bytes().to_vec() };
    [&(text.len() as i32).to_be_bytes(), text.as_bytes()].concat()
}

fn counted(parts: &[Vec<u8>]) -> Vec<u8> {
    [&(parts.len() as u16).to_be_bytes(), parts.concat().as_slice()].concat()
}

fn answer() -> Vec<u8> {
    let columns = [
        ("id", 20),
        ("name", 25),
        ("is_on", 16),
        ("price", 1700),
        ("list", 1007),
        ("bytes", 17),
        ("json", 3802),
    ];
    let columns: Vec<_> = columns.iter().map(|(name, oid)| column(name, *oid)).collect();
    let row = |cells: [Option<&str>; 7]| message(b'D', &counted(&cells.map(cell)));
    [
        message(b'T', &counted(&columns)),
        row([
            Some("-7"),
            Some("ä \\ \""),
            Some("t"),
            Some("1.50"),
            Some("{1,NULL,3}"),
            Some("\\x00ff"),
            Some(r#"{"a": [1]}"#),
        ]),
        row([Some("8"), None, Some("f"), Some("NaN"), Some("{}"), Some("\\x"), None]),
        message(b'C', b"SELECT 2\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// Insert, update with an old row, delete, truncate, between begin and commit.
fn log() -> Vec<u8> {
    let value = |text: &str| [&b"t"[..], &cell(Some(text))].concat();
    let relation = [
        &b"R\0\0\0\x05public\0things\0d\0\x02"[..],
        b"\x01id\0\0\0\0\x14\0\0\0\0",
        b"\0name\0\0\0\0\x19\0\0\0\0",
    ]
    .concat();
    let begin = [&b"B"[..], &[0; 20]].concat();
    let commit = [&b"C"[..], &[0; 25]].concat();
    let row = counted(&[value("1"), b"u".to_vec()]);
    let old = counted(&[value("1"), b"n".to_vec()]);
    let change = |head: &[u8], rows: &[&[u8]]| [head, &rows.concat()].concat();
    let messages = [
        begin,
        relation,
        change(b"I\0\0\0\x05N", &[&row]),
        change(b"U\0\0\0\x05K", &[&old, b"N", &row]),
        change(b"D\0\0\0\x05O", &[&old]),
        b"T\0\0\0\x01\0\0\0\0\x05".to_vec(),
        commit,
    ];
    messages.iter().flat_map(|body| message(b'd', body)).collect()
}

pub(crate) fn transcripts() -> Vec<Vec<u8>> {
    assert_eq!(server_messages::<Record>(&answer()).len(), 2, "the seed is what a server sends");
    let refused = message(b'E', b"SERROR\0VERROR\0C42P01\0Mno table\0Hmake one\0\0");
    // The nonce is that of the decoder's client.
    let challenge = message(b'R', b"r=bm9uY2U=more,s=c2FsdA==,i=16,v=AAAA");
    vec![answer(), log(), [challenge, refused].concat()]
}
