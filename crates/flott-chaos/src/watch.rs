//! Reads what is committed, beside the job.

use crate::pipeline::{Counted, N_KEYS, s3_at};
use crate::topics;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use flott_checkpoint::{Location, ObjectStores};
use flott_env::Env;
use flott_objectstore::CloudStores;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::message::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What `psql` prints.
pub(crate) fn sql(url: &str, statement: &str) -> Result<String> {
    let output =
        Command::new("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What was seen so far, and what was wrong with it.
#[derive(Default)]
struct Seen {
    records: Mutex<BTreeSet<Counted>>,
    problem: Mutex<Option<String>>,
    n_looks: AtomicU64,
    /// Of the counts, if there is only the last record of each key.
    sum: AtomicU64,
}

impl Seen {
    fn fail(&self, problem: String) {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
    }

    /// A record that is read once: what comes again is there twice.
    fn add(&self, record: Counted) {
        if !record.is_sound() {
            self.fail(format!("{record:?} is nothing that the job writes"));
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if !records.insert(record) {
            self.fail(format!("{record:?} is there twice"));
        }
    }
}

/// The rows of a table of three columns, each once; `None` while the server is away, or the table not there yet.
fn table_rows(url: &str, query: &str, seen: &Seen) -> Option<BTreeSet<Counted>> {
    let rows = sql(url, query).ok()?;
    let mut all = BTreeSet::new();
    for line in rows.lines() {
        match Counted::from_text(&line.replace('|', " ")) {
            Some(record) if all.insert(record) => {}
            Some(record) => seen.fail(format!("{record:?} is there twice")),
            None => seen.fail(format!("row '{line}' is nothing that the job writes")),
        }
    }
    Some(all)
}

/// Larger than any file of a round.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The rows of a Parquet file.
fn rows(bytes: Vec<u8>) -> Result<Vec<Counted>> {
    let mut rows = Vec::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.build()? {
        rows.extend(serde_arrow::from_record_batch::<Vec<Counted>>(&batch?)?);
    }
    Ok(rows)
}

/// A reader of what is committed.
pub(crate) struct Watch {
    seen: Arc<Seen>,
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    is_sum: bool,
}

impl Watch {
    /// Reads a topic under `read_committed`.
    pub(crate) fn topic(servers: &str, topic: &str) -> Result<Self> {
        let consumer = topics::committed_reader(servers, topic)?;
        Ok(Self::start(move |seen| {
            // The broker may be away for a while: an error is no answer.
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else { return };
            let text = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
            match Counted::from_text(&text) {
                Some(record) => seen.add(record),
                None => seen.fail(format!("'{text}' is nothing that the job writes")),
            }
        }))
    }

    /// Reads a table, or the view of what is committed in it, again and again: nothing may go that was there.
    pub(crate) fn table(url: &str, table: &str) -> Self {
        let (url, query) = (url.to_owned(), format!("SELECT number, key, count FROM {table}"));
        Self::start(move |seen| {
            thread::sleep(Duration::from_millis(100));
            let Some(now) = table_rows(&url, &query, seen) else { return };
            let mut before = seen.records.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(gone) = before.difference(&now).next() {
                seen.fail(format!("{gone:?} was committed and is gone"));
            }
            *before = now;
        })
    }

    /// Reads the Parquet files of a directory in an object store, each once: none may go that was there.
    pub(crate) fn bucket(address: &str, uri: &str) -> Result<Self> {
        let env = Env::real()?;
        let stores = CloudStores::new(&env, &s3_at(address)?);
        let store = Location::parse(uri)?.open(&env.with_settings(ObjectStores(Arc::new(stores))))?;
        let mut known = BTreeSet::new();
        Ok(Self::start(move |seen| {
            thread::sleep(Duration::from_millis(100));
            // The server may stand still.
            let Ok(listed) = store.list_with_metadata("") else { return };
            let files = listed.into_iter().filter(|(name, file)| !file.is_dir && !name.starts_with('.'));
            let now: BTreeSet<String> = files.map(|(name, _)| name).collect();
            if let Some(gone) = known.difference(&now).next() {
                seen.fail(format!("file '{gone}' was there and is gone"));
            }
            for name in now {
                if known.contains(&name) {
                    continue;
                }
                let Ok(bytes) = store.get(&name, FILE_BYTES_MAX) else { return };
                match rows(bytes) {
                    Ok(records) => records.into_iter().for_each(|record| seen.add(record)),
                    Err(error) => seen.fail(format!("file '{name}': {error:#}")),
                }
                known.insert(name);
            }
        }))
    }

    /// Reads a table of the last record of each key, whose counts may go back for a while: their sum is how far it is.
    pub(crate) fn last_by_key(url: &str, table: &str) -> Self {
        let (url, query) = (url.to_owned(), format!("SELECT number, key, count FROM {table}"));
        let mut watch = Self::start(move |seen| {
            thread::sleep(Duration::from_millis(100));
            let Some(now) = table_rows(&url, &query, seen) else { return };
            seen.sum.store(now.iter().map(|record| record.count).sum(), Ordering::Relaxed);
            *seen.records.lock().unwrap_or_else(PoisonError::into_inner) = now;
        });
        watch.is_sum = true;
        watch
    }

    fn start(mut look: impl FnMut(&Seen) + Send + 'static) -> Self {
        let (seen, ends) = (Arc::<Seen>::default(), Arc::new(AtomicBool::new(false)));
        let (into, told) = (Arc::clone(&seen), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                look(&into);
                into.n_looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { seen, ends, thread, is_sum: false }
    }

    pub(crate) fn n_seen(&self) -> u64 {
        if self.is_sum {
            return self.seen.sum.load(Ordering::Relaxed);
        }
        self.seen.records.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    pub(crate) fn n_looks(&self) -> u64 {
        self.seen.n_looks.load(Ordering::Relaxed)
    }

    /// Whether all numbers are less, for no others were written so far.
    pub(crate) fn check_below(&self, n_begun: u64) -> Result<()> {
        let records = self.seen.records.lock().unwrap_or_else(PoisonError::into_inner);
        let last = records.last().filter(|last| last.number >= n_begun);
        ensure!(last.is_none(), "{last:?} is there, and no more than {n_begun} numbers were written");
        Ok(())
    }

    /// Whether anything was wrong so far.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.seen.problem.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(problem) => bail!("{problem}"),
        }
    }

    /// Ends, and compares with what `n` numbers must have become: each once, and for each key the counts 1, 2, 3, ….
    pub(crate) fn end(self, n: u64) -> Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the reader has panicked"))?;
        if let Some(problem) = self.seen.problem.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bail!("{problem}");
        }
        let n_of = |key: u64| (0..n).filter(|number| number % N_KEYS == key).count() as u64;
        let records = self.seen.records.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_sum {
            // Which number came last depends on how partitions were read.
            let found: BTreeMap<u64, u64> = records.iter().map(|record| (record.key, record.count)).collect();
            let expected: BTreeMap<u64, u64> = (0..N_KEYS).map(|key| (key, n_of(key))).collect();
            ensure!(
                records.len() == expected.len() && found == expected,
                "the rows are {records:?}; of {n} records the counts should be {expected:?}"
            );
            return Ok(());
        }
        let numbers: BTreeSet<u64> = records.iter().map(|record| record.number).collect();
        ensure!(
            numbers.len() == records.len(),
            "{} records of {} numbers: some are there twice",
            records.len(),
            numbers.len()
        );
        let missing: Vec<u64> = (0..n).filter(|number| !numbers.contains(number)).take(10).collect();
        ensure!(missing.is_empty(), "lost, of {n}: {missing:?} and perhaps more");
        ensure!(numbers.len() as u64 == n, "{} numbers came of {n} that were written", numbers.len());
        let mut counts: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for record in records.iter() {
            ensure!(
                counts.entry(record.key).or_default().insert(record.count),
                "two records have the count of {record:?}"
            );
        }
        for key in 0..N_KEYS {
            let (expected, last) = (n_of(key), counts.get(&key).and_then(BTreeSet::last).copied());
            let last = last.with_context(|| format!("nothing of key {key}"))?;
            ensure!(last == expected, "key {key} was counted {last} times, and came {expected} times");
        }
        Ok(())
    }
}
