//! Records, window functions and runs for tests of window operators.

use crate::test_support::{
    Feed, Harness, Increments, MAX_PARALLELISM, context, one, rebatch, restored, route,
};
use crate::window::MapResult;
use crate::{Operator, OperatorContext};
use flott_api::windowing::{GlobalWindow, TimeWindow};
use flott_api::{AggregateFunction, OutputTag, WindowContext};
use flott_env::sim::Simulation;
use flott_state::OperatorSnapshot;
use flott_types::{SubtaskIndex, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A key and a value; `a7` in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Rec {
    pub(crate) key: char,
    pub(crate) value: u32,
}

impl fmt::Debug for Rec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.key, self.value)
    }
}

pub(crate) fn key(record: &Rec) -> char {
    record.key
}

/// A firing: key, window and the values in it, in order; `a[0,10)=1,2` in text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fired {
    pub(crate) key: char,
    pub(crate) window: String,
    pub(crate) values: Vec<u32>,
}

impl Fired {
    pub(crate) fn new<W: Show>(key: char, window: &W, mut values: Vec<u32>) -> Self {
        values.sort_unstable();
        Self { key, window: window.show(), values }
    }
}

impl fmt::Debug for Fired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<_> = self.values.iter().map(u32::to_string).collect();
        write!(f, "{}{}={}", self.key, self.window, values.join(","))
    }
}

pub(crate) trait Show {
    fn show(&self) -> String;
}

impl Show for TimeWindow {
    fn show(&self) -> String {
        format!("[{},{})", self.start, self.end)
    }
}

impl Show for GlobalWindow {
    fn show(&self) -> String {
        "[all]".to_owned()
    }
}

/// Gathers values.
#[derive(Clone, Debug)]
pub(crate) struct Gather;

impl AggregateFunction<Rec> for Gather {
    type Accumulator = Vec<u32>;
    type Output = Vec<u32>;

    fn create_accumulator(&self) -> Vec<u32> {
        Vec::new()
    }
    fn add(&self, accumulator: &mut Vec<u32>, record: &Rec) {
        accumulator.push(record.value);
    }
    fn get_result(&self, accumulator: &Vec<u32>) -> Vec<u32> {
        accumulator.clone()
    }
    fn merge(&self, accumulator: &mut Vec<u32>, other: &Vec<u32>) {
        accumulator.extend(other);
    }
}

type ShowFn<W> = fn(&char, &WindowContext<'_, W>, Vec<u32>) -> Fired;

/// Emits the gathered values with key and window.
pub(crate) fn show<W: Show>() -> MapResult<ShowFn<W>> {
    MapResult(|key, ctx, values| Fired::new(*key, ctx.window, values))
}

pub(crate) fn late_tag() -> OutputTag<Rec> {
    OutputTag::new("late")
}

pub(crate) type Element = Feed<Rec>;

/// Elements from text: `a1@10` is a record of key `a` with value 1 at 10, `W9` a watermark, `P5` the wall clock. Records
/// beside each other make a batch.
pub(crate) fn elements(text: &str) -> Vec<Element> {
    let mut elements = Vec::new();
    for word in text.split_whitespace() {
        let time = |text: &str| match text {
            "+inf" => Timestamp::MAX,
            text => text.parse().unwrap(),
        };
        if let Some(watermark) = word.strip_prefix('W') {
            elements.push(Feed::Watermark(time(watermark)));
        } else if let Some(now) = word.strip_prefix('P') {
            elements.push(Feed::ProcessingTime(time(now)));
        } else {
            let (record, timestamp) = word.split_once('@').unwrap();
            let (key, value) = record.split_at(1);
            let record =
                (Rec { key: key.chars().next().unwrap(), value: value.parse().unwrap() }, time(timestamp));
            match elements.last_mut() {
                Some(Feed::Batch1(records)) => records.push(record),
                _ => elements.push(Feed::Batch1(vec![record])),
            }
        }
    }
    elements
}

/// Elements by event time, and the same with the wall clock in the place of the watermark. In both, records have the time
/// at which they come; when the clock shows 10 the watermark is 9.
pub(crate) fn by_the_clock(elements: &[Element]) -> (Vec<Element>, Vec<Element>) {
    let mut now = 0;
    let (mut by_watermark, mut by_clock) = (Vec::new(), Vec::new());
    for element in elements {
        match element {
            Feed::Batch1(records) => {
                let records: Vec<_> = records.iter().map(|(record, _)| (*record, now)).collect();
                by_watermark.push(Feed::Batch1(records.clone()));
                by_clock.push(Feed::Batch1(records));
            }
            Feed::Watermark(at) => {
                now = at.saturating_add(1_000);
                by_watermark.push(Feed::Watermark(now - 1));
                by_clock.push(Feed::ProcessingTime(now));
            }
            other => panic!("{other:?}"),
        }
    }
    (by_watermark, by_clock)
}

/// What comes out of the elements between two advances of a clock, and of the second one.
pub(crate) type Step = Vec<String>;

/// Feeds elements; returns what came out, step by step, records of each step sorted: within a window the order of keys is
/// nobody's business.
fn steps(subtasks: &mut [Harness<Rec, (), Fired>], elements: &[Element]) -> Vec<Step> {
    let mut steps = vec![Step::new()];
    let parallelism = subtasks.len() as u32;
    for element in elements {
        for (idx, subtask) in subtasks.iter_mut().enumerate() {
            let element = match element {
                Feed::Batch1(records) => {
                    let mine = |record: &Rec| route(&record.key, parallelism) == idx;
                    Feed::Batch1(records.iter().filter(|(record, _)| mine(record)).copied().collect())
                }
                other => other.clone(),
            };
            if matches!(&element, Feed::Batch1(records) if records.is_empty()) {
                continue;
            }
            subtask.feed(&element).expect("the operator does not fail");
            let lines = subtask.take();
            if matches!(element, Feed::Watermark(_)) {
                let ends: Vec<i64> =
                    lines.iter().filter_map(|line| line.rsplit_once('@')?.1.parse().ok()).collect();
                assert!(ends.is_sorted(), "windows fire in the order of their ends: {lines:?}");
            }
            // Each subtask forwards the watermark behind the records, to both outputs.
            let is_record = |line: &String| line.contains('+') && !line.contains('W');
            let n_records = lines.iter().take_while(|line| is_record(line)).count();
            let n_watermarks = if matches!(element, Feed::Watermark(_)) { 2 } else { 0 };
            assert_eq!(lines.len() - n_records, n_watermarks, "{lines:?}");
            steps.last_mut().unwrap().extend(lines.into_iter().take(n_records));
        }
        if !matches!(element, Feed::Batch1(_)) {
            steps.last_mut().unwrap().sort();
            steps.push(Step::new());
        }
    }
    steps.last_mut().unwrap().sort();
    steps
}

fn open<Op: Operator<Rec, Fired> + 'static>(
    make: &impl Fn() -> Op,
    ctx: &OperatorContext,
) -> Harness<Rec, (), Fired> {
    Harness::at(one(make()), ctx).with_side(&late_tag())
}

fn open_all<Op: Operator<Rec, Fired> + 'static>(
    make: &impl Fn() -> Op,
    parallelism: u32,
) -> Vec<Harness<Rec, (), Fired>> {
    let env = Simulation::new(1).env();
    (0..parallelism).map(|subtask| open(make, &context(env.clone(), subtask, parallelism))).collect()
}

/// Stops the subtasks and goes on with others.
fn rescale<Op: Operator<Rec, Fired> + 'static>(
    make: &impl Fn() -> Op,
    old: &mut [Harness<Rec, (), Fired>],
    parallelism: u32,
    now: Timestamp,
) -> Vec<Harness<Rec, (), Fired>> {
    let parts: Vec<_> = old.iter_mut().map(Harness::snapshot).collect();
    restart(make, &parts, parallelism, now)
}

/// Starts subtasks from what others have left.
fn restart<Op: Operator<Rec, Fired> + 'static>(
    make: &impl Fn() -> Op,
    parts: &[OperatorSnapshot],
    parallelism: u32,
    now: Timestamp,
) -> Vec<Harness<Rec, (), Fired>> {
    let mut new = open_all(make, parallelism);
    for (idx, subtask) in new.iter_mut().enumerate() {
        let part = OperatorSnapshot::reassign(parts, SubtaskIndex(idx as u32), parallelism).unwrap();
        assert!(part.max_parallelism == 0 || part.max_parallelism == MAX_PARALLELISM);
        subtask.restore(&part);
        subtask.feed(&Feed::ProcessingTime(now)).unwrap();
        assert_eq!(subtask.take(), Vec::<String>::new(), "nothing is due again after a restore");
    }
    new
}

/// Runs an operator over elements in several ways, all of which must give the same: whole batches, records one by one,
/// a snapshot and restore after each element, at other parallelism each time too.
pub(crate) fn run_everywhere<Op: Operator<Rec, Fired> + 'static>(
    make: impl Fn() -> Op,
    elements: &[Element],
) -> Vec<Step> {
    let start = [Feed::ProcessingTime(0)];
    let elements = &[&start, elements].concat()[..];
    let expected = steps(&mut open_all(&make, 1), elements);
    let singles = rebatch(elements, 1);
    assert_eq!(steps(&mut open_all(&make, 1), &singles), expected, "record by record");
    for parallelisms in [[1, 1, 1], [2, 3, 1]] {
        let mut subtasks = open_all(&make, 1);
        let mut seen = vec![Step::new()];
        let mut now = 0;
        for (element, parallelism) in singles.iter().zip(parallelisms.iter().cycle()) {
            let mut step = steps(&mut subtasks, std::slice::from_ref(element)).into_iter();
            let last = seen.last_mut().unwrap();
            last.extend(step.next().unwrap());
            last.sort();
            seen.extend(step);
            if let Feed::ProcessingTime(at) = element {
                now = *at;
            }
            subtasks = rescale(&make, &mut subtasks, *parallelism, now);
        }
        assert_eq!(seen, expected, "restored after each element with parallelism {parallelisms:?}");
    }
    // Each takes as long as all of the above.
    let restarts_after = if elements.len().is_multiple_of(2) { usize::MAX } else { 7 };
    check_increments(&make, &singles, &expected, restarts_after);
    expected
}

/// Takes a checkpoint after each element, which is under way while the next one comes and goes on from an earlier one. Of some, a restore
/// must read what was there at the barrier. After so many elements others go on, at another parallelism.
fn check_increments<Op: Operator<Rec, Fired> + 'static>(
    make: &impl Fn() -> Op,
    singles: &[Element],
    expected: &[Step],
    restarts_after: usize,
) {
    let mut subtasks = open_all(make, 2);
    let mut checkpoints: Vec<_> = subtasks.iter().map(|_| Increments::default()).collect();
    let mut at_barrier: Option<Vec<OperatorSnapshot>> = None;
    let mut seen = vec![Step::new()];
    let mut now = 0;
    for (idx, element) in singles.iter().enumerate() {
        let mut step = steps(&mut subtasks, std::slice::from_ref(element)).into_iter();
        let last = seen.last_mut().unwrap();
        last.extend(step.next().unwrap());
        last.sort();
        seen.extend(step);
        if let Feed::ProcessingTime(at) = element {
            now = *at;
        }
        if idx % restarts_after != 0 {
            let parts = finish(&mut subtasks, &mut checkpoints);
            if let Some(whole) = at_barrier.take() {
                check_same(make, &parts, &whole, idx);
            }
        }
        // To compare each would take long.
        if restarts_after == usize::MAX && idx % 4 == 3 {
            at_barrier = Some(subtasks.iter_mut().map(Harness::snapshot).collect());
        }
        subtasks
            .iter_mut()
            .zip(&mut checkpoints)
            .for_each(|(subtask, checkpoints)| checkpoints.begin(subtask));
        if idx % restarts_after == restarts_after - 1 {
            let parts = finish(&mut subtasks, &mut checkpoints);
            subtasks = restart(make, &parts, 1 + subtasks.len() as u32 % 3, now);
            checkpoints = subtasks.iter().map(|_| Increments::default()).collect();
        }
    }
    assert_eq!(seen, expected, "with checkpoints that go on from others");
}

/// Has the checkpoint that is under way completed.
fn finish(subtasks: &mut [Harness<Rec, (), Fired>], checkpoints: &mut [Increments]) -> Vec<OperatorSnapshot> {
    subtasks.iter_mut().zip(checkpoints).map(|(subtask, checkpoints)| checkpoints.finish(subtask)).collect()
}

/// Both mean the same to a subtask of another parallelism.
fn check_same<Op: Operator<Rec, Fired> + 'static>(
    make: &impl Fn() -> Op,
    parts: &[OperatorSnapshot],
    whole: &[OperatorSnapshot],
    idx: usize,
) {
    let read = |parts| {
        let part = OperatorSnapshot::reassign(parts, SubtaskIndex(0), 1).unwrap();
        restored(open_all(make, 1).remove(0), &part)
    };
    assert_eq!(read(parts), read(whole), "the checkpoint before element {idx}");
}

/// The steps as text: one line for each in which something came out.
pub(crate) fn text(steps: &[Step]) -> String {
    steps.iter().filter(|step| !step.is_empty()).map(|step| step.join(" ") + "\n").collect()
}
