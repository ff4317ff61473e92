//! Joins that go on from a snapshot of which the bytes are a part. The first byte says which part.

use super::operators::parts;
use flott_api::{Collector, UserResult};
use flott_operators::JoinInterval;
use flott_state::OperatorSnapshot;
use flott_testkit::{KeyValue, TwoInputTestDriver};

const BEFORE: &str = "1:+a=1@10 2:+a=2@8 2:+a=3@15 1:+b=4@16 2:+b=5@40 W9";
const AFTER: &str = "1:+a=6@12 2:+a=7@12 1:+b=8@35 2:+c=9@50 W20 W60";

fn pair(left: &KeyValue, right: &KeyValue, out: &mut Collector<'_, String>) -> UserResult {
    out.collect(format!("{}:{}+{}", left.key, left.value, right.value));
    Ok(())
}

fn driver() -> TwoInputTestDriver<KeyValue, KeyValue, String> {
    let interval = JoinInterval::new(-2..=5).expect("it is one");
    let driver = TwoInputTestDriver::interval_join(KeyValue::key_of, KeyValue::key_of, interval, pair);
    driver.with_max_parallelism(1)
}

fn snapshot() -> OperatorSnapshot {
    let mut driver = driver();
    driver.run(BEFORE).expect("it works");
    driver.snapshot().expect("a snapshot")
}

pub(crate) fn restore(input: &[u8]) {
    let Some((part, bytes)) = input.split_first() else { return };
    let mut snapshot = snapshot();
    let mut parts = parts(&mut snapshot);
    let n_parts = parts.len();
    if let Some(part) = parts.get_mut(usize::from(*part) % n_parts) {
        part.set(bytes);
    }
    let mut driver = driver().restored_from(&snapshot);
    if driver.run(AFTER).is_ok() {
        driver.restart().expect("what it wrote itself is read");
        drop(driver.run("W9223372036854775807"));
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut snapshot = snapshot();
    let parts = (0_u8..).zip(parts(&mut snapshot));
    parts.map(|(idx, part)| super::tagged(idx, &part.get())).collect()
}
