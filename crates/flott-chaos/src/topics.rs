//! Topics of Kafka, for the harness.

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn config(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    config
}

/// Makes a topic and waits until the broker shows it.
pub(crate) fn create(servers: &str, topic: &str, n_partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(servers).create()?;
    let new = NewTopic::new(topic, n_partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new();
    let mut made = flott_services::block_on(admin.create_topics(std::slice::from_ref(&new), &options))?;
    made.pop().context("no answer")?.map_err(|(topic, error)| anyhow::anyhow!("topic {topic}: {error}"))?;
    let consumer: BaseConsumer = config(servers).create()?;
    let is_there = flott_services::wait_until(LIMIT, || {
        consumer.fetch_metadata(Some(topic), LIMIT).is_ok_and(|metadata| {
            metadata.topics().iter().any(|it| it.partitions().len() == n_partitions as usize)
        })
    });
    ensure!(is_there, "topic {topic} does not come");
    Ok(())
}

/// How far each partition of a topic can be read: under `read_uncommitted` to its end, else to the first open transaction.
pub(crate) fn ends(servers: &str, topic: &str, isolation: &str) -> Result<Vec<i64>> {
    let consumer: BaseConsumer = config(servers).set("isolation.level", isolation).create()?;
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT)?;
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    partitions.map(|it| Ok(consumer.fetch_watermarks(topic, it.id(), LIMIT)?.1)).collect()
}

/// A reader of all that is committed in a topic.
pub(crate) fn committed_reader(servers: &str, topic: &str) -> Result<BaseConsumer> {
    let mut config = config(servers);
    config
        .set("group.id", "watch")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false");
    config
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "20")
        .set("reconnect.backoff.max.ms", "500");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), LIMIT)?;
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        all.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    ensure!(all.count() > 0, "the broker tells no partition of topic {topic}");
    consumer.assign(&all)?;
    Ok(consumer)
}
