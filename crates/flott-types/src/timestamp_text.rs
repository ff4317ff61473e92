//! Points in time as people write them: RFC 3339, or milliseconds since the epoch.

use crate::config::ConfigValue;
use crate::time::Timestamp;
use std::fmt;

/// A point in event time as a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampText(pub Timestamp);

const DAY_MS: i64 = 86_400_000;

impl ConfigValue for TimestampText {
    const EXPECTED: &'static str =
        "a time such as '2013-01-10', '2013-01-10T05:00:00-05:00' or milliseconds since 1970";
    fn parse(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        match text.parse() {
            // The smallest number means that a record has no time.
            Ok(Timestamp::MIN) => Err(()),
            Ok(millis) => Ok(Self(millis)),
            Err(_) => rfc3339(text).map(Self).ok_or(()),
        }
    }
    fn to_text(&self) -> String {
        self.0.to_string()
    }
}

/// RFC 3339 in UTC; milliseconds where the calendar of four digits ends.
impl fmt::Display for TimestampText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0.div_euclid(DAY_MS), self.0.rem_euclid(DAY_MS));
        let (year, month, day) = civil_from_days(days);
        if !(0..=9_999).contains(&year) {
            return write!(f, "{} ms", self.0);
        }
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if ms % 1_000 != 0 {
            write!(f, ".{:03}", ms % 1_000)?;
        }
        f.write_str("Z")
    }
}

/// A date, which means its midnight in UTC, or a date and time with an offset; seconds may be missing.
fn rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) =
        (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * DAY_MS;
    Some(midnight + time.map_or(Some(0), time_of_day)?)
}

/// Milliseconds since midnight in UTC, below 0 or beyond a day where the offset makes it so.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, offset_min) = match text.find(['Z', 'z', '+', '-']) {
        Some(at) => {
            let (clock, offset) = text.split_at(at);
            (clock, offset_minutes(offset)?)
        }
        None => return None,
    };
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, rest)| (clock, Some(rest)));
    let mut parts = clock.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = match (parts.next(), fraction) {
        (Some(second), _) => digits(second, 2)?,
        (None, None) => 0,
        (None, Some(_)) => return None,
    };
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let ms = fraction.map_or(Some(0), thousandths)?;
    Some(((hour * 60 + minute - offset_min) * 60 + second) * 1_000 + ms)
}

fn offset_minutes(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hour, minute) = text.get(1..)?.split_once(':')?;
    let (hour, minute) = (digits(hour, 2)?, digits(minute, 2)?);
    (hour <= 23 && minute <= 59).then_some(sign * (hour * 60 + minute))
}

/// Whole milliseconds of a fraction of a second: what is finer is cut off.
fn thousandths(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    fraction.bytes().chain(*b"00").take(3).try_fold(0, |ms, byte| Some(ms * 10 + i64::from(byte - b'0')))
}

fn digits(text: &str, len: usize) -> Option<i64> {
    let is_number = text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of the proleptic Gregorian calendar. Years are counted from March, so that the leap day is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_or_milliseconds() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("-1", Ok(-1)),
            ("1357776000000", Ok(1_357_776_000_000)),
            ("2013-01-10", Ok(1_357_776_000_000)),
            ("2013-01-10T00:00Z", Ok(1_357_776_000_000)),
            (" 2013-01-10t00:00:00.0019z ", Ok(1_357_776_000_001)),
            ("2013-01-09T19:00:00-05:00", Ok(1_357_776_000_000)),
            ("2013-01-10 05:30:00.25+05:30", Ok(1_357_776_000_250)),
            ("2000-02-29", Ok(951_782_400_000)),
            ("1969-12-31T23:59:59Z", Ok(-1_000)),
            ("2013-02-29", Err(())),
            ("1900-02-29", Err(())),
            ("2013-13-01", Err(())),
            ("2013-1-10", Err(())),
            ("2013-01-10T00:00:00", Err(())),
            ("2013-01-10T24:00:00Z", Err(())),
            ("2013-01-10T00:00:00.Z", Err(())),
            ("2013-01-10T00:00:00+5", Err(())),
            ("-9223372036854775808", Err(())),
            ("yesterday", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(TimestampText::parse(text), expected.map(TimestampText), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for at in [0, -1, 1, 1_357_776_000_000, 951_782_399_999, 253_402_300_799_999, -62_167_219_200_000] {
            assert_eq!(TimestampText::parse(&TimestampText(at).to_string()), Ok(TimestampText(at)), "{at}");
        }
        assert_eq!(TimestampText(i64::MAX).to_string(), "9223372036854775807 ms");
        for day in (-1_000_000..4_000_000).step_by(37) {
            let (year, month, of_month) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, of_month), day);
        }
    }
}
