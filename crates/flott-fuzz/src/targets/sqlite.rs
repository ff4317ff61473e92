//! What a sink into SQLite left in a snapshot for its committer. The database is a real one, as its sink writes no other.

use flott_api::{Committable, CommittableId, Committer, Sink, SinkContext, SinkWriter};
use flott_connector_sqlite::SqliteSink;
use flott_env::sim::Simulation;
use flott_types::{CheckpointId, RecordBatch, SubtaskIndex};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

#[derive(Clone, Serialize)]
struct Seen {
    name: String,
    number: i64,
}

/// Who commits rows that are prepared, and what he is told.
struct Prepared {
    committer: Box<dyn Committer>,
    payloads: Vec<Vec<u8>>,
}

/// Opening one takes far longer than a commit.
static PREPARED: Mutex<Option<Prepared>> = Mutex::new(None);

impl Prepared {
    #[expect(
        clippy::disallowed_methods,
        reason = "SQLite has files of its own, outside of any simulated disk"
    )]
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("flott-fuzz-{}.sqlite", std::process::id()));
        let sink = SqliteSink::new(&path, "seen", ["name", "number"])
            .create_table("CREATE TABLE IF NOT EXISTS seen(name TEXT, number INTEGER)");
        let mut ctx = SinkContext::new(Simulation::new(1).env(), SubtaskIndex(0), 1, 1);
        ctx.has_checkpoints = true;
        let mut writer = sink.create_writer(ctx.clone()).expect("made");
        SinkWriter::<Seen>::restore(&mut writer, Vec::new(), None).expect("begun");
        let mut payloads = Vec::new();
        for number in 1..=3 {
            let records = ["a", "b"].map(|name| Seen { name: name.to_owned(), number });
            writer.write(RecordBatch::untimed(records.to_vec())).expect("written");
            let id = CheckpointId(number.unsigned_abs());
            payloads.extend(SinkWriter::<Seen>::prepare_commit(&mut writer, id, false).expect("prepared"));
        }
        let mut committer = Sink::<Seen>::create_committer(&sink, ctx).expect("made").expect("it commits");
        committer.commit(&[]).expect("there is nothing to do");
        // It has them open, and nobody else wants them.
        for end in ["", "-wal", "-shm"] {
            drop(std::fs::remove_file(format!("{}{end}", path.display())));
        }
        Self { committer, payloads }
    }

    fn with<R>(f: impl FnOnce(&mut Self) -> R) -> R {
        f(PREPARED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Self::new))
    }
}

/// The first byte is the number of the checkpoint.
pub(crate) fn commit(input: &[u8]) {
    let Some((checkpoint, payload)) = input.split_first() else { return };
    let (id, checkpoint_id) = (CommittableId((*checkpoint).into()), CheckpointId((*checkpoint).into()));
    let committable = Committable { id, checkpoint_id, subtask: SubtaskIndex(0), payload: payload.to_vec() };
    Prepared::with(|Prepared { committer, .. }| {
        let is_committed = committer.commit(std::slice::from_ref(&committable)).is_ok();
        // What was committed may be committed again.
        assert!(!is_committed || committer.commit(&[committable]).is_ok(), "it commits once only");
    });
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let payloads = Prepared::with(|prepared| prepared.payloads.clone());
    (1..).zip(&payloads).map(|(checkpoint, payload)| super::tagged(checkpoint, payload)).collect()
}
