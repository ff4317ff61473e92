//! Sinks.

use crate::support::{LENGTH, SEEDS};
use expect_test::expect;
use flott_api::{Sink, SinkContext, SinkWriter, UserResult};
use flott_operators::{Operator, OperatorContext, OperatorOutput, SinkOperator};
use flott_state::{OperatorSnapshot, decode, encode};
use flott_testkit::{SnapshotCheck, TestDriver, parse_stream, random_stream};
use flott_types::{CheckpointId, RecordBatch, Result, StreamStatus, Timestamp, Watermark};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

type Written = Arc<Mutex<Vec<String>>>;

/// Writes records when the watermark has passed them, at once if it has already, and others when a while has passed.
struct Sorted {
    waiting: Vec<(i64, Timestamp)>,
    watermark: Watermark,
    oldest: Option<i64>,
    now: i64,
    written: Written,
}

impl Sorted {
    fn new(written: &Written) -> Self {
        let (waiting, watermark) = (Vec::new(), Watermark::MIN);
        Self { waiting, watermark, oldest: None, now: 0, written: Arc::clone(written) }
    }

    fn write_if(&mut self, is_due: impl Fn(Timestamp) -> bool) {
        let mut due: Vec<_> = self.waiting.extract_if(.., |(_, timestamp)| is_due(*timestamp)).collect();
        due.sort_by_key(|(record, timestamp)| (*timestamp, *record));
        self.written
            .lock()
            .unwrap()
            .extend(due.iter().map(|(record, timestamp)| format!("{record}@{timestamp}")));
    }
}

impl SinkWriter<i64> for Sorted {
    fn write(&mut self, batch: RecordBatch<i64>) -> UserResult {
        for record in batch {
            self.waiting.push(record);
            self.oldest.get_or_insert(self.now + 50);
            self.on_watermark(self.watermark)?;
        }
        Ok(())
    }
    fn on_watermark(&mut self, watermark: Watermark) -> UserResult {
        self.watermark = self.watermark.max(watermark);
        let reached = self.watermark.timestamp();
        self.write_if(|timestamp| timestamp <= reached);
        Ok(())
    }
    fn next_timer(&self) -> Option<i64> {
        self.oldest
    }
    fn on_processing_time(&mut self, now: i64) -> UserResult {
        self.now = now;
        self.oldest = None;
        self.write_if(|_| true);
        Ok(())
    }
    fn finish(&mut self) -> UserResult {
        self.write_if(|_| true);
        self.written.lock().unwrap().push("finished".to_owned());
        Ok(())
    }
    fn snapshot(&mut self) -> UserResult<Vec<Vec<u8>>> {
        let mut entries =
            vec![encode("clocks", &(None::<(i64, Timestamp)>, self.watermark, self.oldest, self.now))?];
        for waiting in &self.waiting {
            entries.push(encode("waiting", &(Some(waiting), self.watermark, self.oldest, self.now))?);
        }
        Ok(entries)
    }
    fn restore(&mut self, entries: Vec<Vec<u8>>, _: Option<CheckpointId>) -> UserResult {
        for entry in entries {
            let (waiting, watermark, oldest, now) =
                decode::<(Option<(i64, Timestamp)>, _, _, _)>("waiting", &entry)?;
            self.waiting.extend(waiting);
            (self.watermark, self.oldest, self.now) = (watermark, oldest, now);
        }
        Ok(())
    }
}

/// A sink operator that emits what the sink has written, to be compared.
struct Shown {
    operator: SinkOperator<i64, Sorted>,
    written: Written,
}

impl Shown {
    fn new() -> Self {
        let written = Written::default();
        Self { operator: SinkOperator::new(Sorted::new(&written)), written }
    }

    fn call(
        &mut self,
        out: &mut OperatorOutput<'_, String>,
        call: impl FnOnce(&mut SinkOperator<i64, Sorted>, &mut OperatorOutput<'_, ()>) -> Result<()>,
    ) -> Result<()> {
        let (mut nowhere, mut sides, metrics) = (support::Nowhere, Default::default(), Arc::default());
        call(&mut self.operator, &mut OperatorOutput::new(&mut nowhere, &mut sides, &metrics))?;
        out.emit(RecordBatch::untimed(std::mem::take(&mut *self.written.lock().unwrap())))
    }
}

mod support {
    //! An output that nothing is written to.

    use super::{OperatorSnapshot, RecordBatch, Result, StreamStatus, Timestamp, Watermark};
    use flott_operators::{Output, OutputControl};
    use flott_types::OperatorUid;
    use std::task::{Context, Poll};

    pub(super) struct Nowhere;

    impl OutputControl for Nowhere {
        fn watermark(&mut self, _: Watermark) -> Result<()> {
            Ok(())
        }
        fn status(&mut self, _: StreamStatus) -> Result<()> {
            Ok(())
        }
        fn end_of_data(&mut self) -> Result<()> {
            Ok(())
        }
        fn processing_time(&mut self, _: Timestamp) -> Result<()> {
            Ok(())
        }
        fn next_timer(&self) -> Option<Timestamp> {
            None
        }
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn snapshot(&mut self, _: &mut Vec<(OperatorUid, OperatorSnapshot)>) -> Result<()> {
            Ok(())
        }
    }

    impl Output<()> for Nowhere {
        fn emit(&mut self, _: RecordBatch<()>) -> Result<()> {
            Ok(())
        }
    }
}

impl Operator<i64, String> for Shown {
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        Operator::<i64, ()>::open(&mut self.operator, ctx)
    }
    fn process_batch(&mut self, batch: RecordBatch<i64>, out: &mut OperatorOutput<'_, String>) -> Result<()> {
        self.call(out, |operator, out| operator.process_batch(batch, out))
    }
    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, String>) -> Result<()> {
        self.call(out, |operator, out| operator.on_watermark(watermark, out))?;
        out.emit_watermark(watermark)
    }
    fn on_processing_time(&mut self, now: Timestamp, out: &mut OperatorOutput<'_, String>) -> Result<()> {
        self.call(out, |operator, out| operator.on_processing_time(now, out))
    }
    fn next_timer(&self) -> Option<Timestamp> {
        self.operator.next_timer()
    }
    fn on_end_of_data(&mut self, out: &mut OperatorOutput<'_, String>) -> Result<()> {
        self.call(out, |operator, out| operator.on_end_of_data(out))?;
        out.emit_end_of_data()
    }
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        self.operator.snapshot(snapshot)
    }
    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        self.operator.restore(snapshot)
    }
}

#[test]
fn sink_writer_with_state() {
    let make = || TestDriver::new(Shown::new);
    let input = parse_stream("+3@3 +1@1 W1 +2@2 P30 W2 +9@9 P55 +4@4 E").unwrap();
    expect![[r#"
        +3@3
        +1@1
        W1 => +"1@1" W1
        +2@2
        P30
        W2 => +"2@2" W2
        +9@9
        P55 => +"3@3" +"9@9"
        +4@4
        E => +"4@4" +"finished" E
    "#]]
    .assert_eq(&TestDriver::check_snapshots(make, &input, &SnapshotCheck::of_one_subtask()));
    for seed in SEEDS {
        let input = random_stream(seed, LENGTH, |rng| rng.range(0..=99));
        TestDriver::check_snapshots(make, &input, &SnapshotCheck::of_one_subtask());
    }
}

#[test]
fn sink_writer_entries_are_dealt_to_subtasks() {
    let mut driver = TestDriver::new(Shown::new);
    driver.push_text("+3@3 +1@1 +2@2").unwrap();
    driver.rescale(2).unwrap();
    expect![[r#"+"1@1" +"2@2" +"3@3" W3"#]].assert_eq(&driver.run("+5@5 W3").unwrap());
    driver.rescale(1).unwrap();
    expect![[r#"+"5@5" W9 +finished E"#]].assert_eq(&driver.run("W9 E").unwrap());
}

/// Writes each record into a file of its subtask.
struct Files;

struct FileWriter {
    ctx: SinkContext,
    text: String,
}

impl Sink<i64> for Files {
    type Writer = FileWriter;
    fn create_writer(&self, ctx: SinkContext) -> Result<FileWriter> {
        Ok(FileWriter { ctx, text: String::new() })
    }
}

impl SinkWriter<i64> for FileWriter {
    fn write(&mut self, batch: RecordBatch<i64>) -> UserResult {
        self.text.extend(batch.records().iter().map(|record| format!("{record}\n")));
        Ok(())
    }
    fn flush(&mut self) -> UserResult {
        let path = format!("out/{}", self.ctx.subtask);
        self.ctx.env.fs().create(Path::new(&path))?.write_all(self.text.as_bytes())?;
        Ok(())
    }
}

#[test]
fn what_a_sink_writes_is_in_the_files_of_the_driver() {
    let mut driver = TestDriver::sink(Files).with_parallelism(2);
    driver.env().fs().create_dir_all(Path::new("out")).unwrap();
    driver.push_text("+1 +2 +3").unwrap();
    driver.flush().unwrap();
    let read = |name: &str| {
        let mut text = String::new();
        driver.env().fs().open(Path::new(name)).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!([read("out/0"), read("out/1")], ["1\n3\n", "2\n"]);
}
