//! Writes records with `rdkafka`.

use super::error::{FIRST_WAIT, Trouble, cannot};
use super::{OutgoingRecord, Producer, SendOutcome};
use crate::config::Properties;
use crate::record::Header;
use flott_types::{Error, ErrorKind, Result};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::debug;

/// How long to wait at a time while the client has too many records, or not yet written all.
const WAIT: Duration = Duration::from_millis(1);
/// Answers of brokers are looked at after so many records.
const SERVE_EVERY: u32 = 256;

/// How much longer than its own time-outs a client may take to give records up.
const DELIVERY_ALLOWANCE: Duration = Duration::from_secs(10);
/// The defaults of the client.
const DELIVERY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);
const SOCKET_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// When a client with these properties must have written or given up all that it has: a record waits for the time-out of its delivery, and if it is on its
/// way then for that of the request. `None` if it never gives up.
pub(super) fn delivery_limit(properties: &Properties) -> Option<Duration> {
    let names = ["message.timeout.ms", "delivery.timeout.ms"];
    let timeout = names.into_iter().find_map(|name| properties.duration_ms(name));
    let timeout = timeout.unwrap_or(DELIVERY_TIMEOUT_DEFAULT);
    let request = properties.duration_ms("socket.timeout.ms").unwrap_or(SOCKET_TIMEOUT_DEFAULT);
    // Zero means for ever.
    (timeout > Duration::ZERO).then(|| timeout + request + DELIVERY_ALLOWANCE)
}

/// What the client tells between calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// The first record that was not written.
    failure: Arc<Mutex<Option<Failure>>>,
    trouble: Trouble,
}

#[derive(Debug)]
struct Failure {
    topic: String,
    partition: i32,
    error: KafkaError,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "Kafka client");
        self.trouble.note(&error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| Failure {
                topic: message.topic().to_owned(),
                partition: message.partition(),
                error: error.clone(),
            });
        }
    }
}

/// A producer of a real cluster.
pub(super) struct RdProducer {
    producer: BaseProducer<Context>,
    context: Context,
    /// When the client must have written or given up all that it has; `None` if it never gives up.
    delivery_limit: Option<Duration>,
    /// Since answers were looked at.
    n_sent: u32,
}

impl fmt::Debug for RdProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RdProducer").finish_non_exhaustive()
    }
}

impl RdProducer {
    pub(super) fn new(config: &ClientConfig, delivery_limit: Option<Duration>) -> Result<Self> {
        let context = Context::default();
        let producer = config.create_with_context(context.clone());
        let producer = producer.map_err(|error| cannot("write to Kafka", error))?;
        Ok(Self { producer, context, delivery_limit, n_sent: 0 })
    }

    /// Takes the transactional id over and begins a transaction.
    pub(super) fn begin_transaction(&mut self, transactional_id: &str, timeout: Duration) -> Result<()> {
        let mut taken = self.producer.init_transactions(timeout.min(FIRST_WAIT));
        if matches!(&taken, Err(KafkaError::Transaction(error)) if error.is_retriable()) {
            self.serve(Duration::ZERO)?;
            // It goes on where it was.
            taken = self.producer.init_transactions(timeout);
        }
        let begun = taken.and_then(|()| self.producer.begin_transaction());
        begun.map_err(|error| cannot(&format!("begin transaction '{transactional_id}'"), error))
    }

    fn check(&self) -> Result<()> {
        let failure = self.context.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Failure { topic, partition, error }) = failure else { return Ok(()) };
        let place =
            if partition < 0 { format!("'{topic}'") } else { format!("'{topic}', partition {partition}") };
        Err(cannot(&format!("write a record to topic {place}"), error))
    }

    fn serve(&mut self, wait: Duration) -> Result<()> {
        self.n_sent = 0;
        self.producer.poll(wait);
        if let Some(trouble) = self.context.trouble.take("write to Kafka") {
            return Err(trouble);
        }
        // A record that the brokers refuse may end the producer, too: it says what to do.
        let failed = self.check();
        if failed.as_ref().is_err_and(|error| error.kind() == ErrorKind::FailJob) {
            return failed;
        }
        // A producer that was fenced or that has lost a record in a transaction does not come back.
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            let kind = match code {
                Code::ProducerFenced | Code::Fenced | Code::InvalidProducerEpoch => ErrorKind::Fenced,
                _ => ErrorKind::Retry,
            };
            return Err(Error::new(kind, format!("the Kafka producer has failed for good: {reason}")));
        }
        failed
    }

    /// Waits for the client, which gives each record up in time by itself: the limit is for one that does not. It has nothing to tell then, so that
    /// each wait is a whole one, and their sum is the time.
    fn wait(&mut self, waited: &mut Duration) -> Result<()> {
        self.serve(WAIT)?;
        *waited += WAIT;
        let Some(limit) = self.delivery_limit.filter(|limit| *waited > *limit) else { return Ok(()) };
        Err(Error::new(
            ErrorKind::Retry,
            format!(
                "cannot write to Kafka: the client has neither written all it has nor given it up for {} s, which is delivery.timeout.ms and \
                 socket.timeout.ms and {} s: the brokers do not answer, or the client hangs",
                limit.as_secs(),
                DELIVERY_ALLOWANCE.as_secs()
            ),
        ))
    }
}

fn native(headers: &[Header]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, Header { name, value }| {
        all.insert(rdkafka::message::Header { key: name, value: value.as_deref() })
    })
}

impl Producer for RdProducer {
    fn send(&mut self, record: &OutgoingRecord<'_>) -> Result<SendOutcome> {
        let mut outgoing = BaseRecord::<[u8], [u8]>::to(record.topic);
        outgoing.key = record.key;
        outgoing.payload = record.value;
        outgoing.partition = record.partition;
        outgoing.timestamp = record.timestamp;
        outgoing.headers = (!record.headers.is_empty()).then(|| native(record.headers));
        let mut waited = Duration::ZERO;
        loop {
            match self.producer.send(outgoing) {
                Ok(()) => break,
                // Back-pressure: until the brokers have taken some, or a record has waited for them for too long.
                Err((KafkaError::MessageProduction(Code::QueueFull), refused)) => {
                    outgoing = refused;
                    self.wait(&mut waited)?;
                }
                Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                    let n_bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
                    let problem = "key and value are more than the client sends (message.max.bytes)";
                    return Ok(SendOutcome::Refused(format!("{n_bytes} bytes of {problem}")));
                }
                Err((error, _)) => {
                    self.check()?;
                    return Err(cannot(&format!("write a record to topic '{}'", record.topic), error));
                }
            }
        }
        self.n_sent += 1;
        if self.n_sent >= SERVE_EVERY {
            self.serve(Duration::ZERO)?;
        }
        Ok(SendOutcome::Taken)
    }

    fn flush(&mut self) -> Result<()> {
        let mut waited = Duration::ZERO;
        while self.producer.in_flight_count() > 0 {
            // Sends what was held back to fill a batch. It says that there is more in flight, which is known.
            drop(self.producer.flush(Duration::ZERO));
            self.wait(&mut waited)?;
        }
        self.serve(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_ends_when_the_client_does_not() {
        let mut config = ClientConfig::new();
        // Nobody listens there, and the client is told to wait for ever.
        config.set("bootstrap.servers", "127.0.0.1:1").set("message.timeout.ms", "0");
        let mut producer = RdProducer::new(&config, Some(Duration::from_millis(50))).unwrap();
        let record = OutgoingRecord {
            topic: "topic",
            partition: None,
            key: None,
            value: Some(b"value"),
            timestamp: None,
            headers: &[],
        };
        assert_eq!(producer.send(&record).unwrap(), SendOutcome::Taken);
        let error = producer.flush().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retry);
        assert!(error.to_string().contains("neither written all it has nor given it up"), "{error}");
    }

    #[test]
    fn the_limit_is_behind_the_time_outs_of_the_client() {
        let limit = |options: &[(&str, &str)]| {
            let mut properties = Properties::default();
            options.iter().for_each(|(name, value)| properties.set(*name, *value));
            delivery_limit(&properties).map(|limit| limit.as_secs())
        };
        assert_eq!(limit(&[]), Some(300 + 60 + 10));
        assert_eq!(
            limit(&[("delivery.timeout.ms", "2000"), ("socket.timeout.ms", "1000")]),
            Some(2 + 1 + 10)
        );
        assert_eq!(limit(&[("message.timeout.ms", "5000")]), Some(5 + 60 + 10));
        assert_eq!(limit(&[("message.timeout.ms", "0")]), None);
    }
}
