mod damage;
mod matching;

use super::*;
use crate::coordinator::{ManifestRequest, SubtaskPart};
use crate::plan::PlannedSubtask;
use crate::storage::{CheckpointStorage, StartFrom};
use flott_env::sim::{MemoryFs, Simulation};
use flott_graph::{SubtaskId, VertexId};
use flott_types::{CheckpointBarrier, CheckpointKind, Increment, JobId, KeyGroup, key_group_range};
use std::path::Path;

fn uid(name: &str) -> OperatorUid {
    OperatorUid(name.to_owned())
}

fn operator(uid: &str, vertex: usize, parallelism: u32, max_parallelism: u32) -> PlannedOperator {
    let (uid, name) = (OperatorUid(uid.to_owned()), format!("The {uid}"));
    PlannedOperator { uid, name, vertex: VertexId(vertex), parallelism, max_parallelism, states: None }
}

/// A source with a map chained to it, and a keyed task.
fn plan(parallelism: u32) -> CheckpointPlan {
    let operators = vec![
        operator("source", 0, parallelism, 8),
        operator("map", 0, parallelism, 8),
        operator("count", 1, parallelism, 8),
    ];
    let subtasks = (0..2).flat_map(|vertex| {
        (0..parallelism)
            .map(move |subtask| SubtaskId { vertex: VertexId(vertex), subtask: SubtaskIndex(subtask) })
    });
    CheckpointPlan { subtasks: subtasks.map(|id| PlannedSubtask { id, inputs: vec![] }).collect(), operators }
}

fn keyed(subtask: u32, parallelism: u32) -> OperatorSnapshot {
    let range = key_group_range(SubtaskIndex(subtask), 8, parallelism);
    let groups =
        (range.start..range.end).map(|group| (KeyGroup(group), vec![group as u8; 3].into())).collect();
    OperatorSnapshot {
        max_parallelism: 8,
        keyed: [("sum".to_owned(), groups)].into(),
        ..OperatorSnapshot::default()
    }
}

fn listed(subtask: u32) -> OperatorSnapshot {
    let entries = vec![vec![subtask as u8, 0], vec![subtask as u8, 1]];
    OperatorSnapshot {
        list: [("splits".to_owned(), entries)].into(),
        union: [("all".to_owned(), vec![vec![subtask as u8]])].into(),
        broadcast: [("rules".to_owned(), vec![9])].into(),
        ..OperatorSnapshot::default()
    }
}

/// A savepoint at parallelism 2, of which the subtasks in `finished` had reached the end of their input.
fn savepoint(disk: &MemoryFs, finished: &[SubtaskId]) -> OpenSnapshot {
    let env = Simulation::new(1).with_disk(disk.clone()).env();
    let storage = CheckpointStorage::local(&env, Path::new("/c"), Path::new("/s"), JobId(1));
    let owner = storage.start(StartFrom::Latest).expect("started").owner;
    let plan = plan(2);
    let barrier = CheckpointBarrier {
        id: CheckpointId(1),
        timestamp: 1,
        kind: CheckpointKind::Savepoint,
        increment: Increment::None,
    };
    let parts = plan.subtasks.iter().map(|PlannedSubtask { id, .. }| {
        let subtask = id.subtask.0;
        let snapshots = match id.vertex.0 {
            0 => vec![(uid("source"), listed(subtask)), (uid("map"), OperatorSnapshot::default())],
            _ => vec![(uid("count"), keyed(subtask, 2))],
        };
        let file = owner.write_part(barrier.id, barrier.kind, *id, &snapshots).expect("written");
        (*id, SubtaskPart { file: Some(file), bases: vec![], finished: finished.contains(id) })
    });
    let request = ManifestRequest { barrier, is_final: false, parts: parts.collect() };
    let manifest = owner.manifest(&plan, &request, &[(uid("source"), b"position".to_vec())].into());
    owner.complete(&manifest).expect("complete");
    open_snapshot(&env, Path::new("/s").join(manifest.directory)).expect("it is whole")
}

fn id(vertex: usize, subtask: u32) -> SubtaskId {
    SubtaskId { vertex: VertexId(vertex), subtask: SubtaskIndex(subtask) }
}

fn open(snapshot: &OpenSnapshot, plan: &CheckpointPlan) -> Result<RestoredState> {
    RestoredState::open(snapshot, plan, RestoreOptions::default())
}
