//! Writes records with `rdkafka`.

use super::error::{FIRST_WAIT, Trouble, cannot};
use super::{OutgoingRecord, Producer, SendOutcome};
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
    /// Since answers were looked at.
    n_sent: u32,
}

impl fmt::Debug for RdProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RdProducer").finish_non_exhaustive()
    }
}

impl RdProducer {
    pub(super) fn new(config: &ClientConfig) -> Result<Self> {
        let context = Context::default();
        let producer = config.create_with_context(context.clone());
        let producer = producer.map_err(|error| cannot("write to Kafka", error))?;
        Ok(Self { producer, context, n_sent: 0 })
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
        // A producer that was fenced or that has lost a record in a transaction does not come back.
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            let kind = match code {
                Code::ProducerFenced | Code::Fenced | Code::InvalidProducerEpoch => ErrorKind::Fenced,
                _ => ErrorKind::Retry,
            };
            return Err(Error::new(kind, format!("the Kafka producer has failed for good: {reason}")));
        }
        self.check()
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
        loop {
            match self.producer.send(outgoing) {
                Ok(()) => break,
                // Back-pressure: until the brokers have taken some, or a record has waited for them for too long.
                Err((KafkaError::MessageProduction(Code::QueueFull), refused)) => {
                    outgoing = refused;
                    self.serve(WAIT)?;
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
        while self.producer.in_flight_count() > 0 {
            // Sends what was held back to fill a batch. It says that there is more in flight, which is known.
            drop(self.producer.flush(Duration::ZERO));
            self.serve(WAIT)?;
        }
        self.serve(Duration::ZERO)
    }
}
