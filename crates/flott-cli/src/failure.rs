//! The one place where an error is shown.

use std::io::{self, Write};
use std::process::ExitCode;

/// Prints `error: ` and the whole chain in one line, and says how the process ends.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let is_closed_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(is_closed_pipe) {
        // `flott demo | head`: whoever read has seen enough.
        return ExitCode::SUCCESS;
    }
    // Nobody is left to hear that standard error is closed.
    writeln!(io::stderr(), "error: {}", chain(error)).ok();
    ExitCode::FAILURE
}

/// The messages of the chain, joined by `: `; an error of the engine also says where in the job it happened.
fn chain(error: &anyhow::Error) -> String {
    let mut messages = Vec::new();
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<flott::Error>() {
            messages.push(error.report());
            break;
        }
        messages.push(cause.to_string());
    }
    messages.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_chain_is_told_once_with_the_place_in_the_job() {
        let cause = io::Error::other("disk full");
        let error =
            flott::Error::subtask("cannot write").with_source(cause).at(|| "operator 'files'".to_owned());
        let error = Err::<(), _>(error).context("the demo failed").unwrap_err();
        assert_eq!(chain(&error), "the demo failed: operator 'files': cannot write: disk full");
    }
}
