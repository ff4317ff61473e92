//! Checkpoints: when they are taken, where they are, to whom they belong, and how a job gets going from one.
//!
//! A checkpoint is complete when its manifest exists, and the manifest is created by the owner of the job, last, by an operation
//! that fails if it exists. Everything else follows from that; docs/design/0003-checkpoints.md has the whole protocol.
//!
//! * `config`: Flink's keys as one value. `plan`: the subtasks and operators that take part.
//! * `coordinator`: the pure state machine that decides what happens when. No IO, no clock.
//! * `store`: whole objects by path. `location`: where a store is, local or by a URI. `codec`: frames with a checksum. `part`: the file of one subtask.
//! * `manifest`: what a checkpoint consists of.
//! * `owner`: who may complete checkpoints of a job. `chain`: which of them count. `storage`: the same three for one job, as the engine uses them.
//! * `restore`: state for new subtasks. `gc`: what may be deleted. `inspect`: for tools that look at snapshots. `copy`: a savepoint to another place.
//!
//! It is *not* where barriers flow or operators are snapshotted: that is the data plane. It starts no thread: who calls it
//! decides on which thread files are written.
//!
//! Invariants: no byte from a file is used before its length and checksum were compared with the manifest's; an object is
//! never overwritten; a manifest is deleted before the files it names.

#![deny(missing_docs)]

mod chain;
mod codec;
mod config;
mod coordinator;
mod copy;
mod gc;
mod inspect;
mod location;
mod manifest;
mod owner;
mod part;
mod plan;
mod restore;
mod storage;
mod store;

pub use config::CheckpointConfig;
pub use coordinator::{
    AbortReason, Action, CheckpointCoordinator, Input, JobStart, ManifestRequest, Now, SavepointRequest,
    SubtaskPart,
};
pub use copy::copy_savepoint;
pub use inspect::{
    Change, Completeness, Disposal, FileCheck, GroupBytes, ListChange, ListedSnapshot, OperatorDescription,
    OperatorDifference, Refusal, SOURCE_POSITIONS, SOURCE_SPLITS, STATE_SCHEMAS, Scope, SectionKind,
    SnapshotDescription, SnapshotDifference, StateDescription, StateDifference, StateKind,
    SubtaskDescription, Verification, compare_snapshots, describe_snapshot, list_snapshots, plan_disposal,
    verify_snapshot, visit_operator, visit_operators,
};
pub use location::{Location, ObjectStoreFactory, ObjectStores, RemoteLocation, feature_of, unsupported};
pub use manifest::{Manifest, OperatorManifest, SubtaskManifest};
pub use owner::{Attempt, Base, Generation, JobEnding};
pub use part::PartWriter;
pub use plan::{CheckpointPlan, PlannedOperator, PlannedSubtask};
pub use restore::{
    ChangedState, DroppedState, OpenSnapshot, RestoreOptions, RestoreReport, RestoredState, RestoredSubtask,
    open_snapshot,
};
pub use storage::{CheckpointOwner, CheckpointStorage, EndReport, EndedJob, StartFrom, Started};
pub use store::{LocalStore, ObjectStore, ObjectWriter, PrefixedStore, check_store_contract};
