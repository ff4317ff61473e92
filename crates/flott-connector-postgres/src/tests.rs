//! An engine in small that dies between any two steps, before a simulated database that loses requests and replies; and sources, before a server in
//! memory.

mod capture;
mod contract;
mod crashes;
mod server;
mod simulated;
mod sources;

use crate::{PostgresSink, PostgresValue};
use flott_testkit::sink_steps::numbers;
use simulated::SimulatedPeer;
use std::sync::Arc;

/// `(partition of the input, number)`
type Row = (i64, i64);

/// A sink that writes to `peer`.
fn sink(peer: &SimulatedPeer) -> PostgresSink<Row> {
    let row = |(source, n): &Row| vec![PostgresValue::from(*source), PostgresValue::from(*n)];
    let mut sink = PostgresSink::with_row("", "results", ["source", "n"], row).buffer_flush_max_rows(3);
    sink.config.peer = Some(Arc::new(peer.clone()));
    sink
}

fn record(partition: u64, number: u64) -> Row {
    (partition as i64, number as i64)
}

fn records(chunks: u64) -> Vec<Row> {
    numbers(chunks).map(|(partition, number)| record(partition, number)).collect()
}

fn rows(peer: &SimulatedPeer) -> Vec<Row> {
    let mut rows: Vec<Row> = peer.world().committed().iter().map(|row| read(&row.values)).collect();
    rows.sort_unstable();
    rows
}

fn read(values: &[PostgresValue]) -> Row {
    match values {
        [PostgresValue::Integer(source), PostgresValue::Integer(n)] => (*source, *n),
        other => panic!("no row: {other:?}"),
    }
}
