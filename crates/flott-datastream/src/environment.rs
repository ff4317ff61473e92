//! Where a program starts and is executed.

use crate::config_source::load_configuration;
use crate::data_stream::DataStream;
use crate::deployment::with_object_stores;
use crate::job::{JobClient, JobExecutionResult, launch};
use crate::program::{NodeHandle, Origins, ProgramSource, SharedProgram};
use flott_api::sources::{CollectionSource, GeneratorSource};
use flott_api::{BadRecord, OnError, Source, StartingPosition, Until, WatermarkStrategy};
use flott_coordinator::enumerator_factory;
use flott_env::Env;
use flott_graph::JobGraph;
use flott_operators::pipe::Identity;
use flott_runtime::SourceFactory;
use flott_state::StateSettings;
use flott_types::{
    ConfigOption, ConfigValue, Configuration, DEFAULT_MAX_PARALLELISM, Data, Error, Result, options,
};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// The context of a program: its settings, its sources, its execution.
///
/// ```
/// use flott_api::{sinks, WatermarkStrategy};
/// use flott_datastream::StreamExecutionEnvironment;
///
/// let env = StreamExecutionEnvironment::new()?;
/// let (sink, results) = sinks::collect_sink();
/// env.from_collection(vec!["to be", "or not"].into_iter().map(String::from).collect::<Vec<_>>())
///     .flat_map(|line: String| line.split(' ').map(String::from).collect::<Vec<_>>())
///     .map(|word| word.len() as u64)
///     .sink_to(sink);
/// env.execute("word lengths")?;
/// assert_eq!(results.take(), [2, 2, 2, 3]);
/// # Ok::<(), flott_types::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StreamExecutionEnvironment {
    env: Env,
    config: Configuration,
    program: SharedProgram,
}

#[expect(clippy::wrong_self_convention, reason = "from_source and the like are the names that users know")]
impl StreamExecutionEnvironment {
    /// An environment of the real world with the configuration of the process: see [`load_configuration`].
    ///
    /// # Errors
    /// If the configuration is wrong, or the operating system refuses threads.
    pub fn new() -> Result<Self> {
        let env = Env::real().map_err(|error| Error::user("cannot start the runtime").with_source(error))?;
        let config = load_configuration(&env, |name| std::env::var(name).ok(), std::env::args())?;
        Ok(Self::with_env(env, config))
    }

    /// An environment of the real world with exactly this configuration.
    ///
    /// # Errors
    /// If the operating system refuses threads.
    pub fn with_configuration(config: Configuration) -> Result<Self> {
        let env = Env::real().map_err(|error| Error::user("cannot start the runtime").with_source(error))?;
        Ok(Self::with_env(env, config))
    }

    /// An environment of another world, for example a simulated one.
    pub fn with_env(env: Env, config: Configuration) -> Self {
        Self { env, config, program: SharedProgram::default() }
    }

    /// The way to clock and files.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// The settings.
    pub fn configuration(&self) -> &Configuration {
        &self.config
    }

    /// Changes a setting.
    pub fn set<T: ConfigValue>(&mut self, option: ConfigOption<T>, value: T) -> &mut Self {
        self.config.set_option(option, &value);
        self
    }

    /// The parallelism of operators that do not say; 0 for one subtask per core.
    pub fn set_parallelism(&mut self, parallelism: u32) -> &mut Self {
        self.set(options::PARALLELISM_DEFAULT, parallelism)
    }

    /// The number of key groups, and so the most that keyed operators can ever be scaled to.
    pub fn set_max_parallelism(&mut self, max_parallelism: u32) -> &mut Self {
        self.set(options::MAX_PARALLELISM, max_parallelism)
    }

    /// Takes a checkpoint every `interval`, exactly once unless `execution.checkpointing.mode` says otherwise. They are kept in
    /// `execution.checkpointing.dir`, and a job of the same name goes on from them also when the process was killed and the
    /// program is run again.
    pub fn enable_checkpointing(&mut self, interval: Duration) -> &mut Self {
        self.set(options::CHECKPOINTING_INTERVAL, Some(interval))
    }

    /// Runs every operator in a task of its own.
    pub fn disable_operator_chaining(&mut self) -> &mut Self {
        self.set(options::OPERATOR_CHAINING_ENABLED, false)
    }

    /// The parallelism of operators that do not say.
    pub fn parallelism(&self) -> u32 {
        match self.config.get(options::PARALLELISM_DEFAULT) {
            0 => u32::try_from(self.env.cores()).unwrap_or(u32::MAX),
            parallelism => parallelism,
        }
    }

    pub(crate) fn max_parallelism(&self) -> u32 {
        match self.config.get(options::MAX_PARALLELISM) {
            0 => DEFAULT_MAX_PARALLELISM.max(self.parallelism()),
            max_parallelism => max_parallelism,
        }
    }

    /// A stream of what `source` reads.
    pub fn from_source<S: Source>(
        &self,
        source: S,
        strategy: WatermarkStrategy<S::Record>,
        name: &str,
    ) -> SourceStream<S::Record> {
        self.from_source_with(source, strategy, name, OnError::Fail)
    }

    /// [`StreamExecutionEnvironment::from_source`], and what becomes of records that cannot be read.
    pub fn from_source_with<S: Source>(
        &self,
        source: S,
        strategy: WatermarkStrategy<S::Record>,
        name: &str,
        on_error: OnError,
    ) -> SourceStream<S::Record> {
        let source = Arc::new(source);
        let alignment = strategy.alignment().cloned();
        let is_chain = source.is_chain();
        let has_own_timestamps = strategy.timestamps().is_source();
        let factory = SourceFactory::new(Arc::clone(&source), strategy, on_error);
        let enumerator = enumerator_factory(source);
        let node = self.program.add_source(name, Arc::new(factory), |node| ProgramSource {
            node,
            enumerator,
            alignment,
            is_chain,
            has_own_timestamps,
            start: None,
            until: None,
        });
        let stream = DataStream::new(self.program.clone(), Origins::of(node.clone(), None));
        SourceStream { stream, program: self.program.clone(), node }
    }

    /// A bounded stream of `records`, in order at parallelism 1.
    pub fn from_collection<T: Data + Sync>(&self, records: Vec<T>) -> DataStream<T> {
        self.from_source(CollectionSource::new(records), WatermarkStrategy::no_watermarks(), "collection")
            .stream
    }

    /// The numbers from `from` to `to`, inclusive.
    pub fn from_sequence(&self, from: u64, to: u64) -> DataStream<u64> {
        let count = to.saturating_sub(from).saturating_add(1);
        let source = GeneratorSource::new(move |idx| from + idx, Some(count));
        self.from_source(source, WatermarkStrategy::no_watermarks(), "sequence").stream
    }

    /// The tasks that the program becomes, as text.
    ///
    /// # Errors
    /// If the program cannot run: see [`StreamExecutionEnvironment::execute`].
    pub fn explain(&self) -> Result<String> {
        Ok(self.job_graph()?.explain())
    }

    pub(crate) fn job_graph(&self) -> Result<JobGraph> {
        let chaining = self.config.get(options::OPERATOR_CHAINING_ENABLED);
        let program = self.program.lock();
        program.check_operators()?;
        JobGraph::new(&program.graph, self.parallelism(), self.max_parallelism(), chaining)
    }

    /// Runs the program and waits for its end. The environment is empty then, ready for another program.
    ///
    /// # Errors
    /// [`ErrorKind::UserError`](flott_types::ErrorKind::UserError) if the program cannot run (no operators, a uid twice,
    /// parallelism out of range, a stream or sink of an earlier program); else the failure of the job, with operator, subtask and record.
    pub fn execute(&self, name: &str) -> Result<JobExecutionResult> {
        let client = self.execute_async(name)?;
        self.env.block_on(client.result())
    }

    /// Starts the program and returns a handle to it. The environment is empty then, ready for another program; streams
    /// and sinks made before belong to the job, and a program that uses them is refused. It cannot be mended, so the
    /// environment is empty then too.
    ///
    /// # Errors
    /// As [`StreamExecutionEnvironment::execute`], as far as it is known before the job runs.
    pub fn execute_async(&self, name: &str) -> Result<JobClient> {
        let name = if name.is_empty() { self.config.get(options::PIPELINE_NAME) } else { name.to_owned() };
        let has_own = self.program.lock().check_operators();
        has_own.inspect_err(|_| drop(self.program.take()))?;
        let job_graph = self.job_graph()?;
        // Functions, sources and sinks belong to the job from here on: they are dropped when it ends, and whoever waits for
        // that (the receiver of a channel sink, say) need not wait for the environment.
        let program = self.program.take();
        // Where keyed state is kept goes with the environment to all that keep it.
        let env = with_object_stores(&self.env.with_settings(StateSettings::new(&self.config)), &self.config);
        launch(&env, &self.config, program, job_graph, name)
    }
}

/// The stream of a source; it can be used as the [`DataStream`] that it derefs to, and knows what could not be read.
#[derive(Debug)]
pub struct SourceStream<T> {
    stream: DataStream<T>,
    program: SharedProgram,
    node: NodeHandle,
}

impl<T> SourceStream<T> {
    /// Starts the source there if the job does not go on from a snapshot.
    #[must_use]
    pub fn starting_at(self, start: StartingPosition) -> Self {
        self.set(|source| source.start = Some(start))
    }

    /// Reads the source until then, whatever there is behind.
    #[must_use]
    pub fn until(self, until: Until) -> Self {
        self.set(|source| source.until = Some(until))
    }

    fn set(self, change: impl FnOnce(&mut ProgramSource)) -> Self {
        self.program.lock().set_source(&self.node, change);
        self
    }
}

impl<T: Data> SourceStream<T> {
    /// The records that could not be read, of a source with [`OnError::SideOutput`].
    pub fn bad_records(&self) -> DataStream<BadRecord> {
        self.program.bad_records(self.node.clone())
    }

    /// The stream.
    pub fn stream(&self) -> DataStream<T, Identity<T>> {
        self.stream.clone()
    }
}

impl<T> Deref for SourceStream<T> {
    type Target = DataStream<T>;
    fn deref(&self) -> &DataStream<T> {
        &self.stream
    }
}
