//! Ctrl-C: the first cancels the job, the second ends the process.

use anyhow::{Context, Result};
use flott::JobCanceler;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// What a shell reports of a process that an interrupt ended.
const INTERRUPTED: u8 = 130;

/// Listens for interrupts and requests to terminate.
#[derive(Debug)]
pub(crate) struct Interrupt {
    /// The job that the next interrupt cancels.
    job: Arc<Mutex<Option<JobCanceler>>>,
}

impl Interrupt {
    /// Listens; until there is a job, an interrupt ends the process.
    pub(crate) fn listen() -> Result<Self> {
        let job: Arc<Mutex<Option<JobCanceler>>> = Arc::default();
        let at_interrupt = Arc::clone(&job);
        let handler = move || {
            let job = at_interrupt.lock().unwrap_or_else(PoisonError::into_inner).take();
            if job.is_some() {
                // Before the job ends, and the process with it. Nobody may be left to read it.
                writeln!(io::stderr(), "\ncancelling the job; once more to end at once").ok();
            }
            if !job.is_some_and(|job| job.try_cancel()) {
                std::process::exit(i32::from(INTERRUPTED));
            }
        };
        ctrlc::set_handler(handler).context("cannot listen for Ctrl-C")?;
        Ok(Self { job })
    }

    /// The first interrupt from now on cancels `job`, the second ends the process.
    pub(crate) fn cancels(&self, job: JobCanceler) {
        *self.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
    }
}

/// How the process ends after a job that was cancelled.
pub(crate) fn exit_code() -> ExitCode {
    ExitCode::from(INTERRUPTED)
}
