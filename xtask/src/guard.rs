//! Runs a command under limits, passes its output on, and says what was running when a limit is hit.
//!
//! The limits stand in for a test runner with time-outs. libtest reports a test that has run for 60 s; here that
//! report ends the run, because the style asks for tests that take milliseconds and a gate that never hangs. The wall
//! limit covers everything else, and a process that a test started and left behind is an error as well.

use std::io::{BufRead, BufReader, IsTerminal, pipe, stdin, stdout};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Lines that may wait between the command and our own output.
const LINES_MAX: usize = 1024;
/// How often the loop looks whether the command has ended.
const TICK: Duration = Duration::from_secs(1);
/// How long a process may hold the output after the command itself has ended.
const LEAK_GRACE: Duration = Duration::from_secs(5);

/// Runs `command` to its end and returns what its tests reported.
///
/// Fails if it does, if it outlives `limit`, if libtest reports a test as hanging, or if it leaves a process behind.
/// In the last three cases every process of the group is killed.
pub(crate) fn run(mut command: Command, limit: Duration) -> Result<TestReport> {
    let (reader, writer) = pipe().context("could not open a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    if stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    // A person's interrupt key has to reach the command, so it gets a group of its own only when nobody is there.
    let attended = stdin().is_terminal();
    if !attended {
        command.process_group(0);
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("could not start {program}"))?;
    drop(command); // Holds the writing ends of the pipe.

    // The reader ends with the pipe, or when nobody listens any more.
    let (sender, lines) = sync_channel(LINES_MAX);
    std::thread::Builder::new().name("output".into()).spawn(move || {
        let lines = BufReader::new(reader).split(b'\n').map_while(|line| line.ok());
        for line in lines {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    })?;

    let mut report = TestReport::default();
    if let Err(error) = follow(&mut child, &lines, limit, &mut report) {
        // With a person there the group is also ours: say why before it is gone.
        eprintln!("\n{error:#}");
        let group = if attended { None } else { Some(child.id()) };
        kill_group(group).with_context(|| format!("{error:#}"))?;
        child.wait()?;
        return Err(error);
    }
    let status = child.wait()?;
    ensure!(status.success(), "ended with {status}");
    Ok(report)
}

/// Passes the output on until it ends; an error asks for the command to be killed.
fn follow(
    child: &mut Child,
    lines: &Receiver<String>,
    limit: Duration,
    report: &mut TestReport,
) -> Result<()> {
    let start = Instant::now();
    let mut ended: Option<Instant> = None;
    loop {
        match lines.recv_timeout(TICK) {
            Ok(line) => {
                println!("{line}");
                if let Some(test) = report.observe(&line) {
                    bail!("test {test} hangs (over 60 s) in {}", report.binary);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if ended.is_none() && child.try_wait()?.is_some() {
            ended = Some(Instant::now());
        }
        if ended.is_some_and(|ended| ended.elapsed() > LEAK_GRACE) {
            bail!("a process outlives the command that started it: join what a test starts");
        }
        if start.elapsed() > limit {
            let limit_s = limit.as_secs();
            bail!("still running after {limit_s} s in {}, last output: {}", report.binary, report.last_line);
        }
    }
}

/// Lists and kills a process group; without one, kills our own.
///
/// The shell does it because the standard library has no safe call for it.
fn kill_group(group: Option<u32>) -> Result<()> {
    let script = group.map_or("kill -s KILL 0".to_owned(), |id| {
        format!("ps -e -o pgid=,pid=,etime=,args= | grep '^ *{id} '; kill -s KILL -- -{id}")
    });
    let status = Command::new("sh").args(["-c", &script]).status().context("could not run sh")?;
    ensure!(status.success(), "could not kill the process group");
    Ok(())
}

/// What the lines of `cargo test` say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestReport {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
    /// Tests that could not be run here, with the reason: they have not passed.
    pub(crate) skipped: Vec<String>,
    /// What cargo announced last, usually a test binary.
    binary: String,
    last_line: String,
}

impl Default for TestReport {
    fn default() -> Self {
        let unknown = || "the command".to_owned();
        Self {
            passed: 0,
            failed: 0,
            ignored: 0,
            skipped: Vec::new(),
            binary: unknown(),
            last_line: String::new(),
        }
    }
}

impl TestReport {
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.skipped.extend(other.skipped.iter().cloned());
    }

    /// Reads one line; returns the name of a test that libtest reports as hanging.
    fn observe(&mut self, line: &str) -> Option<String> {
        let plain = strip_colour(line);
        let line = plain.trim();
        if let Some(binary) = line.strip_prefix("Running ").or_else(|| line.strip_prefix("Doc-tests ")) {
            self.binary = binary.to_owned();
        }
        if let Some(what) = line.strip_prefix("skipped: ") {
            self.skipped.push(what.to_owned());
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
        }
        if !line.is_empty() {
            self.last_line = line.to_owned();
        }
        let test = line.strip_prefix("test ")?.strip_suffix(" has been running for over 60 seconds")?;
        Some(test.to_owned())
    }
}

/// The number before `word` in `ok. 3 passed; 0 failed; ...`.
fn count(counts: &str, word: &str) -> usize {
    let words: Vec<&str> = counts.split([' ', ';']).collect();
    let number = words.windows(2).find_map(|pair| match pair {
        [number, what] if *what == word => number.parse().ok(),
        _ => None,
    });
    number.unwrap_or(0)
}

/// Removes the terminal's colour sequences, which end with an `m`.
fn strip_colour(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(lines: &str) -> (TestReport, Option<String>) {
        let mut report = TestReport::default();
        let hanging = lines.lines().filter_map(|line| report.observe(line)).last();
        (report, hanging)
    }

    fn shell(script: &str, limit: Duration) -> Result<TestReport> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, limit)
    }

    #[test]
    fn counts_of_all_binaries_are_added() {
        let (report, hanging) = observed(
            "     Running unittests src/lib.rs (target/debug/deps/flott_types-1)\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((report.passed, report.failed, report.ignored), (7, 2, 1));
        assert_eq!(hanging, None);
    }

    #[test]
    fn tests_that_could_not_run_are_kept_with_their_reason() {
        let (report, _) = observed("skipped: 12 tests with a server: no python3\n");
        assert_eq!(
            (report.passed, report.skipped),
            (0, vec!["12 tests with a server: no python3".to_owned()])
        );
    }

    #[test]
    fn hanging_test_is_named_with_its_binary() {
        let (report, hanging) = observed(
            "\x1b[1m\x1b[92m     Running\x1b[0m tests/it/main.rs (target/debug/deps/it-1)\n\
             test barrier::blocks has been running for over 60 seconds\n",
        );
        assert_eq!(hanging.as_deref(), Some("barrier::blocks"));
        assert_eq!(report.binary, "tests/it/main.rs (target/debug/deps/it-1)");
    }

    #[test]
    fn command_that_fails_is_an_error() {
        let error = shell("exit 3", Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.to_string(), "ended with exit status: 3");
    }

    #[test]
    fn command_that_outlives_its_limit_is_killed_and_its_last_line_named() {
        if stdin().is_terminal() {
            return; // The group would be that of the test itself.
        }
        let error = shell("echo waiting; sleep 1000", Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "still running after 0 s in the command, last output: waiting");
    }
}
