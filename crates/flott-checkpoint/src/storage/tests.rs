mod crashes;
mod fencing;
mod increments;
mod lifecycle;

use super::*;
use crate::coordinator::SubtaskPart;
use crate::plan::{PlannedOperator, PlannedSubtask};
use crate::restore::{RestoreOptions, RestoredState};
use flott_env::sim::{MemoryFs, Simulation};
use flott_graph::VertexId;
use flott_state::SectionKind;
use flott_types::{CheckpointBarrier, Increment, KeyGroup, SubtaskIndex};
use std::path::PathBuf;

const JOB: JobId = JobId(0xabcd_ef00_0000_0000_0000_0000_0000_0001);
const CHECKPOINTS: &str = "/data/checkpoints";
const SAVEPOINTS: &str = "/data/savepoints";

/// A process that has just started; no two have the same random numbers.
fn process(disk: &MemoryFs, seed: u64) -> (Env, CheckpointStorage) {
    let env = Simulation::new(seed).with_disk(disk.clone()).env();
    let storage = CheckpointStorage::local(&env, Path::new(CHECKPOINTS), Path::new(SAVEPOINTS), JOB);
    (env, storage)
}

fn subtasks() -> [SubtaskId; 2] {
    [0, 1].map(|subtask| SubtaskId { vertex: VertexId(0), subtask: SubtaskIndex(subtask) })
}

fn uid() -> OperatorUid {
    OperatorUid("counter".to_owned())
}

fn plan() -> CheckpointPlan {
    CheckpointPlan {
        subtasks: subtasks().map(|id| PlannedSubtask { id, inputs: vec![] }).to_vec(),
        operators: vec![PlannedOperator {
            uid: uid(),
            name: "Counter".to_owned(),
            vertex: VertexId(0),
            parallelism: 2,
            max_parallelism: 8,
            states: None,
        }],
    }
}

/// The state of a subtask at a checkpoint, which tells both.
fn state(id: CheckpointId, subtask: SubtaskId) -> OperatorSnapshot {
    let entry = format!("state of {subtask} at {id}").into_bytes();
    let list = [("list".to_owned(), vec![entry])].into();
    OperatorSnapshot { max_parallelism: 8, list, ..OperatorSnapshot::default() }
}

fn write_parts(owner: &CheckpointOwner, id: CheckpointId, kind: CheckpointKind) -> Result<ManifestRequest> {
    write_parts_over(owner, id, kind, None)
}

/// Writes parts that go on from those of `base`. The state `log` has the numbers of all checkpoints from the last whole one on.
fn write_parts_over(
    owner: &CheckpointOwner,
    id: CheckpointId,
    kind: CheckpointKind,
    base: Option<&ManifestRequest>,
) -> Result<ManifestRequest> {
    let mut parts = BTreeMap::new();
    for subtask in subtasks() {
        let base = base.and_then(|base| base.parts.get(&subtask));
        let bases: Vec<_> =
            base.into_iter().flat_map(|base| base.bases.iter().chain(&base.file)).cloned().collect();
        let mut part = owner.begin_part(id, kind, subtask)?;
        part.state("log", !bases.is_empty())?;
        let kind = if bases.is_empty() { SectionKind::Whole } else { SectionKind::Changed };
        part.section(KeyGroup(subtask.subtask.0 * 4), kind, &[id.0 as u8])?;
        part.operator(&uid(), &state(id, subtask))?;
        parts.insert(subtask, SubtaskPart { file: Some(part.finish()?), bases, finished: false });
    }
    let barrier = CheckpointBarrier { id, timestamp: 1_000, kind, increment: Increment::None };
    Ok(ManifestRequest { barrier, is_final: false, parts })
}

fn manifest(owner: &CheckpointOwner, request: &ManifestRequest) -> Manifest {
    let position = format!("enumerator at {}", request.barrier.id).into_bytes();
    owner.manifest(&plan(), request, &[(uid(), position)].into())
}

/// Takes a checkpoint or savepoint from the first part to the manifest.
fn take(owner: &CheckpointOwner, id: CheckpointId, kind: CheckpointKind) -> Result<()> {
    let request = write_parts(owner, id, kind)?;
    owner.complete(&manifest(owner, &request))
}

/// Restores, and compares everything with what was written for the checkpoint.
fn check_restores(snapshot: &OpenSnapshot) -> CheckpointId {
    let restored = RestoredState::open(snapshot, &plan(), RestoreOptions::default())
        .unwrap_or_else(|error| panic!("'{}' cannot be restored: {}", snapshot.path(), error.report()));
    let id = restored.checkpoint_id();
    for subtask in subtasks() {
        let part =
            restored.subtask(&uid(), subtask.subtask).expect("it can be divided").expect("it is there");
        assert_eq!(part.snapshot.list, state(id, subtask).list);
        let n_files = restored_files(snapshot, subtask);
        let log = part.snapshot.keyed["log"][&KeyGroup(subtask.subtask.0 * 4)].to_vec().expect("readable");
        assert_eq!((log.len(), log.last()), (n_files, Some(&(id.0 as u8))));
        assert!(log.is_sorted());
    }
    assert_eq!(restored.enumerator(&uid()), Some(format!("enumerator at {id}").as_bytes()));
    id
}

/// How many files the state of a subtask is in.
fn restored_files(snapshot: &OpenSnapshot, subtask: SubtaskId) -> usize {
    1 + snapshot.manifest().operators[0].subtasks[subtask.subtask.as_usize()].bases.len()
}

/// The files, below the directory of all data.
fn files(disk: &MemoryFs) -> Vec<String> {
    let name = |path: PathBuf| {
        let below = path.strip_prefix("/data").expect("it is below").to_string_lossy().into_owned();
        below.replace(&JOB.to_string(), "job")
    };
    disk.files().into_keys().map(name).collect()
}
