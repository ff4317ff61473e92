//! The demo, killed by SIGKILL again and again, writes what an undisturbed run writes: into files and into a database.

use crate::support::{command, succeeds};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// In each scenario, unless the job is faster.
const KILLS: u32 = 12;

/// How often each line or row is there, by where it is.
#[derive(Debug, Default, PartialEq)]
struct Output(BTreeMap<(String, String), u32>);

impl Output {
    fn add(&mut self, place: &str, line: String) {
        *self.0.entry((place.to_owned(), line)).or_default() += 1;
    }

    /// The lines of all files with names, without headers, and the committed rows of all tables but those that are replaced.
    fn committed(out: &Path) -> Self {
        let mut output = Self::default();
        for place in ["hourly", "sessions", "late"] {
            output.add_files(place, &out.join(place));
        }
        output.add_rows(out, "sessions");
        output.add_rows(out, "late_committed");
        output
    }

    fn complete(out: &Path) -> Self {
        let mut output = Self::committed(out);
        output.add_rows(out, "hours");
        // Nothing but committed rows is left in the end.
        let count = |table: &str| rows(out, table).len();
        assert_eq!(count("late"), count("late_committed"));
        assert_eq!((count("flott_staged_sessions"), count("flott_batches")), (0, 0));
        output
    }

    fn add_files(&mut self, place: &str, directory: &Path) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            if name == ".flott" {
                continue;
            }
            if path.is_dir() {
                self.add_files(&format!("{place}/{name}"), &path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a file");
            assert!(text.ends_with('\n'), "{} is torn", path.display());
            let headers = usize::from(name.ends_with(".csv"));
            text.lines().skip(headers).for_each(|line| self.add(place, line.to_owned()));
        }
    }

    fn add_rows(&mut self, out: &Path, table: &str) {
        rows(out, table).into_iter().for_each(|row| self.add(table, row));
    }

    /// What is committed is a part of what will be.
    fn assert_within(&self, expected: &Self) {
        for (line, n) in &self.0 {
            assert_eq!(expected.0.get(line), Some(n), "{line:?} is there {n} times");
        }
    }
}

/// The rows of a table as they are written in SQL; none if the table is not there yet.
fn rows(out: &Path, table: &str) -> Vec<String> {
    let read = || -> rusqlite::Result<Vec<String>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = Connection::open_with_flags(out.join("flights.db"), flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let n_columns = statement.column_count();
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let of_the_sink = |column: usize| names[column].starts_with("flott_");
        let row = |row: &rusqlite::Row<'_>| {
            let columns = (0..n_columns).filter(|column| !of_the_sink(*column));
            let values: rusqlite::Result<Vec<rusqlite::types::Value>> =
                columns.map(|column| row.get(column)).collect();
            Ok(format!("{:?}", values?))
        };
        statement.query_map([], row)?.collect()
    };
    match read() {
        Ok(rows) => rows,
        Err(error) if error.to_string().contains("no such table") => Vec::new(),
        Err(error) if error.to_string().contains("unable to open") => Vec::new(),
        Err(error) => panic!("cannot read {table}: {error}"),
    }
}

/// Numbers from a seed that a failure prints.
struct Luck(u64);

impl Luck {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// What is the same in all runs, and at which parallelism they run, one after the other.
struct Scenario {
    name: &'static str,
    options: &'static [&'static str],
    parallelism: &'static [&'static str],
}

/// With several subtasks it depends on who is faster when an hour is shown for the first time, and so what its corrections are. So the default
/// options run at one, and at several and changing parallelism the run waits until no record can be late and nothing is corrected.
const SCENARIOS: [Scenario; 2] = [
    Scenario { name: "corrected", options: &[], parallelism: &["1"] },
    Scenario {
        name: "patient",
        options: &["--out-of-orderness", "48 h", "--lateness", "0 s"],
        parallelism: &["2", "1", "3"],
    },
];

fn check_killed(here: &Path, scenario: &Scenario, luck: &mut Luck) {
    let whole = format!("{}-whole", scenario.name);
    let undisturbed = ["demo", "--exactly-once", "--quiet", "--output", &whole];
    succeeds(here, &[&undisturbed[..], scenario.options].concat());
    let expected = &Output::complete(&here.join(&whole));
    assert!(expected.0.len() > 3_000, "{} lines and rows", expected.0.len());
    assert!(!here.join(&whole).join("RUNNING.txt").exists());

    let (name, interval) = (scenario.name, "execution.checkpointing.interval=20 ms");
    let arguments =
        ["demo", "--exactly-once", "--quiet", "--output", name, "--speed", "800000", "-D", interval];
    let arguments = [&arguments[..], scenario.options, &["-p"]].concat();
    let arguments =
        |n: u32| [&arguments[..], &[scenario.parallelism[n as usize % scenario.parallelism.len()]]].concat();
    let out = here.join(name);
    let (mut n_kills, mut n_between, mut is_complete) = (0, 0, false);
    while n_kills < KILLS && !is_complete {
        let mut run = command(here, &arguments(n_kills))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        std::thread::sleep(Duration::from_millis(30 + luck.below(400)));
        run.kill().expect("killed");
        let ended = run.wait_with_output().expect("it has ended");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "run {n_kills} failed by itself");
        is_complete = ended.status.success();
        n_kills += u32::from(!is_complete);
        let committed = Output::committed(&out);
        committed.assert_within(expected);
        n_between += u32::from(!committed.0.is_empty());
    }
    if !is_complete {
        let screen = succeeds(here, &arguments(n_kills));
        assert!(screen.contains("Going on from the last checkpoint"), "{screen}");
    }
    assert!(Output::complete(&out) == *expected, "{name} after {n_kills} kills");
    assert!(n_kills >= 5 && n_between >= 3, "{n_kills} kills, {n_between} of them between commits");
    let hidden = std::fs::read_dir(out.join("late/.flott")).map_or(0, Iterator::count);
    assert_eq!(hidden, 0, "nothing is left over");
}

#[test]
fn a_demo_that_is_killed_again_and_again_writes_what_an_undisturbed_one_writes() {
    let here = tempfile::tempdir().expect("a directory");
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    println!("seed {seed}");
    let mut luck = Luck(seed);
    SCENARIOS.iter().for_each(|scenario| check_killed(here.path(), scenario, &mut luck));
}

#[test]
fn a_run_that_was_killed_goes_on_only_with_the_same_options() {
    let here = tempfile::tempdir().expect("a directory");
    let slow = ["demo", "--exactly-once", "--quiet", "--speed", "100000"];
    let mut run = command(here.path(), &slow).stdout(Stdio::null()).spawn().expect("the binary runs");
    let running = here.path().join("demo-output/RUNNING.txt");
    while !std::fs::read_to_string(&running).is_ok_and(|text| text.ends_with('\n')) {
        std::thread::sleep(Duration::from_millis(5));
    }
    run.kill().expect("killed");
    run.wait().expect("it has ended");
    let other = [&slow[..], &["--lateness", "1 h"]].concat();
    let error = crate::support::fails(here.path(), &other, 1);
    assert!(error.contains("a run that was killed and had other options"), "{error}");
    // Without the option it begins anew, and nothing of the other run is left.
    succeeds(here.path(), &["demo", "--quiet"]);
    assert!(!running.exists() && !here.path().join("demo-output/flights.db").exists());
}

#[test]
fn the_script_of_the_readme_finds_no_difference() {
    let here = tempfile::tempdir().expect("a directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/exactly-once.sh");
    let mut command = std::process::Command::new("sh");
    command.arg(script).current_dir(here.path()).env("TMPDIR", here.path());
    command.env("FLOTT", env!("CARGO_BIN_EXE_flott")).env("SPEED", "1500000").env("WAIT", "0.6");
    let output = command.output().expect("there is a shell");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("the same ") && stdout.contains("Going on from the last checkpoint"), "{stdout}");
}
