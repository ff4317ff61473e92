//! The jobs: numbers from one system to counts in another.

use crate::strike::System;
use flott::connectors::file::FileSink;
use flott::connectors::kafka::{DeliveryGuarantee, KafkaSink, KafkaSource};
use flott::connectors::parquet::ParquetFormat;
use flott::connectors::postgres::{PostgresCdcSource, PostgresSink};
use flott::message::StringFormat;
use flott::prelude::*;
use flott::{RowChange, RowKind};
use flott_types::RestartStrategyType;
use serde::{Deserialize, Serialize};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Keys of the counts.
pub(crate) const N_KEYS: u64 = 7;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Pipeline {
    KafkaToKafka,
    KafkaToPostgresTransactional,
    KafkaToPostgresEager,
    KafkaToPostgresUpsert,
    KafkaToS3,
    PostgresToKafka,
}

impl Pipeline {
    /// The pipelines between these systems.
    pub(crate) fn all(with: &[System]) -> Vec<Self> {
        let all = [
            Self::KafkaToKafka,
            Self::KafkaToPostgresTransactional,
            Self::KafkaToPostgresEager,
            Self::KafkaToPostgresUpsert,
            Self::KafkaToS3,
            Self::PostgresToKafka,
        ];
        all.into_iter().filter(|it| it.needs().iter().all(|needed| with.contains(needed))).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KafkaToKafka => "kafka to kafka",
            Self::KafkaToPostgresTransactional => "kafka to postgres, prepared",
            Self::KafkaToPostgresEager => "kafka to postgres, eager",
            Self::KafkaToPostgresUpsert => "kafka to postgres, upsert",
            Self::KafkaToS3 => "kafka to parquet on S3",
            Self::PostgresToKafka => "postgres changes to kafka",
        }
    }

    pub(crate) fn needs(self) -> &'static [System] {
        match self {
            Self::KafkaToKafka => &[System::Kafka],
            Self::KafkaToS3 => &[System::Kafka, System::S3],
            Self::KafkaToPostgresTransactional
            | Self::KafkaToPostgresEager
            | Self::KafkaToPostgresUpsert
            | Self::PostgresToKafka => &[System::Kafka, System::Postgres],
        }
    }

    /// Where its output is committed.
    pub(crate) fn commits_to(self) -> System {
        match self {
            Self::KafkaToKafka | Self::PostgresToKafka => System::Kafka,
            Self::KafkaToS3 => System::S3,
            Self::KafkaToPostgresTransactional | Self::KafkaToPostgresEager | Self::KafkaToPostgresUpsert => {
                System::Postgres
            }
        }
    }

    pub(crate) fn reads_kafka(self) -> bool {
        self != Self::PostgresToKafka
    }

    pub(crate) fn writes_kafka(self) -> bool {
        matches!(self, Self::KafkaToKafka | Self::PostgresToKafka)
    }
}

/// What a process is told that runs a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) pipeline: Pipeline,
    /// `host:port` of the broker, behind its proxy.
    pub(crate) kafka: String,
    /// Where the database is, behind its proxy; empty if there is none.
    pub(crate) database: String,
    /// `host:port` of the object store, behind its proxy; empty if there is none.
    pub(crate) s3: String,
    /// The topic or table that is read.
    pub(crate) input: String,
    /// The topic, table or directory that is written.
    pub(crate) output: String,
    pub(crate) checkpoints: String,
    pub(crate) parallelism: u32,
    pub(crate) interval_ms: u64,
    pub(crate) is_unaligned: bool,
}

/// A row of the table that is read, with the number of its last change.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    n: i64,
}

/// The number of a change: see [`Input::to_table`](crate::input::Input::to_table).
fn number_of(RowChange { kind, row }: RowChange<Row>) -> Option<u64> {
    match kind {
        RowKind::Insert | RowKind::UpdateAfter => Some(row.n.unsigned_abs()),
        RowKind::Delete => Some(row.n.unsigned_abs() + 1),
        RowKind::UpdateBefore => None,
    }
}

/// A record of the output: a number, its key, and how many of its key there were up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) number: u64,
    pub(crate) key: u64,
    pub(crate) count: u64,
}

impl Counted {
    pub(crate) fn to_text(self) -> String {
        format!("{} {} {}", self.number, self.key, self.count)
    }

    /// `None` if it is nothing that the job writes.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split_whitespace().map(str::parse);
        let mut next = || parts.next()?.ok();
        let record = Self { number: next()?, key: next()?, count: next()? };
        (parts.next().is_none() && record.is_sound()).then_some(record)
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.key == self.number % N_KEYS && self.count > 0
    }
}

/// The configuration of who uses the object store at `host:port`.
pub(crate) fn s3_at(address: &str) -> flott::Result<Configuration> {
    let mut config = Configuration::default();
    let endpoint = format!("http://{address}");
    for (key, value) in [
        ("s3.endpoint", endpoint.as_str()),
        ("s3.access-key", "chaos"),
        ("s3.secret-key", "chaos"),
        ("s3.region", "us-east-1"),
    ] {
        config.set(key, value)?;
    }
    Ok(config)
}

/// What the job says goes to standard error, which the harness leaves to who reads it.
fn log() {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let targets = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("flott_coordinator::checkpoints", LevelFilter::WARN)
        .with_target("flott_connector_kafka", LevelFilter::DEBUG);
    tracing_subscriber::registry().with(lines).with(targets).init();
}

impl Job {
    /// Starts this binary again with the job.
    pub(crate) fn start(&self) -> anyhow::Result<Child> {
        let text = serde_json::to_string(self)?;
        Ok(Command::new(std::env::current_exe()?).args(["job", &text]).spawn()?)
    }

    /// Runs the job that a text says, until somebody kills the process.
    pub(crate) fn run(text: &str) -> ExitCode {
        log();
        let built =
            serde_json::from_str::<Self>(text).map_err(anyhow::Error::from).and_then(|job| job.build());
        match built.map(|env| env.execute("chaos")) {
            Ok(Ok(_)) => ExitCode::SUCCESS,
            // A fenced one has to end: that is what it is told.
            Ok(Err(error)) => {
                eprintln!("the job ends: {}", error.report());
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("no job: {error:#}");
                ExitCode::from(2)
            }
        }
    }

    fn build(&self) -> anyhow::Result<StreamExecutionEnvironment> {
        let mut env = StreamExecutionEnvironment::with_configuration(s3_at(&self.s3)?)?;
        env.set_parallelism(self.parallelism).enable_checkpointing(Duration::from_millis(self.interval_ms));
        env.set(options::CHECKPOINTING_DIR, Some(self.checkpoints.clone()));
        env.set(options::CHECKPOINTING_UNALIGNED, self.is_unaligned);
        env.set(options::CHECKPOINTING_TOLERABLE_FAILED, 1_000);
        env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::FixedDelay));
        env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 100_000);
        env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::from_millis(100));
        let numbers = if self.pipeline.reads_kafka() {
            let source = KafkaSource::new(&self.kafka, StringFormat).topics([&self.input]).group_id("chaos");
            let text =
                env.from_source(source, WatermarkStrategy::no_watermarks(), "input").stream().uid("input");
            text.map(|text: String| text.parse::<u64>().expect("a number")).seal()
        } else {
            let source =
                PostgresCdcSource::<Row>::new(&self.database, &self.input, format!("slot_{}", self.input));
            let changes =
                env.from_source(source, WatermarkStrategy::no_watermarks(), "input").stream().uid("input");
            changes.flat_map(number_of).seal()
        };
        let counted = numbers
            .map(|number: u64| Counted { number, key: number % N_KEYS, count: 1 })
            .key_by(|record| record.key)
            .reduce(|last, next| *last = Counted { count: last.count + 1, ..next })
            .uid("counts");
        let table = |columns: &str| {
            let sink = PostgresSink::new(&self.database, &self.output, ["number", "key", "count"]);
            sink.create_table(format!("CREATE TABLE IF NOT EXISTS {}({columns})", self.output))
                .buffer_flush_interval(Duration::from_millis(50))
        };
        let plain = || table("number bigint, key bigint, count bigint");
        match self.pipeline {
            Pipeline::KafkaToKafka | Pipeline::PostgresToKafka => {
                let sink = KafkaSink::new(&self.kafka, StringFormat)
                    .topic(&self.output)
                    .key(|text: &String| text.clone(), StringFormat)
                    .delivery_guarantee(DeliveryGuarantee::ExactlyOnce);
                counted.map(Counted::to_text).sink_to(sink).uid("output");
            }
            Pipeline::KafkaToS3 => {
                counted.sink_to(FileSink::format(&self.output, ParquetFormat::new())).uid("output");
            }
            Pipeline::KafkaToPostgresTransactional => {
                counted.sink_to(plain().transactional()).uid("output");
            }
            Pipeline::KafkaToPostgresEager => {
                counted.sink_to(plain().eager()).uid("output");
            }
            Pipeline::KafkaToPostgresUpsert => {
                let by_key = table("number bigint, key bigint PRIMARY KEY, count bigint").upsert_by(["key"]);
                counted.sink_to(by_key).uid("output");
            }
        }
        Ok(env)
    }
}
