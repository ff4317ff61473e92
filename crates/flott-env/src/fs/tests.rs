use super::memory::{CrashMode, Fault, FaultEffect, MemoryFs};
use super::*;

fn write(fs: &dyn FileSystem, path: &str, content: &str, sync: bool) {
    let mut file = fs.create(Path::new(path)).expect("created");
    file.write_all(content.as_bytes()).expect("written");
    if sync {
        file.sync().expect("synced");
    }
}

fn read(fs: &dyn FileSystem, path: &str) -> Option<String> {
    let mut text = String::new();
    fs.open(Path::new(path)).ok()?.read_to_string(&mut text).ok()?;
    Some(text)
}

/// `/d` is durable, and what is in it is not yet.
fn disk_with_directory() -> MemoryFs {
    let fs = MemoryFs::default();
    fs.create_dir_all(Path::new("/d")).expect("created");
    fs.sync_dir(Path::new("/")).expect("synced");
    fs
}

#[test]
fn a_crash_takes_what_was_not_synced() {
    for (file_synced, dir_synced, expected) in
        [(false, false, None), (true, false, None), (false, true, Some("")), (true, true, Some("content"))]
    {
        let fs = disk_with_directory();
        write(&fs, "/d/f", "content", file_synced);
        if dir_synced {
            fs.sync_dir(Path::new("/d")).expect("synced");
        }
        assert_eq!(read(&fs, "/d/f").as_deref(), Some("content"), "without a crash all is there");
        fs.crash(CrashMode::LoseUnsynced);
        assert_eq!(read(&fs, "/d/f").as_deref(), expected, "file {file_synced}, directory {dir_synced}");
    }
}

#[test]
fn a_crash_may_also_keep_what_was_not_synced_or_a_part_of_it() {
    let fs = disk_with_directory();
    write(&fs, "/d/f", "content", false);
    fs.crash(CrashMode::KeepUnsynced);
    assert_eq!(read(&fs, "/d/f").as_deref(), Some("content"));

    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let fs = disk_with_directory();
        write(&fs, "/d/f", "content", false);
        fs.crash(CrashMode::Random(seed));
        seen.insert(read(&fs, "/d/f"));
    }
    assert_eq!(seen.len(), 9, "nothing, or any beginning of the content: {seen:?}");
}

#[test]
fn a_crash_brings_back_what_was_removed_or_replaced_without_a_sync() {
    let fs = disk_with_directory();
    write(&fs, "/d/a", "old", true);
    write(&fs, "/d/b", "b", true);
    fs.sync_dir(Path::new("/d")).expect("synced");
    fs.remove(Path::new("/d/b")).expect("removed");
    write(&fs, "/d/new", "new", true);
    fs.rename(Path::new("/d/new"), Path::new("/d/a")).expect("renamed");
    fs.crash(CrashMode::LoseUnsynced);
    assert_eq!(read(&fs, "/d/a").as_deref(), Some("old"));
    assert_eq!(read(&fs, "/d/b").as_deref(), Some("b"));
    assert_eq!(read(&fs, "/d/new"), None);
}

#[test]
fn an_entry_is_lost_with_its_directory() {
    let fs = MemoryFs::default();
    fs.create_dir_all(Path::new("/d/e")).expect("created");
    write(&fs, "/d/e/f", "content", true);
    fs.sync_dir(Path::new("/d/e")).expect("synced");
    fs.sync_dir(Path::new("/d")).expect("synced");
    fs.crash(CrashMode::LoseUnsynced);
    assert_eq!(read(&fs, "/d/e/f"), None, "nobody synced the root");
}

#[test]
fn a_file_that_was_open_at_a_crash_can_be_written_no_more() {
    let fs = disk_with_directory();
    let mut file = fs.create(Path::new("/d/f")).expect("created");
    fs.sync_dir(Path::new("/d")).expect("synced");
    fs.crash(CrashMode::LoseUnsynced);
    assert!(file.write_all(b"x").is_err());
    assert_eq!(read(&fs, "/d/f").as_deref(), Some(""));
}

#[test]
fn a_fault_hits_one_operation_before_after_or_without_an_answer() {
    for (effect, halts, succeeds, is_done) in [
        (FaultEffect::Before, false, false, false),
        (FaultEffect::After, true, true, true),
        (FaultEffect::AppliedButError, false, false, true),
    ] {
        let fs = disk_with_directory();
        write(&fs, "/d/f", "content", true);
        fs.set_fault(Some(Fault { at: fs.operations(), effect, halts }));
        let result = fs.remove(Path::new("/d/f"));
        assert_eq!(result.is_ok(), succeeds, "{effect:?}");
        assert_eq!(fs.is_halted(), halts);
        assert_eq!(fs.list(Path::new("/d")).is_err(), halts, "a dead process does not read either");
        fs.crash(CrashMode::KeepUnsynced);
        assert_eq!(read(&fs, "/d/f").is_none(), is_done, "{effect:?}");
        write(&fs, "/d/g", "the fault comes once", true);
    }
}

#[test]
fn operations_are_counted_and_recorded() {
    let fs = disk_with_directory();
    fs.record(true);
    let before = fs.operations();
    write(&fs, "/d/f", "x", true);
    fs.sync_dir(Path::new("/d")).expect("synced");
    let names: Vec<_> = fs.recorded().into_iter().map(|operation| operation.name).collect();
    assert_eq!(names, ["create", "write", "sync", "sync_dir"]);
    assert_eq!(fs.operations() - before, 4);
}

/// The same calls on a disk in memory and on the real one.
#[test]
fn links_and_directories_behave_as_on_a_real_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = MemoryFs::default();
    memory.create_dir_all(folder.path()).expect("created");
    let seen = [&RealFs as &dyn FileSystem, &memory].map(|fs| {
        let path = |name: &str| folder.path().join(name);
        let mut seen = Vec::new();
        fs.create_dir_all(&path("d")).expect("created");
        write(fs, &path("d/a").to_string_lossy(), "a", true);
        seen.push(fs.hard_link(&path("d/a"), &path("d/b")).map_err(|error| error.kind()));
        seen.push(fs.hard_link(&path("d/a"), &path("d/b")).map_err(|error| error.kind()));
        seen.push(fs.hard_link(&path("d/none"), &path("d/c")).map_err(|error| error.kind()));
        seen.push(fs.remove_dir(&path("d")).map_err(|error| error.kind()));
        seen.push(fs.remove(&path("d/a")).map_err(|error| error.kind()));
        assert_eq!(read(fs, &path("d/b").to_string_lossy()).as_deref(), Some("a"), "the other name stays");
        seen.push(fs.remove(&path("d/b")).map_err(|error| error.kind()));
        seen.push(fs.sync_dir(&path("d")).map_err(|error| error.kind()));
        seen.push(fs.remove_dir(&path("d")).map_err(|error| error.kind()));
        seen.push(fs.remove_dir(&path("d")).map_err(|error| error.kind()));
        seen.push(fs.sync_dir(&path("d")).map_err(|error| error.kind()));
        seen
    });
    let [real, memory] = seen;
    assert_eq!(real, memory);
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotFound};
    let failed = real.into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(failed, [AlreadyExists, NotFound, DirectoryNotEmpty, NotFound, NotFound]);
}
