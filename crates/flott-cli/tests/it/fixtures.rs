//! Savepoints of every format version, in the repository for ever: this build restores each, at any parallelism, and continues to the
//! right result.
//!
//! `FLOTT_WRITE_FIXTURE=v3 cargo test -p flott-cli --test it fixtures` writes a new one, to
//! crates/flott-checkpoint/fixtures/v3, as this build writes it. Existing ones are never written again.

pub(crate) mod program;

use crate::support::succeeds;
use flott::env::Env;
use flott::{JobStatus, StreamExecutionEnvironment, options};
use flott_checkpoint::{StateKind, describe_snapshot, open_snapshot, verify_snapshot};
use program::{COUNT, HALF, N_SPLITS, Numbers};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../flott-checkpoint/fixtures")
}

fn environment(parallelism: u32) -> StreamExecutionEnvironment {
    let mut env =
        StreamExecutionEnvironment::with_configuration(flott::Configuration::default()).expect("it starts");
    env.set_parallelism(parallelism);
    env
}

/// Runs the program at parallelism 2 up to the half, and takes a savepoint there; returns its directory.
pub(crate) fn take(dir: &Path) -> PathBuf {
    let mut env = environment(2);
    let dir = dir.display().to_string();
    env.set(options::CHECKPOINTING_SAVEPOINT_DIR, Some(dir.clone()));
    let paused = Arc::new(AtomicU32::new(0));
    let lines = program::build(&mut env, Numbers { pause_at: Some(HALF), paused: Arc::clone(&paused) });
    let job = env.execute_async("fixture").expect("it starts");
    let world = env.env().clone();
    let path = env.env().block_on(async move {
        // Two sources.
        while paused.load(Ordering::SeqCst) < 2 * N_SPLITS {
            world.sleep(Duration::from_millis(1)).await;
        }
        let path = job.trigger_savepoint(None).await.expect("a savepoint");
        job.cancel().await;
        assert_eq!(job.result().await.expect("an end").status, JobStatus::Canceled);
        path
    });
    let early: Vec<_> = lines().into_iter().filter(|line| !line.starts_with("reduced ")).collect();
    assert_eq!(early, Vec::<String>::new(), "everything is said after the savepoint");
    PathBuf::from(path)
}

/// Restores the savepoint and runs to the end.
fn check_continues(savepoint: &Path, parallelism: u32) {
    let mut env = environment(parallelism);
    env.set(options::STATE_RECOVERY_PATH, Some(savepoint.display().to_string()));
    let lines = program::build(&mut env, Numbers { pause_at: None, paused: Arc::default() });
    let result = env.execute("fixture").expect("it continues");
    assert_eq!(result.status, JobStatus::Finished);
    let source = result.operators.iter().find(|operator| operator.name == "numbers").expect("the source");
    assert_eq!(source.records_out, u64::from(N_SPLITS) * (COUNT - HALF), "it reads on, and nothing twice");
    let (expected, lines) = (program::expected(), lines());
    let reduced: BTreeSet<_> = expected.iter().filter(|line| line.starts_with("reduced ")).collect();
    let found: BTreeSet<String> = lines
        .iter()
        .filter(|line| !line.starts_with("reduced ") || reduced.contains(line))
        .cloned()
        .collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    let wrong: Vec<_> = found.difference(&expected).collect();
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "at {parallelism}\nmissing {missing:#?}\nwrong {wrong:#?}"
    );
}

/// The savepoint is whole, and has state of every kind that the program has.
fn check_content(savepoint: &Path) {
    let env = Env::real().expect("the runtime");
    let snapshot = open_snapshot(&env, savepoint).expect("a savepoint");
    verify_snapshot(&snapshot).expect("whole");
    let description = describe_snapshot(&snapshot).expect("described");
    assert!(description.bytes < 200_000, "{} bytes", description.bytes);
    let states = description.operators.iter().flat_map(|operator| &operator.states);
    let found: BTreeSet<StateKind> = states.filter(|state| state.bytes > 0).map(|state| state.kind).collect();
    use StateKind::*;
    for kind in [
        Value,
        ListOfKey,
        Map,
        Reducing,
        Aggregating,
        Reduced,
        Windows,
        Slices,
        Sessions,
        EventTimers,
        ProcessingTimers,
        OperatorList,
        UnionList,
        Broadcast,
        Positions,
        Watermark,
    ] {
        assert!(found.contains(&kind), "there is no {kind} in {found:?}");
    }
    let whole = succeeds(savepoint, &["savepoint", "verify", "."]);
    assert!(whole.contains(" is whole: "), "{whole}");
}

#[test]
fn savepoints_of_every_version_are_restored_and_continue_to_the_right_result() {
    for version in std::fs::read_dir(fixtures()).expect("there are fixtures") {
        let savepoint = version.expect("a directory").path().join("savepoint");
        check_content(&savepoint);
        for parallelism in [1, 2, 3] {
            check_continues(&savepoint, parallelism);
        }
    }
}

/// What the file of the first subtask begins with: magic bytes and the version of the format.
fn version_of(savepoint: &Path) -> Vec<u8> {
    let part = std::fs::read(savepoint.join("0-0.g1")).expect("a part");
    part.get(..12).expect("a header").to_vec()
}

#[test]
fn a_savepoint_of_this_build_is_restored_and_written_as_a_fixture_on_demand() {
    let here = tempfile::tempdir().expect("a directory");
    let savepoint = take(here.path());
    check_content(&savepoint);
    check_continues(&savepoint, 2);
    let Ok(version) = std::env::var("FLOTT_WRITE_FIXTURE") else {
        let fixtures = std::fs::read_dir(fixtures()).expect("there are fixtures");
        let known: Vec<_> = fixtures
            .map(|fixture| version_of(&fixture.expect("a directory").path().join("savepoint")))
            .collect();
        let written = version_of(&savepoint);
        assert!(known.contains(&written), "there is no fixture of the version that is written: {written:?}");
        return;
    };
    let target = fixtures().join(version).join("savepoint");
    std::fs::create_dir_all(target.parent().expect("a parent")).expect("created");
    std::fs::create_dir(&target).expect("an existing fixture is never replaced");
    for file in std::fs::read_dir(&savepoint).expect("listed") {
        let file = file.expect("a file").path();
        std::fs::copy(&file, target.join(file.file_name().expect("a name"))).expect("copied");
    }
}
