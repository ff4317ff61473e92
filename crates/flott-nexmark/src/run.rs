//! Building and running a query by its name.

use crate::programs;
use crate::query::Query;
use crate::sink::FingerprintSink;
use flott_api::sinks::{BlackholeSink, RecordCounter};
use flott_connector_nexmark::NexmarkConfig;
use flott_connector_nexmark::oracle::Fingerprint;
use flott_datastream::{DataStream, JobExecutionResult, StreamExecutionEnvironment};
use flott_types::{Data, Result};

/// What becomes of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// They are counted.
    Blackhole,
    /// They are counted and hashed.
    Fingerprint,
}

/// The results of a query in a program, live while it runs.
#[derive(Clone, Debug)]
pub enum QueryResults {
    /// How many there are.
    Counted(RecordCounter),
    /// What they are.
    Hashed(FingerprintSink),
}

impl QueryResults {
    /// The number of results so far.
    pub fn records(&self) -> u64 {
        match self {
            Self::Counted(counter) => counter.get(),
            Self::Hashed(sink) => sink.fingerprint().records,
        }
    }

    /// The fingerprint of the results so far, if they are hashed.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::Counted(_) => None,
            Self::Hashed(sink) => Some(sink.fingerprint()),
        }
    }
}

/// How a query went.
#[derive(Clone, Debug)]
pub struct QueryRun {
    /// The job.
    pub job: JobExecutionResult,
    /// How many records the sources made: those of the kinds that the query reads.
    pub records_in: u64,
    /// How many results there are.
    pub records_out: u64,
    /// What the results are, if they were hashed.
    pub fingerprint: Option<Fingerprint>,
}

/// Adds `query` and a sink to the program of `env`.
///
/// # Errors
/// If an option of the generator is out of its range.
pub fn add_query(
    query: Query,
    config: &NexmarkConfig,
    env: &StreamExecutionEnvironment,
    sink: SinkKind,
) -> Result<QueryResults> {
    Ok(match query {
        Query::Q0 => write(sink, &programs::q0(env, config)?),
        Query::Q1 => write(sink, &programs::q1(env, config)?),
        Query::Q2 => write(sink, &programs::q2(env, config)?),
        Query::Q3 => write(sink, &programs::q3(env, config)?),
        Query::Q4 => write(sink, &programs::q4(env, config)?),
        Query::Q5 => write(sink, &programs::q5(env, config)?),
        Query::Q7 => write(sink, &programs::q7(env, config)?),
        Query::Q8 => write(sink, &programs::q8(env, config)?),
        Query::Q11 => write(sink, &programs::q11(env, config)?),
        Query::Q12 => write(sink, &programs::q12(env, config)?),
    })
}

fn write<T: Data>(kind: SinkKind, results: &DataStream<T>) -> QueryResults {
    match kind {
        SinkKind::Blackhole => {
            let sink = BlackholeSink::new();
            let counter = sink.counter();
            results.sink_to(sink);
            QueryResults::Counted(counter)
        }
        SinkKind::Fingerprint => {
            let sink = FingerprintSink::new();
            results.sink_to(sink.clone());
            QueryResults::Hashed(sink)
        }
    }
}

/// Runs `query` to the end of its input in an environment that has no program yet.
///
/// # Errors
/// If an option of the generator is out of its range, or the job fails.
pub fn run(
    query: Query,
    config: &NexmarkConfig,
    env: &StreamExecutionEnvironment,
    sink: SinkKind,
) -> Result<QueryRun> {
    let results = add_query(query, config, env, sink)?;
    let job = env.execute(query.name())?;
    let sources = job.operators.iter().filter(|operator| programs::SOURCES.contains(&operator.name.as_str()));
    let records_in = sources.map(|source| source.records_out).sum();
    Ok(QueryRun { records_in, records_out: results.records(), fingerprint: results.fingerprint(), job })
}
