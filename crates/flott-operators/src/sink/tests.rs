use super::*;
use crate::test_support::{Feed, Harness, check_everywhere, check_rescaling, one};
use flott_types::ErrorKind;
use std::sync::{Arc, Mutex};

/// Notes its calls; refuses the record 13; wants the clock at 100.
#[derive(Clone, Default)]
struct Notes {
    calls: Arc<Mutex<Vec<String>>>,
    timer: Option<i64>,
    pending: Vec<u8>,
}

impl Notes {
    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

impl SinkWriter<u8> for Notes {
    fn write(&mut self, batch: RecordBatch<u8>) -> UserResult {
        self.note(format!("write {:?}", batch.records()));
        self.pending.extend(batch.records());
        if batch.records().contains(&13) { Err("13 is unlucky".into()) } else { Ok(()) }
    }
    fn on_watermark(&mut self, watermark: Watermark) -> UserResult {
        self.note(watermark.to_string());
        Ok(())
    }
    fn flush(&mut self) -> UserResult {
        self.note("flush".to_owned());
        Ok(())
    }
    fn next_timer(&self) -> Option<i64> {
        self.timer
    }
    fn on_processing_time(&mut self, now: i64) -> UserResult {
        self.note(format!("time {now}"));
        self.timer = None;
        Ok(())
    }
    fn finish(&mut self) -> UserResult {
        self.note(format!("finish {:?}", self.pending));
        Ok(())
    }
    fn snapshot(&mut self) -> UserResult<Vec<Vec<u8>>> {
        Ok(self.pending.iter().map(|record| vec![*record]).collect())
    }
    fn restore(&mut self, entries: Vec<Vec<u8>>) -> UserResult {
        self.pending = entries.concat();
        Ok(())
    }
}

#[test]
fn the_writer_is_called_in_the_order_of_the_stream() {
    let writer = Notes { timer: Some(100), ..Notes::default() };
    let calls = Arc::clone(&writer.calls);
    let mut harness = Harness::new(one(SinkOperator::new(writer)));
    assert_eq!(harness.next_timer(), Some(100));
    let seen = harness.run(&[
        Feed::Batch1(vec![(1, 10), (2, 20)]),
        Feed::ProcessingTime(99),
        Feed::ProcessingTime(101),
        Feed::ProcessingTime(102),
        Feed::Watermark(15),
        Feed::EndOfData,
    ]);
    assert_eq!(seen, ["W15", "end"]);
    assert_eq!(*calls.lock().unwrap(), ["write [1, 2]", "time 101", "W15", "finish [1, 2]"]);
    let mut operator = SinkOperator::new(Notes { calls: Arc::clone(&calls), ..Notes::default() });
    Operator::<u8, ()>::flush(&mut operator).unwrap();
    assert_eq!(calls.lock().unwrap().last().map(String::as_str), Some("flush"));
}

#[test]
fn what_the_writer_remembers_is_list_state() {
    let calls = Arc::default();
    let make = || Notes { calls: Arc::clone(&calls), ..Notes::default() };
    let elements = [Feed::Batch1(vec![(1, 1), (2, 2), (3, 3)]), Feed::Watermark(3), Feed::EndOfData];
    check_everywhere(|| Harness::new(one(SinkOperator::new(make()))), &elements);
    assert!(
        calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| call.starts_with("finish"))
            .all(|call| *call == "finish [1, 2, 3]")
    );
    let route = |record: &u8, parallelism| Some((u32::from(*record) % parallelism) as usize);
    check_rescaling(|ctx| Harness::at(one(SinkOperator::new(make())), ctx), &elements, route, |(), _| None);
}

#[test]
fn an_error_of_the_writer_is_the_users_to_fix() {
    let mut harness = Harness::new(one(SinkOperator::new(Notes::default())));
    let error = harness.feed(&Feed::Batch1(vec![(13, 0)])).unwrap_err();
    assert_eq!(
        (error.kind(), error.report().as_str()),
        (ErrorKind::UserError, "the sink failed: 13 is unlucky")
    );
}
