//! The process that is killed.

use super::point::{Point, Step};
use super::probe::Probe;
use super::probed_env::probed;
use super::probed_sink::{ProbedSink, SinkSteps};
use crate::faults::Job;
use crate::faults::expected::Row;
use crate::faults::program::{Launch, SINK, configuration, rows};
use crate::faults::world::{OUT, World};
use flott_api::Sink;
use flott_connector_file::FileSink;
use flott_connector_sqlite::{SqliteSink, SqliteValue};
use flott_coordinator::JobStatus;
use flott_datastream::{AtStop, DataStream, JobCanceler, JobHandle, StreamExecutionEnvironment};
use flott_env::{Env, TaskHandle};
use flott_types::{MemorySize, Result, StateBackendType, options};
use serde::{Deserialize, Serialize};
use std::io::BufRead;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The database below the directory of a job.
pub(crate) const DATABASE: &str = "/out.db";
/// Bytes of memory for the state of a subtask that is on disk: little, so that there are files.
const STATE_MEMORY: MemorySize = MemorySize(600);
/// Somebody who is stopped may hold the lock of the database. The job then fails and tries again.
const BUSY_TIMEOUT: Duration = Duration::from_millis(700);
/// Rows that others see before a checkpoint do so soon.
const FLUSH_INTERVAL: Duration = Duration::from_millis(5);

/// A process and its job, as text on its command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Victim {
    pub(crate) dir: String,
    pub(crate) job: Job,
    pub(crate) parallelism: u32,
    pub(crate) on_disk: bool,
    pub(crate) recovery_path: Option<String>,
    pub(crate) halt: Option<String>,
}

/// Columns of the tables but that of [`SqliteSink::upsert_by`]: one, so that a row that is there twice is seen.
pub(crate) fn row_text(row: &Row) -> String {
    serde_json::to_string(row).expect("a row has only numbers and lists")
}

/// Key and value of the table of [`SqliteSink::upsert_by`]: the last count of a key stays.
pub(crate) fn upserted(row: &Row) -> (String, String) {
    match row {
        Row::Record((split, number)) => (format!("record {split} {number}"), String::new()),
        Row::Group(key, start, records) => (format!("group {key} {start}"), format!("{records:?}")),
        Row::Count(key, count, sum) => (format!("count {key}"), format!("{count} {sum}")),
    }
}

/// Runs the job that `text` describes, as the harness says, to its end.
///
/// # Errors
/// Why it has failed.
pub fn run_victim(text: &str) -> std::result::Result<(), String> {
    let victim: Victim = serde_json::from_str(text).map_err(|error| format!("not a victim: {error}"))?;
    let halt: Option<Point> = victim.halt.as_deref().map(str::parse).transpose()?;
    let real = Env::real().map_err(|error| error.to_string())?;
    let probe = Probe::new(real.clone(), halt);
    let env = probed(&real, &probe, Path::new(&victim.dir));
    let commands = Commands { probe: probe.clone(), env: env.clone(), taking: Arc::default() };
    let ended = commands.run_job(&victim);
    match ended {
        Ok(status) => probe.say(match status {
            JobStatus::Canceled => "canceled",
            _ => "finished",
        }),
        Err(error) => {
            let report = error.report();
            probe.say(&format!("failed {:?} {report}", error.kind()));
            return Err(report);
        }
    }
    Ok(())
}

fn build(victim: &Victim, env: &Env, probe: &Probe) -> StreamExecutionEnvironment {
    let job = Arc::new(victim.job.clone());
    let launch = Launch {
        parallelism: victim.parallelism,
        recovery_path: victim.recovery_path.clone(),
        base: victim.dir.clone(),
    };
    let mut config = configuration(&job, &launch);
    let backend = if victim.on_disk { StateBackendType::Disk } else { StateBackendType::Hashmap };
    config.set_option(options::STATE_BACKEND, &backend);
    config.set_option(options::STATE_DISK_MEMORY, &STATE_MEMORY);
    config.set_option(options::STATE_LOCAL_DIR, &Some(format!("{}/state", victim.dir)));
    let program = StreamExecutionEnvironment::with_env(env.clone(), config);
    // Nothing goes wrong inside: that is up to the harness.
    let (world, barrier) = (World::new(&[]), probe.clone());
    let rows = rows(&job, &world, &program, Arc::new(move || barrier.take(Step::BARRIER, || ())));
    sinks(victim, &rows, probe);
    program
}

fn sinks(victim: &Victim, rows: &DataStream<Row>, probe: &Probe) {
    let files = FileSink::json(victim.dir.clone() + OUT);
    let steps = |prepare, commit, restore| SinkSteps { prepare, commit, restore };
    let files_steps = steps(Step::PREPARE_FILES, Some(Step::COMMIT_FILES), Step::RESTORE_FILES);
    attach(rows, files, probe, files_steps, SINK);
    let database = victim.dir.clone() + DATABASE;
    let table = |table: &str| {
        SqliteSink::with_row(&database, table, ["row"], |row: &Row| vec![SqliteValue::from(row_text(row))])
            .create_table(format!("CREATE TABLE IF NOT EXISTS {table}(row TEXT)"))
            .busy_timeout(BUSY_TIMEOUT)
            .buffer_flush_interval(FLUSH_INTERVAL)
    };
    let of_transactional =
        steps(Step::PREPARE_TRANSACTIONAL, Some(Step::COMMIT_TRANSACTIONAL), Step::RESTORE_TRANSACTIONAL);
    attach(rows, table("transactional").transactional(), probe, of_transactional, "transactional");
    let of_eager = steps(Step::PREPARE_EAGER, Some(Step::COMMIT_EAGER), Step::RESTORE_EAGER);
    attach(rows, table("eager").eager(), probe, of_eager, "eager");
    let upsert = SqliteSink::with_row(&database, "upsert", ["key", "value"], |row: &Row| {
        let (key, value) = upserted(row);
        vec![SqliteValue::from(key), SqliteValue::from(value)]
    });
    let upsert = upsert
        .create_table("CREATE TABLE IF NOT EXISTS upsert(key TEXT PRIMARY KEY, value TEXT)")
        .busy_timeout(BUSY_TIMEOUT)
        .buffer_flush_interval(FLUSH_INTERVAL)
        .upsert_by(["key"]);
    attach(rows, upsert, probe, steps(Step::PREPARE_UPSERT, None, Step::RESTORE_UPSERT), "upsert");
}

fn attach<S: Sink<Row>>(rows: &DataStream<Row>, sink: S, probe: &Probe, steps: SinkSteps, uid: &str) {
    rows.sink_to(ProbedSink { sink, probe: probe.clone(), steps }).uid(uid);
}

/// What the harness asks for on standard input.
#[derive(Clone)]
struct Commands {
    probe: Probe,
    env: Env,
    /// A savepoint that is being taken.
    taking: Arc<Mutex<Option<TaskHandle>>>,
}

impl Commands {
    fn run_job(&self, victim: &Victim) -> Result<JobStatus> {
        // Before the job, which may be halted while it starts.
        let job: Arc<Mutex<Option<(JobHandle, JobCanceler)>>> = Arc::default();
        let (commands, of_job) = (self.clone(), Arc::clone(&job));
        // It reads until the process ends, whatever becomes of the job.
        let _detached = self.env.spawn_subtask("commands", async move { commands.read(&of_job) });
        let client = build(victim, &self.env, &self.probe).execute_async("victim")?;
        *job.lock().unwrap_or_else(PoisonError::into_inner) = Some((client.savepoints(), client.canceler()));
        self.probe.say("started");
        let result = self.env.block_on(client.result())?;
        // Who has asked for a savepoint hears of it before the process ends.
        let taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(taking) = taking {
            self.env.block_on(async move { drop(taking.await) });
        }
        Ok(result.status)
    }

    fn read(&self, job: &Mutex<Option<(JobHandle, JobCanceler)>>) {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            let job = || job.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("go", _) => self.probe.open(),
                ("clock", ms) => self.probe.jump(ms.parse().unwrap_or_default()),
                ("savepoint", _) => self.take(job(), None),
                ("stop", _) => self.take(job(), Some(AtStop::Suspend)),
                ("cancel", _) => {
                    let _is_taken = job().is_some_and(|(_, canceler)| canceler.try_cancel());
                }
                _ => self.probe.say(&format!("unknown {line}")),
            }
        }
        // The harness has gone: nothing is left behind.
        std::process::exit(3);
    }

    /// Takes a savepoint, and with `stop` ends the job.
    fn take(&self, job: Option<(JobHandle, JobCanceler)>, stop: Option<AtStop>) {
        let Some((handle, _)) = job else {
            let what = if stop.is_some() { "stop" } else { "savepoint" };
            return self.probe.say(&format!("refused {what}: the job has not started"));
        };
        let probe = self.probe.clone();
        let taken = async move {
            let path = match stop {
                None => handle.trigger_savepoint(None).await,
                Some(at_stop) => handle.stop_with_savepoint(None, at_stop).await,
            };
            match (path, stop) {
                (Ok(path), None) => probe.say(&format!("savepoint {path}")),
                (Ok(path), Some(_)) => probe.say(&format!("stopped {path}")),
                (Err(error), None) => probe.say(&format!("refused savepoint: {error}")),
                (Err(error), Some(_)) => probe.say(&format!("refused stop: {error}")),
            }
        };
        let taking = self.env.spawn("savepoint", taken);
        *self.taking.lock().unwrap_or_else(PoisonError::into_inner) = Some(taking);
    }
}
