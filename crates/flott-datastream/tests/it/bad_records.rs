//! Records that sinks reject: each is a dead letter once, wherever the job is killed.

use crate::checkpoints::{COUNT, Kills, N_SPLITS, configure, finished, kill_points, numbers, source};
use crate::support::{real, simulated};
use crate::transactional::{Numbered, TransactionWriter, Transactions};
use flott_api::sinks::collect_sink;
use flott_api::{BadRecord, BadRecords, Committer, OnError, Sink, SinkContext, SinkWriter, UserResult};
use flott_datastream::{DataStream, StreamExecutionEnvironment};
use flott_types::{CheckpointId, RecordBatch, Result, options};

/// Does not take every seventh record: some it rejects at once, others when the input pauses, at a barrier or at the end.
#[derive(Clone)]
struct Picky(Transactions<Numbered>);

fn is_bad((_, number): &Numbered) -> bool {
    number % 7 == 0
}

struct PickyWriter {
    writer: TransactionWriter<Numbered>,
    bad_records: BadRecords,
    held: Vec<Numbered>,
}

impl PickyWriter {
    fn reject(&self, record: &Numbered) -> UserResult {
        self.bad_records.reject("the store", record, "a multiple of 7")
    }

    fn reject_held(&mut self) -> UserResult {
        let held = std::mem::take(&mut self.held);
        held.iter().try_for_each(|record| self.reject(record))
    }
}

impl Sink<Numbered> for Picky {
    type Writer = PickyWriter;
    fn create_writer(&self, ctx: SinkContext) -> Result<PickyWriter> {
        let bad_records = ctx.bad_records.clone();
        Ok(PickyWriter { writer: self.0.create_writer(ctx)?, bad_records, held: Vec::new() })
    }
    fn create_committer(&self, ctx: SinkContext) -> Result<Option<Box<dyn Committer>>> {
        self.0.create_committer(ctx)
    }
}

impl SinkWriter<Numbered> for PickyWriter {
    fn write(&mut self, batch: RecordBatch<Numbered>) -> UserResult {
        let (bad, good): (Vec<_>, Vec<_>) = batch.into_columns().0.into_iter().partition(is_bad);
        for record in bad {
            match record.1 % 2 {
                0 => self.reject(&record)?,
                _ => self.held.push(record),
            }
        }
        self.writer.write(RecordBatch::untimed(good))
    }
    fn flush(&mut self) -> UserResult {
        self.held.pop().map_or(Ok(()), |record| self.reject(&record))
    }
    fn finish(&mut self) -> UserResult {
        self.reject_held()?;
        self.writer.finish()
    }
    fn prepare_commit(&mut self, checkpoint_id: CheckpointId, is_final: bool) -> UserResult<Vec<Vec<u8>>> {
        self.reject_held()?;
        self.writer.prepare_commit(checkpoint_id, is_final)
    }
    fn restore(&mut self, entries: Vec<Vec<u8>>, restored: Option<CheckpointId>) -> UserResult {
        self.writer.restore(entries, restored)
    }
}

/// The record of a dead letter.
fn record_of(letter: &BadRecord) -> Numbered {
    assert_eq!((letter.split.0.as_str(), letter.message.as_str()), ("the store", "a multiple of 7"));
    assert!(letter.position.starts_with("sink 'sink' subtask "), "{}", letter.position);
    serde_yaml_ng::from_slice(&letter.raw).unwrap()
}

fn program(
    stream: &DataStream<Numbered>,
    kills: &Kills,
    good: &Transactions<Numbered>,
) -> DataStream<Numbered> {
    let (kills, behind) = (kills.clone(), kills.clone());
    let sink = stream
        .map(move |record| kills.pass(record))
        .rebalance()
        .sink_to_with(Picky(good.clone()), OnError::SideOutput)
        .uid("sink");
    sink.bad_records().map(move |letter| behind.pass(record_of(&letter))).seal()
}

fn check(env: &StreamExecutionEnvironment, seed: u64, failures: u32) {
    let kills = Kills::at(&kill_points(seed));
    let (good, dead) = (Transactions::failing(failures), Transactions::new());
    let letters = program(&source(env, N_SPLITS, COUNT, "numbers"), &kills, &good);
    letters.sink_to(dead.clone()).uid("dead letters");
    let result = finished(env.execute("bad records"));
    let (bad, others): (Vec<_>, Vec<_>) = numbers(N_SPLITS, COUNT).partition(is_bad);
    assert_eq!(good.committed(), others, "seed {seed}");
    assert_eq!(dead.committed(), bad, "seed {seed}");
    assert!(result.restarts >= 1, "seed {seed}: nothing was killed");
}

#[test]
fn each_rejected_record_is_a_dead_letter_once_wherever_the_job_is_killed() {
    for seed in 0..24 {
        for parallelism in 1..=3 {
            let mut env = simulated(parallelism, seed);
            configure(&mut env, 10 + seed);
            env.set(options::CHECKPOINTING_UNALIGNED, seed % 4 == 1);
            if seed % 3 == 0 {
                env.disable_operator_chaining();
            }
            check(&env, seed * 4 + u64::from(parallelism), (seed % 3) as u32);
        }
    }
}

#[test]
fn each_rejected_record_is_a_dead_letter_once_in_the_real_world() {
    let mut env = real(2);
    configure(&mut env, 10);
    check(&env, 5, 1);
}

#[test]
fn a_record_that_a_sink_cannot_take_fails_the_job_is_skipped_or_comes_out_at_the_side_and_is_counted() {
    let run = |on_error: OnError| {
        let env = real(1);
        let (good, (dead, letters)) = (Transactions::new(), collect_sink());
        let records: Vec<Numbered> = (5..9).map(|number| (0, number)).collect();
        let sink = env.from_collection(records).sink_to_with(Picky(good.clone()), on_error).uid("sink");
        sink.bad_records().map(|letter: BadRecord| record_of(&letter)).sink_to(dead);
        let done = env.execute("picky");
        let n_bad = done.map(|done| done.operators.iter().map(|it| it.records_in_errors).sum::<u64>());
        (n_bad, good.committed(), letters.take())
    };
    let report = run(OnError::Fail).0.unwrap_err().report();
    assert!(report.contains("bad record for the store: a multiple of 7; to go on"), "{report}");
    let others = vec![(0, 5), (0, 6), (0, 8)];
    let (n_bad, good, letters) = run(OnError::Skip);
    assert_eq!((n_bad.unwrap(), good, letters), (1, others.clone(), vec![]));
    let (n_bad, good, letters) = run(OnError::SideOutput);
    assert_eq!((n_bad.unwrap(), good, letters), (1, others, vec![(0, 7)]));
}
