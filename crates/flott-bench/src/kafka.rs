//! JSON from a topic, windows by key, JSON to a topic, exactly once, beside a loop on `rdkafka` that only consumes, parses and produces.
//!
//! Both run in this process, in turn, against the same broker, which shares the machine: the ratio of the processor time that this process takes says
//! more than the times of the wall clock.

mod latency;

use flott_api::WatermarkStrategy;
use flott_api::windowing::TumblingEventTimeWindows;
use flott_connector_kafka::{DeliveryGuarantee, KafkaSink, KafkaSource, OffsetsInitializer};
use flott_datastream::{JobClient, StreamExecutionEnvironment};
use flott_format_json::JsonFormat;
use flott_services::Kafka;
use flott_types::{Configuration, options};
use latency::{Case, Latencies};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

use crate::clock;

const N_PARTITIONS: i32 = 4;
const N_KEYS: u64 = 1_000;
const WINDOW_MS: u64 = 10_000;
/// Records of a window and key: so many fewer records are written than read.
const PER_RESULT: u64 = WINDOW_MS / N_KEYS;

/// Options of `flott-bench kafka`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct KafkaArgs {
    /// Records that are read.
    #[arg(long, default_value_t = 5_000_000)]
    records: u64,
    /// Runs of each; the medians count.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Subtasks of the job.
    #[arg(long, default_value_t = 1)]
    parallelism: u32,
    /// Records a second while latencies are measured; without, half of what the job has read in a second.
    #[arg(long)]
    latency_rate: Option<f64>,
    /// Runs in which latencies are measured, of each promise and interval.
    #[arg(long, default_value_t = 3)]
    latency_runs: usize,
}

/// A bid of Nexmark.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bid {
    auction: u64,
    bidder: u64,
    price: u64,
    channel: String,
    url: String,
    date_time: i64,
    extra: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Count {
    auction: u64,
    start: i64,
    bids: u64,
}

fn bid(n: u64) -> Bid {
    Bid {
        auction: n % N_KEYS,
        bidder: n % 7_919,
        price: n % 1_000_003,
        channel: "channel-1234".to_owned(),
        url: format!("https://www.nexmark.com/{}/item.htm?query=1", n % 10_000),
        date_time: n as i64,
        extra: "abcdefghijklmnopqrstuvwxyz0123456789".to_owned(),
    }
}

/// What a run took.
#[derive(Clone, Copy)]
struct Took {
    wall: f64,
    /// Seconds of the processor, of all threads of this process.
    cpu: f64,
}

#[expect(clippy::disallowed_methods, reason = "asks the system about this process")]
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 =
        behind_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

fn timed(run: impl FnOnce()) -> Took {
    let cpu = cpu_seconds();
    let (wall, ()) = clock::measure(run);
    Took { wall: wall.as_secs_f64(), cpu: cpu_seconds() - cpu }
}

fn config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config
}

fn wait_for(producer: &BaseProducer) {
    while producer.in_flight_count() > 0 {
        // It says that there is more in flight, which is known.
        drop(producer.flush(Duration::ZERO));
        producer.poll(Duration::from_millis(1));
    }
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, payload: &[u8]) {
    loop {
        match producer.send(BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(payload)) {
            Ok(()) => return,
            Err(_) => producer.poll(Duration::from_millis(1)),
        }
    }
}

fn fill(servers: &str, topic: &str, records: u64) -> Result<u64, String> {
    let producer: BaseProducer = config(servers)
        .set("linger.ms", "20")
        .set("compression.type", "lz4")
        .create()
        .map_err(|error| error.to_string())?;
    let mut bytes = 0;
    for n in 0..records {
        let payload = serde_json::to_vec(&bid(n)).map_err(|error| error.to_string())?;
        bytes += payload.len() as u64;
        send(&producer, topic, (n % N_PARTITIONS as u64) as i32, &payload);
        if n % 1_000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    wait_for(&producer);
    Ok(bytes)
}

/// Consumes, parses and produces: what nobody who does it through this library can be faster than.
fn bare(servers: &str, input: &str, output: &str, records: u64) {
    let mut consuming = config(servers);
    consuming.set("group.id", "bare").set("enable.auto.commit", "false").set("fetch.queue.backoff.ms", "2");
    consuming.set("queued.max.messages.kbytes", "16384");
    let consumer: BaseConsumer = consuming.create().expect("a consumer");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..N_PARTITIONS {
        partitions.add_partition_offset(input, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&partitions).expect("an assignment");
    let producer: BaseProducer = config(servers)
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .create()
        .expect("a producer");
    let mut n_read = 0;
    while n_read < records {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let bid: Bid = serde_json::from_slice(message.payload().unwrap_or_default()).expect("a bid");
        n_read += 1;
        if n_read % PER_RESULT == 0 {
            let count = Count { auction: bid.auction, start: bid.date_time, bids: PER_RESULT };
            send(&producer, output, -1, &serde_json::to_vec(&count).expect("JSON"));
            if n_read % 1_000 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
    }
    wait_for(&producer);
}

/// From where to where the job goes.
struct Pipe<'a> {
    servers: &'a str,
    input: &'a str,
    output: &'a str,
    parallelism: u32,
    checkpoints: String,
}

impl Pipe<'_> {
    /// Starts the job: up to the newest records that there are, or for ever.
    fn start(
        &self,
        guarantee: DeliveryGuarantee,
        interval: Duration,
        until: Option<OffsetsInitializer>,
    ) -> flott_types::Result<JobClient> {
        let mut env = StreamExecutionEnvironment::with_configuration(Configuration::default())?;
        env.set_parallelism(self.parallelism).enable_checkpointing(interval);
        env.set(options::CHECKPOINTING_DIR, Some(self.checkpoints.clone()));
        let source = KafkaSource::new(self.servers, JsonFormat::new()).topics([self.input]);
        let source = match until {
            Some(until) => source.bounded(until),
            None => source,
        };
        let sink =
            KafkaSink::new(self.servers, JsonFormat::new()).topic(self.output).delivery_guarantee(guarantee);
        let late = Duration::from_millis(latency::OUT_OF_ORDERNESS_MS);
        let event_time = WatermarkStrategy::for_bounded_out_of_orderness(late)
            .with_timestamp_assigner(|bid: &Bid, _| bid.date_time);
        env.from_source(source, event_time, "bids")
            .key_by(|bid| bid.auction)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(WINDOW_MS)))
            .aggregate_with(CountBids, |auction, ctx, bids| Count {
                auction: *auction,
                start: ctx.window.start,
                bids,
            })
            .sink_to(sink);
        env.execute_async("kafka")
    }
}

#[derive(Clone)]
struct CountBids;

impl flott_api::AggregateFunction<Bid> for CountBids {
    type Accumulator = u64;
    type Output = u64;
    fn create_accumulator(&self) -> u64 {
        0
    }
    fn add(&self, accumulator: &mut u64, _: &Bid) {
        *accumulator += 1;
    }
    fn get_result(&self, accumulator: &u64) -> u64 {
        *accumulator
    }
    fn merge(&self, accumulator: &mut u64, other: &u64) {
        *accumulator += other;
    }
}

/// Reads all of a topic as a reader under `read_committed` does.
fn reader(servers: &str, topic: &str) -> BaseConsumer {
    let mut config = config(servers);
    config
        .set("group.id", "check")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.set("auto.offset.reset", "earliest").create().expect("a consumer");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..N_PARTITIONS {
        partitions.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&partitions).expect("an assignment");
    consumer
}

/// How many bids the counts in a topic are of.
fn counted(servers: &str, topic: &str) -> u64 {
    let consumer = reader(servers, topic);
    let mut bids = 0;
    let mut n_empty = 0;
    while n_empty < 20 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                n_empty = 0;
                let count: Count =
                    serde_json::from_slice(message.payload().unwrap_or_default()).expect("a count");
                bids += count.bids;
            }
            Some(Err(_)) | None => n_empty += 1,
        }
    }
    bids
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Made by asking for them.
fn make_topics(producer: &BaseProducer, topics: &[&str]) -> Result<(), String> {
    topics.iter().try_for_each(|topic| {
        let found = producer.client().fetch_metadata(Some(topic), Duration::from_secs(30));
        found.map(drop).map_err(|error| error.to_string())
    })
}

/// The report on latencies while `rate` records a second come: of each case so many runs, in turn, each with topics and a job of its own.
fn latencies(servers: &str, dir: &Path, args: &KafkaArgs, rate: f64) -> Result<String, String> {
    let n_runs = args.latency_runs.max(1);
    let mut seen: Vec<Vec<Latencies>> = latency::CASES.iter().map(|_| Vec::new()).collect();
    let producer: BaseProducer = config(servers).create().map_err(|error| error.to_string())?;
    for run in 0..n_runs {
        for (number, (case, seen)) in latency::CASES.into_iter().zip(&mut seen).enumerate() {
            let (input, output) = (format!("live-{number}-{run}"), format!("results-{number}-{run}"));
            make_topics(&producer, &[&input, &output])?;
            let checkpoints = dir.join(&output).display().to_string();
            let pipe =
                Pipe { servers, input: &input, output: &output, parallelism: args.parallelism, checkpoints };
            seen.push(latency::measure(&pipe, rate, case)?);
        }
    }
    let mut report =
        format!("  latency at {:.2} M/s, ms: median of {n_runs} runs (least to most)", rate / 1e6);
    for (Case { guarantee, interval }, runs) in latency::CASES.into_iter().zip(&seen) {
        let spread = |part: f64| {
            let values: Vec<f64> = runs.iter().map(|run| run.quantile(part)).collect();
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(0.0, f64::max);
            format!("{:.0} ({least:.0} to {most:.0})", median(values))
        };
        let n_results: usize = runs.iter().map(Latencies::len).sum();
        report.push_str(&format!(
            "\n    {guarantee:?}, a checkpoint each {interval:?}: median {}, p99 {}, at most {} ({n_results} results)",
            spread(0.5),
            spread(0.99),
            spread(1.0),
        ));
    }
    Ok(report)
}

/// Measures, and returns the report; why not, if there is no broker.
pub(crate) fn measure(args: &KafkaArgs) -> Result<String, String> {
    let partitions = N_PARTITIONS.to_string();
    let settings = [("auto.create.topics.enable", "true"), ("num.partitions", partitions.as_str())];
    let broker = Kafka::start(&settings)?;
    let (servers, dir) =
        (broker.bootstrap_servers(), tempfile::tempdir().map_err(|error| error.to_string())?);
    let bytes = fill(&servers, "bids", args.records)?;
    let (mut bares, mut jobs) = (Vec::new(), Vec::new());
    for run in 0..args.runs.max(1) {
        // Made before anything is measured.
        let (of_bare, of_job) = (format!("bare-{run}"), format!("job-{run}"));
        let producer: BaseProducer = config(&servers).create().map_err(|error| error.to_string())?;
        make_topics(&producer, &[&of_bare, &of_job])?;
        bares.push(timed(|| bare(&servers, "bids", &of_bare, args.records)));
        let checkpoints = dir.path().join(&of_job).display().to_string();
        let (servers, parallelism) = (servers.as_str(), args.parallelism);
        let pipe = Pipe { servers, input: "bids", output: &of_job, parallelism, checkpoints };
        jobs.push(timed(|| {
            let (guarantee, newest) = (DeliveryGuarantee::ExactlyOnce, Some(OffsetsInitializer::latest()));
            let client = pipe.start(guarantee, Duration::from_secs(1), newest).expect("the job starts");
            client.wait().expect("the job");
        }));
        let bids = counted(servers, &of_job);
        if bids != args.records {
            return Err(format!("the counts are of {bids} bids of {}", args.records));
        }
    }
    let of = |took: &[Took], what: fn(&Took) -> f64| median(took.iter().map(what).collect());
    let ratio = |what: fn(&Took) -> f64| {
        median(bares.iter().zip(&jobs).map(|(bare, job)| what(job) / what(bare)).collect())
    };
    let rate = |seconds: f64| args.records as f64 / seconds / 1e6;
    let wall: fn(&Took) -> f64 = |took| took.wall;
    let cpu: fn(&Took) -> f64 = |took| took.cpu;
    let half = args.latency_rate.unwrap_or(args.records as f64 / of(&jobs, wall) / 2.0);
    let latencies = latencies(&servers, dir.path(), args, half)?;
    Ok(format!(
        "{} bids of {} bytes, parallelism {}, median of {}:\n  loop on rdkafka  {:.2} M/s, {:.2} M per second of the processor\n  Flott            \
         {:.2} M/s, {:.2} M per second of the processor\n  Flott takes {:.2} times the time and {:.2} times the processor's",
        args.records,
        bytes / args.records.max(1),
        args.parallelism,
        bares.len(),
        rate(of(&bares, wall)),
        rate(of(&bares, cpu)),
        rate(of(&jobs, wall)),
        rate(of(&jobs, cpu)),
        ratio(wall),
        ratio(cpu),
    ) + "\n"
        + &latencies)
}
