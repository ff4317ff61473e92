//! Listeners that are not for everybody: who comes in, and what is told who does not.

use crate::jobs::environment;
use crate::kills::{Scene, kill};
use crate::mistakes::{reads, says, writes};
use crate::topics::{Topics, name};
use flott::connectors::kafka::{DeliveryGuarantee, KafkaSink, KafkaSource, OffsetsInitializer};
use flott::message::StringFormat;
use flott::prelude::*;
use flott::sinks::collect_sink;
use flott_services::{KAFKA_PASSWORD, Kafka, Listener};
use std::path::Path;

const HAS_TLS: bool = cfg!(feature = "kafka-ssl");

/// How a client comes in.
#[derive(Clone, Debug)]
struct Door {
    servers: String,
    properties: Vec<(String, String)>,
}

impl Door {
    /// With the certificate of a client, whose key has a password.
    fn ssl(broker: &Kafka) -> Self {
        let (certificate, key) = broker.client_certificate();
        Self { servers: broker.secured_servers(Listener::Ssl), properties: Vec::new() }
            .with("security.protocol", "SSL")
            .with_path("ssl.ca.location", &broker.authority())
            .with_path("ssl.certificate.location", &certificate)
            .with_path("ssl.key.location", &key)
            .with("ssl.key.password", KAFKA_PASSWORD)
    }

    /// As the user that the broker knows.
    fn sasl(broker: &Kafka, mechanism: &str) -> Self {
        Self { servers: broker.secured_servers(Listener::SaslPlaintext), properties: Vec::new() }
            .with("security.protocol", "SASL_PLAINTEXT")
            .with("sasl.mechanism", mechanism)
            .with("sasl.username", "flott")
            .with("sasl.password", KAFKA_PASSWORD)
    }

    fn sasl_ssl(broker: &Kafka, mechanism: &str) -> Self {
        Self { servers: broker.secured_servers(Listener::SaslSsl), ..Self::sasl(broker, mechanism) }
            .with("security.protocol", "SASL_SSL")
            .with_path("ssl.ca.location", &broker.authority())
    }

    /// Those of this build.
    fn all(broker: &Kafka) -> Vec<Self> {
        let mut all = vec![Self::sasl(broker, "PLAIN")];
        if HAS_TLS {
            all.push(Self::ssl(broker));
            all.push(Self::sasl(broker, "SCRAM-SHA-256"));
            all.extend(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(|it| Self::sasl_ssl(broker, it)));
        }
        all
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.properties.retain(|(known, _)| known != name);
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    fn with_path(self, name: &str, path: &Path) -> Self {
        self.with(name, path.to_str().unwrap())
    }

    fn source(&self, topic: &str) -> KafkaSource<String> {
        let source = KafkaSource::new(&self.servers, StringFormat).topics([topic]);
        self.properties.iter().fold(source, |source, (name, value)| source.property(name, value))
    }

    fn sink(&self, topic: &str, guarantee: DeliveryGuarantee) -> KafkaSink<String> {
        let sink = KafkaSink::new(&self.servers, StringFormat).topic(topic).delivery_guarantee(guarantee);
        self.properties.iter().fold(sink, |sink, (name, value)| sink.property(name, value))
    }
}

pub(crate) fn secured_records_come_and_go_through_every_listener(broker: &mut Kafka) {
    let topics = Topics::at(broker.bootstrap_servers());
    for door in Door::all(broker) {
        let topic = name("secured");
        topics.create(&topic, 1);
        for guarantee in [DeliveryGuarantee::AtLeastOnce, DeliveryGuarantee::ExactlyOnce] {
            let dir = tempfile::tempdir().unwrap();
            let env = environment(dir.path(), 1);
            env.from_collection(vec![format!("{guarantee:?}")]).sink_to(door.sink(&topic, guarantee));
            env.execute("write").unwrap_or_else(|error| panic!("{door:?}: {}", error.report()));
        }
        let env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
        let (sink, handle) = collect_sink();
        let source = door.source(&topic).bounded(OffsetsInitializer::latest());
        env.from_source(source, WatermarkStrategy::no_watermarks(), "kafka").sink_to(sink);
        env.execute("read").unwrap();
        assert_eq!(handle.take(), ["AtLeastOnce", "ExactlyOnce"], "{door:?}");
    }
}

pub(crate) fn secured_jobs_that_are_killed_go_on_exactly_once(broker: &mut Kafka) {
    let doors = if HAS_TLS {
        vec![Door::ssl(broker), Door::sasl_ssl(broker, "SCRAM-SHA-512")]
    } else {
        vec![Door::sasl(broker, "PLAIN")]
    };
    for Door { servers, properties } in doors {
        let scene = Scene::start(broker, (&servers, &properties), 1_500);
        for parallelism in [2, 1] {
            let mut job = scene.job(parallelism);
            scene.awaits_commits();
            kill(&mut job);
        }
        let job = scene.job(2);
        scene.ends(&mut [job]);
    }
}

/// What a source, and a sink of both kinds, say of this door.
fn refused(door: &Door, topic: &str, parts: &[&str]) {
    let sink = |guarantee| writes(door.sink(topic, guarantee));
    let errors = [
        reads(door.source(topic).bounded(OffsetsInitializer::latest())),
        sink(DeliveryGuarantee::AtLeastOnce),
        sink(DeliveryGuarantee::ExactlyOnce),
    ];
    for error in errors {
        says(&error, parts);
        assert!(!error.contains(KAFKA_PASSWORD) && !error.contains("wrong-secret"), "{error}");
    }
}

pub(crate) fn secured_listeners_say_why_they_refuse(broker: &mut Kafka) {
    let (topics, topic) = (Topics::at(broker.bootstrap_servers()), name("refused"));
    topics.create(&topic, 1);
    let wrong = |door: Door| door.with("sasl.password", "wrong-secret");
    refused(&wrong(Door::sasl(broker, "PLAIN")), &topic, &["sasl.password"]);
    let (ssl, both) = (Door::ssl(broker), Door::sasl_ssl(broker, "SCRAM-SHA-512"));
    if !HAS_TLS {
        for door in [ssl, both, Door::sasl(broker, "SCRAM-SHA-256")] {
            refused(&door, &topic, &["feature kafka-ssl"]);
        }
        return;
    }
    refused(&wrong(both.clone()), &topic, &["sasl.password"]);
    let other = broker.other_authority();
    refused(&both.clone().with_path("ssl.ca.location", &other), &topic, &["certificate", "ssl.ca.location"]);
    let servers = both.servers.replace("localhost", "127.0.0.1");
    let elsewhere = Door { servers, ..both.clone() };
    refused(&elsewhere, &topic, &["certificate", "bootstrap.servers"]);
    // That is the name's fault alone: who does not look at it comes in, and so it is the broker's own name that is used from then on.
    let env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    let careless = elsewhere.with("ssl.endpoint.identification.algorithm", "none");
    env.from_collection(vec!["a".to_owned()]).sink_to(careless.sink(&topic, DeliveryGuarantee::ExactlyOnce));
    env.execute("write").unwrap();
    refused(&ssl.with("ssl.key.password", "wrong-secret"), &topic, &["ssl.key.location"]);
    refused(&both.with("sasl.mechanism", "SCRAM-SHA-1"), &topic, &["SCRAM-SHA-1"]);
}

pub(crate) fn secured_properties_are_never_shown(broker: &mut Kafka) {
    for door in [Door::ssl(broker), Door::sasl_ssl(broker, "PLAIN")] {
        for text in [
            format!("{:?}", door.source("topic")),
            format!("{:?}", door.sink("topic", DeliveryGuarantee::None)),
        ] {
            assert!(text.contains("security.protocol") && !text.contains(KAFKA_PASSWORD), "{text}");
        }
    }
}
