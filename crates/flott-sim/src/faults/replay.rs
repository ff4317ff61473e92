//! What the state in a checkpoint must be: by plain loops over the input up to the positions in that checkpoint (S9 of the catalogue).
//!
//! The reference knows the positions of splits, what is on its way, and how far event time has come; of the last it is checked separately
//! that it fits the splits. What windows, timers, maps and counts must hold then follows from the records alone.

use super::expected::{Numbered, SECOND};
use super::functions::memo_of;
use super::held::{COUNT, GROUPS, Held, JOINED, KeyedDump, MEMO, Place, SESSIONS, SLICES, TIMERS, WINDOWS};
use super::plan::{Job, Shape};
use flott_types::{Timestamp, Watermark};
use std::collections::{BTreeMap, BTreeSet};

/// What must be there, and what may.
#[derive(Debug, Default)]
struct Replayed {
    must: BTreeMap<Place, Held>,
    /// Slices that no window needs any more go with the next window, buffers of a join with the next clean-up, and some things when their time
    /// to live is over.
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
    let is_rule = |record: &Numbered| matches!(job.shape, Shape::Rules { .. }) && job.is_right(record);
    let of_state = |record: &Numbered| !(job.apart && record.0 == SECOND || is_rule(record));
    // Where nobody knows how far event time has come, the operator has ended, and its state with it.
    let seen = seen.filter(of_state).filter(|record| dump.reached(job.key(*record)).is_some());
    let Replayed { must, may } = replay(job, dump, seen.collect());
    if matches!(job.shape, Shape::Joined { .. }) {
        compare_join_timers(dump)?;
    }
    let is_compared = |place: &Place| place.0 != TIMERS || !matches!(job.shape, Shape::Joined { .. });
    for (place, held) in dump.entries.iter().filter(|(place, _)| is_compared(place)) {
        let fits = match (must.get(place), may.get(place)) {
            (Some(replayed), _) => replayed == held,
            (None, Some(replayed)) => replayed == held || is_part_of(place, held, replayed),
            (None, None) => return Err(format!("the state has {place:?} with {held:?}, which it must not")),
        };
        if !fits {
            let replayed = must.get(place).or_else(|| may.get(place));
            return Err(format!("the state has {held:?} at {place:?}, and a replay {replayed:?}"));
        }
    }
    match must.iter().find(|(place, _)| !dump.entries.contains_key(*place)) {
        Some((place, held)) => Err(format!("the state has nothing at {place:?}, and a replay {held:?}")),
        None => Ok(dump.entries.len() as u64),
    }
}

/// Of the records of a join that nothing can match any more, those are not kept that come when that is so already.
fn is_part_of((name, ..): &Place, held: &Held, replayed: &Held) -> bool {
    match (held, replayed) {
        (Held::Records(held), Held::Records(replayed)) if JOINED.contains(name) => {
            held.iter().all(|record| replayed.contains(record))
        }
        _ => false,
    }
}

/// A key of a join has one timer as long as it has records. When that is depends on the order in which they came.
fn compare_join_timers(dump: &KeyedDump) -> Result<(), String> {
    let keys = |of: &dyn Fn(&str) -> bool| -> BTreeSet<u32> {
        dump.entries.keys().filter(|(name, ..)| of(name)).map(|(_, key, _)| *key).collect()
    };
    let (held, timers) = (keys(&|name| JOINED.contains(&name)), keys(&|name| name == TIMERS));
    let n_timers = dump.entries.keys().filter(|(name, ..)| *name == TIMERS).count();
    if held != timers || n_timers != timers.len() {
        return Err(format!("keys {held:?} have records, and {n_timers} timers are of keys {timers:?}"));
    }
    Ok(())
}

/// The watermark of a split behind its first `next` records.
pub(crate) fn split_watermark(job: &Job, split: u32, next: u64) -> Watermark {
    let newest = (0..next).map(|number| job.timestamp((split, number))).max();
    newest.map_or(Watermark::MIN, |newest| Watermark(newest - job.disorder_ms - 1))
}

fn replay(job: &Job, dump: &KeyedDump, mut seen: Vec<Numbered>) -> Replayed {
    // By time, and those of one time in their order.
    seen.sort_by_key(|record| (job.keyed_timestamp(*record), *record));
    let mut replayed = Replayed::default();
    let slice_ms = match job.shape {
        Shape::Sliding { size_ms, slide_ms } => gcd(size_ms, slide_ms),
        _ => 1,
    };
    for record in &seen {
        let (key, at) = (job.key(*record), job.keyed_timestamp(*record));
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
            Shape::Timers { delay_ms } | Shape::Connected { delay_ms } | Shape::Rules { delay_ms } => {
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
                if job.memo_ms.is_some() {
                    replayed.may.insert((MEMO, key, 0), Held::Memo(memo_of(key)));
                }
            }
            Shape::Joined { lower_ms, upper_ms } => {
                let is_right = job.is_right(record);
                let reach = if is_right { -lower_ms } else { upper_ms };
                let buffers = if is_open(at + reach + 1) { &mut replayed.must } else { &mut replayed.may };
                push(buffers, (JOINED[usize::from(is_right)], key, at), *record);
            }
            // Below, by the order in which they came.
            Shape::Chunks { .. } => {}
        }
    }
    if let Shape::Chunks { size_ms, count } = job.shape {
        for ((key, start), window) in job.in_order(&seen, size_ms) {
            let last = start + size_ms - 1;
            if dump.reached(key).is_none_or(|reached| last <= reached.0) {
                continue;
            }
            // A timer for the end of each window, whatever is in it.
            let timer = Held::Window(0, vec![(0, start as u64)]);
            replayed.must.insert((TIMERS, key, last), timer);
            let rest = window.chunks_exact(count as usize).remainder();
            if !rest.is_empty() {
                let held = Held::Window(rest.len() as u64, rest.to_vec());
                replayed.must.insert((WINDOWS, key, start), held);
            }
        }
    }
    // Sessions that have fired were needed to see which records are of others.
    let is_open = |(_, key, _): &Place, held: &Held| match held {
        Held::Session(end, _) => dump.reached(*key).is_some_and(|reached| end - 1 > reached.0),
        Held::Records(_) | Held::Count(..) | Held::Window(..) | Held::Memo(_) | Held::Timer => true,
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
