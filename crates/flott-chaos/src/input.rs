//! Writes numbers into the source of a pipeline, beside its job.

use crate::{topics, watch};
use anyhow::Result;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How many records are written at once, and how often.
const PER_TICK: u64 = 20;
const TICK: Duration = Duration::from_millis(20);
/// A producer of librdkafka may stand still for ever when its broker was killed under it: after this it is replaced.
const STUCK: Duration = Duration::from_secs(15);

/// Writes `0, 1, 2, …` until it is told to end.
pub(crate) struct Input {
    ends: Arc<AtomicBool>,
    /// Below this are the numbers that may have been written.
    n_begun: Arc<AtomicU64>,
    changes_rows: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Input {
    /// How many numbers a table has before the job starts.
    pub(crate) const N_BEFORE: u64 = 50 * PER_TICK;

    /// Into a topic of `n_partitions`, directly at the broker: with idempotence, so that each is there once, and in order.
    pub(crate) fn to_topic(servers: &str, topic: &str, n_partitions: u64) -> Result<Self> {
        let (servers, topic) = (servers.to_owned(), topic.to_owned());
        let mut producer = producer(&servers)?;
        Ok(Self::start(0, move |numbers, _| {
            let mut missing: Vec<u64> = numbers.collect();
            while !write(&producer, &topic, n_partitions, &missing) {
                producer = self::producer(&servers)?;
                // Number `n` is record `n / n_partitions` of its partition.
                let ends = loop {
                    match topics::ends(&servers, &topic, "read_uncommitted") {
                        Ok(ends) if ends.len() as u64 == n_partitions => break ends,
                        // The broker is away, or does not know its partitions yet: one taken for empty would be written again.
                        _ => thread::sleep(TICK),
                    }
                };
                missing.retain(|number| {
                    let end = ends.get((number % n_partitions) as usize).copied().unwrap_or_default();
                    i64::try_from(number / n_partitions).is_ok_and(|offset| offset >= end)
                });
            }
            Ok(())
        }))
    }

    /// Into a new table, directly at the server; some are there before anybody can read.
    ///
    /// A number is that of a change. It is in column `n` of the row that is inserted or updated; what is deleted has the number before.
    pub(crate) fn to_table(url: &str, table: &str) -> Result<Self> {
        let (url, table) = (url.to_owned(), table.to_owned());
        watch::sql(
            &url,
            &format!(
                "CREATE TABLE {table}(id bigint PRIMARY KEY, n bigint); ALTER TABLE {table} REPLICA IDENTITY FULL; \
                 CREATE TABLE {table}_ticks(tick bigint PRIMARY KEY); \
                 INSERT INTO {table} SELECT number, number FROM generate_series(0, {}) AS number",
                Self::N_BEFORE - 1
            ),
        )?;
        Ok(Self::start(Self::N_BEFORE, move |numbers, changes_rows| {
            let tick = numbers.start;
            let mut statements = format!("INSERT INTO {table}_ticks VALUES ({tick});");
            for number in numbers {
                let insert = || format!("INSERT INTO {table} VALUES ({number}, {number});");
                let update = |id: u64| format!("UPDATE {table} SET n = {number} WHERE id = {id};");
                // In turn, for a row each: ticks are multiples of four.
                statements += &match number % 4 {
                    1 | 2 if changes_rows => update(number - number % 4),
                    3 if changes_rows => format!("DELETE FROM {table} WHERE id = {};", number - 3),
                    _ => insert(),
                };
            }
            // Tried again while the server is away, in one transaction: if only its answer was lost, the tick is there.
            let is_there = format!("SELECT count(*) FROM {table}_ticks WHERE tick = {tick}");
            while watch::sql(&url, &statements).is_err()
                && !watch::sql(&url, &is_there).is_ok_and(|n| n.trim() == "1")
            {
                thread::sleep(TICK);
            }
            Ok(())
        }))
    }

    fn start(first: u64, mut write: impl FnMut(Range<u64>, bool) -> Result<()> + Send + 'static) -> Self {
        let (ends, n_begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(first)));
        let changes_rows = Arc::<AtomicBool>::default();
        let (told, begun, changes) = (Arc::clone(&ends), Arc::clone(&n_begun), Arc::clone(&changes_rows));
        let thread = thread::spawn(move || {
            let mut n_written = first;
            while !told.load(Ordering::Relaxed) {
                let next = n_written + PER_TICK;
                begun.store(next, Ordering::SeqCst);
                write(n_written..next, changes.load(Ordering::Relaxed))?;
                n_written = next;
                thread::sleep(TICK);
            }
            Ok(n_written)
        });
        Self { ends, n_begun, changes_rows, thread }
    }

    /// From now on rows of a table are updated and deleted, too. Before, the job must have begun to read changes: who reads the table as it is misses some.
    pub(crate) fn change_rows(&self) {
        self.changes_rows.store(true, Ordering::Relaxed);
    }

    /// All numbers that may have been written are less.
    pub(crate) fn n_begun(&self) -> u64 {
        self.n_begun.load(Ordering::SeqCst)
    }

    /// Ends; returns how many there are.
    pub(crate) fn end(self) -> Result<u64> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer of the input has panicked"))?
    }
}

fn producer(servers: &str) -> Result<BaseProducer> {
    let mut config = topics::config(servers);
    config.set("enable.idempotence", "true").set("message.timeout.ms", "300000").set("linger.ms", "0");
    Ok(config.create()?)
}

/// Whether all of them have been written; else some may be.
fn write(producer: &BaseProducer, topic: &str, n_partitions: u64, numbers: &[u64]) -> bool {
    let started = Instant::now();
    for number in numbers {
        let (partition, value) = ((number % n_partitions) as i32, number.to_string());
        while producer.send(BaseRecord::<(), str>::to(topic).partition(partition).payload(&value)).is_err() {
            if started.elapsed() > STUCK {
                return false;
            }
            producer.poll(Duration::from_millis(10));
        }
    }
    while producer.in_flight_count() > 0 {
        if started.elapsed() > STUCK {
            return false;
        }
        producer.poll(Duration::from_millis(1));
    }
    true
}
