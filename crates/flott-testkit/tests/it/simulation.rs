//! Whole programs in simulation.

use flott_api::sinks::collect_sink;
use flott_api::{Collector, KeyedContext, KeyedProcessFunction, UserResult};
use flott_state::ValueState;
use flott_testkit::{Element, KeyValue, TestDriver, parse_stream, simulate, simulate_collect};

#[derive(Clone)]
struct Count(ValueState<i64>);

impl KeyedProcessFunction<String, KeyValue, KeyValue> for Count {
    fn process_element(
        &mut self,
        record: KeyValue,
        ctx: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, KeyValue>,
    ) -> UserResult {
        let count = *self.0.update_or(ctx, 0, |count| *count += 1)?;
        out.collect(KeyValue::new(record.key, count));
        Ok(())
    }
}

#[test]
fn program_gives_what_its_function_gives_under_a_driver() {
    let elements: Vec<Element<KeyValue>> = parse_stream("+a=1 +b=1 +a=1 +c=1 +a=1").unwrap();
    let mut driver = TestDriver::keyed_process(KeyValue::key_of, Count(ValueState::new("count")));
    let mut records = Vec::new();
    for element in elements {
        if let Element::Record(record, _) = &element {
            records.push(record.clone());
        }
        driver.push_element(element).unwrap();
    }
    let mut expected: Vec<_> = driver.take_outputs().into_iter().map(|(record, _)| record).collect();
    expected.sort();
    for seed in 0..10 {
        let records = records.clone();
        let mut got = simulate_collect(seed, move |env| {
            env.set_parallelism(3);
            Ok(env.from_collection(records).key_by(KeyValue::key_of).process(Count(ValueState::new("count"))))
        })
        .unwrap();
        got.sort();
        assert_eq!(got, expected, "seed {seed}");
    }
}

#[test]
fn failure_of_a_program_is_its_result() {
    let (sink, _results) = collect_sink();
    let failed = simulate(1, |env| {
        env.from_sequence(1, 3).try_map(|n| if n < 3 { Ok(n) } else { Err("three") }).sink_to(sink);
        Ok(())
    });
    assert!(failed.unwrap_err().report().ends_with(": three"));
}
