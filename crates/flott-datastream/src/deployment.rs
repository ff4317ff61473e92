//! From a program to what the master of its job starts and restarts.

use flott_api::SinkGeneration;
use flott_checkpoint::{
    CheckpointConfig, CheckpointOwner, CheckpointPlan, CheckpointStorage, LocalStore, Location, ObjectStore,
    PlannedOperator, PlannedSubtask, RestoreOptions, RestoreReport,
};
use flott_coordinator::{AttemptStart, CheckpointSetup, Deployer};
use flott_env::Env;
use flott_env::sim::MemoryFs;
use flott_env::sync::{mpsc, oneshot};
use flott_graph::{ExecutionGraph, SubtaskId, TaskCommand, TaskEvent, VertexId, pipelined_regions};
use flott_runtime::{
    AtEnd, AttemptCheckpoints, AttemptSpec, InFlight, JobSpec, OperatorMetrics, RestoredSnapshots,
    TaskManager, check_in_flight,
};
use flott_state::{IN_FLIGHT, SnapshotWriter};
use flott_types::{
    CheckpointStorageType, Configuration, Error, FailoverStrategy, JobId, RecoveryClaimMode, Result,
    SubtaskIndex, key_hash, options,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The counters of the attempt that runs.
#[derive(Clone, Default)]
pub(crate) struct SharedMetrics(Arc<Mutex<Arc<Vec<OperatorMetrics>>>>);

impl SharedMetrics {
    pub(crate) fn get(&self) -> Arc<Vec<OperatorMetrics>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those of a region that was started again begin anew, as all do when the whole job is.
    fn set(&self, mut metrics: Vec<OperatorMetrics>, region: Option<&BTreeSet<SubtaskId>>) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(region) = region {
            metrics.extend(shared.iter().filter(|it| !region.contains(&it.id)).cloned());
        }
        *shared = Arc::new(metrics);
    }
}

/// What became of the snapshot that the first attempt went on from.
#[derive(Clone, Default)]
pub(crate) struct SharedReport(Arc<OnceLock<RestoreReport>>);

impl SharedReport {
    pub(crate) fn get(&self) -> Option<RestoreReport> {
        self.0.get().cloned()
    }
}

/// Starts attempts in this process.
pub(crate) struct LocalDeployer {
    pub(crate) env: Env,
    pub(crate) spec: Arc<JobSpec>,
    /// `None` if the job takes no checkpoints.
    pub(crate) checkpoints: Option<CheckpointConfig>,
    /// How long after a failure the job starts again, at most.
    pub(crate) restart_delay: Duration,
    /// Whether generations of the job outlive this process: else they start again, and fence nobody.
    pub(crate) has_durable_checkpoints: bool,
    pub(crate) metrics: SharedMetrics,
    /// The last start of the whole job.
    pub(crate) execution: Mutex<Option<Execution>>,
    pub(crate) restored: SharedReport,
}

/// What subtasks have in common from one start of the whole job to the next.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    id: u64,
    /// The newest: it changes when a region is started again. What had the owner before is garbage to the new one.
    owner: Arc<Mutex<Option<CheckpointOwner>>>,
    generation: u64,
}

impl fmt::Debug for LocalDeployer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDeployer").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl LocalDeployer {
    /// What the subtasks to be started have in common with others.
    fn execution(&self, start: &AttemptStart, run_id: u64) -> Execution {
        let generation = start.owner.as_ref().map_or(0, |owner| owner.generation().0);
        let mut last = self.execution.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(execution), Some(_)) = (last.as_ref(), &start.region) {
            execution.owner.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&start.owner);
            return execution.clone();
        }
        let owner = Arc::new(Mutex::new(start.owner.clone()));
        last.insert(Execution { id: run_id, owner, generation }).clone()
    }

    fn attempt(&self, start: &AttemptStart) -> Result<AttemptSpec> {
        let mut attempt = AttemptSpec { number: start.number, ..AttemptSpec::first(self.env.random_u64()) };
        let execution = self.execution(start, attempt.run_id);
        attempt.execution_id = execution.id;
        if let (Some(owner), true) = (&start.owner, self.has_durable_checkpoints) {
            let subtask = owner.generation().0;
            let (history, job) = (start.history, execution.generation);
            attempt.generation = Some(SinkGeneration { history, job, subtask });
        }
        if let (Some(config), Some(_)) = (&self.checkpoints, &start.owner) {
            let owner = execution.owner;
            let has_last = config.interval.is_some() && config.after_tasks_finish;
            attempt.checkpoints = Some(AttemptCheckpoints {
                mode: config.mode,
                interval: config.interval.map(|interval| interval.max(config.min_pause)),
                restart_delay: self.restart_delay,
                timeout: config.timeout,
                unaligned_after: config.unaligned_after,
                at_end: if has_last { AtEnd::AwaitLastCheckpoint } else { AtEnd::Finish },
                begin_part: Arc::new(move |barrier, subtask| {
                    let owner = owner.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let owner = owner.ok_or_else(|| Error::subtask("the job takes no checkpoints"))?;
                    let part = owner.begin_part(barrier.id, barrier.kind, subtask)?;
                    Ok(part as Box<dyn SnapshotWriter>)
                }),
            });
        }
        if let Some(restored) = &start.restored {
            if start.number == 0 {
                self.restored.0.get_or_init(|| restored.report().clone());
            }
            let (mut snapshots, mut in_flight) = (BTreeMap::new(), InFlight::new());
            for vertex in &self.spec.job_graph.vertices {
                for node in &vertex.nodes {
                    let uid = self.spec.stream_graph.uid(*node);
                    for subtask in (0..vertex.parallelism).map(SubtaskIndex) {
                        let id = SubtaskId { vertex: vertex.id, subtask };
                        if start.region.as_ref().is_some_and(|region| !region.contains(&id)) {
                            continue;
                        }
                        if let Some(mut restored) = restored.subtask(&uid, subtask)? {
                            // It is not the operator's own: that would keep it as state that nobody has asked for yet.
                            if let Some(entries) = restored.snapshot.list.remove(IN_FLIGHT) {
                                in_flight.insert((uid.clone(), subtask), entries);
                            }
                            snapshots.insert((uid.clone(), subtask), restored.snapshot);
                        }
                    }
                }
            }
            check_in_flight(&self.spec, &in_flight)?;
            let checkpoint_id = Some(restored.checkpoint_id());
            attempt.restored = RestoredSnapshots { checkpoint_id, snapshots, in_flight };
        }
        Ok(attempt)
    }
}

impl Deployer for LocalDeployer {
    fn deploy(&self, start: AttemptStart) -> Result<BTreeMap<SubtaskId, mpsc::Sender<TaskCommand>>> {
        let attempt = Arc::new(self.attempt(&start)?);
        // What is not handed out to subtasks is not needed any more.
        drop(start.restored);
        let region = start.region.as_ref();
        let tasks = TaskManager::new(self.env.clone());
        let deployment = tasks.deploy(&self.spec, &attempt, &start.events, region)?;
        for (id, task) in deployment.tasks {
            // A subtask reports its own end; a panic in the engine's code is reported for it.
            let events = start.events.clone();
            self.env.spawn("task watcher", async move {
                if let Err(panic) = task.await {
                    let error = Error::subtask(format!("the task stopped: {}", panic.0));
                    drop(events.send(TaskEvent::Failed(id, error)).await);
                }
            });
        }
        self.metrics.set(deployment.metrics, region);
        Ok(deployment.mailboxes)
    }
}

/// What can be started again by itself: only with checkpoints up to the end of all input, as else what has finished has committed what a restart would
/// do again. Not in a job with a chain of sources: its readers switch together, and one that goes back would have splits of two of them.
pub(crate) fn failover_regions(
    config: &Configuration,
    checkpoints: Option<&CheckpointConfig>,
    spec: &JobSpec,
) -> Vec<BTreeSet<SubtaskId>> {
    let has_last =
        checkpoints.is_some_and(|settings| settings.interval.is_some() && settings.after_tasks_finish);
    match config.get(options::FAILOVER_STRATEGY) {
        FailoverStrategy::Region if has_last => pipelined_regions(&spec.job_graph),
        FailoverStrategy::Region | FailoverStrategy::Full => Vec::new(),
    }
}

/// Who takes part in the checkpoints of a program.
pub(crate) fn checkpoint_plan(env: &Env, spec: &JobSpec) -> CheckpointPlan {
    let execution_graph = ExecutionGraph::new(&spec.job_graph);
    let mut states = spec.state_types(env);
    let mut plan = CheckpointPlan::default();
    for vertex in &spec.job_graph.vertices {
        for subtask in (0..vertex.parallelism).map(SubtaskIndex) {
            let channels =
                (0..2).flat_map(|input| execution_graph.inputs(&spec.job_graph, vertex.id, subtask, input));
            let producer = |edge: usize| -> Option<VertexId> {
                let (edge, _) = spec.job_graph.edges.get(edge)?;
                spec.job_graph.vertex_of(edge.source).map(|vertex| vertex.id)
            };
            let inputs = channels.filter_map(|channel| {
                Some(SubtaskId { vertex: producer(channel.edge)?, subtask: channel.producer })
            });
            let id = SubtaskId { vertex: vertex.id, subtask };
            plan.subtasks.push(PlannedSubtask { id, inputs: inputs.collect() });
        }
        plan.operators.extend(vertex.nodes.iter().map(|node| PlannedOperator {
            uid: spec.stream_graph.uid(*node),
            name: spec.stream_graph.node(*node).name.clone(),
            vertex: vertex.id,
            parallelism: vertex.parallelism,
            max_parallelism: vertex.max_parallelism,
            states: states.remove(node),
        }));
    }
    plan
}

/// Where checkpoints are unless somebody says otherwise.
const CHECKPOINTING_DIR_DEFAULT: &str = "flott-checkpoints";

/// Where the savepoints of a job are.
#[derive(Clone, Debug, Default)]
pub(crate) struct SavepointRoot(pub(crate) Option<Location>);

/// How a job takes checkpoints and what it goes on from; `None` if neither was asked for.
pub(crate) fn checkpoint_setup(
    env: &Env,
    config: &Configuration,
    spec: &JobSpec,
) -> Result<Option<(CheckpointSetup, SavepointRoot)>> {
    let settings = CheckpointConfig::new(config)?;
    let path = |text: Option<String>| text.map(|text| Location::parse(&text)).transpose();
    let dir = checkpoint_dir(config)?;
    let savepoint_dir = path(config.get(options::CHECKPOINTING_SAVEPOINT_DIR))?;
    let recovery_path = path(config.get(options::STATE_RECOVERY_PATH))?;
    if settings.interval.is_none() && dir.is_none() && savepoint_dir.is_none() && recovery_path.is_none() {
        return Ok(None);
    }
    let savepoint_dir = savepoint_dir.or_else(|| dir.clone());
    let checkpoints = open_store(env, dir.as_ref())?;
    let savepoints = open_store(env, savepoint_dir.as_ref())?;
    if let Some(Location::Remote(_)) = &recovery_path {
        open_store(env, recovery_path.as_ref())?;
    }
    let setup = CheckpointSetup {
        config: settings,
        plan: checkpoint_plan(env, spec),
        storage: CheckpointStorage::new(env, checkpoints, savepoints, spec.job_id),
        recovery_path,
        claims: config.get(options::STATE_RECOVERY_CLAIM_MODE) == RecoveryClaimMode::Claim,
        restore_options: RestoreOptions {
            allow_non_restored_state: config.get(options::STATE_RECOVERY_IGNORE_UNCLAIMED),
        },
    };
    Ok(Some((setup, SavepointRoot(savepoint_dir))))
}

/// An environment with the object stores that this build has the features for (`s3`, `gcs`, `azure`), used with the keys of `config`, so that
/// `s3:` paths and the like can be opened in it. One that has stores already keeps them.
pub fn with_object_stores(env: &Env, config: &Configuration) -> Env {
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    if env.settings::<flott_checkpoint::ObjectStores>().is_none() {
        let stores = flott_objectstore::CloudStores::new(env, config);
        return env.with_settings(flott_checkpoint::ObjectStores(Arc::new(stores)));
    }
    let _without_features = config;
    env.clone()
}

/// The store at a location. Without one it is in memory, as Flink's storage of the job manager: a restart in this process goes on from it,
/// one of the process begins anew.
fn open_store(env: &Env, location: Option<&Location>) -> Result<Arc<dyn ObjectStore>> {
    match location {
        Some(location) => {
            let store = location.open(env)?;
            if let Location::Remote(_) = location {
                // A wrong bucket or key is a mistake of who starts the job, and is told at once; later it is a failure to get over.
                let refused = |error| Error::user(format!("cannot use '{location}'")).with_source(error);
                store.list("").map_err(refused)?;
            }
            Ok(store)
        }
        None => Ok(Arc::new(LocalStore::new(Arc::new(MemoryFs::default()), "checkpoints", env.random_u64()))),
    }
}

/// The directory of checkpoints; `None` if there are none, or only in memory.
pub(crate) fn checkpoint_dir(config: &Configuration) -> Result<Option<Location>> {
    let is_on = config.get(options::CHECKPOINTING_INTERVAL).is_some_and(|interval| !interval.is_zero());
    match (config.get(options::CHECKPOINTING_DIR), config.get(options::CHECKPOINTING_STORAGE)) {
        (Some(dir), CheckpointStorageType::Filesystem) => Location::parse(&dir).map(Some),
        (None, CheckpointStorageType::Filesystem) if is_on => {
            Location::parse(CHECKPOINTING_DIR_DEFAULT).map(Some)
        }
        (None, _) => Ok(None),
        (Some(dir), CheckpointStorageType::JobManager) => Err(Error::user(format!(
            "configuration key '{}' is '{dir}', but '{}' says that checkpoints are kept in memory: leave out one of them",
            options::CHECKPOINTING_DIR.key,
            options::CHECKPOINTING_STORAGE.key
        ))),
    }
}

/// Copies a complete savepoint below another directory, on a thread of its own.
pub(crate) async fn copy_savepoint(env: &Env, from: Location, dir: Location) -> Result<String> {
    let (sender, copied) = oneshot::channel();
    let context = format!("cannot copy savepoint '{from}' to '{dir}'");
    let copying = env.clone();
    env.spawn_subtask("savepoint copy", async move {
        drop(sender.send(flott_checkpoint::copy_savepoint(&copying, &from, &dir)));
    });
    let copied = copied.await.unwrap_or_else(|_| Err(Error::subtask("the copying task stopped")));
    copied.map(|to| to.to_string()).map_err(|error| error.context(context))
}

/// The identity of a job: configured, or the same for all jobs of that name if there is a directory in which checkpoints of an
/// earlier process may be.
pub(crate) fn job_id(env: &Env, config: &Configuration, name: &str) -> Result<JobId> {
    if let Some(text) = config.get(options::JOB_ID) {
        let id = u128::from_str_radix(&text, 16).ok().filter(|_| text.len() == 32);
        let expected = || {
            Error::user(format!(
                "configuration key '{}' is '{text}': expected 32 hexadecimal digits",
                options::JOB_ID.key
            ))
        };
        return id.map(JobId).ok_or_else(expected);
    }
    if checkpoint_dir(config)?.is_some() {
        return Ok(JobId(u128::from(key_hash(&(0_u8, name))) << 64 | u128::from(key_hash(&(1_u8, name)))));
    }
    Ok(JobId(u128::from(env.random_u64()) << 64 | u128::from(env.random_u64())))
}
