//! Event time of JSON messages in partitions that are days apart.

use crate::topics::{LIMIT, Topics, flush, name};
use flott::connectors::kafka::KafkaSource;
use flott::prelude::*;
use flott::sinks::collect_sink;
use flott_format_json::JsonFormat;
use flott_services::{Kafka, wait_until};
use rdkafka::producer::BaseRecord;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;
/// How many hours have records, in each partition.
const N_HOURS: i64 = 4;
/// The other partition begins so much later.
const APART_HOURS: i64 = 48;
const PER_HOUR: i64 = 30;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Click {
    user: String,
    amount: i64,
}

/// The sums of the hours that begin at `first` and behind it.
fn hours(first: i64, n: i64) -> Vec<(i64, i64)> {
    (first..first + n).map(|hour| (hour * HOUR_MS, (0..PER_HOUR).sum())).collect()
}

/// One subtask reads both in turn, so with one event time for both nearly everything of the earlier one would be late. A third partition has no
/// records, and holds nothing up.
pub(crate) fn each_partition_has_an_event_time_of_its_own(broker: &mut Kafka) {
    let servers = broker.bootstrap_servers();
    let (topics, topic) = (Topics::at(&servers), name("event_time"));
    topics.create(&topic, 3);
    let producer = topics.producer();
    for (partition, first) in [(0, 0), (1, APART_HOURS)] {
        for (hour, amount) in (first..first + N_HOURS).flat_map(|hour| (0..PER_HOUR).map(move |n| (hour, n)))
        {
            let value = format!("{{\"user\":\"ada\",\"amount\":{amount}}}");
            let record = BaseRecord::<(), str>::to(&topic).partition(partition).payload(&value);
            let at = hour * HOUR_MS + amount * 60_000 + 1;
            producer.send(record.timestamp(at)).map_err(|(error, _)| error).unwrap();
        }
    }
    flush(&producer);
    let mut env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    env.set_parallelism(1);
    let source = KafkaSource::<Click>::new(&servers, JsonFormat::new()).topics([&topic]);
    let strategy = WatermarkStrategy::for_monotonous_timestamps().with_idleness(Duration::from_millis(500));
    let late = OutputTag::new("late");
    let sums = env
        .from_source(source, strategy, "clicks")
        .map(|click: Click| (click.user, click.amount))
        .key_by(|(user, _)| user.clone())
        .window(TumblingEventTimeWindows::of(Duration::from_hours(1)))
        .side_output_late_data(&late)
        .reduce_with(|sum, next| sum.1 += next.1, |_, ctx, sum: (String, i64)| (ctx.window.start, sum.1));
    let (sink, results) = collect_sink();
    let (late_sink, late_records) = collect_sink();
    sums.sink_to(sink);
    sums.side_output(&late).sink_to(late_sink);
    let job = env.execute_async("event time").unwrap();
    // When all have been read both are idle, too, and time stands where the later one ends: its last hour stays open.
    let expected = [hours(0, N_HOURS), hours(APART_HOURS, N_HOURS - 1)].concat();
    let mut seen = Vec::new();
    let found = wait_until(LIMIT, || {
        seen.extend(results.take());
        seen.len() >= expected.len()
    });
    seen.sort_unstable();
    assert!(found && seen == expected, "{seen:?}");
    assert_eq!(late_records.len(), 0, "no partition makes records of another one late");
    assert!(job.canceler().try_cancel());
    job.wait().unwrap();
}
