//! `flott savepoint` over snapshots of a job with keyed state, made with the engine's own storage.

use crate::support::{fails, flott, succeeds};
use flott::env::Env;
use flott::state::{ListState, ValueState};
use flott_checkpoint::{
    CheckpointOwner, CheckpointPlan, CheckpointStorage, ManifestRequest, PlannedOperator, PlannedSubtask,
    STATE_SCHEMAS, StartFrom, SubtaskPart,
};
use flott_graph::{SubtaskId, VertexId};
use flott_schema::StateSchemas;
use flott_state::{KeyedStateBackend, OperatorSnapshot};
use flott_types::{
    CheckpointBarrier, CheckpointId, CheckpointKind, Increment, JobId, OperatorUid, SubtaskIndex, key_group,
    key_group_range, key_hash,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MAX_PARALLELISM: u32 = 8;
const JOB: JobId = JobId(0xabcd_ef00_0000_0000_0000_0000_0000_0001);

struct Job {
    here: tempfile::TempDir,
    owner: CheckpointOwner,
}

impl Job {
    fn new() -> Self {
        let here = tempfile::tempdir().expect("a directory");
        let env = Env::real().expect("the runtime");
        let (checkpoints, savepoints) = (here.path().join("checkpoints"), here.path().join("savepoints"));
        let storage = CheckpointStorage::local(&env, &checkpoints, &savepoints, JOB);
        let owner = storage.start(StartFrom::Latest).expect("started").owner;
        Self { here, owner }
    }

    fn path(&self) -> &Path {
        self.here.path()
    }

    /// Takes a snapshot of the words `w0..` counted at a parallelism; returns its directory, relative.
    fn take(&self, id: u64, kind: CheckpointKind, parallelism: u32, n_words: u64) -> String {
        let id = CheckpointId(id);
        let uid = OperatorUid("counts".to_owned());
        let subtasks =
            (0..parallelism).map(|idx| SubtaskId { vertex: VertexId(0), subtask: SubtaskIndex(idx) });
        let plan = CheckpointPlan {
            subtasks: subtasks.clone().map(|id| PlannedSubtask { id, inputs: vec![] }).collect(),
            operators: vec![PlannedOperator {
                uid: uid.clone(),
                name: "Word counts".to_owned(),
                vertex: VertexId(0),
                parallelism,
                max_parallelism: MAX_PARALLELISM,
                states: None,
            }],
        };
        let mut parts = BTreeMap::new();
        for subtask in subtasks {
            let snapshot = counts(subtask.subtask, parallelism, n_words);
            let file = self.owner.write_part(id, kind, subtask, &[(uid.clone(), snapshot)]).expect("written");
            parts.insert(subtask, SubtaskPart { file: Some(file), bases: vec![], finished: false });
        }
        let barrier = CheckpointBarrier {
            id,
            timestamp: 1_700_000_000_000 + id.0 as i64,
            kind,
            increment: Increment::None,
        };
        let request = ManifestRequest { barrier, is_final: false, parts };
        self.owner.complete(&self.owner.manifest(&plan, &request, &BTreeMap::new())).expect("complete");
        let root = if kind.is_savepoint() { "savepoints" } else { "checkpoints" };
        format!("{root}/{}", self.owner.directory(id, kind))
    }

    fn savepoint(&self, id: u64, parallelism: u32, n_words: u64) -> String {
        self.take(id, CheckpointKind::Savepoint, parallelism, n_words)
    }

    fn succeeds(&self, arguments: &[&str]) -> String {
        let all: Vec<&str> = std::iter::once("savepoint").chain(arguments.iter().copied()).collect();
        succeeds(self.path(), &all)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(arguments)).expect("JSON")
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let all: Vec<&str> = std::iter::once("savepoint").chain(arguments.iter().copied()).collect();
        let message = fails(self.path(), &all, 1);
        assert!(message.starts_with("error: ") && message.lines().count() == 1, "{message}");
        message
    }

    fn parts(&self, snapshot: &str) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.path().join(snapshot)).expect("listed");
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.retain(|file| !file.ends_with("_metadata"));
        files.sort();
        files
    }
}

/// The state of the words that are the subtask's: `total` has a recorded schema, `history` has none.
fn counts(subtask: SubtaskIndex, parallelism: u32, n_words: u64) -> OperatorSnapshot {
    let mut backend = KeyedStateBackend::<String>::new(subtask, parallelism, MAX_PARALLELISM);
    let range = key_group_range(subtask, MAX_PARALLELISM, parallelism);
    let (total, history) = (ValueState::<u64>::new("total"), ListState::<u64>::new("history"));
    let words = (0..n_words).map(|number| (number, format!("w{number}")));
    for (number, word) in words.filter(|(_, word)| range.contains(key_group(key_hash(word), MAX_PARALLELISM)))
    {
        backend.set_current_key(word);
        total.set(&mut backend, number * 10).expect("set");
        history.add(&mut backend, number).expect("added");
    }
    let mut snapshot = OperatorSnapshot::default();
    backend.snapshot(&mut snapshot).expect("serializable");
    // As if `history` were of a type that has none.
    let record = snapshot.union.get_mut(STATE_SCHEMAS).expect("recorded").first_mut().expect("one record");
    let mut schemas = StateSchemas::decode(record).expect("a record").expect("of this version");
    schemas.entries.remove("history").expect("recorded");
    *record = schemas.encode().expect("encoded");
    snapshot
}

#[test]
fn help_teaches_every_action() {
    let here = tempfile::tempdir().expect("a directory");
    for action in [
        &["savepoint"][..],
        &["savepoint", "inspect"],
        &["savepoint", "verify"],
        &["savepoint", "diff"],
        &["savepoint", "list"],
        &["savepoint", "dispose"],
        &["savepoint", "export"],
    ] {
        let help = succeeds(here.path(), &[action, &["--help"]].concat());
        assert!(help.contains("Examples:\n  flott savepoint "), "{help}");
    }
    let message = fails(here.path(), &["savepoint", "export", "x", "--operator", "y"], 2);
    assert!(message.contains("--state <NAME>"), "{message}");
}

#[test]
fn inspect_shows_operators_states_and_schemas() {
    let job = Job::new();
    let savepoint = job.savepoint(3, 2, 100);
    let text = job.succeeds(&["inspect", &savepoint]);
    let path = job.path().join(&savepoint);
    let expected = format!(
        "savepoint 3 of job {JOB}\n  path      {}\n  taken     2023-11-14T22:13:20.003Z",
        path.display()
    );
    assert!(text.starts_with(&expected), "{text}");
    for line in [
        "manifest 1, parts 4, key hash 1",
        "operator 'counts' (Word counts)\n  parallelism 2, 8 key groups, ",
        "    total    value                       8 key groups",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let details = job.succeeds(&["inspect", &format!("{savepoint}/_metadata"), "--operator", "counts"]);
    for line in
        ["    1     key groups     4..8", "total: (string, Stored { value: u64, used_at: option<i64> })"]
    {
        assert!(details.contains(line), "{line}: {details}");
    }
    let json = job.json(&["inspect", &savepoint, "--json"]);
    assert_eq!(json["operators"][0]["states"][1]["key_groups"], 8);
    assert_eq!(job.json(&["inspect", &savepoint, "--json", "--operator", "counts"])["uid"], "counts");
    let message = job.fails(&["inspect", &savepoint, "--operator", "count"]);
    assert!(message.contains("no operator with uid 'count' in it; it has: 'counts'"), "{message}");
    let message = job.fails(&["inspect", "nowhere"]);
    assert!(message.contains("there is no complete savepoint or checkpoint in"), "{message}");
    assert!(job.fails(&["inspect", "hdfs://host/x"]).contains("no storage for 'hdfs:'"));
}

#[test]
fn verify_names_the_first_broken_file() {
    let job = Job::new();
    let savepoint = job.savepoint(3, 2, 100);
    let text = job.succeeds(&["verify", &savepoint]);
    assert!(text.contains("is whole: the manifest, 2 files with "), "{text}");
    assert!(text.contains("100 keyed entries in 1 state with a schema were decoded"), "{text}");
    let json = job.json(&["verify", &savepoint, "--json"]);
    assert_eq!((&json["is_whole"], &json["keyed_entries"]), (&Value::Bool(true), &Value::from(100)));
    let part = &job.parts(&savepoint)[1];
    let name = part.file_name().expect("a name").to_string_lossy().into_owned();
    let whole = std::fs::read(part).expect("read");
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    std::fs::write(part, &flipped).expect("written");
    assert!(job.fails(&["verify", &savepoint]).contains(&format!("/{name}' of checkpoint 3 has checksum ")));
    std::fs::write(part, &whole[..50]).expect("written");
    let message = job.fails(&["verify", &savepoint]);
    assert!(
        message.contains(&format!("/{name}' of checkpoint 3 has 50 of its {} bytes", whole.len())),
        "{message}"
    );
    std::fs::remove_file(part).expect("removed");
    assert!(job.fails(&["verify", &savepoint]).contains(&format!("/{name}' of checkpoint 3 is missing")));
    std::fs::write(job.path().join(&savepoint).join("_metadata"), b"FLOTTCHK").expect("written");
    assert!(job.fails(&["verify", &savepoint]).contains("_metadata' is damaged at byte 8"));
}

#[test]
fn diff_shows_what_changed_and_its_exit_code_says_so_on_demand() {
    let job = Job::new();
    let (old, new) = (job.savepoint(1, 1, 100), job.savepoint(2, 2, 103));
    let text = job.succeeds(&["diff", &old, &new]);
    assert!(text.contains("~ operator 'counts' (Word counts): parallelism 1 -> 2, bytes "), "{text}");
    assert!(text.contains("    ~ total  value, bytes "), "{text}");
    let json = job.json(&["diff", &old, &new, "--json"]);
    assert_eq!(json["operators"][0]["change"], "changed");
    assert_eq!(
        job.succeeds(&["diff", &old, &old, "--exit-code"]).lines().last(),
        Some("no operator differs")
    );
    let all = ["savepoint", "diff", &old, &new, "--exit-code"];
    assert_eq!(flott(job.path(), &all).status.code(), Some(1));
}

#[test]
fn list_shows_the_newest_first_also_what_is_not_complete() {
    let job = Job::new();
    job.take(1, CheckpointKind::Checkpoint, 1, 5);
    job.take(2, CheckpointKind::Checkpoint, 1, 5);
    std::fs::create_dir_all(job.path().join(format!("checkpoints/{JOB}/chk-3"))).expect("created");
    std::fs::write(job.path().join(format!("checkpoints/{JOB}/chk-3/0-0.g1")), b"part").expect("written");
    let text = job.succeeds(&["list", "checkpoints"]);
    let numbers: Vec<_> =
        text.lines().skip(1).map(|line| line.split_whitespace().nth(2).expect("a number")).collect();
    assert_eq!(numbers, ["3", "2", "1"], "{text}");
    assert!(text.lines().nth(1).expect("a line").contains("incomplete"), "{text}");
    assert_eq!(job.json(&["list", "checkpoints", "--json"])[1]["completeness"], "complete");
    std::fs::create_dir(job.path().join("empty")).expect("created");
    assert!(job.succeeds(&["list", "empty"]).starts_with("no checkpoints or savepoints in "));
    assert!(job.fails(&["list", "nowhere"]).contains("there is no directory"));
}

#[test]
fn dispose_deletes_a_savepoint_and_refuses_what_is_not_the_users() {
    let job = Job::new();
    let (savepoint, other) = (job.savepoint(1, 2, 5), job.savepoint(2, 2, 5));
    let checkpoint = job.take(3, CheckpointKind::Checkpoint, 1, 5);
    assert!(job.succeeds(&["dispose", &savepoint, "--dry-run"]).starts_with("would delete 3 files of "));
    job.succeeds(&["verify", &savepoint]);
    let path = job.path().join(&savepoint);
    assert_eq!(
        job.succeeds(&["dispose", &savepoint]),
        format!("Savepoint '{}' disposed.\n3 files deleted\n", path.display())
    );
    assert!(!path.exists());
    job.succeeds(&["verify", &other]);
    std::fs::write(job.path().join(&other).join("notes"), b"mine").expect("written");
    assert_eq!(job.json(&["dispose", &other, "--json"])["left"][0], "notes");
    assert!(job.path().join(&other).join("notes").exists());

    let message = job.fails(&["dispose", &checkpoint]);
    assert!(message.contains("which has not reached its end (generation 1)"), "{message}");
    assert!(message.contains("--force deletes it"), "{message}");
    job.succeeds(&["verify", &checkpoint]);
    job.succeeds(&["dispose", "--force", &checkpoint]);
    assert!(!job.path().join(&checkpoint).exists());
    assert!(job.path().join(format!("checkpoints/{JOB}/owner-1")).exists(), "the job's records stay");
    assert!(job.fails(&["dispose", "."]).contains("there is no savepoint or checkpoint in"));
}

fn expected_totals() -> BTreeMap<String, u64> {
    (0..100).map(|number| (format!("w{number}"), number * 10)).collect()
}

#[test]
fn export_writes_keyed_state_with_a_schema_as_json_lines() {
    let job = Job::new();
    let savepoint = job.savepoint(1, 2, 100);
    let export =
        ["export", &savepoint, "--operator", "counts", "--state", "total", "--format", "jsonl", "--output"];
    let text = job.succeeds(&[&export[..], &["total.jsonl"]].concat());
    assert!(text.starts_with("100 rows of state 'total' of operator 'counts' written to "), "{text}");
    let totals = |text: &str| -> BTreeMap<String, u64> {
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        rows.map(|row| {
            (row["key"].as_str().expect("text").to_owned(), row["value"].as_u64().expect("a number"))
        })
        .collect()
    };
    let written = std::fs::read_to_string(job.path().join("total.jsonl")).expect("written");
    assert_eq!(totals(&written), expected_totals());
    assert_eq!(totals(&job.succeeds(&[&export[..], &["-"]].concat())), expected_totals());
    let message = job.fails(&[&export[..], &["total.jsonl"]].concat());
    assert!(message.contains("exists: choose another file"), "{message}");
    assert_eq!(std::fs::read_dir(job.path()).expect("listed").count(), 3, "nothing else was left");
}

#[cfg(feature = "parquet")]
#[test]
fn export_writes_parquet_that_flotts_own_source_reads() {
    use flott::prelude::*;
    use flott_format_parquet::ParquetFormat;
    #[derive(Clone, Serialize, Deserialize)]
    struct Total {
        key_group: u32,
        key: String,
        value: u64,
        last_used_ms: Option<i64>,
    }
    let job = Job::new();
    let savepoint = job.savepoint(1, 2, 100);
    let arguments =
        ["--operator", "counts", "--state", "total", "--format", "parquet", "--output", "total.parquet"];
    job.succeeds(&[&["export", &savepoint][..], &arguments].concat());
    let env =
        StreamExecutionEnvironment::with_configuration(Configuration::default()).expect("an environment");
    let source = FileSource::<Total>::format(job.path().join("total.parquet"), ParquetFormat::new());
    let (sink, totals) = collect_sink();
    env.from_source(source, WatermarkStrategy::no_watermarks(), "totals").sink_to(sink);
    env.execute("totals").expect("executed");
    let rows: Vec<Total> = totals.take();
    for row in &rows {
        assert_eq!(row.key_group, key_group(key_hash(&row.key), MAX_PARALLELISM).0);
        assert_eq!(row.last_used_ms, None);
    }
    let found: BTreeMap<_, _> = rows.into_iter().map(|row| (row.key, row.value)).collect();
    assert_eq!(found, expected_totals());
}

#[test]
fn export_says_what_is_missing() {
    let job = Job::new();
    let savepoint = job.savepoint(1, 2, 100);
    let export = |operator: &str, state: &str| {
        let arguments = ["--operator", operator, "--state", state, "--format", "jsonl", "--output", "x"];
        job.fails(&[&["export", &savepoint][..], &arguments].concat())
    };
    let message = export("counts", "history");
    for part in ["cannot be exported", "records schemas of this operator, but none for this state"] {
        assert!(message.contains(part), "{message}");
    }
    let message = export("counts", "totals");
    assert!(message.contains("has no state 'totals' in it; states: 'history', 'total'"), "{message}");
    assert!(export("sums", "total").contains("it has: 'counts'"));
    assert!(!job.path().join("x").exists() && !job.path().join("x.part").exists());
}
