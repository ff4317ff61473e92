//! Joins: every pair, by two loops.

use super::{Site, Stream, by_key, by_uid, same};
use crate::functions::pair;
use crate::record::Record;

/// All pairs of a key.
pub(super) fn keyed_join(site: &Site<'_>) -> Vec<Record> {
    pairs(site, &site.input().records, &site.second().records, |_, _| true)
}

fn pairs(
    site: &Site<'_>,
    left: &[Record],
    right: &[Record],
    matches: impl Fn(&Record, &Record) -> bool,
) -> Vec<Record> {
    let right = by_key(right);
    let mut joined = Vec::new();
    for left in left {
        for right in right.get(&left.key).into_iter().flatten().filter(|right| matches(left, right)) {
            joined.push(pair(site.idx, left, right));
        }
    }
    joined
}

/// The pairs of all records that were not late, and the late records, each of which had a reason to be.
pub(super) fn interval_join(
    site: &Site<'_>,
    lower_ms: i64,
    upper_ms: i64,
    late_output: bool,
) -> Result<Vec<Vec<Record>>, String> {
    let mut outputs = Vec::new();
    let mut on_time = Vec::new();
    for (idx, input) in [site.input(), site.second()].into_iter().enumerate() {
        let late = if late_output { site.tapped(idx + 1) } else { Vec::new() };
        // While one input is idle, the watermark is that of the other.
        let ceiling = site.input().ceiling.max(site.second().ceiling);
        on_time.push(without_late(&Stream { ceiling, ..input.clone() }, &late)?);
        outputs.push(late);
    }
    if site.late_dropped() > 0 {
        return Err(format!("{} late records were dropped", site.late_dropped()));
    }
    let [left, right] = on_time.as_slice() else { return Err("a join of two streams".to_owned()) };
    let expected = pairs(site, left, right, |left, right| {
        (lower_ms..=upper_ms).contains(&(right.timestamp - left.timestamp))
    });
    let joined = site.tapped(0);
    same(&expected, &joined)?;
    outputs.truncate(if late_output { 2 } else { 0 });
    outputs.insert(0, joined);
    Ok(outputs)
}

/// The records of a stream that are not late. A late one must lie at or behind a watermark that it may have met.
fn without_late(input: &Stream, late: &[Record]) -> Result<Vec<Record>, String> {
    let records = by_uid(&input.records);
    for record in late {
        if records.get(&record.uid) != Some(&record) {
            return Err(format!("the late {record:?} is no record of the input"));
        }
        if input.facts.on_time || record.timestamp > input.bound(record) {
            return Err(format!(
                "{record:?} was late, but no watermark before it was above {}",
                input.bound(record)
            ));
        }
    }
    let late_uids = by_uid(late);
    if late_uids.len() < late.len() {
        return Err("a record was late twice".to_owned());
    }
    Ok(input.records.iter().filter(|record| !late_uids.contains_key(&record.uid)).cloned().collect())
}
