//! State of many times its memory on a real disk, in a process of its own because it looks at the memory of the process.
//!
//! The sizes are small by default. Two gigabytes in 128 megabytes:
//! `FLOTT_STATE_MB=2048 FLOTT_STATE_MEMORY_MB=128 cargo test --release -p flott-state --test it`

use flott_env::sim::{MemoryFs, SimRng, Simulation};
use flott_env::{Env, FileSystem};
use flott_state::{KeyedTable, LocalState, StateSettings};
use flott_types::{StateBackendType, SubtaskIndex, key_hash};
use std::io::Read;
use std::path::Path;

const VALUE_BYTES: usize = 400;

/// What the process needs beside state: code, stacks, what the allocator keeps, the model of the test.
const OTHER_MB: u64 = 12;

fn megabytes(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number of megabytes"))
}

/// The most memory that the process ever had, in kilobytes.
fn peak_kb(env: &Env) -> u64 {
    let mut status = String::new();
    let file = env.fs().open(Path::new("/proc/self/status"));
    file.and_then(|mut file| file.read_to_string(&mut status)).expect("this system has /proc");
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells the peak");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// The value of a key that was changed so often.
fn value(key: u64, version: u32) -> String {
    format!("{key}:{version}:{}", "x".repeat(VALUE_BYTES))
}

/// The table that is tested and what it should have: 0 for keys that are not there.
struct Checked {
    table: KeyedTable<u64, String>,
    versions: Vec<u32>,
}

impl Checked {
    fn step(&mut self, key: u64, op: u64) {
        let hash = key_hash(&key);
        let version = &mut self.versions[key as usize];
        let expected = (*version > 0).then(|| value(key, *version));
        let table = self.table.load_mut(hash, &key).expect("the disk works");
        assert_eq!(table.get(hash, &key), expected.as_ref());
        if op == 0 {
            *version = 0;
            assert_eq!(table.remove(hash, &key), expected);
        } else {
            *version += 1;
            table.insert(hash, &key, value(key, *version));
        }
    }
}

/// Of power failures, which may take the lock and leave files; and of directories that are not ours.
#[test]
fn what_others_have_beside_local_state_stays() {
    let fs = MemoryFs::default();
    let files = [
        ("/state/count-0-0123456789abcdef/000000.run", false),
        ("/state/count-0-0123456789abcdef/000012.run", false),
        ("/state/count-1-0123456789abcdef/000000.run", true),
        ("/state/count-1-0123456789abcdef/notes", true),
        ("/state/photos/000000.run", true),
        ("/state/count-0-0123456789abcdeg/000000.run", true),
    ];
    for (path, _) in files {
        fs.create_dir_all(Path::new(path).parent().expect("a directory")).expect("memory");
        drop(fs.create(Path::new(path)).expect("memory"));
    }
    let settings = StateSettings {
        backend: StateBackendType::Disk,
        memory_bytes: 1 << 20,
        local_dir: "/state".into(),
        section_bytes: 1 << 20,
    };
    let env = Simulation::new(0).with_disk(fs.clone()).env().with_settings(settings);
    drop(LocalState::open(&env, "test", SubtaskIndex(0)).expect("a directory"));
    for (path, stays) in files {
        assert_eq!(fs.metadata(Path::new(path)).is_ok(), stays, "{path}");
    }
}

#[test]
fn state_of_eight_times_its_memory_is_right_and_stays_in_it() {
    let (state_mb, memory_mb) = (megabytes("FLOTT_STATE_MB", 64), megabytes("FLOTT_STATE_MEMORY_MB", 8));
    let local_dir = std::env::temp_dir().join("flott-state-test");
    let settings = StateSettings {
        backend: StateBackendType::Disk,
        memory_bytes: memory_mb << 20,
        local_dir: local_dir.clone(),
        section_bytes: 1 << 20,
    };
    let env = Env::real().expect("an environment").with_settings(settings);
    let local = LocalState::open(&env, "test", SubtaskIndex(0)).expect("a directory");
    let n_keys = (state_mb << 20) / VALUE_BYTES as u64;
    let before_kb = peak_kb(&env);
    let mut checked = Checked { table: local.table(), versions: vec![0; n_keys as usize] };
    (0..n_keys).for_each(|key| checked.step(key, 1));
    let mut rng = SimRng::new(7);
    for _ in 0..n_keys {
        // Half of the accesses are to a hundredth of the keys.
        let range = if rng.one_in(2) { n_keys } else { n_keys / 100 };
        checked.step(rng.below(range), rng.below(10));
    }
    let grown_mb = (peak_kb(&env) - before_kb) >> 10;
    let disk_mb = checked.table.disk_bytes() >> 20;
    let model_mb = (n_keys * 4) >> 20;
    assert!(
        grown_mb <= memory_mb * 3 / 2 + model_mb + OTHER_MB,
        "{grown_mb} MB for {state_mb} in {memory_mb}"
    );
    assert!(disk_mb >= state_mb / 2 && disk_mb <= state_mb * 4, "{disk_mb} MB on disk for {state_mb}");

    let mut n_found = 0;
    let each = |key: &u64, found: &String| {
        n_found += 1;
        assert_eq!(*found, value(*key, checked.versions[*key as usize]));
        Ok(())
    };
    checked.table.for_each(each).expect("the disk works");
    assert_eq!(n_found, checked.versions.iter().filter(|version| **version > 0).count());
    assert_eq!(n_found, checked.table.len());
    drop((checked, local));
    let left = env.fs().list(&local_dir).expect("the directory is there");
    assert!(left.is_empty(), "files go with the table: {left:?}");
}
