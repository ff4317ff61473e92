//! Sources and sinks of outside systems, each behind a cargo feature of its own.

/// Files and directories: text lines, CSV, JSON lines, compressed or not, read once or watched, written in parts.
#[cfg(feature = "file")]
pub mod file {
    pub use flott_connector_file::*;
}

/// A source that clients post JSON lines to by HTTP, and that answers when they are in a durable log.
///
/// ```no_run
/// use flott::connectors::http::HttpSource;
/// use flott::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Reading {
///     sensor: String,
///     value: f64,
/// }
///
/// let env = StreamExecutionEnvironment::new()?;
/// let readings = HttpSource::<Reading>::json("127.0.0.1:9000", "readings-log");
/// env.from_source(readings, WatermarkStrategy::no_watermarks(), "readings").map(|reading| reading.value).print();
/// env.execute("readings")?;
/// # Ok::<(), flott::Error>(())
/// ```
#[cfg(feature = "http")]
pub mod http {
    pub use flott_connector_http::*;
}

/// The Nexmark generator: persons, auctions and bids.
///
/// ```
/// use flott::connectors::nexmark::{Bid, NexmarkConfig, NexmarkSource};
/// use flott::prelude::*;
///
/// let env = StreamExecutionEnvironment::with_configuration(Configuration::default())?;
/// let config = NexmarkConfig::bounded(1_000);
/// let strategy = WatermarkStrategy::for_bounded_out_of_orderness(config.max_out_of_orderness());
/// let (sink, bids) = collect_sink();
/// env.from_source(NexmarkSource::<Bid>::of(config)?, strategy, "bids").map(|bid| bid.price).sink_to(sink);
/// env.execute("prices")?;
/// assert_eq!(bids.len(), 920);
/// # Ok::<(), flott::Error>(())
/// ```
#[cfg(feature = "nexmark")]
pub mod nexmark {
    pub use flott_connector_nexmark::*;
}

/// Parquet files: a format for [`FileSource`](file::FileSource) and [`FileSink`](file::FileSink).
///
/// ```
/// use flott::connectors::parquet::ParquetFormat;
/// use flott::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Reading {
///     sensor: String,
///     value: f64,
/// }
///
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let directory = directory.path();
/// let env = StreamExecutionEnvironment::with_configuration(Configuration::default())?;
/// let reading = Reading { sensor: "a".to_owned(), value: 1.5 };
/// env.from_collection(vec![reading.clone()]).sink_to(FileSink::format(directory, ParquetFormat::new()));
/// env.execute("write")?;
///
/// let env = StreamExecutionEnvironment::with_configuration(Configuration::default())?;
/// let source = FileSource::<Reading>::format(directory, ParquetFormat::new());
/// let (sink, readings) = collect_sink();
/// env.from_source(source, WatermarkStrategy::no_watermarks(), "readings").sink_to(sink);
/// env.execute("read")?;
/// assert_eq!(readings.take(), [reading]);
/// # Ok::<(), flott::Error>(())
/// ```
#[cfg(feature = "parquet")]
pub mod parquet {
    pub use flott_format_parquet::*;
}

/// PostgreSQL databases: see the page [`postgres`](crate::guide::postgres) of the guide.
#[cfg(feature = "postgres")]
pub mod postgres {
    pub use flott_connector_postgres::*;
}

/// Text lines from a TCP connection, for trying things out: `nc -l 9999` at the other end.
///
/// ```no_run
/// use flott::connectors::socket::SocketSource;
/// use flott::prelude::*;
///
/// let env = StreamExecutionEnvironment::new()?;
/// let lines = SocketSource::lines("localhost:9999");
/// env.from_source(lines, WatermarkStrategy::no_watermarks(), "lines").print();
/// env.execute("echo")?;
/// # Ok::<(), flott::Error>(())
/// ```
#[cfg(feature = "socket")]
pub mod socket {
    pub use flott_connector_socket::*;
}

/// SQLite databases: a sink that is transactional, eager with rollback, or idempotent by key.
///
/// ```
/// use flott::connectors::sqlite::SqliteSink;
/// use flott::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Reading {
///     sensor: String,
///     value: f64,
/// }
///
/// # let directory = tempfile::tempdir().expect("a directory");
/// # let path = directory.path().join("readings.db");
/// let env = StreamExecutionEnvironment::with_configuration(Configuration::default())?;
/// let readings = [("a", 1.5), ("b", 2.5)].map(|(sensor, value)| Reading { sensor: sensor.to_owned(), value });
/// let sink = SqliteSink::new(path, "readings", ["sensor", "value"])
///     .create_table("CREATE TABLE IF NOT EXISTS readings(sensor TEXT, value REAL)");
/// env.from_collection(readings.to_vec()).sink_to(sink);
/// env.execute("write")?;
/// # Ok::<(), flott::Error>(())
/// ```
#[cfg(feature = "sqlite")]
pub mod sqlite {
    pub use flott_connector_sqlite::*;
}

/// Topics of Apache Kafka, as source and as sink: at least once, or exactly once with transactions.
#[cfg(feature = "kafka")]
pub mod kafka {
    pub use flott_connector_kafka::{
        DeadLetter, DeliveryGuarantee, Header, KafkaPartitioner, KafkaRecord, KafkaSink, KafkaSource,
        Message, OffsetResetStrategy, OffsetsInitializer, RecordDeserializer, RecordSchema, TopicPartition,
    };
}
