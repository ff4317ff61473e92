//! Windows by number of records.

use super::keyed::partition;
use super::{Site, by_key, by_uid, in_split_order, only_order, same, sum};
use crate::plan::CountWindowPlan;
use crate::record::Record;
use flott_types::Timestamp;
use std::collections::BTreeSet;

/// The windows of each key; exact where the order of its records is known.
pub(super) fn check(site: &Site<'_>, plan: CountWindowPlan) -> Result<Vec<Record>, String> {
    let tapped = site.tapped(0);
    let inputs = by_key(&site.input().records);
    let results = by_key(&tapped);
    let size = plan.size as usize;
    if plan.timeout_ms.is_some() {
        // When a time-out passes depends on the watermark, but in the end every record has been in one window.
        partition(site, &tapped, |result, records| {
            records.len() <= size && made(site, result.key, records.iter().copied()) == *result
        })?;
        return Ok(tapped);
    }
    for (key, records) in inputs {
        let results = results.get(&key).map(Vec::as_slice).unwrap_or_default();
        let slide = plan.slide.map_or(size, |slide| slide as usize);
        if let Some(order) = only_order(site, &records) {
            let windows = (1..=order.len() / slide).map(|n| {
                let until = n * slide;
                let last = order.get(until.saturating_sub(size)..until).unwrap_or_default();
                made(site, key, last.iter().copied())
            });
            let windows: Vec<Record> = windows.collect();
            same(&windows, &results.iter().map(|record| (*record).clone()).collect::<Vec<_>>())?;
            if !windows.iter().eq(results.iter().copied()) {
                return Err(format!("the windows of key {key} are out of order"));
            }
            continue;
        }
        any_order(site, key, &records, results, size, slide)?;
    }
    match results.keys().find(|key| !by_key(&site.input().records).contains_key(key)) {
        Some(key) => Err(format!("a window of key {key}, which no record has")),
        None => Ok(tapped),
    }
}

fn made<'a>(site: &Site<'_>, key: u32, records: impl Iterator<Item = &'a Record> + Clone) -> Record {
    let parts = records.clone().map(|record| record.uid).collect();
    Record::made(site.idx, key, Timestamp::MAX, 0, sum(records), parts)
}

/// Whether the windows are those of the records in some order.
fn any_order(
    site: &Site<'_>,
    key: u32,
    records: &[&Record],
    results: &[&Record],
    size: usize,
    slide: usize,
) -> Result<(), String> {
    if results.len() != records.len() / slide {
        return Err(format!("{} records of key {key} made {} windows", records.len(), results.len()));
    }
    let inputs = by_uid(records.iter().copied());
    let mut arrived: Vec<&Record> = Vec::new();
    let mut used = BTreeSet::new();
    for (idx, result) in results.iter().enumerate() {
        let of_window = result.parts.iter().map(|uid| inputs.get(uid).copied()).collect::<Option<Vec<_>>>();
        let of_window = of_window.ok_or_else(|| format!("{result:?} has records of other keys"))?;
        if of_window.len() != size.min((idx + 1) * slide)
            || made(site, key, of_window.iter().copied()) != **result
        {
            return Err(format!("window {idx} of key {key} is wrong: {result:?}"));
        }
        // The records that are new in this window; if windows are further apart than they are long, some were in none.
        let n_new = slide.min(of_window.len());
        let (known, new) = of_window.split_at(of_window.len() - n_new);
        let before = arrived.get(arrived.len() - known.len()..).unwrap_or_default();
        if slide <= size && known != before {
            return Err(format!(
                "window {idx} of key {key} does not go on where the last one ended: {result:?}"
            ));
        }
        for record in new {
            if !used.insert(record.uid) {
                return Err(format!("{record:?} is in windows of key {key} twice"));
            }
        }
        arrived.extend(new);
    }
    in_split_order(site, arrived)
}
