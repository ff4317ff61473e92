//! The built-in operators: synchronous state machines, called once per batch.
//!
//! `operator` has the contracts: [`Operator`] and [`TwoInputOperator`] are what operators implement, [`Output`] is where
//! they emit to. The rest is one file per operator. Operators know no threads, channels or clocks; the chain that calls
//! them is in `flott-runtime`, a test driver in `flott-testkit`.

#![deny(missing_docs)]

mod async_wait;
mod broadcast;
mod co_group;
mod co_process;
mod fused;
mod interval_join;
mod key_slab;
mod keyed;
mod operator;
pub mod pipe;
mod process;
mod reduce;
mod session_window;
mod sink;
mod slice_window;
#[cfg(test)]
mod test_support;
mod timestamps;
mod user_code;
mod watermark_state;
mod window;

pub use async_wait::{AsyncOutputMode, AsyncWaitConfig, AsyncWaitOperator};
pub use broadcast::{BroadcastProcessOperator, KeyedBroadcastProcessOperator};
pub use co_group::{CoGroupWindowFunction, Either, JoinWindowFunction};
pub use co_process::{CoProcessOperator, KeyedCoProcessOperator};
pub use fused::FusedOperator;
pub use interval_join::{IntervalJoinOperator, JoinInterval};
pub use operator::{
    Operator, OperatorContext, OperatorOutput, Output, OutputControl, OutputMetrics, SideChannels,
    SideReceiver, TwoInputOperator,
};
pub use process::{KeyedProcessOperator, ProcessOperator};
pub use reduce::ReduceOperator;
pub use session_window::{SessionWindowConfig, SessionWindowOperator};
pub use sink::SinkOperator;
pub use slice_window::{SliceWindowConfig, SliceWindowOperator};
pub use timestamps::{TimestampsAndWatermarksOperator, WatermarkSettings};
pub use window::{
    Aggregate, AggregateRecords, EmitResult, Firing, KeepRecords, MapResult, ProcessRecords, ProcessResult,
    WindowConfig, WindowFunction, WindowLogic, WindowOperator,
};
