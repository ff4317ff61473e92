//! Several owners of one job: every order in which the operations of an old one and of new ones can happen.

use super::*;
use flott_env::sim::SimRng;
use std::sync::{Condvar, Mutex};

/// Lets the operations of several actors happen in a given order.
#[derive(Debug, Default)]
struct Schedule {
    turns: Mutex<Turns>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Turns {
    order: Vec<usize>,
    next: usize,
    done: Vec<usize>,
}

impl Schedule {
    fn new(order: Vec<usize>) -> Arc<Self> {
        Arc::new(Self { turns: Mutex::new(Turns { order, ..Turns::default() }), changed: Condvar::new() })
    }

    /// Does `f` when it is this actor's turn, alone. Turns of actors that are done are skipped; who has none left waits for nobody.
    fn turn<T>(&self, actor: usize, f: impl FnOnce() -> T) -> T {
        let is_waiting = |turns: &mut Turns| {
            while turns.order.get(turns.next).is_some_and(|next| turns.done.contains(next)) {
                turns.next += 1;
            }
            turns.order.get(turns.next).is_some_and(|next| *next != actor)
        };
        let turns = self.turns.lock().expect("nobody panics");
        let mut turns = self.changed.wait_while(turns, is_waiting).expect("nobody panics");
        let result = f();
        turns.next += 1;
        self.changed.notify_all();
        result
    }

    fn done(&self, actor: usize) {
        self.turns.lock().expect("nobody panics").done.push(actor);
        self.changed.notify_all();
    }
}

/// The store as one actor sees it.
#[derive(Debug)]
struct Scheduled {
    store: Arc<dyn ObjectStore>,
    schedule: Arc<Schedule>,
    actor: usize,
}

impl ObjectStore for Scheduled {
    fn location(&self) -> String {
        self.store.location()
    }
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.schedule.turn(self.actor, || self.store.put_if_absent(path, bytes))
    }
    fn create(&self, path: &str) -> io::Result<Box<dyn crate::store::ObjectWriter>> {
        self.store.create(path)
    }
    fn get_range(&self, path: &str, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        self.store.get_range(path, offset, len)
    }
    fn get(&self, path: &str, len_max: u64) -> io::Result<Vec<u8>> {
        self.schedule.turn(self.actor, || self.store.get(path, len_max))
    }
    fn metadata(&self, path: &str) -> io::Result<flott_env::Metadata> {
        self.store.metadata(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.schedule.turn(self.actor, || self.store.list(dir))
    }
    fn delete(&self, path: &str) -> io::Result<()> {
        self.schedule.turn(self.actor, || self.store.delete(path))
    }
    fn sync(&self, dir: &str) -> io::Result<()> {
        self.store.sync(dir)
    }
    fn remove_empty_dir(&self, dir: &str) -> io::Result<()> {
        self.store.remove_empty_dir(dir)
    }
}

/// A generation 1 that has completed checkpoint 1 and written the parts of 2.
fn old_owner(disk: &MemoryFs) -> (CheckpointOwner, Manifest) {
    let owner = process(disk, 1).1.start(StartFrom::Latest).expect("started").owner;
    take(&owner, CheckpointId(1), CheckpointKind::Checkpoint).expect("complete");
    let request = write_parts(&owner, CheckpointId(2), CheckpointKind::Checkpoint).expect("written");
    let manifest = manifest(&owner, &request);
    (owner, manifest)
}

fn scheduled(storage: &CheckpointStorage, schedule: &Arc<Schedule>, actor: usize) -> CheckpointStorage {
    let (store, schedule) = (storage.checkpoints.clone(), schedule.clone());
    CheckpointStorage { checkpoints: Arc::new(Scheduled { store, schedule, actor }), ..storage.clone() }
}

/// The old owner completes checkpoint 2 while one or more others start; in the order given, by actor, the old one being 0.
#[expect(clippy::disallowed_methods, reason = "blocking calls are interleaved, which takes threads")]
fn interleave(n_new: usize, order: Vec<usize>) -> (MemoryFs, Result<()>, Vec<Result<Started>>) {
    let disk = MemoryFs::default();
    let (old, manifest) = old_owner(&disk);
    let schedule = Schedule::new(order);
    let old = CheckpointOwner { storage: scheduled(&old.storage, &schedule, 0), ..old };
    let (completed, started) = std::thread::scope(|scope| {
        let starting: Vec<_> = (1..=n_new)
            .map(|actor| {
                let storage = scheduled(&process(&disk, 10 + actor as u64).1, &schedule, actor);
                let schedule = &schedule;
                scope.spawn(move || {
                    let started = storage.start(StartFrom::Latest);
                    schedule.done(actor);
                    started
                })
            })
            .collect();
        let completed = old.complete(&manifest);
        schedule.done(0);
        let started = starting.into_iter().map(|thread| thread.join().expect("no panic"));
        (completed, started.collect::<Vec<_>>())
    });
    (disk, completed, started)
}

/// What the storage and everybody's answers must agree on, whatever the order was.
fn check(order: &[usize], disk: &MemoryFs, completed: &Result<()>, started: Vec<Result<Started>>) {
    let mut running: Vec<_> = started.into_iter().filter_map(Result::ok).collect();
    running.sort_by_key(|started| started.owner.generation());
    let newest = running.last();
    let restored = newest.map(|started| check_restores(started.restore_from.as_ref().expect("at least 1")));
    if let Err(error) = completed {
        assert_eq!(error.kind(), ErrorKind::Fenced, "{order:?}");
    } else if let Some(restored) = restored {
        assert_eq!(restored, CheckpointId(2), "what the old owner believes in is lost: {order:?}");
    }
    // All who believe that they run, in turn, believe in the same past.
    for started in &running {
        let from = started.restore_from.as_ref().map(|from| from.manifest().checkpoint_id);
        assert!(from <= restored, "{order:?}");
    }
    // Once it was chosen, it is chosen for ever, unless somebody completes another.
    let again = process(disk, 90).1.start(StartFrom::Latest).expect("started");
    let from = check_restores(again.restore_from.as_ref().expect("at least 1"));
    if let (Some(restored), Some(newest)) = (restored, newest) {
        assert_eq!(from, restored, "another past: {order:?}");
        let error =
            take(&newest.owner, newest.next_checkpoint_id, CheckpointKind::Checkpoint).expect_err("fenced");
        assert_eq!(error.kind(), ErrorKind::Fenced, "{order:?}");
    }
    again.owner.collect_garbage().expect("collected");
    take(&again.owner, again.next_checkpoint_id, CheckpointKind::Checkpoint).expect("complete");
    let last = process(disk, 91).1.start(StartFrom::Latest).expect("started");
    assert_eq!(check_restores(&last.restore_from.expect("one")), again.next_checkpoint_id, "{order:?}");
}

/// A store in which something happens, once, before an object with this ending is made.
struct Interrupted {
    store: Arc<dyn ObjectStore>,
    ending: &'static str,
    interrupt: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interrupted").field("ending", &self.ending).finish_non_exhaustive()
    }
}

impl ObjectStore for Interrupted {
    fn location(&self) -> String {
        self.store.location()
    }
    fn put_if_absent(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let interrupt =
            self.interrupt.lock().expect("nobody panics").take_if(|_| path.ends_with(self.ending));
        interrupt.into_iter().for_each(|interrupt| interrupt());
        self.store.put_if_absent(path, bytes)
    }
    fn create(&self, path: &str) -> io::Result<Box<dyn crate::store::ObjectWriter>> {
        self.store.create(path)
    }
    fn get_range(&self, path: &str, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        self.store.get_range(path, offset, len)
    }
    fn get(&self, path: &str, len_max: u64) -> io::Result<Vec<u8>> {
        self.store.get(path, len_max)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.store.list(dir)
    }
    fn delete(&self, path: &str) -> io::Result<()> {
        self.store.delete(path)
    }
    fn metadata(&self, path: &str) -> io::Result<flott_env::Metadata> {
        self.store.metadata(path)
    }
    fn sync(&self, dir: &str) -> io::Result<()> {
        self.store.sync(dir)
    }
    fn remove_empty_dir(&self, dir: &str) -> io::Result<()> {
        self.store.remove_empty_dir(dir)
    }
}

/// A job that has all but ended is stopped, started a second time, and goes on: it deleted the checkpoint that its successor had gone on from.
#[test]
fn an_owner_that_is_taken_over_while_it_ends_deletes_nothing() {
    let disk = MemoryFs::default();
    let owner = old_owner(&disk).0;
    let of_successor = disk.clone();
    let interrupt = move || {
        let started = process(&of_successor, 2).1.start(StartFrom::Latest).expect("started");
        assert_eq!(check_restores(started.restore_from.as_ref().expect("one")), CheckpointId(1));
    };
    let store = Interrupted {
        store: Arc::clone(&owner.storage.checkpoints),
        ending: ".end",
        interrupt: Mutex::new(Some(Box::new(interrupt))),
    };
    let storage = CheckpointStorage { checkpoints: Arc::new(store), ..owner.storage.clone() };
    let owner = CheckpointOwner { storage, ..owner };
    assert_eq!(owner.end(false, None).expect_err("it was fenced off").kind(), ErrorKind::Fenced);
    let again = process(&disk, 3).1.start(StartFrom::Latest).expect("started");
    assert_eq!(check_restores(again.restore_from.as_ref().expect("one")), CheckpointId(1));
}

/// A process that is stopped, taken for dead and replaced fails when it goes on; its restart took the job back.
#[test]
fn a_restart_does_not_take_the_job_from_another_process() {
    let disk = MemoryFs::default();
    let first = process(&disk, 1).1;
    take(
        &first.start(StartFrom::Latest).expect("started").owner,
        CheckpointId(1),
        CheckpointKind::Checkpoint,
    )
    .expect("complete");
    let again = first.start(StartFrom::Latest).expect("its own restart");
    assert_eq!(again.owner.generation(), Generation(2));
    let second = process(&disk, 2).1;
    let started = second.start(StartFrom::Latest).expect("the first start of a process takes the job");
    let error = first.clone().start(StartFrom::Latest).expect_err("it was fenced off");
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("belongs to generation 3"), "{error}");
    take(&started.owner, started.next_checkpoint_id, CheckpointKind::Checkpoint)
        .expect("nobody has taken it");
    assert_eq!(second.start(StartFrom::Latest).expect("its own").owner.generation(), Generation(4));
}

/// All orders of `n_zero` zeros and `n_one` ones.
fn orders(n_zero: usize, n_one: usize) -> Vec<Vec<usize>> {
    if n_zero == 0 || n_one == 0 {
        return vec![[vec![0; n_zero], vec![1; n_one]].concat()];
    }
    let mut all = Vec::new();
    for (first, zeros, ones) in [(0, n_zero - 1, n_one), (1, n_zero, n_one - 1)] {
        for mut rest in orders(zeros, ones) {
            rest.insert(0, first);
            all.push(rest);
        }
    }
    all
}

#[test]
fn a_zombie_cannot_complete_a_checkpoint() {
    let disk = MemoryFs::default();
    let (old, manifest) = old_owner(&disk);
    let new = process(&disk, 2).1.start(StartFrom::Latest).expect("started");
    assert_eq!(check_restores(new.restore_from.as_ref().expect("one")), CheckpointId(1));
    take(&new.owner, new.next_checkpoint_id, CheckpointKind::Checkpoint).expect("complete");
    let error = old.complete(&manifest).expect_err("it was fenced off");
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(error.to_string(), format!("job {JOB} belongs to generation 2, this is generation 1"));
    for error in [
        old.subsume(&[CheckpointId(1)], &[]),
        old.collect_garbage().map(|_| ()),
        old.end(false, None).map(|_| ()),
    ] {
        assert_eq!(error.expect_err("it was fenced off").kind(), ErrorKind::Fenced);
    }
    // What it can still do is to write and delete files of its own.
    old.discard(new.next_checkpoint_id, CheckpointKind::Checkpoint).expect("nothing of its own there");
    let latest = process(&disk, 3).1.latest().expect("readable").expect("one");
    assert_eq!(check_restores(&latest), new.next_checkpoint_id);
}

#[test]
fn a_manifest_that_a_zombie_has_written_late_is_void_for_ever() {
    let disk = MemoryFs::default();
    let (old, manifest) = old_owner(&disk);
    let new = process(&disk, 2).1.start(StartFrom::Latest).expect("started");
    assert_eq!(check_restores(new.restore_from.as_ref().expect("one")), CheckpointId(1));
    // Its look before has passed long ago, only the write was late.
    let path = format!("{}/{MANIFEST_NAME}", old.storage.dir(CheckpointId(2)));
    old.storage.checkpoints.put_if_absent(&path, &manifest.encode()).expect("written");
    for seed in 3..6 {
        let started = process(&disk, seed).1.start(StartFrom::Latest).expect("started");
        assert_eq!(check_restores(started.restore_from.as_ref().expect("one")), CheckpointId(1));
        assert_eq!(started.retained, [CheckpointId(1)]);
        started.owner.collect_garbage().expect("collected");
    }
    assert!(!files(&disk).iter().any(|file| file.contains("chk-2")), "it is garbage");
}

#[test]
fn numbers_of_a_zombie_and_of_the_new_owner_may_meet() {
    let disk = MemoryFs::default();
    let (old, _) = old_owner(&disk);
    let new = process(&disk, 2).1.start(StartFrom::Latest).expect("started");
    let id = new.next_checkpoint_id;
    // The zombie is at the same number: both write, it completes nothing, and its clean-up takes only its own.
    let of_zombie = write_parts(&old, id, CheckpointKind::Checkpoint).expect("written");
    let request = write_parts(&new.owner, id, CheckpointKind::Checkpoint).expect("written");
    old.complete(&manifest(&old, &of_zombie)).expect_err("fenced");
    old.discard(id, CheckpointKind::Checkpoint).expect("its own");
    new.owner.collect_garbage().expect("collected");
    new.owner.complete(&manifest(&new.owner, &request)).expect("complete");
    let latest = process(&disk, 3).1.latest().expect("readable").expect("one");
    assert_eq!(check_restores(&latest), id);
}

#[test]
fn an_old_owner_completes_or_is_fenced_in_every_order_with_a_new_one() {
    // More turns than either takes.
    let all = orders(3, 10);
    assert_eq!(all.len(), 286);
    let (mut n_completed, mut n_fenced) = (0, 0);
    for order in all {
        let (disk, completed, started) = interleave(1, order.clone());
        assert!(started.iter().all(Result::is_ok), "{order:?}");
        if completed.is_ok() {
            n_completed += 1
        } else {
            n_fenced += 1
        }
        check(&order, &disk, &completed, started);
    }
    assert!(n_completed > 0 && n_fenced > 0, "{n_completed} completed, {n_fenced} fenced");
}

#[test]
fn two_that_start_at_once_agree_on_one_past_in_random_orders() {
    let mut rng = SimRng::new(4);
    let mut n_fenced_starts = 0;
    for _ in 0..1_000 {
        let order: Vec<_> = (0..30).map(|_| rng.below(3) as usize).collect();
        let (disk, completed, started) = interleave(2, order.clone());
        for error in started.iter().filter_map(|started| started.as_ref().err()) {
            assert_eq!(error.kind(), ErrorKind::Fenced, "{order:?}: {}", error.report());
            n_fenced_starts += 1;
        }
        assert!(started.iter().any(Result::is_ok), "nobody runs: {order:?}");
        check(&order, &disk, &completed, started);
    }
    assert!(n_fenced_starts > 0, "the orders were tame");
}
