//! What users hold: named states, read and written in the scope of the current key.

mod value;

pub use value::ValueState;
