//! The same in `renoir`: with a window operator of our own, and with its event-time window.
//!
//! At parallelism 1 the stream is keyed without a shuffle, so one thread does all the work, as in
//! the other contenders. At parallelism 2 renoir runs two sources and two windows, four threads.

use renoir::operator::window::EventTimeWindow;
use renoir::operator::{Operator, StreamElement};
use renoir::prelude::{BatchMode, StreamOutput};
use renoir::{KeyedStream, RuntimeConfig, Stream, StreamContext};

use super::{OpenWindows, WINDOW_SIZE};
use crate::records::{BLOCK_LEN, GeneratorIndices, Record, record};
use crate::scenario::{Checksum, Outcome};

/// Records per batch; the default mode would read the clock for each record.
const BATCH_LEN: usize = 1024;

/// The own window counts this many records at once, as the hand-written one does.
const COUNT_LEN: usize = 128;

/// Watermarks cost renoir's built-in window a visit to every key; it gets few.
const BUILT_IN_WATERMARK_INTERVAL: i64 = 250 * BLOCK_LEN as i64;

/// (key, end of window, count)
type WindowCount = (u64, i64, u64);

pub(super) fn run_own_window(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        let context = new_context(parallelism);
        let keys = source(&context, records, n_keys, BLOCK_LEN as i64);
        let window = OwnWindow::new(n_keys, parallelism);
        let output = if parallelism == 1 {
            checksum(own_window(keys.key_by(|&key| key), window))
        } else {
            checksum(own_window(keys.group_by(|&key| key), window))
        };
        execute(context, output)
    })
}

pub(super) fn run_built_in_window(records: u64, parallelism: usize, n_keys: u64) -> Outcome {
    Outcome::measure(|| {
        let context = new_context(parallelism);
        let keys = source(&context, records, n_keys, BUILT_IN_WATERMARK_INTERVAL);
        let output = if parallelism == 1 {
            checksum(built_in_window(keys.key_by(|&key| key)))
        } else {
            checksum(built_in_window(keys.group_by(|&key| key)))
        };
        execute(context, output)
    })
}

fn new_context(parallelism: usize) -> StreamContext {
    StreamContext::new(RuntimeConfig::local(parallelism as u64).expect("a local configuration is valid"))
}

/// The keys of the records, with their timestamps as renoir's own.
fn source(
    context: &StreamContext,
    records: u64,
    n_keys: u64,
    watermark_interval: i64,
) -> Stream<impl Operator<Out = u64> + use<>> {
    let generator = move |generator: u64, parallelism: u64| {
        GeneratorIndices::new(records, generator as usize, parallelism as usize)
            .map(move |index| record(index, n_keys))
    };
    context
        .stream_par_iter(generator)
        .batch_mode(BatchMode::fixed(BATCH_LEN))
        .add_timestamps(
            |record: &Record| record.1,
            move |_, &timestamp| ((timestamp + 1) % watermark_interval == 0).then_some(timestamp),
        )
        .map(|record| record.0)
}

fn own_window(
    keyed: KeyedStream<impl Operator<Out = (u64, u64)> + 'static>,
    mut window: OwnWindow,
) -> Stream<impl Operator<Out = WindowCount>> {
    keyed.rich_map_custom(move |mut input| {
        loop {
            if let Some(result) = window.results.pop() {
                return StreamElement::Item(result);
            }
            if let Some(end) = window.end.take() {
                return end;
            }
            match input.next() {
                StreamElement::Timestamped((key, _), timestamp) => window.on_record((key, timestamp)),
                StreamElement::Watermark(watermark) => window.on_watermark(watermark),
                StreamElement::FlushAndRestart => {
                    window.on_watermark(i64::MAX);
                    window.end = Some(StreamElement::FlushAndRestart);
                }
                StreamElement::Item(_) => unreachable!("every record has a timestamp"),
                StreamElement::FlushBatch => return StreamElement::FlushBatch,
                StreamElement::Terminate => return StreamElement::Terminate,
            }
        }
    })
}

/// The state of the own window in one replica.
struct OwnWindow {
    windows: OpenWindows,
    /// Records that wait to be counted together. Those of several senders are not in order.
    waiting: Vec<Record>,
    results: Vec<WindowCount>,
    end: Option<StreamElement<WindowCount>>,
    n_keys: u64,
    parallelism: usize,
}

impl OwnWindow {
    fn new(n_keys: u64, parallelism: usize) -> Self {
        Self {
            windows: OpenWindows::new(n_keys, parallelism),
            waiting: Vec::with_capacity(COUNT_LEN),
            results: Vec::new(),
            end: None,
            n_keys,
            parallelism,
        }
    }

    #[inline]
    fn on_record(&mut self, record: Record) {
        // A batch of one sender is in order; where another's begins, the timestamp may fall.
        if self.waiting.len() == COUNT_LEN || self.waiting.last().is_some_and(|last| last.1 > record.1) {
            self.count_waiting();
        }
        self.waiting.push(record);
    }

    fn count_waiting(&mut self) {
        self.windows.add(&self.waiting);
        self.waiting.clear();
    }

    fn on_watermark(&mut self, watermark: i64) {
        self.count_waiting();
        while let Some(window_end) = self.windows.first_passed_end(watermark) {
            let results = &mut self.results;
            self.windows.close_first(|key, count| {
                if count > 0 {
                    results.push((key, window_end, count));
                }
            });
        }
    }
}

/// renoir clones a chain for each replica before any record flows.
impl Clone for OwnWindow {
    fn clone(&self) -> Self {
        Self::new(self.n_keys, self.parallelism)
    }
}

fn built_in_window(
    keyed: KeyedStream<impl Operator<Out = (u64, u64)> + 'static>,
) -> Stream<impl Operator<Out = WindowCount>> {
    keyed.window(EventTimeWindow::tumbling(WINDOW_SIZE)).count().rich_map_custom(|mut input| {
        match input.next() {
            StreamElement::Timestamped((key, count), window_end) => {
                StreamElement::Item((key, window_end, count as u64))
            }
            element => element.map(|(key, count)| (key, 0, count as u64)),
        }
    })
}

fn checksum(results: Stream<impl Operator<Out = WindowCount> + 'static>) -> StreamOutput<Vec<(u64, u64)>> {
    results
        .fold_assoc(
            (0, 0),
            |sum: &mut (u64, u64), (key, window_end, count)| {
                let mut checksum = Checksum { sum: sum.0, n_results: sum.1 };
                checksum.add(key, window_end, count);
                *sum = (checksum.sum, checksum.n_results);
            },
            |sum, part| *sum = (sum.0.wrapping_add(part.0), sum.1 + part.1),
        )
        .collect_vec()
}

fn execute(context: StreamContext, output: StreamOutput<Vec<(u64, u64)>>) -> Checksum {
    context.execute_blocking();
    let sums = output.get().expect("renoir collects the output in this process");
    sums.into_iter().map(|(sum, n_results)| Checksum { sum, n_results }).sum()
}
