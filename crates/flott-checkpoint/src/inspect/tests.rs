//! Snapshots of a made-up job, looked at from outside.

use super::*;
use crate::coordinator::{ManifestRequest, SubtaskPart};
use crate::manifest::MANIFEST_NAME;
use crate::plan::{CheckpointPlan, PlannedOperator, PlannedSubtask};
use crate::restore::open_snapshot;
use crate::storage::{CheckpointOwner, CheckpointStorage, StartFrom};
use flott_env::Env;
use flott_env::sim::{MemoryFs, Simulation};
use flott_graph::{SubtaskId, VertexId};
use flott_state::{KeyedStateBackend, ListState, MapState, ReducingState, ValueState};
use flott_types::{
    CheckpointBarrier, CheckpointId, ErrorKind, Increment, JobId, KeyGroup, key_group, key_group_range,
    key_hash,
};
use std::path::{Path, PathBuf};

const JOB: JobId = JobId(0xabcd_ef00_0000_0000_0000_0000_0000_0001);
const MAX_PARALLELISM: u32 = 8;

fn job_dir() -> PathBuf {
    Path::new("/data/checkpoints").join(JOB.to_string())
}

struct World {
    env: Env,
    owner: CheckpointOwner,
}

impl World {
    fn new() -> Self {
        let env = Simulation::new(7).with_disk(MemoryFs::default()).env();
        let dirs = (Path::new("/data/checkpoints"), Path::new("/data/savepoints"));
        let storage = CheckpointStorage::local(&env, dirs.0, dirs.1, JOB);
        let owner = storage.start(StartFrom::Latest).expect("started").owner;
        Self { env, owner }
    }

    /// Takes a snapshot of a counting job at a parallelism; returns its directory.
    fn take(&self, id: u64, kind: CheckpointKind, parallelism: u32, n_keys: u64) -> PathBuf {
        self.take_with(id, kind, parallelism, |idx| counter(idx, parallelism, n_keys))
    }

    fn take_with(
        &self,
        id: u64,
        kind: CheckpointKind,
        parallelism: u32,
        counter: impl Fn(SubtaskIndex) -> OperatorSnapshot,
    ) -> PathBuf {
        let id = CheckpointId(id);
        let subtasks =
            (0..parallelism).map(|idx| SubtaskId { vertex: VertexId(0), subtask: SubtaskIndex(idx) });
        let operator = |uid: &str, name: &str| PlannedOperator {
            uid: OperatorUid(uid.to_owned()),
            name: name.to_owned(),
            vertex: VertexId(0),
            parallelism,
            max_parallelism: MAX_PARALLELISM,
            states: None,
        };
        let plan = CheckpointPlan {
            subtasks: subtasks.clone().map(|id| PlannedSubtask { id, inputs: vec![] }).collect(),
            operators: vec![operator("counter", "Counter"), operator("lines", "Lines")],
        };
        let mut parts = BTreeMap::new();
        for subtask in subtasks {
            let snapshots = [
                (OperatorUid("counter".to_owned()), counter(subtask.subtask)),
                (OperatorUid("lines".to_owned()), lines(subtask.subtask)),
            ];
            let file = self.owner.write_part(id, kind, subtask, &snapshots).expect("written");
            parts.insert(subtask, SubtaskPart { file: Some(file), bases: vec![], finished: false });
        }
        let timestamp = 1_000 * id.0 as i64;
        let barrier = CheckpointBarrier { id, timestamp, kind, increment: Increment::None };
        let request = ManifestRequest { barrier, is_final: false, parts };
        let enumerators = [(OperatorUid("lines".to_owned()), b"rest".to_vec())].into();
        self.owner.complete(&self.owner.manifest(&plan, &request, &enumerators)).expect("complete");
        let root = if kind.is_savepoint() { "/data/savepoints" } else { "/data/checkpoints" };
        Path::new(root).join(self.owner.directory(id, kind))
    }

    fn open(&self, path: &Path) -> OpenSnapshot {
        open_snapshot(&self.env, path).expect("it is whole")
    }

    fn files(&self, dir: &Path) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
        self.env.fs().list(dir).map(|paths| paths.iter().map(name).collect()).unwrap_or_default()
    }

    fn write(&self, path: &Path, bytes: &[u8]) {
        self.env.fs().create(path).expect("created").write_all(bytes).expect("written");
    }

    fn read(&self, path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.env.fs().open(path).expect("there").read_to_end(&mut bytes).expect("read");
        bytes
    }
}

/// Real state of the keys `0..n_keys` that are the subtask's.
fn counter(subtask: SubtaskIndex, parallelism: u32, n_keys: u64) -> OperatorSnapshot {
    let mut backend = KeyedStateBackend::<u64>::new(subtask, parallelism, MAX_PARALLELISM);
    let range = key_group_range(subtask, MAX_PARALLELISM, parallelism);
    let value = ValueState::<u64>::new("count");
    let list = ListState::<u64>::new("history");
    let map = MapState::<u8, u64>::new("by kind");
    let highest = ReducingState::<u64>::new("highest", |a, b| a.max(b));
    for key in (0..n_keys).filter(|key| range.contains(key_group(key_hash(key), MAX_PARALLELISM))) {
        backend.set_current_key(key);
        value.set(&mut backend, key * 3).expect("updated");
        list.add(&mut backend, key).expect("added");
        map.put(&mut backend, 1, key).expect("put");
        highest.add(&mut backend, key).expect("added");
    }
    let mut snapshot = OperatorSnapshot::default();
    backend.snapshot(&mut snapshot).expect("serializable");
    snapshot.broadcast.insert("rules".to_owned(), b"the same".to_vec());
    snapshot.union.insert("_watermark".to_owned(), vec![vec![0]]);
    snapshot
}

fn lines(subtask: SubtaskIndex) -> OperatorSnapshot {
    let splits = vec![format!("split {subtask}").into_bytes(), b"another".to_vec()];
    OperatorSnapshot { list: [("_splits".to_owned(), splits)].into(), ..OperatorSnapshot::default() }
}

#[test]
fn operators_and_states_are_described_with_kind_key_groups_and_bytes() {
    let world = World::new();
    let path = world.take(3, CheckpointKind::Savepoint, 2, 100);
    let description = describe_snapshot(&world.open(&path)).expect("readable");
    assert_eq!((description.kind, description.checkpoint_id, description.files), ("savepoint", 3, 2));
    assert_eq!(
        (description.manifest_version, description.part_version, description.key_hash_version),
        (1, 4, 1)
    );
    let [counter, lines] = description.operators.as_slice() else { panic!("{description:?}") };
    assert_eq!((counter.uid.as_str(), counter.name.as_str(), counter.parallelism), ("counter", "Counter", 2));
    assert_eq!((counter.positions, lines.positions, lines.enumerator_bytes), (None, Some(4), Some(4)));
    let states: Vec<_> = counter
        .states
        .iter()
        .map(|state| {
            format!(
                "{} {}: {:?} {:?} {}",
                state.name, state.kind, state.key_groups, state.entries, state.bytes
            )
        })
        .collect();
    // A key and its value, each of one or two bytes, and whether its last use is known; a byte a key group for the kind.
    expect_test::expect![[r#"
        _watermark watermark: None Some(2) 2
        by kind map: Some(8) None 508
        count value: Some(8) None 365
        highest reducing: Some(8) None 308
        history list: Some(8) None 408
        rules broadcast: None Some(1) 8"#]]
    .assert_eq(&states.join("\n"));
    assert_eq!(
        counter.subtasks.iter().map(|subtask| subtask.key_groups).collect::<Vec<_>>(),
        [(0, 4), (4, 8)]
    );
    let json = serde_json::to_value(&description).expect("JSON");
    assert_eq!(json["operators"][0]["states"][2]["kind"], "value");
    assert_eq!(json["operators"][0]["states"][2]["scope"], "keyed");
}

#[test]
fn a_snapshot_that_is_whole_is_verified_with_what_was_checked() {
    let world = World::new();
    let path = world.take(3, CheckpointKind::Checkpoint, 2, 100);
    let verification = verify_snapshot(&world.open(&path)).expect("whole");
    assert_eq!((verification.files.len(), verification.operators), (2, 2));
    assert_eq!((verification.keyed_states, verification.key_groups, verification.entries), (4, 32, 8));
}

#[test]
fn each_file_that_is_missing_cut_or_changed_is_named() {
    let world = World::new();
    let path = world.take(3, CheckpointKind::Checkpoint, 2, 100);
    let snapshot = world.open(&path);
    for name in world.files(&path) {
        let file = path.join(&name);
        let whole = world.read(&file);
        // What is wrong with the manifest is found when it is opened.
        let verify = || {
            open_snapshot(&world.env, &path)
                .and_then(|snapshot| verify_snapshot(&snapshot))
                .expect_err("broken")
        };
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 4;
        let mut longer = whole.clone();
        longer.push(0);
        for bytes in [&whole[..whole.len() / 2], &flipped, &longer, &[]] {
            world.write(&file, bytes);
            let error = verify();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
            assert!(error.to_string().contains(&name), "{error}");
        }
        world.env.fs().remove(&file).expect("removed");
        let error = verify();
        assert!(
            error.to_string().contains(if name == MANIFEST_NAME { "no complete" } else { &name }),
            "{error}"
        );
        world.write(&file, &whole);
        verify_snapshot(&snapshot).expect("whole again");
    }
}

#[test]
fn parts_that_do_not_fit_together_are_refused_with_key_group_state_and_operator() {
    let check = |change: fn(SubtaskIndex, &mut OperatorSnapshot), expected: &str| {
        let world = World::new();
        let path = world.take_with(1, CheckpointKind::Savepoint, 2, |idx| {
            let mut snapshot = counter(idx, 2, 20);
            change(idx, &mut snapshot);
            snapshot
        });
        let error = verify_snapshot(&world.open(&path)).expect_err("inconsistent");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(
        |_, snapshot| {
            drop(snapshot.keyed.get_mut("count").expect("there").insert(KeyGroup(2), vec![1, 0].into()))
        },
        "key group 2 of state 'count' of operator 'counter' is in file",
    );
    check(
        |idx, snapshot| {
            if idx.0 == 0 {
                snapshot.keyed.get_mut("count").expect("there").insert(KeyGroup(700), vec![1, 0].into());
            }
        },
        "key group 700 of state 'count' of operator 'counter' does not belong to subtask 0, which has 0..4",
    );
    check(|_, snapshot| snapshot.max_parallelism = 9, "has 9 key groups in it, and 8 in the manifest");
    check(
        |_, snapshot| snapshot.key_hash_version = 7,
        "uses version 7 of the key hash, this build version 1",
    );
}

#[test]
fn two_snapshots_differ_in_what_was_changed_between_them() {
    let world = World::new();
    let old = world.take(1, CheckpointKind::Savepoint, 2, 100);
    let same = world.take(2, CheckpointKind::Savepoint, 2, 100);
    let new = world.take_with(3, CheckpointKind::Savepoint, 3, |idx| {
        let mut snapshot = counter(idx, 3, 101);
        snapshot.keyed.remove("history");
        snapshot.list.insert("new".to_owned(), vec![vec![1]]);
        snapshot
    });
    let describe = |path: &Path| describe_snapshot(&world.open(path)).expect("readable");
    assert_eq!(compare_snapshots(&describe(&old), &describe(&same)).operators, []);
    let difference = compare_snapshots(&describe(&old), &describe(&new));
    assert!(difference.same_job);
    let counter = &difference.operators[0];
    assert_eq!((counter.uid.as_str(), counter.change), ("counter", ListChange::Changed));
    assert_eq!((counter.parallelism.old, counter.parallelism.new), (2, 3));
    let states: Vec<_> = counter.states.iter().map(|state| (state.name.as_str(), state.change)).collect();
    let (added, removed, changed) = (ListChange::Added, ListChange::Removed, ListChange::Changed);
    let expected = [
        ("_watermark", changed),
        ("by kind", changed),
        ("count", changed),
        ("highest", changed),
        ("history", removed),
        ("new", added),
    ];
    assert_eq!(states, expected);
    let history = &counter.states[4];
    assert_eq!((history.key_groups.old, history.key_groups.new, history.key_groups_changed), (8, 0, 8));
    let count = &counter.states[2];
    assert_eq!((count.bytes.new - count.bytes.old, count.key_groups.new), (4, 8), "one key more");
    assert!((1..=8).contains(&count.key_groups_changed));
}

#[test]
fn snapshots_are_listed_newest_first_with_those_that_are_not_complete() {
    let world = World::new();
    let first = world.take(1, CheckpointKind::Checkpoint, 1, 5);
    let third = world.take(3, CheckpointKind::Checkpoint, 1, 5);
    let savepoint = world.take(2, CheckpointKind::Savepoint, 1, 5);
    world.write(&third.join(MANIFEST_NAME), b"nonsense");
    world.env.fs().create_dir_all(&job_dir().join("chk-4")).expect("created");
    world.write(&job_dir().join("chk-4/0-0.g1"), b"part");
    world.env.fs().create_dir_all(&job_dir().join("chk-5")).expect("created");
    for dir in [Path::new("/data/checkpoints"), &job_dir()] {
        let listed = list_snapshots(&world.env, dir).expect("listed");
        let mut found: Vec<_> = listed.iter().map(|it| (it.checkpoint_id, it.completeness)).collect();
        found.sort();
        let expected =
            [(1, Completeness::Complete), (3, Completeness::Damaged), (4, Completeness::Incomplete)];
        assert_eq!(found, expected.map(|(id, completeness)| (Some(id), completeness)));
        assert!(listed.iter().all(|it| it.job_id.as_deref() == Some(JOB.to_string().as_str())));
    }
    let listed = list_snapshots(&world.env, Path::new("/data/savepoints")).expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].path.as_str(), listed[0].kind), (&*savepoint.to_string_lossy(), "savepoint"));
    assert_eq!(list_snapshots(&world.env, &first).expect("listed").len(), 1, "the snapshot itself");
    let error = list_snapshots(&world.env, Path::new("/nowhere")).expect_err("not there");
    assert_eq!(error.to_string(), "there is no directory '/nowhere'");
    world.take(6, CheckpointKind::Checkpoint, 1, 5);
    let newest = &list_snapshots(&world.env, job_dir()).expect("listed")[0];
    assert!(newest.timestamp_ms >= 6_000);
}

#[test]
fn exactly_the_files_of_a_savepoint_are_disposed_of() {
    let world = World::new();
    let path = world.take(1, CheckpointKind::Savepoint, 2, 5);
    let other = world.take(2, CheckpointKind::Savepoint, 2, 5);
    // A write has failed, and then the removal of what it had written.
    world.write(&path.join(".tmp-0123456789abcdef-7"), b"half of a part");
    let disposal = plan_disposal(&world.env, path.join(MANIFEST_NAME)).expect("planned");
    assert_eq!((disposal.refusal.clone(), disposal.files.len(), disposal.left.len()), (None, 4, 0));
    disposal.execute(&world.env).expect("deleted");
    assert!(world.env.fs().metadata(&path).is_err(), "with its directory");
    verify_snapshot(&world.open(&other)).expect("the other one is whole");
    disposal.execute(&world.env).expect("again is no error");

    world.write(&other.join("notes.txt"), b"mine");
    world.write(&other.join("9-9.g9"), b"not in the manifest");
    let disposal = plan_disposal(&world.env, &other).expect("planned");
    assert_eq!(disposal.left, ["9-9.g9", "notes.txt"]);
    disposal.execute(&world.env).expect("deleted");
    assert_eq!(world.files(&other), ["9-9.g9", "notes.txt"], "foreign files stay");
}

#[test]
fn what_should_not_be_deleted_says_why() {
    let world = World::new();
    let checkpoint = world.take(1, CheckpointKind::Checkpoint, 1, 5);
    let refusal = plan_disposal(&world.env, &checkpoint).expect("planned").refusal.expect("refused");
    assert_eq!(refusal, Refusal::InUse { job_id: JOB.to_string(), generation: 1 });
    world.owner.end(true, None).expect("ended");
    let refusal = plan_disposal(&world.env, &checkpoint).expect("planned").refusal.expect("refused");
    assert_eq!(refusal, Refusal::Retained { job_id: JOB.to_string() });

    let savepoint = world.take(2, CheckpointKind::Savepoint, 1, 5);
    world.write(&savepoint.join("notes.txt"), b"mine");
    world.write(&savepoint.join(MANIFEST_NAME), b"nonsense");
    let disposal = plan_disposal(&world.env, &savepoint).expect("planned");
    assert!(matches!(disposal.refusal, Some(Refusal::Damaged { .. })), "{disposal:?}");
    assert_eq!(disposal.files, ["_metadata", "0-0.g1"]);
    world.env.fs().remove(&savepoint.join(MANIFEST_NAME)).expect("removed");
    let disposal = plan_disposal(&world.env, &savepoint).expect("planned");
    assert_eq!((disposal.refusal, disposal.files), (Some(Refusal::Incomplete), vec!["0-0.g1".to_owned()]));

    for path in ["/data", "/nowhere", "/data/savepoints"] {
        assert_eq!(
            plan_disposal(&world.env, Path::new(path)).expect_err("nothing").kind(),
            ErrorKind::UserError
        );
    }
}

#[test]
fn a_checkpoint_that_others_may_need_is_not_touched_while_they_cannot_be_read() {
    let world = World::new();
    let one = world.take(1, CheckpointKind::Checkpoint, 1, 5);
    let two = world.take(2, CheckpointKind::Checkpoint, 1, 5);
    world.write(&two.join(MANIFEST_NAME), b"nonsense");
    let error = plan_disposal(&world.env, &one).expect_err("refused");
    assert!(error.to_string().contains("nothing is deleted"), "{error}");
}

#[test]
fn a_state_whose_type_has_changed_is_shown_with_what_changed() {
    fn of<V: flott_types::Data>(subtask: SubtaskIndex, value: V) -> OperatorSnapshot {
        let mut backend = KeyedStateBackend::<u64>::new(subtask, 1, MAX_PARALLELISM);
        backend.set_current_key(7);
        ValueState::new("count").set(&mut backend, value).expect("set");
        let mut snapshot = OperatorSnapshot::default();
        backend.snapshot(&mut snapshot).expect("serializable");
        snapshot
    }
    let world = World::new();
    let old = world.take_with(1, CheckpointKind::Savepoint, 1, |subtask| of(subtask, (1_u32, 2_u8)));
    let new = world.take_with(2, CheckpointKind::Savepoint, 1, |subtask| of(subtask, (1_u64, 2_u8)));
    let other = world.take_with(3, CheckpointKind::Savepoint, 1, |subtask| of(subtask, 'a'));
    let describe = |path| describe_snapshot(&world.open(path)).expect("readable");
    let changes =
        |old, new| compare_snapshots(&describe(old), &describe(new)).operators[0].states[0].types.clone();
    assert_eq!(changes(&old, &new), ["field 'value.0' is widened from u32 to u64"]);
    assert_eq!(changes(&new, &other), ["field 'value' was (u64, u8) and is char"]);
    assert_eq!(describe(&old).operators[0].states[0].types.len(), 1);
}
