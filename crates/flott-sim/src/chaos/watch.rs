//! A reader of committed output, all the time that a job runs.
//!
//! What it checks at each look: no row that the reference does not have, none twice, and none gone that was there before. Now and then, it also reads the
//! newest complete checkpoint, after the output: what is seen must be due by that. In the end all rows must be there.

use super::output::{Output, Place};
use super::process::rest;
use super::victim::{row_text, upserted};
use crate::faults::Job;
use crate::faults::cut::latest_cut;
use crate::faults::expected::{Due, Row};
use flott_env::Env;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(15);
/// Every so-manieth look compares with the newest checkpoint.
const COMPARE_EVERY: u64 = 4;
/// How often a checkpoint is read that seems too old.
const COMPARE_ATTEMPTS: u32 = 4;
/// Wrong things that are kept: the first ones say enough.
const WRONG_MAX: usize = 5;

/// What is wrong with output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    /// A row has gone, or is missing in the end.
    Lost,
    /// A row is there twice.
    Doubled,
    /// A row that never should be there, or not yet.
    Phantom,
}

/// What a reader has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) n_looks: u64,
    /// Looks that were compared with a checkpoint.
    pub(crate) n_compared: u64,
    /// Looks at which output or checkpoint could not be read.
    pub(crate) n_unreadable: u64,
    /// Rows in the end, over all places.
    pub(crate) n_rows: u64,
    /// Hidden files in the end, of attempts that went on writing when they were replaced.
    pub(crate) n_hidden: u64,
    pub(crate) n_wrong: BTreeMap<Wrong, u64>,
    /// The first of them.
    pub(crate) wrong: Vec<String>,
    /// Why something could not be read, the last time.
    pub(crate) unreadable: Option<String>,
}

impl Seen {
    fn note(&mut self, wrong: Wrong, what: impl FnOnce() -> String) {
        *self.n_wrong.entry(wrong).or_default() += 1;
        if self.wrong.len() < WRONG_MAX {
            self.wrong.push(format!("{wrong:?}: {}", what()));
        }
    }
}

/// The output that a job must have.
struct Reference {
    /// By text, and when each is due.
    rows: BTreeMap<String, Due>,
    /// What a key may have, the last of which stays.
    values: BTreeMap<String, Vec<String>>,
}

impl Reference {
    fn new(job: &Job) -> Self {
        let expected = job.expected();
        let mut values = BTreeMap::<String, Vec<String>>::new();
        // In the order of keys and counts.
        for row in expected.keys() {
            let (key, value) = upserted(row);
            values.entry(key).or_default().push(value);
        }
        let text = |(row, due): (&Row, &Due)| (row_text(row), *due);
        Self { rows: expected.iter().map(text).collect(), values }
    }
}

/// Reads in a thread of its own.
pub(crate) struct Watcher {
    seen: Arc<Mutex<Seen>>,
    is_stopped: Arc<AtomicBool>,
    handle: JoinHandle<()>,
    look: Look,
}

impl Watcher {
    /// Begins to look at the output of `job` below `dir`.
    #[expect(clippy::disallowed_methods, reason = "it looks at real files, which take real time")]
    pub(crate) fn start(env: &Env, dir: &str, job: &Job) -> Self {
        let reference = Arc::new(Reference::new(job));
        let (seen, is_stopped) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let look = |reference: &Arc<Reference>| Look {
            env: env.clone(),
            dir: dir.to_owned(),
            job: job.clone(),
            reference: Arc::clone(reference),
            output: Output::new(env, dir),
            before: BTreeMap::new(),
        };
        let (mut looking, until, into) = (look(&reference), Arc::clone(&is_stopped), Arc::clone(&seen));
        let handle = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let mut seen = lock(&into).clone();
                looking.look(&mut seen);
                *lock(&into) = seen;
                rest(LOOK_INTERVAL);
            }
        });
        Self { seen, is_stopped, handle, look: look(&reference) }
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Looks for the last time: with `is_complete` the job has ended, and all must be there.
    pub(crate) fn finish(self, is_complete: bool) -> Seen {
        let Self { seen, is_stopped, handle, mut look } = self;
        is_stopped.store(true, Ordering::Relaxed);
        let is_lost = handle.join().is_err();
        let mut seen = lock(&seen).clone();
        if is_lost {
            seen.note(Wrong::Lost, || "the reader has panicked".to_owned());
        }
        if is_complete {
            look.last(&mut seen);
        }
        seen
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Look {
    env: Env,
    dir: String,
    job: Job,
    reference: Arc<Reference>,
    output: Output,
    /// What was there at the last look.
    before: BTreeMap<Place, Vec<String>>,
}

impl Look {
    fn look(&mut self, seen: &mut Seen) {
        seen.n_looks += 1;
        let mut all = BTreeSet::new();
        for place in Place::ALL {
            match self.output.rows(place) {
                Ok(rows) => {
                    let rows = self.check_place(place, rows, seen);
                    all.extend(rows.iter().cloned());
                    self.before.insert(place, rows);
                }
                Err(what) => {
                    seen.n_unreadable += 1;
                    seen.unreadable = Some(what);
                }
            }
        }
        self.check_values(seen);
        if seen.n_looks.is_multiple_of(COMPARE_EVERY) && !all.is_empty() {
            self.compare(&all, seen);
        }
    }

    /// The rows, sorted.
    fn check_place(&self, place: Place, mut rows: Vec<String>, seen: &mut Seen) -> Vec<String> {
        rows.sort_unstable();
        let name = place.name();
        for row in rows.iter().filter(|row| !self.reference.rows.contains_key(*row)) {
            seen.note(Wrong::Phantom, || format!("{row} in the {name} is none that there is"));
        }
        for (first, second) in rows.iter().zip(rows.iter().skip(1)) {
            if first == second {
                seen.note(Wrong::Doubled, || format!("{first} is in the {name} twice"));
            }
        }
        for row in self.before.get(&place).into_iter().flatten() {
            if rows.binary_search(row).is_err() {
                seen.note(Wrong::Lost, || format!("{row} was in the {name}, and has gone"));
            }
        }
        rows
    }

    fn check_values(&mut self, seen: &mut Seen) {
        let Ok(upserted) = self.output.upserted() else {
            seen.n_unreadable += 1;
            return;
        };
        for (key, value) in upserted {
            if !self.reference.values.get(&key).is_some_and(|values| values.contains(&value)) {
                seen.note(Wrong::Phantom, || format!("{key} has the value {value}, which is none of its"));
            }
        }
    }

    /// The checkpoint is read after the output: it is the one with which the newest row was committed, or a newer one.
    fn compare(&self, rows: &BTreeSet<String>, seen: &mut Seen) {
        let mut early = None;
        for _ in 0..COMPARE_ATTEMPTS {
            match self.first_early(rows) {
                Ok(None) => {
                    seen.n_compared += 1;
                    return;
                }
                // Checkpoints may be deleted while they are read, so that an older one is found: what is there now must be too old again.
                Ok(found) => early = found,
                Err(()) => {
                    seen.n_unreadable += 1;
                    return;
                }
            }
            rest(LOOK_INTERVAL);
        }
        if let Some(early) = early {
            seen.note(Wrong::Phantom, || early);
        }
    }

    /// A row that is not due by the newest checkpoint. None if the job has ended, and its checkpoints are gone.
    fn first_early(&self, rows: &BTreeSet<String>) -> Result<Option<String>, ()> {
        // An error: it was deleted while it was read.
        let Some(cut) = latest_cut(&self.env, &self.dir, &self.job).map_err(|_| ())? else { return Ok(None) };
        let due = rows.iter().filter_map(|row| Some((row, self.reference.rows.get(row)?)));
        let early = due.filter(|(_, due)| !cut.covers(**due).1).map(|(row, due)| {
            format!("{row}, due at {due:?}, is visible with checkpoint {}; {}", cut.id, cut.positions())
        });
        Ok(early.take(1).last())
    }

    fn last(&mut self, seen: &mut Seen) {
        self.output.forget();
        seen.n_looks += 1;
        for place in Place::ALL {
            let rows = match self.output.rows(place) {
                Ok(rows) => self.check_place(place, rows, seen),
                Err(what) => {
                    seen.note(Wrong::Lost, || format!("the {} cannot be read: {what}", place.name()));
                    continue;
                }
            };
            seen.n_rows += rows.len() as u64;
            for row in self.reference.rows.keys().filter(|row| rows.binary_search(row).is_err()) {
                seen.note(Wrong::Lost, || format!("{row} is missing in the {} in the end", place.name()));
            }
        }
        self.check_values(seen);
        self.last_values(seen);
        self.last_books(seen);
    }

    fn last_values(&mut self, seen: &mut Seen) {
        let upserted: BTreeMap<String, String> =
            self.output.upserted().unwrap_or_default().into_iter().collect();
        seen.n_rows += upserted.len() as u64;
        for (key, values) in &self.reference.values {
            if upserted.get(key) != values.last() {
                seen.note(Wrong::Lost, || {
                    format!("{key} has {:?} instead of {:?} in the end", upserted.get(key), values.last())
                });
            }
        }
    }

    /// In the end nothing but committed rows is left.
    fn last_books(&mut self, seen: &mut Seen) {
        let mut eager = self.output.eager_rows().unwrap_or_default();
        eager.sort_unstable();
        if !eager.iter().eq(self.reference.rows.keys()) {
            let n = eager.len();
            seen.note(Wrong::Phantom, || format!("{n} rows are in the eager table in the end"));
        }
        match self.output.left_over() {
            Ok(0) => {}
            n => seen.note(Wrong::Phantom, || format!("rows wait in the database in the end: {n:?}")),
        }
        seen.n_hidden = self.output.hidden_files().len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flott_env::sim::{MemoryFs, Simulation};
    use std::io::Write;
    use std::path::Path;

    /// A disk with these files, each with these rows of the output of a small job.
    fn disk(files: &[(&str, &[&str])]) -> MemoryFs {
        let disk = MemoryFs::default();
        let env = Simulation::new(1).with_disk(disk.clone()).env();
        env.fs().create_dir_all(Path::new("/job/out")).unwrap();
        for (name, rows) in files {
            let mut file = env.fs().create(&Path::new("/job/out").join(name)).unwrap();
            rows.iter().for_each(|row| writeln!(file, "{row}").unwrap());
        }
        disk
    }

    fn records(from: u64, to: u64) -> Vec<String> {
        let record = |number| row_text(&Row::Record((0, number)));
        (from..to).map(record).collect()
    }

    /// What one look after the other notes.
    fn wrong(looks: &[&[(&str, &[&str])]]) -> Vec<Wrong> {
        let job = Job { splits: 1, records: 4, shape: crate::faults::Shape::Records, ..Job::small() };
        let env = |files: &[_]| Simulation::new(1).with_disk(disk(files)).env();
        let reference = Arc::new(Reference::new(&job));
        let (dir, before) = ("/job".to_owned(), BTreeMap::new());
        let output = Output::new(&env(&[]), &dir);
        let mut look = Look { env: env(&[]), dir, job, reference, output, before };
        let mut seen = Seen::default();
        for files in looks {
            look.output = Output::new(&env(files), "/job");
            look.look(&mut seen);
        }
        seen.n_wrong.into_keys().collect()
    }

    #[test]
    fn what_is_lost_doubled_or_false_is_noticed() {
        let rows = records(0, 4);
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let none: [Wrong; 0] = [];
        assert_eq!(wrong(&[&[("a", &rows[..2])], &[("a", &rows[..2]), ("b", &rows[2..])]]), none);
        assert_eq!(wrong(&[&[(".a", &["hidden"])]]), none);
        assert_eq!(wrong(&[&[("a", &rows[..2])], &[("a", &rows[..1])]]), [Wrong::Lost]);
        assert_eq!(wrong(&[&[("a", &rows[..2]), ("b", &rows[1..])]]), [Wrong::Doubled]);
        assert_eq!(wrong(&[&[("a", &["{\"Record\":[0,4]}"])]]), [Wrong::Phantom]);
    }
}
