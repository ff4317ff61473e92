//! What a user is told who has made a mistake.

use crate::topics::{Topics, name};
use flott::connectors::kafka::{
    DeliveryGuarantee, KafkaSink, KafkaSource, OffsetResetStrategy, OffsetsInitializer, TopicPartition,
};
use flott::message::StringFormat;
use flott::prelude::*;
use flott::sinks::BlackholeSink;
use flott_services::Kafka;

pub(crate) fn reads(source: KafkaSource<String>) -> String {
    let env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    env.from_source(source, WatermarkStrategy::no_watermarks(), "kafka").sink_to(BlackholeSink::new());
    env.execute("mistake").unwrap_err().report()
}

pub(crate) fn writes(sink: KafkaSink<String>) -> String {
    let env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    env.from_collection(vec!["a".to_owned()]).sink_to(sink);
    env.execute("mistake").unwrap_err().report()
}

pub(crate) fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "'{part}' is missing in: {error}");
    }
}

pub(crate) fn mistakes_are_named(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("mistakes"));
    topics.create(&topic, 1);
    topics.produce(&topic, 0, ["a".to_owned()]);
    let source = |topic: &str| {
        KafkaSource::new(&servers, StringFormat).topics([topic]).bounded(OffsetsInitializer::latest())
    };
    let sink = |topic: &str| KafkaSink::new(&servers, StringFormat).topic(topic);

    says(&reads(source("no-such-topic")), &["there is no topic 'no-such-topic'", &servers]);
    says(&reads(KafkaSource::new(&servers, StringFormat)), &["has no topics", "topics()"]);
    says(&writes(KafkaSink::new(&servers, StringFormat)), &["has no topic", "topic()"]);
    says(&reads(source(&topic).property("no.such.property", "1")), &["no.such.property"]);
    let nobody =
        KafkaSource::new("127.0.0.1:1", StringFormat).topics([&topic]).property("request.timeout.ms", "500");
    says(&reads(nobody), &["127.0.0.1:1"]);
    let group = OffsetsInitializer::committed_offsets(OffsetResetStrategy::None);
    says(&reads(source(&topic).starting_offsets(group.clone())), &["group_id()"]);
    says(
        &reads(source(&topic).starting_offsets(group).group_id("empty")),
        &["no offset for partition", "earliest()"],
    );
    let beyond = OffsetsInitializer::offsets([(TopicPartition::new(&topic, 0), 77)]);
    let unbounded = KafkaSource::new(&servers, StringFormat).topics([&topic]).starting_offsets(beyond);
    says(&reads(unbounded), &[&format!("{topic}-0"), "offset"]);
    says(&writes(sink("no-such-topic").property("message.timeout.ms", "2000")), &["no-such-topic"]);
    let long = sink(&topic)
        .delivery_guarantee(DeliveryGuarantee::ExactlyOnce)
        .property("transaction.timeout.ms", "86400000");
    says(&writes(long), &["transaction.max.timeout.ms"]);
}
