//! How long results take from topic to topic: between the time at which the record that completes a result was to be written, and the time at which a reader under
//! `read_committed` has the result. Counted from when records were due, so that a producer that falls behind hides nothing (Tene, "How NOT to measure latency").

use super::{Count, N_PARTITIONS, Pipe, WINDOW_MS, bid, config, reader, send};
use crate::clock::Clock;
use flott_connector_kafka::DeliveryGuarantee;
use rdkafka::message::Message;
use rdkafka::producer::BaseProducer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Results of this time are not counted: connections are made, and the first checkpoint is taken.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);
/// How much earlier than the latest record a record may be, by the watermark strategy of the job.
pub(super) const OUT_OF_ORDERNESS_MS: u64 = 100;

/// A promise, and how often checkpoints are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) guarantee: DeliveryGuarantee,
    pub(super) interval: Duration,
}

pub(super) const CASES: [Case; 3] = [
    Case { guarantee: DeliveryGuarantee::ExactlyOnce, interval: Duration::from_secs(1) },
    Case { guarantee: DeliveryGuarantee::ExactlyOnce, interval: Duration::from_millis(100) },
    Case { guarantee: DeliveryGuarantee::AtLeastOnce, interval: Duration::from_secs(1) },
];

/// Latencies in milliseconds, in order.
pub(super) struct Latencies(Vec<f64>);

impl Latencies {
    pub(super) fn quantile(&self, part: f64) -> f64 {
        let idx = (self.0.len() as f64 * part) as usize;
        self.0.get(idx.min(self.0.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The record with which every partition has passed the end of a window: that is when its results are made.
fn completed_by(window_start: i64) -> u64 {
    window_start.unsigned_abs() + WINDOW_MS + OUT_OF_ORDERNESS_MS + N_PARTITIONS as u64
}

/// Runs the job of `pipe` while `rate` records a second are written into its input.
///
/// # Errors
/// If the job does not start, fails, or no result comes.
#[expect(clippy::disallowed_methods, reason = "who writes and who reads are beside the engine")]
pub(super) fn measure(pipe: &Pipe<'_>, rate: f64, case: Case) -> Result<Latencies, String> {
    let producer: BaseProducer = config(pipe.servers)
        .set("linger.ms", "1")
        .set("compression.type", "lz4")
        .create()
        .map_err(|error| error.to_string())?;
    let client = pipe.start(case.guarantee, case.interval, None).map_err(|error| error.report())?;
    let results = reader(pipe.servers, pipe.output);
    let (clock, ends) = (Clock::start(), AtomicBool::new(false));
    let mut latencies = thread::scope(|scope| {
        scope.spawn(|| produce(&producer, pipe.input, rate, &clock, &ends));
        let mut latencies = Vec::new();
        while clock.elapsed() < WARM_UP + MEASURED {
            let Some(Ok(message)) = results.poll(Duration::from_millis(10)) else { continue };
            let now = clock.elapsed();
            let count: Count =
                serde_json::from_slice(message.payload().unwrap_or_default()).expect("a count");
            let due = Duration::from_secs_f64(completed_by(count.start) as f64 / rate);
            if due >= WARM_UP {
                latencies.push(now.saturating_sub(due).as_secs_f64() * 1e3);
            }
        }
        ends.store(true, Ordering::Relaxed);
        latencies
    });
    client.canceler().try_cancel();
    // A job that failed would have been measured until then.
    client.wait().map_err(|error| error.report())?;
    latencies.sort_by(f64::total_cmp);
    if latencies.is_empty() { Err("no result came".to_owned()) } else { Ok(Latencies(latencies)) }
}

/// Writes record `n` when `n / rate` seconds have passed, until it is told to end.
fn produce(producer: &BaseProducer, topic: &str, rate: f64, clock: &Clock, ends: &AtomicBool) {
    let mut n = 0;
    while !ends.load(Ordering::Relaxed) {
        let due = (clock.elapsed().as_secs_f64() * rate) as u64;
        while n < due {
            let payload = serde_json::to_vec(&bid(n)).expect("JSON");
            send(producer, topic, (n % N_PARTITIONS as u64) as i32, &payload);
            n += 1;
        }
        producer.poll(Duration::from_millis(1));
    }
}
