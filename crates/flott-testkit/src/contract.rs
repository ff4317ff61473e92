//! The contracts of sources and sinks, as cases that every connector can be put through.
//!
//! A *subject* is a connector with its outside world: the author implements [`SourceSubject`] or [`SinkSubject`], which say how the
//! connector is made, how a record is told from others, and what the outside looks like. The kit does with the connector what the engine
//! does, kills it between any two steps, lets it wake up again, and compares what it reads, or what readers see, with what was promised.
//!
//! Every case has a name; a failure prints it with the steps that led there, and [`SinkContract::only`] or [`SourceContract::only`] runs it alone.
//! Cases are deterministic as far as the subject is. [`Budget`] says how many are run.
//!
//! ```
//! use flott_api::{Sink, SinkContext, SinkWriter, UserResult};
//! use flott_env::{Env, sim::Simulation};
//! use flott_testkit::contract::{RecordId, SinkContract, SinkPromise, SinkSubject};
//! use flott_types::{CheckpointId, RecordBatch, Result};
//! use std::sync::{Arc, Mutex};
//!
//! /// Keeps each record under its key.
//! #[derive(Clone, Default)]
//! struct Table(Arc<Mutex<std::collections::BTreeSet<RecordId>>>);
//!
//! impl SinkWriter<RecordId> for Table {
//!     fn write(&mut self, batch: RecordBatch<RecordId>) -> UserResult {
//!         self.0.lock().map_err(|error| error.to_string())?.extend(batch.into_iter().map(|(record, _)| record));
//!         Ok(())
//!     }
//! }
//!
//! impl Sink<RecordId> for Table {
//!     type Writer = Self;
//!     fn create_writer(&self, _: SinkContext) -> Result<Self> {
//!         Ok(self.clone())
//!     }
//! }
//!
//! /// It is the subject, too: its outside is memory.
//! impl SinkSubject for Table {
//!     type Record = RecordId;
//!     type Sink = Self;
//!     fn env(&self) -> Env {
//!         Simulation::new(1).env()
//!     }
//!     fn sink(&mut self) -> UserResult<Self> {
//!         Ok(self.clone())
//!     }
//!     fn promise(&self) -> SinkPromise {
//!         SinkPromise::InTheEnd
//!     }
//!     fn record(&self, id: RecordId) -> RecordId {
//!         id
//!     }
//!     fn committed(&mut self, _: Option<CheckpointId>) -> UserResult<Vec<RecordId>> {
//!         Ok(self.0.lock().map_err(|error| error.to_string())?.iter().copied().collect())
//!     }
//!     fn lingering(&mut self) -> UserResult<Vec<String>> {
//!         Ok(Vec::new())
//!     }
//! }
//!
//! let report = SinkContract::new().run(|| Ok(Table::default())).unwrap();
//! assert!(report.cases.len() > 100);
//! ```

mod case;
mod record;
mod sink;
mod source;

pub use case::{Budget, ContractFailure, ContractReport, ContractViolation};
pub use record::RecordId;
pub use sink::{SinkContract, SinkFault, SinkLimits, SinkPromise, SinkSubject};
pub use source::{SourceContract, SourceEvent, SourceStart, SourceSubject, Wakeup};
