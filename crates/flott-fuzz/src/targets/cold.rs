//! Runs of state on the local disk: the bytes become a block of the first run of a table, with its checksum or with one of their own.

use super::tagged;
use flott_env::sim::{MemoryFs, Simulation};
use flott_state::{KeyedStateBackend, LocalState, OperatorSnapshot, StateSettings, ValueState};
use flott_types::{StateBackendType, SubtaskIndex};
use std::path::{Path, PathBuf};
use twox_hash::XxHash3_64;

const CHECKSUM_LEN: usize = 8;
const STATE: &str = "state";

/// A table of which the first entries are on disk, and the number of keys.
fn spilled(disk: &MemoryFs) -> (KeyedStateBackend<u64>, u64) {
    let settings = StateSettings {
        backend: StateBackendType::Disk,
        memory_bytes: 1,
        local_dir: Path::new("/state").to_owned(),
        section_bytes: 1 << 10,
    };
    let env = Simulation::new(1).with_disk(disk.clone()).env().with_settings(settings);
    let local = LocalState::open(&env, "operator", SubtaskIndex(0)).expect("opened");
    let mut backend = KeyedStateBackend::new(SubtaskIndex(0), 1, 1).with_local_state(local);
    let state = ValueState::new(STATE);
    for key in 0.. {
        if run(disk).is_some() {
            return (backend, key);
        }
        backend.set_current_key(key);
        state.set(&mut backend, format!("value {key} and more of it")).expect("set");
    }
    unreachable!("memory does not hold all numbers")
}

/// A run that has been written.
fn run(disk: &MemoryFs) -> Option<(PathBuf, Vec<u8>)> {
    disk.files().into_iter().find(|(_, bytes)| !bytes.is_empty())
}

pub(crate) fn read(input: &[u8]) {
    let Some((how, block)) = input.split_first() else { return };
    let disk = MemoryFs::default();
    let (mut backend, n_keys) = spilled(&disk);
    let (path, bytes) = run(&disk).expect("spilled");
    let (records, checksum) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
    let mut damaged = block.to_vec();
    damaged.resize(records.len(), 0);
    let own = XxHash3_64::oneshot(&damaged).to_le_bytes();
    damaged.extend(if how & 1 == 0 { checksum } else { &own });
    disk.corrupt(&path, damaged);
    let state = ValueState::<String>::new(STATE);
    for key in 0..n_keys {
        backend.set_current_key(key);
        let _is_read = state.get(&mut backend).is_ok();
    }
    drop(backend.snapshot(&mut OperatorSnapshot::default()));
}

pub(crate) fn runs() -> Vec<Vec<u8>> {
    let disk = MemoryFs::default();
    let _table = spilled(&disk);
    let (_, bytes) = run(&disk).expect("spilled");
    let records = bytes.get(..bytes.len() - CHECKSUM_LEN).unwrap_or_default();
    vec![tagged(0, records), tagged(1, records)]
}
