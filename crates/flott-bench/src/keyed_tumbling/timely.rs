//! The same in `timely`: exchange by key, windows closed by the frontier.
//!
//! The operator uses the hand-written table, so that the difference is timely itself. A worker
//! sends its blocks as containers and advances its input, the event time, once per epoch.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::{Capability, Operator};
use timely::progress::frontier::MutableAntichain;
use timely::worker::Worker;

use super::OpenWindows;
use crate::hash::key_hash;
use crate::records::{BLOCK_LEN, Record, generator_blocks, record};
use crate::scenario::{Checksum, Outcome};

/// How many blocks (of all workers) lie between two advances of the input: 64 Ki records.
const BLOCKS_PER_EPOCH: u64 = 64;

/// (key, end of window, count)
type WindowCount = (u64, i64, u64);

pub(super) fn run(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        let config = if parallelism == 1 {
            ::timely::Config::thread()
        } else {
            ::timely::Config::process(parallelism)
        };
        let workers = ::timely::execute(config, move |worker| run_worker(worker, records, n_keys))
            .expect("timely starts its workers");
        workers.join().into_iter().map(|checksum| checksum.expect("a timely worker panicked")).sum()
    })
}

fn run_worker(worker: &mut Worker, records: u64, n_keys: u64) -> Checksum {
    let checksum = Rc::new(Cell::new(Checksum::default()));
    let mut input = build_dataflow(worker, n_keys, Rc::clone(&checksum));
    let (index, peers) = (worker.index(), worker.peers());
    let mut batch: Vec<Record> = Vec::new();
    let mut epoch_end = BLOCKS_PER_EPOCH * BLOCK_LEN;
    for block in generator_blocks(records, index, peers) {
        if block.start >= epoch_end {
            input.advance_to(block.start as i64);
            epoch_end = block.start + BLOCKS_PER_EPOCH * BLOCK_LEN;
            worker.step();
        }
        batch.clear();
        batch.extend(block.map(|index| record(index, n_keys)));
        input.send_batch(&mut batch);
    }
    input.close();
    while worker.has_dataflows() {
        worker.step_or_park(None);
    }
    checksum.get()
}

type RecordInput = InputHandle<i64, CapacityContainerBuilder<Vec<Record>>>;

fn build_dataflow(worker: &mut Worker, n_keys: u64, checksum: Rc<Cell<Checksum>>) -> RecordInput {
    let mut input = InputHandle::new();
    let peers = worker.peers();
    worker.dataflow(|scope| {
        let by_key = Exchange::new(|record: &Record| key_hash(record.0));
        input
            .to_stream(scope)
            .unary_frontier::<CapacityContainerBuilder<Vec<WindowCount>>, _, _, _>(by_key, "count", |_, _| {
                let mut windows = OpenWindows::new(n_keys, peers);
                let mut capabilities: BTreeMap<i64, Capability<i64>> = BTreeMap::new();
                move |(records, frontier), output| {
                    records.for_each(|capability, batch| {
                        windows.add(batch);
                        for window_end in windows.ends() {
                            capabilities
                                .entry(window_end)
                                .or_insert_with(|| capability.delayed(&window_end, output.output_index()));
                        }
                    });
                    while let Some(window_end) = windows.first_passed_end(watermark_of(frontier)) {
                        let capability =
                            capabilities.remove(&window_end).expect("each open window holds a capability");
                        let mut session = output.session(&capability);
                        windows.close_first(|key, count| {
                            if count > 0 {
                                session.give((key, window_end, count));
                            }
                        });
                    }
                }
            })
            .sink(Pipeline, "checksum", move |(results, _)| {
                results.for_each(|_, batch| {
                    let mut sum = checksum.get();
                    for &(key, window_end, count) in batch.iter() {
                        sum.add(key, window_end, count);
                    }
                    checksum.set(sum);
                });
            });
    });
    input
}

/// The frontier as a watermark: messages travel under the time at which their epoch began, so no
/// record before the frontier's time can follow.
fn watermark_of(frontier: &MutableAntichain<i64>) -> i64 {
    frontier.frontier().first().map_or(i64::MAX, |time| time.saturating_sub(1))
}
