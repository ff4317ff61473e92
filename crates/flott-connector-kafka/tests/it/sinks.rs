//! What the sink writes, commits, aborts and leaves.

use crate::jobs::environment;
use crate::mistakes::says;
use crate::topics::{LIMIT, Topics, name, text};
use flott::connectors::kafka::{
    DeliveryGuarantee, Header, KafkaPartitioner, KafkaRecord, KafkaSink, KafkaSource, OffsetsInitializer,
};
use flott::env::Env;
use flott::message::{RawFormat, StringFormat};
use flott::prelude::*;
use flott::sinks::collect_sink;
use flott::{Committable, CommittableId, Sink, SinkContext, SinkGeneration, SinkWriter, SubtaskIndex};
use flott_services::{Kafka, wait_until};
use flott_types::{CheckpointId, RecordBatch, RestartStrategyType};
use std::time::Duration;

fn exactly_once(servers: &str, topic: &str) -> KafkaSink<String> {
    KafkaSink::new(servers, StringFormat).topic(topic).delivery_guarantee(DeliveryGuarantee::ExactlyOnce)
}

/// Of a sink that no other test has: what one leaves open is none of another's business.
fn context(sink: &str, run_id: u64, restored: Option<u64>) -> SinkContext {
    let mut ctx = SinkContext::new(Env::real().unwrap(), SubtaskIndex(0), 1, run_id);
    ctx.job_id = flott::JobId(7 + u128::from(std::process::id()));
    ctx.uid = flott_types::OperatorUid(sink.to_owned());
    ctx.has_checkpoints = true;
    ctx.restored_checkpoint = restored.map(CheckpointId);
    ctx
}

fn batch(values: &[&str]) -> RecordBatch<String> {
    let mut batch = RecordBatch::default();
    values.iter().for_each(|value| batch.push((*value).to_owned(), 5));
    batch
}

fn committable(payload: Vec<u8>) -> Committable {
    Committable { id: CommittableId(1), checkpoint_id: CheckpointId(1), subtask: SubtaskIndex(0), payload }
}

pub(crate) fn records_keep_keys_headers_and_timestamps(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("whole"));
    topics.create(&topic, 4);
    let env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    let at = |record: &(String, i64), _| record.1;
    let timestamps = WatermarkStrategy::for_monotonous_timestamps().with_timestamp_assigner(at);
    let records = vec![("a".to_owned(), 1_000_i64), ("b".to_owned(), 2_000), ("gone".to_owned(), 3_000)];
    let header = |value: &str| Header { name: "origin".to_owned(), value: Some(value.as_bytes().to_vec()) };
    let sink = KafkaSink::new(&servers, StringFormat)
        .topic_of({
            let topic = topic.clone();
            move |_: &String| topic.clone()
        })
        .key(|record: &String| record.as_bytes().to_vec(), RawFormat)
        .headers(move |record| vec![header(record), Header { name: "empty".to_owned(), value: None }])
        .tombstone_if(|record| record == "gone")
        .partitioner(KafkaPartitioner::Custom(std::sync::Arc::new(|key, n| u32::from(key.unwrap()[0]) % n)));
    env.from_collection(records)
        .assign_timestamps_and_watermarks(timestamps)
        .map(|record: (String, i64)| record.0)
        .sink_to(sink);
    env.execute("write").unwrap();

    let env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    let source = KafkaSource::records(&servers, StringFormat, StringFormat).topics([&topic]);
    let (sink, handle) = collect_sink();
    let read = env.from_source(
        source.bounded(OffsetsInitializer::latest()),
        WatermarkStrategy::no_watermarks(),
        "kafka",
    );
    read.sink_to(sink);
    env.execute("read").unwrap();
    let mut read: Vec<KafkaRecord<String, String>> = handle.take();
    read.sort_by_key(|record| record.timestamp);
    let values: Vec<_> = read
        .iter()
        .map(|record| (record.key.as_deref(), record.value.as_deref(), record.timestamp))
        .collect();
    assert_eq!(
        values,
        [
            (Some("a"), Some("a"), Some(1_000)),
            (Some("b"), Some("b"), Some(2_000)),
            (Some("gone"), None, Some(3_000))
        ]
    );
    assert_eq!(
        read[0].headers,
        [
            Header { name: "origin".into(), value: Some(b"a".into()) },
            Header { name: "empty".into(), value: None }
        ]
    );
    assert_eq!(read[0].partition.partition, i32::from(b'a') % 4);
}

pub(crate) fn a_committable_is_committed_by_whom_and_as_often_as_you_like(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("commits"));
    topics.create(&topic, 1);
    let sink = exactly_once(&servers, &topic);
    let mut writer = sink.create_writer(context(&topic, 1, None)).unwrap();
    writer.restore(Vec::new(), None).unwrap();
    writer.write(batch(&["a", "b"])).unwrap();
    let first = writer.prepare_commit(CheckpointId(1), false).unwrap().pop().unwrap();
    writer.write(batch(&["c"])).unwrap();
    let second = writer.prepare_commit(CheckpointId(2), false).unwrap().pop().unwrap();
    assert_eq!(topics.committed(&topic, 0), [""; 0], "nothing is committed yet");
    // The writer is gone, as if its process had died.
    drop(writer);
    let commit = |payload: &Vec<u8>| {
        let mut committer = sink.create_committer(context(&topic, 2, None)).unwrap().unwrap();
        committer.commit(&[committable(payload.clone())])
    };
    commit(&first).unwrap();
    assert_eq!(topics.committed(&topic, 2), ["a", "b"]);
    commit(&first).unwrap();
    commit(&second).unwrap();
    commit(&first).unwrap();
    assert_eq!(topics.committed(&topic, 3), ["a", "b", "c"]);
}

pub(crate) fn what_a_dead_attempt_left_open_is_aborted(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("open"));
    topics.create(&topic, 1);
    let sink = exactly_once(&servers, &topic);
    let mut dead = sink.create_writer(context(&topic, 1, None)).unwrap();
    dead.restore(Vec::new(), None).unwrap();
    dead.write(batch(&["kept"])).unwrap();
    let kept = dead.prepare_commit(CheckpointId(1), false).unwrap().pop().unwrap();
    let entries = dead.snapshot().unwrap();
    // What comes after the checkpoint that is restored: prepared for one that was never complete, and not even prepared.
    dead.write(batch(&["lost"])).unwrap();
    let aborted = dead.prepare_commit(CheckpointId(2), false).unwrap().pop().unwrap();
    dead.write(batch(&["open"])).unwrap();
    // It stands still instead of ending: nothing of it runs.
    let mut successor = sink.create_writer(context(&topic, 2, Some(1))).unwrap();
    successor.restore(entries, Some(CheckpointId(1))).unwrap();
    let mut committer = sink.create_committer(context(&topic, 2, Some(1))).unwrap().unwrap();
    committer.commit(&[committable(kept)]).unwrap();
    successor.write(batch(&["new"])).unwrap();
    let new = successor.prepare_commit(CheckpointId(3), true).unwrap().pop().unwrap();
    committer.commit(&[committable(new)]).unwrap();
    assert_eq!(topics.committed(&topic, 2), ["kept", "new"]);
    // And when it wakes, it can neither write on nor commit.
    let written = dead.write(batch(&["zombie"])).and_then(|()| dead.prepare_commit(CheckpointId(3), false));
    assert!(written.is_err(), "a zombie has prepared a transaction");
    let lost = committer.commit(&[committable(aborted)]).unwrap_err().to_string();
    assert!(lost.contains("records are lost"), "{lost}");
    assert_eq!(topics.committed(&topic, 2), ["kept", "new"]);
}

/// It begins a transaction behind the back of those who have looked when they began, and what it prepares is in no checkpoint.
pub(crate) fn what_a_zombie_prepares_late_is_aborted_by_those_who_look_again(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("late-zombie"));
    topics.create(&topic, 1);
    let sink = exactly_once(&servers, &topic);
    let attempt = |number, restored| {
        let mut ctx = context(&topic, number, restored);
        ctx.generation = Some(SinkGeneration { history: 1, job: number, subtask: number });
        sink.create_writer(ctx).unwrap()
    };
    let mut successor = attempt(2, None);
    successor.restore(Vec::new(), None).unwrap();
    let mut zombie = attempt(1, None);
    zombie.write(batch(&["zombie"])).unwrap();
    zombie.prepare_commit(CheckpointId(1), false).unwrap();
    topics.produce(&topic, 0, ["behind".to_owned()]);
    let committed = topics.reader(&topic, "read_committed");
    assert!(committed.poll(Duration::from_millis(500)).is_none(), "the open transaction holds readers up");
    let mut n = 2;
    let is_read = wait_until(LIMIT, || {
        successor.prepare_commit(CheckpointId(n), false).unwrap();
        n += 1;
        committed.poll(Duration::from_millis(100)).is_some()
    });
    assert!(is_read, "nobody has aborted it");
}

pub(crate) fn a_transaction_that_was_aborted_is_a_loud_loss(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("late"));
    topics.create(&topic, 1);
    let sink = exactly_once(&servers, &topic).property("transaction.timeout.ms", "1000");
    let mut writer = sink.create_writer(context(&topic, 1, None)).unwrap();
    writer.restore(Vec::new(), None).unwrap();
    writer.write(batch(&["a"])).unwrap();
    let payload = writer.prepare_commit(CheckpointId(1), false).unwrap().pop().unwrap();
    drop(writer);
    // The broker aborts it, and readers go on behind it.
    topics.produce(&topic, 0, ["behind".to_owned()]);
    assert_eq!(topics.committed(&topic, 1), ["behind"]);
    let mut committer = sink.create_committer(context(&topic, 2, None)).unwrap().unwrap();
    let error = committer.commit(&[committable(payload)]).unwrap_err().to_string();
    for part in ["1 records are lost", "checkpoint 1", "transaction.timeout.ms"] {
        assert!(error.contains(part), "{error}");
    }
    // A job whose checkpoints take longer than that does not even start.
    let env = environment(tempfile::tempdir().unwrap().path(), 1);
    env.from_collection(vec!["a".to_owned()]).sink_to(sink);
    let error = env.execute("refused").unwrap_err().report();
    assert!(error.contains("transaction.timeout.ms is 1 s"), "{error}");
}

pub(crate) fn a_cancelled_job_leaves_nothing_open(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic, dir) = (Topics::at(&servers), name("cancelled"), tempfile::tempdir().unwrap());
    topics.create(&topic, 1);
    let mut env = environment(dir.path(), 1);
    env.enable_checkpointing(Duration::from_secs(60));
    let numbers = GeneratorSource::new(|n| n, None).rate_per_second(200.0);
    env.from_source(numbers, WatermarkStrategy::no_watermarks(), "numbers")
        .map(|number: u64| number.to_string())
        .sink_to(exactly_once(&servers, &topic));
    let job = env.execute_async("cancelled").unwrap();
    let reader = topics.reader(&topic, "read_uncommitted");
    assert!(wait_until(LIMIT, || reader.poll(Duration::from_millis(50)).is_some()), "it writes nothing");
    assert!(job.canceler().try_cancel());
    job.wait().unwrap();
    // If the transaction were open, a reader would wait in front of it.
    topics.produce(&topic, 0, ["behind".to_owned()]);
    let committed = topics.reader(&topic, "read_committed");
    let mut seen = None;
    assert!(wait_until(LIMIT, || {
        seen = committed
            .poll(Duration::from_millis(50))
            .map(|message| text(rdkafka::Message::payload(&message)));
        seen.is_some()
    }));
    assert_eq!(seen.as_deref(), Some("behind"));
}

/// Larger than the client is told to send; and larger than the broker takes, which it says too late.
pub(crate) fn records_that_are_too_large_are_left_out_or_fail_with_what_to_do(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let topics = Topics::at(&servers);
    let large = "x".repeat(3_000);
    for guarantee in [DeliveryGuarantee::AtLeastOnce, DeliveryGuarantee::ExactlyOnce] {
        for on_error in [OnError::Skip, OnError::SideOutput] {
            let (topic, dir) = (name("large"), tempfile::tempdir().unwrap());
            topics.create(&topic, 1);
            let env = environment(dir.path(), 1);
            let sink = KafkaSink::new(&servers, StringFormat)
                .topic(&topic)
                .key(|record: &String| record[..1].to_owned(), StringFormat)
                .delivery_guarantee(guarantee)
                .property("message.max.bytes", "2000");
            let records = ["first", &large, "last"].map(str::to_owned).to_vec();
            let written = env.from_collection(records).sink_to_with(sink, on_error);
            let (letters, dead) = collect_sink();
            written.bad_records().sink_to(letters);
            env.execute("large").unwrap_or_else(|error| panic!("{guarantee:?}: {}", error.report()));
            assert_eq!(topics.committed(&topic, 2), ["first", "last"], "{guarantee:?} {on_error:?}");
            let letters: Vec<BadRecord> = dead.take();
            let texts = letters.iter().map(|letter| (letter.split.0.as_str(), letter.message.as_str()));
            let expected = (
                format!("topic '{topic}'"),
                "3001 bytes of key and value are more than the client sends (message.max.bytes)",
            );
            let expected = (on_error == OnError::SideOutput).then_some((expected.0.as_str(), expected.1));
            assert!(texts.eq(expected), "{guarantee:?}: {letters:?}");
            assert!(letters.iter().all(|letter| letter.key.as_deref() == Some(b"x")), "{letters:?}");
        }
        refused_by_the_broker(&servers, guarantee);
    }
}

/// No restart would help: the job ends at once, though its restart strategy has many to give.
fn refused_by_the_broker(servers: &str, guarantee: DeliveryGuarantee) {
    let topics = Topics::at(servers);
    let refused = |what: &str, settings: &[(&str, &str)], record: String, parts: &[&str]| {
        let (topic, dir) = (name(what), tempfile::tempdir().unwrap());
        topics.create_with(&topic, 1, settings);
        let mut env = environment(dir.path(), 1);
        env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::FixedDelay));
        env.set(options::RESTART_FIXED_DELAY_ATTEMPTS, 1_000);
        env.set(options::RESTART_FIXED_DELAY_DELAY, Duration::from_millis(50));
        let sink = KafkaSink::new(servers, StringFormat)
            .topic(&topic)
            .delivery_guarantee(guarantee)
            .property("message.max.bytes", "5000000")
            .property("compression.type", "none");
        env.from_collection(vec!["first".to_owned(), record]).sink_to_with(sink, OnError::Skip);
        let job = env.execute_async(what).unwrap();
        assert!(wait_until(LIMIT, || job.status().is_terminal()), "{what}: it goes on");
        assert_eq!(job.counts().restarts, 0, "{what}");
        let error = job.wait().unwrap_err();
        assert_eq!(error.kind(), flott::ErrorKind::FailJob, "{what}");
        says(&error.report(), &[&topic]);
        says(&error.report(), parts);
    };
    refused("larger", &[], "x".repeat(2_000_000), &["set the property message.max.bytes"]);
    refused("compacted", &[("cleanup.policy", "compact")], "second".to_owned(), &["none without a key"]);
}

/// Nothing is forwarded, on connections that stay open: who writes waits for as long as it was told, and says that.
pub(crate) fn a_sink_does_not_wait_for_ever_for_brokers_that_say_nothing(broker: &mut Kafka) {
    for guarantee in [DeliveryGuarantee::AtLeastOnce, DeliveryGuarantee::ExactlyOnce] {
        let (topics, topic, dir) =
            (Topics::at(broker.bootstrap_servers()), name("stalled"), tempfile::tempdir().unwrap());
        topics.create(&topic, 1);
        let mut env = environment(dir.path(), 1);
        env.set(options::RESTART_STRATEGY, Some(RestartStrategyType::None));
        let sink = KafkaSink::new(broker.proxied_servers(), StringFormat)
            .topic(&topic)
            .delivery_guarantee(guarantee)
            .property("delivery.timeout.ms", "4000")
            .property("socket.timeout.ms", "3000")
            .property("request.timeout.ms", "3000");
        let numbers = GeneratorSource::new(|n| n, None).rate_per_second(200.0);
        env.from_source(numbers, WatermarkStrategy::no_watermarks(), "numbers")
            .map(|number: u64| number.to_string())
            .sink_to(sink);
        let job = env.execute_async("stalled").unwrap();
        let reader = topics.reader(&topic, "read_uncommitted");
        assert!(wait_until(LIMIT, || reader.poll(Duration::from_millis(50)).is_some()), "it writes nothing");
        broker.proxy().set_stalled(true);
        let ends = wait_until(LIMIT, || job.status().is_terminal());
        broker.proxy().set_stalled(false);
        assert!(ends, "{guarantee:?}: it waits");
        let error = job.wait().unwrap_err();
        assert_eq!(error.kind(), flott::ErrorKind::Retry, "{guarantee:?}: {}", error.report());
        // Which request has waited in vain is chance: that of a record, or one about a transaction.
        let report = error.report();
        let is_of_transaction =
            guarantee == DeliveryGuarantee::ExactlyOnce && report.contains("transaction '");
        if !is_of_transaction {
            says(&report, &[&topic, "delivery.timeout.ms"]);
        }
    }
}
