//! `cargo xtask ci`: the whole gate as a table of steps, run in order until one fails.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::guard::{self, TestReport};
use crate::metadata::{Metadata, Package, cargo};
use crate::tidy;

/// The gate. A new step is one line; cheap steps come first.
const STEPS: &[Step] = &[
    Step::cargo("fmt", "fmt --all --check"),
    Step::new("tidy", Work::Tidy),
    Step::cargo("clippy", "clippy --workspace --all-targets -- -D warnings"),
    Step::cargo("build", "test --workspace --lib --bins --tests --no-run"),
    Step::cargo("test", "test --workspace --lib --bins --tests --no-fail-fast"),
    // Installs servers from the package indexes of Python and npm, once, starts and stops them; where one cannot be had, the summary says so.
    Step::cargo("objectstores", "test --workspace --test objectstores").env("FLOTT_TEST_SERVICES", "1"),
    // A broker from Maven Central, likewise.
    Step::cargo("kafka", "test --workspace --test kafka").env("FLOTT_TEST_SERVICES", "1"),
    // Its listeners for TLS and SASL, with the client library built once more: it is then linked with the system's OpenSSL.
    Step::cargo(
        "kafka-ssl",
        "test --workspace --features flott-connector-kafka/kafka-ssl --test kafka -- secured",
    )
    .env("FLOTT_TEST_SERVICES", "1")
    .needs("pkg-config --exists openssl", "OpenSSL to build with (Debian: libssl-dev and pkg-config)"),
    // The same with Debian's PostgreSQL.
    Step::cargo("postgres", "test -p flott-connector-postgres --test postgres")
        .env("FLOTT_TEST_SERVICES", "1"),
    // Jobs between all three, which are struck.
    Step::cargo(
        "transports",
        "run -p xtask -- chaos --with kafka,postgres,s3 --faults 60 --at-least 30 --seconds 300",
    ),
    Step::new("doctest", Work::Doctests),
    Step::cargo("doc", "doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings"),
    Step::cargo("simulation", "run --release -p flott-sim -- run --seeds 1000"),
    Step::cargo("sweep", "run --release -p flott-sim -- sweep"),
    Step::cargo("swarm", "run --release -p flott-sim -- faults --seeds 5000 --seconds 480"),
    Step::cargo("chaos", "run --release -p flott-sim -- chaos --faults 300 --at-least 200 --seconds 240"),
    Step::cargo("canaries", "run -p xtask -- canaries"),
    Step::cargo("bench", "run --release -p flott-bench -- smoke"),
    Step::cargo("large-state", "run --release -p flott-bench -- large-state"),
    Step::cargo("demo", "run --release -p flott-cli -- demo --quiet --output target/demo-output"),
];

/// What one cargo command may take.
const STEP_LIMIT: Duration = Duration::from_secs(30 * 60);

struct Step {
    name: &'static str,
    work: Work,
    env: Option<(&'static str, &'static str)>,
    /// A command that succeeds if there is what the step needs beside the toolchain, and what that is.
    needs: Option<(&'static str, &'static str)>,
}

enum Work {
    /// The arguments of cargo, separated by spaces.
    Cargo(&'static str),
    /// The rules of our own.
    Tidy,
    /// The documentation examples of the crates that run theirs.
    Doctests,
}

impl Step {
    const fn new(name: &'static str, work: Work) -> Self {
        Self { name, work, env: None, needs: None }
    }

    const fn cargo(name: &'static str, args: &'static str) -> Self {
        Self::new(name, Work::Cargo(args))
    }

    const fn env(mut self, key: &'static str, value: &'static str) -> Self {
        self.env = Some((key, value));
        self
    }

    const fn needs(mut self, command: &'static str, what: &'static str) -> Self {
        self.needs = Some((command, what));
        self
    }

    fn run(&self) -> Result<TestReport> {
        if let Some((command, what)) = self.needs
            && !succeeds(command)
        {
            let mut report = TestReport::default();
            report.skipped.push(format!("the step {}: there is no {what}", self.name));
            return Ok(report);
        }
        match self.work {
            Work::Cargo(args) => self.run_cargo(&args.split(' ').collect::<Vec<_>>()),
            Work::Tidy => tidy::run().map(|()| TestReport::default()),
            Work::Doctests => {
                let metadata = Metadata::load()?;
                let args = doctest_args(&metadata);
                if args.is_empty() {
                    println!("no crate runs its documentation examples");
                    return Ok(TestReport::default());
                }
                self.run_cargo(&args.iter().map(String::as_str).collect::<Vec<_>>())
            }
        }
    }

    fn run_cargo(&self, args: &[&str]) -> Result<TestReport> {
        println!("$ cargo {}", args.join(" "));
        let mut command = cargo();
        command.args(args).envs(self.env);
        guard::run(command, STEP_LIMIT)
    }
}

/// Runs the steps named, or all of them.
pub(crate) fn run(names: &[&str]) -> Result<()> {
    let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    for name in names {
        ensure!(known.contains(name), "no step is called {name}; the steps are {}", known.join(", "));
    }
    let steps = STEPS.iter().filter(|step| names.is_empty() || names.contains(&step.name));

    let mut table = Vec::new();
    let mut tests = TestReport::default();
    let mut failure = None;
    for step in steps {
        if failure.is_some() {
            table.push(format!("{:<12} not run", step.name));
            continue;
        }
        println!("\n=== {} ===", step.name);
        let start = Instant::now();
        let result = step.run().and_then(|report| {
            ensure!(
                report.ignored == 0,
                "{} tests are ignored: make them run or delete them",
                report.ignored
            );
            Ok(report)
        });
        let seconds = start.elapsed().as_secs_f64();
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("--- {}: {word} in {seconds:.1} s", step.name);
        table.push(format!("{:<12} {word:<7} {seconds:>7.1} s", step.name));
        match result {
            Ok(report) => tests.add(&report),
            Err(error) => failure = Some((step.name, error)),
        }
    }

    println!("\n=== summary ===\n{}", table.join("\n"));
    for skipped in &tests.skipped {
        println!("SKIPPED, not passed: {skipped}");
    }
    if let Some((name, error)) = failure {
        bail!("step {name}: {error:#}\nto run it alone: cargo xtask ci {name}");
    }
    if names.is_empty() {
        ensure!(tests.passed > 0, "no test ran: a gate that tests nothing is broken");
        println!("tests: {} passed, {} failed", tests.passed, tests.failed);
    }
    Ok(())
}

/// Whether there is such a command, and it succeeds.
fn succeeds(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    std::process::Command::new(program).args(words).status().is_ok_and(|status| status.success())
}

/// Builds a second client library for Kafka, and needs OpenSSL: no example wants it.
const HEAVY_FEATURE: &str = "kafka-ssl";

/// The arguments that run the examples of every crate whose manifest leaves them on, or none.
fn doctest_args(metadata: &Metadata) -> Vec<String> {
    let packages = metadata.packages.iter().filter(|package| package.targets.iter().any(|it| it.doctest));
    let mut args = vec!["test".to_owned(), "--doc".to_owned()];
    for Package { name, features, .. } in packages {
        args.extend(["-p".to_owned(), name.clone()]);
        for feature in features.keys().filter(|feature| *feature != HEAVY_FEATURE) {
            args.extend(["--features".to_owned(), format!("{name}/{feature}")]);
        }
    }
    if args.len() > 2 { args } else { Vec::new() }
}
