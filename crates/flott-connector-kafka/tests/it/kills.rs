//! Jobs that are killed, that stand still, and whose broker is killed.

use crate::jobs::{Job, N_KEYS};
use crate::topics::{Topics, flush, name, text};
use flott_services::{Kafka, Signal, wait_for};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

const N_PARTITIONS: i32 = 3;

/// What a reader under `read_committed` has seen so far, beside the job.
struct Watch {
    seen: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn start(servers: &str, topic: &str) -> Self {
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

    fn n_seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.seen.lock().unwrap().clone()
    }
}

/// What is written as no number, which is a dead letter of the job.
fn is_bad(number: u64) -> bool {
    number % 10 == 3
}

/// What is written when all that came before has been seen.
const N_LAST: u64 = 10 * N_KEYS;

/// Numbers that are written into a topic, `job`s that read them, and a reader of what they write.
pub(crate) struct Scene<'a> {
    /// Where jobs connect.
    servers: &'a str,
    properties: &'a [(String, String)],
    input: String,
    output: String,
    dead: String,
    checkpoints: TempDir,
    n: u64,
    written: Arc<AtomicU64>,
    writer: JoinHandle<BaseProducer>,
    watch: Watch,
    dead_watch: Watch,
}

impl<'a> Scene<'a> {
    /// Begins to write `0..n`, about 1,000 in a second, to a broker that jobs reach at `servers` with these properties.
    pub(crate) fn start(
        broker: &Kafka,
        (servers, properties): (&'a str, &'a [(String, String)]),
        n: u64,
    ) -> Self {
        let topics = Topics::at(broker.bootstrap_servers());
        let (input, output, dead) = (name("input"), name("output"), name("dead"));
        topics.create(&input, N_PARTITIONS);
        topics.create(&output, 2);
        topics.create(&dead, 1);
        let watch = Watch::start(&topics.servers, &output);
        let dead_watch = Watch::start(&topics.servers, &dead);
        let (written, producer) = (Arc::new(AtomicU64::new(0)), topics.producer());
        let (count, topic) = (Arc::clone(&written), input.clone());
        let writer = std::thread::spawn(move || {
            for number in 0..n {
                write(&producer, &topic, number);
                count.store(number + 1, Ordering::Relaxed);
                if number % 20 == 0 {
                    // The pace at which numbers come.
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            producer
        });
        let checkpoints = tempfile::tempdir().unwrap();
        Self { servers, properties, input, output, dead, checkpoints, n, written, writer, watch, dead_watch }
    }

    /// A job that goes on where another has stopped.
    pub(crate) fn job(&self, parallelism: u32) -> Child {
        let Self { servers, properties, input, output, dead, checkpoints, .. } = self;
        Job { servers, properties, input, output, dead, checkpoints: checkpoints.path(), parallelism }.start()
    }

    /// Waits until more is committed.
    pub(crate) fn awaits_commits(&self) {
        let before = self.watch.n_seen();
        wait_for("a commit", || self.watch.n_seen() > before + 100 || self.is_written());
    }

    /// Waits until so many more numbers are written.
    fn awaits_numbers(&self, n_more: u64) {
        let before = self.written.load(Ordering::Relaxed);
        wait_for("numbers", || self.written.load(Ordering::Relaxed) >= before + n_more || self.is_written());
    }

    fn n_seen(&self) -> u64 {
        (self.watch.n_seen() + self.dead_watch.n_seen()) as u64
    }

    fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed) == self.n
    }

    /// Lets the jobs come to the end of the numbers, kills them, and looks whether each number was counted once.
    pub(crate) fn ends(self, jobs: &mut [Child]) {
        wait_for("all output", || self.n_seen() >= self.n);
        let producer = self.writer.join().unwrap();
        // These are of all keys: what is committed before them is seen before them, so that who is there twice has been seen.
        let n = self.n + N_LAST;
        (self.n..n).for_each(|number| write(&producer, &self.input, number));
        flush(&producer);
        wait_for("the last output", || self.watch.n_seen() + self.dead_watch.n_seen() >= n as usize);
        for job in jobs {
            kill(job);
        }
        check(n, &self.watch.end(), &self.dead_watch.end());
    }
}

fn write(producer: &BaseProducer, topic: &str, number: u64) {
    let (partition, key) = ((number % N_PARTITIONS as u64) as i32, number.to_string());
    let value = if is_bad(number) { format!("x{number}") } else { key.clone() };
    loop {
        let record = BaseRecord::<str, str>::to(topic).partition(partition).key(&key).payload(&value);
        if producer.send(record).is_ok() {
            break;
        }
        producer.poll(Duration::from_millis(10));
    }
    producer.poll(Duration::ZERO);
}

pub(crate) fn kill(job: &mut Child) {
    // One that was fenced has ended.
    job.kill().ok();
    job.wait().unwrap();
}

/// Each number once, and for each key the counts 1, 2, 3, …; what is none once as a dead letter.
fn check(n: u64, seen: &[String], dead: &[String]) {
    let mut numbers = BTreeSet::new();
    for line in dead {
        let [value, key, partition] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let number: u64 = key.parse().unwrap();
        assert_eq!(
            (value, partition),
            (&*format!("x{number}"), &*(number % N_PARTITIONS as u64).to_string())
        );
        assert!(is_bad(number) && numbers.insert(number), "dead letter {number} is there twice");
    }
    let mut counts: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for line in seen {
        let parts: Vec<u64> = line.split(' ').map(|part| part.parse().unwrap()).collect();
        assert!(!is_bad(parts[0]) && numbers.insert(parts[0]), "{} is there twice", parts[0]);
        assert!(
            counts.entry(parts[1]).or_default().insert(parts[2]),
            "count {} of key {} is there twice",
            parts[2],
            parts[1]
        );
    }
    let missing: Vec<_> = (0..n).filter(|number| !numbers.contains(number)).take(10).collect();
    assert_eq!(missing, [0; 0], "of {} are missing", n);
    assert_eq!((seen.len() + dead.len()) as u64, n);
    for key in 0..N_KEYS {
        let expected = (0..n).filter(|number| number % N_KEYS == key && !is_bad(*number)).count() as u64;
        let counted = &counts[&key];
        assert_eq!((counted.len() as u64, counted.last().copied()), (expected, Some(expected)), "key {key}");
    }
}

pub(crate) fn a_job_that_is_killed_goes_on_exactly_once(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let scene = Scene::start(broker, (&servers, &[]), 6_000);
    for n_kills in 0..6 {
        // At another parallelism each time; and not always behind a commit.
        let mut job = scene.job(1 + n_kills % 3);
        if n_kills % 3 < 2 {
            scene.awaits_commits();
        }
        scene.awaits_numbers(37 * u64::from(n_kills));
        kill(&mut job);
    }
    let job = scene.job(2);
    scene.ends(&mut [job]);
}

/// A job stands still while another takes its place, and then goes on: nothing of it is seen.
pub(crate) fn a_job_that_stands_still_does_no_harm_when_it_wakes(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let scene = Scene::start(broker, (&servers, &[]), 4_000);
    let sleeper = scene.job(2);
    scene.awaits_commits();
    Signal::Stop.send(&sleeper).unwrap();
    let successor = scene.job(2);
    scene.awaits_commits();
    Signal::Cont.send(&sleeper).unwrap();
    scene.ends(&mut [sleeper, successor]);
}

pub(crate) fn a_job_outlives_a_broker_that_is_killed(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let scene = Scene::start(broker, (&servers, &[]), 4_000);
    let job = scene.job(2);
    for signal in [Signal::Kill, Signal::Term] {
        scene.awaits_commits();
        broker.stop(signal).unwrap();
        broker.start_again().unwrap();
    }
    scene.ends(&mut [job]);
}
