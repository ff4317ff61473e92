//! The same in `timely`: an operator per step, each making new containers.

use std::cell::Cell;
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::vec::{Filter, Map};
use timely::worker::Worker;

use super::{add, finish, is_kept, is_part_kept, scramble, split};
use crate::records::generator_blocks;
use crate::scenario::{Checksum, Outcome};

/// How many blocks a worker sends between two steps.
const BLOCKS_PER_STEP: usize = 16;

pub(super) fn run(records: u64, parallelism: usize) -> Outcome {
    Outcome::measure(|| {
        let config = if parallelism == 1 {
            ::timely::Config::thread()
        } else {
            ::timely::Config::process(parallelism)
        };
        let workers = ::timely::execute(config, move |worker| run_worker(worker, records))
            .expect("timely starts its workers");
        workers.join().into_iter().map(|checksum| checksum.expect("a timely worker panicked")).sum()
    })
}

fn run_worker(worker: &mut Worker, records: u64) -> Checksum {
    let checksum = Rc::new(Cell::new(Checksum::default()));
    let mut input = build_dataflow(worker, Rc::clone(&checksum));
    let mut batch = Vec::new();
    for (block_idx, block) in generator_blocks(records, worker.index(), worker.peers()).enumerate() {
        batch.clear();
        batch.extend(block);
        input.send_batch(&mut batch);
        if block_idx % BLOCKS_PER_STEP == 0 {
            worker.step();
        }
    }
    input.close();
    while worker.has_dataflows() {
        worker.step_or_park(None);
    }
    checksum.get()
}

type ValueInput = InputHandle<u64, CapacityContainerBuilder<Vec<u64>>>;

fn build_dataflow(worker: &mut Worker, checksum: Rc<Cell<Checksum>>) -> ValueInput {
    let mut input = InputHandle::new();
    worker.dataflow(|scope| {
        input
            .to_stream(scope)
            .map_in_place(|value| *value = scramble(*value))
            .filter(is_kept)
            .flat_map(split)
            .filter(is_part_kept)
            .map_in_place(|value| *value = finish(*value))
            .sink(Pipeline, "checksum", move |(values, _)| {
                values.for_each(|_, batch| {
                    let mut sum = checksum.get();
                    for &value in batch.iter() {
                        add(&mut sum, value);
                    }
                    checksum.set(sum);
                });
            });
    });
    input
}
