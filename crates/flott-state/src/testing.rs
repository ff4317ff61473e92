//! All subtasks of a keyed operator, to restart at another parallelism; and damage to bytes.

use crate::backend::KeyedStateBackend;
use crate::local::{LocalState, Space, StateSettings};
use crate::snapshot::OperatorSnapshot;
use flott_env::Env;
use flott_env::sim::{MemoryFs, Simulation};
use flott_types::{
    ErrorKind, Result, StateBackendType, SubtaskIndex, Timestamp, key_group, key_group_range, key_hash,
    subtask_for_key_group,
};
use std::path::Path;
use std::sync::Arc;

/// An environment whose files are on `disk`.
fn env_on(disk: &MemoryFs) -> Env {
    Simulation::new(disk.operations()).with_disk(disk.clone()).env()
}

/// A directory on a disk, and memory to share.
pub(crate) fn space_on(disk: &MemoryFs, memory_bytes: u64) -> Arc<Space> {
    Arc::new(Space::new(&env_on(disk), Path::new("/state"), "test", memory_bytes).expect("the disk works"))
}

/// As [`space_on`], on a new disk.
pub(crate) fn memory_space(memory_bytes: u64) -> (MemoryFs, Arc<Space>) {
    let disk = MemoryFs::default();
    let space = space_on(&disk, memory_bytes);
    (disk, space)
}

/// State on a new disk.
pub(crate) fn local_state(memory_bytes: u64) -> LocalState {
    let settings = StateSettings {
        backend: StateBackendType::Disk,
        memory_bytes,
        local_dir: Path::new("/state").to_owned(),
        section_bytes: 1 << 20,
    };
    let env = env_on(&MemoryFs::default()).with_settings(settings);
    LocalState::open(&env, "an operator", SubtaskIndex(0)).expect("the disk works")
}

pub(crate) struct Subtasks {
    pub(crate) max_parallelism: u32,
    pub(crate) now: Timestamp,
    pub(crate) backends: Vec<KeyedStateBackend<u64>>,
    /// Of each subtask, if state goes to disk.
    memory_bytes: Option<u64>,
}

impl Subtasks {
    pub(crate) fn new(parallelism: u32, max_parallelism: u32) -> Self {
        let backends = new_backends(parallelism, max_parallelism, None);
        Self { max_parallelism, now: 0, backends, memory_bytes: None }
    }

    /// Subtasks whose state goes to disk.
    pub(crate) fn on_disk(parallelism: u32, max_parallelism: u32, memory_bytes: u64) -> Self {
        let backends = new_backends(parallelism, max_parallelism, Some(memory_bytes));
        Self { max_parallelism, now: 0, backends, memory_bytes: Some(memory_bytes) }
    }

    pub(crate) fn parallelism(&self) -> u32 {
        self.backends.len() as u32
    }

    /// The backend that owns `key`, with the key in scope.
    pub(crate) fn at(&mut self, key: u64) -> &mut KeyedStateBackend<u64> {
        let group = key_group(key_hash(&key), self.max_parallelism);
        let subtask = subtask_for_key_group(group, self.max_parallelism, self.parallelism());
        let backend = &mut self.backends[subtask.as_usize()];
        backend.set_current_key(key);
        backend.set_processing_time(self.now);
        backend
    }

    /// One key of each subtask, none of which is below `from`.
    pub(crate) fn key_of_each(&self, from: u64) -> Vec<u64> {
        let group = |key| key_group(key_hash(&key), self.max_parallelism);
        let range = |idx| key_group_range(SubtaskIndex(idx), self.max_parallelism, self.parallelism());
        let key = |idx| (from..).find(|key| range(idx).contains(group(*key)));
        (0..self.parallelism()).map(|idx| key(idx).expect("each subtask has keys")).collect()
    }

    pub(crate) fn snapshots(&self) -> Vec<OperatorSnapshot> {
        let snapshot = |backend: &KeyedStateBackend<u64>| {
            let mut snapshot = OperatorSnapshot::default();
            backend.snapshot(&mut snapshot).expect("test types can be serialized");
            snapshot
        };
        self.backends.iter().map(snapshot).collect()
    }

    /// Snapshots all subtasks and restores them at another parallelism.
    pub(crate) fn restart(&mut self, parallelism: u32) {
        self.backends.iter_mut().for_each(|backend| backend.set_processing_time(self.now));
        let parts = self.snapshots();
        self.backends = new_backends(parallelism, self.max_parallelism, self.memory_bytes);
        for (idx, backend) in self.backends.iter_mut().enumerate() {
            let subtask = SubtaskIndex(idx as u32);
            let part = OperatorSnapshot::reassign(&parts, subtask, parallelism).expect("the parts fit");
            let range = key_group_range(subtask, self.max_parallelism, parallelism);
            let mut groups = part.keyed.values().flat_map(|groups| groups.keys());
            assert!(groups.all(|group| range.contains(*group)), "a key group is outside of {range:?}");
            backend.restore(&part).expect("the part is this subtask's");
            backend.set_processing_time(self.now);
        }
    }
}

fn new_backends(
    parallelism: u32,
    max_parallelism: u32,
    memory_bytes: Option<u64>,
) -> Vec<KeyedStateBackend<u64>> {
    let new = |idx| {
        let backend = KeyedStateBackend::new(SubtaskIndex(idx), parallelism, max_parallelism);
        backend.with_local_state(memory_bytes.map(local_state).unwrap_or_default())
    };
    (0..parallelism).map(new).collect()
}

/// `bytes` cut off at every length, with every bit flipped, and with bytes appended.
pub(crate) fn damaged(bytes: &[u8]) -> Vec<Vec<u8>> {
    let cut = (0..bytes.len()).map(|len| bytes[..len].to_vec());
    let flipped = (0..bytes.len() * 8).map(|bit| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let extended = [0, 1, 0x7f, 0xff].map(|byte| [bytes, &[byte]].concat());
    cut.chain(flipped).chain(extended).collect()
}

/// Damaged bytes may read as another value, or fail as corrupted.
#[track_caller]
pub(crate) fn assert_corruption_or_value<T>(result: Result<T>) {
    if let Err(error) = result {
        assert_eq!(error.kind(), ErrorKind::Corruption, "{}", error.report());
    }
}
