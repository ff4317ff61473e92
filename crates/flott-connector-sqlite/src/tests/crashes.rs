use super::{Attempt, Checkpoint, Row, count, database, records, rows, sink};
use crate::SqliteSink;
use flott_api::UserResult;
use std::path::{Path, PathBuf};

const TOTAL: i64 = 3;

/// What a reader of committed rows reads, and whether rows may be there that a restart would take back.
#[derive(Clone, Copy, Debug)]
struct Promise {
    committed: &'static str,
    is_exact: bool,
}

struct Job {
    sink: SqliteSink<Row>,
    path: PathBuf,
    promise: Promise,
    completed: Option<Checkpoint>,
    next_id: u64,
    runs: u64,
    steps: u64,
    deaths: Vec<u64>,
}

impl Job {
    fn new(sink: SqliteSink<Row>, path: &Path, promise: Promise, deaths: &[u64]) -> Self {
        let (path, deaths) = (path.to_owned(), deaths.to_vec());
        Self { sink, path, promise, completed: None, next_id: 1, runs: 0, steps: 0, deaths }
    }

    fn step(&mut self) -> UserResult {
        self.steps += 1;
        if self.deaths.contains(&(self.steps - 1)) { Err("died".into()) } else { Ok(()) }
    }

    fn attempt(&mut self, parallelism: u32) -> UserResult {
        self.runs += 1;
        let mut attempt = Attempt::start(&self.sink, parallelism, self.runs, self.completed.as_ref())?;
        self.check();
        loop {
            self.step()?;
            let is_final = attempt.chunks >= TOTAL;
            if is_final {
                attempt.finish()?
            } else {
                attempt.write()?
            }
            self.step()?;
            let checkpoint = attempt.barrier(self.next_id, is_final)?;
            self.next_id += 1;
            self.step()?;
            // Every third is aborted.
            if self.next_id.is_multiple_of(3) && !is_final {
                continue;
            }
            self.completed = Some(checkpoint);
            for idx in 0..attempt.subtasks.len() {
                self.step()?;
                attempt.subtasks[idx].commit()?;
            }
            self.check();
            if is_final {
                return Ok(());
            }
        }
    }

    fn check(&self) {
        let committed = rows(&self.path, self.promise.committed);
        let covered = records(self.completed.as_ref().map_or(0, |checkpoint| checkpoint.chunks));
        if self.promise.is_exact {
            assert_eq!(committed, covered, "after {:?}", self.completed);
        } else {
            assert!(covered.iter().all(|row| committed.contains(row)), "after {:?}", self.completed);
        }
    }

    fn run_to_end(&mut self) {
        for parallelism in [2, 3, 1, 2] {
            if self.attempt(parallelism).is_ok() {
                assert_eq!(rows(&self.path, "results"), records(TOTAL), "deaths at {:?}", self.deaths);
                assert_eq!(count(&self.path, "flott_batches"), 0);
                return;
            }
        }
        panic!("the job does not end");
    }
}

fn check(make: impl Fn(&Path) -> SqliteSink<Row>, promise: Promise) {
    let run = |deaths: &[u64]| {
        let (_directory, path) = database();
        let mut job = Job::new(make(&path), &path, promise, deaths);
        job.run_to_end();
        job.steps
    };
    let n_steps = run(&[]);
    assert!(n_steps > 12);
    for first in 0..n_steps {
        for second in [first + 1, first + 2, first + 5] {
            run(&[first, second]);
        }
    }
}

#[test]
fn transactional_rows_are_there_once_wherever_the_job_dies() {
    check(|path| sink(path).transactional(), Promise { committed: "results", is_exact: true });
}

#[test]
fn eager_rows_of_complete_checkpoints_are_there_once_wherever_the_job_dies() {
    check(|path| sink(path).eager(), Promise { committed: "results_committed", is_exact: true });
}

#[test]
fn upserted_rows_are_in_the_end_as_if_nothing_had_died() {
    check(|path| sink(path).upsert_by(["source", "n"]), Promise { committed: "results", is_exact: false });
}
