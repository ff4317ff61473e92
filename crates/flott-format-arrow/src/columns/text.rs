//! Texts become values of a column.

use super::Column;
use super::Values::{
    Binary, Boolean, Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8,
    List, Map, Struct, Timestamp, UInt8, UInt16, UInt32, UInt64, Utf8,
};
use arrow_schema::{DataType, TimeUnit};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::civil;
use jiff::tz::TimeZone;

const EPOCH: civil::Date = civil::date(1970, 1, 1);

impl Column {
    /// Appends what a text says: numbers, `true` and `false` as Rust writes them, bytes in base64, dates and times by ISO 8601.
    ///
    /// # Errors
    /// If it says nothing that the column can hold exactly.
    pub fn append_text(&mut self, text: &str) -> Result<(), String> {
        macro_rules! parse {
            ($values:expr, $what:literal) => {
                $values.append_value(text.parse().map_err(|_| format!("expected {}, found '{text}'", $what))?)
            };
        }
        match &mut self.values {
            Boolean(values) => parse!(values, "true or false"),
            Int8(values) => parse!(values, "an integer of 8 bits"),
            Int16(values) => parse!(values, "an integer of 16 bits"),
            Int32(values) => parse!(values, "an integer of 32 bits"),
            Int64(values) => parse!(values, "an integer of 64 bits"),
            UInt8(values) => parse!(values, "an integer of 8 bits without a sign"),
            UInt16(values) => parse!(values, "an integer of 16 bits without a sign"),
            UInt32(values) => parse!(values, "an integer of 32 bits without a sign"),
            UInt64(values) => parse!(values, "an integer of 64 bits without a sign"),
            Float32(values) => parse!(values, "a number"),
            Float64(values) => parse!(values, "a number"),
            Utf8(values) => values.append_value(text),
            LargeUtf8(values) => values.append_value(text),
            Binary(values) => values.append_value(parse_bytes(text)?),
            LargeBinary(values) => values.append_value(parse_bytes(text)?),
            Date32(values) => values.append_value(parse_date(text)?),
            Timestamp(values, unit) => {
                let has_zone = matches!(&self.data_type, DataType::Timestamp(_, Some(_)));
                values.append_value(parse_timestamp(text, *unit, has_zone)?);
            }
            Decimal128(values, precision, scale) => {
                values.append_value(parse_decimal(text, *precision, *scale)?);
            }
            List(_) | Map(_) | Struct(_) => {
                return Err(format!("a text for a column of the type {}", self.data_type));
            }
        }
        Ok(())
    }
}

pub(super) fn parse_bytes(text: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(text).map_err(|error| format!("expected base64: {error}"))
}

/// Days since the epoch.
fn parse_date(text: &str) -> Result<i32, String> {
    let date: civil::Date =
        text.parse().map_err(|_| format!("expected a date (2026-01-31), found '{text}'"))?;
    let days = EPOCH.until(date).map_err(|error| error.to_string())?;
    Ok(days.get_days())
}

fn parse_timestamp(text: &str, unit: TimeUnit, has_zone: bool) -> Result<i64, String> {
    let instant = if has_zone {
        text.parse::<jiff::Timestamp>()
            .map_err(|_| format!("expected a time with its zone (2026-01-31T12:00:00Z), found '{text}'"))?
    } else {
        let expected = |_| format!("expected a time without a zone (2026-01-31T12:00:00), found '{text}'");
        // What has a zone is an instant, and says something else than the column.
        if text.parse::<jiff::Timestamp>().is_ok() {
            return Err(expected(()));
        }
        let time: civil::DateTime = text.parse().map_err(|_| expected(()))?;
        TimeZone::UTC.to_timestamp(time).map_err(|error| error.to_string())?
    };
    let unit_nanos = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    let nanos = instant.as_nanosecond();
    if nanos % unit_nanos != 0 {
        return Err(format!("'{text}' is finer than the {unit:?} of the column"));
    }
    i64::try_from(nanos / unit_nanos).map_err(|_| format!("'{text}' is out of the range of the column"))
}

/// Units of the last place.
pub(super) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Result<i128, String> {
    let refused = |why: &str| {
        format!(
            "expected a decimal of {precision} digits, {scale} of them behind the point, found '{text}'{why}"
        )
    };
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return Err(refused(""));
    }
    let scale = usize::try_from(scale).map_err(|_| refused(""))?;
    let fraction = fraction.trim_end_matches('0');
    let whole = whole.trim_start_matches('0');
    if fraction.len() > scale || whole.len() + scale > usize::from(precision) {
        return Err(refused(": it would be cut"));
    }
    let digits = format!("{whole}{fraction:0<scale$}");
    let units: i128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| refused(""))? };
    Ok(if text.starts_with('-') { -units } else { units })
}
