//! What comes through a socket.

use flott_api::testing::SourceDriver;
use flott_connector_socket::SocketSource;
use flott_env::sim::Simulation;
use std::task::{Context, Waker};

const ADDRESS: &str = "host:1";
const LINE_BYTES_MAX: usize = 16;

pub(crate) fn lines(bytes: &[u8]) {
    let simulation = Simulation::new(1);
    simulation.serve(ADDRESS, bytes.to_vec());
    let source = SocketSource::lines(ADDRESS).max_line_bytes(LINE_BYTES_MAX);
    let mut driver = SourceDriver::start(&source, &simulation.env(), 1).expect("it starts");
    let mut cx = Context::from_waker(Waker::noop());
    let mut n_lines = 0;
    while !driver.has_ended() {
        let std::task::Poll::Ready(read) = driver.poll_all(&mut cx, 2) else { continue };
        let read = read.expect("a connection that works");
        assert!(read.records.iter().all(|(_, line, _)| line.len() <= LINE_BYTES_MAX));
        n_lines += read.records.len() + read.bad_records.len();
    }
    let ended = bytes.iter().filter(|byte| **byte == b'\n').count();
    let rest = usize::from(bytes.last().is_some_and(|byte| *byte != b'\n'));
    assert_eq!(n_lines, ended + rest);
}

pub(crate) fn streams() -> Vec<Vec<u8>> {
    vec![b"first\r\nsecond\n\na line that is too long\n\xff\xfe\nlast \xc3\xa9".to_vec()]
}
