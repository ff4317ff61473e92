//! Process functions of two streams, and broadcast state.

use crate::support::{LENGTH, SEEDS, keyed, two_keyed_streams};
use expect_test::expect;
use flott_api::{
    BroadcastContext, BroadcastProcessFunction, CoProcessFunction, Collector, KeyedBroadcastProcessFunction,
    KeyedCoProcessFunction, KeyedContext, ProcessContext, TimeDomain, UserResult,
};
use flott_state::{BroadcastState, ListState, OperatorListState, OperatorStateBackend, ValueState};
use flott_testkit::{
    Input, KeyValue, SnapshotCheck, TwoInputTestDriver, parse_stream, random_two_input_stream,
};
use flott_types::{StreamStatus, Timestamp};

#[derive(Clone)]
struct Merge {
    seen: OperatorListState<String>,
}

impl Merge {
    fn see(&self, what: String, ctx: &mut ProcessContext<'_>, out: &mut Collector<'_, String>) -> UserResult {
        self.seen.add(ctx.state, what)?;
        out.collect(format!(
            "{}@{}/{}",
            self.seen.get(ctx.state)?.join(","),
            ctx.watermark,
            ctx.processing_time
        ));
        Ok(())
    }
}

impl CoProcessFunction<i64, String, String> for Merge {
    fn process_element1(
        &mut self,
        record: i64,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        self.see(record.to_string(), ctx, out)
    }
    fn process_element2(
        &mut self,
        record: String,
        ctx: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        self.see(record, ctx, out)
    }
}

#[test]
fn co_process_function() {
    let make = || TwoInputTestDriver::co_process(Merge { seen: OperatorListState::new("seen") });
    let input = parse_stream("1:+1@1 2:+a@2 1:W3 2:W2 P7 1:+2@4 2:+b W+inf E").unwrap();
    expect![[r#"
        +1@1 => +"1@W-inf/0"@1
        2:+"a"@2 => +"1,a@W-inf/0"@2
        1:W3
        2:W2 => W2
        P7
        +2@4 => +"1,a,2@W2/7"@4
        2:+"b" => +"1,a,2,b@W2/7"
        W+inf => W+inf
        E => E
    "#]]
    .assert_eq(&TwoInputTestDriver::check_snapshots(make, &input, &SnapshotCheck::of_one_subtask()));
    for seed in SEEDS {
        let input =
            random_two_input_stream(seed, LENGTH, |rng| rng.range(0..=9), |rng| rng.range(0..=9).to_string());
        TwoInputTestDriver::check_snapshots(make, &input, &SnapshotCheck::of_one_subtask());
    }
}

/// Each record of the second stream gets the next one of the first, or is given up after a while.
#[derive(Clone)]
struct Match {
    waiting: ListState<i64>,
    latest: ValueState<i64>,
}

impl KeyedCoProcessFunction<String, KeyValue, KeyValue, String> for Match {
    fn process_element1(
        &mut self,
        record: KeyValue,
        ctx: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        self.latest.set(ctx, record.value)?;
        for waiting in self.waiting.take(ctx)? {
            out.collect(format!("{}:{}+{waiting}", record.key, record.value));
        }
        ctx.register_processing_time_timer(ctx.current_processing_time() + 15);
        Ok(())
    }

    fn process_element2(
        &mut self,
        record: KeyValue,
        ctx: &mut KeyedContext<'_, String>,
        _: &mut Collector<'_, String>,
    ) -> UserResult {
        self.waiting.add(ctx, record.value)?;
        ctx.register_event_time_timer(ctx.timestamp() + 10);
        Ok(())
    }

    fn on_timer(
        &mut self,
        timestamp: Timestamp,
        ctx: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let key = ctx.current_key().clone();
        if ctx.time_domain() == TimeDomain::ProcessingTime {
            out.collect(format!("{key}:forgets {:?} at {timestamp}", self.latest.take(ctx)?));
            return Ok(());
        }
        for waiting in self.waiting.take(ctx)? {
            out.collect(format!("{key}:{:?}?+{waiting}", self.latest.get(ctx)?));
        }
        Ok(())
    }
}

#[test]
fn keyed_co_process_function() {
    let make = || {
        let function = Match { waiting: ListState::new("waiting"), latest: ValueState::new("latest") };
        TwoInputTestDriver::keyed_co_process(KeyValue::key_of, KeyValue::key_of, function)
    };
    let input = parse_stream("1:+a=1@1 2:+a=2@2 1:+a=3@3 2:+b=4@4 P10 2:+a=5@6 W14 P20 1:+b=6@15 E").unwrap();
    expect![[r#"
        +a=1@1
        2:+a=2@2
        +a=3@3 => +"a:3+2"@3
        2:+b=4@4
        P10
        2:+a=5@6
        W14 => +"a:Some(3)?+5"@12 +"b:None?+4"@14 W14
        P20 => +"a:forgets Some(3) at 15"
        +b=6@15
        E => E
    "#]]
    .assert_eq(&TwoInputTestDriver::check_snapshots(make, &input, &SnapshotCheck::default()));
    for seed in SEEDS {
        TwoInputTestDriver::check_snapshots(make, &two_keyed_streams(seed), &SnapshotCheck::default());
    }
}

/// Factors by key, which the broadcast stream sets.
#[derive(Clone)]
struct Scale {
    factors: BroadcastState<String, i64>,
    records: OperatorListState<i64>,
}

impl BroadcastProcessFunction<KeyValue, KeyValue, String> for Scale {
    fn process_element(
        &mut self,
        record: KeyValue,
        ctx: &mut ProcessContext<'_>,
        broadcast: &OperatorStateBackend,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        self.records.add(ctx.state, record.value)?;
        let factor = self.factors.get(broadcast, &record.key)?.copied();
        out.collect(format!("{}:{}", record.key, factor.unwrap_or(1) * record.value));
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        record: KeyValue,
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> UserResult {
        if record.value == 9 {
            self.factors.remove(ctx.state, &record.key)?;
        } else {
            self.factors.put(ctx.state, record.key, record.value)?;
        }
        Ok(())
    }
}

#[test]
fn broadcast_process_function() {
    let make = || {
        let (factors, records) = (BroadcastState::new("factors"), OperatorListState::new("records"));
        TwoInputTestDriver::broadcast(Scale { factors, records })
    };
    let input = parse_stream("1:+a=2@1 2:+a=3@2 1:+a=2@3 2:+b=4@4 1:+b=2@5 W5 2:+a=9@6 1:+a=2@7 E").unwrap();
    expect![[r#"
        +a=2@1 => +"a:2"@1
        2:+a=3@2
        +a=2@3 => +"a:6"@3
        2:+b=4@4
        +b=2@5 => +"b:8"@5
        W5 => W5
        2:+a=9@6
        +a=2@7 => +"a:2"@7
        E => E
    "#]]
    .assert_eq(&TwoInputTestDriver::check_snapshots(make, &input, &SnapshotCheck::default()));
    for seed in SEEDS {
        TwoInputTestDriver::check_snapshots(make, &two_keyed_streams(seed), &SnapshotCheck::default());
    }
}

/// Reports the sum of a key when it reaches the limit that the broadcast stream sets, and after a while anyway.
#[derive(Clone)]
struct Limit {
    limits: BroadcastState<u8, i64>,
    sum: ValueState<i64>,
}

impl KeyedBroadcastProcessFunction<String, KeyValue, KeyValue, String> for Limit {
    fn process_element(
        &mut self,
        record: KeyValue,
        ctx: &mut KeyedContext<'_, String>,
        broadcast: &OperatorStateBackend,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let limit = self.limits.get(broadcast, &0)?.copied().unwrap_or(10);
        let sum = *self.sum.update_or(ctx, 0, |sum| *sum += record.value)?;
        if sum >= limit {
            self.sum.clear(ctx)?;
            out.collect(format!("{}:{sum}>={limit}", record.key));
        }
        ctx.register_event_time_timer(ctx.timestamp() + 20);
        ctx.register_processing_time_timer(ctx.current_processing_time() + 30);
        Ok(())
    }

    fn process_broadcast_element(
        &mut self,
        record: KeyValue,
        ctx: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> UserResult {
        self.limits.put(ctx.state, 0, record.value)?;
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timestamp,
        ctx: &mut KeyedContext<'_, String>,
        broadcast: &OperatorStateBackend,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let limit = self.limits.get(broadcast, &0)?.copied();
        let (key, domain) = (ctx.current_key().clone(), ctx.time_domain());
        out.collect(format!("{key}:{:?}<{limit:?}:{domain:?}", self.sum.get(ctx)?));
        Ok(())
    }
}

#[test]
fn keyed_broadcast_process_function() {
    let make = || {
        let function = Limit { limits: BroadcastState::new("limits"), sum: ValueState::new("sum") };
        TwoInputTestDriver::keyed_broadcast(KeyValue::key_of, function)
    };
    let input = parse_stream("1:+a=7@1 1:+b=2@2 2:+x=5@2 1:+a=2@3 W21 1:+b=3@22 P40 E").unwrap();
    expect![[r#"
        +a=7@1
        +b=2@2
        2:+x=5@2
        +a=2@3 => +"a:9>=5"@3
        W21 => +"a:None<Some(5):EventTime"@21 W21
        +b=3@22 => +"b:5>=5"@22
        P40 => +"a:None<Some(5):ProcessingTime" +"b:None<Some(5):ProcessingTime"
        E => E
    "#]]
    .assert_eq(&TwoInputTestDriver::check_snapshots(make, &input, &SnapshotCheck::default()));
    for seed in SEEDS {
        let input = random_two_input_stream(seed, LENGTH, keyed, keyed);
        TwoInputTestDriver::check_snapshots(make, &input, &SnapshotCheck::default());
    }
}

#[test]
fn inputs_are_combined_as_in_the_engine() {
    let mut driver = TwoInputTestDriver::co_process(Merge { seen: OperatorListState::new("seen") });
    driver.push_watermark_of(Input::First, 5).unwrap();
    assert_eq!(driver.take_text(), "");
    driver.set_status_of(Input::Second, StreamStatus::Idle).unwrap();
    assert_eq!(driver.take_text(), "W5");
    driver.push2("a".to_owned(), 3).unwrap();
    driver.push_batch1([(1, 7), (2, 8)]).unwrap();
    assert_eq!(driver.take_text(), "+a@W5/0@3 +a,1@W5/0@7 +a,1,2@W5/0@8");
    driver.push_watermark(9).unwrap();
    driver.end_of_input_of(Input::First).unwrap();
    assert_eq!(driver.take_text(), "W9");
    assert!(driver.push1(3, 10).is_err(), "the first input has ended");
    driver.end_of_input_of(Input::Second).unwrap();
    assert_eq!(driver.take_text(), "W+inf E");
}
