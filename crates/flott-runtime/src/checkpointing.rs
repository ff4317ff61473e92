//! The way of a subtask's snapshot into storage: beside the data path, in order, with its end reported to the master.

use crate::attempt::BeginPart;
use crate::chain::guard;
use flott_env::Env;
use flott_env::sync::mpsc;
use flott_graph::{SubtaskId, TaskEvent};
use flott_state::{BegunSnapshot, SnapshotWriter, StateSettings};
use flott_types::{CheckpointBarrier, CheckpointId, Error, FileHandle, OperatorUid, Result};

/// Snapshots of one subtask that may wait to be written. The master does not trigger as many at a time.
const PARTS_WAITING_MAX: usize = 64;

/// What the operators of a chain have begun to leave for a checkpoint.
pub(crate) type ChainSnapshot = Vec<(OperatorUid, BegunSnapshot)>;

enum Outcome {
    Snapshot { barrier: CheckpointBarrier, snapshot: ChainSnapshot, end_of_data: bool },
    Aborted(CheckpointId),
}

/// Takes the snapshots of one subtask from its loop.
pub(crate) struct PartSink {
    id: SubtaskId,
    name: String,
    env: Env,
    begin_part: BeginPart,
    events: mpsc::Sender<TaskEvent>,
    /// To the task that writes, once there was something to write.
    writer: Option<mpsc::Sender<Outcome>>,
}

impl PartSink {
    pub(crate) fn new(
        id: SubtaskId,
        name: String,
        env: Env,
        begin_part: BeginPart,
        events: mpsc::Sender<TaskEvent>,
    ) -> Self {
        Self { id, name, env, begin_part, events, writer: None }
    }

    /// Has the snapshot written and reported.
    pub(crate) fn snapshot(
        &mut self,
        barrier: CheckpointBarrier,
        snapshot: ChainSnapshot,
        end_of_data: bool,
    ) -> Result<()> {
        self.send(Outcome::Snapshot { barrier, snapshot, end_of_data })
    }

    /// Has it reported that the subtask takes no snapshot for this checkpoint.
    pub(crate) fn aborted(&mut self, checkpoint_id: CheckpointId) -> Result<()> {
        self.send(Outcome::Aborted(checkpoint_id))
    }

    fn send(&mut self, outcome: Outcome) -> Result<()> {
        let Self { id, name, env, begin_part, events, writer } = self;
        let writer = writer.get_or_insert_with(|| {
            let (sender, outcomes) = mpsc::channel(PARTS_WAITING_MAX);
            // Storage blocks: a thread of its own, which ends with the subtask.
            env.spawn_subtask(
                &format!("{name} snapshots"),
                write(*id, begin_part.clone(), StateSettings::section_bytes(env), events.clone(), outcomes),
            );
            sender
        });
        writer.try_send(outcome).map_err(|_| {
            Error::subtask(format!("more than {PARTS_WAITING_MAX} snapshots wait to be written"))
        })
    }
}

/// Serializes what operators send while they go on with records, and writes it, until all of it has come.
async fn write_part(
    mut part: Box<dyn SnapshotWriter>,
    begun: ChainSnapshot,
    section_bytes: usize,
) -> Result<FileHandle> {
    for (uid, BegunSnapshot { snapshot, streams }) in begun {
        for mut stream in streams {
            stream.divide(section_bytes);
            part.state(stream.name())?;
            while let Some(piece) = stream.next().await {
                guard(|| stream.write(piece, &mut |group, bytes| part.section(group, &bytes)))?;
            }
            guard(|| stream.finish(&mut |group, bytes| part.section(group, &bytes)))?;
        }
        part.operator(&uid, &snapshot)?;
    }
    guard(|| part.finish())
}

async fn write(
    id: SubtaskId,
    begin_part: BeginPart,
    section_bytes: usize,
    events: mpsc::Sender<TaskEvent>,
    mut outcomes: mpsc::Receiver<Outcome>,
) {
    while let Some(outcome) = outcomes.recv().await {
        let event = match outcome {
            Outcome::Snapshot { barrier, snapshot, end_of_data } => {
                let written = match guard(|| begin_part(&barrier, id)) {
                    Ok(part) => write_part(part, snapshot, section_bytes).await,
                    Err(error) => Err(error),
                };
                match written {
                    Ok(part) => TaskEvent::CheckpointAcknowledged {
                        subtask: id,
                        checkpoint: barrier.id,
                        part,
                        end_of_data,
                    },
                    Err(error) => TaskEvent::CheckpointDeclined(id, barrier.id, error),
                }
            }
            Outcome::Aborted(checkpoint_id) => {
                let error = Error::subtask(format!(
                    "a newer barrier came before all barriers of checkpoint {checkpoint_id}"
                ));
                TaskEvent::CheckpointDeclined(id, checkpoint_id, error)
            }
        };
        // If the master is gone, nobody is left to tell.
        drop(events.send(event).await);
    }
}
