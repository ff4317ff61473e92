//! Ctrl-C: the first cancels the job, the second ends the process.

use anyhow::{Context, Result};
use flott::JobCanceler;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell reports of a process that an interrupt ended.
const INTERRUPTED: u8 = 130;

/// Cancels the job at the first interrupt or request to terminate; exits at the second.
pub(crate) fn cancel_on_interrupt(job: JobCanceler) -> Result<()> {
    let is_second = AtomicBool::new(false);
    let handler = move || {
        if is_second.swap(true, Ordering::Relaxed) || !job.try_cancel() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        // Nobody may be left to read it.
        writeln!(io::stderr(), "\ncancelling the job; once more to end at once").ok();
    };
    ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")
}

/// How the process ends after a job that was cancelled.
pub(crate) fn exit_code() -> ExitCode {
    ExitCode::from(INTERRUPTED)
}
