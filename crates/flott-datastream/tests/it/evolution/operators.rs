//! Operators that are added, removed, chained otherwise, renamed, or that keep something else.

use super::{Run, stop};
use crate::checkpoints::{COUNT, finished, source};
use crate::support::{directory, simulated};
use crate::transactional::{Numbered, Transactions};
use flott_api::{Collector, KeyedContext, KeyedProcessFunction, RuntimeContext, UserResult};
use flott_datastream::{DataStream, JobExecutionResult, StreamExecutionEnvironment};
use flott_state::ValueState;
use flott_types::{Data, Result, StateBackendType, Timestamp, options};
use std::collections::BTreeMap;

/// Behind all records.
const LATER: Timestamp = 1_000_000;
const N_KEYS: u64 = 5;

fn key((_, number): &Numbered) -> u64 {
    number % N_KEYS
}

/// Counts the records of each key.
#[derive(Clone)]
struct Count {
    count: ValueState<u64>,
}

fn count() -> Count {
    Count { count: ValueState::new("count") }
}

impl KeyedProcessFunction<u64, Numbered, String> for Count {
    fn process_element(
        &mut self,
        _: Numbered,
        ctx: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> UserResult {
        self.count.update_or(ctx, 0, |count| *count += 1)?;
        ctx.register_event_time_timer(LATER);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: Timestamp,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let count = self.count.get(ctx)?.copied();
        out.collect(format!("counted {} {count:?}", ctx.current_key()));
        Ok(())
    }
}

/// A handle that is made when the function is opened, or with the first record.
#[derive(Clone)]
struct Late<V> {
    count: Option<ValueState<V>>,
    at_open: bool,
}

impl<V: Data> KeyedProcessFunction<u64, Numbered, String> for Late<V> {
    fn open(&mut self, _: &RuntimeContext) -> UserResult {
        if self.at_open {
            self.count = Some(ValueState::new("count"));
        }
        Ok(())
    }

    fn process_element(
        &mut self,
        record: Numbered,
        ctx: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        self.count.get_or_insert_with(|| ValueState::new("count")).get(ctx)?;
        out.collect(format!("processed {record:?}"));
        Ok(())
    }
}

fn counts() -> Vec<String> {
    (0..N_KEYS).map(|key| format!("counted {key} {:?}", Some(COUNT / N_KEYS))).collect()
}

/// The largest numbers of each key that were reduced.
fn largest(lines: &[String]) -> BTreeMap<u64, u64> {
    let mut largest = BTreeMap::new();
    for line in lines.iter().filter_map(|line| line.strip_prefix("largest ")) {
        let (key, number) = line.split_once(' ').unwrap();
        let known: &mut u64 = largest.entry(key.parse().unwrap()).or_default();
        *known = (*known).max(number.parse().unwrap());
    }
    largest
}

/// A program whose operators are put together in each test.
struct Job {
    env: StreamExecutionEnvironment,
    dir: String,
    sink: Transactions<String>,
}

impl Job {
    fn new(seed: u64) -> Self {
        let env = simulated(2, seed);
        let dir = directory(&env);
        Self { env, dir, sink: Transactions::new() }
    }

    fn numbers(&self) -> DataStream<Numbered> {
        source(&self.env, 1, COUNT, "numbers")
    }

    fn configure(&mut self, run: Run<'_>) {
        run.configure(&mut self.env, &self.dir);
    }

    fn sink(&self, lines: &DataStream<String>) {
        lines.sink_to(self.sink.clone()).uid("sink");
    }

    fn counted(&self) -> DataStream<String> {
        self.numbers().key_by(key).process(count()).uid("count")
    }

    fn largest(&self, numbers: &DataStream<Numbered>) -> DataStream<String> {
        let reduced = numbers.key_by(key).reduce(|known, new| known.1 = known.1.max(new.1)).uid("largest");
        reduced.map(|(_, number)| format!("largest {} {number}", number % N_KEYS)).seal()
    }

    /// Runs the program from the savepoint at `path` to its end.
    fn go_on(&self) -> Result<JobExecutionResult> {
        self.env.execute("operators")
    }
}

fn run(path: &str) -> Run<'_> {
    Run::new(2, StateBackendType::Hashmap).from(path)
}

#[test]
fn an_operator_that_was_added_begins_empty() {
    let mut job = Job::new(41);
    job.configure(Run::new(2, StateBackendType::Hashmap));
    job.sink(&job.counted());
    let path = stop(&job.env, 40);
    job.configure(run(&path));
    let numbers = job.numbers();
    job.sink(&numbers.key_by(key).process(count()).uid("count").union(&job.largest(&numbers)));
    let report = finished(job.go_on()).restored.expect("it went on from a savepoint");
    assert!(report.added.iter().any(|uid| uid.0 == "largest") && report.dropped.is_empty(), "{report}");
    let lines = job.sink.committed();
    assert!(lines.starts_with(&counts()), "{lines:?}");
    assert_eq!(largest(&lines).len() as u64, N_KEYS);
}

#[test]
fn state_of_an_operator_that_was_removed_is_refused_or_named_as_dropped() {
    let mut job = Job::new(42);
    job.configure(Run::new(2, StateBackendType::Hashmap));
    let numbers = job.numbers();
    job.sink(&numbers.key_by(key).process(count()).uid("count").union(&job.largest(&numbers)));
    let path = stop(&job.env, 40);
    job.configure(run(&path));
    job.sink(&job.counted());
    let report = job.go_on().unwrap_err().report();
    assert!(report.contains("dropped: operator 'reduce' (uid 'largest'): _reduce ("), "{report}");
    assert!(report.contains("'execution.state-recovery.ignore-unclaimed-state'"), "{report}");
    assert!(report.contains("reused: ") && report.contains("'count'"), "{report}");

    job.env.set(options::STATE_RECOVERY_IGNORE_UNCLAIMED, true);
    job.sink(&job.counted());
    let result = finished(job.go_on());
    let dropped = result.restored.expect("it went on from a savepoint").dropped;
    assert_eq!(
        (dropped[0].uid.0.as_str(), dropped[0].states.as_slice()),
        ("largest", &["_reduce".to_owned()][..])
    );
    let lines = job.sink.committed();
    assert!(lines.starts_with(&counts()), "{lines:?}");
}

#[test]
fn operators_are_chained_otherwise_renamed_and_moved() {
    let mut job = Job::new(43);
    job.configure(Run::new(2, StateBackendType::Hashmap));
    let numbers = job.numbers().map(|record| record).uid("same");
    job.sink(&numbers.key_by(key).process(count()).name("counts of keys").uid("count").disable_chaining());
    let path = stop(&job.env, 40);
    job.configure(Run::new(3, StateBackendType::Disk).from(&path));
    // Another name, another chain, another place in the program.
    let numbers = job.numbers();
    let largest_of_all = job.largest(&numbers.filter(|_| true).seal());
    let numbers = numbers.map(|record| record).uid("same").start_new_chain().rebalance();
    let counted = numbers.key_by(key).process(count()).name("how many").uid("count").filter(|_| true);
    job.sink(&counted.seal().union(&largest_of_all));
    finished(job.go_on());
    assert!(job.sink.committed().starts_with(&counts()));

    // Under another uid it is another operator.
    job.configure(run(&path));
    job.sink(&job.numbers().key_by(key).process(count()).name("counts of keys").uid("counts"));
    let report = job.go_on().unwrap_err().report();
    assert!(report.contains("dropped: operator 'counts of keys' (uid 'count'): "), "{report}");
    assert!(report.contains("rebuilt (begins empty): 'counts'"), "{report}");
}

#[test]
fn an_operator_of_another_kind_under_the_same_uid_is_refused() {
    let mut job = Job::new(44);
    job.configure(Run::new(2, StateBackendType::Hashmap));
    job.sink(&job.counted());
    let path = stop(&job.env, 40);
    job.configure(run(&path));
    let reduced = job.numbers().key_by(key).reduce(|_, _| {}).uid("count");
    job.sink(&reduced.map(|record| format!("{record:?}")).seal());
    let report = job.go_on().unwrap_err().report();
    assert!(
        report.contains("dropped: operator 'keyed process' (uid 'count'): _timers/event, count ("),
        "{report}"
    );
    // And one that keeps nothing at all.
    job.sink(&job.numbers().map(|record| format!("{record:?}")).uid("count"));
    assert!(job.go_on().unwrap_err().report().contains("(uid 'count'): "));
}

#[test]
fn a_handle_that_is_made_late_is_refused_before_a_record_gets_past_it() {
    for (at_open, has_run) in [(true, false), (false, true)] {
        let mut job = Job::new(45);
        job.configure(Run::new(2, StateBackendType::Hashmap));
        job.sink(&job.counted());
        let path = stop(&job.env, 40);
        job.configure(run(&path));
        let late = Late::<String> { count: None, at_open };
        job.sink(&job.numbers().key_by(key).process(late).uid("count"));
        let error = job.go_on().unwrap_err();
        let reason = "the type of state 'count' has changed: field 'value' was u64 and is string";
        assert!(error.report().contains(reason), "{}", error.report());
        assert_eq!(
            error.location().is_some_and(|place| place.contains("record")),
            has_run,
            "{:?}",
            error.location()
        );
        assert_eq!(job.sink.committed(), Vec::<String>::new());
        // What it does read is read as it is.
        job.configure(run(&path));
        let late = Late::<u128> { count: None, at_open };
        job.sink(&job.numbers().key_by(key).process(late).uid("count"));
        finished(job.go_on());
    }
}
