//! What a file sink left in a snapshot: for its committer, and for its writers.

use super::tagged;
use flott_api::{Committable, CommittableId, Sink, SinkContext, SinkWriter};
use flott_connector_file::{FileCompactStrategy, FileSink, PartitionCommit};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::{CheckpointId, RecordBatch, SubtaskIndex};

type Writer = <FileSink<String> as Sink<String>>::Writer;

fn sink(strategy: FileCompactStrategy) -> FileSink<String> {
    FileSink::lines("/out")
        .partition_by(|record: &String| record.get(..1).unwrap_or_default().to_owned())
        .partition_commit(PartitionCommit::on_process_time())
        .enable_compact(strategy)
}

fn context(env: &Env) -> SinkContext {
    let mut ctx = SinkContext::new(env.clone(), SubtaskIndex(0), 1, 1);
    ctx.has_checkpoints = true;
    ctx
}

/// A writer that has written two files in each of two partitions.
fn writer(env: &Env, sink: &FileSink<String>) -> (Writer, Vec<Vec<u8>>) {
    let mut writer = sink.create_writer(context(env)).expect("made");
    let mut prepared = Vec::new();
    for id in 1..=2 {
        let records = ["a", "b"].map(|partition| format!("{partition} {id}"));
        writer.write(RecordBatch::untimed(records.to_vec())).expect("written");
        prepared.extend(writer.prepare_commit(CheckpointId(id), false).expect("prepared"));
    }
    (writer, prepared)
}

/// The first byte says for whom; the sinks of writers hold files back, those of committers have given them away.
pub(crate) fn restore(bytes: &[u8]) {
    let Some((whose, payload)) = bytes.split_first() else { return };
    let env = Simulation::new(1).env();
    if whose & 1 == 0 {
        let sink = sink(FileCompactStrategy::on_checkpoint(9));
        drop(writer(&env, &sink));
        let mut restored = sink.create_writer(context(&env)).expect("made");
        let from = Some(CheckpointId(2));
        if SinkWriter::<String>::restore(&mut restored, vec![payload.to_vec()], from).is_ok() {
            drop(SinkWriter::<String>::snapshot(&mut restored));
        }
        return;
    }
    let sink = sink(FileCompactStrategy::on_checkpoint(2));
    drop(writer(&env, &sink));
    let mut committer = sink.create_committer(context(&env)).expect("made").expect("file sinks commit");
    let (id, checkpoint_id, subtask) = (CommittableId(1), CheckpointId(2), SubtaskIndex(0));
    drop(committer.commit(&[Committable { id, checkpoint_id, subtask, payload: payload.to_vec() }]));
}

pub(crate) fn prepared() -> Vec<Vec<u8>> {
    let (mut held_back, _) = writer(&Simulation::new(1).env(), &sink(FileCompactStrategy::on_checkpoint(9)));
    let (_, groups) = writer(&Simulation::new(1).env(), &sink(FileCompactStrategy::on_checkpoint(2)));
    let (_, files) = writer(&Simulation::new(1).env(), &sink(FileCompactStrategy::on_checkpoint(1)));
    let entries = SinkWriter::<String>::snapshot(&mut held_back).expect("a snapshot");
    let entries = entries.iter().map(|entry| tagged(0, entry));
    entries.chain(groups.iter().chain(&files).map(|payload| tagged(1, payload))).collect()
}
