//! All subtasks of one operator, fed as the engine feeds them.
//!
//! Everything is lazy: operators are made and opened when the first element comes, so that a driver can be configured
//! after it was made.

use crate::element::Element;
use crate::log::SharedLog;
use crate::route::Route;
use crate::subtask::{Records, Subject, Subtask};
use crate::world::World;
use flott_exchange::{ValveOutput, WatermarkValve};
use flott_operators::{OperatorContext, OutputMetrics};
use flott_state::OperatorSnapshot;
use flott_types::{DEFAULT_MAX_PARALLELISM, Error, Result, StreamStatus, SubtaskIndex, Timestamp, Watermark};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// An operator that asks for processing time so many times without its moving is taken to be broken.
const TIMER_ROUNDS_MAX: usize = 1_000;

/// One of the inputs of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// The only one, or the first of two.
    First,
    /// The second of two.
    Second,
}

impl Input {
    const fn idx(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }
}

/// What comes in besides records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Watermark(Watermark),
    Status(StreamStatus),
    EndOfData,
}

/// One thing that happens to an operator.
#[derive(Clone, Debug)]
pub(crate) enum Step<A, B> {
    Records(Records<A, B>),
    /// On one input, or on all.
    Control(Option<Input>, Control),
    ProcessingTime(Timestamp),
    Barrier(u64),
}

type MakeSubject<A, B, O> = Rc<dyn Fn(&OperatorContext) -> Result<Subject<A, B, O>>>;

type SharedSubtask<A, B, O> = Arc<Mutex<Subtask<A, B, O>>>;

fn lock<A, B, O>(subtask: &Mutex<Subtask<A, B, O>>) -> MutexGuard<'_, Subtask<A, B, O>> {
    // After a panic in user code the test fails anyway.
    subtask.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opened operators.
struct Running<A, B, O> {
    subtasks: Vec<SharedSubtask<A, B, O>>,
    told_processing_time: Option<Timestamp>,
}

/// How far the inputs have got. Restarts of the operator do not reset it.
struct Inputs {
    valve: WatermarkValve,
    ended: Vec<bool>,
    idle: Vec<bool>,
}

impl Inputs {
    fn new(n_inputs: usize) -> Self {
        Self {
            valve: WatermarkValve::new(n_inputs),
            ended: vec![false; n_inputs],
            idle: vec![false; n_inputs],
        }
    }

    fn is(flags: &[bool], input: Input) -> bool {
        flags.get(input.idx()).copied().unwrap_or(false)
    }

    fn set(flags: &mut [bool], input: Input, value: bool) {
        if let Some(flag) = flags.get_mut(input.idx()) {
            *flag = value;
        }
    }
}

/// All subtasks of one operator. `B` are the records of a second input.
pub(crate) struct Subtasks<A, B, O> {
    make: MakeSubject<A, B, O>,
    n_inputs: usize,
    inputs: Inputs,
    pub(crate) first: Route<A>,
    pub(crate) second: Route<B>,
    pub(crate) name: String,
    pub(crate) parallelism: u32,
    max_parallelism: Option<u32>,
    pub(crate) world: World,
    pub(crate) log: SharedLog<O>,
    pub(crate) metrics: Arc<OutputMetrics>,
    restored: Vec<OperatorSnapshot>,
    running: Option<Running<A, B, O>>,
}

impl<A, B, O> Subtasks<A, B, O>
where
    A: 'static,
    B: 'static,
    O: Send + 'static,
{
    pub(crate) fn new(
        n_inputs: usize,
        make: impl Fn(&OperatorContext) -> Result<Subject<A, B, O>> + 'static,
    ) -> Self {
        Self {
            make: Rc::new(make),
            n_inputs,
            inputs: Inputs::new(n_inputs),
            first: Route::round_robin(),
            second: Route::round_robin(),
            name: "tested".to_owned(),
            parallelism: 1,
            max_parallelism: None,
            world: World::new(0),
            log: SharedLog::default(),
            metrics: Arc::default(),
            restored: Vec::new(),
            running: None,
        }
    }

    /// For settings that opened operators have seen already.
    pub(crate) fn assert_not_started(&self) {
        assert!(self.running.is_none(), "a driver is configured before its first element");
    }

    pub(crate) fn set_max_parallelism(&mut self, max_parallelism: u32) {
        self.assert_not_started();
        self.max_parallelism = Some(max_parallelism);
    }

    /// The number of key groups for a caller that prefers one, unless the user does.
    pub(crate) fn prefer_max_parallelism(&mut self, max_parallelism: u32) {
        self.assert_not_started();
        self.max_parallelism.get_or_insert(max_parallelism);
    }

    pub(crate) fn max_parallelism(&self) -> u32 {
        self.max_parallelism.unwrap_or(DEFAULT_MAX_PARALLELISM)
    }

    pub(crate) fn restore_from(&mut self, parts: Vec<OperatorSnapshot>) {
        self.assert_not_started();
        self.restored = parts;
    }

    /// The opened operators.
    fn start(&mut self) -> Result<&mut Running<A, B, O>> {
        if self.running.is_none() {
            self.log.lock().start(self.parallelism);
            let subtasks = (0..self.parallelism).map(|idx| self.open(SubtaskIndex(idx)));
            self.running =
                Some(Running { subtasks: subtasks.collect::<Result<_>>()?, told_processing_time: None });
        }
        self.running.as_mut().ok_or_else(|| Error::subtask("the driver has not started"))
    }

    fn open(&self, subtask: SubtaskIndex) -> Result<SharedSubtask<A, B, O>> {
        let ctx = OperatorContext {
            env: self.world.env().clone(),
            operator: self.name.clone(),
            subtask,
            parallelism: self.parallelism,
            max_parallelism: self.max_parallelism(),
        };
        let mut opened = Subtask::open((self.make)(&ctx)?, &ctx, &self.log, &self.metrics)?;
        if !self.restored.is_empty() {
            opened.restore(&OperatorSnapshot::reassign(&self.restored, subtask, self.parallelism)?)?;
        }
        Ok(Arc::new(Mutex::new(opened)))
    }

    fn each(&mut self, mut call: impl FnMut(&mut Subtask<A, B, O>) -> Result<()>) -> Result<()> {
        self.start()?.subtasks.iter().try_for_each(|subtask| call(&mut lock(subtask)))
    }

    /// Does what the engine does before, for and after an element.
    pub(crate) fn apply(&mut self, step: Step<A, B>) -> Result<()> {
        self.wait_until_ready()?;
        if let Step::ProcessingTime(at) = step {
            // Waiting for room may have taken longer.
            return self.advance_processing_time_to(at.max(self.world.processing_time()));
        }
        self.tell_processing_time()?;
        match step {
            Step::Records(records) => self.process(records)?,
            Step::Control(input, control) => self.control(input, control)?,
            Step::ProcessingTime(_) => {}
            Step::Barrier(checkpoint_id) => {
                self.snapshot()?;
                self.log.lock().push(Element::Barrier(checkpoint_id));
            }
        }
        self.poll_once().map(drop)
    }

    fn process(&mut self, records: Records<A, B>) -> Result<()> {
        let (parallelism, max_parallelism) = (self.parallelism, self.max_parallelism());
        let input = match &records {
            Records::First(_) => Input::First,
            Records::Second(_) => Input::Second,
        };
        self.check_open(input)?;
        self.become_active(input)?;
        let parts: Vec<Records<A, B>> = match records {
            Records::First(records) => {
                let parts = self.first.split(records, parallelism, max_parallelism);
                parts.into_iter().map(Records::First).collect()
            }
            Records::Second(records) => {
                let parts = self.second.split(records, parallelism, max_parallelism);
                parts.into_iter().map(Records::Second).collect()
            }
        };
        let mut parts = parts.into_iter();
        self.each(|subtask| parts.next().map_or(Ok(()), |part| subtask.process(part)))
    }

    fn check_open(&self, input: Input) -> Result<()> {
        if Inputs::is(&self.inputs.ended, input) {
            return Err(Error::user("an element comes after the end of data"));
        }
        Ok(())
    }

    /// A sender says that it is active before it sends.
    fn become_active(&mut self, input: Input) -> Result<()> {
        let is_idle = Inputs::is(&self.inputs.idle, input);
        if is_idle { self.control_one(input, Control::Status(StreamStatus::Active)) } else { Ok(()) }
    }

    fn control(&mut self, input: Option<Input>, control: Control) -> Result<()> {
        match input {
            Some(input) => self.control_one(input, control),
            None => [Input::First, Input::Second]
                .into_iter()
                .take(self.n_inputs)
                .try_for_each(|input| self.control_one(input, control)),
        }
    }

    fn control_one(&mut self, input: Input, control: Control) -> Result<()> {
        self.check_open(input)?;
        if let Control::Watermark(_) = control {
            self.become_active(input)?;
        }
        let Inputs { valve, ended, idle } = &mut self.inputs;
        let ValveOutput { status, watermark, end_of_data } = match control {
            Control::Watermark(watermark) => valve.on_watermark(input.idx(), watermark),
            Control::Status(status) => {
                Inputs::set(idle, input, status == StreamStatus::Idle);
                valve.on_status(input.idx(), status)
            }
            Control::EndOfData => {
                Inputs::set(ended, input, true);
                valve.on_end_of_data(input.idx())
            }
        };
        if status == Some(StreamStatus::Active) {
            self.each(|subtask| subtask.status(StreamStatus::Active))?;
        }
        if let Some(watermark) = watermark {
            self.each(|subtask| subtask.watermark(watermark))?;
        }
        if status == Some(StreamStatus::Idle) {
            self.each(|subtask| subtask.status(StreamStatus::Idle))?;
        }
        if end_of_data {
            self.each(Subtask::end_of_data)?;
        }
        Ok(())
    }

    /// Whether the end of data was fed on all inputs.
    pub(crate) fn inputs_have_ended(&self) -> bool {
        self.inputs.ended.iter().all(|ended| *ended)
    }

    /// The event time that all inputs together have reached.
    pub(crate) fn input_watermark(&self) -> Watermark {
        self.inputs.valve.current()
    }

    /// Tells the operators a watermark that the inputs have left behind, as happens after a restore.
    pub(crate) fn repeat_watermark(&mut self, watermark: Watermark) -> Result<()> {
        self.wait_until_ready()?;
        self.each(|subtask| subtask.watermark(watermark))?;
        self.poll_once().map(drop)
    }

    /// Tells the time if it has moved.
    fn tell_processing_time(&mut self) -> Result<()> {
        let now = self.world.processing_time();
        let running = self.start()?;
        if running.told_processing_time == Some(now) {
            return Ok(());
        }
        running.told_processing_time = Some(now);
        self.each(|subtask| subtask.processing_time(now))
    }

    pub(crate) fn next_timer(&mut self) -> Result<Option<Timestamp>> {
        let running = self.start()?;
        Ok(running.subtasks.iter().filter_map(|subtask| lock(subtask).next_timer()).min())
    }

    /// Lets time pass; stops at each timer on the way.
    pub(crate) fn advance_processing_time_to(&mut self, at: Timestamp) -> Result<()> {
        self.wait_until_ready()?;
        let now = self.world.processing_time();
        if at < now {
            return Err(Error::user(format!("processing time is {now} and cannot go back to {at}")));
        }
        self.tell_processing_time()?;
        let mut n_rounds = 0;
        loop {
            let due = self.next_timer()?.filter(|due| *due <= at);
            let now = self.world.processing_time();
            let stop = due.map_or(at, |due| due.max(now));
            let poll = self.poll_all();
            self.world.run_until(stop, move |cx| match poll(cx) {
                Poll::Ready(Err(error)) => Err(error),
                Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
            })?;
            if due.is_none() {
                return self.tell_processing_time();
            }
            n_rounds = if self.world.processing_time() > now { 0 } else { n_rounds + 1 };
            if n_rounds > TIMER_ROUNDS_MAX {
                return Err(Error::subtask(format!(
                    "the operator wants processing time {now} again and again"
                )));
            }
            let now = self.world.processing_time();
            self.start()?.told_processing_time = Some(now);
            self.each(|subtask| subtask.processing_time(now))?;
        }
    }

    /// A function that goes on with asynchronous work; ready when all subtasks can take more input.
    fn poll_all(&self) -> impl Fn(&mut Context<'_>) -> Poll<Result<()>> + Send + use<A, B, O> {
        let subtasks: Vec<_> =
            self.running.iter().flat_map(|running| running.subtasks.iter().cloned()).collect();
        move |cx| {
            let mut ready = Poll::Ready(Ok(()));
            for subtask in &subtasks {
                match lock(subtask).poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => ready = Poll::Pending,
                }
            }
            ready
        }
    }

    /// Polls without letting time pass; says whether more input can be taken.
    fn poll_once(&mut self) -> Result<bool> {
        self.start()?;
        match self.poll_all()(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => ready.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    /// Lets time pass while the operator cannot take more input.
    fn wait_until_ready(&mut self) -> Result<()> {
        if self.poll_once()? {
            return Ok(());
        }
        self.world.run_until_ready(self.poll_all())
    }

    /// Lets time pass until no asynchronous work is left that it could complete.
    pub(crate) fn run_async(&mut self) -> Result<()> {
        self.start()?;
        let poll = self.poll_all();
        self.world.run_until_quiet(move |cx| match poll(cx) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        })?;
        self.tell_processing_time()
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.each(Subtask::flush)
    }

    /// The snapshots of all subtasks.
    pub(crate) fn snapshot(&mut self) -> Result<Vec<OperatorSnapshot>> {
        let running = self.start()?;
        running.subtasks.iter().map(|subtask| lock(subtask).snapshot()).collect()
    }

    /// Replaces all operators by new ones with the state of the old.
    pub(crate) fn restart(&mut self, parallelism: u32) -> Result<()> {
        let parts = self.snapshot()?;
        self.running = None;
        self.parallelism = parallelism;
        self.restored = parts;
        self.start().map(drop)
    }
}
