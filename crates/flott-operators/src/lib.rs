//! The built-in operators: synchronous state machines, called once per batch.
//!
//! `operator` has the contracts: [`Operator`] and [`TwoInputOperator`] are what operators implement, [`Output`] is where
//! they emit to. The rest is one file per operator. Operators know no threads, channels or clocks; the chain that calls
//! them is in `flott-runtime`, a test driver in `flott-testkit`.

#![deny(missing_docs)]

mod fused;
mod keyed;
mod operator;
pub mod pipe;
mod process;
mod reduce;
mod sink;
mod user_code;

pub use fused::FusedOperator;
pub use operator::{
    Operator, OperatorContext, OperatorOutput, Output, OutputControl, OutputMetrics, SideChannels, SideReceiver, TwoInputOperator,
};
pub use process::{KeyedProcessOperator, ProcessOperator};
pub use reduce::ReduceOperator;
pub use sink::SinkOperator;
