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
