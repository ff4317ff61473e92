//! Windows of event time.

use super::{Site, Stream, by_uid, same, sessions, sum, uids};
use crate::functions::pair;
use crate::plan::{WindowFunction, WindowPlan, WindowTrigger, Windows};
use crate::record::Record;
use flott_types::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A window of a key: key, start, end (exclusive).
pub(super) type Slot = (u32, Timestamp, Timestamp);

/// The windows of a record that are not sessions, earliest first.
fn windows_of(windows: Windows, at: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let (size, slide, offset) = match windows {
        Windows::Tumbling { size_ms, offset_ms } => (size_ms, size_ms, offset_ms),
        Windows::Sliding { size_ms, slide_ms, offset_ms } => (size_ms, slide_ms, offset_ms),
        Windows::Session { .. } | Windows::DynamicSession { .. } => return Vec::new(),
    };
    let mut start = (at - offset).div_euclid(slide) * slide + offset;
    let mut found = Vec::new();
    while start + size > at {
        found.insert(0, (start, start + size));
        start -= slide;
    }
    found
}

/// The records of each window, if none is late.
fn assign(
    windows: Windows,
    records: &[Record],
    key_of: impl Fn(&Record) -> u32,
) -> BTreeMap<Slot, Vec<&Record>> {
    let mut slots: BTreeMap<Slot, Vec<&Record>> = BTreeMap::new();
    for record in records {
        for (start, end) in windows_of(windows, record.timestamp) {
            slots.entry((key_of(record), start, end)).or_default().push(record);
        }
    }
    slots
}

/// What both kinds of check need.
struct Case<'a> {
    site: &'a Site<'a>,
    plan: &'a WindowPlan,
    input: &'a Stream,
    results: Vec<Record>,
    late: Vec<Record>,
}

/// Checks main output and late output.
pub(super) fn check(site: &Site<'_>, plan: &WindowPlan, input: &Stream) -> Result<Vec<Vec<Record>>, String> {
    let late = if plan.late_output { site.tapped(1) } else { Vec::new() };
    let case = Case { site, plan, input, results: site.tapped(0), late };
    let records = by_uid(&input.records);
    if let Some(record) = case.late.iter().find(|record| records.get(&record.uid) != Some(record)) {
        return Err(format!("the late {record:?} is no record of the input"));
    }
    if by_uid(&case.late).len() < case.late.len() {
        return Err("a record was late twice".to_owned());
    }
    case.in_order_of_time()?;
    let at_end = matches!(plan.trigger, WindowTrigger::Default | WindowTrigger::Purging);
    if input.facts.on_time && (!case.late.is_empty() || site.late_dropped() > 0) {
        let first = case.late.first();
        return Err(format!(
            "{} records of an on-time stream were late: {first:?}",
            case.late.len() + site.late_dropped()
        ));
    }
    if input.facts.on_time && at_end {
        case.exactly()?;
    } else if plan.windows.is_session() {
        case.legal_sessions()?;
    } else {
        case.legal_windows()?;
    }
    let Case { results, late, .. } = case;
    Ok(if plan.late_output { vec![results, late] } else { vec![results] })
}

impl<'a> Case<'a> {
    fn key_of(&self, record: &Record) -> u32 {
        if self.plan.over_all { 0 } else { record.key }
    }

    /// The result of a firing. Aggregations without a window function do not know the start of the window.
    fn made(&self, (key, start, end): Slot, records: &[&Record]) -> Record {
        let knows_window =
            matches!(self.plan.function, WindowFunction::AggregateWith | WindowFunction::Process);
        let aux = if knows_window { start } else { 0 };
        let parts = uids(records.iter().copied());
        Record::made(self.site.idx, key, end - 1, aux, sum(records.iter().copied()), parts)
    }

    /// Whether a session may show its last records only.
    fn shows_part(&self) -> bool {
        self.plan.trigger == WindowTrigger::Purging && self.plan.lateness_ms > 0
    }

    /// Whether a result is that of these records, and of a window in which they are.
    fn is_part(&self, result: &Record, records: &[&Record]) -> bool {
        let inside = |record: &&Record| {
            record.timestamp + self.plan.windows.gap_ms(record) <= result.timestamp + 1
                && (result.aux == 0 || result.aux <= record.timestamp)
        };
        let parts = uids(records.iter().copied());
        let (key, timestamp, aux) = (result.key, result.timestamp, result.aux);
        let made = Record::made(self.site.idx, key, timestamp, aux, sum(records.iter().copied()), parts);
        records.iter().all(inside) && made == *result
    }

    /// Every window fires once, with all its records.
    fn exactly(&self) -> Result<(), String> {
        if self.plan.windows.is_session() {
            let inputs = by_uid(&self.input.records);
            for result in &self.results {
                let records = self.records_of(result, &inputs)?;
                if !self.is_part(result, &records) {
                    return Err(format!("{result:?} is no session of {records:?}"));
                }
            }
            let key_of = |record: &Record| self.key_of(record);
            let made = |slot, records: &[&Record]| vec![self.made(slot, records)];
            return sessions::divided(
                self.plan.windows,
                self.plan.lateness_ms > 0,
                &self.input.records,
                &self.results,
                key_of,
                made,
            );
        }
        let slots = assign(self.plan.windows, &self.input.records, |record| self.key_of(record));
        let expected: Vec<Record> = slots.iter().map(|(slot, records)| self.made(*slot, records)).collect();
        same(&expected, &self.results)
    }

    /// The results of a key that fire at the end of windows come in the order of time, if none is fired for a late record.
    fn in_order_of_time(&self) -> Result<(), String> {
        let at_end = matches!(self.plan.trigger, WindowTrigger::Default | WindowTrigger::Purging);
        if !at_end || (self.plan.lateness_ms > 0 && !self.input.facts.on_time) {
            return Ok(());
        }
        let mut last: BTreeMap<u32, &Record> = BTreeMap::new();
        for result in &self.results {
            if let Some(before) = last.insert(result.key, result)
                && before.timestamp > result.timestamp
            {
                return Err(format!("{result:?} was fired after {before:?}"));
            }
        }
        Ok(())
    }

    /// The input records of a result, by its parts.
    fn records_of(
        &self,
        result: &Record,
        inputs: &BTreeMap<u64, &'a Record>,
    ) -> Result<Vec<&'a Record>, String> {
        let records = result.parts.iter().map(|uid| inputs.get(uid).copied()).collect::<Option<Vec<_>>>();
        let records =
            records.filter(|records| records.iter().all(|record| self.key_of(record) == result.key));
        let records = records.ok_or_else(|| format!("{result:?} has records that are not of its key"))?;
        if records.is_empty() || by_uid(records.iter().copied()).len() < records.len() {
            return Err(format!("{result:?} is empty or has a record twice"));
        }
        Ok(records)
    }

    /// A record that did not count in a window must have met a watermark that had closed it.
    fn justify(&self, record: &Record, end: Timestamp) -> Result<(), String> {
        let (closes, bound) = (end - 1 + self.plan.lateness_ms, self.input.bound(record));
        if closes <= bound {
            return Ok(());
        }
        Err(format!(
            "{record:?} is missing in the window that ends at {end} and closes at {closes}, \
             but no watermark before it was above {bound}"
        ))
    }

    fn check_dropped(&self, n_late: usize) -> Result<(), String> {
        let (tapped, dropped) = (self.late.len(), self.site.late_dropped());
        let (to_output, to_counter) = if self.plan.late_output { (n_late, 0) } else { (0, n_late) };
        if (tapped, dropped) == (to_output, to_counter) {
            return Ok(());
        }
        Err(format!("{n_late} records were late, {tapped} of them in the output, and {dropped} were counted"))
    }

    /// Windows that may fire early or again, and may miss late records.
    fn legal_windows(&self) -> Result<(), String> {
        let slots = assign(self.plan.windows, &self.input.records, |record| self.key_of(record));
        let inputs = by_uid(&self.input.records);
        let mut firings: BTreeMap<Slot, Vec<&Record>> = BTreeMap::new();
        let length = windows_of(self.plan.windows, 0).first().map(|(start, end)| end - start);
        let length = length.or(match self.plan.windows {
            Windows::Sliding { size_ms, .. } => Some(size_ms),
            _ => None,
        });
        let length = length.ok_or("windows without a length")?;
        for result in &self.results {
            let slot = (result.key, result.timestamp + 1 - length, result.timestamp + 1);
            let of_slot =
                slots.get(&slot).ok_or_else(|| format!("no record belongs into the window of {result:?}"))?;
            let records = self.records_of(result, &inputs)?;
            let outside = records.iter().find(|record| !of_slot.iter().any(|known| known.uid == record.uid));
            if let Some(record) = outside {
                return Err(format!("{record:?} does not belong into the window of {result:?}"));
            }
            if self.made(slot, &records) != *result {
                return Err(format!("{result:?} is no result of {records:?}"));
            }
            firings.entry(slot).or_default().push(result);
        }
        let mut counted: BTreeMap<Slot, BTreeSet<u64>> = BTreeMap::new();
        for (slot, firings) in &firings {
            let n_records = slots.get(slot).map_or(0, Vec::len);
            counted.insert(*slot, self.firings_of_window(firings, n_records)?);
        }
        if let WindowTrigger::Count { .. } = self.plan.trigger {
            // What has not fired cannot be told from what came late, but late records are in no window.
            let n_dropped = self.site.late_dropped();
            for record in &self.late {
                let last = windows_of(self.plan.windows, record.timestamp)
                    .last()
                    .map_or(Timestamp::MAX, |(_, end)| *end);
                self.justify(record, last)?;
            }
            return self.check_dropped(if self.plan.late_output { self.late.len() } else { n_dropped });
        }
        let mut late = Vec::new();
        for record in &self.input.records {
            let key = self.key_of(record);
            let of_record = windows_of(self.plan.windows, record.timestamp);
            let is_in = |(start, end): &(Timestamp, Timestamp)| {
                counted.get(&(key, *start, *end)).is_some_and(|counted| counted.contains(&record.uid))
            };
            let n_missed = of_record.iter().take_while(|window| !is_in(window)).count();
            let (missed, rest) = of_record.split_at(n_missed);
            missed.iter().try_for_each(|(_, end)| self.justify(record, *end))?;
            if let Some(gap) = rest.iter().find(|window| !is_in(window)) {
                return Err(format!("{record:?} is missing in {gap:?} though it is in an earlier window"));
            }
            if rest.is_empty() && !missed.is_empty() {
                late.push(record.clone());
            }
        }
        if self.plan.late_output {
            same(&late, &self.late).map_err(|what| format!("late records: {what}"))?;
        }
        self.check_dropped(late.len())
    }

    /// Whether the firings of a window follow each other as they may; returns the records that counted.
    fn firings_of_window(&self, firings: &[&Record], n_records: usize) -> Result<BTreeSet<u64>, String> {
        let mut counted: BTreeSet<u64> = BTreeSet::new();
        for (idx, firing) in firings.iter().enumerate() {
            let parts: BTreeSet<u64> = firing.parts.iter().copied().collect();
            let n_new = parts.difference(&counted).count();
            let is_right = match self.plan.trigger {
                // At the end, and again for each late record.
                WindowTrigger::Default => counted.is_subset(&parts) && (idx == 0 || n_new == 1),
                WindowTrigger::Purging => counted.is_disjoint(&parts) && (idx == 0 || n_new == 1),
                WindowTrigger::Continuous { .. } => counted.is_subset(&parts),
                WindowTrigger::Count { n } => counted.is_subset(&parts) && n_new as u64 == n,
            };
            let again = idx > 0 && self.plan.lateness_ms == 0;
            let at_end = matches!(self.plan.trigger, WindowTrigger::Default | WindowTrigger::Purging);
            if !is_right || (again && at_end) {
                return Err(format!(
                    "firing {idx} of a window is wrong: {firing:?} after {:?}",
                    firings.get(..idx)
                ));
            }
            counted.extend(parts);
        }
        if let WindowTrigger::Count { n } = self.plan.trigger
            && self.input.facts.on_time
            && firings.len() as u64 != n_records as u64 / n
        {
            return Err(format!(
                "a window of {n_records} records fired {} times: {:?}",
                firings.len(),
                firings.first()
            ));
        }
        Ok(counted)
    }

    /// Sessions that may miss late records, and may therefore be shorter than they would have been.
    fn legal_sessions(&self) -> Result<(), String> {
        let inputs = by_uid(&self.input.records);
        let mut counted: BTreeMap<u64, usize> = BTreeMap::new();
        let mut fired: Vec<(&Record, Vec<&Record>)> = Vec::new();
        for result in &self.results {
            let records = self.records_of(result, &inputs)?;
            let legal = match sessions::touching(self.plan.windows, records.clone()).as_slice() {
                // Purged records are not shown again, but they made the window longer.
                _ if self.shows_part() => self.is_part(result, &records),
                [(start, end, _)] => self.made((result.key, *start, *end), &records) == *result,
                _ => false,
            };
            if !legal {
                return Err(format!("{result:?} is no session of {records:?}"));
            }
            result.parts.iter().for_each(|uid| *counted.entry(*uid).or_default() += 1);
            fired.push((result, records));
        }
        let late: Vec<Record> =
            self.input.records.iter().filter(|record| !counted.contains_key(&record.uid)).cloned().collect();
        for record in &late {
            self.justify(record, record.timestamp + self.plan.windows.gap_ms(record))?;
        }
        if self.plan.late_output {
            same(&late, &self.late).map_err(|what| format!("late records: {what}"))?;
        }
        self.check_dropped(late.len())?;
        if self.plan.lateness_ms > 0 {
            return Ok(());
        }
        if let Some((uid, _)) = counted.iter().find(|(_, count)| **count > 1) {
            return Err(format!("{uid} is in two sessions"));
        }
        self.legal_divisions(&fired)
    }

    /// Two sessions of a key that touch: one must have been over when a record of the other came.
    fn legal_divisions(&self, fired: &[(&Record, Vec<&Record>)]) -> Result<(), String> {
        for (idx, (earlier, first)) in fired.iter().enumerate() {
            for (later, second) in fired.iter().skip(idx + 1).filter(|(later, _)| later.key == earlier.key) {
                let together: Vec<&Record> = first.iter().chain(second).copied().collect();
                let closed = |record: &&Record| earlier.timestamp <= self.input.bound(record);
                if sessions::touching(self.plan.windows, together).len() == 1 && !second.iter().any(closed) {
                    return Err(format!(
                        "{earlier:?} and {later:?} are one session, and no record came late"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The window join or co-group of two on-time streams.
pub(super) fn join(site: &Site<'_>, windows: Windows, co_group: bool) -> Result<Vec<Record>, String> {
    let (left, right) = (&site.input().records, &site.second().records);
    // Sides are told apart by place: a record may be on both.
    let both: Vec<Record> = left.iter().chain(right).cloned().collect();
    let placed = both.iter().enumerate().map(|(idx, record)| Record { seq: idx as u64, ..record.clone() });
    let placed: Vec<Record> = placed.collect();
    let made = |slot: Slot, records: &[&Record]| {
        let side = |is_left: bool| {
            let of_side =
                records.iter().filter(move |record| ((record.seq as usize) < left.len()) == is_left);
            of_side.copied().collect::<Vec<_>>()
        };
        joined(site, slot, &side(true), &side(false), co_group)
    };
    if windows.is_session() {
        let tapped = site.tapped(0);
        sessions::divided(windows, false, &placed, &tapped, |record| record.key, made)?;
        return Ok(tapped);
    }
    let slots = assign(windows, &placed, |record| record.key);
    Ok(slots.iter().flat_map(|(slot, records)| made(*slot, records)).collect())
}

fn joined(site: &Site<'_>, slot: Slot, left: &[&Record], right: &[&Record], co_group: bool) -> Vec<Record> {
    let (key, start, end) = slot;
    if co_group {
        let value = sum(left.iter().copied()).wrapping_sub(sum(right.iter().copied()));
        let parts = uids(left.iter().chain(right).copied());
        return vec![Record::made(site.idx, key, end - 1, start, value, parts)];
    }
    let pairs = left.iter().flat_map(|left| right.iter().map(|right| pair(site.idx, left, right)));
    pairs.map(|pair| Record::made(site.idx, key, end - 1, 0, pair.value, pair.parts)).collect()
}
