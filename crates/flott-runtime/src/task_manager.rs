//! Expands a job into subtasks and starts them, all in this process.

use crate::attempt::{AtEnd, AttemptSpec};
use crate::checkpointing::PartSink;
use crate::factory::{
    BuildContext, EdgeFactory, Erased, OperatorFactory, Outputs, PartitionContext, TaskInputs,
};
use crate::in_flight::Place;
use crate::subtask::{LoopState, Subtask};
use flott_api::SourceSpan;
use flott_env::sync::mpsc;
use flott_env::{Env, TaskHandle};
use flott_graph::{
    ExecutionGraph, JobGraph, JobVertex, StreamGraph, SubtaskId, TaskCommand, TaskEvent, overtaking_edges,
};
use flott_operators::OutputMetrics;
use flott_types::{Configuration, Error, JobId, NodeId, Result, SubtaskIndex, TagId, options};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Settings that tasks need, read from the configuration once.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeConfig {
    /// `execution.batch-size`
    pub batch_size: usize,
    /// `execution.buffer-timeout.interval`
    pub buffer_timeout: Duration,
    /// `taskmanager.network.memory.max-per-gate`, in bytes.
    pub gate_bytes_max: usize,
    /// `pipeline.watermark-granularity`
    pub watermark_granularity: Duration,
    /// `pipeline.source-idle-timeout`; zero for never.
    pub source_idle_timeout: Duration,
    /// `pipeline.auto-watermark-interval`
    pub auto_watermark_interval: Duration,
    /// `pipeline.watermark-alignment.update-interval`
    pub alignment_interval: Duration,
    /// `state.backend.snapshot-places-per-step`
    pub snapshot_places: usize,
}

impl RuntimeConfig {
    /// Reads the settings; unset ones have their defaults.
    pub fn new(config: &Configuration) -> Self {
        Self {
            batch_size: config.get(options::BATCH_SIZE).max(1) as usize,
            buffer_timeout: config.get(options::BUFFER_TIMEOUT),
            gate_bytes_max: usize::try_from(config.get(options::CHANNEL_MEMORY).0).unwrap_or(usize::MAX),
            watermark_granularity: config.get(options::WATERMARK_GRANULARITY),
            source_idle_timeout: config.get(options::SOURCE_IDLE_TIMEOUT),
            auto_watermark_interval: config.get(options::AUTO_WATERMARK_INTERVAL),
            alignment_interval: config.get(options::WATERMARK_ALIGNMENT_UPDATE_INTERVAL),
            snapshot_places: config.get(options::STATE_SNAPSHOT_PLACES).max(1) as usize,
        }
    }
}

/// A program ready to run: its graphs, and the factories of its operators and edges by their numbers.
pub struct JobSpec {
    /// The identity of the job, the same for all attempts.
    pub job_id: JobId,
    /// The name of the job.
    pub name: String,
    /// The program.
    pub stream_graph: StreamGraph,
    /// Its tasks.
    pub job_graph: JobGraph,
    /// By node id.
    pub operators: Vec<Arc<dyn OperatorFactory>>,
    /// By edge index.
    pub edges: Vec<Arc<dyn EdgeFactory>>,
    /// Settings.
    pub config: RuntimeConfig,
    /// What is read of each source that is not read whole.
    pub spans: BTreeMap<NodeId, SourceSpan>,
}

impl fmt::Debug for JobSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobSpec")
            .field("name", &self.name)
            .field("graph", &self.job_graph)
            .finish_non_exhaustive()
    }
}

/// The counters of one operator of one subtask.
#[derive(Clone, Debug)]
pub struct OperatorMetrics {
    /// The subtask.
    pub id: SubtaskId,
    /// The operator.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its counters.
    pub metrics: Arc<OutputMetrics>,
}

/// A job whose subtasks run.
#[derive(Debug)]
pub struct Deployment {
    /// Where each subtask takes commands.
    pub mailboxes: BTreeMap<SubtaskId, mpsc::Sender<TaskCommand>>,
    /// The tasks, to wait for.
    pub tasks: Vec<(SubtaskId, TaskHandle)>,
    /// Counters of all operators.
    pub metrics: Vec<OperatorMetrics>,
}

/// Commands that may wait for a subtask; the master waits when there are more.
const MAILBOX_COMMANDS_MAX: usize = 1024;

/// Starts subtasks in this process.
#[derive(Clone, Debug)]
pub struct TaskManager {
    env: Env,
}

/// The outputs of one subtask that go to other tasks, by edge.
type Partitions = BTreeMap<usize, Vec<Erased>>;

impl TaskManager {
    /// A task manager that runs tasks in `env`.
    pub fn new(env: Env) -> Self {
        Self { env }
    }

    /// Starts all subtasks of one attempt of a job, or those of a region: of a channel both ends are in it, or none. Operators are opened on the tasks themselves; what fails there is reported to
    /// `events`, where also everything else about the subtasks is told.
    ///
    /// # Errors
    /// If the graphs and factories do not fit together.
    pub fn deploy(
        &self,
        spec: &Arc<JobSpec>,
        attempt: &Arc<AttemptSpec>,
        events: &mpsc::Sender<TaskEvent>,
        region: Option<&BTreeSet<SubtaskId>>,
    ) -> Result<Deployment> {
        let subtasks = || {
            let all = subtasks(&spec.job_graph);
            all.filter(|(_, id)| region.is_none_or(|region| region.contains(id)))
        };
        let execution_graph = ExecutionGraph::new(&spec.job_graph);
        let mut gates: BTreeMap<SubtaskId, Vec<Erased>> = BTreeMap::new();
        let mut senders: BTreeMap<(usize, SubtaskIndex, SubtaskIndex), Erased> = BTreeMap::new();
        for (vertex, id) in subtasks() {
            for input in 0..2 {
                let channels = execution_graph.inputs(&spec.job_graph, vertex.id, id.subtask, input);
                let Some(edge) = channels.first().and_then(|channel| spec.edges.get(channel.edge)) else {
                    continue;
                };
                let (gate, ends) = edge.gate(channels.len(), spec.config.gate_bytes_max);
                gates.entry(id).or_default().push(gate);
                let keys = channels.iter().map(|channel| (channel.edge, channel.producer, channel.consumer));
                senders.extend(keys.zip(ends));
            }
        }
        let overtaking = match attempt.unaligned_after() {
            Some(_) => Arc::new(overtaking_edges(&spec.job_graph)),
            None => Arc::default(),
        };
        let mut deployment =
            Deployment { mailboxes: BTreeMap::new(), tasks: Vec::new(), metrics: Vec::new() };
        for (vertex, id) in subtasks() {
            let mut partitions = Partitions::new();
            for edge in 0..spec.job_graph.edges.len() {
                for channel in execution_graph.outputs(edge, id.subtask) {
                    let produced_here =
                        spec.job_graph.edges.get(edge).is_some_and(|(e, _)| vertex.nodes.contains(&e.source));
                    if !produced_here {
                        continue;
                    }
                    let sender = senders.remove(&(edge, channel.producer, channel.consumer));
                    let sender = sender.ok_or_else(|| Error::user(format!("edge {edge} has no gate")))?;
                    partitions.entry(edge).or_default().push(sender);
                }
            }
            let metrics: BTreeMap<NodeId, Arc<OutputMetrics>> =
                vertex.nodes.iter().map(|node| (*node, Arc::new(OutputMetrics::default()))).collect();
            deployment.metrics.extend(metrics.iter().map(|(node, metrics)| OperatorMetrics {
                id,
                node: *node,
                name: spec.stream_graph.node(*node).name.clone(),
                metrics: Arc::clone(metrics),
            }));
            let (mailbox, commands) = mpsc::channel(MAILBOX_COMMANDS_MAX);
            deployment.mailboxes.insert(id, mailbox);
            let start = Start {
                env: self.env.clone(),
                spec: Arc::clone(spec),
                attempt: Arc::clone(attempt),
                overtaking: Arc::clone(&overtaking),
                vertex: vertex.clone(),
                id,
                gates: gates.remove(&id).unwrap_or_default(),
                partitions,
                metrics,
                events: events.clone(),
                commands,
            };
            let name = format!("{}/{}", vertex.name, id.subtask);
            deployment.tasks.push((id, self.env.spawn_subtask(&name, start.run())));
        }
        Ok(deployment)
    }
}

fn subtasks(graph: &JobGraph) -> impl Iterator<Item = (&JobVertex, SubtaskId)> {
    graph.vertices.iter().flat_map(|vertex| {
        (0..vertex.parallelism)
            .map(move |idx| (vertex, SubtaskId { vertex: vertex.id, subtask: SubtaskIndex(idx) }))
    })
}

/// Everything a subtask is started with.
struct Start {
    env: Env,
    spec: Arc<JobSpec>,
    attempt: Arc<AttemptSpec>,
    /// The edges on which barriers may overtake records.
    overtaking: Arc<BTreeSet<usize>>,
    vertex: JobVertex,
    id: SubtaskId,
    gates: Vec<Erased>,
    partitions: Partitions,
    metrics: BTreeMap<NodeId, Arc<OutputMetrics>>,
    events: mpsc::Sender<TaskEvent>,
    commands: mpsc::Receiver<TaskCommand>,
}

impl Start {
    async fn run(mut self) {
        let (env, id, events) = (self.env.clone(), self.id, self.events.clone());
        let (buffer_timeout, snapshot_places) =
            (self.spec.config.buffer_timeout, self.spec.config.snapshot_places);
        let parts = self.attempt.checkpoints.as_ref().map(|checkpoints| {
            let name = format!("{}/{}", self.vertex.name, id.subtask);
            PartSink::new(id, name, env.clone(), Arc::clone(&checkpoints.begin_part), events.clone())
        });
        let at_end =
            if self.attempt.awaits_last_checkpoint() { AtEnd::AwaitLastCheckpoint } else { AtEnd::Finish };
        let built = crate::chain::guard(|| self.build());
        let mut subtask = match built {
            Ok(task) => Subtask {
                id,
                env,
                input: task.0,
                mailbox: self.commands,
                events: events.clone(),
                buffer_timeout,
                snapshot_places,
                parts,
                at_end,
                state: LoopState::default(),
            },
            Err(error) => return report(&events, TaskEvent::Failed(id, error)).await,
        };
        report(&events, TaskEvent::Running(id)).await;
        let ended = subtask.run().await;
        report(&events, ended).await;
        // Only now do neighbours notice that this subtask is gone.
        drop(subtask);
    }

    /// Builds the chain from its end to its head, and the task around it.
    fn build(&mut self) -> Result<crate::factory::ErasedTask> {
        let (spec, id) = (Arc::clone(&self.spec), self.id);
        let mut built: BTreeMap<NodeId, Erased> = BTreeMap::new();
        for node in self.vertex.nodes.clone().into_iter().rev() {
            let mut outputs = Outputs::default();
            let mut sides: BTreeMap<TagId, (usize, Vec<Erased>)> = BTreeMap::new();
            for (idx, (edge, _)) in spec.job_graph.edges.iter().enumerate() {
                if edge.source != node {
                    continue;
                }
                let reader = if spec.job_graph.chained.contains(&idx) {
                    built.remove(&edge.target)
                } else {
                    self.partition(idx)
                };
                let reader = reader.ok_or_else(|| {
                    Error::user(format!("edge {idx} of '{}' leads nowhere", self.vertex.name))
                })?;
                match &edge.side {
                    None => outputs.main.push(reader),
                    Some(tag) => sides.entry(tag.clone()).or_insert((idx, Vec::new())).1.push(reader),
                }
            }
            for (tag, (idx, readers)) in sides {
                if let Some(edge) = spec.edges.get(idx) {
                    outputs.sides.push((tag, edge.side_receiver(readers)));
                }
            }
            let factory = spec.operators.get(node.0 as usize);
            let factory = factory.ok_or_else(|| Error::user(format!("operator {node} has no factory")))?;
            let ctx = self.context(node);
            let operator = factory.build(&ctx, outputs)?;
            let place = Place { spec: &spec, vertex: &self.vertex, node, subtask: id.subtask };
            let in_flight = self.attempt.restored.in_flight.get(&(ctx.uid.clone(), id.subtask));
            let in_flight = in_flight.map(Vec::as_slice).unwrap_or_default();
            if node == self.vertex.head {
                let overtaking = place.overtaking(self.attempt.unaligned_after(), &self.overtaking);
                let replayed = place.replay(in_flight)?;
                let gates = std::mem::take(&mut self.gates);
                return Ok(factory.task(&ctx, operator, TaskInputs { gates, overtaking, replayed }));
            }
            let chained = place.chained(in_flight)?;
            let operator = match chained {
                Some(chained) => factory.replay(&ctx, operator, chained)?,
                None => operator,
            };
            built.insert(node, operator);
        }
        Err(Error::user(format!("task '{}' has no head", self.vertex.name)))
    }

    fn partition(&mut self, idx: usize) -> Option<Erased> {
        let senders = self.partitions.remove(&idx)?;
        let (edge, partitioning) = self.spec.job_graph.edges.get(idx)?;
        let target = self.spec.job_graph.vertex_of(edge.target)?;
        let ctx = PartitionContext {
            partitioning: *partitioning,
            producer: self.id.subtask,
            max_parallelism: target.max_parallelism,
            seed: self.env.random_u64(),
            overtakes: self.overtaking.contains(&idx),
        };
        Some(self.spec.edges.get(idx)?.partition(ctx, senders, self.spec.config.batch_size))
    }

    fn context(&self, node: NodeId) -> BuildContext {
        BuildContext {
            job_id: self.spec.job_id,
            id: self.id,
            env: self.env.clone(),
            name: self.spec.stream_graph.node(node).name.clone(),
            uid: self.spec.stream_graph.uid(node),
            parallelism: self.vertex.parallelism,
            max_parallelism: self.vertex.max_parallelism,
            config: self.spec.config,
            span: self.spec.spans.get(&node).cloned().unwrap_or_default(),
            metrics: self.metrics.get(&node).cloned().unwrap_or_default(),
            events: self.events.clone(),
            attempt: Arc::clone(&self.attempt),
        }
    }
}

/// Tells the master; if it is gone, nobody is left to tell.
async fn report(events: &mpsc::Sender<TaskEvent>, event: TaskEvent) {
    drop(events.send(event).await);
}
