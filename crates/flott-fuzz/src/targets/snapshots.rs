//! Manifests and records of ownership. Their frames have a checksum, which a fuzzer does not find: the first byte says whether the rest is a whole
//! file or the body of one.

use super::{put, tagged};
use crate::target::{contents, files_in};
use flott_checkpoint::{CheckpointStorage, JobEnding, Manifest, StartFrom, open_snapshot, verify_snapshot};
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_types::JobId;
use std::io::Read;
use std::path::{Path, PathBuf};
use twox_hash::XxHash3_64;

const MANIFEST: [u8; 8] = *b"FLOTTCHK";
const OWNER: [u8; 8] = *b"FLOTTOWN";
const JOB: JobId = JobId(1);

/// Lengths of what stands before the body of a frame, and of the checksum behind it.
const FRAME: (usize, usize) = (20, 8);

/// The file of version 1 that an input stands for.
pub(super) fn framed(magic: [u8; 8], input: &[u8]) -> Vec<u8> {
    let Some((how, content)) = input.split_first() else { return Vec::new() };
    if how & 1 == 0 {
        return content.to_vec();
    }
    let len = (content.len() as u64).to_le_bytes();
    let mut bytes = [&magic[..], &1_u32.to_le_bytes(), &len, content].concat();
    bytes.extend(XxHash3_64::oneshot(&bytes).to_le_bytes());
    bytes
}

/// The inputs that stand for a file.
pub(super) fn seeds_of(file: &[u8]) -> [Vec<u8>; 2] {
    let body = file.get(FRAME.0..file.len().saturating_sub(FRAME.1)).unwrap_or_default();
    [tagged(0, file), tagged(1, body)]
}

pub(crate) fn manifest(input: &[u8]) {
    let bytes = framed(MANIFEST, input);
    let Ok(manifest) = Manifest::decode("a manifest", &bytes) else { return };
    assert_eq!(Manifest::decode("the same", &manifest.encode()).expect("decoded"), manifest);
    let env = Simulation::new(1).env();
    let dir = Path::new("/savepoints/fuzz");
    put(&env, &dir.join("_metadata"), &bytes);
    // Its files are missing.
    if let Ok(snapshot) = open_snapshot(&env, dir) {
        drop(verify_snapshot(&snapshot));
    }
}

pub(crate) fn owner(input: &[u8]) {
    let bytes = framed(OWNER, input);
    for name in ["owner-1", "owner-1.start", "owner-1.end", "owner-1.reported"] {
        let env = Simulation::new(1).env();
        drop(storage(&env).start(StartFrom::Latest));
        put(&env, &job_dir().join(name), &bytes);
        drop(storage(&env).start(StartFrom::Latest));
    }
}

fn storage(env: &Env) -> CheckpointStorage {
    CheckpointStorage::local(env, Path::new("/checkpoints"), Path::new("/savepoints"), JOB)
}

fn job_dir() -> PathBuf {
    Path::new("/checkpoints").join(JOB.to_string())
}

/// The files of the savepoints in the repository, manifests apart.
pub(super) fn fixtures() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../flott-checkpoint/fixtures");
    let files = files_in(&fixtures).into_iter().flat_map(|version| files_in(&version.join("savepoint")));
    let (manifests, parts): (Vec<_>, Vec<_>) = files.partition(|file| file.ends_with("_metadata"));
    let read = |files: Vec<PathBuf>| files.iter().map(|file| contents(file)).collect();
    (read(manifests), read(parts))
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    fixtures().0.iter().flat_map(|file| seeds_of(file)).collect()
}

pub(crate) fn owners() -> Vec<Vec<u8>> {
    let env = Simulation::new(1).env();
    let ending = JobEnding::new(false, 3, Some("savepoint-1".to_owned()));
    storage(&env).start(StartFrom::Latest).expect("started").owner.end(false, Some(ending)).expect("ended");
    let fs = env.fs();
    let records = fs.list(&job_dir()).expect("listed").into_iter();
    let seeds = records.flat_map(|path| {
        let mut bytes = Vec::new();
        fs.open(&path).expect("there").read_to_end(&mut bytes).expect("read");
        seeds_of(&bytes)
    });
    seeds.collect()
}
