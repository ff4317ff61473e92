//! Operator state.
