use super::*;
use flott_checkpoint::{LocalStore, ObjectStore, ObjectWriter, SubtaskPart};
use flott_env::sim::{MemoryFs, Simulation};
use flott_graph::{SubtaskId, VertexId};
use flott_types::{CheckpointBarrier, Configuration, Increment, JobId, SubtaskIndex};
use std::io;

/// Refuses to delete.
#[derive(Debug)]
struct Undeletable(LocalStore);

impl ObjectStore for Undeletable {
    fn location(&self) -> String {
        self.0.location()
    }
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.put_if_absent(path, bytes)
    }
    fn create(&self, path: &str) -> io::Result<Box<dyn ObjectWriter>> {
        self.0.create(path)
    }
    fn get_range(&self, path: &str, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        self.0.get_range(path, offset, len)
    }
    fn get(&self, path: &str, len_max: u64) -> io::Result<Vec<u8>> {
        self.0.get(path, len_max)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn delete(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
    fn sync(&self, dir: &str) -> io::Result<()> {
        self.0.sync(dir)
    }
    fn remove_empty_dir(&self, dir: &str) -> io::Result<()> {
        self.0.remove_empty_dir(dir)
    }
    fn metadata(&self, path: &str) -> io::Result<flott_env::Metadata> {
        self.0.metadata(path)
    }
}

fn checkpointing(env: &Env, metrics: &Arc<JobMetrics>) -> Checkpointing {
    let store = || Arc::new(Undeletable(LocalStore::new(Arc::new(MemoryFs::default()), "/", 1)));
    let setup = CheckpointSetup {
        config: CheckpointConfig::new(&Configuration::default()).expect("defaults are fine"),
        plan: CheckpointPlan::default(),
        storage: CheckpointStorage::new(env, store(), store(), JobId(1)),
        recovery_path: None,
        claims: false,
        restore_options: RestoreOptions::default(),
    };
    let Recovery::Run(recovered) = setup.recover(env, false).expect("nothing to recover") else {
        panic!("the job has not ended");
    };
    let start = JobStart { next_checkpoint_id: recovered.next_checkpoint_id, retained: recovered.retained };
    Checkpointing::new(env, &setup, start, recovered.owner, metrics)
}

#[test]
fn a_checkpoint_whose_enumerators_are_not_known_is_an_error_and_not_one_without_enumerators() {
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let run = async move {
        let mut checkpointing = checkpointing(&env, &Arc::default());
        let barrier = CheckpointBarrier {
            id: CheckpointId(1),
            timestamp: 0,
            kind: CheckpointKind::Checkpoint,
            increment: Increment::None,
        };
        let request = ManifestRequest { barrier, is_final: false, parts: BTreeMap::new() };
        let error =
            checkpointing.write_manifest(&request).await.expect_err("nobody has asked the enumerators");
        assert!(error.to_string().contains("checkpoint 1: it has no states of enumerators"), "{error}");
        checkpointing.hold_enumerators(CheckpointId(1), BTreeMap::new());
        checkpointing.write_manifest(&request).await.expect("the job has no source, and that is known");
        checkpointing.stop().await;
    };
    simulation.run(run).expect("ends");
}

#[test]
fn what_cannot_be_deleted_is_counted() {
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let metrics = Arc::new(JobMetrics::default());
    let counted = Arc::clone(&metrics);
    let run = async move {
        let mut checkpointing = checkpointing(&env, &metrics);
        let subtask = SubtaskId { vertex: VertexId(0), subtask: SubtaskIndex(0) };
        let part = checkpointing.owner.write_part(CheckpointId(1), CheckpointKind::Checkpoint, subtask, &[]);
        let part = part.expect("written");
        checkpointing.discard(CheckpointId(1), CheckpointKind::Checkpoint).await;
        checkpointing.delete_files(vec![part.clone()]).await;
        checkpointing.hold_enumerators(CheckpointId(2), BTreeMap::new());
        let barrier = CheckpointBarrier {
            id: CheckpointId(2),
            timestamp: 0,
            kind: CheckpointKind::Checkpoint,
            increment: Increment::None,
        };
        let len = part.len;
        let parts = [(subtask, SubtaskPart { file: Some(part), bases: vec![], finished: false })].into();
        let request = ManifestRequest { barrier, is_final: false, parts };
        checkpointing.write_manifest(&request).await.expect("asked for");
        checkpointing.on_complete(CheckpointId(2), "checkpoint");
        checkpointing.stop().await;
        len
    };
    let len = simulation.run(run).expect("ends");
    let counts = counted.counts();
    assert_eq!((counts.failed_cleanups, counts.completed_checkpoints), (2, 1));
    assert_eq!(counts.last_checkpoint_bytes, len);
}
