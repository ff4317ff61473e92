//! One plan: as many lives as it takes, with checks all the time and at the end.

use super::cut::{
    begins_anew, checkpoints, ended, fits, is_reported, newest_savepoint, read_cut, read_cut_at,
};
use super::expected::{Expected, Row};
use super::plan::{FaultPlan, Job, Phase, SinkKind};
use super::program::{Launch, build};
use super::still::Still;
use super::store::{Store, compare};
use super::world::{OUT, Request, World};
use crate::check::Failure;
use crate::record::mix;
use flott_coordinator::JobStatus;
use flott_datastream::{AtStop, JobClient, JobExecutionResult};
use flott_env::sim::Simulation;
use flott_types::{CheckpointId, ErrorKind, Result};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// More lives than faults explain.
const LIVES_MAX: u64 = 60;
/// A checkpoint that has so much time has enough.
const ENOUGH_MS: u64 = 2_000;
/// A life that takes more steps than this spins.
const STEPS_MAX: u64 = 300_000;

/// What a plan that came out right was worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultTrial {
    /// Faults that came: where, and of which kind.
    pub fired: Vec<(Phase, &'static str)>,
    /// Events.
    pub n_events: u64,
    /// Processes.
    pub n_lives: u64,
    /// Restarts inside of processes.
    pub n_restarts: u64,
    /// Of these, of a region only.
    pub n_region_restarts: u64,
    /// Commits that were compared with a durable checkpoint.
    pub n_cuts: u64,
    /// Processes that died when the job had recorded its end, and nobody had heard of it.
    pub n_unreported: u64,
    /// Complete checkpoints, at least.
    pub n_checkpoints: u64,
    /// Savepoints that somebody got.
    pub n_savepoints: u64,
    /// Commits with a checkpoint that has records in flight.
    pub n_in_flight: u64,
    /// Processes that have begun with a snapshot, read nothing, and left a snapshot that is the same.
    pub n_still: u64,
    /// Checkpoints whose state was compared with a replay, and entries in it.
    pub n_states: (u64, u64),
    /// Processes that began with records in flight.
    pub n_replays: u64,
    /// Of these, those with another number of subtasks.
    pub n_rescaled_replays: u64,
    /// Commits with a checkpoint that goes on from earlier ones.
    pub n_increments: u64,
    /// Processes that began with one.
    pub n_layered: u64,
    /// Equal for equal runs.
    pub fingerprint: u64,
    /// The phases of all events, if they were recorded.
    pub events: Vec<Phase>,
}

/// How a life ended.
enum End {
    Died,
    Finished(Box<JobExecutionResult>),
    /// Somebody has stopped it; perhaps with a savepoint.
    Stopped(Option<String>),
    Failed(flott_types::Error),
}

/// Runs `plan` to its end and checks it. With `recorded` the trial has the list of events.
///
/// # Errors
/// What is wrong.
pub fn try_faults(plan: &FaultPlan, recorded: bool) -> std::result::Result<FaultTrial, Failure> {
    let run = || {
        let mut run = Run::new(plan, recorded);
        run.run(plan).map_err(|failure| match failure {
            Failure::Wrong { operator, what } => {
                Failure::Wrong { operator, what: format!("{what}\n  processes: {}", run.story.join("; ")) }
            }
            Failure::Job(what) => Failure::Job(format!("{what}\n  processes: {}", run.story.join("; "))),
            other => other,
        })
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Err(Failure::Panicked(text.unwrap_or_else(|| "without a message".to_owned())))
    })
}

struct Run {
    job: Arc<Job>,
    world: World,
    store: Store,
    expected: Arc<Expected>,
    launch: Launch,
    trial: FaultTrial,
    /// What was asked of the job in this life.
    asked: Option<Request>,
    /// The checkpoints up to here are of histories that the job has gone back from.
    left_behind: CheckpointId,
    /// Whether the next life begins with what it is told, because the job was stopped.
    is_told: bool,
    /// Whether the next life has another number of subtasks.
    is_rescaled: bool,
    /// How each life ended, for people.
    story: Vec<String>,
    /// Whether the plan is a random one.
    is_swarm: bool,
}

impl End {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Died => "death",
            Self::Finished(_) => "end",
            Self::Stopped(_) => "stop",
            Self::Failed(_) => "failure",
        }
    }
}

fn wrong(what: String) -> Failure {
    Failure::Wrong { operator: "the committed output".to_owned(), what }
}

impl Run {
    fn new(plan: &FaultPlan, recorded: bool) -> Self {
        let job = Arc::new(plan.job.clone());
        let expected = Arc::new(job.expected());
        let (of, rows) = (Arc::clone(&job), Arc::clone(&expected));
        let mut world = World::new(&plan.faults);
        if job.sink == SinkKind::Files {
            world = world.with_reader(move |world| read_files(world, &of, &rows));
        }
        if recorded {
            world.record();
        }
        let store = Store::new(&world, &job);
        let launch = Launch { parallelism: job.parallelism, recovery_path: None, base: String::new() };
        Self {
            job,
            world,
            store,
            expected,
            launch,
            trial: FaultTrial::default(),
            asked: None,
            left_behind: CheckpointId(0),
            is_told: false,
            is_rescaled: false,
            story: Vec::new(),
            is_swarm: plan.seed != 0,
        }
    }

    fn run(&mut self, plan: &FaultPlan) -> std::result::Result<FaultTrial, Failure> {
        loop {
            if self.trial.n_lives >= LIVES_MAX {
                return Err(Failure::Job(format!("no end after {LIVES_MAX} processes")));
            }
            let asked_before = self.asked;
            let fired_before = self.world.fired().len();
            let end = self.live(mix(plan.schedule, self.trial.n_lives))?;
            self.trial.n_lives += 1;
            self.story.push(format!(
                "{} of {:?} after event {}",
                end.kind(),
                self.launch,
                self.world.n_events()
            ));
            self.world.bury();
            if let Some(what) = self.world.violations().first() {
                return Err(wrong(what.clone()));
            }
            let goes_on = match end {
                End::Finished(result) if result.is_recorded => {
                    // What was asked of the job was asked of the process that died behind its end.
                    self.asked = asked_before;
                    self.trial.n_unreported += 1;
                    match (result.status, result.savepoint) {
                        // Somebody had heard of it, but that could not be recorded: the same command once more.
                        (JobStatus::Canceled, _) | (_, Some(_)) if self.asked.is_none() => true,
                        (JobStatus::Canceled, _) => self.resume(None)?,
                        (_, Some(path)) => self.resume(Some(path))?,
                        (_, None) => false,
                    }
                }
                End::Finished(result) => {
                    self.check_restarts(result.restarts)?;
                    self.trial.n_restarts += u64::from(result.restarts);
                    self.trial.n_region_restarts += result.counts.region_restarts;
                    false
                }
                End::Stopped(path) => self.resume(path)?,
                End::Died => self.rise(asked_before)?,
                End::Failed(error) => {
                    let has_cause = self.world.fired().len() > fired_before;
                    if !has_cause || error.kind() == ErrorKind::Corruption {
                        return Err(Failure::Job(error.report()));
                    }
                    true
                }
            };
            if !goes_on {
                break;
            }
        }
        self.check_end()?;
        Ok(self.trial.clone())
    }

    /// Nothing fails by itself: a checkpoint that nothing holds up is complete in time.
    fn check_restarts(&self, restarts: u32) -> std::result::Result<(), Failure> {
        if restarts > 0 && self.world.fired().is_empty() && self.job.timeout_ms >= ENOUGH_MS {
            return Err(Failure::Job(format!("{restarts} restarts, and nothing has failed")));
        }
        Ok(())
    }

    /// One process, from its start to its end.
    fn live(&mut self, seed: u64) -> std::result::Result<End, Failure> {
        let simulation = Simulation::new(seed).with_steps_max(STEPS_MAX);
        let env = self.world.env(&simulation);
        self.note_replay(mix(seed, 2));
        let program = build(&self.job, &self.world, &self.store, env, &self.launch);
        let client = match program.execute_async("faults") {
            Ok(client) => client,
            Err(error) => return Ok(End::Failed(error)),
        };
        let (job, world, store, launch) =
            (Arc::clone(&self.job), self.world.clone(), self.store.clone(), self.launch.clone());
        let again = simulation.clone();
        let successor: StartAgain =
            Box::new(move || build(&job, &world, &store, world.env(&again), &launch).execute_async("faults"));
        let driven = simulation.run(drive(client, self.world.clone(), successor));
        let (end, asked) = driven.map_err(Failure::Stuck)?;
        self.asked = asked;
        self.trial.fingerprint = mix(self.trial.fingerprint, simulation.trace_hash());
        Ok(end)
    }

    /// Whether the process that is about to begin has records in flight to go on with.
    fn note_replay(&mut self, seed: u64) {
        let disk = &self.world.disk;
        let newest = match &self.launch.recovery_path {
            // Named once more after a crash, but the job has come further.
            Some(path) if self.is_told || checkpoints(disk).is_empty() => {
                read_cut_at(disk, path, &self.job).ok().map(|cut| (cut, path.clone()))
            }
            Some(_) | None => {
                let newest = read_cut(disk, &self.job).ok().flatten();
                newest.zip(checkpoints(disk).pop()).map(|(cut, (_, path))| (cut, path))
            }
        };
        if let Some((cut, path)) = newest {
            if let Err(what) = self.world.compare_state(&self.job, &cut) {
                self.world.violation(format!("a process begins with checkpoint {}: {what}", cut.id));
            }
            let Self { job, world, store, launch, .. } = self;
            // A sweep has very many processes that begin with the same few snapshots.
            let still = Still { job, world, store, launch };
            let checked = if self.is_swarm { still.check(&cut, &path, seed) } else { Ok(false) };
            match checked {
                Ok(is_compared) => self.trial.n_still += u64::from(is_compared),
                Err(what) => self.world.violation(what),
            }
            let is_replay = cut.flight.n_subtasks > 0;
            self.trial.n_replays += u64::from(is_replay);
            self.trial.n_rescaled_replays += u64::from(is_replay && self.is_rescaled);
            self.trial.n_layered += u64::from(cut.goes_on);
        }
        (self.is_told, self.is_rescaled) = (false, false);
    }

    /// After a death: whether the job goes on, and from what.
    fn rise(&mut self, asked_before: Option<Request>) -> std::result::Result<bool, Failure> {
        if begins_anew(&self.world) {
            // Nobody wants that: it had ended.
            return Ok(false);
        }
        let ended = ended(&self.world.disk).map_err(|error| Failure::Job(error.report()))?;
        let Some((start, is_canceled)) = ended.filter(|(start, _)| Some(*start) > self.world.known_end())
        else {
            return Ok(true);
        };
        // By this process, or by one before it that died without having said how the job ended.
        self.asked = self.asked.or(asked_before);
        if !is_reported(&self.world.disk, start) {
            // Whoever starts it again is told of its end.
            return Ok(true);
        }
        // It has ended and was about to say so. That it begins anew when it is started again is the user's order from here on.
        self.world.hear_of_end(Some(start));
        // What was asked for may have come too late.
        let is_stopped = is_canceled || matches!(self.asked, Some(Request::Rescale(_)));
        if is_stopped && self.asked.is_some() { self.resume(None) } else { Ok(false) }
    }

    /// After a stop: from which snapshot the job is started again.
    fn resume(&mut self, path: Option<String>) -> std::result::Result<bool, Failure> {
        let disk = &self.world.disk;
        self.trial.n_savepoints += u64::from(path.is_some());
        let failed = |error: flott_types::Error| Failure::Job(error.report());
        let retained = checkpoints(disk);
        let newest = retained.last().map_or(CheckpointId(0), |(id, _)| *id);
        // What the destination has is not what those of before say, once the job has gone on from something else.
        let is_of_this_history = |(id, path): &(CheckpointId, String)| {
            *id > self.left_behind || Some(path) == self.launch.recovery_path.as_ref()
        };
        let retained: Vec<_> = retained.into_iter().filter(is_of_this_history).collect();
        self.world.hear_of_end(ended(disk).map_err(failed)?.map(|(start, _)| start));
        // It is done with this, whatever becomes of the next.
        match self.asked.take() {
            Some(Request::Rescale(parallelism)) => {
                // The name of the savepoint, if nobody was told.
                if let Some(path) = path.or_else(|| newest_savepoint(disk, &self.job)) {
                    let is_final = read_cut_at(disk, &path, &self.job).is_err();
                    assert!(!is_final, "the savepoint that the job stopped with can be read");
                    self.left_behind = newest;
                    self.launch = Launch { parallelism, recovery_path: Some(path), base: String::new() };
                }
            }
            Some(Request::Older) if self.job.sink == SinkKind::Store => {
                if let Some((_, path)) = retained.first() {
                    self.left_behind = newest;
                    let cut = read_cut_at(disk, path, &self.job).map_err(failed)?;
                    self.store.take_back(&cut);
                    self.launch.recovery_path = Some(path.clone());
                }
                // With none it goes on from what this one was started from, as the same command does.
            }
            Some(Request::Cancel | Request::Older) => {
                if let Some((_, path)) = retained.last() {
                    self.left_behind = newest;
                    self.launch.recovery_path = Some(path.clone());
                }
            }
            Some(Request::Resume(parallelism)) => {
                if let Some((_, path)) = retained.last() {
                    self.left_behind = newest;
                    if fits(disk, path, parallelism) {
                        self.is_rescaled = parallelism != self.launch.parallelism;
                        self.launch.parallelism = parallelism;
                    }
                    self.launch.recovery_path = Some(path.clone());
                }
            }
            Some(Request::Savepoint | Request::Successor) | None => return Ok(false),
        }
        self.is_told = true;
        Ok(true)
    }

    fn check_end(&mut self) -> std::result::Result<(), Failure> {
        let mut rows = match self.job.sink {
            SinkKind::Store => self.store.committed(),
            SinkKind::Files => visible_rows(&self.world.disk.files()).map_err(wrong)?,
        };
        rows.sort();
        if self.job.at_least_once {
            rows.dedup();
        }
        if !rows.iter().eq(self.expected.keys()) {
            let mut once = rows.clone();
            once.dedup();
            let missing = self.expected.keys().filter(|row| once.binary_search(row).is_err());
            let extra = once.iter().filter(|row| !self.expected.contains_key(row));
            return Err(wrong(format!(
                "at the end: {} rows instead of {}, {} twice, missing {:?}, wrong {:?}",
                rows.len(),
                self.expected.len(),
                rows.len() - once.len(),
                missing.take(3).collect::<Vec<_>>(),
                extra.take(3).collect::<Vec<_>>()
            )));
        }
        self.trial.fired = self.world.fired();
        self.trial.n_events = self.world.n_events();
        self.trial.n_cuts = self.store.n_checked().0;
        self.trial.n_in_flight = self.store.n_in_flight();
        self.trial.n_increments = self.store.n_increments();
        self.trial.n_states = self.world.n_states();
        self.trial.n_checkpoints = self.store.n_checked().1;
        self.trial.events = self.world.recorded();
        Ok(())
    }
}

/// The rows in files that have their names.
fn visible_rows(files: &BTreeMap<PathBuf, Vec<u8>>) -> std::result::Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (path, bytes) in files {
        let is_hidden = path.components().any(|part| part.as_os_str().to_string_lossy().starts_with('.'));
        if !path.starts_with(Path::new(OUT)) || is_hidden {
            continue;
        }
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let row = serde_json::from_slice(line);
            rows.push(row.map_err(|error| format!("{} has a torn line: {error}", path.display()))?);
        }
    }
    Ok(rows)
}

/// What a reader sees must be in a durable checkpoint.
fn read_files(world: &World, job: &Job, expected: &Expected) {
    let seen = || -> std::result::Result<(), String> {
        let rows = visible_rows(&world.disk.files())?;
        if rows.is_empty() || begins_anew(world) {
            return Ok(());
        }
        let cut = read_cut(&world.disk, job).map_err(|error| error.report())?;
        let cut = cut.ok_or_else(|| "there is output and no durable checkpoint".to_owned())?;
        world.compare_state(job, &cut)?;
        let rows: Vec<&Row> = rows.iter().collect();
        // What is not visible yet may still be committed: only what is there is compared.
        match compare(job, expected, &cut, &rows) {
            Err(what) if what.contains("is missing") => Ok(()),
            compared => compared,
        }
    };
    if let Err(what) = seen() {
        world.violation(format!("a reader: {what}"));
    }
}

/// The end of a job.
type ResultFuture = Pin<Box<dyn Future<Output = Result<JobExecutionResult>> + Send>>;
/// Starts the job a second time.
type StartAgain = Box<dyn Fn() -> Result<JobClient> + Send>;
type SavepointFuture = Pin<Box<dyn Future<Output = Result<String>> + Send>>;

/// Waits for the end of a life, and does meanwhile what is asked for.
async fn drive(client: JobClient, world: World, successor: StartAgain) -> (End, Option<Request>) {
    let (mut handle, mut canceler) = (client.savepoints(), client.canceler());
    // Jobs that somebody has taken for dead.
    let mut zombies: Vec<ResultFuture> = Vec::new();
    let mut result: ResultFuture = Box::pin(client.result());
    let mut savepoint: Option<SavepointFuture> = None;
    let (mut asked, mut stopped_with, mut is_stopped) = (None, None, false);
    std::future::poll_fn(move |cx| {
        loop {
            match world.poll_driver(cx) {
                Poll::Ready(Err(())) => return Poll::Ready((End::Died, asked)),
                // One thing at a time, as people do.
                Poll::Ready(Ok(_)) if asked.is_some() || savepoint.is_some() => {}
                Poll::Ready(Ok(Request::Successor)) => match successor() {
                    Ok(client) => {
                        (handle, canceler) = (client.savepoints(), client.canceler());
                        zombies.push(std::mem::replace(&mut result, Box::pin(client.result())));
                    }
                    Err(error) => return Poll::Ready((End::Failed(error), asked)),
                },
                Poll::Ready(Ok(request)) => {
                    let (handle, canceler) = (handle.clone(), canceler.clone());
                    savepoint = match request {
                        Request::Cancel | Request::Older | Request::Resume(_) => {
                            asked = Some(request);
                            is_stopped = canceler.try_cancel();
                            None
                        }
                        Request::Rescale(_) => {
                            asked = Some(request);
                            Some(Box::pin(
                                async move { handle.stop_with_savepoint(None, AtStop::Suspend).await },
                            ))
                        }
                        Request::Savepoint | Request::Successor => {
                            Some(Box::pin(async move { handle.trigger_savepoint(None).await }))
                        }
                    };
                }
                Poll::Pending => break,
            }
        }
        if let Some(taking) = &mut savepoint
            && let Poll::Ready(taken) = taking.as_mut().poll(cx)
        {
            savepoint = None;
            match (taken, asked) {
                (Ok(path), Some(Request::Rescale(_))) => stopped_with = Some(path),
                (Err(_), Some(Request::Rescale(_))) => asked = None,
                (Ok(_) | Err(_), _) => {}
            }
        }
        // A zombie fails, as it is fenced off; or it has finished before its successor took over, which then begins anew or, if it looked
        // in time, has nothing left to do. That is the operator's mistake, as nobody starts a job that has ended.
        let mut has_finished = None;
        zombies.retain_mut(|zombie| match zombie.as_mut().poll(cx) {
            // It was told that somebody has cancelled its successor, which says so itself.
            Poll::Ready(Ok(result)) if result.status == JobStatus::Canceled => false,
            Poll::Ready(Ok(result)) => {
                has_finished = Some(result);
                false
            }
            Poll::Ready(Err(_)) => false,
            Poll::Pending => true,
        });
        if let Some(result) = has_finished {
            return Poll::Ready((End::Finished(Box::new(result)), None));
        }
        let Poll::Ready(result) = result.as_mut().poll(cx) else { return Poll::Pending };
        let end = match result {
            Err(error) => End::Failed(error),
            Ok(result) if result.is_recorded => End::Finished(Box::new(result)),
            Ok(result) if result.status == JobStatus::Canceled => {
                assert!(is_stopped, "nobody has cancelled the job");
                End::Stopped(None)
            }
            Ok(_) if stopped_with.is_some() => End::Stopped(stopped_with.take()),
            Ok(result) => End::Finished(Box::new(result)),
        };
        // What was asked for, and has not been done before the job ended by itself, is not done.
        let asked = if matches!(end, End::Finished(_)) { None } else { asked };
        Poll::Ready((end, asked))
    })
    .await
}
