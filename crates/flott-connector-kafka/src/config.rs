//! What a source and a sink are told: their options, and those of the client, `properties.*` of Flink.

use crate::offsets::{OffsetsInitializer, TopicPartition};
use crate::record::Header;
use flott_api::UserResult;
use flott_api::message::SerializationSchema;
use flott_types::{Error, Result};
use rdkafka::ClientConfig;
use regex_lite::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Which topics are read.
#[derive(Clone, Debug)]
pub enum TopicSelection {
    /// These; each must exist.
    Topics(BTreeSet<String>),
    /// Those whose whole name matches, also such as are created later.
    Pattern(Regex),
    /// These partitions and no others.
    Partitions(BTreeSet<TopicPartition>),
}

impl TopicSelection {
    /// Whether the topic is one of them.
    pub fn contains(&self, topic: &str) -> bool {
        match self {
            Self::Topics(topics) => topics.contains(topic),
            Self::Pattern(pattern) => pattern.find(topic).is_some_and(|found| found.as_str() == topic),
            Self::Partitions(partitions) => partitions.iter().any(|partition| partition.topic == topic),
        }
    }
}

/// What an enumerator is told by the source.
#[derive(Clone, Debug)]
pub(crate) struct EnumeratorOptions {
    pub(crate) topics: TopicSelection,
    pub(crate) starting: OffsetsInitializer,
    pub(crate) stopping: Option<OffsetsInitializer>,
    pub(crate) discovery_interval: Option<Duration>,
}

/// What a reader is told by the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReaderOptions {
    pub(crate) commits_offsets: bool,
}

/// What is promised: `sink.delivery-guarantee`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryGuarantee {
    /// Nothing: records may be lost or written twice.
    None,
    /// A checkpoint is complete only when the brokers have all records before it. After a restart those since the restored checkpoint are written
    /// again.
    #[default]
    AtLeastOnce,
    /// Records are written in transactions, which are committed when their checkpoint is complete.
    ExactlyOnce,
}

/// The number of a partition, of so many, for a key.
pub type PartitionOf = Arc<dyn Fn(Option<&[u8]>, u32) -> u32 + Send + Sync>;

/// Which partition of its topic a record goes to: `sink.partitioner`.
#[derive(Clone, Default)]
pub enum KafkaPartitioner {
    /// By the hash of the key as Kafka's own clients do it; anywhere without a key.
    #[default]
    Default,
    /// All records of a subtask to one partition.
    Fixed,
    /// In turn.
    RoundRobin,
    /// What a function of the key and the number of partitions says.
    Custom(PartitionOf),
}

impl fmt::Debug for KafkaPartitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "Default",
            Self::Fixed => "Fixed",
            Self::RoundRobin => "RoundRobin",
            Self::Custom(_) => "Custom",
        })
    }
}

/// Says something of a record.
pub(crate) type Of<T, R> = Arc<dyn Fn(&T) -> R + Send + Sync>;

/// Writes the key of a record.
pub(crate) type KeyEncoder<T> = Box<dyn FnMut(&T, &mut Vec<u8>) -> UserResult + Send>;

/// What writers are made from.
pub(crate) struct SinkConfig<T> {
    pub(crate) topic: Option<Topic<T>>,
    pub(crate) value: Arc<dyn SerializationSchema<T>>,
    pub(crate) key: Option<Arc<dyn Fn() -> Result<KeyEncoder<T>> + Send + Sync>>,
    pub(crate) headers: Option<Of<T, Vec<Header>>>,
    pub(crate) is_tombstone: Option<Of<T, bool>>,
    pub(crate) partitioner: KafkaPartitioner,
}

/// Where records go.
pub(crate) enum Topic<T> {
    Named(String),
    Of(Of<T, String>),
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Named(name) => Self::Named(name.clone()),
            Self::Of(f) => Self::Of(Arc::clone(f)),
        }
    }
}

impl<T> Clone for SinkConfig<T> {
    fn clone(&self) -> Self {
        Self {
            topic: self.topic.clone(),
            value: Arc::clone(&self.value),
            key: self.key.clone(),
            headers: self.headers.clone(),
            is_tombstone: self.is_tombstone.clone(),
            partitioner: self.partitioner.clone(),
        }
    }
}

/// How long a request to the cluster may take: the default of `request.timeout.ms`.
const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// What the client is told.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Properties(BTreeMap<String, String>);

/// Names whose values nobody is to read in a log.
pub(crate) fn is_secret(name: &str) -> bool {
    ["password", "passphrase", "secret", "token", "pem", "jaas", "oauthbearer.config"]
        .iter()
        .any(|word| name.contains(word))
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if is_secret(name) { "******" } else { value });
        f.debug_map()
            .entries(self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).map(shown))
            .finish()
    }
}

impl Properties {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The names of all options that were set.
    #[cfg(feature = "kafka-ssl")]
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn bootstrap_servers(&self) -> &str {
        self.get("bootstrap.servers").unwrap_or_default()
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.duration_ms("request.timeout.ms").unwrap_or(REQUEST_TIMEOUT_DEFAULT)
    }

    /// The value of an option in milliseconds, if it is one.
    pub(crate) fn duration_ms(&self, name: &str) -> Option<Duration> {
        self.get(name).and_then(|text| text.trim().parse().ok()).map(Duration::from_millis)
    }

    /// How connections are made.
    ///
    /// # Errors
    /// If `security.protocol` is none.
    pub(crate) fn security(&self) -> Result<Security<'_>> {
        let protocol = self.get("security.protocol").unwrap_or("plaintext");
        let (encrypts, authenticates) = match protocol.to_ascii_lowercase().as_str() {
            "plaintext" => (false, false),
            "ssl" => (true, false),
            "sasl_plaintext" => (false, true),
            "sasl_ssl" => (true, true),
            _ => {
                return Err(Error::user(format!(
                    "security.protocol is '{protocol}': it can be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
                )));
            }
        };
        Ok(Security { encrypts, mechanism: authenticates.then(|| self.mechanism()) })
    }

    /// The client's own default is Kerberos.
    fn mechanism(&self) -> &str {
        self.get("sasl.mechanism").or_else(|| self.get("sasl.mechanisms")).unwrap_or("GSSAPI")
    }

    /// For the client: the user's options over `defaults`, and `fixed` over both.
    ///
    /// # Errors
    /// If they ask for what this program was built without.
    pub(crate) fn config(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> Result<ClientConfig> {
        let Security { encrypts, mechanism } = self.security()?;
        let option = self.0.keys().find(|name| name.starts_with("ssl.")).map(String::as_str);
        let option = option.or_else(|| encrypts.then_some("security.protocol"));
        let option = option.or_else(|| mechanism.filter(|it| *it != "PLAIN").map(|_| "sasl.mechanism"));
        if let (Some(option), false) = (option, cfg!(feature = "kafka-ssl")) {
            return Err(Error::user(format!(
                "the property {option} asks for what needs OpenSSL, and this program was built without: build it with the feature kafka-ssl of flott; \
                 without are security.protocol PLAINTEXT, and SASL_PLAINTEXT with sasl.mechanism PLAIN"
            )));
        }
        let mut config = ClientConfig::new();
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.0 {
            config.set(name, value);
        }
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        Ok(config)
    }
}

/// How connections to brokers are made: `security.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Security<'a> {
    /// By TLS.
    pub(crate) encrypts: bool,
    /// How the client says who it is; `None` if it does not.
    pub(crate) mechanism: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut properties = Properties::default();
        properties.set("bootstrap.servers", "broker:9092");
        properties.set("sasl.password", "hunter2");
        let shown = format!("{properties:?}");
        assert!(shown.contains("broker:9092") && !shown.contains("hunter2"), "{shown}");
    }
}
