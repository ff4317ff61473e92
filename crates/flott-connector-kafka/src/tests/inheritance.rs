//! What a checkpoint says of a run, when those who were told of it are gone.

use super::model::SimClient;
use crate::writer::KafkaWriter;
use crate::{DeliveryGuarantee, KafkaSink};
use flott_api::message::StringFormat;
use flott_api::{Committable, CommittableId, Sink, SinkContext, SinkGeneration, SinkWriter};
use flott_env::sim::Simulation;
use flott_testkit::broker::{Isolation, SimBroker};
use flott_types::{CheckpointId, JobId, RecordBatch, SubtaskIndex};
use std::collections::BTreeSet;
use std::sync::Arc;

const TOPIC: &str = "topic";

/// A job whose attempts each take one checkpoint.
struct Job {
    world: Simulation,
    client: SimClient,
}

impl Job {
    fn new() -> Self {
        let mut broker = SimBroker::new();
        broker.create_partitions(TOPIC, 1);
        Self { world: Simulation::new(1), client: SimClient::new(broker) }
    }

    fn sink(&self) -> KafkaSink<String> {
        KafkaSink::new("nowhere:9092", StringFormat)
            .client(Arc::new(self.client.clone()))
            .topic(TOPIC)
            .delivery_guarantee(DeliveryGuarantee::ExactlyOnce)
    }

    /// The attempt of a number, which goes on from the checkpoint of the one before.
    fn start(&self, number: u64, entries: Vec<Vec<u8>>) -> KafkaWriter<String> {
        let mut ctx = SinkContext::new(self.world.env(), SubtaskIndex(0), 1, number);
        ctx.job_id = JobId(7);
        ctx.generation = Some(SinkGeneration { history: 1, job: number, subtask: number });
        ctx.restored_checkpoint = (number > 1).then_some(CheckpointId(number - 1));
        let mut writer = self.sink().create_writer(ctx.clone()).unwrap();
        writer.restore(entries, ctx.restored_checkpoint).unwrap();
        writer
    }

    /// Writes a record, takes the checkpoint and commits it.
    fn checkpoint(&self, number: u64, writer: &mut KafkaWriter<String>) -> Vec<Vec<u8>> {
        let checkpoint_id = CheckpointId(number);
        let payload = prepare(writer, &number.to_string(), checkpoint_id);
        let entries = writer.snapshot().unwrap();
        let ctx = SinkContext::new(self.world.env(), SubtaskIndex(0), 1, number);
        let mut committer = self.sink().create_committer(ctx).unwrap().unwrap();
        let id = CommittableId(number.into());
        committer.commit(&[Committable { id, checkpoint_id, subtask: SubtaskIndex(0), payload }]).unwrap();
        entries
    }

    fn committed(&self) -> Vec<String> {
        let records = self.client.broker().read_all(TOPIC, Isolation::ReadCommitted);
        records.into_iter().map(|record| String::from_utf8(record.value.unwrap()).unwrap()).collect()
    }
}

fn prepare(writer: &mut KafkaWriter<String>, record: &str, checkpoint: CheckpointId) -> Vec<u8> {
    writer.write(RecordBatch::untimed(vec![record.to_owned()])).unwrap();
    writer.prepare_commit(checkpoint, false).unwrap().pop().unwrap()
}

/// Its own successors had nothing to abort when they began. When it wakes they are gone, and it prepares a transaction that no checkpoint has.
#[test]
fn a_zombie_that_outlives_those_who_were_told_of_it_leaves_nothing_open() {
    for n_attempts_between in 0..4 {
        let job = Job::new();
        let mut zombie = job.start(1, Vec::new());
        let mut entries = job.checkpoint(1, &mut zombie);
        for number in 2..2 + n_attempts_between {
            let mut writer = job.start(number, entries);
            entries = job.checkpoint(number, &mut writer);
        }
        prepare(&mut zombie, "zombie", CheckpointId(2));
        assert_eq!(job.client.broker().open_transactions().len(), 1, "it was not refused");

        let last = 2 + n_attempts_between;
        let mut writer = job.start(last, entries);
        assert_eq!(job.client.broker().open_transactions(), BTreeSet::new(), "{n_attempts_between} between");
        job.checkpoint(last, &mut writer);
        let expected: Vec<String> = (1..=last).map(|number| number.to_string()).collect();
        assert_eq!(job.committed(), expected);
    }
}

/// Entries do not pile up for ever: those of the newest runs stay, in whichever order they come.
#[test]
fn of_entries_that_are_handed_down_the_newest_are_kept() {
    let job = Job::new();
    let (mut entries, mut zombies) = (Vec::new(), Vec::new());
    for number in 1..=140 {
        let mut writer = job.start(number, entries);
        entries = job.checkpoint(number, &mut writer);
        entries.reverse();
        zombies.push(writer);
    }
    assert_eq!(entries.len(), 129, "128 of others, and its own");
    let newest = zombies.iter_mut().skip(140 - 128);
    newest.for_each(|zombie| drop(prepare(zombie, "zombie", CheckpointId(141))));
    drop(job.start(141, entries));
    assert_eq!(job.client.broker().open_transactions(), BTreeSet::new());
}
