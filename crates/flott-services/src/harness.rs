//! Runs tests that share a server, which libtest has no place for.

#![expect(clippy::print_stdout, reason = "tells the results of tests")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A test and its name.
pub type Test<S> = (&'static str, fn(&mut S));

/// The functions as tests with their names: `tests![module::function, …]`.
#[macro_export]
macro_rules! tests {
    ($($module:ident::$name:ident),+ $(,)?) => { &[$((stringify!($name), |server| $module::$name(server))),+] };
}

/// Starts `server` and runs with it the tests whose names contain one of the program's arguments, or all; tells each result as libtest does.
///
/// Without the variable `FLOTT_TEST_SERVICES`, or where the server cannot be had, it says so and that they were not run; `step` of the gate is what runs
/// them.
pub fn run_tests<S>(
    server: &str,
    step: &str,
    tests: &[Test<S>],
    start: impl FnOnce() -> Result<S, String>,
) -> ExitCode {
    let filters: Vec<String> = std::env::args().skip(1).filter(|text| !text.starts_with('-')).collect();
    let is_asked_for = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let tests: Vec<&Test<S>> = tests.iter().filter(|(name, _)| is_asked_for(name)).collect();
    if tests.is_empty() {
        println!("no test with {server} is asked for");
        return ExitCode::SUCCESS;
    }
    let what = format!("{} tests with {server}", tests.len());
    if std::env::var_os("FLOTT_TEST_SERVICES").is_none() {
        println!("{what} are run by `cargo xtask ci {step}`");
        return ExitCode::SUCCESS;
    }
    let mut server = match start() {
        Ok(server) => server,
        Err(reason) => {
            println!("skipped: {what}: {reason}");
            return ExitCode::SUCCESS;
        }
    };
    let word = |is_good| if is_good { "ok" } else { "FAILED" };
    let mut failed = 0;
    for (name, test) in &tests {
        let started = Instant::now();
        let is_good = catch_unwind(AssertUnwindSafe(|| test(&mut server))).is_ok();
        failed += usize::from(!is_good);
        println!("test {name} ... {} ({:.1} s)", word(is_good), started.elapsed().as_secs_f64());
    }
    let n_passed = tests.len() - failed;
    println!("test result: {}. {n_passed} passed; {failed} failed; 0 ignored", word(failed == 0));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
