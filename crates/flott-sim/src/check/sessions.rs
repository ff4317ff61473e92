//! Sessions of event time.
//!
//! As in Flink, a session takes in a record that begins in the very millisecond in which its gap has passed. But the
//! watermark that closes the session is one millisecond smaller, so such a record may be on time and come when the session
//! is gone. What is made of two sessions that touch without overlapping therefore depends on the schedule.

use super::same;
use super::windows::Slot;
use crate::plan::Windows;
use crate::record::Record;
use flott_types::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A session: start, end (exclusive), records.
type Session<'a> = (Timestamp, Timestamp, Vec<&'a Record>);

/// The sessions of the records of a key if those that touch are one.
pub(super) fn touching<'a>(windows: Windows, records: Vec<&'a Record>) -> Vec<Session<'a>> {
    sweep(windows, records, |start, end| start <= end)
}

fn sweep<'a>(
    windows: Windows,
    mut records: Vec<&'a Record>,
    goes_on: impl Fn(Timestamp, Timestamp) -> bool,
) -> Vec<Session<'a>> {
    records.sort_by_key(|record| record.timestamp);
    let mut sessions: Vec<Session<'_>> = Vec::new();
    for record in records {
        let end = record.timestamp + windows.gap_ms(record);
        match sessions.last_mut().filter(|(_, until, _)| goes_on(record.timestamp, *until)) {
            Some((_, until, session)) => {
                *until = end.max(*until);
                session.push(record);
            }
            None => sessions.push((record.timestamp, end, vec![record])),
        }
    }
    sessions
}

/// Whether `results` are what `made` makes of the sessions of on-time `records`, for some way of dividing sessions that
/// only touch. The first part of a result tells to which session it belongs.
///
/// With allowed lateness (`refines`) a session is still there after it has fired, and one that touches it makes it fire
/// again, with all records or those not purged.
pub(super) fn divided(
    windows: Windows,
    refines: bool,
    records: &[Record],
    results: &[Record],
    key_of: impl Fn(&Record) -> u32,
    made: impl Fn(Slot, &[&Record]) -> Vec<Record>,
) -> Result<(), String> {
    let mut keys: BTreeMap<u32, Vec<&Record>> = BTreeMap::new();
    records.iter().for_each(|record| keys.entry(key_of(record)).or_default().push(record));
    let known: BTreeSet<(u64, u32)> = records.iter().map(|record| (record.uid, key_of(record))).collect();
    let belongs =
        |result: &Record| result.parts.first().is_some_and(|uid| known.contains(&(*uid, result.key)));
    if let Some(stranger) = results.iter().find(|result| !belongs(result)) {
        return Err(format!("{stranger:?} has no record of its key"));
    }
    for (key, records) in keys {
        let of_key: Vec<&Record> = results.iter().filter(|result| result.key == key).collect();
        for (start, end, run) in touching(windows, records) {
            let apart = sweep(windows, run.clone(), |start, end| start < end);
            let fits = |sessions: &[Session<'_>]| {
                let (Some((start, _, _)), Some((_, end, _))) = (sessions.first(), sessions.last()) else {
                    return false;
                };
                let records: Vec<&Record> =
                    sessions.iter().flat_map(|(_, _, records)| records).copied().collect();
                same(&made((key, *start, *end), &records), &of(&of_key, &records)).is_ok()
            };
            if apart.len() > 1 && refines {
                let counted: BTreeSet<u64> =
                    of(&of_key, &run).iter().flat_map(|result| result.parts.clone()).collect();
                if let Some(record) = run.iter().find(|record| !counted.contains(&record.uid)) {
                    return Err(format!("{record:?} is in no session"));
                }
                continue;
            }
            if !can_be_divided(&apart, fits) {
                let what = same(&made((key, start, end), &run), &of(&of_key, &run));
                return what.and(Err("sessions that touch are neither one nor several".to_owned()));
            }
        }
    }
    Ok(())
}

/// The results whose first part is one of the records.
fn of(results: &[&Record], records: &[&Record]) -> Vec<Record> {
    let uids: BTreeSet<u64> = records.iter().map(|record| record.uid).collect();
    let of_records =
        results.iter().filter(|result| result.parts.first().is_some_and(|uid| uids.contains(uid)));
    of_records.map(|result| (*result).clone()).collect()
}

/// Whether the sessions are a sequence of runs that fit.
fn can_be_divided(sessions: &[Session<'_>], fits: impl Fn(&[Session<'_>]) -> bool) -> bool {
    let mut reached = vec![false; sessions.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for from in 0..sessions.len() {
        if reached.get(from) != Some(&true) {
            continue;
        }
        for until in from + 1..=sessions.len() {
            if sessions.get(from..until).is_some_and(&fits)
                && let Some(reached) = reached.get_mut(until)
            {
                *reached = true;
            }
        }
    }
    reached.last() == Some(&true)
}
