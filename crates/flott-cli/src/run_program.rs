//! `flott run`: runs a program that links `flott`.

use crate::settings::pair;
use crate::span::SpanArgs;
use anyhow::{Result, anyhow};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Runs a built program.
///
/// A Flott program is an ordinary executable: it runs as well without this command. `flott run` hands it the
/// configuration in the form that StreamExecutionEnvironment::new() reads, and explains what is wrong if it cannot be
/// started. The process becomes the program: exit code and signals are the program's.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// Sets a configuration key for the program; may be repeated. `flott config` lists the keys.
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = pair)]
    define: Vec<String>,
    /// Subtasks of each operator; 0 for one per core. The same as -D parallelism.default=N.
    #[arg(short, long, value_name = "N")]
    parallelism: Option<u32>,
    /// Goes on from the savepoint or checkpoint in this directory. The same as -D execution.state-recovery.path=DIRECTORY.
    #[arg(short = 's', long, value_name = "DIRECTORY")]
    from_savepoint: Option<PathBuf>,
    /// State of the savepoint that no operator of the program claims is left behind; else the program does not start and lists it.
    /// The same as -D execution.state-recovery.ignore-unclaimed-state=true.
    #[arg(short = 'n', long)]
    allow_non_restored_state: bool,
    /// NO_CLAIM: the savepoint stays as it is. CLAIM: it is the job's, which deletes it when it has checkpoints of its own. The same as
    /// -D execution.state-recovery.claim-mode=MODE.
    #[arg(long, alias = "claimMode", value_name = "MODE")]
    claim_mode: Option<String>,
    #[command(flatten)]
    span: SpanArgs,
    /// The executable.
    program: PathBuf,
    /// Arguments of the program, given to it after the configuration.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  cargo build --release && flott run target/release/my-program
  flott run -p 4 target/release/my-program -- --input flights.csv
  flott run --from-savepoint /data/savepoints/savepoint-abcdef-28774723d06f target/release/my-program
  flott run --from 2013-01-10 --until 2013-01-11T12:00:00-05:00 target/release/my-program
  flott run -D \"execution.buffer-timeout.interval=10 ms\" target/release/my-program";

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let program = located(&args.program);
    let mut command = Command::new(&program);
    for pair in &args.define {
        command.arg("-D").arg(pair);
    }
    if let Some(parallelism) = args.parallelism {
        command.arg("-D").arg(format!("parallelism.default={parallelism}"));
    }
    if let Some(savepoint) = &args.from_savepoint {
        let mut pair = OsString::from("execution.state-recovery.path=");
        pair.push(savepoint);
        command.arg("-D").arg(pair);
    }
    if args.allow_non_restored_state {
        command.arg("-D").arg("execution.state-recovery.ignore-unclaimed-state=true");
    }
    if let Some(mode) = &args.claim_mode {
        command.arg("-D").arg(format!("execution.state-recovery.claim-mode={mode}"));
    }
    for (key, value) in args.span.settings() {
        command.arg("-D").arg(format!("{key}={value}"));
    }
    command.args(&args.args);
    start(command)
        .map_err(|error| anyhow!("cannot run '{}': {}", args.program.display(), explain(&program, &error)))
}

/// A bare name means a file of this directory, as for every other path, and not one found along `PATH`.
fn located(program: &Path) -> PathBuf {
    if program.components().count() == 1 { Path::new(".").join(program) } else { program.to_owned() }
}

/// Becomes the program.
#[cfg(unix)]
fn start(mut command: Command) -> io::Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

/// Runs the program and ends as it does.
#[cfg(not(unix))]
fn start(mut command: Command) -> io::Result<ExitCode> {
    let status = command.status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

#[expect(clippy::disallowed_methods, reason = "looks at an executable, not at data of a job")]
fn explain(program: &Path, error: &io::Error) -> String {
    let extension = program.extension().and_then(|extension| extension.to_str());
    if !program.exists() {
        return "there is no such file; build the program first: cargo build --release".to_owned();
    }
    if program.is_dir() {
        return "it is a directory; the executable of a package is target/release/PACKAGE after cargo build --release"
            .to_owned();
    }
    match extension {
        Some("rs") => "it is Rust source; build it and run the executable: cargo build --release".to_owned(),
        Some("jar" | "class") => {
            "it is a Java program; Flott runs programs written in Rust on the crate flott".to_owned()
        }
        Some(_) | None => match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "it is not executable; chmod +x, if it is a program".to_owned()
            }
            io::ErrorKind::ExecutableFileBusy => {
                "it is being written; is cargo build still running?".to_owned()
            }
            _ if error.raw_os_error() == Some(ENOEXEC) => {
                "it is not a program for this machine; it may be source, data or built for another one"
                    .to_owned()
            }
            _ => error.to_string(),
        },
    }
}

/// "Exec format error" on Linux and the BSDs.
const ENOEXEC: i32 = 8;
