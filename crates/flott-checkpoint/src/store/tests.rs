use super::*;
use flott_env::FileSystem;
use flott_env::sim::{CrashMode, MemoryFs};
use std::path::Path;
use std::sync::Arc;

fn store(disk: &MemoryFs, nonce: u64) -> LocalStore {
    LocalStore::new(Arc::new(disk.clone()), "/data/c", nonce)
}

#[test]
fn an_object_is_created_once() {
    let disk = MemoryFs::default();
    let (one, other) = (store(&disk, 1), store(&disk, 2));
    one.put_if_absent("a/b", b"first").expect("created");
    let error = other.put_if_absent("a/b", b"second").expect_err("it exists");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(other.get("a/b", 100).expect("read"), b"first");
    assert_eq!(disk.files().len(), 1, "no temporary file stays");
}

#[test]
fn an_object_survives_from_the_moment_its_put_returns() {
    let disk = MemoryFs::default();
    for (number, path) in ["x/a", "x/b", "y/z/c", "d"].into_iter().enumerate() {
        // Another process each time: what it finds may not be durable.
        store(&disk, number as u64).put_if_absent(path, path.as_bytes()).expect("created");
        disk.crash(CrashMode::LoseUnsynced);
        assert_eq!(store(&disk, 9).get(path, 100).expect("read"), path.as_bytes());
    }
}

#[test]
fn a_directory_that_somebody_else_made_is_made_durable_too() {
    let disk = MemoryFs::default();
    FileSystem::create_dir_all(&disk, Path::new("/data/c/x")).expect("created");
    store(&disk, 1).put_if_absent("x/a", b"a").expect("created");
    disk.crash(CrashMode::LoseUnsynced);
    assert_eq!(store(&disk, 2).get("x/a", 100).expect("read"), b"a");
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let disk = MemoryFs::default();
    let store = store(&disk, 1);
    store.put_if_absent("x/a", b"a").expect("created");
    store.remove_empty_dir("x").expect("it is not empty, and stays");
    store.delete("x/a").expect("deleted");
    store.delete("x/a").expect("it is gone");
    store.sync("x").expect("synced");
    store.remove_empty_dir("x").expect("removed");
    store.remove_empty_dir("x").expect("it is gone");
    assert_eq!(store.list("").expect("listed"), Vec::<String>::new());
    store.put_if_absent("x/b", b"b").expect("created");
    disk.crash(CrashMode::LoseUnsynced);
    assert_eq!(store.get("x/b", 100).expect("read"), b"b");
}

#[test]
fn what_is_not_there_is_told_from_what_cannot_be_read() {
    let disk = MemoryFs::default();
    let store = store(&disk, 1);
    assert_eq!(store.list("none").expect("nothing is there"), Vec::<String>::new());
    store.put_if_absent("x/long", &[7; 100]).expect("created");
    assert_eq!(store.get("none", 1).expect_err("missing").kind(), io::ErrorKind::NotFound);
    assert_eq!(store.get("x", 1).expect_err("a directory").kind(), io::ErrorKind::IsADirectory);
    assert_eq!(store.get("x/long", 99).expect_err("too long").kind(), io::ErrorKind::FileTooLarge);
    let fault = flott_env::sim::Fault {
        at: disk.operations(),
        effect: flott_env::sim::FaultEffect::Before,
        halts: true,
    };
    disk.set_fault(Some(fault));
    store.delete("x/long").expect_err("the power fails");
    store.list("x").expect_err("that is not empty");
}

#[test]
fn local_directories_keep_the_contract() {
    let dir = tempfile::tempdir().expect("a directory");
    let env = flott_env::Env::real().expect("threads");
    let store: Arc<dyn ObjectStore> = Arc::new(LocalStore::new(env.fs(), dir.path(), env.random_u64()));
    check_store_contract(&env, &store, "here").expect("the contract holds");
    let prefixed: Arc<dyn ObjectStore> = Arc::new(PrefixedStore::new(store, "a/b".to_owned()));
    check_store_contract(&env, &prefixed, "there").expect("the contract holds");
}

#[test]
fn directories_in_memory_keep_the_contract() {
    let env = flott_env::Env::real().expect("threads");
    let store: Arc<dyn ObjectStore> = Arc::new(store(&MemoryFs::default(), 1));
    check_store_contract(&env, &store, "here").expect("the contract holds");
}
