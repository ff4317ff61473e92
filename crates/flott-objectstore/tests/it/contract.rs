use crate::proxy::{Act, Proxy};
use crate::server::Server;
use flott_checkpoint::{
    CheckpointStorage, Location, ObjectStore, ObjectStores, StartFrom, check_store_contract,
};
use flott_env::Env;
use flott_objectstore::{CloudStores, Limits};
use flott_types::{Configuration, JobId};
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Small enough that the contract's objects need several requests, and that nobody waits long.
pub(crate) fn limits() -> Limits {
    Limits {
        request: Duration::from_secs(10),
        retry_for: Duration::from_secs(10),
        single_put_bytes_max: 1 << 20,
        // S3 takes no smaller ones.
        piece_bytes: 5 << 20,
        ..Limits::default()
    }
}

/// An environment whose paths of object stores are opened with these settings.
pub(crate) fn env_with(config: &Configuration, limits: Limits) -> Env {
    let env = Env::real().unwrap();
    let stores = CloudStores::with_limits(&env, config, limits);
    env.with_settings(ObjectStores(Arc::new(stores)))
}

pub(crate) fn open(env: &Env, uri: &str) -> Arc<dyn ObjectStore> {
    Location::parse(uri).unwrap().open(env).unwrap()
}

pub(crate) fn the_store_keeps_the_contract(server: &Server) {
    let env = env_with(&server.config(), limits());
    let bucket = server.bucket();
    for place in ["", "/some/prefix with a space"] {
        let store = open(&env, &format!("{bucket}{place}"));
        check_store_contract(&env, &store, "here").unwrap();
        let names = store.list("here").unwrap();
        assert!(names.iter().all(|name| !name.starts_with(".tmp-")), "{names:?}");
    }
}

/// Loses the first answer, or request, that creates each object.
fn lose_first(act: Act) -> Box<dyn FnMut(&str) -> Act + Send> {
    let mut seen = BTreeSet::new();
    Box::new(move |line| {
        let creates = line.starts_with("PUT ") || line.starts_with("POST ");
        if creates && seen.insert(line.to_owned()) { act } else { Act::Pass }
    })
}

pub(crate) fn answers_that_are_lost_are_looked_up(server: &Server) {
    let proxy = Proxy::start(server.address(), Box::new(|_| Act::Pass));
    let env = env_with(&server.config_at(&proxy.address), limits());
    for (act, name) in [(Act::LoseAnswer, "answer"), (Act::LoseRequest, "request")] {
        let store = open(&env, &format!("{}/{name}", server.bucket()));
        proxy.set(lose_first(act));
        store.put_if_absent("a", b"mine").unwrap();
        assert_eq!(store.get("a", 10).unwrap(), b"mine");
        let again = store.put_if_absent("a", b"mine").unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}

pub(crate) fn an_upload_that_fails_leaves_nothing(server: &Server) {
    let (bucket, large) = (server.bucket(), vec![7; 12 << 20]);
    // The second piece never arrives, or the whole where that is one request.
    let is_lost =
        |line: &str| line.contains("partNumber=2") || line.starts_with("PUT ") && !line.contains('?');
    let rule = move |line: &str| if is_lost(line) { Act::LoseRequest } else { Act::Pass };
    let proxy = Proxy::start(server.address(), Box::new(rule));
    let limits = Limits { retries: 2, ..limits() };
    let store = open(&env_with(&server.config_at(&proxy.address), limits), &format!("{bucket}/x"));
    store.put_if_absent("large", &large).unwrap_err();
    assert_eq!(store.list("").unwrap(), [""; 0]);
    assert!(!server.has_uploads(&bucket));
    proxy.set(Box::new(|_| Act::Pass));
    store.put_if_absent("large", &large).unwrap();
    assert_eq!(store.get("large", large.len() as u64).unwrap(), large);
    assert_eq!(store.list("").unwrap(), ["large"]);
}

/// The protocol of ownership over a network that loses the first answer about every object.
pub(crate) fn owners_and_checkpoints_survive_lost_answers(server: &Server) {
    let bucket = server.bucket();
    let proxy = Proxy::start(server.address(), lose_first(Act::LoseAnswer));
    let env = env_with(&server.config_at(&proxy.address), limits());
    let root = open(&env, &format!("{bucket}/checkpoints"));
    let storage = CheckpointStorage::new(&env, Arc::clone(&root), Arc::clone(&root), JobId(1));
    let first = storage.start(StartFrom::Latest).unwrap().owner;
    let second = storage.start(StartFrom::Latest).unwrap().owner;
    assert_eq!((first.generation().0, second.generation().0), (1, 2));
    assert!(first.subsume(&[], &[]).is_err(), "it is fenced off");
    second.subsume(&[], &[]).unwrap();
    // Starts that meet: each generation has one owner.
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (storage, seen) = (storage.clone(), Arc::clone(&seen));
            env.spawn_subtask("start", async move {
                if let Ok(started) = storage.start(StartFrom::Latest) {
                    let is_new = seen.lock().unwrap().insert(started.owner.generation());
                    assert!(is_new, "two own generation {}", started.owner.generation());
                }
            })
        })
        .collect();
    env.block_on(async move {
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert!(!seen.lock().unwrap().is_empty(), "at least the last one started");
}
