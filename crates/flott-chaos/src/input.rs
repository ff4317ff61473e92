//! Writes numbers into the source of a pipeline, beside its job.

use crate::{topics, watch};
use anyhow::Result;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How many records a second, about.
const PER_TICK: u64 = 20;
const TICK: Duration = Duration::from_millis(20);

/// Writes `0, 1, 2, …` until it is told to end.
pub(crate) struct Input {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Input {
    /// Into a topic of `n_partitions`, directly at the broker: with idempotence, so that each is there once.
    pub(crate) fn to_topic(servers: &str, topic: &str, n_partitions: u64) -> Result<Self> {
        let mut config = topics::config(servers);
        config.set("enable.idempotence", "true").set("message.timeout.ms", "300000").set("linger.ms", "0");
        let producer: BaseProducer = config.create()?;
        let topic = topic.to_owned();
        Ok(Self::start(move |number| {
            let (partition, value) = ((number % n_partitions) as i32, number.to_string());
            loop {
                let record = BaseRecord::<(), str>::to(&topic).partition(partition).payload(&value);
                if producer.send(record).is_ok() {
                    break;
                }
                producer.poll(Duration::from_millis(10));
            }
            producer.poll(Duration::ZERO);
            if number % PER_TICK == 0 {
                while producer.in_flight_count() > 0 {
                    producer.poll(Duration::from_millis(1));
                }
            }
            Ok(())
        }))
    }

    /// Into a table with a primary key `n`, directly at the server.
    pub(crate) fn to_table(url: &str, table: &str) -> Self {
        let (url, table) = (url.to_owned(), table.to_owned());
        let mut waiting = Vec::new();
        Self::start(move |number| {
            waiting.push(format!("({number})"));
            if number % PER_TICK == 0 {
                // Tried again while the server is away; what was written and not answered stays as it is.
                let insert =
                    format!("INSERT INTO {table} VALUES {} ON CONFLICT DO NOTHING", waiting.join(","));
                while watch::sql(&url, &insert).is_err() {
                    thread::sleep(TICK);
                }
                waiting.clear();
            }
            Ok(())
        })
    }

    fn start(mut write: impl FnMut(u64) -> Result<()> + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut number = 0;
            // Ends on a multiple, at which everything is known to be written.
            while !told.load(Ordering::Relaxed) || number % PER_TICK != 1 {
                write(number)?;
                number += 1;
                if number % PER_TICK == 0 {
                    thread::sleep(TICK);
                }
            }
            Ok(number)
        });
        Self { ends, thread }
    }

    /// Ends; returns how many there are.
    pub(crate) fn end(self) -> Result<u64> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the writer of the input has panicked"))?
    }
}
