//! Every file of a snapshot, damaged in every way: an error that names it, never another state.

use super::*;
use flott_env::FileSystem;
use flott_state::StateSettings;
use flott_types::{Configuration, ErrorKind};
use std::path::PathBuf;

/// Opens what is on the disk as small parts, which are read at once, or as large ones, which are not.
fn reopen_as(disk: &MemoryFs, dir: &Path, section_bytes: usize) -> Result<RestoredState> {
    let settings = StateSettings { section_bytes, ..StateSettings::new(&Configuration::default()) };
    let env = Simulation::new(2).with_disk(disk.clone()).env().with_settings(settings);
    open_snapshot(&env, dir).and_then(|snapshot| open(&snapshot, &plan(2)))
}

fn reopen(disk: &MemoryFs, dir: &Path) -> Result<RestoredState> {
    let (small, large) = (reopen_as(disk, dir, 1 << 20), reopen_as(disk, dir, 0));
    assert_eq!(small.as_ref().err().map(Error::kind), large.as_ref().err().map(Error::kind));
    small.and(large)
}

fn files(disk: &MemoryFs) -> Vec<(PathBuf, Vec<u8>)> {
    disk.files().into_iter().filter(|(path, _)| path.starts_with("/s")).collect()
}

fn check(disk: &MemoryFs, path: &Path, content: Option<Vec<u8>>) {
    let fork = disk.fork();
    match content {
        Some(content) => fork.corrupt(path, content),
        None => FileSystem::remove(&fork, path).expect("removed"),
    }
    let error = reopen(&fork, path.parent().expect("a directory")).expect_err("it is damaged");
    let name = path.file_name().expect("a name").to_string_lossy();
    let is_missing_manifest = name == "_metadata" && FileSystem::metadata(&fork, path).is_err();
    let (kind, named) =
        if is_missing_manifest { (ErrorKind::UserError, "/s/") } else { (ErrorKind::Corruption, &*name) };
    assert_eq!(error.kind(), kind, "{}", error.report());
    assert!(error.to_string().contains(named), "{error}");
}

#[test]
fn every_file_truncated_flipped_lengthened_swapped_or_removed_is_named() {
    let disk = MemoryFs::default();
    savepoint(&disk, &[]);
    let files = files(&disk);
    assert_eq!(files.len(), 5, "four parts and the manifest");
    for (path, content) in &files {
        check(&disk, path, None);
        check(&disk, path, Some([content, &b"\0"[..]].concat()));
        check(&disk, path, Some(vec![0; content.len()]));
        // Each byte at least once; every bit is flipped in the tests of the formats.
        for position in 0..content.len() {
            check(&disk, path, Some(content[..position].to_vec()));
            let mut flipped = content.clone();
            flipped[position] ^= 1 << (position % 8);
            check(&disk, path, Some(flipped));
        }
        for (other, other_content) in &files {
            if other != path {
                check(&disk, path, Some(other_content.clone()));
            }
        }
    }
    reopen(&disk, files[0].0.parent().expect("a directory")).expect("the original is whole");
}

#[test]
fn a_job_whose_newest_checkpoint_is_damaged_does_not_take_an_older_one() {
    let disk = MemoryFs::default();
    let process = |seed| {
        let env = Simulation::new(seed).with_disk(disk.clone()).env();
        CheckpointStorage::local(&env, Path::new("/c"), Path::new("/s"), JobId(1))
    };
    let owner = process(1).start(StartFrom::Latest).expect("started").owner;
    let plan = CheckpointPlan::default();
    for id in 1..=2 {
        let barrier = CheckpointBarrier {
            id: CheckpointId(id),
            timestamp: 1,
            kind: CheckpointKind::Checkpoint,
            increment: Increment::None,
        };
        let request = ManifestRequest { barrier, is_final: false, parts: BTreeMap::new() };
        owner.complete(&owner.manifest(&plan, &request, &BTreeMap::new())).expect("complete");
    }
    let newest = PathBuf::from(format!("/c/{}/chk-2/_metadata", JobId(1)));
    let content = disk.files()[&newest].clone();
    disk.corrupt(&newest, content[1..].to_vec());
    for seed in [2, 3] {
        let error = process(seed).start(StartFrom::Latest).expect_err("it is damaged");
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(error.to_string().contains("chk-2/_metadata"), "{error}");
    }
    disk.corrupt(&newest, content);
    let started = process(4).start(StartFrom::Latest).expect("it is whole again");
    assert_eq!(started.restore_from.expect("one").manifest().checkpoint_id, CheckpointId(2));

    // An older one that nobody restores is no reason to stop, but nothing is deleted then.
    let older = PathBuf::from(format!("/c/{}/chk-1/_metadata", JobId(1)));
    disk.corrupt(&older, Vec::new());
    let started = process(5).start(StartFrom::Latest).expect("the newest is whole");
    assert_eq!(started.retained, [CheckpointId(2)]);
    assert_eq!(started.owner.collect_garbage().expect_err("not all is known").kind(), ErrorKind::Corruption);

    // What a start went on from is missing: that is not "no checkpoints".
    FileSystem::remove(&disk, &newest).expect("removed");
    disk.corrupt(&older, disk.files()[&older].clone());
    let error = process(6).start(StartFrom::Latest).expect_err("it is missing");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{}", error.report());
}
