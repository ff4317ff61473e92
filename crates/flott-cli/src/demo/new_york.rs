//! Times in New York in winter, five hours behind UTC. The data is of one January.

use flott::Timestamp;
use jiff::tz::{Offset, TimeZone};

const HOURS_FROM_UTC: i8 = -5;

fn format(at: Timestamp, format: &str) -> String {
    let zone = TimeZone::fixed(Offset::constant(HOURS_FROM_UTC));
    match jiff::Timestamp::from_millisecond(at) {
        Ok(instant) => instant.to_zoned(zone).strftime(format).to_string(),
        // Beyond the year 9999.
        Err(_) => format!("{at} ms"),
    }
}

/// `Tue Jan 01 05:15`
pub(super) fn date_and_time(at: Timestamp) -> String {
    format(at, "%a %b %d %H:%M")
}

/// `05:15`
pub(super) fn time(at: Timestamp) -> String {
    format(at, "%H:%M")
}

/// `2013-01-01T05:15:00-05:00`, for files.
pub(super) fn iso(at: Timestamp) -> String {
    format(at, "%Y-%m-%dT%H:%M:%S%:z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_new_york_in_january() {
        let first = 1_357_035_300_000;
        assert_eq!(date_and_time(first), "Tue Jan 01 05:15");
        assert_eq!(time(first), "05:15");
        assert_eq!(iso(first), "2013-01-01T05:15:00-05:00");
        assert_eq!(iso(i64::MAX), "9223372036854775807 ms");
    }
}
