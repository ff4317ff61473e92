//! Transactions that may have to be open for longer than the brokers allow.

use super::model::SimClient;
use crate::{DeliveryGuarantee, KafkaSink};
use flott_api::message::StringFormat;
use flott_api::{Sink, SinkContext};
use flott_env::sim::Simulation;
use flott_testkit::broker::SimBroker;
use flott_types::SubtaskIndex;
use std::sync::Arc;
use std::time::Duration;

/// Why a sink whose transactions end after 1,000 s refuses such a job, if it does; what it allows for a restart is 60 s.
fn refusal(interval: u64, timeout: u64, restart_delay: u64) -> Option<String> {
    let sink = KafkaSink::new("nowhere:9092", StringFormat)
        .client(Arc::new(SimClient::new(SimBroker::new())))
        .topic("topic")
        .delivery_guarantee(DeliveryGuarantee::ExactlyOnce)
        .property("transaction.timeout.ms", "1000000");
    let mut ctx = SinkContext::new(Simulation::new(1).env(), SubtaskIndex(0), 1, 1);
    ctx.checkpoint_interval = Some(Duration::from_secs(interval));
    ctx.checkpoint_timeout = Duration::from_secs(timeout);
    ctx.restart_delay = Duration::from_secs(restart_delay);
    sink.create_writer(ctx).err().map(|error| error.report())
}

#[test]
fn a_sink_refuses_what_may_take_longer_than_its_transactions() {
    assert_eq!(refusal(100, 600, 240), None);
    for (interval, timeout, restart_delay) in
        [(101, 600, 240), (100, 601, 240), (100, 600, 241), (1, 1, u64::MAX)]
    {
        let error = refusal(interval, timeout, restart_delay).expect("too long");
        for part in [
            "transaction.timeout.ms is 1000 s".to_owned(),
            format!("{interval} s from one checkpoint to the next"),
            format!("{timeout} s for a checkpoint"),
            format!("{restart_delay} s until a restart"),
        ] {
            assert!(error.contains(&part), "{part:?} is not in {error}");
        }
    }
}
