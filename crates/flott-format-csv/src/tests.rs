use crate::CsvFormat;
use expect_test::{Expect, expect};
use flott_api::message::{DecodeError, DeserializationSchema, SerializationSchema};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Trade {
    symbol: String,
    price: Option<f64>,
    number: i16,
}

fn decode<T: Debug>(
    schema: &impl DeserializationSchema<T>,
    message: impl AsRef<[u8]>,
) -> Result<Vec<T>, String> {
    let mut out = Vec::new();
    match schema.create_decoder().unwrap().decode(message.as_ref(), &mut out) {
        Ok(()) => Ok(out),
        Err(DecodeError::Malformed(why)) => Err(why),
        Err(DecodeError::Failed(error)) => panic!("no message makes this format fail: {error:?}"),
    }
}

fn encode<T>(schema: &impl SerializationSchema<T>, record: &T) -> Result<String, String> {
    let mut out = b"before".to_vec();
    let encoded = schema.create_encoder().unwrap().encode(record, &mut out);
    encoded.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned())
}

fn check(format: &CsvFormat, message: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&match decode::<Trade>(format, message) {
        Ok(trades) => format!("{trades:?}"),
        Err(why) => why,
    });
}

#[test]
fn a_message_is_a_row() {
    let check = |message: &str, expected| check(&CsvFormat::new(), message, expected);
    check("X,1.5,7", expect![[r#"[Trade { symbol: "X", price: Some(1.5), number: 7 }]"#]]);
    check("\"a\"\"b\n,\",,-1\r\n", expect![[r#"[Trade { symbol: "a\"b\n,", price: None, number: -1 }]"#]]);
    check("", expect!["[]"]);
    check("#,1,1", expect![[r##"[Trade { symbol: "#", price: Some(1.0), number: 1 }]"##]]);
}

#[test]
fn what_is_wrong_is_told_with_its_column() {
    let check = |message: &str, expected| check(&CsvFormat::new(), message, expected);
    check("X,1.5,70000", expect!["column 3: expected an integer of the column's range, found '70000'"]);
    check("X,high,7", expect!["column 2: expected a number, found 'high'"]);
    check("X,1.5", expect!["invalid length 2, expected struct Trade with 3 elements"]);
    check("X,1.5,7,8,9", expect!["expected 3 fields, found 5"]);
    check("X,1.5,7\nY,1,2", expect!["more than one row: the second begins at byte 9"]);
    check("\n\r\n", expect!["only line ends, no row"]);
    check("\"X,1.5,7", expect!["a quoted field that does not end before the message does"]);
    let why = decode::<Trade>(&CsvFormat::new(), b"\xff,1,2").unwrap_err();
    expect!["column 1: expected UTF-8 text, found '�'"].assert_eq(&why);
}

/// Refuses 13, when a part of the row is written already.
fn refuse_13<S: serde::Serializer>(number: &i16, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        13 => Err(serde::ser::Error::custom("13 is unlucky")),
        number => serializer.serialize_i16(*number),
    }
}

#[derive(Serialize)]
struct Picky {
    symbol: String,
    #[serde(serialize_with = "refuse_13")]
    number: i16,
}

#[test]
fn a_record_that_is_refused_leaves_nothing_in_the_next() {
    for format in
        [CsvFormat::new(), CsvFormat::new().null_literal("-"), CsvFormat::new().disable_quote_character()]
    {
        let mut encoder = format.create_encoder().unwrap();
        // More than the writer keeps back, too.
        for symbol in ["X".to_owned(), "X".repeat(100_000)] {
            let bad = Picky { symbol, number: 13 };
            encoder.encode(&bad, &mut Vec::new()).unwrap_err();
            let mut out = Vec::new();
            encoder.encode(&Picky { symbol: "Y".to_owned(), number: 1 }, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), "Y,1");
        }
    }
}

#[test]
fn options_are_flinks() {
    let format = CsvFormat::new()
        .field_delimiter(b';')
        .quote_character(b'\'')
        .null_literal("NULL")
        .allow_comments(true);
    check(&format, "'a;b';NULL;1", expect![[r#"[Trade { symbol: "a;b", price: None, number: 1 }]"#]]);
    check(&format, "# said;1;2", expect!["[]"]);
    check(
        &format.clone().ignore_trailing_unmappable(true),
        "a;1;2;3",
        expect![[r#"[Trade { symbol: "a", price: Some(1.0), number: 2 }]"#]],
    );
    check(
        &CsvFormat::new().disable_quote_character(),
        "\"a,1,2",
        expect![[r#"[Trade { symbol: "\"a", price: Some(1.0), number: 2 }]"#]],
    );
    check(
        &CsvFormat::new().escape_character(b'\\'),
        "\"a\\\"\\\\\",1,2",
        expect![[r#"[Trade { symbol: "a\"\\", price: Some(1.0), number: 2 }]"#]],
    );
    let trade = Trade { symbol: "x".to_owned(), price: None, number: 3 };
    assert_eq!(encode(&format, &trade), Ok("x;NULL;3".to_owned()));
    assert_eq!(encode(&CsvFormat::new(), &trade), Ok("x,,3".to_owned()));
    assert_eq!(
        encode(&format, &Trade { symbol: "#".to_owned(), ..trade.clone() }),
        Ok("'#';NULL;3".to_owned())
    );
    let why = encode(&format, &Trade { symbol: "NULL".to_owned(), ..trade.clone() }).unwrap_err();
    assert!(why.contains("the text 'NULL' would be read as null"), "{why}");
    let why =
        encode(&CsvFormat::new().disable_quote_character(), &Trade { symbol: "a\nb".to_owned(), ..trade });
    assert!(why.unwrap_err().contains("line end"));
}

#[test]
fn a_row_of_any_width_is_a_list_and_one_field_is_a_value() {
    for n_fields in 1..100 {
        let wide = (0..n_fields).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(decode::<Vec<String>>(&CsvFormat::new(), wide.join(",")), Ok(vec![wide]));
    }
    assert_eq!(decode::<u64>(&CsvFormat::new(), "17\n"), Ok(vec![17]));
    assert_eq!(encode(&CsvFormat::new(), &None::<u64>), Ok("\"\"".to_owned()));
    assert_eq!(decode::<Option<u64>>(&CsvFormat::new(), "\"\""), Ok(vec![None]));
}

#[test]
fn a_decoder_is_good_after_bad_messages_and_long_ones() {
    let mut decoder = DeserializationSchema::<Vec<String>>::create_decoder(&CsvFormat::new()).unwrap();
    let long = "x".repeat(3 << 20);
    let mut out = Vec::new();
    for message in ["\"open", &long, "a,b\nc", "a"] {
        let bad = decoder.decode(message.as_bytes(), &mut out).is_err();
        assert_eq!(bad, message.contains(['"', '\n']), "{message:.10}");
    }
    assert_eq!(out, [vec![long], vec!["a".to_owned()]]);
}

#[test]
fn characters_that_cannot_be_told_apart_are_refused() {
    for format in [
        CsvFormat::new().field_delimiter(b'"'),
        CsvFormat::new().escape_character(b','),
        CsvFormat::new().field_delimiter(b'\n'),
        CsvFormat::new().field_delimiter(0xe9),
    ] {
        assert!(DeserializationSchema::<u8>::create_decoder(&format).is_err(), "{format:?}");
        assert!(SerializationSchema::<u8>::create_encoder(&format).is_err(), "{format:?}");
    }
}

proptest! {
    #[test]
    fn every_row_comes_back(symbol in "\\PC{0,3}[\"\\\\;,'\r\n#]{0,6}\\PC{0,3}", price: Option<f32>, number: i16, format in 0..4_usize) {
        let formats = [
            CsvFormat::new(),
            CsvFormat::new().field_delimiter(b';').quote_character(b'\''),
            CsvFormat::new().escape_character(b'\\'),
            CsvFormat::new().null_literal("no such text"),
        ];
        let trade = Trade { symbol, price: price.map(f64::from), number };
        let message = encode(&formats[format], &trade).unwrap();
        prop_assert_eq!(decode(&formats[format], &message), Ok(vec![trade]));
    }
}
