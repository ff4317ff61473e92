//! Real processes: a few faults. `cargo xtask ci chaos` has hundreds.

use std::process::Command;

#[test]
fn real_processes_that_are_killed_and_replaced_commit_each_row_once() {
    let chaos = ["chaos", "--faults", "8", "--at-least", "8", "--jobs", "1", "--seconds", "40"];
    let output = Command::new(env!("CARGO_BIN_EXE_flott-sim")).args(chaos).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("0 lost, 0 doubled, 0 phantom"), "{said}");
}
