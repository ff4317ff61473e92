//! What drivers do around operators.

use expect_test::expect;
use flott_api::{
    Collector, KeyedContext, KeyedProcessFunction, OutputTag, ProcessContext, ProcessFunction, UserResult,
};
use flott_operators::{Operator, OperatorOutput};
use flott_state::{OperatorSnapshot, ValueState};
use flott_testkit::{DriverMetrics, Element, KeyValue, TestDriver};
use flott_types::{NO_TIMESTAMP, RecordBatch, Result, StreamStatus, Timestamp, Watermark};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Emits even numbers, sends odd ones aside, fails at 13.
#[derive(Clone)]
struct Even(OutputTag<i64>);

impl ProcessFunction<i64, i64> for Even {
    fn process_element(
        &mut self,
        record: i64,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, i64>,
    ) -> UserResult {
        match record {
            13 => return Err("thirteen".into()),
            record if record % 2 == 0 => out.collect(record),
            record => out.output(&self.0, record),
        }
        Ok(())
    }
}

fn even() -> (TestDriver<i64, i64>, OutputTag<i64>) {
    let odd = OutputTag::new("odd");
    (TestDriver::process(Even(odd.clone())).with_name("even"), odd)
}

#[test]
fn outputs_side_outputs_and_counters() {
    let (mut driver, odd) = even();
    driver.push(1, 10).unwrap();
    driver.push_batch([(2, 11), (3, NO_TIMESTAMP), (4, 12)]).unwrap();
    driver.push_watermark(12).unwrap();
    assert_eq!(driver.outputs(), [(2, 11), (4, 12)]);
    assert_eq!(driver.take_side_output(&odd), [(1, 10), (3, NO_TIMESTAMP)]);
    assert_eq!(driver.take_side_output(&odd), []);
    let elements = driver.take_elements();
    assert_eq!(elements.last(), Some(&Element::Watermark(Watermark(12))));
    assert_eq!(driver.outputs(), []);
    let counted = DriverMetrics { records_in: 4, records_out: 2, ..DriverMetrics::default() };
    assert_eq!(driver.metrics(), counted);
    assert_eq!(driver.watermark(), Watermark(12));
}

#[test]
fn text_shows_side_outputs_in_their_place() {
    let (driver, odd) = even();
    let mut driver = driver.print_side_output(&odd);
    expect!["odd:+1@10 +2@11 W11 I A odd:+3@12 B7 W+inf E"]
        .assert_eq(&driver.run("+1@10 +2@11 W11 W10 I +3@12 B7 W+inf E").unwrap());
    let (mut driver, _) = even();
    assert_eq!(driver.run("+1@10 +2@11").unwrap(), "odd:? +2@11", "nobody knows how to print it");
}

#[test]
fn error_names_operator_and_record() {
    let (mut driver, _) = even();
    driver.push_text("+1 +2").unwrap();
    let error = driver.push_batch([(4, 1), (13, 2)]).unwrap_err();
    expect!["operator 'even' subtask 1/1, record 4: the process function failed: thirteen"]
        .assert_eq(&error.report());
    assert_eq!(driver.take_outputs(), [(2, NO_TIMESTAMP), (4, 1)]);
}

#[test]
fn nothing_follows_the_end() {
    let (mut driver, _) = even();
    driver.end_of_input().unwrap();
    assert!(driver.has_ended());
    assert!(driver.push(1, 1).is_err());
    assert!(driver.push_watermark(1).is_err());
}

/// Emits its key and the time at which its timers fire.
#[derive(Clone)]
struct Timers;

impl KeyedProcessFunction<String, KeyValue, String> for Timers {
    fn process_element(
        &mut self,
        record: KeyValue,
        ctx: &mut KeyedContext<'_, String>,
        _: &mut Collector<'_, String>,
    ) -> UserResult {
        ctx.register_processing_time_timer(ctx.current_processing_time() + record.value);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        out.collect(format!("{}:{timestamp}/{}", ctx.current_key(), ctx.current_processing_time()));
        Ok(())
    }
}

#[test]
fn processing_time_stops_at_each_timer() {
    let mut driver = TestDriver::keyed_process(KeyValue::key_of, Timers).with_processing_time(1_000);
    driver.push_text("+a=30 +b=10 +c=20 +d=500").unwrap();
    assert_eq!(driver.next_timer().unwrap(), Some(1_010));
    driver.advance_processing_time(Duration::from_millis(25)).unwrap();
    assert_eq!(driver.take_text(), "+b:1010/1010 +c:1020/1020");
    assert_eq!(driver.processing_time(), 1_025);
    driver.advance_processing_time_to(1_100).unwrap();
    assert_eq!(driver.take_text(), "+a:1030/1030");
    assert!(driver.advance_processing_time_to(1_099).is_err(), "time does not go back");
    // Far into the future is no wait.
    driver.advance_processing_time(Duration::from_secs(1_000_000_000)).unwrap();
    assert_eq!(driver.take_text(), "+d:1500/1500");
}

/// Counts the records of each key.
#[derive(Clone)]
struct Count(ValueState<i64>);

impl KeyedProcessFunction<String, KeyValue, String> for Count {
    fn process_element(
        &mut self,
        record: KeyValue,
        ctx: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let count = *self.0.update_or(ctx, 0, |count| *count += record.value)?;
        out.collect(format!("{}={count}", record.key));
        Ok(())
    }
}

fn count() -> TestDriver<KeyValue, String> {
    TestDriver::keyed_process(KeyValue::key_of, Count(ValueState::new("count")))
}

#[test]
fn snapshot_moves_to_another_driver() {
    let mut driver = count();
    assert_eq!(driver.run("+a=1 +b=1 +a=1 +c=1").unwrap(), "+a=1 +b=1 +a=2 +c=1");
    let snapshot = driver.snapshot().unwrap();
    for parallelism in 1..5 {
        let mut restored = count().with_parallelism(parallelism).restored_from(&snapshot);
        assert_eq!(
            restored.run("+a=1 +b=1 +c=1 W5").unwrap(),
            "+a=3 +b=2 +c=2 W5",
            "parallelism {parallelism}"
        );
        restored.rescale(2).unwrap();
        assert_eq!(restored.run("+a=1 +b=1 E").unwrap(), "+a=4 +b=3 E");
    }
    driver.restart().unwrap();
    assert_eq!(driver.run("+a=1").unwrap(), "+a=3");
    assert_eq!(driver.metrics().records_in, 5, "counters go on");
}

#[test]
fn more_subtasks_than_key_groups_are_refused() {
    let mut driver = count().with_max_parallelism(2);
    driver.push_text("+a=1").unwrap();
    let error = driver.rescale(3).unwrap_err();
    expect!["parallelism 3 exceeds the 2 key groups of the snapshot"].assert_eq(&error.report());
}

#[test]
fn record_that_cannot_be_read_is_named() {
    let error = count().push_text("+a=1 +b@7").unwrap_err();
    expect!["'b' is no record of this stream: 'b' is not key=value"].assert_eq(&error.report());
}

/// Does what the text of a record says.
struct Rude;

impl Operator<String, String> for Rude {
    fn process_batch(
        &mut self,
        batch: RecordBatch<String>,
        out: &mut OperatorOutput<'_, String>,
    ) -> Result<()> {
        batch.into_iter().try_for_each(|(record, timestamp)| match record.as_str() {
            "watermark" => out.emit_watermark(Watermark(timestamp)),
            "idle" => out.emit_status(StreamStatus::Idle),
            "end" => out.emit_end_of_data(),
            _ => out.emit(RecordBatch::untimed(vec![record])),
        })
    }
    fn next_timer(&self) -> Option<Timestamp> {
        Some(5)
    }
    fn snapshot(&mut self, _: &mut OperatorSnapshot) -> Result<()> {
        Ok(())
    }
    fn restore(&mut self, _: &OperatorSnapshot) -> Result<()> {
        Ok(())
    }
}

fn panic_of(line: &str) -> String {
    let mut driver = TestDriver::new(|| Rude);
    let panicked = catch_unwind(AssertUnwindSafe(|| driver.push_text(line))).unwrap_err();
    *panicked.downcast::<String>().unwrap()
}

#[test]
fn operators_are_held_to_what_a_stream_is() {
    expect!["the operator emits W4 after W5"].assert_eq(&panic_of("+watermark@5 +idle +watermark@4"));
    expect!["the operator emits records after the end of data"].assert_eq(&panic_of("+end +a"));
    expect!["the operator emits the end of data after the end of data"].assert_eq(&panic_of("+end E"));
    let error = TestDriver::new(|| Rude).push_text("P5").unwrap_err();
    expect!["the operator wants processing time 5 again and again"].assert_eq(&error.report());
}
