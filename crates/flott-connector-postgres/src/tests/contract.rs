//! The contract of sinks, by the kit for connectors, before the simulated database.

use super::simulated::{Fault, SimulatedPeer};
use super::{Row, read, sink};
use crate::PostgresSink;
use flott_api::UserResult;
use flott_env::Env;
use flott_env::sim::Simulation;
use flott_testkit::contract::{Budget, RecordId, SinkContract, SinkFault, SinkPromise, SinkSubject};
use flott_types::CheckpointId;

struct Subject {
    world: Simulation,
    peer: SimulatedPeer,
    sink: PostgresSink<Row>,
    promise: SinkPromise,
}

impl SinkSubject for Subject {
    type Record = Row;
    type Sink = PostgresSink<Row>;

    fn env(&self) -> Env {
        self.world.env()
    }
    fn sink(&mut self) -> UserResult<PostgresSink<Row>> {
        Ok(self.sink.clone())
    }
    fn promise(&self) -> SinkPromise {
        self.promise
    }
    fn record(&self, id: RecordId) -> Row {
        (i64::from(id.partition), id.number as i64)
    }
    fn bad_record(&self) -> Option<Row> {
        Some((0, -1))
    }
    fn committed(&mut self, _: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
        let rows = self.peer.world().committed();
        let id = |(partition, number): Row| RecordId { partition: partition as u32, number: number as u64 };
        Ok(rows.iter().map(|row| id(read(&row.values))).collect())
    }
    fn lingering(&mut self) -> UserResult<Vec<String>> {
        Ok(self.peer.world().prepared.keys().cloned().collect())
    }
    fn faults(&self) -> Vec<SinkFault> {
        vec![SinkFault::FailRequest, SinkFault::LoseReply, SinkFault::Disconnect]
    }
    fn inject(&mut self, fault: SinkFault, nth: u64) -> UserResult {
        let mut world = self.peer.world();
        let at = world.n_calls + 1 + nth;
        match fault {
            SinkFault::FailRequest => drop(world.faults.insert(at, Fault::LoseRequest)),
            SinkFault::LoseReply => drop(world.faults.insert(at, Fault::LoseReply)),
            SinkFault::Disconnect
            | SinkFault::Restart
            | SinkFault::Expire
            | SinkFault::LateRequest { .. }
            | SinkFault::DuplicateRequest { .. } => world.disconnect(),
        }
        Ok(())
    }
    fn requests(&mut self) -> Option<u64> {
        Some(self.peer.world().n_calls)
    }
}

fn check(promise: SinkPromise, configure: fn(PostgresSink<Row>) -> PostgresSink<Row>) {
    let subject = || {
        let peer = SimulatedPeer::default();
        let sink = configure(sink(&peer));
        Ok(Subject { world: Simulation::new(1), peer, sink, promise })
    };
    let report = SinkContract::new().budget(Budget::Sample { cases: 1_500, seed: 7 }).run(subject);
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.cases.len() > 100, "{} cases", report.cases.len());
}

#[test]
fn transactional_it_keeps_the_contract_of_sinks() {
    check(SinkPromise::Transactional, PostgresSink::transactional);
}

#[test]
fn eager_it_keeps_the_contract_of_sinks() {
    check(SinkPromise::Eager, PostgresSink::eager);
}

#[test]
fn with_keys_it_keeps_the_contract_of_sinks() {
    check(SinkPromise::InTheEnd, |sink| sink.upsert_by(["source", "n"]));
}
