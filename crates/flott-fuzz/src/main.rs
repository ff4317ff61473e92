//! `flott-fuzz SECONDS [TARGET]`: random changes of seeds for so long each. `flott-fuzz seeds DIRECTORY`: writes the seeds of each target, for libFuzzer.
//!
//! An input that makes its target panic, takes 10 s or makes the process larger than 2 GB (where the system says how large it is) is written to a file.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a development tool outside of the engine: it prints, writes files and measures wall time"
)]

use flott_fuzz::{Mutator, TARGETS, Target, find};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{ExitCode, exit};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const INPUT_TIME_MAX: Duration = Duration::from_secs(10);
const MEMORY_PAGES_MAX: u64 = (2 << 30) / 4096;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["seeds", directory] => write_seeds(Path::new(directory)),
        [seconds] => fuzz(seconds, &TARGETS),
        [seconds, name] => match find(name) {
            Some(target) => fuzz(seconds, std::slice::from_ref(target)),
            None => Err(format!("no target is called {name}; there are {}", names())),
        },
        _ => Err("usage: flott-fuzz SECONDS [TARGET] | seeds DIRECTORY".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn names() -> String {
    TARGETS.map(|target| target.name).join(", ")
}

fn write_seeds(directory: &Path) -> Result<(), String> {
    for target in &TARGETS {
        let folder = directory.join(target.name);
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        for (idx, seed) in target.seeds().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{idx}")), seed).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn fuzz(seconds: &str, targets: &[Target]) -> Result<(), String> {
    let seconds = seconds.parse().map_err(|_| format!("'{seconds}' is no number of seconds"))?;
    let present = Arc::new(Mutex::new(Present { target: "", input: Vec::new(), since: Instant::now() }));
    let watched = Arc::clone(&present);
    // Ends with the process.
    std::thread::spawn(move || watch(&watched));
    targets.iter().try_for_each(|target| fuzz_one(Duration::from_secs(seconds), target, &present))
}

fn fuzz_one(time: Duration, target: &Target, present: &Mutex<Present>) -> Result<(), String> {
    let (start, seeds) = (Instant::now(), target.seeds());
    let clock = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let mut mutator = Mutator::new(clock);
    let (mut n_inputs, mut slowest) = (0_u64, Duration::ZERO);
    while start.elapsed() < time {
        let (input, since) = (mutator.input(&seeds), Instant::now());
        let now = Present { target: target.name, input: input.clone(), since };
        *present.lock().unwrap_or_else(PoisonError::into_inner) = now;
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            return Err(keep(target.name, &input, "panicked"));
        }
        slowest = slowest.max(since.elapsed());
        n_inputs += 1;
    }
    println!("{:<16} {n_inputs:>9} inputs, the slowest took {} ms", target.name, slowest.as_millis());
    Ok(())
}

/// The input at hand.
struct Present {
    target: &'static str,
    input: Vec<u8>,
    since: Instant,
}

/// Ends the process at an input that takes too much.
fn watch(present: &Mutex<Present>) {
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let present = present.lock().unwrap_or_else(PoisonError::into_inner);
        let is_large = memory_pages().is_some_and(|pages| pages > MEMORY_PAGES_MAX);
        if is_large || present.since.elapsed() > INPUT_TIME_MAX {
            let what = if is_large { "takes more than 2 GB" } else { "takes more than 10 s" };
            println!("{}", keep(present.target, &present.input, what));
            exit(1);
        }
    }
}

/// Pages of memory that the process has.
fn memory_pages() -> Option<u64> {
    std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()
}

/// Keeps an input, and says where.
fn keep(target: &str, input: &[u8], what: &str) -> String {
    let file = format!("harmful-{target}");
    match std::fs::write(&file, input) {
        Ok(()) => format!("{target} {what}: the input is in {file}"),
        Err(error) => format!("{target} {what}, and the input cannot be written: {error}: {input:?}"),
    }
}
