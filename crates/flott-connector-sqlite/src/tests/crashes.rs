use super::{Row, count, database, records, rows, sink, start};
use crate::SqliteSink;
use flott_testkit::sink_steps::SinkJob;
use std::path::Path;

const TOTAL: u64 = 3;

/// What a reader of committed rows reads, and whether rows may be there that a restart would take back.
#[derive(Clone, Copy, Debug)]
struct Promise {
    committed: &'static str,
    is_exact: bool,
}

fn look(path: &Path, promise: Promise, job: &SinkJob) {
    let (committed, covered) = (rows(path, promise.committed), records(job.covered()));
    if promise.is_exact {
        assert_eq!(committed, covered, "{job:?}");
    } else {
        assert!(covered.iter().all(|row| committed.contains(row)), "{job:?}");
    }
}

/// Runs a job that dies at these steps; returns how many steps it has.
fn run(make: &impl Fn(&Path) -> SqliteSink<Row>, promise: Promise, deaths: &[u64]) -> u64 {
    let (_directory, path) = database();
    let (sink, mut job) = (make(&path), SinkJob::new(TOTAL, deaths));
    for parallelism in [2, 3, 1, 2] {
        job.runs += 1;
        let started = start(&sink, parallelism, job.runs, job.completed.as_ref());
        let ended = started.and_then(|mut attempt| job.run(&mut attempt, |job| look(&path, promise, job)));
        if ended.is_ok() {
            assert_eq!(rows(&path, "results"), records(TOTAL), "deaths at {deaths:?}");
            assert_eq!(count(&path, "flott_batches"), 0);
            return job.steps;
        }
    }
    panic!("the job does not end");
}

fn check(make: impl Fn(&Path) -> SqliteSink<Row>, promise: Promise) {
    let n_steps = run(&make, promise, &[]);
    assert!(n_steps > 12);
    for first in 0..n_steps {
        for second in [first + 1, first + 2, first + 5] {
            run(&make, promise, &[first, second]);
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
