//! Keyed functions and the running reduction.

use super::{Site, by_key, by_uid, in_split_order, only_order, same, sum, uids};
use crate::functions;
use crate::record::Record;
use flott_types::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Replays what came out of each key: each result must be the one before and a record that was not used yet.
pub(super) fn reduce(site: &Site<'_>) -> Result<Vec<Record>, String> {
    replay(site, |sum, record| match sum {
        None => record.clone(),
        Some(mut sum) => {
            functions::running(&mut sum, record.clone());
            sum
        }
    })
}

/// Replays count and largest value.
pub(super) fn running(site: &Site<'_>) -> Result<Vec<Record>, String> {
    replay(site, |before, record| {
        let (count, largest) = before.map_or((0, i64::MIN), |before| (before.value, before.aux));
        Record { value: count + 1, aux: largest.max(record.value), ..record.clone() }
    })
}

fn replay(site: &Site<'_>, next: impl Fn(Option<Record>, &Record) -> Record) -> Result<Vec<Record>, String> {
    let tapped = site.tapped(0);
    let (inputs, results) = (by_key(&site.input().records), by_key(&tapped));
    if let Some(key) = results.keys().find(|key| !inputs.contains_key(key)) {
        return Err(format!("results of key {key}, which no record has"));
    }
    for (key, records) in inputs {
        let results = results.get(&key).map(Vec::as_slice).unwrap_or_default();
        if results.len() != records.len() {
            return Err(format!("key {key} has {} records and {} results", records.len(), results.len()));
        }
        let mut used = Vec::new();
        let mut unused = by_uid(records.iter().copied());
        let order = only_order(site, &records);
        let mut state = None;
        for (at, result) in results.iter().enumerate() {
            // A result has the place of the record that made it.
            let record = match &order {
                Some(order) => order.get(at).copied(),
                None => {
                    let made_by = |record: &&Record| next(state.clone(), record) == **result;
                    unused.values().copied().find(made_by)
                }
            };
            let record = record.filter(|record| next(state.clone(), record) == **result);
            let record = record.ok_or_else(|| {
                format!(
                    "result {at} of key {key} is no result of the {} records left: {result:?}",
                    unused.len()
                )
            })?;
            unused.remove(&record.uid);
            used.push(record);
            state = Some((*result).clone());
        }
        in_split_order(site, used)?;
    }
    Ok(tapped)
}

/// One record of each class passes: the first, where it is known.
pub(super) fn distinct(site: &Site<'_>, modulus: i64) -> Result<Vec<Record>, String> {
    let tapped = site.tapped(0);
    let classes = |records: &[Record]| {
        let mut classes: BTreeMap<(u32, i64), Vec<Record>> = BTreeMap::new();
        for record in records {
            classes.entry((record.key, record.value.rem_euclid(modulus))).or_default().push(record.clone());
        }
        classes
    };
    let (inputs, results) = (classes(&site.input().records), classes(&tapped));
    if !inputs.keys().eq(results.keys()) {
        return Err(format!("{} classes of records, {} passed", inputs.len(), results.len()));
    }
    for (class, records) in inputs {
        let passed = results.get(&class).map(Vec::as_slice).unwrap_or_default();
        let [passed] = passed else {
            return Err(format!("{} records of class {class:?} passed", passed.len()));
        };
        let first = only_order(site, &records.iter().collect::<Vec<_>>());
        let is_right = match first.as_ref().and_then(|order| order.first()) {
            Some(first) => *first == passed,
            None => records.contains(passed),
        };
        if !is_right {
            return Err(format!("of class {class:?} passed {passed:?}, which is not the first"));
        }
    }
    Ok(tapped)
}

/// One result for the records of a key and timestamp; several if some of them came late.
pub(super) fn groups(site: &Site<'_>, delay_ms: i64) -> Result<Vec<Record>, String> {
    let input = site.input();
    let made = |key: u32, at: Timestamp, records: &[&Record]| {
        let parts = uids(records.iter().copied());
        Record::made(site.idx, key, at + delay_ms, at, sum(records.iter().copied()), parts)
    };
    let tapped = site.tapped(0);
    if input.facts.on_time {
        let mut groups: BTreeMap<(u32, Timestamp), Vec<&Record>> = BTreeMap::new();
        for record in &input.records {
            groups.entry((record.key, record.timestamp)).or_default().push(record);
        }
        let expected: Vec<Record> =
            groups.iter().map(|((key, at), records)| made(*key, *at, records)).collect();
        same(&expected, &tapped)?;
        let in_order = |results: &Vec<&Record>| results.is_sorted_by_key(|result| result.timestamp);
        return match by_key(&tapped).iter().find(|(_, results)| !in_order(results)) {
            Some((key, _)) => Err(format!("the timers of key {key} did not fire in the order of time")),
            None => Ok(tapped),
        };
    }
    partition(site, &tapped, |result, records| {
        let at = result.timestamp - delay_ms;
        records.iter().all(|record| record.timestamp == at) && made(result.key, at, records) == *result
    })?;
    Ok(tapped)
}

/// Every record is in one result, whose time is that of its newest record and the gap.
pub(super) fn quiet(site: &Site<'_>, gap_ms: i64) -> Result<Vec<Record>, String> {
    let tapped = site.tapped(0);
    partition(site, &tapped, |result, records| {
        let newest = records.iter().map(|record| record.timestamp).max().unwrap_or(Timestamp::MIN);
        let parts = uids(records.iter().copied());
        let value = sum(records.iter().copied());
        Record::made(site.idx, result.key, newest + gap_ms, 0, value, parts) == *result
    })?;
    Ok(tapped)
}

/// Whether every record is in exactly one result of its key, and each result is right for its records.
pub(super) fn partition(
    site: &Site<'_>,
    results: &[Record],
    is_right: impl Fn(&Record, &[&Record]) -> bool,
) -> Result<(), String> {
    let inputs = by_uid(&site.input().records);
    let mut used = BTreeSet::new();
    for result in results {
        let mut records = Vec::new();
        for uid in &result.parts {
            let record = inputs.get(uid).filter(|record| record.key == result.key);
            records.push(*record.ok_or_else(|| format!("{uid} in {result:?} is no record of the key"))?);
            if !used.insert(*uid) {
                return Err(format!("{uid} is twice in results, the second time in {result:?}"));
            }
        }
        if records.is_empty() || !is_right(result, &records) {
            return Err(format!("{result:?} is no result of {records:?}"));
        }
    }
    match inputs.iter().find(|(uid, _)| !used.contains(uid)) {
        Some((_, record)) => Err(format!("{record:?} is in no result")),
        None => Ok(()),
    }
}
