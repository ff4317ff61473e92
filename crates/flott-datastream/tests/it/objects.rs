//! Checkpoints and savepoints under URIs, in a simulated world whose object store is its disk.

use crate::checkpoints::{
    COUNT, Kills, N_SPLITS, Row, configure, expected_rows, finished, numbers, source, windows,
};
use crate::support::simulated;
use crate::transactional::Transactions;
use flott_checkpoint::{Location, ObjectStore, ObjectStoreFactory, ObjectStores, RemoteLocation};
use flott_datastream::{AtStop, StreamExecutionEnvironment};
use flott_env::Env;
use flott_types::{CheckpointStorageType, Configuration, ErrorKind, Result, options};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Buckets as directories of the simulated disk.
#[derive(Debug)]
struct Simulated(Env);

impl ObjectStoreFactory for Simulated {
    fn open(&self, location: &RemoteLocation) -> Result<Arc<dyn ObjectStore>> {
        Location::from(PathBuf::from(format!("/objects/{}", location.authority))).open(&self.0)
    }
}

fn with_buckets(parallelism: u32, seed: u64) -> StreamExecutionEnvironment {
    let world = simulated(parallelism, seed).env().clone();
    let stores = ObjectStores(Arc::new(Simulated(world.clone())));
    let mut env = StreamExecutionEnvironment::with_env(world.with_settings(stores), Configuration::default());
    env.set_parallelism(parallelism);
    configure(&mut env, 10);
    env.set(options::CHECKPOINTING_STORAGE, CheckpointStorageType::Filesystem);
    env.set(options::CHECKPOINTING_DIR, Some("s3://bucket/checkpoints".to_owned()));
    env.set(options::CHECKPOINTING_SAVEPOINT_DIR, Some("s3://bucket/savepoints".to_owned()));
    env
}

#[test]
fn a_job_restarts_from_and_stops_with_a_savepoint_in_an_object_store() {
    let expected = expected_rows(numbers(N_SPLITS, COUNT));
    for seed in 0..4 {
        let mut env = with_buckets(1 + (seed % 3) as u32, seed);
        let sink = Transactions::<Row>::new();
        windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[100]), &sink);
        let client = env.execute_async("job").unwrap();
        let (handle, world) = (client.savepoints(), env.env().clone());
        let (path, copy) = env.env().block_on(async move {
            world.sleep(Duration::from_millis(20)).await;
            // Elsewhere, and in another kind of store.
            let copy = handle.trigger_savepoint(Some("/copies")).await;
            let path = handle.stop_with_savepoint(None, AtStop::Suspend).await.unwrap();
            client.result().await.unwrap();
            (path, copy)
        });
        assert!(path.starts_with("s3://bucket/savepoints/savepoint-"), "{path}");
        if let Ok(copy) = copy {
            assert!(copy.starts_with("/copies/savepoint-"), "{copy}");
        }
        env.set_parallelism(2).set(options::STATE_RECOVERY_PATH, Some(path));
        windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[50]), &sink);
        finished(env.execute_async("job").unwrap().wait());
        assert_eq!(sink.committed(), expected, "seed {seed}");
    }
}

#[test]
fn a_scheme_that_nobody_knows_is_refused_before_the_job_runs() {
    let mut env = simulated(1, 1);
    configure(&mut env, 10);
    env.set(options::CHECKPOINTING_STORAGE, CheckpointStorageType::Filesystem);
    env.set(options::CHECKPOINTING_DIR, Some("hdfs://name-node/checkpoints".to_owned()));
    windows(&source(&env, N_SPLITS, COUNT, "numbers"), &Kills::at(&[]), &Transactions::new());
    let error = env.execute("refused").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UserError);
    assert!(error.to_string().contains("no storage for 'hdfs:'"), "{error}");
}
