//! The driver of an operator with two inputs.

use super::{DriverMetrics, common_methods};
use crate::check::{self, SnapshotCheck};
use crate::element::{Element, TwoInputElement, parse_stream};
use crate::route::Route;
use crate::subtask::{Records, Subject};
use crate::subtasks::{Control, Input, Step, Subtasks};
use crate::text::print_record;
use crate::world::World;
use flott_api::OutputTag;
use flott_env::Env;
use flott_operators::{OperatorContext, TwoInputOperator};
use flott_state::OperatorSnapshot;
use flott_types::{Key, Result, StreamStatus, SubtaskIndex, Timestamp, Watermark, duration_ms, key_hash};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Drives an operator with two inputs; otherwise as [`TestDriver`](crate::TestDriver).
///
/// Watermarks and status of both inputs are combined as the engine does it.
pub struct TwoInputTestDriver<A, B, O> {
    pub(crate) subtasks: Subtasks<A, B, O>,
}

impl<A, B, O> fmt::Debug for TwoInputTestDriver<A, B, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwoInputTestDriver").field("operator", &self.subtasks.name).finish_non_exhaustive()
    }
}

fn control<A, B, T>(
    input: Option<Input>,
    element: Element<T>,
    records: impl FnOnce(T, Timestamp) -> Records<A, B>,
) -> Step<A, B> {
    match element {
        Element::Record(record, timestamp) => Step::Records(records(record, timestamp)),
        Element::Watermark(watermark) => Step::Control(input, Control::Watermark(watermark)),
        Element::Status(status) => Step::Control(input, Control::Status(status)),
        // These are the same for both inputs.
        Element::ProcessingTime(at) => Step::ProcessingTime(at),
        Element::Barrier(checkpoint_id) => Step::Barrier(checkpoint_id),
        Element::EndOfData => Step::Control(input, Control::EndOfData),
    }
}

fn step<A, B>(element: TwoInputElement<A, B>) -> Step<A, B> {
    match element {
        TwoInputElement::First(element) => {
            control(Some(Input::First), element, |record, at| Records::First(vec![(record, at)]))
        }
        TwoInputElement::Second(element) => {
            control(Some(Input::Second), element, |record, at| Records::Second(vec![(record, at)]))
        }
        TwoInputElement::Both(element) => control(None, element, |record, _| match record {}),
    }
}

impl<A: 'static, B: 'static, O: Send + 'static> TwoInputTestDriver<A, B, O> {
    /// A driver of the operator that `make` makes.
    pub fn new<Op: TwoInputOperator<A, B, O> + 'static>(make: impl Fn() -> Op + 'static) -> Self {
        Self::try_new(move |_| Ok(make()))
    }

    /// A driver of the operator that `make` makes, which is told where the operator runs and may fail.
    pub fn try_new<Op: TwoInputOperator<A, B, O> + 'static>(
        make: impl Fn(&OperatorContext) -> Result<Op> + 'static,
    ) -> Self {
        let make = move |ctx: &OperatorContext| {
            Ok(Subject::Two(Box::new(make(ctx)?) as Box<dyn TwoInputOperator<A, B, O>>))
        };
        Self { subtasks: Subtasks::new(2, make) }
    }

    /// Says what the keys of records are, so that with several subtasks they find their own. The drivers of keyed
    /// functions know it.
    #[must_use]
    pub fn with_key_selectors<K: Key>(
        mut self,
        first: impl Fn(&A) -> K + 'static,
        second: impl Fn(&B) -> K + 'static,
    ) -> Self {
        self.subtasks.first = Route::by_key_hash(move |record| key_hash(&first(record)));
        self.subtasks.second = Route::by_key_hash(move |record| key_hash(&second(record)));
        self
    }

    /// Says what the key of a record of the first input is; those of the second go to all subtasks.
    #[must_use]
    pub fn with_key_selector_and_broadcast<K: Key>(mut self, key_selector: impl Fn(&A) -> K + 'static) -> Self
    where
        B: Clone,
    {
        self.subtasks.first = Route::by_key_hash(move |record| key_hash(&key_selector(record)));
        self.with_broadcast()
    }

    /// Records of the second input go to all subtasks.
    #[must_use]
    pub fn with_broadcast(mut self) -> Self
    where
        B: Clone,
    {
        self.subtasks.second = Route::broadcast();
        self
    }

    common_methods!();

    /// Feeds a record to the first input.
    ///
    /// # Errors
    /// That of the operator.
    pub fn push1(&mut self, record: A, timestamp: Timestamp) -> Result<()> {
        self.push_batch1([(record, timestamp)])
    }

    /// Feeds a record to the second input.
    ///
    /// # Errors
    /// That of the operator.
    pub fn push2(&mut self, record: B, timestamp: Timestamp) -> Result<()> {
        self.push_batch2([(record, timestamp)])
    }

    /// Feeds records with their timestamps to the first input as one batch.
    ///
    /// # Errors
    /// That of the operator.
    pub fn push_batch1(&mut self, records: impl IntoIterator<Item = (A, Timestamp)>) -> Result<()> {
        self.subtasks.apply(Step::Records(Records::First(records.into_iter().collect())))
    }

    /// Feeds records with their timestamps to the second input as one batch.
    ///
    /// # Errors
    /// That of the operator.
    pub fn push_batch2(&mut self, records: impl IntoIterator<Item = (B, Timestamp)>) -> Result<()> {
        self.subtasks.apply(Step::Records(Records::Second(records.into_iter().collect())))
    }

    /// Advances event time on one input.
    ///
    /// # Errors
    /// That of the operator.
    pub fn push_watermark_of(&mut self, input: Input, timestamp: Timestamp) -> Result<()> {
        self.subtasks.apply(Step::Control(Some(input), Control::Watermark(Watermark(timestamp))))
    }

    /// One input becomes idle or active.
    ///
    /// # Errors
    /// That of the operator.
    pub fn set_status_of(&mut self, input: Input, status: StreamStatus) -> Result<()> {
        self.subtasks.apply(Step::Control(Some(input), Control::Status(status)))
    }

    /// Ends one input as a bounded source does: with the last watermark and the end of data.
    ///
    /// # Errors
    /// That of the operator.
    pub fn end_of_input_of(&mut self, input: Input) -> Result<()> {
        self.subtasks.apply(Step::Control(Some(input), Control::Watermark(Watermark::MAX)))?;
        self.subtasks.apply(Step::Control(Some(input), Control::EndOfData))
    }

    /// Feeds one element.
    ///
    /// # Errors
    /// That of the operator.
    pub fn push_element(&mut self, element: TwoInputElement<A, B>) -> Result<()> {
        self.subtasks.apply(step(element))
    }

    /// Feeds a line of elements: see [`Element`] for its form.
    ///
    /// # Errors
    /// That of the operator; also if the line cannot be read.
    pub fn push_text(&mut self, line: &str) -> Result<()>
    where
        A: FromStr<Err: fmt::Display>,
        B: FromStr<Err: fmt::Display>,
    {
        parse_stream(line)?.into_iter().try_for_each(|element| self.push_element(element))
    }

    /// Feeds a line of elements and takes everything that was emitted since the last time as a line.
    ///
    /// # Errors
    /// That of the operator; also if the line cannot be read.
    pub fn run(&mut self, line: &str) -> Result<String>
    where
        A: FromStr<Err: fmt::Display>,
        B: FromStr<Err: fmt::Display>,
        O: fmt::Display,
    {
        self.push_text(line)?;
        Ok(self.take_text())
    }

    /// As [`TestDriver::check_snapshots`](crate::TestDriver::check_snapshots).
    ///
    /// # Panics
    /// If snapshots make a difference, or the operator fails.
    #[track_caller]
    pub fn check_snapshots(
        make: impl Fn() -> Self,
        input: &[TwoInputElement<A, B>],
        check: &SnapshotCheck,
    ) -> String
    where
        A: Clone + fmt::Debug,
        B: Clone + fmt::Debug,
        O: fmt::Debug,
    {
        let steps = input.iter().cloned().map(step).collect();
        check::check(&|| make().subtasks, steps, check)
    }
}
