use super::*;
use crate::manifest::{OperatorManifest, SubtaskManifest};
use crate::owner::Attempt;
use flott_types::{CheckpointKind, FileHandle, JobId, OperatorUid};
use proptest::prelude::*;

const ME: Generation = Generation(5);
const FIRST: CheckpointId = CheckpointId(10);

/// A checkpoint of a generation with some parts, which may be in the directories of others.
fn manifest(id: u64, generation: u64, parts: &[String]) -> Manifest {
    let subtask = |path: &String| SubtaskManifest {
        part: Some(FileHandle { path: path.clone(), len: 1, checksum: 1 }),
        bases: vec![],
        finished: false,
    };
    let subtasks: Vec<_> = parts.iter().map(subtask).collect();
    Manifest {
        job_id: JobId(1),
        generation: Generation(generation),
        attempt: Attempt(1),
        checkpoint_id: CheckpointId(id),
        kind: CheckpointKind::Checkpoint,
        timestamp: 0,
        is_final: false,
        key_hash_version: 1,
        directory: dir(id),
        savepoints: None,
        operators: vec![OperatorManifest {
            uid: OperatorUid("u".to_owned()),
            name: "n".to_owned(),
            parallelism: subtasks.len() as u32,
            max_parallelism: 8,
            subtasks,
            enumerator: None,
        }],
    }
}

fn dir(id: u64) -> String {
    format!("job/chk-{id}")
}

fn check(id: u64, names: &[&str], expected: &[&str]) {
    let valid =
        [(CheckpointId(4), manifest(4, 3, &["job/chk-4/0-0.g3".to_owned(), "job/chk-2/0-1.g3".to_owned()]))]
            .into();
    let foreign = [(CheckpointId(1), manifest(1, 1, &["job/chk-3/0-0.g1".to_owned()]))].into();
    let known = Known { generation: ME, first_id: FIRST, valid: &valid, foreign: &foreign };
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(garbage(&known, CheckpointId(id), &dir(id), &names), expected, "in chk-{id}");
}

#[test]
fn what_goes_and_what_stays() {
    check(4, &["0-0.g3", "0-1.g3", "_metadata", ".tmp-1"], &["0-1.g3", ".tmp-1"]);
    // Nothing of what a user has retained.
    check(1, &["0-0.g1", "_metadata", ".tmp-1"], &[]);
    // What that goes on from.
    check(3, &["0-0.g1", "0-0.g2"], &["0-0.g2"]);
    // A file that a newer checkpoint shares.
    check(2, &["0-0.g3", "0-1.g3"], &["0-0.g3"]);
    // Parts without a manifest, a manifest that is void: it goes first.
    check(6, &["0-0.g4", "0-1.g4", "_metadata"], &["_metadata", "0-0.g4", "0-1.g4"]);
    // What we are writing ourselves, beside what a zombie has left; what a newer owner writes.
    check(10, &["0-0.g4", "0-0.g5", "0-0.g6", ".tmp-1", "_metadata"], &["0-0.g4"]);
    check(7, &["0-0.g6", "notes.txt", "0-0.gx"], &[]);
}

proptest! {
    #[test]
    fn no_retained_manifest_ever_loses_a_file(
        files in prop::collection::btree_set((1..14_u64, 0..4_u32, 1..7_u64), 0..60),
        chosen in prop::collection::btree_map(1..14_u64, prop::collection::vec(any::<prop::sample::Index>(), 1..6), 0..5),
        of_users in prop::collection::btree_map(1..14_u64, prop::collection::vec(any::<prop::sample::Index>(), 1..6), 0..3),
    ) {
        let files: Vec<_> = files.into_iter().collect();
        prop_assume!(!files.is_empty());
        let path = |(id, subtask, generation): &(u64, u32, u64)| format!("{}/0-{subtask}.g{generation}", dir(*id));
        let manifests = |chosen: &BTreeMap<u64, Vec<prop::sample::Index>>| -> BTreeMap<_, _> {
            chosen.iter().map(|(id, parts)| {
                let parts: Vec<_> = parts.iter().map(|part| path(part.get(&files))).collect();
                (CheckpointId(*id), manifest(*id, 3, &parts))
            }).collect()
        };
        let (valid, foreign) = (manifests(&chosen), manifests(&of_users));
        let known = Known { generation: ME, first_id: FIRST, valid: &valid, foreign: &foreign };
        let mut deleted = BTreeSet::new();
        for id in 1..14 {
            let mut names: Vec<_> = files.iter().filter(|file| file.0 == id)
                .map(|(_, subtask, generation)| format!("0-{subtask}.g{generation}")).collect();
            names.push(MANIFEST_NAME.to_owned());
            deleted.extend(garbage(&known, CheckpointId(id), &dir(id), &names).iter().map(|name| format!("{}/{name}", dir(id))));
        }
        for (id, manifest) in valid.iter().chain(&foreign) {
            let path = format!("{}/{MANIFEST_NAME}", dir(id.0));
            prop_assert!(!deleted.contains(&path));
            for file in manifest.files() {
                prop_assert!(!deleted.contains(&file.path), "{} of {id}", file.path);
            }
        }
        for file in &files {
            let is_safe = file.2 >= ME.0 || foreign.contains_key(&CheckpointId(file.0));
            prop_assert!(!(is_safe && deleted.contains(&path(file))), "{file:?}");
        }
    }
}
