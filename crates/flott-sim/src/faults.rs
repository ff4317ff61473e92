//! Programs with checkpoints under faults: what is committed must be what an undisturbed run would have committed.
//!
//! A [`FaultPlan`] is a job and a list of faults, each with the event that triggers it: plain data, so that a plan that fails can be made
//! smaller and kept. A *life* is one process: a simulated world that ends with the job, or with a crash, after which the next life
//! starts from what the disk has kept. What is outside of all lives is the disk, and a store with transactions.
//!
//! Checked all the time, not only at the end: whatever is committed, together with what the newest durable checkpoint lists as
//! prepared, is what the reference says for the positions in that checkpoint (S6 of the catalogue; it implies that nothing is
//! lost, doubled, phantom or early), and so is the state in it (S9). At the end it is the whole reference; and the job does end
//! (liveness), once the faults are used up.
//!
//! Reading order: `plan` (what is run, as data), `world` (events, faults, disk), `store` (the transactional destination), `program`,
//! `expected` (the reference), `cut` (what a checkpoint holds), `flight`, `held` and `replay` (what is on its way in it, its state, and
//! what that must be), `still` (restored without input), `trial` (one plan), `sweep` (all crash points), `generate`, `shrink`, `campaign` (random plans), `coverage`, `canaries` (bugs that must be noticed).

mod campaign;
mod canaries;
mod coverage;
pub(crate) mod cut;
pub(crate) mod expected;
mod flight;
mod generate;
mod held;
mod plan;
pub(crate) mod program;
mod replay;
mod shrink;
mod still;
mod store;
mod sweep;
mod trial;
pub(crate) mod world;

pub use campaign::{FaultCampaign, FaultReport};
pub use canaries::{CANARIES, Canary, Caught, catch};
pub use coverage::FaultCoverage;
pub use generate::generate_faults;
pub use plan::{Action, Fault, FaultPlan, Job, Phase, Shape, SinkKind, Unsynced};
pub use shrink::shrink_faults;
pub use sweep::{Scenario, SweepReport, sweep};
pub use trial::{FaultTrial, try_faults};
