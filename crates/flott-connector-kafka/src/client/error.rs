//! Errors of the client library as ours.

use crate::config::is_secret;
use flott_types::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// If no connection comes about the client says why, and its calls wait all the same. So the first one does not wait for longer.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Why no connection comes about: that the client tells beside the calls, which only time out.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<(Code, String)>>>);

impl Trouble {
    /// Notes what the client tells, if it is that.
    pub(super) fn note(&self, error: &KafkaError, reason: &str) {
        if let Some(code @ (Code::SSL | Code::Authentication)) = error.rdkafka_error_code() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, reason.to_owned()));
        }
    }

    /// What was told since the last look.
    pub(super) fn take(&self, what: &str) -> Option<Error> {
        let (code, reason) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (kind, remedy) = match code {
            Code::Authentication => (
                ErrorKind::UserError,
                "check sasl.username, sasl.password, sasl.mechanism and security.protocol",
            ),
            // A broker that goes while connections are made is told like this, too.
            _ => (
                ErrorKind::Retry,
                "check security.protocol, ssl.ca.location, and that the broker's certificate is for the name in bootstrap.servers and its advertised.listeners",
            ),
        };
        Some(Error::new(kind, format!("cannot {what}: {reason}: {remedy}")))
    }
}

/// An option that the client does not take is told with its value.
fn without_secret(error: KafkaError) -> KafkaError {
    match error {
        KafkaError::ClientConfig(result, why, name, _) if is_secret(&name) => {
            KafkaError::ClientConfig(result, why, name, "******".to_owned())
        }
        error => error,
    }
}

/// An error of the client as ours. What may pass with time is tried again by a restart.
pub(super) fn cannot(what: &str, error: KafkaError) -> Error {
    let (kind, remedy) = match error.rdkafka_error_code() {
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
            (ErrorKind::UserError, ": check sasl.username, sasl.password and security.protocol")
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed,
        ) => (ErrorKind::UserError, ": the user of the job needs an ACL for that"),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            (ErrorKind::UserError, ": the topic or partition does not exist, or does not any more")
        }
        Some(Code::OffsetOutOfRange | Code::AutoOffsetReset) => (
            ErrorKind::FailJob,
            ": the records at this offset are gone, because the topic was truncated, made anew, or keeps records for a shorter time than the job was away; to skip them \
             start from nothing, or set the property auto.offset.reset",
        ),
        Some(Code::InvalidTransactionTimeout) => (
            ErrorKind::UserError,
            ": transaction.timeout.ms is longer than the brokers allow: raise their transaction.max.timeout.ms, or lower it",
        ),
        // What the brokers do not take now they do not take when it comes again.
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge) => (
            ErrorKind::FailJob,
            ": the brokers take no record of this size; set the property message.max.bytes of the sink to what they and the topic take (message.max.bytes, \
             max.message.bytes), so that on_error of the sink decides about such records before they are sent",
        ),
        Some(Code::MessageTimedOut) => (
            ErrorKind::Retry,
            ": the brokers have not taken it for delivery.timeout.ms (5 min unless set): they are away, too slow, or there is no such topic",
        ),
        Some(Code::InvalidRecord) => (
            ErrorKind::FailJob,
            ": the brokers take no such record in this topic: one that is compacted takes none without a key",
        ),
        Some(Code::InvalidTimestamp) => (
            ErrorKind::FailJob,
            ": the topic takes no record with a timestamp so far from now (message.timestamp.before.max.ms, message.timestamp.after.max.ms)",
        ),
        Some(Code::ProducerFenced | Code::Fenced | Code::InvalidProducerEpoch) => {
            (ErrorKind::Fenced, ": another attempt has taken over")
        }
        _ => match &error {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => {
                (ErrorKind::UserError, ": check the properties of the client")
            }
            _ => (ErrorKind::Retry, ""),
        },
    };
    Error::new(kind, format!("cannot {what}{remedy}")).with_source(without_secret(error))
}

/// Whether the client goes on by itself.
pub(super) fn passes(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::MessageTimedOut
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::UnknownLeaderEpoch
                | Code::FencedLeaderEpoch
                | Code::RequestTimedOut
                | Code::BrokerNotAvailable
                | Code::NetworkException
                | Code::NotCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::ReplicaNotAvailable
                | Code::OffsetNotAvailable
                | Code::PollExceeded
        )
    )
}

/// Whether the broker does not know yet, or not any more, that it coordinates a group.
pub(super) fn awaits_coordinator(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::NotCoordinator | Code::CoordinatorNotAvailable | Code::CoordinatorLoadInProgress)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::ClientConfig;
    use rdkafka::consumer::BaseConsumer;

    #[test]
    fn a_secret_that_the_client_does_not_take_is_not_shown() {
        let config = |name: &str, value: &str| {
            let created = ClientConfig::new().set(name, value).create::<BaseConsumer>();
            cannot("connect", created.err().expect("it is refused")).report()
        };
        let shown = config("no.such.password", "hunter2");
        assert!(shown.contains("no.such.password") && !shown.contains("hunter2"), "{shown}");
        let shown = config("no.such.option", "value");
        assert!(shown.contains("no.such.option value"), "{shown}");
    }
}
