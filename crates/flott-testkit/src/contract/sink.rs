//! The kit for sinks.

mod attempt;
mod job;
mod oracle;
mod plan;
mod zombie;

use super::case::{Budget, CaseLog, ContractFailure, ContractReport, Selection, run_all};
use super::record::RecordId;
use flott_api::{Sink, UserResult};
use flott_env::Env;
use flott_types::CheckpointId;
use job::Job;
use plan::{Measured, SinkCase};

/// What a sink promises to who reads its destination; see [`flott_api::SinkWriter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkPromise {
    /// Readers see exactly the records of committed checkpoints, each once. What was committed stays when the job goes back to an older
    /// checkpoint, and its records are written again.
    Transactional,
    /// Readers of committed records see exactly those of complete checkpoints; a job that goes back takes back what came later.
    Eager,
    /// Readers see records at once, each once whatever happens, since they have a key; those of complete checkpoints are there.
    InTheEnd,
    /// Readers see records at once, perhaps several times; those of complete checkpoints are there.
    AtLeastOnce,
}

/// What a sink does not promise, as its documentation says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkLimits {
    /// What is committed may be held back until the input ends, as by a compaction.
    pub holds_back: bool,
    /// An attempt that is believed dead and goes on can leave something that nobody reads and nobody removes.
    pub zombies_leave_something: bool,
    /// Such an attempt can hold back what is committed, until the outside has ended what it began: see [`SinkSubject::settle`].
    pub zombies_hold_back: bool,
    /// What a subtask has committed may be seen only when all of them have: an open transaction hides what is behind it.
    pub waits_for_neighbours: bool,
}

/// What can go wrong outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SinkFault {
    /// The n-th request from now on fails and changes nothing.
    FailRequest,
    /// The n-th request from now on is done, and its sender gets an error instead of the reply.
    LoseReply,
    /// The n-th request from now on is not answered, and is carried out when there were so many further requests; its sender knows nothing of that, and
    /// goes on.
    LateRequest {
        /// How many.
        by: u64,
    },
    /// The n-th request from now on is answered, and arrives a second time when there were so many further requests.
    DuplicateRequest {
        /// How many.
        by: u64,
    },
    /// All connections that are open now break.
    Disconnect,
    /// The server is started again.
    Restart,
    /// So much time passes that what was prepared and not committed may be gone.
    Expire,
}

impl SinkFault {
    /// Whether a request goes wrong, and not the whole outside.
    fn is_of_request(self) -> bool {
        match self {
            Self::FailRequest
            | Self::LoseReply
            | Self::LateRequest { .. }
            | Self::DuplicateRequest { .. } => true,
            Self::Disconnect | Self::Restart | Self::Expire => false,
        }
    }
}

/// A sink with its destination, to be examined by [`SinkContract`]. Each case gets a new one, with an empty destination.
pub trait SinkSubject {
    /// What the sink writes.
    type Record: Send + 'static;
    /// The sink.
    type Sink: Sink<Self::Record>;

    /// The world in which it runs.
    fn env(&self) -> Env;

    /// Makes the sink: once a case, as a job makes it from its program.
    ///
    /// # Errors
    /// Whatever is wrong: it fails the case.
    fn sink(&mut self) -> UserResult<Self::Sink>;

    /// What it promises.
    fn promise(&self) -> SinkPromise;

    /// What it does not promise.
    fn limits(&self) -> SinkLimits {
        SinkLimits::default()
    }

    /// The record with this identity.
    fn record(&self, id: RecordId) -> Self::Record;

    /// A record that the sink rejects ([`flott_api::BadRecords`]), if there is one.
    fn bad_record(&self) -> Option<Self::Record> {
        None
    }

    /// What a reader of committed records sees now, each record as often as it is there. `complete` is the last complete checkpoint, for eager
    /// sinks whose readers compare with it.
    ///
    /// # Errors
    /// Whatever is wrong: it fails the case.
    fn committed(&mut self, complete: Option<CheckpointId>) -> UserResult<Vec<RecordId>>;

    /// What is left open outside, for people: transactions, uploads, hidden files. It is asked when the job has ended; all of it is too much.
    ///
    /// # Errors
    /// Whatever is wrong: it fails the case.
    fn lingering(&mut self) -> UserResult<Vec<String>>;

    /// Lets the outside do what it does by itself when nobody comes any more, before it is looked at for the last time after an attempt that
    /// was believed dead has woken up.
    ///
    /// # Errors
    /// Whatever is wrong: it fails the case.
    fn settle(&mut self) -> UserResult {
        Ok(())
    }

    /// The faults that [`SinkSubject::inject`] can make.
    fn faults(&self) -> Vec<SinkFault> {
        Vec::new()
    }

    /// Makes a fault: at the `nth` request from now on, counted from 0, or at once.
    ///
    /// # Errors
    /// Whatever is wrong: it fails the case.
    fn inject(&mut self, fault: SinkFault, nth: u64) -> UserResult {
        let _unused = (fault, nth);
        Ok(())
    }

    /// How many requests were sent so far, so that each can fail once; if nobody counts them the kit takes the first
    /// [`SinkContract::REQUESTS_UNKNOWN`].
    fn requests(&mut self) -> Option<u64> {
        None
    }
}

/// Examines a sink: see [`contract`](super).
#[derive(Clone, Debug, Default)]
pub struct SinkContract {
    selection: Selection,
}

impl SinkContract {
    /// How many requests may fail in turn if nobody counts them.
    pub const REQUESTS_UNKNOWN: u64 = 60;

    /// All cases.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many cases.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.selection.budget = budget;
        self
    }

    /// The case of this name alone.
    #[must_use]
    pub fn only(mut self, case: impl Into<String>) -> Self {
        self.selection.only = Some(case.into());
        self
    }

    /// Only cases with this in their names: all, or as many as the budget allows.
    #[must_use]
    pub fn of(mut self, text: impl Into<String>) -> Self {
        self.selection.of = Some(text.into());
        self
    }

    /// Runs the cases, each on a subject of its own.
    ///
    /// # Errors
    /// What the sink has broken.
    pub fn run<S: SinkSubject>(
        &self,
        mut make: impl FnMut() -> UserResult<S>,
    ) -> Result<ContractReport, ContractFailure> {
        let undisturbed = measure(&mut make)?;
        let left_out = undisturbed.left_out();
        let cases = plan::cases(&undisturbed);
        run_all(cases, &self.selection, left_out, SinkCase::name, |case, log| {
            let mut subject = make().map_err(|error| format!("cannot make the subject: {error}"))?;
            Job::new(&mut subject, case, log)?.run().map(|_| ())
        })
    }
}

/// How many steps and requests the case has that nothing disturbs: it decides what others there are.
fn measure<S: SinkSubject>(make: &mut impl FnMut() -> UserResult<S>) -> Result<Measured, ContractFailure> {
    let failed = |message: String| ContractFailure::before_the_first_case(message);
    let mut subject = make().map_err(|error| failed(format!("cannot make the subject: {error}")))?;
    let mut log = CaseLog::default();
    let case = SinkCase::undisturbed();
    let before = subject.requests();
    let n_steps = Job::new(&mut subject, &case, &mut log).and_then(Job::run);
    let n_steps = n_steps.map_err(|message| ContractFailure::of_case(case.name(), message, log))?;
    let n_requests = subject.requests().zip(before).map(|(after, before)| after.saturating_sub(before));
    let (faults, promise) = (subject.faults(), subject.promise());
    Ok(Measured { n_steps, n_requests, faults, promise, rejects: subject.bad_record().is_some() })
}
