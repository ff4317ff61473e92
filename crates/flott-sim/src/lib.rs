//! Random programs in a simulated world, compared with a naive reference.
//!
//! A seed means a [`Plan`]: a small program, its input, its settings and the schedule of the simulated world. The plan is
//! run by the whole engine on one thread, and what comes out is compared with what plain loops over the input say.
//! A failure prints the seed, the plan and the command that replays it, and can be shrunk to a smaller plan.
//!
//! The same for jobs with checkpoints under faults: `faults`; and for real processes: `chaos`. Both have an order of reading of their own.
//!
//! It is *not* a test of speed.
//!
//! Reading order: `plan` (what is run), `record`, `source`, `functions` and `program` (how it is run), `lab` and `run`
//! (what is seen of it), `check` (what is true), `trial` (one seed), `shrink`, `coverage`, `campaign` (many seeds).

mod campaign;
pub mod chaos;
mod check;
mod coverage;
pub mod faults;
mod functions;
mod lab;
pub mod plan;
mod program;
mod record;
mod run;
mod shrink;
mod source;
mod trial;

pub use campaign::{Campaign, CampaignReport, Limit};
pub use check::Failure;
pub use coverage::Coverage;
pub use functions::Mistake;
pub use plan::{Plan, generate};
pub use program::Sabotage;
pub use record::Record;
pub use shrink::shrink;
pub use trial::{Trial, try_plan, try_sabotaged};
