//! Programs whose types of state have changed between two snapshots.

mod evolution;
mod listening;
mod mixed;
mod operator;

use crate::backend::KeyedStateBackend;
use crate::local::LocalState;
use crate::snapshot::OperatorSnapshot;
use crate::testing::local_state;
use flott_types::{Key, Result, SubtaskIndex, key_group, key_hash, subtask_for_key_group};
use std::fmt::Debug;

const MAX_PARALLELISM: u32 = 16;

/// Where tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Memory,
    Disk,
}

/// All subtasks of an operator whose keys are `K`.
struct Program<K> {
    subtasks: Vec<KeyedStateBackend<K>>,
}

impl<K: Key + Debug> Program<K> {
    fn start(parts: &[OperatorSnapshot], parallelism: u32, backend: Backend) -> Self {
        let start = |subtask| {
            let local = match backend {
                Backend::Memory => LocalState::default(),
                // A few entries fit.
                Backend::Disk => local_state(2_000),
            };
            let mut state = KeyedStateBackend::new(SubtaskIndex(subtask), parallelism, MAX_PARALLELISM)
                .with_local_state(local);
            let part =
                OperatorSnapshot::reassign(parts, SubtaskIndex(subtask), parallelism).expect("the parts fit");
            state.restore(&part).expect("nothing is read yet");
            state
        };
        Self { subtasks: (0..parallelism).map(start).collect() }
    }

    /// The state of `key`.
    fn at(&mut self, key: K) -> &mut KeyedStateBackend<K> {
        let parallelism = self.subtasks.len() as u32;
        let group = key_group(key_hash(&key), MAX_PARALLELISM);
        let subtask = subtask_for_key_group(group, MAX_PARALLELISM, parallelism);
        let state = &mut self.subtasks[subtask.as_usize()];
        state.set_current_key(key);
        state
    }

    fn stop(&self) -> Vec<OperatorSnapshot> {
        let snapshot = |state: &KeyedStateBackend<K>| {
            let mut snapshot = OperatorSnapshot::default();
            state.snapshot(&mut snapshot).expect("written");
            snapshot
        };
        self.subtasks.iter().map(snapshot).collect()
    }
}

/// The text of an error.
#[track_caller]
fn report<T>(result: Result<T>) -> String {
    result.err().expect("it is refused").report()
}
