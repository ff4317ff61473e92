//! Reading that starts at positions which somebody names.

use super::model::SimClient;
use crate::offsets::TopicPartition;
use crate::split::KafkaSplit;
use crate::{KafkaSource, OffsetsInitializer};
use flott_api::StartingPosition;
use flott_api::message::StringFormat;
use flott_api::testing::SourceDriver;
use flott_env::sim::Simulation;
use flott_testkit::broker::{BrokerRecord, SimBroker};
use std::sync::Arc;

const N_RECORDS: i64 = 10;

/// The broker has record n at n seconds.
fn timed_source() -> KafkaSource<String> {
    let mut broker = SimBroker::new();
    broker.create_partitions("topic", 1);
    let record = |n: i64| BrokerRecord {
        value: Some(n.to_string().into_bytes()),
        timestamp: Some(n * 1_000),
        ..BrokerRecord::default()
    };
    broker.produce("topic", 0, None, &(0..N_RECORDS).map(record).collect::<Vec<_>>()).expect("written");
    KafkaSource::new("nowhere:9092", StringFormat)
        .client(Arc::new(SimClient::new(broker)))
        .topics(["topic"])
        .bounded(OffsetsInitializer::latest())
}

/// What a job reads whose records have times of their own that begins at 7 seconds.
fn read_from_seven_seconds(source: &KafkaSource<String>) -> Vec<String> {
    let world = Simulation::new(1);
    read(SourceDriver::start_at_assigned_time(source, &world.env(), 1, 7_000).expect("started"))
}

fn read(mut driver: SourceDriver<KafkaSource<String>>) -> Vec<String> {
    let decided = driver.snapshot().expect("a snapshot");
    driver.checkpoint_complete(&decided).expect("assigned");
    driver.read_available(100).map_err(|failed| failed.error).expect("read").into_records()
}

#[test]
fn the_broker_finds_a_time_only_if_its_timestamps_are_those_of_the_program() {
    let source = timed_source();
    let world = Simulation::new(1);
    let start = StartingPosition::Timestamp(7_000);
    let own = SourceDriver::start_at(&source, &world.env(), 1, start).expect("started");
    assert_eq!(read(own), ["7", "8", "9"]);
    assert_eq!(
        read_from_seven_seconds(&source).len(),
        10,
        "what is late for the broker may be early for the program"
    );
    let user = source.clone().starting_offsets(OffsetsInitializer::timestamp(4_000));
    assert_eq!(
        read_from_seven_seconds(&user),
        ["4", "5", "6", "7", "8", "9"],
        "the user knows how far they are apart"
    );
    let latest = source.starting_offsets(OffsetsInitializer::latest());
    assert_eq!(read_from_seven_seconds(&latest).len(), 10, "a time is in the past");
}

#[test]
fn a_bounded_source_ends_that_starts_at_the_positions_of_a_job_without_end() {
    let mut broker = SimBroker::new();
    broker.create_partitions("topic", 2);
    for partition in 0..2 {
        let record = |n: i64| BrokerRecord {
            value: Some(format!("{partition}/{n}").into_bytes()),
            ..BrokerRecord::default()
        };
        let records: Vec<_> = (0..N_RECORDS).map(record).collect();
        broker.produce("topic", partition, None, &records).expect("written");
    }
    let source = KafkaSource::new("nowhere:9092", StringFormat)
        .client(Arc::new(SimClient::new(broker)))
        .topics(["topic"])
        .bounded(OffsetsInitializer::latest());
    let split = |partition, offset, stopping_offset| KafkaSplit {
        partition: TopicPartition { topic: "topic".to_owned(), partition },
        offset,
        stopping_offset,
    };
    let splits = [split(0, 7, None), split(1, 2, Some(4))];
    let start = StartingPosition::of_splits(&splits).expect("JSON");
    let world = Simulation::new(1);
    let mut driver = SourceDriver::start_at(&source, &world.env(), 2, start).expect("started");
    assert!(driver.awaits_checkpoint(), "where it ends is decided once");
    let decided = driver.snapshot().expect("a snapshot");
    driver.checkpoint_complete(&decided).expect("assigned");
    let mut read = driver.read_available(100).map_err(|failed| failed.error).expect("read").into_records();
    read.sort();
    assert_eq!(read, ["0/7", "0/8", "0/9", "1/2", "1/3"]);
    assert!(driver.has_ended(), "there is nothing behind the stopping offsets");
}
