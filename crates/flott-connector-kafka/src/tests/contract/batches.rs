//! Records that are batches of messages: the contract holds for their rows, wherever batches begin and end.

use super::{KafkaSourceSubject, TOPIC, check_source_of, parse};
use crate::split::KafkaSplit;
use crate::tests::model::GROUP;
use crate::{KafkaSource, OffsetsInitializer};
use flott_api::testing::SourceDriver;
use flott_api::{
    Boundedness, EnumeratorInit, InputStatus, Source, SourceOutput, SourceReader, SourceReaderContext,
    SplitEnumerator, UserResult,
};
use flott_env::Env;
use flott_format_arrow::array::{Array, BinaryArray};
use flott_format_arrow::schema::{DataType, Field, Schema};
use flott_format_arrow::{ArrowBatch, ArrowFormat};
use flott_format_json::JsonFormat;
use flott_testkit::broker::BrokerRecord;
use flott_testkit::contract::{RecordId, SourceEvent, SourceStart, SourceSubject, Wakeup};
use flott_types::{Result, SplitId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A source of batches, as one of their rows.
struct Rows(KafkaSource<ArrowBatch>);

struct RowsReader {
    batches: Box<dyn SourceReader<Record = ArrowBatch, Split = KafkaSplit>>,
    read: SourceOutput<ArrowBatch>,
}

impl Source for Rows {
    type Record = Vec<u8>;
    type Split = KafkaSplit;

    fn boundedness(&self) -> Boundedness {
        self.0.boundedness()
    }
    fn create_enumerator(&self, init: EnumeratorInit) -> Result<Box<dyn SplitEnumerator<KafkaSplit>>> {
        self.0.create_enumerator(init)
    }
    fn create_reader(
        &self,
        ctx: SourceReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = Vec<u8>, Split = KafkaSplit>>> {
        let batches = self.0.create_reader(ctx)?;
        Ok(Box::new(RowsReader { batches, read: SourceOutput::default() }))
    }
}

impl SourceReader for RowsReader {
    type Record = Vec<u8>;
    type Split = KafkaSplit;

    fn add_splits(&mut self, splits: Vec<KafkaSplit>) -> Result<()> {
        self.batches.add_splits(splits)
    }
    fn no_more_splits(&mut self) {
        self.batches.no_more_splits();
    }
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        records_max: usize,
        out: &mut SourceOutput<Vec<u8>>,
    ) -> Poll<Result<InputStatus>> {
        let polled = self.batches.poll_next(cx, records_max, &mut self.read);
        for read in self.read.splits_mut().drain(..) {
            let out = out.split(&read.id);
            for batch in read.batch.records() {
                assert!(batch.num_rows() > 0, "a batch without rows");
                let column: &BinaryArray = batch.column(0).as_any().downcast_ref().expect("raw messages");
                column.iter().flatten().for_each(|message| out.collect(message.to_vec()));
            }
            out.bad_records.extend(read.bad_records);
            out.finished |= read.finished;
            out.caught_up |= read.caught_up;
        }
        polled
    }
    fn needs_splits(&self) -> bool {
        self.batches.needs_splits()
    }
    fn end_splits(&mut self, ids: &BTreeSet<SplitId>) -> Result<()> {
        self.batches.end_splits(ids)
    }
    fn set_paused(&mut self, paused: &BTreeSet<SplitId>) {
        self.batches.set_paused(paused);
    }
    fn snapshot(&mut self) -> Result<Vec<KafkaSplit>> {
        self.batches.snapshot()
    }
    fn checkpoint_complete(&mut self, splits: &[KafkaSplit]) -> Result<()> {
        self.batches.checkpoint_complete(splits)
    }
}

struct RowsSubject {
    records: KafkaSourceSubject,
    is_bounded: bool,
}

fn batches(records: &KafkaSourceSubject, format: ArrowFormat) -> KafkaSource<ArrowBatch> {
    KafkaSource::new("nowhere:9092", format)
        .client(Arc::new(records.client.clone()))
        .topics([TOPIC])
        .group_id(GROUP)
        .partition_discovery_interval(Some(Duration::from_secs(1)))
}

impl SourceSubject for RowsSubject {
    type Source = Rows;

    fn env(&self) -> Env {
        self.records.env()
    }
    fn source(&mut self) -> UserResult<Rows> {
        let source = batches(&self.records, ArrowFormat::raw("value"));
        Ok(Rows(if self.is_bounded { source.bounded(OffsetsInitializer::latest()) } else { source }))
    }
    fn put(&mut self, n: u64) -> UserResult<Vec<RecordId>> {
        self.records.put(n)
    }
    fn identify(&self, record: &Vec<u8>) -> RecordId {
        parse(record).expect("a record")
    }
    fn acknowledged(&mut self) -> UserResult<Option<BTreeMap<u32, u64>>> {
        self.records.acknowledged()
    }
    fn events(&self) -> Vec<SourceEvent> {
        self.records.events()
    }
    fn happen(&mut self, event: SourceEvent) -> UserResult {
        self.records.happen(event)
    }
    fn wait(&mut self, wakeup: &Wakeup) {
        self.records.wait(wakeup);
    }
}

#[test]
fn the_rows_of_batches_keep_the_contract_of_sources() {
    for is_bounded in [false, true] {
        check_source_of(|| {
            let records = KafkaSourceSubject::new(|source| source, SourceStart::Everything);
            Ok(RowsSubject { records, is_bounded })
        });
    }
}

#[test]
fn a_batch_is_of_one_partition_and_a_bad_message_in_it_is_named_by_its_offset() {
    let records = KafkaSourceSubject::new(|source| source, SourceStart::Everything);
    let messages = [
        (0, Some("{\"id\":1}"), 30),
        (0, None, 5),
        (0, Some("{\"id\":\"2\"}"), 10),
        (0, Some("{\"id\":3}"), 20),
        (1, Some("{\"id\":4}"), 7),
    ];
    for (partition, value, timestamp) in messages {
        let value = value.map(|value| value.as_bytes().to_vec());
        let record = BrokerRecord { value, timestamp: Some(timestamp), ..BrokerRecord::default() };
        records.client.broker().produce(TOPIC, partition, None, &[record]).unwrap();
    }
    let schema = Schema::new(vec![Field::new("id", DataType::UInt64, false)]);
    let source =
        batches(&records, JsonFormat::new().arrow(Arc::new(schema))).bounded(OffsetsInitializer::latest());
    let mut driver = SourceDriver::start(&source, &records.env(), 1).unwrap();
    let (mut batches, mut bad) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let read = driver.read_available(1_024).unwrap();
        batches.extend(read.records);
        bad.extend(read.bad_records);
        if driver.has_ended() {
            break;
        }
        // The enumerator's threads have their turn.
        let env = records.env();
        records.world.run(async move { env.sleep(Duration::from_secs(1)).await }).expect("ends");
        driver.discover().unwrap();
        if driver.awaits_checkpoint() {
            let snapshot = driver.snapshot().unwrap();
            driver.checkpoint_complete(&snapshot).unwrap();
        }
    }
    assert_eq!(bad.len(), 1);
    assert_eq!((bad[0].position.as_str(), bad[0].raw.as_slice()), ("offset 2", &b"{\"id\":\"2\"}"[..]));
    assert!(bad[0].message.contains("field 'id': invalid type: string"), "{bad:?}");
    let found: Vec<_> = batches
        .iter()
        .map(|(split, batch, timestamp)| (split.to_string(), batch.num_rows(), *timestamp))
        .collect();
    // Of the first partition one batch, with the least timestamp of what was polled for it.
    assert_eq!(found, [("topic-0".to_owned(), 2, 5), ("topic-1".to_owned(), 1, 7)]);
}
