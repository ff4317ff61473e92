//! Where the source starts, where it ends, what it finds and what it tells.

use crate::jobs::environment;
use crate::mistakes::{reads, says};
use crate::topics::{LIMIT, Topics, committed_offsets, name};
use flott::connectors::kafka::{
    DeadLetter, KafkaSource, OffsetResetStrategy, OffsetsInitializer, TopicPartition,
};
use flott::message::StringFormat;
use flott::prelude::*;
use flott::sinks::collect_sink;
use flott::{BadRecord, OnError};
use flott_services::{Kafka, wait_for, wait_until};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn source(servers: &str, topic: &str) -> KafkaSource<String> {
    KafkaSource::new(servers, StringFormat).topics([topic])
}

/// What a job reads of a source that ends; sorted.
fn read(source: KafkaSource<String>, parallelism: u32) -> Vec<String> {
    let mut env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    env.set_parallelism(parallelism);
    let (sink, handle) = collect_sink();
    env.from_source(source, WatermarkStrategy::no_watermarks(), "kafka").sink_to(sink);
    env.execute("read").unwrap();
    let mut records = handle.take();
    records.sort();
    records
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("{number:03}")).collect()
}

pub(crate) fn every_start_and_every_end_is_found(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("starts"));
    topics.create(&topic, 2);
    // Offsets 0..10 of both partitions, with timestamps 1,000, 1,001, ….
    let producer = topics.producer();
    for number in 0..20_u32 {
        let (value, partition) = (format!("{number:03}"), (number % 2) as i32);
        let record = BaseRecord::<(), str>::to(&topic).partition(partition).payload(&value);
        producer.send(record.timestamp(1_000 + i64::from(number))).map_err(|(error, _)| error).unwrap();
    }
    crate::topics::flush(&producer);
    let latest = OffsetsInitializer::latest;
    let from = |starting| read(source(&servers, &topic).starting_offsets(starting).bounded(latest()), 2);
    assert_eq!(from(OffsetsInitializer::earliest()), numbers(0..20));
    assert_eq!(from(OffsetsInitializer::latest()), numbers(0..0));
    assert_eq!(from(OffsetsInitializer::timestamp(1_013)), numbers(13..20));
    assert_eq!(from(OffsetsInitializer::timestamp(9_999)), numbers(0..0), "no record is as late");
    // Partition 0 has the even numbers. The one that is not named is read from its first record.
    let specific = OffsetsInitializer::offsets([(TopicPartition::new(&topic, 0), 8)]);
    let mut expected: Vec<_> = numbers(0..20).into_iter().skip(1).step_by(2).collect();
    expected.extend(["016".to_owned(), "018".to_owned()]);
    expected.sort();
    assert_eq!(from(specific), expected);

    let group = name("group");
    let consumer = topics.of_group(&group);
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, Offset::Offset(9)).unwrap();
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
    let of_group = |otherwise| {
        let starting = OffsetsInitializer::committed_offsets(otherwise);
        source(&servers, &topic).group_id(&group).starting_offsets(starting).bounded(latest())
    };
    assert_eq!(read(of_group(OffsetResetStrategy::Latest), 1), ["018"]);
    assert_eq!(read(of_group(OffsetResetStrategy::Earliest), 1).len(), 11);
    let stop = |stopping| read(source(&servers, &topic).bounded(stopping), 3);
    assert_eq!(stop(OffsetsInitializer::timestamp(1_004)), numbers(0..4));
    let stopping = [0, 1].map(|partition| (TopicPartition::new(&topic, partition), 3));
    assert_eq!(stop(OffsetsInitializer::offsets(stopping)), numbers(0..6));
    let one = source(&servers, &topic).partitions([TopicPartition::new(&topic, 1)]).bounded(latest());
    assert_eq!(read(one, 1).len(), 10);
}

pub(crate) fn a_read_ends_where_its_group_has_been(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic, group) = (Topics::at(&servers), name("until-group"), name("group"));
    topics.create(&topic, 2);
    topics.produce(&topic, 0, numbers(0..10));
    topics.produce(&topic, 1, numbers(10..20));
    let commit = |partition, offset| {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, partition, Offset::Offset(offset)).unwrap();
        topics.of_group(&group).commit(&offsets, CommitMode::Sync).unwrap();
    };
    let until = |otherwise| {
        let stopping = OffsetsInitializer::committed_offsets(otherwise);
        source(&servers, &topic).group_id(&group).bounded(stopping)
    };
    commit(0, 4);
    let expected = numbers(0..4);
    assert_eq!(read(until(OffsetResetStrategy::Earliest), 2), expected, "partition 1 ends before it begins");
    let expected = [expected, numbers(10..20)].concat();
    assert_eq!(read(until(OffsetResetStrategy::Latest), 2), expected, "partition 1 ends where it is now");
    says(&reads(until(OffsetResetStrategy::None)), &[&format!("{topic}-1"), "no offset"]);
    commit(1, 3);
    let expected = [numbers(0..4), numbers(10..13)].concat();
    assert_eq!(read(until(OffsetResetStrategy::None), 2), expected);
}

pub(crate) fn an_unbounded_source_stops_at_its_offsets(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("until"));
    topics.create(&topic, 2);
    topics.produce(&topic, 0, numbers(0..10));
    topics.produce(&topic, 1, numbers(10..20));
    let start = |discovery_interval| {
        let stopping =
            [(0, 4), (1, 3)].map(|(partition, stop)| (TopicPartition::new(&topic, partition), stop));
        let source = source(&servers, &topic)
            .unbounded_until(OffsetsInitializer::offsets(stopping))
            .partition_discovery_interval(discovery_interval);
        let dir = tempfile::tempdir().unwrap();
        let env = environment(dir.path(), 2);
        let (sink, handle) = collect_sink();
        env.from_source(source, WatermarkStrategy::no_watermarks(), "kafka").sink_to(sink);
        (env.execute_async("until").unwrap(), handle, dir)
    };
    let expected = [numbers(0..4), numbers(10..13)].concat();
    // No partition can come: it ends.
    let (job, handle, _dir) = start(None);
    job.wait().unwrap();
    let mut seen: Vec<String> = handle.take();
    seen.sort();
    assert_eq!(seen, expected);
    // One may: it does not, and checkpoints go on behind the offsets.
    let (job, handle, _dir) = start(Some(Duration::from_millis(100)));
    let mut seen = Vec::new();
    assert!(wait_until(LIMIT, || {
        seen.extend(handle.take());
        seen.len() >= expected.len()
    }));
    let before = job.counts().completed_checkpoints;
    assert!(wait_until(LIMIT, || job.counts().completed_checkpoints > before + 2), "{:?}", job.status());
    assert!(job.canceler().try_cancel());
    job.wait().unwrap();
    seen.extend(handle.take());
    seen.sort();
    assert_eq!(seen, expected);
}

/// FLINK-34470: the last offsets are of an aborted transaction and of what ends it.
pub(crate) fn a_bounded_read_ends_behind_offsets_without_records(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("gaps"));
    topics.create(&topic, 1);
    topics.produce(&topic, 0, numbers(0..5));
    topics.produce_aborted(&topic, 0, numbers(5..8));
    let bounded = || source(&servers, &topic).bounded(OffsetsInitializer::latest());
    assert_eq!(read(bounded(), 1), numbers(0..5));
    // Also if nothing but a gap is left to read.
    let behind = OffsetsInitializer::offsets([(TopicPartition::new(&topic, 0), 6)]);
    assert_eq!(read(bounded().starting_offsets(behind), 1), numbers(0..0));
}

pub(crate) fn new_partitions_and_topics_are_found(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, prefix) = (Topics::at(&servers), name("found"));
    let (first, second) = (format!("{prefix}-a"), format!("{prefix}-b"));
    topics.create(&first, 1);
    topics.produce(&first, 0, numbers(0..3));
    let source = KafkaSource::new(&servers, StringFormat)
        .topic_pattern(&format!("{prefix}-.*"))
        .unwrap()
        .partition_discovery_interval(Some(Duration::from_millis(100)));
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 2);
    let (sink, handle) = collect_sink();
    env.from_source(source, WatermarkStrategy::no_watermarks(), "kafka").sink_to(sink);
    let job = env.execute_async("found").unwrap();
    let mut seen = Vec::new();
    let mut sees = |expected: Vec<String>| {
        let found = wait_until(LIMIT, || {
            seen.extend(handle.take());
            seen.len() >= expected.len()
        });
        seen.sort();
        assert!(found && seen == expected, "{seen:?}");
    };
    sees(numbers(0..3));
    topics.add_partitions(&first, 3);
    topics.produce(&first, 2, numbers(3..6));
    sees(numbers(0..6));
    topics.create(&second, 2);
    topics.produce(&second, 1, numbers(6..9));
    sees(numbers(0..9));
    assert!(job.canceler().try_cancel());
    job.wait().unwrap();
}

pub(crate) fn committed_offsets_follow_checkpoints(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic, group) = (Topics::at(&servers), name("offsets"), name("group"));
    topics.create(&topic, 2);
    topics.produce(&topic, 0, numbers(0..7));
    topics.produce(&topic, 1, numbers(7..10));
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 1);
    let (sink, _handle) = collect_sink();
    env.from_source(source(&servers, &topic).group_id(&group), WatermarkStrategy::no_watermarks(), "kafka")
        .sink_to(sink);
    let job = env.execute_async("offsets").unwrap();
    let consumer = topics.of_group(&group);
    let committed = || committed_offsets(&consumer, &topic, 2);
    assert!(wait_until(LIMIT, || committed() == [(0, 7), (1, 3)]), "{:?}", committed());
    assert!(job.canceler().try_cancel());
    job.wait().unwrap();
}

pub(crate) fn offsets_that_are_not_committed_are_told(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic, group) = (Topics::at(&servers), name("untold"), name("taken"));
    topics.create(&topic, 1);
    // Somebody else is in the group, and members alone may commit then.
    let member = topics.of_group(&group);
    member.subscribe(&[&topic]).unwrap();
    wait_for("a member of the group", || {
        drop(member.poll(Duration::from_millis(50)));
        member.assignment().unwrap().count() == 1
    });
    topics.produce(&topic, 0, numbers(0..3));
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let env = environment(dir.path(), 1);
    let (sink, _handle) = collect_sink();
    env.from_source(source(&servers, &topic).group_id(&group), WatermarkStrategy::no_watermarks(), "kafka")
        .sink_to(sink);
    let job = env.execute_async("untold").unwrap();
    wait_for("a warning", || {
        drop(member.poll(Duration::ZERO));
        log.has_warned_of(&topic)
    });
    assert!(job.canceler().try_cancel());
    job.wait().unwrap();
}

/// The warnings of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn has_warned_of(&self, topic: &str) -> bool {
        let warnings = self.0.lock().unwrap();
        warnings.iter().any(|it| it.contains("offsets are not committed") && it.contains(topic))
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn Debug| {
            line.push_str(&format!("{field}={value:?} "));
        });
        self.0.lock().unwrap().push(line);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

pub(crate) fn bad_records_go_to_dead_letters_with_their_positions(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("bad"));
    topics.create_with(&topic, 1, &[("max.message.bytes", "4000000")]);
    topics.produce(&topic, 0, numbers(0..2));
    let producer = topics.producer_with(&[("message.max.bytes", "4000000")]);
    let (bad, large) = ([0xff_u8, 0xfe], vec![0xff_u8; BadRecord::RAW_BYTES_MAX + 7]);
    let record = |value| BaseRecord::<[u8], [u8]>::to(&topic).partition(0).payload(value);
    producer.send(record(&bad[..]).key(b"key")).map_err(|it| it.0).unwrap();
    producer.send(record(&large)).map_err(|it| it.0).unwrap();
    crate::topics::flush(&producer);
    topics.produce(&topic, 0, numbers(2..4));
    let bounded = || source(&servers, &topic).bounded(OffsetsInitializer::latest());

    let env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    let ((records, good), (letters, dead)) = (collect_sink(), collect_sink());
    let stream =
        env.from_source_with(bounded(), WatermarkStrategy::no_watermarks(), "kafka", OnError::SideOutput);
    stream
        .bad_records()
        .map(|bad: BadRecord| DeadLetter::from_bad_record(bad).expect("it is Kafka's"))
        .sink_to(letters);
    stream.stream().sink_to(records);
    env.execute("dead letters").unwrap();
    assert_eq!(good.take(), numbers(0..4));
    let letters = dead.take();
    let [letter, cut] = letters.as_slice() else { panic!("{} dead letters", letters.len()) };
    assert_eq!(
        (&letter.partition, letter.offset, letter.raw.as_slice()),
        (&TopicPartition::new(&topic, 0), 2, &bad[..])
    );
    assert_eq!(
        (letter.key.as_deref(), letter.is_truncated, letter.original_len),
        (Some(&b"key"[..]), false, 2)
    );
    assert_eq!((cut.key.as_deref(), cut.is_truncated, cut.original_len), (None, true, large.len() as u64));
    assert_eq!(cut.raw, large[..BadRecord::RAW_BYTES_MAX]);
    assert!(letter.error.contains("UTF-8") && letter.time > 1_600_000_000_000, "{letter:?}");

    let env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    let (records, _good) = collect_sink();
    env.from_source(bounded(), WatermarkStrategy::no_watermarks(), "kafka").sink_to(records);
    let error = env.execute("fails").unwrap_err().report();
    assert!(
        error.contains(&format!("{topic}-0")) && error.contains("offset 2") && error.contains("on_error"),
        "{error}"
    );
}
