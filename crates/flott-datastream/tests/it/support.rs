//! Environments to run programs in.

use flott_datastream::StreamExecutionEnvironment;
use flott_env::sim::Simulation;
use flott_types::Configuration;

pub(crate) fn real(parallelism: u32) -> StreamExecutionEnvironment {
    let mut env = StreamExecutionEnvironment::with_configuration(Configuration::default()).unwrap();
    env.set_parallelism(parallelism);
    env
}

pub(crate) fn simulated(parallelism: u32, seed: u64) -> StreamExecutionEnvironment {
    let mut env = StreamExecutionEnvironment::with_env(Simulation::new(seed).env(), Configuration::default());
    env.set_parallelism(parallelism);
    env
}

pub(crate) fn sorted<T: Ord>(mut records: Vec<T>) -> Vec<T> {
    records.sort();
    records
}

/// A directory that no other test has, among the files that cargo builds; a simulated world has it in memory only.
pub(crate) fn directory(env: &StreamExecutionEnvironment) -> String {
    format!("{}/{:016x}", env!("CARGO_TARGET_TMPDIR"), env.env().random_u64())
}
