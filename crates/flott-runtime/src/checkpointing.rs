//! The way of a subtask's snapshot into storage: beside the data path, in order, with its end reported to the master.

use crate::attempt::BeginPart;
use crate::chain::guard;
use flott_env::Env;
use flott_env::sync::mpsc;
use flott_graph::{SubtaskId, TaskEvent};
use flott_state::{BegunSnapshot, ChainSnapshot, SnapshotWriter, StateSettings};
use flott_types::{CheckpointBarrier, CheckpointId, Error, FileHandle, Increment, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Snapshots of one subtask that may wait to be written. The master does not trigger as many at a time.
const PARTS_WAITING_MAX: usize = 64;

/// A part goes on from so many others at most: a restore reads them all.
const BASES_MAX: usize = 31;

/// The files of parts that were written, each with those that it goes on from: oldest first, itself last.
#[derive(Clone, Debug, Default)]
struct Written(Arc<Mutex<BTreeMap<CheckpointId, Vec<FileHandle>>>>);

impl Written {
    fn insert(&self, id: CheckpointId, files: Vec<FileHandle>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, files);
    }

    /// The files of checkpoint `id`, to go on from; none if they are too many, or have got as long as writing everything once more.
    /// Earlier ones will not be asked for any more.
    fn bases(&self, id: CheckpointId) -> Vec<FileHandle> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *written = written.split_off(&id);
        let Some([whole, changes @ ..]) = written.get(&id).map(Vec::as_slice) else { return Vec::new() };
        let changed: u64 = changes.iter().map(|file| file.len).sum();
        if changes.len() < BASES_MAX && changed <= whole.len {
            [std::slice::from_ref(whole), changes].concat()
        } else {
            Vec::new()
        }
    }
}

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
    written: Written,
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
        Self { id, name, env, begin_part, events, written: Written::default(), writer: None }
    }

    /// The files that the snapshot of a checkpoint may go on from, oldest first; none if it is to be whole.
    pub(crate) fn bases(&self, barrier: &CheckpointBarrier) -> Vec<FileHandle> {
        match barrier.increment {
            Increment::Since(base) => self.written.bases(base),
            Increment::None | Increment::Base => Vec::new(),
        }
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
        let Self { id, name, env, begin_part, events, written, writer } = self;
        let writer = writer.get_or_insert_with(|| {
            let (sender, outcomes) = mpsc::channel(PARTS_WAITING_MAX);
            // Storage blocks: a thread of its own, which ends with the subtask.
            env.spawn_subtask(
                &format!("{name} snapshots"),
                Writer {
                    id: *id,
                    begin_part: begin_part.clone(),
                    section_bytes: StateSettings::section_bytes(env),
                    events: events.clone(),
                    written: written.clone(),
                }
                .run(outcomes),
            );
            sender
        });
        writer.try_send(outcome).map_err(|_| {
            Error::subtask(format!("more than {PARTS_WAITING_MAX} snapshots wait to be written"))
        })
    }
}

/// Serializes what operators send while they go on with records, and writes it, until all of it has come. Returns the file, and those that
/// it goes on from.
async fn write_part(
    mut part: Box<dyn SnapshotWriter>,
    begun: ChainSnapshot,
    section_bytes: usize,
) -> Result<(FileHandle, Vec<FileHandle>)> {
    let ChainSnapshot { bases, operators, .. } = begun;
    let mut has_changes = false;
    for (uid, BegunSnapshot { snapshot, streams, .. }) in operators {
        for mut stream in streams {
            let continues = stream.begin(section_bytes);
            has_changes |= continues;
            part.state(stream.name(), continues)?;
            while let Some(piece) = stream.next().await {
                guard(|| stream.write(piece, &mut |group, kind, bytes| part.section(group, kind, &bytes)))?;
            }
            guard(|| stream.finish(&mut |group, kind, bytes| part.section(group, kind, &bytes)))?;
        }
        part.operator(&uid, &snapshot)?;
    }
    let file = guard(|| part.finish())?;
    Ok((file, if has_changes { bases } else { Vec::new() }))
}

/// Writes the parts of one subtask.
struct Writer {
    id: SubtaskId,
    begin_part: BeginPart,
    section_bytes: usize,
    events: mpsc::Sender<TaskEvent>,
    written: Written,
}

impl Writer {
    async fn run(self, mut outcomes: mpsc::Receiver<Outcome>) {
        while let Some(outcome) = outcomes.recv().await {
            let event = match outcome {
                Outcome::Snapshot { barrier, snapshot, end_of_data } => {
                    self.write(&barrier, snapshot, end_of_data).await
                }
                Outcome::Aborted(checkpoint_id) => {
                    let error = Error::subtask(format!(
                        "a newer barrier came before all barriers of checkpoint {checkpoint_id}"
                    ));
                    TaskEvent::CheckpointDeclined(self.id, checkpoint_id, error)
                }
            };
            // If the master is gone, nobody is left to tell.
            drop(self.events.send(event).await);
        }
    }

    async fn write(
        &self,
        barrier: &CheckpointBarrier,
        snapshot: ChainSnapshot,
        end_of_data: bool,
    ) -> TaskEvent {
        let Self { id, begin_part, section_bytes, .. } = self;
        let written = match guard(|| begin_part(barrier, *id)) {
            Ok(part) => write_part(part, snapshot, *section_bytes).await,
            Err(error) => Err(error),
        };
        let (subtask, checkpoint) = (*id, barrier.id);
        match written {
            Ok((part, bases)) => {
                if barrier.increment != Increment::None {
                    // Before it is known to be complete.
                    self.written.insert(checkpoint, [bases.as_slice(), std::slice::from_ref(&part)].concat());
                }
                TaskEvent::CheckpointAcknowledged { subtask, checkpoint, part, bases, end_of_data }
            }
            Err(error) => TaskEvent::CheckpointDeclined(subtask, checkpoint, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(lengths: &[u64]) -> Vec<FileHandle> {
        let file = |(idx, len): (usize, &u64)| FileHandle { path: idx.to_string(), len: *len, checksum: 0 };
        lengths.iter().enumerate().map(file).collect()
    }

    /// Whether a part may go on from one that has these files.
    fn may_go_on(lengths: &[u64]) -> bool {
        let written = Written::default();
        written.insert(CheckpointId(1), files(&[1]));
        written.insert(CheckpointId(2), files(lengths));
        let bases = written.bases(CheckpointId(2));
        assert!(bases.is_empty() || bases == files(lengths));
        assert!(written.bases(CheckpointId(1)).is_empty(), "nobody asks for an earlier one any more");
        !bases.is_empty()
    }

    #[test]
    fn a_part_goes_on_from_few_files_and_from_changes_that_are_no_longer_than_the_state() {
        assert!(may_go_on(&[10]) && may_go_on(&[10, 4, 6]));
        assert!(!may_go_on(&[10, 4, 7]) && !may_go_on(&[]));
        let many: Vec<_> = [1_000].into_iter().chain([1; BASES_MAX]).collect();
        assert!(!may_go_on(&many) && may_go_on(&many[..BASES_MAX]));
    }
}
