//! The stores.

use super::workload::{Access, BATCH, Key, Value, change, key_of, memory_bytes, n_keys, new_value};
use crate::scenario::{Checksum, Outcome};
use flott_env::Env;
use flott_state::{KeyedTable, LocalState, StateSettings};
use flott_types::{StateBackendType, SubtaskIndex, key_hash};

/// Fills the table and then changes it, which is what counts.
fn flott(mut table: KeyedTable<Key, Value>, access: Access, n_records: u64) -> Outcome {
    let n_keys = n_keys(n_records);
    for rank in 0..n_keys as u32 {
        let key = key_of(rank);
        let hash = key_hash(&key);
        table.load_mut(hash, &key).expect("the disk works").insert(hash, &key, new_value(&key));
    }
    let ranks = access.draw(n_records, n_keys);
    Outcome::measure(|| {
        let mut checksum = Checksum::default();
        for batch in ranks.chunks(BATCH) {
            for rank in batch {
                let key = key_of(*rank);
                let hash = key_hash(&key);
                let table = table.load_mut(hash, &key).expect("the disk works");
                let update = |value: &mut Value| checksum.add(key.0, 0, change(value));
                table.upsert(hash, &key, || new_value(&key), update);
            }
        }
        checksum
    })
}

pub(super) fn heap(access: Access, n_records: u64) -> Outcome {
    flott(KeyedTable::default(), access, n_records)
}

pub(super) fn disk(access: Access, n_records: u64) -> Outcome {
    let settings = StateSettings {
        backend: StateBackendType::Disk,
        memory_bytes: memory_bytes(n_keys(n_records)),
        local_dir: std::env::temp_dir().join("flott-bench-state"),
        section_bytes: 1 << 20,
    };
    let env = Env::real().expect("an environment").with_settings(settings);
    let local = LocalState::open(&env, "bench", SubtaskIndex(0)).expect("a directory");
    flott(local.table(), access, n_records)
}

pub(super) fn fjall(access: Access, n_records: u64) -> Outcome {
    let n_keys = n_keys(n_records);
    let dir = tempfile::tempdir().expect("a directory");
    let database =
        fjall::Database::builder(dir.path()).cache_size(memory_bytes(n_keys)).open().expect("opened");
    let state = database.keyspace("state", fjall::KeyspaceCreateOptions::default).expect("opened");
    for rank in 0..n_keys as u32 {
        let key = key_of(rank);
        state.insert(key_bytes(&key), value_bytes(&new_value(&key))).expect("written");
    }
    let ranks = access.draw(n_records, n_keys);
    Outcome::measure(|| {
        let mut checksum = Checksum::default();
        for rank in ranks {
            let key = key_of(rank);
            let found = state.get(key_bytes(&key)).expect("read");
            let mut value = found.map_or_else(|| new_value(&key), |bytes| value_of(&bytes));
            checksum.add(key.0, 0, change(&mut value));
            state.insert(key_bytes(&key), value_bytes(&value)).expect("written");
        }
        checksum
    })
}

fn key_bytes(key: &Key) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key.0.to_be_bytes());
    bytes[8..].copy_from_slice(&key.1.to_be_bytes());
    bytes
}

fn value_bytes(value: &Value) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, from) in bytes.chunks_exact_mut(8).zip(value) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    bytes
}

fn value_of(bytes: &[u8]) -> Value {
    let mut value = [0; 4];
    for (to, from) in value.iter_mut().zip(bytes.chunks_exact(8)) {
        *to = u64::from_le_bytes(from.try_into().expect("a chunk of eight bytes"));
    }
    value
}
