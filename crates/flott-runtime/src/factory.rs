//! How typed operators and edges are made from a program whose types are erased.
//!
//! The graph knows operators and edges by number. For each there is a factory here that knows the types. Factories are
//! made by the builder, where the types are known, and used once per subtask. In between, outputs travel as
//! `Box<dyn Any>`; a factory takes out of the box what its neighbour put in, since the builder connected only equal types.

use crate::alignment::{BarrierSettings, OvertakingSettings};
use crate::attempt::AttemptSpec;
use crate::chain::{ChainLink, Place};
use crate::chain_end::{PartitionEnd, SideEnd, Tee};
use crate::in_flight::{Chained, Replayed};
use crate::input_task::{OneInputTask, Replay, TwoInputChain, TwoInputLink, TwoInputTask};
use crate::replay::ReplayFirst;
use crate::source_task::{SPLITS, SourceSettings, SourceTask};
use crate::span_filter::SpanFilter;
use crate::subtask::TaskInput;
use crate::task_manager::RuntimeConfig;
use flott_api::{
    OnError, SinkContext, Source, SourceReaderContext, SourceSpan, TimestampMode, WatermarkStrategy,
};
use flott_env::Env;
use flott_env::sync::mpsc;
use flott_exchange::{
    BroadcastPartitioner, ChannelSender, InputGate, Partitioner, RandomPartitioner, ResultPartition,
    RoundRobinPartitioner, SinglePartitioner, input_gate,
};
use flott_graph::{Partitioning, SubtaskId, TaskEvent};
use flott_operators::{
    Operator, OperatorContext, Output, OutputMetrics, SideChannels, SideReceiver, TwoInputOperator,
};
use flott_schema::Type;
use flott_state::{HandleTypes, OperatorSnapshot, StateTypes, decode_records, record_schema};
use flott_types::{
    CheckpointingMode, Data, Error, JobId, OperatorUid, RecordBatch, Result, SubtaskIndex, TagId,
};
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// A value whose type only factories know.
pub type Erased = Box<dyn Any + Send>;

/// What an operator of a subtask is built with.
#[derive(Debug)]
pub struct BuildContext {
    /// The job.
    pub job_id: JobId,
    /// The subtask.
    pub id: SubtaskId,
    /// The way to clock and files.
    pub env: Env,
    /// The operator's name.
    pub name: String,
    /// The operator's identity.
    pub uid: OperatorUid,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Settings of the job.
    pub config: RuntimeConfig,
    /// What is read of the operator, if it is a source.
    pub span: SourceSpan,
    /// The operator's counters.
    pub metrics: Arc<OutputMetrics>,
    /// Where the subtask reports.
    pub events: mpsc::Sender<TaskEvent>,
    /// The attempt, with what it goes on from.
    pub attempt: Arc<AttemptSpec>,
}

impl BuildContext {
    fn operator_context(&self) -> OperatorContext {
        OperatorContext {
            env: self.env.clone(),
            operator: self.name.clone(),
            subtask: self.id.subtask,
            parallelism: self.parallelism,
            max_parallelism: self.max_parallelism,
        }
    }

    /// What a sink of this operator is told about its place.
    pub fn sink_context(&self) -> SinkContext {
        let mut ctx =
            SinkContext::new(self.env.clone(), self.id.subtask, self.parallelism, self.attempt.run_id);
        ctx.job_id = self.job_id;
        ctx.uid = self.uid.clone();
        ctx.execution_id = self.attempt.execution_id;
        ctx.attempt = self.attempt.number;
        ctx.generation = self.attempt.generation;
        ctx.has_checkpoints = self.attempt.awaits_last_checkpoint();
        if let Some(checkpoints) = &self.attempt.checkpoints {
            (ctx.checkpoint_interval, ctx.checkpoint_timeout) = (checkpoints.interval, checkpoints.timeout);
            ctx.restart_delay = checkpoints.restart_delay;
        }
        ctx.restored_checkpoint = self.attempt.restored.checkpoint_id;
        ctx
    }

    /// The state that the operator goes on from.
    fn restored(&self) -> Option<&OperatorSnapshot> {
        self.attempt.restored.snapshots.get(&(self.uid.clone(), self.id.subtask))
    }

    /// Calls `restore` with the state that the operator goes on from, if its types fit; those of handles that were made when the
    /// function was opened are known only now.
    fn restore(
        &self,
        types: &StateTypes,
        restore: impl FnOnce(&OperatorSnapshot) -> Result<()>,
    ) -> Result<()> {
        let Some(snapshot) = self.restored() else { return Ok(()) };
        let fits = types.compare([snapshot]).and_then(|fit| fit.check());
        fits.and_then(|()| restore(snapshot)).map_err(|error| error.at(|| self.place().to_string()))
    }

    fn mode(&self) -> CheckpointingMode {
        let checkpoints = self.attempt.checkpoints.as_ref();
        checkpoints.map_or(CheckpointingMode::ExactlyOnce, |checkpoints| checkpoints.mode)
    }

    fn place(&self) -> Place {
        Place {
            operator: self.name.clone(),
            uid: self.uid.clone(),
            subtask: self.id.subtask.0,
            parallelism: self.parallelism,
        }
    }
}

/// Who reads from an operator.
#[derive(Default)]
pub struct Outputs {
    /// Readers of the main output.
    pub main: Vec<Erased>,
    /// Readers of side outputs.
    pub sides: Vec<(TagId, Box<dyn SideReceiver>)>,
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outputs").field("main", &self.main.len()).finish_non_exhaustive()
    }
}

impl Outputs {
    fn split<O: Data>(self) -> (Box<dyn Output<O>>, SideChannels) {
        let main = self.main.into_iter().map(unerase::<Box<dyn Output<O>>>).collect();
        (Tee::join(main), SideChannels { receivers: self.sides, ..SideChannels::default() })
    }
}

pub(crate) fn unerase<T: 'static>(erased: Erased) -> T {
    let expected = || {
        panic!("the program connects operators of different types: expected {}", std::any::type_name::<T>())
    };
    *erased.downcast::<T>().unwrap_or_else(|_| expected())
}

/// Makes the instances of one operator.
pub trait OperatorFactory: Send + Sync {
    /// Builds the operator in front of its readers; returns what its own writer, or [`OperatorFactory::task`], takes.
    ///
    /// # Errors
    /// If the operator cannot be opened.
    fn build(&self, ctx: &BuildContext, outputs: Outputs) -> Result<Erased>;

    /// Makes the task of a chain that this operator heads, from what [`OperatorFactory::build`] returned and its inputs.
    fn task(&self, ctx: &BuildContext, head: Erased, inputs: TaskInputs) -> ErasedTask;

    /// Puts what was in flight to an operator inside of a chain before it; `operator` is what [`OperatorFactory::build`] returned.
    ///
    /// # Errors
    /// If the operator never was the head of a task.
    fn replay(&self, ctx: &BuildContext, operator: Erased, in_flight: Chained) -> Result<Erased> {
        let _unused = (operator, in_flight);
        Err(Error::user(format!("{} cannot have records in flight", ctx.place())))
    }

    /// The types of the operator's states and of its inputs, as far as they are known before it runs. For that an operator may be made, which is not
    /// opened.
    ///
    /// # Errors
    /// If the operator cannot be made.
    fn state_types(&self, ctx: &BuildContext) -> Result<StateTypes> {
        let _unused = ctx;
        Ok(StateTypes::default())
    }
}

/// What the head of a task reads.
#[derive(Default)]
pub struct TaskInputs {
    /// A gate for each input.
    pub(crate) gates: Vec<Erased>,
    /// `None` if no barrier overtakes.
    pub(crate) overtaking: Option<OvertakingSettings>,
    /// What was in flight.
    pub(crate) replayed: Replayed,
}

impl fmt::Debug for TaskInputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskInputs").field("gates", &self.gates.len()).finish_non_exhaustive()
    }
}

/// A task ready to run.
pub struct ErasedTask(pub(crate) Box<dyn TaskInput>);

impl fmt::Debug for ErasedTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErasedTask")
    }
}

/// Makes operators with one input.
pub struct OneInputFactory<I, O, F> {
    make: F,
    is_sink: bool,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O, F> fmt::Debug for OneInputFactory<I, O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneInputFactory")
    }
}

impl<I, O, F> OneInputFactory<I, O, F> {
    /// A factory that calls `make` for each subtask.
    pub fn new(make: F) -> Self {
        Self { make, is_sink: false, types: PhantomData }
    }

    /// The same for a sink: it has no keyed state, and making one that is not used would be seen outside.
    pub fn sink(make: F) -> Self {
        Self { make, is_sink: true, types: PhantomData }
    }
}

impl<I, O, Op, F> OperatorFactory for OneInputFactory<I, O, F>
where
    I: Data,
    O: Data,
    Op: Operator<I, O> + 'static,
    F: Fn(&BuildContext) -> Result<Op> + Send + Sync,
{
    fn build(&self, ctx: &BuildContext, outputs: Outputs) -> Result<Erased> {
        let (opened, handles) = HandleTypes::of(|| {
            let mut operator = (self.make)(ctx)?;
            let opened = operator.open(&ctx.operator_context());
            opened.map(|()| operator).map_err(|error| error.at(|| ctx.place().to_string()))
        });
        let mut operator = opened?;
        let types = one_input_types(&operator, &handles);
        ctx.restore(&types, |snapshot| operator.restore(snapshot))?;
        let (output, sides) = outputs.split::<O>();
        let link = ChainLink::<I, O, Op>::new(operator, output, sides, Arc::clone(&ctx.metrics), ctx.place());
        let link: Box<dyn Output<I>> = Box::new(link);
        Ok(Box::new(link))
    }

    fn task(&self, ctx: &BuildContext, head: Erased, inputs: TaskInputs) -> ErasedTask {
        let TaskInputs { gates, overtaking, mut replayed } = inputs;
        let gate =
            gates.into_iter().map(unerase::<InputGate<I>>).next().expect("a task with one input has a gate");
        let replay: Replay<I> = replayed.take(0);
        let settings = BarrierSettings { mode: ctx.mode(), overtaking };
        ErasedTask(Box::new(OneInputTask::new(gate, replay, unerase::<Box<dyn Output<I>>>(head), settings)))
    }

    fn replay(&self, _: &BuildContext, operator: Erased, in_flight: Chained) -> Result<Erased> {
        let operator = unerase::<Box<dyn Output<I>>>(operator);
        let Chained { layout, batches } = in_flight;
        let batches = batches.into_iter().map(|(channel, batch)| (channel, unerase::<RecordBatch<I>>(batch)));
        let replay: Box<dyn Output<I>> = Box::new(ReplayFirst::new(layout, batches, operator));
        Ok(Box::new(replay))
    }

    fn state_types(&self, ctx: &BuildContext) -> Result<StateTypes> {
        if self.is_sink {
            let mut types = StateTypes::default();
            types.add_input::<I>();
            return Ok(types);
        }
        let (operator, handles) = HandleTypes::of(|| (self.make)(ctx));
        Ok(one_input_types(&operator?, &handles))
    }
}

fn one_input_types<I: Data, O>(operator: &impl Operator<I, O>, handles: &HandleTypes) -> StateTypes {
    let mut types = StateTypes::default();
    types.add_input::<I>();
    operator.state_types(&mut types, handles);
    types
}

fn two_input_types<A: Data, B: Data, O>(
    operator: &impl TwoInputOperator<A, B, O>,
    handles: &HandleTypes,
) -> StateTypes {
    let mut types = StateTypes::default();
    types.add_input::<A>();
    types.add_input::<B>();
    operator.state_types(&mut types, handles);
    types
}

/// Makes operators with two inputs.
pub struct TwoInputFactory<A, B, O, F> {
    make: F,
    types: PhantomData<fn(A, B) -> O>,
}

impl<A, B, O, F> fmt::Debug for TwoInputFactory<A, B, O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TwoInputFactory")
    }
}

impl<A, B, O, F> TwoInputFactory<A, B, O, F> {
    /// A factory that calls `make` for each subtask.
    pub fn new(make: F) -> Self {
        Self { make, types: PhantomData }
    }
}

impl<A, B, O, Op, F> OperatorFactory for TwoInputFactory<A, B, O, F>
where
    A: Data,
    B: Data,
    O: Data,
    Op: TwoInputOperator<A, B, O> + 'static,
    F: Fn(&BuildContext) -> Result<Op> + Send + Sync,
{
    fn build(&self, ctx: &BuildContext, outputs: Outputs) -> Result<Erased> {
        let (opened, handles) = HandleTypes::of(|| {
            let mut operator = (self.make)(ctx)?;
            let opened = operator.open(&ctx.operator_context());
            opened.map(|()| operator).map_err(|error| error.at(|| ctx.place().to_string()))
        });
        let mut operator = opened?;
        let types = two_input_types(&operator, &handles);
        ctx.restore(&types, |snapshot| operator.restore(snapshot))?;
        let (output, sides) = outputs.split::<O>();
        let link =
            TwoInputLink::<A, B, O, Op>::new(operator, output, sides, Arc::clone(&ctx.metrics), ctx.place());
        let link: Box<dyn TwoInputChain<A, B>> = Box::new(link);
        Ok(Box::new(link))
    }

    fn task(&self, ctx: &BuildContext, head: Erased, inputs: TaskInputs) -> ErasedTask {
        let TaskInputs { gates, overtaking, mut replayed } = inputs;
        let mut gates = gates.into_iter();
        let first = unerase::<InputGate<A>>(gates.next().expect("a task with two inputs has two gates"));
        let second = unerase::<InputGate<B>>(gates.next().expect("a task with two inputs has two gates"));
        let chain = unerase::<Box<dyn TwoInputChain<A, B>>>(head);
        let (replay1, replay2) = (replayed.take(0), replayed.take(1));
        let settings = BarrierSettings { mode: ctx.mode(), overtaking };
        ErasedTask(Box::new(TwoInputTask::new((first, replay1), (second, replay2), chain, settings)))
    }

    fn state_types(&self, ctx: &BuildContext) -> Result<StateTypes> {
        let (operator, handles) = HandleTypes::of(|| (self.make)(ctx));
        Ok(two_input_types(&operator?, &handles))
    }
}

/// Makes the readers of a source.
pub struct SourceFactory<S: Source> {
    source: Arc<S>,
    strategy: WatermarkStrategy<S::Record>,
    on_error: OnError,
}

impl<S: Source> fmt::Debug for SourceFactory<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceFactory").field("on_error", &self.on_error).finish_non_exhaustive()
    }
}

impl<S: Source> SourceFactory<S> {
    /// A factory for readers of `source`.
    pub fn new(source: Arc<S>, strategy: WatermarkStrategy<S::Record>, on_error: OnError) -> Self {
        Self { source, strategy, on_error }
    }
}

impl<S: Source> OperatorFactory for SourceFactory<S> {
    fn build(&self, ctx: &BuildContext, outputs: Outputs) -> Result<Erased> {
        let (chain, sides) = outputs.split::<S::Record>();
        let reader = self
            .source
            .create_reader(SourceReaderContext {
                env: ctx.env.clone(),
                subtask: ctx.id.subtask,
                parallelism: ctx.parallelism,
            })
            .map_err(|error| error.at(|| ctx.place().to_string()))?;
        if ctx.span.start_ms().is_some() && matches!(self.strategy.timestamps(), TimestampMode::Ingestion) {
            let message =
                "a source cannot start at a time if the timestamp of a record is when it enters the job";
            return Err(Error::user(message).at(|| ctx.place().to_string()));
        }
        let config = &ctx.config;
        let settings = SourceSettings {
            boundedness: self.source.boundedness(),
            on_error: self.on_error,
            batch_size: config.batch_size,
            granularity: config.watermark_granularity,
            idle_timeout: Some(config.source_idle_timeout).filter(|timeout| !timeout.is_zero()),
            periodic_interval: config.auto_watermark_interval,
            alignment_interval: config.alignment_interval,
            span: SpanFilter::new(&ctx.span),
            is_chain: self.source.is_chain(),
        };
        let (metrics, events) = (Arc::clone(&ctx.metrics), ctx.events.clone());
        let mut task = SourceTask::<S>::new(
            ctx.id,
            ctx.uid.clone(),
            reader,
            self.strategy.clone(),
            settings,
            chain,
            sides,
            metrics,
            events,
        );
        if let Some(snapshot) = ctx.restored() {
            task.restore(snapshot).map_err(|error| error.at(|| ctx.place().to_string()))?;
        }
        let task: Box<dyn TaskInput> = Box::new(task);
        Ok(Box::new(task))
    }

    fn task(&self, _: &BuildContext, head: Erased, _: TaskInputs) -> ErasedTask {
        ErasedTask(unerase::<Box<dyn TaskInput>>(head))
    }

    fn state_types(&self, _: &BuildContext) -> Result<StateTypes> {
        let mut types = StateTypes::default();
        types.add_splits::<S::Split>(SPLITS);
        Ok(types)
    }
}

/// What a partitioner is made with.
#[derive(Clone, Copy, Debug)]
pub struct PartitionContext {
    /// How records are divided, as decided for the edge.
    pub partitioning: Partitioning,
    /// The subtask that sends.
    pub producer: SubtaskIndex,
    /// The number of key groups of the receiving task.
    pub max_parallelism: u32,
    /// Random bits.
    pub seed: u64,
    /// Whether barriers of checkpoints may overtake records on the edge.
    pub overtakes: bool,
}

/// Which of the records that were in flight on an edge a subtask gets.
#[derive(Clone, Copy, Debug)]
pub enum Share {
    /// All.
    Whole,
    /// Those that the edge's partitioner sends to it.
    Routed {
        /// What the partitioner is made with.
        ctx: PartitionContext,
        /// The subtask.
        subtask: SubtaskIndex,
        /// Number of subtasks.
        parallelism: u32,
    },
}

/// Makes the ends of one edge.
pub trait EdgeFactory: Send + Sync {
    /// Makes a gate with `n_channels` channels that share `bytes_max`, and their senders.
    fn gate(&self, n_channels: usize, bytes_max: usize) -> (Erased, Vec<Erased>);
    /// Makes the partition that sends over `senders`.
    fn partition(&self, ctx: PartitionContext, senders: Vec<Erased>, batch_size: usize) -> Erased;
    /// The type of the records, if it has a schema.
    fn schema(&self) -> Option<Arc<Type>>;
    /// Reads records that were in flight, as `written` if that is known, and returns a batch of those in `share`.
    ///
    /// # Errors
    /// If they cannot be read, or a custom partitioner names a channel that does not exist.
    fn in_flight(&self, share: Share, bytes: &[u8], written: Option<&Arc<Type>>) -> Result<Erased>;
    /// Makes the receiver of a side output from its readers.
    fn side_receiver(&self, readers: Vec<Erased>) -> Box<dyn SideReceiver>;
}

type MakePartitioner<T> = Arc<dyn Fn(PartitionContext) -> Box<dyn Partitioner<T>> + Send + Sync>;

/// An edge for records of type `T`.
pub struct TypedEdge<T> {
    /// Looks into records: hash and custom partitioning need it.
    by_record: Option<MakePartitioner<T>>,
}

impl<T> fmt::Debug for TypedEdge<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedEdge")
    }
}

impl<T: Data> TypedEdge<T> {
    /// An edge on which records are divided without a look into them.
    pub fn standard() -> Self {
        Self { by_record: None }
    }

    /// An edge on which records are divided by what `partitioner` makes for each sender.
    pub fn by_record(
        partitioner: impl Fn(PartitionContext) -> Box<dyn Partitioner<T>> + Send + Sync + 'static,
    ) -> Self {
        Self { by_record: Some(Arc::new(partitioner)) }
    }

    fn partitioner(&self, ctx: PartitionContext) -> Box<dyn Partitioner<T>> {
        match ctx.partitioning {
            Partitioning::Forward | Partitioning::Global => Box::new(SinglePartitioner),
            Partitioning::Rebalance | Partitioning::Rescale => {
                Box::new(RoundRobinPartitioner::new(ctx.producer.as_usize()))
            }
            Partitioning::Shuffle => Box::new(RandomPartitioner::new(ctx.seed)),
            Partitioning::Broadcast => Box::new(BroadcastPartitioner),
            Partitioning::Hash | Partitioning::Custom => {
                let make =
                    self.by_record.as_ref().expect("the builder gives hash and custom edges a partitioner");
                make(ctx)
            }
        }
    }
}

impl<T: Data> EdgeFactory for TypedEdge<T> {
    fn gate(&self, n_channels: usize, bytes_max: usize) -> (Erased, Vec<Erased>) {
        let (gate, senders) = input_gate::<T>(n_channels, bytes_max);
        (Box::new(gate), senders.into_iter().map(|sender| Box::new(sender) as Erased).collect())
    }

    fn partition(&self, ctx: PartitionContext, senders: Vec<Erased>, batch_size: usize) -> Erased {
        let senders = senders.into_iter().map(unerase::<ChannelSender<T>>).collect();
        let mut partition = ResultPartition::new(self.partitioner(ctx), senders, batch_size);
        if ctx.overtakes {
            partition = partition.with_overtaking();
        }
        let end: Box<dyn Output<T>> = Box::new(PartitionEnd(partition));
        Box::new(end)
    }

    fn schema(&self) -> Option<Arc<Type>> {
        record_schema::<T>()
    }

    fn in_flight(&self, share: Share, bytes: &[u8], written: Option<&Arc<Type>>) -> Result<Erased> {
        let batch = decode_records::<T>(bytes, written)?;
        let Share::Routed { ctx, subtask, parallelism } = share else { return Ok(Box::new(batch)) };
        let mut shares: Vec<_> = (0..parallelism).map(|_| RecordBatch::default()).collect();
        self.partitioner(ctx).partition(batch, &mut shares).map_err(Error::user)?;
        let share = shares.get_mut(subtask.as_usize()).map(RecordBatch::take).unwrap_or_default();
        Ok(Box::new(share))
    }

    fn side_receiver(&self, readers: Vec<Erased>) -> Box<dyn SideReceiver> {
        let readers = readers.into_iter().map(unerase::<Box<dyn Output<T>>>).collect();
        Box::new(SideEnd(Tee::join(readers)))
    }
}
