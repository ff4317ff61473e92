//! What the command line accepts, refuses and says.

use crate::support::{fails, flott, succeeds};
use std::path::Path;

#[test]
fn help_is_everywhere_and_has_examples() {
    let here = tempfile::tempdir().expect("a directory");
    for command in [
        &["--help"][..],
        &["demo", "--help"],
        &["nexmark", "--help"],
        &["run", "--help"],
        &["config", "--help"],
    ] {
        let help = succeeds(here.path(), command);
        assert!(help.contains("Examples:\n  ") && help.contains("flott "), "{help}");
    }
    assert!(succeeds(here.path(), &["--version"]).starts_with("flott 0."));
}

#[test]
fn every_configuration_key_is_listed_and_can_be_searched() {
    let here = tempfile::tempdir().expect("a directory");
    let all = succeeds(here.path(), &["config"]);
    assert!(all.contains("parallelism.default\n    default: 1\n"), "{all}");
    let some = succeeds(here.path(), &["config", "WATERMARK"]);
    assert!(
        some.contains("pipeline.auto-watermark-interval") && !some.contains("parallelism.default\n"),
        "{some}"
    );
    assert_eq!(
        fails(here.path(), &["config", "marmalade"], 1),
        "error: no configuration key matches 'marmalade'\n"
    );
}

#[test]
fn wrong_usage_is_told_apart_and_explained() {
    let here = tempfile::tempdir().expect("a directory");
    for (arguments, expected) in [
        (&["demo", "--sped", "3"][..], "unexpected argument '--sped' found"),
        (&["dmo"], "unrecognized subcommand 'dmo'"),
        (&["demo", "--speed", "0"], "expected a number above 0"),
        (&["demo", "--lateness", "soon"], "expected a duration such as"),
        (&["demo", "--gap", "0 s"], "expected at least a millisecond"),
        (
            &["demo", "-D", "paralelism.default=2"],
            "unknown configuration key 'paralelism.default'; did you mean 'parallelism.default'?",
        ),
        (&["demo", "-D", "execution.batch-size=many"], "expected a whole number"),
        (&["demo", "-D", "batch"], "expected key=value"),
        (&["nexmark", "--query", "q6"], "[possible values: q0, q1, q2,"),
        (&["nexmark", "--query", "q5", "--events", "many"], "expected a number such as 500000, 10k or 5M"),
    ] {
        let message = fails(here.path(), arguments, 2);
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert!(message.contains("--help"), "{arguments:?}: {message}");
    }
    assert!(std::fs::read_dir(here.path()).expect("listed").next().is_none(), "nothing was written");
}

#[test]
fn an_input_that_is_missing_or_broken_is_named() {
    let here = tempfile::tempdir().expect("a directory");
    let missing = fails(here.path(), &["demo", "--input", "nowhere.csv"], 1);
    assert_eq!(
        missing,
        "error: cannot read the input 'nowhere.csv': No such file or directory (os error 2)\n"
    );

    let header = "sched_dep_ms,arrival_ms,carrier,flight,origin,dest,dep_delay_min,cancelled\n";
    let broken = format!("{header}1357035300000,1357038000000,UA,1545,EWR,IAH,two,false\n");
    std::fs::write(here.path().join("broken.csv"), broken).expect("written");
    let message = fails(here.path(), &["demo", "--quiet", "--input", "broken.csv"], 1);
    for part in ["error: ", "broken.csv", "line 2", "dep_delay_min", "'two'"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");

    std::fs::write(here.path().join("other.csv"), "a,b\n1,2\n").expect("written");
    let message = fails(here.path(), &["demo", "--quiet", "--input", "other.csv"], 1);
    assert!(message.contains("other.csv") && message.contains("sched_dep_ms"), "{message}");
}

#[test]
fn foreign_results_are_not_replaced() {
    let here = tempfile::tempdir().expect("a directory");
    let foreign = here.path().join("demo-output/hourly/part-1.csv");
    std::fs::create_dir_all(foreign.parent().expect("a parent")).expect("created");
    std::fs::write(&foreign, "mine").expect("written");
    let message = fails(here.path(), &["demo", "--quiet"], 1);
    assert!(message.contains("choose another directory with --output"), "{message}");
    assert_eq!(std::fs::read_to_string(&foreign).expect("still there"), "mine");
}

#[test]
fn what_cannot_be_run_is_explained() {
    let here = tempfile::tempdir().expect("a directory");
    let write = |name: &str| std::fs::write(here.path().join(name), "no program").expect("written");
    write("plain");
    write("main.rs");
    write("job.jar");
    for (program, expected) in [
        ("absent", "there is no such file; build the program first"),
        (".", "it is a directory"),
        ("plain", "it is not executable"),
        ("./main.rs", "it is Rust source"),
        ("job.jar", "it is a Java program"),
    ] {
        let message = fails(here.path(), &["run", program], 1);
        assert!(message.contains(&format!("error: cannot run '{program}': {expected}")), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn a_program_gets_the_configuration_and_its_arguments_and_decides_the_exit_code() {
    use std::os::unix::fs::PermissionsExt;
    let here = tempfile::tempdir().expect("a directory");
    let program = here.path().join("program");
    std::fs::write(&program, "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 7\n").expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let arguments = ["run", "-p", "3", "-D", "a.b=c d", "program", "--input", "x", "-D", "own"];
    let output = flott(Path::new(here.path()), &arguments);
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines, ["-D", "a.b=c d", "-D", "parallelism.default=3", "--input", "x", "-D", "own"]);
}

#[test]
fn a_query_is_measured_and_its_results_do_not_depend_on_parallelism() {
    let here = tempfile::tempdir().expect("a directory");
    let rows = |parallelism: &str| {
        let arguments = ["nexmark", "--query", "q5", "--events", "100k", "--fingerprint", "-p", parallelism];
        let table = succeeds(here.path(), &arguments);
        let fields = |line: &str| {
            line.split("  ").map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
        };
        table.lines().map(fields).collect::<Vec<Vec<String>>>()
    };
    let (one, two) = (rows("1"), rows("2"));
    let names = [
        "query",
        "events",
        "seconds",
        "events/s",
        "ceiling",
        "records in",
        "records out",
        "peak memory",
        "fingerprint",
    ];
    assert_eq!(one[0], names);
    assert_eq!((one[1][0].as_str(), one[1][1].as_str(), one[1][5].as_str()), ("q5", "100,000", "92,000"));
    assert_eq!((&one[1][6], &one[1][8]), (&two[1][6], &two[1][8]), "results");
    assert!(succeeds(here.path(), &["nexmark", "--query", "q1", "--sql"]).contains("0.908 * price"));
}

#[cfg(unix)]
#[test]
fn an_interrupt_cancels_the_job_and_tells_what_was_done() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};
    let here = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_flott"));
    // The month takes over a minute at this speed, the first hour is complete in less than a second.
    command.current_dir(here.path()).args(["demo", "--speed", "36000"]);
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.starts_with("Tue Jan 01 05:00") {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).expect("readable"), 0, "no hour was shown");
    }
    let killed = Command::new("kill").args(["-INT", &process.id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("readable");
    assert_eq!(process.wait().expect("it ended").code(), Some(130));
    assert!(rest.contains("\nCancelled; so far:\n  records in "), "{rest}");
    let mut stderr = String::new();
    process.stderr.take().expect("piped").read_to_string(&mut stderr).expect("readable");
    assert_eq!(stderr, "\ncancelling the job; once more to end at once\n");
}
