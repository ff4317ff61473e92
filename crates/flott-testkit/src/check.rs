//! The snapshot harness: an operator that is restarted gives the same as one that is not.

mod comparison;
mod dump;
mod keys;
mod steps;

pub use comparison::OutputOrder;

use crate::log::{UNPRINTABLE, Word};
use crate::subtasks::{Step, Subtasks};
use crate::text::print_debug;
use comparison::{Comparison, StepWords};
use dump::{Dump, Strictness};
use flott_state::OperatorSnapshot;
use flott_types::{KeyGroup, MAX_MAX_PARALLELISM, Result, Watermark};
use keys::{crowded_groups, hashes, records_of_key};
use std::collections::BTreeSet;
use std::fmt;
use steps::{print_step, rebatch};

/// Batches of at most so many records are tried, besides single records.
const BATCH_SIZES: [usize; 4] = [2, 3, 7, usize::MAX];

/// How [`TestDriver::check_snapshots`](crate::TestDriver::check_snapshots) checks an operator.
///
/// The input is first fed record by record at parallelism 1. What comes out is the reference, with which these are
/// compared:
///
/// * batches of several sizes;
/// * a restart, which is a snapshot and new operators that restore it, after one element, for every element;
/// * restarts after every element;
/// * both with other parallelisms before and after the restart;
/// * after a restart, a watermark from before the snapshot, as sources send them that start anew: the records must be the
///   same.
///
/// If the driver knows the keys, the records of each key alone must come in the same order, too. For several keys at once
/// no order is promised, because timers of one time fire in any.
///
/// At each restart the state itself is compared, too: taking a snapshot changes nothing, and what was restored is what
/// was written, byte for byte, however many subtasks have divided it. Idle times and barriers are not compared.
///
/// Side outputs must be known to the driver: [`TestDriver::print_side_output`](crate::TestDriver::print_side_output).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotCheck {
    parallelisms: Vec<u32>,
    order: OutputOrder,
}

impl Default for SnapshotCheck {
    /// From one subtask to 2, 3, and back to 1.
    fn default() -> Self {
        Self::at_parallelisms(&[1, 2, 3, 1])
    }
}

impl SnapshotCheck {
    /// Restarts go from each parallelism to the next.
    pub fn at_parallelisms(parallelisms: &[u32]) -> Self {
        Self { parallelisms: parallelisms.to_vec(), order: OutputOrder::PerElement }
    }

    /// Restarts with one subtask only: for operators whose results depend on which subtask a record comes to.
    pub fn of_one_subtask() -> Self {
        Self::at_parallelisms(&[1])
    }

    /// What is promised about the order of the output; by default that each element has all its results at once.
    #[must_use]
    pub fn with_order(mut self, order: OutputOrder) -> Self {
        self.order = order;
        self
    }

    /// Each pair of parallelisms before and after a restart.
    fn pairs(&self) -> BTreeSet<(u32, u32)> {
        let pairs = self.parallelisms.iter().zip(self.parallelisms.iter().skip(1));
        [(1, 1)].into_iter().chain(pairs.map(|(from, to)| (*from, *to))).collect()
    }
}

/// Checks the operators that `make` makes; returns what they emit for each step.
#[track_caller]
pub(crate) fn check<A, B, O>(
    make: &dyn Fn() -> Subtasks<A, B, O>,
    steps: Vec<Step<A, B>>,
    settings: &SnapshotCheck,
) -> String
where
    A: Clone + fmt::Debug + 'static,
    B: Clone + fmt::Debug + 'static,
    O: fmt::Debug + Send + 'static,
{
    let routed = make_subtasks(make);
    let (first, second) = (&routed.first, &routed.second);
    let hashes = hashes(&steps, first, second);
    let crowded = &crowded_groups(&hashes, routed.max_parallelism());
    for hash in &hashes {
        let steps = records_of_key(&steps, first, second, *hash);
        let settings = SnapshotCheck::of_one_subtask().with_order(settings.order);
        let checked = Checked { make, steps, settings, keeps_order: true, crowded };
        let reference = checked.reference();
        checked.check_one_restart(&reference);
        checked.check_restarts_everywhere(&reference);
    }
    let checked =
        Checked { make, steps, settings: settings.clone(), keeps_order: hashes.is_empty(), crowded };
    let reference = checked.reference();
    checked.check_batches(&reference);
    checked.check_one_restart(&reference);
    checked.check_restarts_everywhere(&reference);
    checked.check_old_watermarks();
    checked.print(&checked.steps, &reference)
}

/// The subtasks under test, with key groups that mostly have but one key.
fn make_subtasks<A, B, O>(make: &dyn Fn() -> Subtasks<A, B, O>) -> Subtasks<A, B, O>
where
    A: 'static,
    B: 'static,
    O: Send + 'static,
{
    let mut subtasks = make();
    subtasks.prefer_max_parallelism(MAX_MAX_PARALLELISM);
    subtasks
}

/// Sends a watermark again.
type Repeat<'a, A, B, O> = &'a dyn Fn(&mut Subtasks<A, B, O>, Watermark);

struct Checked<'a, A, B, O> {
    make: &'a dyn Fn() -> Subtasks<A, B, O>,
    steps: Vec<Step<A, B>>,
    settings: SnapshotCheck,
    /// Whether the output keeps its order when one subtask is restarted.
    keeps_order: bool,
    crowded: &'a BTreeSet<KeyGroup>,
}

impl<A, B, O> Checked<'_, A, B, O>
where
    A: Clone + fmt::Debug + 'static,
    B: Clone + fmt::Debug + 'static,
    O: fmt::Debug + Send + 'static,
{
    #[track_caller]
    fn reference(&self) -> StepWords {
        self.run(1, &self.steps, |_, _| {})
    }

    /// Runs `steps` at a parallelism and returns what came out in each. `after` is called after each step with its
    /// number.
    #[track_caller]
    fn run(
        &self,
        parallelism: u32,
        steps: &[Step<A, B>],
        mut after: impl FnMut(usize, &mut Subtasks<A, B, O>),
    ) -> StepWords {
        let mut subtasks = make_subtasks(self.make);
        subtasks.parallelism = parallelism;
        let mut words = Vec::new();
        for (idx, step) in steps.iter().enumerate() {
            expect_success(subtasks.apply(step.clone()), || format!("at {}", print_step(step)));
            if idx + 1 == steps.len() {
                expect_success(subtasks.run_async(), || "after the last element".to_owned());
            }
            words.push(take_words(&subtasks));
            after(idx, &mut subtasks);
        }
        words
    }

    #[track_caller]
    fn check_batches(&self, reference: &StepWords) {
        for size in BATCH_SIZES {
            let steps = rebatch(&self.steps, size);
            let words = self.run(1, &steps, |_, _| {});
            let what = if size == usize::MAX {
                "the largest batches".to_owned()
            } else {
                format!("batches of {size}")
            };
            self.compare(self.settings.order.of_batches(), reference, &words, &steps, || what);
        }
    }

    #[track_caller]
    fn check_one_restart(&self, reference: &StepWords) {
        for (from, to) in self.settings.pairs() {
            for (at, step) in self.steps.iter().enumerate() {
                let what = || {
                    let print = print_step(step);
                    format!("a restart from parallelism {from} to {to} after element {at}, {print}")
                };
                let words = self.run(from, &self.steps, |idx, subtasks| {
                    if idx == at && !subtasks.inputs_have_ended() {
                        self.restart(subtasks, to, what);
                    }
                });
                self.compare(self.of_restarts((from, to) == (1, 1)), reference, &words, &self.steps, what);
            }
        }
    }

    #[track_caller]
    fn check_restarts_everywhere(&self, reference: &StepWords) {
        for parallelisms in [&[1], self.settings.parallelisms.as_slice()] {
            let first = parallelisms.first().copied().unwrap_or(1);
            let mut next = parallelisms.iter().cycle().skip(1);
            let what = || format!("restarts after every element at parallelism {parallelisms:?}");
            let words = self.run(first, &self.steps, |_, subtasks| {
                if !subtasks.inputs_have_ended() {
                    let to = next.next().copied().unwrap_or(1);
                    self.restart(subtasks, to, what);
                }
            });
            let comparison = self.of_restarts(parallelisms.iter().all(|parallelism| *parallelism == 1));
            self.compare(comparison, reference, &words, &self.steps, what);
        }
    }

    fn of_restarts(&self, of_one_subtask: bool) -> Comparison {
        match self.settings.order {
            OutputOrder::PerElement if self.keeps_order && of_one_subtask => Comparison::Steps,
            OutputOrder::PerElement => Comparison::StepsInAnyOrder,
            OutputOrder::Sequence if of_one_subtask => Comparison::Sequence,
            OutputOrder::BetweenWatermarks if of_one_subtask => Comparison::Segments,
            OutputOrder::Sequence | OutputOrder::BetweenWatermarks => Comparison::Records,
        }
    }

    /// Without a restart the last watermark is repeated, because that may fire timers, too: those that were set for a
    /// time that had passed. After restarts that happens only once.
    #[track_caller]
    fn check_old_watermarks(&self) {
        let comparison = match self.settings.order {
            OutputOrder::PerElement | OutputOrder::Sequence if self.keeps_order => Comparison::OrderedRecords,
            _ => Comparison::Records,
        };
        for (at, step) in self.steps.iter().enumerate() {
            let what =
                || format!("a watermark from before the restart after element {at}, {}", print_step(step));
            let run = |repeat: Repeat<'_, A, B, O>| {
                self.run(1, &self.steps, |idx, subtasks| {
                    let reached = subtasks.input_watermark();
                    if idx == at && !subtasks.inputs_have_ended() && reached != Watermark::MIN {
                        repeat(subtasks, reached);
                    }
                })
            };
            let reference =
                run(&|subtasks, reached| expect_success(subtasks.repeat_watermark(reached), what));
            let words = run(&|subtasks, reached| {
                for _ in 0..2 {
                    self.restart(subtasks, 1, what);
                    let old = Watermark(reached.timestamp().saturating_sub(1));
                    expect_success(subtasks.repeat_watermark(old), what);
                }
            });
            self.compare(comparison, &reference, &words, &self.steps, what);
        }
    }

    /// Restarts and compares the state before and after.
    #[track_caller]
    fn restart(&self, subtasks: &mut Subtasks<A, B, O>, to: u32, what: impl Fn() -> String) {
        let from = subtasks.parallelism;
        let before = self.dump(subtasks, &what);
        let again = self.dump(subtasks, &what);
        before.assert_same(&again, Strictness::Exact, || format!("{}: a second snapshot", what()));
        expect_success(subtasks.restart(to), &what);
        let after = self.dump(subtasks, &what);
        let strictness = if (from, to) == (1, 1) {
            Strictness::Restored { crowded: self.crowded }
        } else if self.settings.order == OutputOrder::PerElement {
            Strictness::Rescaled { crowded: self.crowded }
        } else {
            // What is under way is put in another order, and watermarks between it go.
            return;
        };
        before.assert_same(&after, strictness, || format!("{}: the state after it", what()));
    }

    #[track_caller]
    fn dump(&self, subtasks: &mut Subtasks<A, B, O>, what: impl Fn() -> String) -> Dump {
        let parts: Vec<OperatorSnapshot> = expect_success(subtasks.snapshot(), &what);
        Dump::new(&parts, what)
    }

    #[track_caller]
    fn compare(
        &self,
        comparison: Comparison,
        reference: &StepWords,
        words: &StepWords,
        steps: &[Step<A, B>],
        what: impl FnOnce() -> String,
    ) {
        if comparison.normal_form(reference) != comparison.normal_form(words) {
            let expected = self.print(&self.steps, reference);
            let got = self.print(steps, words);
            panic!("{}: the output is another one\nexpected:\n{expected}\ngot:\n{got}", what());
        }
    }

    fn print(&self, steps: &[Step<A, B>], words: &StepWords) -> String {
        let lines = steps.iter().zip(words).map(|(step, words)| match words.as_slice() {
            [] => format!("{}\n", print_step(step)),
            words => format!("{} => {}\n", print_step(step), print_words(words)),
        });
        lines.collect()
    }
}

#[track_caller]
fn expect_success<T>(result: Result<T>, what: impl FnOnce() -> String) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the operator fails, {}: {}", what(), error.report()),
    }
}

#[track_caller]
fn take_words<A, B, O: fmt::Debug>(subtasks: &Subtasks<A, B, O>) -> Vec<Word> {
    let words = subtasks.log.lock().take_words(print_debug);
    if let Some(tag) = words.iter().find(|word| word.text == UNPRINTABLE).and_then(|word| word.side.as_ref())
    {
        panic!(
            "the operator writes to the side output '{tag}': call print_side_output, so that it is compared too"
        );
    }
    words
}

fn print_words(words: &[Word]) -> String {
    let words: Vec<_> = words.iter().map(ToString::to_string).collect();
    words.join(" ")
}
