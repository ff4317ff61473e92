//! The driver of an operator with one input.

use super::{DriverMetrics, common_methods};
use crate::check::{self, SnapshotCheck};
use crate::element::{Element, parse_stream};
use crate::route::Route;
use crate::subtask::{Records, Subject};
use crate::subtasks::{Control, Step, Subtasks};
use crate::text::print_record;
use crate::world::World;
use flott_api::OutputTag;
use flott_env::Env;
use flott_operators::{Operator, OperatorContext};
use flott_state::OperatorSnapshot;
use flott_types::{Key, Result, StreamStatus, SubtaskIndex, Timestamp, Watermark, duration_ms, key_hash};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Drives an operator with one input: no threads, no sleeps, virtual time.
///
/// The operator is called exactly as the engine calls it: opened before the first element, told the processing time when
/// it has moved, never fed while it has no room. It is made by a function, because a test may restart it from a snapshot,
/// also with other parallelism.
///
/// ```
/// use flott_testkit::TestDriver;
/// use flott_operators::ReduceOperator;
///
/// let even_and_odd = |number: &u64| number % 2;
/// let mut driver = TestDriver::new(move || ReduceOperator::new(even_and_odd, |sum: &mut u64, number| *sum += number))
///     .with_key_selector(even_and_odd);
/// driver.push(1, 10)?;
/// driver.push(3, 11)?;
/// driver.push_watermark(11)?;
/// assert_eq!(driver.take_outputs(), [(1, 10), (4, 11)]);
///
/// driver.rescale(2)?;
/// assert_eq!(driver.run("+5@12 +6@13 W13 E")?, "+9@12 +6@13 W13 E");
/// # Ok::<(), flott_types::Error>(())
/// ```
pub struct TestDriver<I, O> {
    pub(crate) subtasks: Subtasks<I, Infallible, O>,
}

impl<I, O> fmt::Debug for TestDriver<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestDriver").field("operator", &self.subtasks.name).finish_non_exhaustive()
    }
}

fn step<T>(element: Element<T>) -> Step<T, Infallible> {
    match element {
        Element::Record(record, timestamp) => Step::Records(Records::First(vec![(record, timestamp)])),
        Element::Watermark(watermark) => Step::Control(None, Control::Watermark(watermark)),
        Element::Status(status) => Step::Control(None, Control::Status(status)),
        Element::ProcessingTime(at) => Step::ProcessingTime(at),
        Element::Barrier(checkpoint_id) => Step::Barrier(checkpoint_id),
        Element::EndOfData => Step::Control(None, Control::EndOfData),
    }
}

impl<I: 'static, O: Send + 'static> TestDriver<I, O> {
    /// A driver of the operator that `make` makes.
    pub fn new<Op: Operator<I, O> + 'static>(make: impl Fn() -> Op + 'static) -> Self {
        Self::try_new(move |_| Ok(make()))
    }

    /// A driver of the operator that `make` makes, which is told where the operator runs and may fail.
    pub fn try_new<Op: Operator<I, O> + 'static>(
        make: impl Fn(&OperatorContext) -> Result<Op> + 'static,
    ) -> Self {
        let make =
            move |ctx: &OperatorContext| Ok(Subject::One(Box::new(make(ctx)?) as Box<dyn Operator<I, O>>));
        Self { subtasks: Subtasks::new(1, make) }
    }

    /// Says what the key of a record is, so that with several subtasks it finds its own. The drivers of keyed functions
    /// know it.
    #[must_use]
    pub fn with_key_selector<K: Key>(mut self, key_selector: impl Fn(&I) -> K + 'static) -> Self {
        self.subtasks.first = Route::by_key_hash(move |record| key_hash(&key_selector(record)));
        self
    }

    common_methods!();

    /// Feeds a record; its timestamp may be [`NO_TIMESTAMP`](flott_types::NO_TIMESTAMP).
    ///
    /// # Errors
    /// That of the operator.
    pub fn push(&mut self, record: I, timestamp: Timestamp) -> Result<()> {
        self.push_batch([(record, timestamp)])
    }

    /// Feeds records with their timestamps as one batch.
    ///
    /// # Errors
    /// That of the operator.
    pub fn push_batch(&mut self, records: impl IntoIterator<Item = (I, Timestamp)>) -> Result<()> {
        self.subtasks.apply(Step::Records(Records::First(records.into_iter().collect())))
    }

    /// Feeds one element.
    ///
    /// # Errors
    /// That of the operator.
    pub fn push_element(&mut self, element: Element<I>) -> Result<()> {
        self.subtasks.apply(step(element))
    }

    /// Feeds a line of elements: see [`Element`] for its form.
    ///
    /// # Errors
    /// That of the operator; also if the line cannot be read.
    pub fn push_text(&mut self, line: &str) -> Result<()>
    where
        I: FromStr<Err: fmt::Display>,
    {
        parse_stream(line)?.into_iter().try_for_each(|element| self.push_element(element))
    }

    /// Feeds a line of elements and takes everything that was emitted since the last time as a line.
    ///
    /// # Errors
    /// That of the operator; also if the line cannot be read.
    pub fn run(&mut self, line: &str) -> Result<String>
    where
        I: FromStr<Err: fmt::Display>,
        O: fmt::Display,
    {
        self.push_text(line)?;
        Ok(self.take_text())
    }

    /// Checks that snapshots, restores, other parallelisms and other batches make no difference to what the operator
    /// emits for `input`: see [`SnapshotCheck`]. Returns what it emits, as text.
    ///
    /// ```
    /// use flott_testkit::{KeyValue, SnapshotCheck, TestDriver, parse_stream};
    ///
    /// let sums = || TestDriver::reduce(KeyValue::key_of, |sum: &mut KeyValue, next| sum.value += next.value);
    /// let input = parse_stream("+a=1@10 +b=2@11 W11 +a=3@12 E")?;
    /// assert_eq!(TestDriver::check_snapshots(sums, &input, &SnapshotCheck::default()), "\
    /// +a=1@10 => +a=1@10
    /// +b=2@11 => +b=2@11
    /// W11 => W11
    /// +a=3@12 => +a=4@12
    /// E => E
    /// ");
    /// # Ok::<(), flott_types::Error>(())
    /// ```
    ///
    /// # Panics
    /// If it makes a difference, or the operator fails.
    #[track_caller]
    pub fn check_snapshots(make: impl Fn() -> Self, input: &[Element<I>], check: &SnapshotCheck) -> String
    where
        I: Clone + fmt::Debug,
        O: fmt::Debug,
    {
        let steps = input.iter().cloned().map(step).collect();
        check::check(&|| make().subtasks, steps, check)
    }
}
