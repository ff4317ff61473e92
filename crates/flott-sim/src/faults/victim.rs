//! The same job in the real world: a process to be killed, and a reader of what it has committed.

use super::expected::Row;
use super::plan::{Job, Shape, SinkKind};
use super::program::{Launch, build};
use super::store::Store;
use super::world::{OUT, World};
use flott_env::Env;
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often a reader looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The job that is killed; it takes some seconds when it is left alone.
fn job(records: u64) -> Job {
    Job {
        splits: 3,
        records,
        second: Some(records / 4),
        chunk: 5,
        pause_ms: 6,
        keys: 7,
        pace_ms: 4,
        disorder_ms: 20,
        shape: Shape::Tumbling { size_ms: 100 },
        sink: SinkKind::Files,
        interval_ms: 20,
        retained: 2,
        tolerable: 3,
        ..Job::small()
    }
}

/// Runs the job below `dir` to its end.
///
/// # Errors
/// Why it has failed.
pub fn run_victim(dir: &str, records: u64) -> Result<(), String> {
    let env = Env::real().map_err(|error| error.to_string())?;
    let job = Arc::new(job(records));
    // Nothing goes wrong in here: that is up to whoever has started the process.
    let world = World::new(&[]);
    let store = Store::new(&world, &job);
    let launch = Launch { parallelism: job.parallelism, recovery_path: None, base: dir.to_owned() };
    let program = build(&job, &world, &store, env, &launch);
    program.execute("victim").map(|_| ()).map_err(|error| error.report())
}

/// What a reader has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    /// How often it has looked.
    pub n_looks: u64,
    /// Rows at the end.
    pub n_rows: usize,
    /// Rows that there are at the end of the job.
    pub n_expected: usize,
}

/// Reads what is committed below `dir` again and again, until there is a file `stop`: no row may be there twice, be none that the job
/// makes, or go away again; then all must be there.
///
/// # Errors
/// What is wrong.
pub fn watch_victim(dir: &str, records: u64) -> Result<Readings, String> {
    let env = Env::real().map_err(|error| error.to_string())?;
    let expected = job(records).expected();
    let mut readings = Readings { n_expected: expected.len(), ..Readings::default() };
    let mut before = BTreeSet::new();
    loop {
        // Looked for first: what was committed before it was made is seen.
        let is_last = env.fs().metadata(&Path::new(dir).join("stop")).is_ok();
        let rows = visible(&env, dir).map_err(|error| format!("cannot read the output: {error}"))?;
        let mut seen = BTreeSet::new();
        for row in rows {
            if !expected.contains_key(&row) {
                return Err(format!("{row:?} is wrong"));
            }
            if !seen.insert(row.clone()) {
                return Err(format!("{row:?} is there twice"));
            }
        }
        if let Some(gone) = before.difference(&seen).next() {
            return Err(format!("{gone:?} was there and has gone"));
        }
        readings.n_looks += 1;
        readings.n_rows = seen.len();
        before = seen;
        if is_last {
            break;
        }
        let pause = env.sleep(LOOK_INTERVAL);
        env.block_on(pause);
    }
    match expected.keys().find(|row| !before.contains(row)) {
        Some(missing) => {
            Err(format!("{} of {} rows are there; missing is {missing:?}", before.len(), expected.len()))
        }
        None => Ok(readings),
    }
}

fn visible(env: &Env, dir: &str) -> io::Result<Vec<Row>> {
    let fs = env.fs();
    let listed = match fs.list(Path::new(&(dir.to_owned() + OUT))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut rows = Vec::new();
    for path in listed {
        if path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        let mut bytes = Vec::new();
        fs.open(&path)?.read_to_end(&mut bytes)?;
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            rows.push(serde_json::from_slice(line).map_err(io::Error::other)?);
        }
    }
    Ok(rows)
}
