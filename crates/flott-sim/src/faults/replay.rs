//! What the state in a checkpoint must be: by plain loops over the input up to the positions in that checkpoint (S9 of the catalogue).
//!
//! The reference knows the positions of splits, what is on its way, and how far event time has come; of the last it is checked separately
//! that it fits the splits. What windows, timers, maps and counts must hold then follows from the records alone.

use super::expected::{Numbered, SECOND};
use super::held::{COUNT, GROUPS, Held, KeyedDump, Place, SESSIONS, SLICES, TIMERS};
use super::plan::{Job, Shape};
use flott_types::{Timestamp, Watermark};
use std::collections::BTreeMap;

/// What must be there, and what may.
#[derive(Debug, Default)]
struct Replayed {
    must: BTreeMap<Place, Held>,
    /// Slices that no window needs any more go with the next window.
    may: BTreeMap<Place, Held>,
}

/// Compares the keyed state in a checkpoint with a replay of the records that its operator has seen.
///
/// # Errors
/// What is wrong. Otherwise how many entries were compared.
pub(crate) fn compare_state(
    job: &Job,
    dump: &KeyedDump,
    seen: impl Iterator<Item = Numbered>,
) -> Result<u64, String> {
    let of_state = |(split, _): &Numbered| !(job.apart && *split == SECOND);
    // Where nobody knows how far event time has come, the operator has ended, and its state with it.
    let seen = seen.filter(of_state).filter(|record| dump.reached(job.key(*record)).is_some());
    let Replayed { must, may } = replay(job, dump, seen.collect());
    for (place, held) in &dump.entries {
        match must.get(place).or_else(|| may.get(place)) {
            None => return Err(format!("the state has {place:?} with {held:?}, which it must not")),
            Some(replayed) if replayed != held => {
                return Err(format!("the state has {held:?} at {place:?}, and a replay {replayed:?}"));
            }
            Some(_) => {}
        }
    }
    match must.iter().find(|(place, _)| !dump.entries.contains_key(*place)) {
        Some((place, held)) => Err(format!("the state has nothing at {place:?}, and a replay {held:?}")),
        None => Ok(dump.entries.len() as u64),
    }
}

/// The watermark of a split behind its first `next` records.
pub(crate) fn split_watermark(job: &Job, split: u32, next: u64) -> Watermark {
    let newest = (0..next).map(|number| job.timestamp((split, number))).max();
    newest.map_or(Watermark::MIN, |newest| Watermark(newest - job.disorder_ms - 1))
}

fn replay(job: &Job, dump: &KeyedDump, mut seen: Vec<Numbered>) -> Replayed {
    // By time, and those of one time in their order.
    seen.sort_by_key(|record| (job.timestamp(*record), *record));
    let mut replayed = Replayed::default();
    let slice_ms = match job.shape {
        Shape::Sliding { size_ms, slide_ms } => gcd(size_ms, slide_ms),
        _ => 1,
    };
    for record in &seen {
        let (key, at) = (job.key(*record), job.timestamp(*record));
        let is_open = |end: Timestamp| dump.reached(key).is_some_and(|reached| end - 1 > reached.0);
        match job.shape {
            Shape::Records => {}
            Shape::Tumbling { size_ms } => {
                let end = at.div_euclid(size_ms) * size_ms + size_ms;
                if is_open(end) {
                    push(&mut replayed.must, (SLICES, key, end), *record);
                }
            }
            Shape::Sliding { size_ms, slide_ms } => {
                let last_window_end = at.div_euclid(slide_ms) * slide_ms + size_ms;
                let slices = if is_open(last_window_end) { &mut replayed.must } else { &mut replayed.may };
                // Not if it is between windows.
                if last_window_end > at {
                    push(slices, (SLICES, key, at.div_euclid(slice_ms) * slice_ms + slice_ms), *record);
                }
            }
            Shape::Session { gap_ms } => extend(&mut replayed.must, key, at, gap_ms, *record),
            Shape::Timers { delay_ms } => {
                if is_open(at + delay_ms + 1) {
                    push(&mut replayed.must, (GROUPS, key, at), *record);
                    replayed.must.insert((TIMERS, key, at + delay_ms), Held::Timer);
                }
            }
            Shape::Counts => {
                let count = replayed.must.entry((COUNT, key, 0)).or_insert(Held::Count(0, 0));
                if let Held::Count(count, sum) = count {
                    (*count, *sum) = (*count + 1, *sum + record.1);
                }
            }
        }
    }
    // Sessions that have fired were needed to see which records are of others.
    let is_open = |(_, key, _): &Place, held: &Held| match held {
        Held::Session(end, _) => dump.reached(*key).is_some_and(|reached| end - 1 > reached.0),
        Held::Records(_) | Held::Count(..) | Held::Timer => true,
    };
    replayed.must.retain(|place, held| is_open(place, held));
    for held in replayed.must.values_mut().chain(replayed.may.values_mut()) {
        if let Held::Records(records) | Held::Session(_, records) = held {
            records.sort_unstable();
        }
    }
    replayed
}

/// The longest time of which all windows, and the distances between them, consist.
fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn push(entries: &mut BTreeMap<Place, Held>, place: Place, record: Numbered) {
    if let Held::Records(records) = entries.entry(place).or_insert_with(|| Held::Records(Vec::new())) {
        records.push(record);
    }
}

/// Adds a record to the last session of its key, or begins another. Records come by time.
fn extend(entries: &mut BTreeMap<Place, Held>, key: u32, at: Timestamp, gap_ms: i64, record: Numbered) {
    let last = entries.range_mut((SESSIONS, key, Timestamp::MIN)..=(SESSIONS, key, at)).next_back();
    match last {
        Some((_, Held::Session(end, records))) if at <= *end => {
            *end = at + gap_ms;
            records.push(record);
        }
        Some(_) | None => {
            entries.insert((SESSIONS, key, at), Held::Session(at + gap_ms, vec![record]));
        }
    }
}
