//! Jobs that are killed, that stand still, and whose broker is killed.

use crate::jobs::{Job, N_KEYS};
use crate::topics::{LIMIT, Topics, flush, name, text};
use flott_services::{Kafka, Signal, wait_until};
use rdkafka::message::Message;
use rdkafka::producer::BaseRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const N_PARTITIONS: i32 = 3;

/// What a reader under `read_committed` has seen so far, beside the job.
pub(crate) struct Watch {
    seen: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(crate) fn start(servers: &str, topic: &str) -> Self {
        let (seen, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let reader = Topics::at(servers).reader(topic, "read_committed");
        let (all, ends) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                if let Some(message) = reader.poll(Duration::from_millis(20)) {
                    all.lock().unwrap().push(text(message.payload()));
                }
            }
        });
        Self { seen, stop, thread }
    }

    pub(crate) fn n_seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.seen.lock().unwrap().clone()
    }
}

/// Writes `0..n` into the topic, about `per_second` of them, beside the job.
pub(crate) fn write(servers: &str, topic: &str, n: u64, per_second: u64) -> (Arc<AtomicU64>, JoinHandle<()>) {
    let written = Arc::new(AtomicU64::new(0));
    let (count, producer, topic) = (Arc::clone(&written), Topics::at(servers).producer(), topic.to_owned());
    let thread = std::thread::spawn(move || {
        for number in 0..n {
            let (partition, value) = ((number % N_PARTITIONS as u64) as i32, number.to_string());
            loop {
                let record = BaseRecord::<(), str>::to(&topic).partition(partition).payload(&value);
                if producer.send(record).is_ok() {
                    break;
                }
                producer.poll(Duration::from_millis(10));
            }
            producer.poll(Duration::ZERO);
            count.store(number + 1, Ordering::Relaxed);
            if number % 20 == 0 {
                std::thread::sleep(Duration::from_millis(20_000 / per_second));
            }
        }
        flush(&producer);
    });
    (written, thread)
}

/// Each number once, and for each key the counts 1, 2, 3, ….
pub(crate) fn check(n: u64, seen: &[String]) {
    let mut numbers = BTreeSet::new();
    let mut counts: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for line in seen {
        let parts: Vec<u64> = line.split(' ').map(|part| part.parse().unwrap()).collect();
        assert!(numbers.insert(parts[0]), "{} is there twice", parts[0]);
        assert!(
            counts.entry(parts[1]).or_default().insert(parts[2]),
            "count {} of key {} is there twice",
            parts[2],
            parts[1]
        );
    }
    let missing: Vec<_> = (0..n).filter(|number| !numbers.contains(number)).take(10).collect();
    assert_eq!(missing, [0; 0], "of {} are missing", n);
    assert_eq!(seen.len() as u64, n);
    for key in 0..N_KEYS {
        let expected = (0..n).filter(|number| number % N_KEYS == key).count() as u64;
        let counted = &counts[&key];
        assert_eq!((counted.len() as u64, counted.last().copied()), (expected, Some(expected)), "key {key}");
    }
}

pub(crate) fn waits(what: &str, holds: impl FnMut() -> bool) {
    assert!(wait_until(2 * LIMIT, holds), "waited for {what} for too long");
}

pub(crate) fn a_job_that_is_killed_goes_on_exactly_once(broker: &mut Kafka) {
    const N: u64 = 6_000;
    let (servers, topics) = (broker.bootstrap_servers(), Topics::at(broker.bootstrap_servers()));
    let (input, output, dir) = (name("input"), name("output"), tempfile::tempdir().unwrap());
    topics.create(&input, N_PARTITIONS);
    topics.create(&output, 2);
    let watch = Watch::start(&servers, &output);
    let (written, writer) = write(&servers, &input, N, 1_000);
    let job = |parallelism| Job {
        servers: &servers,
        properties: &[],
        input: &input,
        output: &output,
        checkpoints: dir.path(),
        parallelism,
    };
    for n_kills in 0..6 {
        // At another parallelism each time; and not always behind a commit.
        let mut child = job(1 + n_kills % 3).start();
        if n_kills % 3 < 2 {
            let before = watch.n_seen();
            waits("a commit", || watch.n_seen() > before + 10 || written.load(Ordering::Relaxed) == N);
        }
        std::thread::sleep(Duration::from_millis(37 * u64::from(n_kills)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut child = job(2).start();
    waits("all output", || watch.n_seen() as u64 >= N);
    writer.join().unwrap();
    // For who is there twice.
    std::thread::sleep(Duration::from_millis(600));
    child.kill().unwrap();
    child.wait().unwrap();
    check(N, &watch.end());
}

/// A job stands still while another takes its place, and then goes on: nothing of it is seen.
pub(crate) fn a_job_that_stands_still_does_no_harm_when_it_wakes(broker: &mut Kafka) {
    const N: u64 = 4_000;
    let (servers, topics) = (broker.bootstrap_servers(), Topics::at(broker.bootstrap_servers()));
    let (input, output, dir) = (name("input"), name("output"), tempfile::tempdir().unwrap());
    topics.create(&input, N_PARTITIONS);
    topics.create(&output, 2);
    let watch = Watch::start(&servers, &output);
    let (_, writer) = write(&servers, &input, N, 1_000);
    let job = Job {
        servers: &servers,
        properties: &[],
        input: &input,
        output: &output,
        checkpoints: dir.path(),
        parallelism: 2,
    };
    let mut sleeper = job.start();
    waits("a commit", || watch.n_seen() > 100);
    Signal::Stop.send(&sleeper).unwrap();
    let before = watch.n_seen();
    let mut successor = job.start();
    waits("a commit of the successor", || watch.n_seen() > before + 100);
    Signal::Cont.send(&sleeper).unwrap();
    waits("all output", || watch.n_seen() as u64 >= N);
    writer.join().unwrap();
    std::thread::sleep(Duration::from_millis(600));
    for process in [&mut sleeper, &mut successor] {
        process.kill().ok();
        process.wait().unwrap();
    }
    check(N, &watch.end());
}

pub(crate) fn a_job_outlives_a_broker_that_is_killed(broker: &mut Kafka) {
    const N: u64 = 4_000;
    let (servers, topics) = (broker.bootstrap_servers(), Topics::at(broker.bootstrap_servers()));
    let (input, output, dir) = (name("input"), name("output"), tempfile::tempdir().unwrap());
    topics.create(&input, N_PARTITIONS);
    topics.create(&output, 2);
    let watch = Watch::start(&servers, &output);
    let (_, writer) = write(&servers, &input, N, 1_000);
    let job = Job {
        servers: &servers,
        properties: &[],
        input: &input,
        output: &output,
        checkpoints: dir.path(),
        parallelism: 2,
    };
    let mut child = job.start();
    for signal in [Signal::Kill, Signal::Term] {
        let before = watch.n_seen();
        waits("a commit", || watch.n_seen() > before + 100);
        broker.stop(signal).unwrap();
        broker.start_again().unwrap();
    }
    waits("all output", || watch.n_seen() as u64 >= N);
    writer.join().unwrap();
    std::thread::sleep(Duration::from_millis(600));
    child.kill().unwrap();
    child.wait().unwrap();
    check(N, &watch.end());
}
