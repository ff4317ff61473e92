//! Running the binary.

use std::path::Path;
use std::process::{Command, Output};

/// `flott` with the arguments in the directory.
pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flott"));
    for name in ["FLOTT_CONF_DIR", "FLINK_CONF_DIR", "FLOTT_PROPERTIES", "FLINK_PROPERTIES"] {
        command.env_remove(name);
    }
    command.current_dir(directory).args(arguments);
    command
}

/// Runs `flott` with the arguments in the directory.
pub(crate) fn flott(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().expect("the binary runs")
}

/// Runs `flott`, which succeeds, and returns its standard output.
pub(crate) fn succeeds(directory: &Path, arguments: &[&str]) -> String {
    let output = flott(directory, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "flott {arguments:?}: {}\n{stderr}", output.status);
    assert_eq!(stderr, "", "flott {arguments:?} has something to complain about");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs `flott`, which fails with the exit code, and returns its standard error.
pub(crate) fn fails(directory: &Path, arguments: &[&str], code: i32) -> String {
    let output = flott(directory, arguments);
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "flott {arguments:?}: {stderr}");
    stderr
}
