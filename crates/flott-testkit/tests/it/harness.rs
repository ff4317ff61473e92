//! The snapshot harness finds operators that are broken.

use crate::support::keyed_stream;
use expect_test::{Expect, expect};
use flott_operators::{Operator, OperatorContext, OperatorOutput};
use flott_state::{EntryReader, KeyedTable, OperatorSnapshot, decode, encode};
use flott_testkit::{KeyValue, SnapshotCheck, TestDriver};
use flott_types::{RecordBatch, Result, SubtaskIndex, Timestamp, Watermark, key_hash};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is wrong with an operator that sums values by key and emits the sum of all at each watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    ForgetsAKey,
    RestoresOthersKeys,
    WritesOthersKeys,
    ForgetsTheWatermark,
    CountsBatches,
    SnapshotEmpties,
    SnapshotChangesState,
    FiresOldWatermarks,
    LosesTimer,
}

struct Sums {
    flaw: Flaw,
    sums: KeyedTable<String, i64>,
    watermark: Watermark,
    timer: Option<Timestamp>,
    now: Timestamp,
    n_snapshots: i64,
    subtask: SubtaskIndex,
    max_parallelism: u32,
}

impl Sums {
    fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            sums: KeyedTable::default(),
            watermark: Watermark::MIN,
            timer: None,
            now: 0,
            n_snapshots: 0,
            subtask: SubtaskIndex(0),
            max_parallelism: 0,
        }
    }
}

impl Operator<KeyValue, KeyValue> for Sums {
    fn open(&mut self, ctx: &OperatorContext) -> Result<()> {
        (self.subtask, self.max_parallelism) = (ctx.subtask, ctx.max_parallelism);
        Ok(())
    }

    fn process_batch(
        &mut self,
        batch: RecordBatch<KeyValue>,
        out: &mut OperatorOutput<'_, KeyValue>,
    ) -> Result<()> {
        let mut sums = RecordBatch::default();
        for (KeyValue { key, value }, timestamp) in batch {
            if timestamp <= self.watermark.timestamp() {
                continue;
            }
            let sum = self.sums.get_or_insert_with(key_hash(&key), &key, || 0);
            *sum += value;
            sums.push(KeyValue::new(key, *sum), timestamp);
            if self.flaw != Flaw::WritesOthersKeys {
                self.timer.get_or_insert(self.now + 5);
            }
        }
        if self.flaw == Flaw::CountsBatches {
            let key = "z".to_owned();
            *self.sums.get_or_insert_with(key_hash(&key), &key, || 0) += 1;
        }
        out.emit(sums)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut OperatorOutput<'_, KeyValue>) -> Result<()> {
        if watermark > self.watermark || self.flaw == Flaw::FiresOldWatermarks {
            self.watermark = self.watermark.max(watermark);
            let mut sums: Vec<_> = self
                .sums
                .iter()
                .filter(|(key, _)| *key != "other")
                .map(|(key, sum)| KeyValue::new(key.clone(), -sum))
                .collect();
            sums.sort();
            out.emit(RecordBatch::untimed(sums))?;
        }
        out.emit_watermark(watermark)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.timer
    }

    fn on_processing_time(&mut self, now: Timestamp, out: &mut OperatorOutput<'_, KeyValue>) -> Result<()> {
        self.now = now;
        match self.timer.take_if(|at| *at <= now) {
            Some(at) => out.emit(RecordBatch::untimed(vec![KeyValue::new("timer".to_owned(), at)])),
            None => Ok(()),
        }
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshot) -> Result<()> {
        snapshot.max_parallelism = self.max_parallelism;
        let mut sums = KeyedTable::default();
        self.sums.iter().for_each(|(key, sum)| sums.insert(key_hash(key), key, *sum));
        if self.flaw == Flaw::WritesOthersKeys {
            sums.insert(key_hash("other"), &"other".to_owned(), 0);
        }
        snapshot.keyed.insert("sums".to_owned(), sums.snapshot("sums", self.max_parallelism)?);
        let timer = self.timer.filter(|_| self.flaw != Flaw::LosesTimer);
        snapshot.union.insert("rest".to_owned(), vec![encode("rest", &(self.watermark, timer))?]);
        self.n_snapshots += 1;
        match self.flaw {
            Flaw::SnapshotEmpties => self.sums = KeyedTable::default(),
            Flaw::SnapshotChangesState => {
                drop(snapshot.list.insert("n".into(), vec![vec![self.n_snapshots as u8]]))
            }
            _ => {}
        }
        Ok(())
    }

    fn restore(&mut self, snapshot: &OperatorSnapshot) -> Result<()> {
        let mut groups = snapshot.keyed.get("sums").cloned().unwrap_or_default();
        if self.flaw == Flaw::ForgetsAKey {
            groups.pop_first();
        }
        self.sums.restore("sums", self.max_parallelism, &groups, &EntryReader::default())?;
        if self.flaw == Flaw::RestoresOthersKeys {
            let key = "q".to_owned();
            self.sums.insert(key_hash(&key), &key, 0);
        }
        for rest in snapshot.union.get("rest").into_iter().flatten() {
            (self.watermark, self.timer) = decode("rest", rest)?;
        }
        if self.flaw == Flaw::ForgetsTheWatermark {
            self.watermark = Watermark::MIN;
        }
        Ok(())
    }
}

/// The first line of what the harness says about a flaw.
#[expect(clippy::needless_pass_by_value, reason = "expectations are written in place")]
fn check(flaw: Flaw, parallelisms: &[u32], expected: Expect) {
    let make = || TestDriver::new(move || Sums::new(flaw)).with_key_selector(KeyValue::key_of);
    let check = SnapshotCheck::at_parallelisms(parallelisms);
    let run = || TestDriver::check_snapshots(make, &keyed_stream(3), &check);
    let message = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(panic) => panic.downcast::<String>().unwrap().lines().next().unwrap_or_default().to_owned(),
    };
    expected.assert_eq(&message);
}

#[test]
fn flaws_are_found() {
    check(Flaw::None, &[1], expect!["nothing is wrong"]);
    check(
        Flaw::ForgetsAKey,
        &[1],
        expect![
            "a restart from parallelism 1 to 1 after element 3, +a=5@-10: the state after it: the keyed state 'sums, key group 23297' is not the same"
        ],
    );
    check(
        Flaw::RestoresOthersKeys,
        &[1],
        expect![
            "a restart from parallelism 1 to 1 after element 0, W-27: the state after it: the keyed state 'sums, key group 29150' is not the same"
        ],
    );
    check(
        Flaw::ForgetsTheWatermark,
        &[1],
        expect![
            "a restart from parallelism 1 to 1 after element 0, W-27: the state after it: the union state 'rest' is not the same"
        ],
    );
    check(Flaw::CountsBatches, &[1], expect!["batches of 2: the output is another one"]);
    check(
        Flaw::SnapshotEmpties,
        &[1],
        expect![
            "a restart from parallelism 1 to 1 after element 3, +a=5@-10: a second snapshot: the keyed state 'sums, key group 23297' is not the same"
        ],
    );
    check(
        Flaw::SnapshotChangesState,
        &[1],
        expect![
            "a restart from parallelism 1 to 1 after element 0, W-27: a second snapshot: the list state 'n' is not the same"
        ],
    );
    check(
        Flaw::FiresOldWatermarks,
        &[1],
        expect!["a watermark from before the restart after element 2, +b=8@-13: the output is another one"],
    );
    check(
        Flaw::LosesTimer,
        &[1],
        expect!["a restart from parallelism 1 to 1 after element 3, +a=5@-10: the output is another one"],
    );
}

#[test]
fn flaws_at_other_parallelisms_are_found() {
    // Each subtask restores the timer and fires it.
    check(
        Flaw::None,
        &[1, 2],
        expect!["a restart from parallelism 1 to 2 after element 0, W-27: the output is another one"],
    );
    check(
        Flaw::WritesOthersKeys,
        &[2, 2],
        expect![
            "a restart from parallelism 2 to 2 after element 0, W-27: subtask 0 has key group 46419 of state 'sums'"
        ],
    );
}
