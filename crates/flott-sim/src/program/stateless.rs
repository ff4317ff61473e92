//! Fused runs of map, filter and flat_map: the type of the stream grows with each step.

use super::Stream;
use crate::plan::Step;
use crate::record::Record;
use flott_datastream::DataStream;
use flott_operators::pipe::Pipe;

/// Up to three steps in one operator.
pub(super) fn fuse(stream: &Stream, steps: &[Step]) -> Stream {
    let Some((step, rest)) = steps.split_first() else { return stream.clone() };
    match step {
        Step::Add(_) | Step::Rekey(_) => fuse_two(&stream.map(map(*step)), rest),
        Step::Filter(_) => fuse_two(&stream.filter(filter(*step)), rest),
        Step::Expand(_) => fuse_two(&stream.flat_map(expand(*step)), rest),
    }
}

fn fuse_two<P: Pipe<Out = Record, In = Record>>(stream: &DataStream<Record, P>, steps: &[Step]) -> Stream {
    let Some((step, rest)) = steps.split_first() else { return stream.seal() };
    match step {
        Step::Add(_) | Step::Rekey(_) => fuse_one(&stream.map(map(*step)), rest),
        Step::Filter(_) => fuse_one(&stream.filter(filter(*step)), rest),
        Step::Expand(_) => fuse_one(&stream.flat_map(expand(*step)), rest),
    }
}

fn fuse_one<P: Pipe<Out = Record, In = Record>>(stream: &DataStream<Record, P>, steps: &[Step]) -> Stream {
    match steps.first() {
        None => stream.seal(),
        Some(step @ (Step::Add(_) | Step::Rekey(_))) => stream.map(map(*step)).seal(),
        Some(step @ Step::Filter(_)) => stream.filter(filter(*step)).seal(),
        Some(step @ Step::Expand(_)) => stream.flat_map(expand(*step)).seal(),
    }
}

fn map(step: Step) -> impl FnMut(Record) -> Record + Clone + Send + 'static {
    move |record| step.map(record)
}

fn filter(step: Step) -> impl FnMut(&Record) -> bool + Clone + Send + 'static {
    move |record| step.keeps(record)
}

fn expand(step: Step) -> impl FnMut(Record) -> Vec<Record> + Clone + Send + 'static {
    move |record| step.expand(record)
}
