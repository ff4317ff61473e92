//! Small whole programs in simulation.

use flott_api::sinks::collect_sink;
use flott_datastream::{DataStream, JobExecutionResult, StreamExecutionEnvironment};
use flott_env::sim::Simulation;
use flott_operators::pipe::Pipe;
use flott_types::{Configuration, Data, Error, Result};

/// Runs the program that `build` builds, in one thread, in virtual time. `seed` decides what is left to chance; the same
/// seed gives the same run.
///
/// ```
/// use flott_api::sinks::collect_sink;
/// use flott_testkit::simulate;
///
/// let (sink, results) = collect_sink();
/// let result = simulate(7, |env| {
///     env.set_parallelism(2);
///     env.from_sequence(1, 10).filter(|n| n % 2 == 0).key_by(|n| n % 3).reduce(|sum, n| *sum += n).sink_to(sink);
///     Ok(())
/// })?;
/// assert_eq!(results.take().into_iter().max(), Some(14));
/// assert_eq!(result.operators[0].records_out, 10);
/// # Ok::<(), flott_types::Error>(())
/// ```
///
/// # Errors
/// The failure of the program; also if all its tasks wait for one another.
pub fn simulate(
    seed: u64,
    build: impl FnOnce(&mut StreamExecutionEnvironment) -> Result<()>,
) -> Result<JobExecutionResult> {
    simulate_in(&Simulation::new(seed), build)
}

/// [`simulate`] in a world with files and servers, which can be looked at afterwards.
///
/// # Errors
/// As [`simulate`].
pub fn simulate_in(
    simulation: &Simulation,
    build: impl FnOnce(&mut StreamExecutionEnvironment) -> Result<()>,
) -> Result<JobExecutionResult> {
    let mut env = StreamExecutionEnvironment::with_env(simulation.env(), Configuration::default());
    build(&mut env)?;
    let job = env.execute_async("simulated")?;
    let ended = simulation.run(job.result());
    ended.map_err(|error| Error::subtask("the simulated job does not end").with_source(error))?
}

/// The records of the stream that `build` builds, run as by [`simulate`]. Their order is that of the subtasks.
///
/// ```
/// use flott_testkit::simulate_collect;
///
/// let mut squares = simulate_collect(7, |env| Ok(env.from_collection(vec![3_u64, 1, 2]).map(|n| n * n)))?;
/// squares.sort();
/// assert_eq!(squares, [1, 4, 9]);
/// # Ok::<(), flott_types::Error>(())
/// ```
///
/// # Errors
/// As [`simulate`].
pub fn simulate_collect<T: Data, P: Pipe<Out = T, In: Data>>(
    seed: u64,
    build: impl FnOnce(&mut StreamExecutionEnvironment) -> Result<DataStream<T, P>>,
) -> Result<Vec<T>> {
    let (sink, results) = collect_sink();
    simulate(seed, |env| {
        build(env)?.sink_to(sink);
        Ok(())
    })?;
    Ok(results.take())
}
