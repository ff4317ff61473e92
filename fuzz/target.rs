//! The target of `flott_fuzz` that has the name of this binary.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    // Panics that are caught are no crashes; the others still are.
    init: drop(std::panic::take_hook()),
    |bytes: &[u8]| (flott_fuzz::find(env!("CARGO_BIN_NAME")).expect("it is listed").run)(bytes)
);
