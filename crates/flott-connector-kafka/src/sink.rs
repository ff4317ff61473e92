//! What users see: the sink and its options.

use crate::client::{Client, Cluster};
use crate::committer::KafkaCommitter;
use crate::config::{DeliveryGuarantee, KafkaPartitioner, Properties, SinkConfig, Topic};
use crate::record::Header;
use crate::transactional::Transactions;
use crate::writer::{Destination, Encoder, KafkaWriter};
use flott_api::message::SerializationSchema;
use flott_api::{Committer, Sink, SinkContext};
use flott_types::{Error, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;

/// The longest that brokers allow unless they are told otherwise.
const TRANSACTION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// What a restart may take beside the checkpoints themselves.
const RECOVERY_ALLOWANCE: Duration = Duration::from_secs(60);

/// Writes records to topics of Apache Kafka.
///
/// A bad record, for the sink's `OnError`, is one whose key or value cannot be encoded, whose topic can have no such name, or that is larger than
/// `message.max.bytes` of the client. A topic that does not exist or takes less than that fails the job.
///
/// A record has the timestamp that it has in the stream, if it has one. With [`DeliveryGuarantee::ExactlyOnce`] each record is there once for who reads
/// with `isolation.level = read_committed`; who does not also sees what is never committed.
pub struct KafkaSink<T> {
    properties: Properties,
    client: Option<Arc<dyn Client>>,
    config: SinkConfig<T>,
    guarantee: DeliveryGuarantee,
    transactional_id_prefix: String,
    forgets_expired: bool,
}

impl<T> Clone for KafkaSink<T> {
    fn clone(&self) -> Self {
        Self {
            properties: self.properties.clone(),
            client: self.client.clone(),
            config: self.config.clone(),
            transactional_id_prefix: self.transactional_id_prefix.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for KafkaSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSink")
            .field("properties", &self.properties)
            .field("guarantee", &self.guarantee)
            .finish_non_exhaustive()
    }
}

impl<T: 'static> KafkaSink<T> {
    /// Writes records as `value` says to the cluster at `bootstrap_servers`, `host:port` pairs with commas between them.
    pub fn new(bootstrap_servers: impl Into<String>, value: impl SerializationSchema<T>) -> Self {
        let mut properties = Properties::default();
        properties.set("bootstrap.servers", bootstrap_servers);
        let config = SinkConfig {
            topic: None,
            value: Arc::new(value),
            key: None,
            headers: None,
            is_tombstone: None,
            partitioner: KafkaPartitioner::Default,
        };
        Self {
            properties,
            client: None,
            config,
            guarantee: DeliveryGuarantee::AtLeastOnce,
            transactional_id_prefix: "flott".to_owned(),
            forgets_expired: false,
        }
    }

    /// Writes to `client` instead of a real cluster, for tests.
    #[must_use]
    pub fn client(self, client: Arc<dyn Client>) -> Self {
        Self { client: Some(client), ..self }
    }

    /// The topic: `topic`.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.config.topic = Some(Topic::Named(topic.into()));
        self
    }

    /// The topic of each record.
    #[must_use]
    pub fn topic_of(mut self, topic: impl Fn(&T) -> String + Send + Sync + 'static) -> Self {
        self.config.topic = Some(Topic::Of(Arc::new(topic)));
        self
    }

    /// The key of each record, and how it is written: `key.format`.
    #[must_use]
    pub fn key<K: 'static>(
        mut self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
        format: impl SerializationSchema<K>,
    ) -> Self {
        let key = Arc::new(key);
        self.config.key = Some(Arc::new(move || {
            let (key, mut encoder) = (Arc::clone(&key), format.create_encoder()?);
            Ok(Box::new(move |record: &T, out: &mut Vec<u8>| encoder.encode(&key(record), out)))
        }));
        self
    }

    /// The headers of each record.
    #[must_use]
    pub fn headers(mut self, headers: impl Fn(&T) -> Vec<Header> + Send + Sync + 'static) -> Self {
        self.config.headers = Some(Arc::new(headers));
        self
    }

    /// Which records are written without a value: they say that what has their key is gone.
    #[must_use]
    pub fn tombstone_if(mut self, is_tombstone: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.config.is_tombstone = Some(Arc::new(is_tombstone));
        self
    }

    /// Which partition a record goes to: `sink.partitioner`.
    #[must_use]
    pub fn partitioner(mut self, partitioner: KafkaPartitioner) -> Self {
        self.config.partitioner = partitioner;
        self
    }

    /// What is promised: `sink.delivery-guarantee`.
    #[must_use]
    pub fn delivery_guarantee(self, guarantee: DeliveryGuarantee) -> Self {
        Self { guarantee, ..self }
    }

    /// What the ids of transactions begin with: `sink.transactional-id-prefix`. Job, sink, subtask and run follow, so that it need not be
    /// unique; brokers can allow the prefix to a user.
    #[must_use]
    pub fn transactional_id_prefix(self, prefix: impl Into<String>) -> Self {
        Self { transactional_id_prefix: prefix.into(), ..self }
    }

    /// Takes a transaction that the brokers do not know any more for one that was committed.
    ///
    /// Brokers forget ids of transactions that were not used for a week (`transactional.id.expiration.ms`). A job that is restored from an
    /// older savepoint cannot tell whether the last transaction of that was committed, and fails; who knows that it was can go on with this.
    #[must_use]
    pub fn take_forgotten_transactions_for_committed(self, forgets_expired: bool) -> Self {
        Self { forgets_expired, ..self }
    }

    /// An option of the client, `properties.*`: [its list](https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md).
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.set(name, value);
        self
    }

    fn connect(&self) -> Arc<dyn Client> {
        let mut properties = self.properties.clone();
        if properties.get("transaction.timeout.ms").is_none() {
            properties.set("transaction.timeout.ms", TRANSACTION_TIMEOUT_DEFAULT.as_millis().to_string());
        }
        self.client.clone().unwrap_or_else(|| Arc::new(Cluster::new(properties)))
    }

    /// A transaction that is aborted because a checkpoint and a restart took longer is lost, so there must be time for both.
    fn check_timeout(&self, ctx: &SinkContext) -> Result<()> {
        let timeout =
            self.properties.duration_ms("transaction.timeout.ms").unwrap_or(TRANSACTION_TIMEOUT_DEFAULT);
        let Some(interval) = ctx.checkpoint_interval else {
            warn!(
                sink = %ctx.uid,
                "the job takes no checkpoints: what it writes to Kafka exactly once is committed at the end of its input only, and lost if that is \
                 later than transaction.timeout.ms ({} s): set execution.checkpointing.interval",
                timeout.as_secs()
            );
            return Ok(());
        };
        let parts = [interval, ctx.checkpoint_timeout, ctx.restart_delay, RECOVERY_ALLOWANCE];
        let needed = parts.into_iter().fold(Duration::ZERO, Duration::saturating_add);
        if timeout >= needed {
            return Ok(());
        }
        Err(Error::user(format!(
            "transaction.timeout.ms is {} s, and a transaction may be open for {} s: {} s from one checkpoint to the next, {} s for a checkpoint, {} s until \
             a restart and {} s for it. Kafka would abort it, and its records would be lost: set transaction.timeout.ms (and transaction.max.timeout.ms of the \
             brokers, 900 s by default), or lower execution.checkpointing.interval, min-pause or timeout, or the delay of the restart strategy",
            timeout.as_secs(),
            needed.as_secs(),
            interval.as_secs(),
            ctx.checkpoint_timeout.as_secs(),
            ctx.restart_delay.as_secs(),
            RECOVERY_ALLOWANCE.as_secs()
        )))
    }
}

impl<T: Send + 'static> Sink<T> for KafkaSink<T> {
    type Writer = KafkaWriter<T>;

    fn create_writer(&self, ctx: SinkContext) -> Result<KafkaWriter<T>> {
        let Some(topic) = self.config.topic.clone() else {
            return Err(Error::user("the Kafka sink has no topic: name it with topic() or topic_of()"));
        };
        let client = self.connect();
        let encoder = Encoder::new(&self.config, topic, Arc::clone(&client), ctx.subtask)?;
        let destination = match self.guarantee {
            DeliveryGuarantee::None => Destination::plain(client.producer(None)?, false),
            DeliveryGuarantee::AtLeastOnce => Destination::plain(client.producer(None)?, true),
            DeliveryGuarantee::ExactlyOnce => {
                self.check_timeout(&ctx)?;
                let transactions = Transactions::new(client, &self.transactional_id_prefix, &ctx);
                Destination::Transactional(Box::new(transactions))
            }
        };
        Ok(KafkaWriter::new(encoder, destination, ctx.bad_records))
    }

    fn create_committer(&self, _: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        Ok(match self.guarantee {
            DeliveryGuarantee::None | DeliveryGuarantee::AtLeastOnce => None,
            DeliveryGuarantee::ExactlyOnce => {
                Some(Box::new(KafkaCommitter::new(self.connect(), self.forgets_expired)))
            }
        })
    }
}
