use crate::read_batches;
use flott_api::message::DeserializationSchema;
use flott_format_arrow::array::{Array, Date32Array, Decimal128Array, TimestampMillisecondArray};
use flott_format_arrow::schema::{DataType, Field, Schema, TimeUnit};
use flott_format_csv::CsvFormat;
use flott_format_json::JsonFormat;
use std::sync::Arc;

/// What a value in JSON is in a column: as the array's debug text of the value, or why not.
fn read(data_type: DataType, value: &str) -> Result<String, String> {
    let schema = Arc::new(Schema::new(vec![Field::new("v", data_type, false)]));
    let read = read_batches(&JsonFormat::new().arrow(schema), &[format!("{{\"v\":{value}}}").into_bytes()]);
    if let Some((_, why)) = read.malformed.into_iter().next() {
        return Err(why);
    }
    let column = read.rows[0].column(0);
    let any = column.as_any();
    Ok(if let Some(array) = any.downcast_ref::<Date32Array>() {
        array.value(0).to_string()
    } else if let Some(array) = any.downcast_ref::<TimestampMillisecondArray>() {
        array.value(0).to_string()
    } else if let Some(array) = any.downcast_ref::<Decimal128Array>() {
        array.value_as_string(0)
    } else {
        panic!("{:?}", column.data_type())
    })
}

fn check(data_type: &DataType, value: &str, expected: Result<&str, &str>) {
    let found = read(data_type.clone(), value);
    match (&found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{value}"),
        (Err(why), Err(expected)) => assert!(why.contains(expected), "{value}: {why}"),
        _ => panic!("{value} for {data_type}: {found:?}, expected {expected:?}"),
    }
}

#[test]
fn dates_and_times_are_read_exactly_or_not_at_all() {
    check(&DataType::Date32, "\"1970-01-31\"", Ok("30"));
    check(&DataType::Date32, "\"1969-12-31\"", Ok("-1"));
    check(&DataType::Date32, "20000", Ok("20000"));
    check(&DataType::Date32, "\"1970-02-30\"", Err("expected a date"));
    check(&DataType::Date32, "3000000000", Err("out of the range"));
    let civil = DataType::Timestamp(TimeUnit::Millisecond, None);
    check(&civil, "\"1970-01-01T00:00:01.5\"", Ok("1500"));
    check(&civil, "\"1970-01-01 00:00:01\"", Ok("1000"));
    check(&civil, "1700000000123", Ok("1700000000123"));
    check(&civil, "\"1970-01-01T00:00:01Z\"", Err("without a zone"));
    check(&civil, "\"1970-01-01T00:00:01.0005\"", Err("finer than"));
    check(&civil, "1.5", Err("floating point"));
    let instant = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    check(&instant, "\"1970-01-01T01:00:00+01:00\"", Ok("0"));
    check(&instant, "\"1970-01-01T00:00:00\"", Err("with its zone"));
}

#[test]
fn decimals_are_not_rounded() {
    let decimal = DataType::Decimal128(6, 2);
    for (value, expected) in [
        ("12.5", Ok("12.50")),
        ("\"-0.05\"", Ok("-0.05")),
        ("\"1.500\"", Ok("1.50")),
        ("9999", Ok("9999.00")),
        ("\"007\"", Ok("7.00")),
        ("-3", Ok("-3.00")),
        ("\"1.005\"", Err("it would be cut")),
        ("10000", Err("it would be cut")),
        ("\"1e3\"", Err("expected a decimal")),
        ("\"\"", Err("expected a decimal")),
        ("true", Err("invalid type")),
    ] {
        check(&decimal, value, expected);
    }
    check(&DataType::Decimal128(38, 2), "123456789012345678.25", Err("write the decimal as a string"));
    check(&DataType::Decimal128(38, 2), "\"123456789012345678.25\"", Ok("123456789012345678.25"));
}

#[test]
fn a_type_that_is_not_read_is_said_when_the_job_starts() {
    let inner = vec![Field::new("b", DataType::Float16, false)];
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Struct(inner.into()), false)]));
    let formats = [JsonFormat::new().arrow(Arc::clone(&schema)), CsvFormat::new().arrow(schema)];
    for format in formats {
        let error = format.create_decoder().err().expect("refused").report();
        assert!(error.contains("column 'a.b' of the Arrow type Float16"), "{error}");
    }
}
