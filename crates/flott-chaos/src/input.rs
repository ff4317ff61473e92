//! Writes numbers into the source of a pipeline, beside its job.

use crate::{topics, watch};
use anyhow::Result;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    thread: JoinHandle<Result<u64>>,
}

impl Input {
    /// Into a topic of `n_partitions`, directly at the broker: with idempotence, so that each is there once, and in order.
    pub(crate) fn to_topic(servers: &str, topic: &str, n_partitions: u64) -> Result<Self> {
        let (servers, topic) = (servers.to_owned(), topic.to_owned());
        let mut producer = producer(&servers)?;
        Ok(Self::start(move |numbers| {
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

    /// Into a table with a primary key `n`, directly at the server.
    pub(crate) fn to_table(url: &str, table: &str) -> Self {
        let (url, table) = (url.to_owned(), table.to_owned());
        Self::start(move |numbers| {
            let rows: Vec<String> = numbers.map(|number| format!("({number})")).collect();
            // Tried again while the server is away; what was written and not answered stays as it is.
            let insert = format!("INSERT INTO {table} VALUES {} ON CONFLICT DO NOTHING", rows.join(","));
            while watch::sql(&url, &insert).is_err() {
                thread::sleep(TICK);
            }
            Ok(())
        })
    }

    fn start(mut write: impl FnMut(Range<u64>) -> Result<()> + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut n_written = 0;
            while !told.load(Ordering::Relaxed) {
                write(n_written..n_written + PER_TICK)?;
                n_written += PER_TICK;
                thread::sleep(TICK);
            }
            Ok(n_written)
        });
        Self { ends, thread }
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
