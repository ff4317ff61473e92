//! The results of `flott demo` against a naive computation over the same flights.

use crate::flights::{self, Expected, Hour};
use crate::support::succeeds;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const HOUR_MS: i64 = 3_600_000;
const GAP_MS: i64 = HOUR_MS / 2;
const RECORDS: usize = 27_004;

#[derive(Debug, Deserialize)]
struct HourLine {
    origin: String,
    hour: String,
    hour_ms: i64,
    revision: u32,
    departures: u32,
    cancelled: u32,
    mean_delay_min: Option<f64>,
    max_delay_min: Option<i32>,
    delayed_share: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct SessionLine {
    carrier: String,
    from_ms: i64,
    to_ms: i64,
    flights: u32,
    worst_delay_min: i32,
}

#[derive(Debug, Deserialize)]
struct LateLine {
    too_late_for: String,
}

/// What a run has written.
#[derive(Debug)]
struct Written {
    hours: Vec<HourLine>,
    sessions: Vec<flights::Session>,
    late_for_hour: usize,
    late_for_session: usize,
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

fn csv_lines<T: DeserializeOwned>(directory: &Path) -> Vec<T> {
    let read = |path: &PathBuf| csv::Reader::from_path(path).expect("a file").into_deserialize();
    files(directory).iter().flat_map(read).collect::<Result<_, _>>().expect("CSV")
}

fn run(here: &Path, arguments: &[&str]) -> (String, Written) {
    let all: Vec<&str> = ["demo", "--output", "out"].iter().chain(arguments).copied().collect();
    let screen = succeeds(here, &all);
    let out = here.join("out");
    for path in files(&out.join("hourly")) {
        let hours: Vec<HourLine> = csv::Reader::from_path(&path)
            .expect("a file")
            .into_deserialize()
            .collect::<Result<_, _>>()
            .expect("CSV");
        let partition =
            path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).expect("a name");
        assert!(
            hours.iter().all(|hour| partition == format!("origin={}", hour.origin)),
            "{}",
            path.display()
        );
    }
    let mut sessions: Vec<flights::Session> = files(&out.join("sessions"))
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).expect("a file");
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<SessionLine>>()
        })
        .map(|line| (line.carrier, line.from_ms, line.to_ms, line.flights, line.worst_delay_min))
        .collect();
    sessions.sort();
    let late: Vec<LateLine> = csv_lines(&out.join("late"));
    let n_late = |what: &str| late.iter().filter(|line| line.too_late_for == what).count();
    let written = Written {
        hours: csv_lines(&out.join("hourly")),
        sessions,
        late_for_hour: n_late("hour"),
        late_for_session: n_late("session"),
    };
    assert_eq!(late.len(), written.late_for_hour + written.late_for_session);
    (screen, written)
}

/// The final result of each hour, and how many there were.
fn final_hours(lines: &[HourLine]) -> BTreeMap<(String, i64), (&HourLine, u32)> {
    let mut last: BTreeMap<(String, i64), (&HourLine, u32)> = BTreeMap::new();
    for line in lines {
        let (newest, n_lines) = last.entry((line.origin.clone(), line.hour_ms)).or_insert((line, 0));
        *n_lines += 1;
        if line.revision > newest.revision {
            *newest = line;
        }
    }
    last
}

fn assert_same_hours(lines: &[HourLine], expected: &BTreeMap<(String, i64), Hour>) {
    let hours = final_hours(lines);
    assert!(hours.keys().eq(expected.keys()), "the same hours of the same airports");
    for (key, hour) in expected {
        let (line, n_lines) = hours[key];
        let per_departure = |sum: f64| (hour.departures > 0).then(|| sum / f64::from(hour.departures));
        assert_eq!((line.departures, line.cancelled), (hour.departures, hour.cancelled), "{key:?}");
        assert_eq!(line.mean_delay_min, per_departure(hour.delay_sum_min as f64), "{key:?}");
        assert_eq!(line.delayed_share, per_departure(f64::from(hour.delayed)), "{key:?}");
        assert_eq!(line.max_delay_min, hour.delay_max_min, "{key:?}");
        assert_eq!(
            (line.revision, n_lines),
            (hour.revisions, hour.revisions),
            "{key:?}: one line a revision"
        );
    }
}

fn assert_as_expected(written: &Written, expected: &Expected) {
    assert_eq!(written.late_for_hour, expected.late_for_hour);
    assert_eq!(written.late_for_session, expected.late_for_session);
    assert_eq!(written.sessions, expected.sessions);
    assert_same_hours(&written.hours, &expected.hours);
    let in_hours: u32 =
        final_hours(&written.hours).values().map(|(hour, _)| hour.departures + hour.cancelled).sum();
    assert_eq!(in_hours as usize, RECORDS - written.late_for_hour, "every record is in an hour or late");
}

#[test]
fn a_part_of_the_month_has_the_results_that_the_whole_month_has_for_it() {
    let here = tempfile::tempdir().expect("a directory");
    // Midnight of the 10th and the 20th in UTC.
    let (from, until) = (1_357_776_000_000, 1_358_640_000_000);
    let (_, whole) = run(here.path(), &["--quiet"]);
    for more in [&[][..], &["-p", "2"], &["--exactly-once"]] {
        let arguments =
            [&["--quiet", "--from", "2013-01-10", "--until", "2013-01-19T19:00:00-05:00"], more].concat();
        let (screen, part) = run(here.path(), &arguments);
        let shown = |lines: &[HourLine]| -> BTreeMap<(String, i64, u32), String> {
            let inside = lines.iter().filter(|line| (from..until).contains(&line.hour_ms));
            inside
                .map(|line| ((line.origin.clone(), line.hour_ms, line.revision), format!("{line:?}")))
                .collect()
        };
        // Each revision of each hour, and no hour outside.
        assert_eq!(shown(&part.hours), shown(&whole.hours));
        assert_eq!(shown(&part.hours).len(), part.hours.len());
        assert!(part.hours.len() > 500 && part.hours.iter().any(|line| line.revision > 1));
        // A period of delays that lies within is there; one that began before may seem to begin at the start.
        let within = |sessions: &[flights::Session], from: i64| -> Vec<flights::Session> {
            let sessions = sessions.iter().filter(|it| it.1 >= from && it.2 + GAP_MS <= until);
            sessions.cloned().collect()
        };
        assert_eq!(within(&part.sessions, from + GAP_MS), within(&whole.sessions, from + GAP_MS));
        assert!(within(&whole.sessions, from).iter().all(|it| part.sessions.contains(it)));
        assert!(part.sessions.len() > 50 && in_summary(&screen, "records in") < RECORDS / 2);
    }
}

/// The number in the row `name` of the summary.
fn in_summary(screen: &str, name: &str) -> usize {
    let row = screen.lines().find_map(|line| line.trim_start().strip_prefix(name)).expect(name);
    row.split_whitespace().next().expect("a number").replace(',', "").parse().expect("a number")
}

#[test]
fn by_default_hours_are_corrected_and_what_is_too_late_is_counted() {
    let here = tempfile::tempdir().expect("a directory");
    let expected = flights::expected(&flights::read(), 3 * HOUR_MS, 3 * HOUR_MS, GAP_MS);
    assert!(expected.late_for_hour > 0 && expected.late_for_session > 0, "there is something to be late for");
    let (screen, written) = run(here.path(), &[]);
    assert_as_expected(&written, &expected);

    let n_lines = written.hours.len();
    assert_eq!(in_summary(&screen, "records in"), RECORDS);
    assert_eq!(in_summary(&screen, "hours"), expected.hours.len());
    assert_eq!(in_summary(&screen, "corrections"), n_lines - expected.hours.len());
    assert_eq!(in_summary(&screen, "sessions"), expected.sessions.len());
    assert_eq!(in_summary(&screen, "late"), expected.late_for_hour + expected.late_for_session);
    assert_eq!(screen.matches("session to ").count(), expected.sessions.len(), "a line a session");
    let first = written.hours.iter().find(|hour| hour.hour_ms == 1_357_034_400_000).expect("the first hour");
    assert_eq!(first.hour, "2013-01-01T05:00:00-05:00");
}

#[test]
fn who_waits_long_enough_sees_no_late_record_and_corrects_nothing() {
    let here = tempfile::tempdir().expect("a directory");
    let expected = flights::expected(&flights::read(), 48 * HOUR_MS, 0, GAP_MS);
    assert_eq!((expected.late_for_hour, expected.late_for_session), (0, 0));
    let (screen, written) = run(here.path(), &["--quiet", "--out-of-orderness", "48 h", "--lateness", "0 s"]);
    assert_as_expected(&written, &expected);
    assert!(written.hours.iter().all(|hour| hour.revision == 1));
    assert_eq!((in_summary(&screen, "corrections"), in_summary(&screen, "late")), (0, 0));
    assert!(!screen.contains("session to"), "quiet");
}

#[test]
fn without_lateness_more_is_too_late_exactly_as_predicted() {
    let here = tempfile::tempdir().expect("a directory");
    for bound_h in [0, 1, 3] {
        let bound = format!("{bound_h} h");
        let expected = flights::expected(&flights::read(), bound_h * HOUR_MS, 0, GAP_MS);
        let arguments = ["--quiet", "--out-of-orderness", &bound, "--lateness", "0 s"];
        // The second run replaces the results of the first.
        let (_, written) = run(here.path(), &arguments);
        assert_as_expected(&written, &expected);
    }
}

#[test]
fn parallelism_and_batch_size_do_not_change_results() {
    let here = tempfile::tempdir().expect("a directory");
    let expected = flights::expected(&flights::read(), 3 * HOUR_MS, 3 * HOUR_MS, GAP_MS);
    for arguments in [&["--quiet", "-D", "execution.batch-size=1"][..], &["--quiet", "-p", "3"]] {
        let (_, written) = run(here.path(), arguments);
        assert_as_expected(&written, &expected);
    }
}

#[test]
fn a_paced_replay_has_the_same_results() {
    let here = tempfile::tempdir().expect("a directory");
    let expected = flights::expected(&flights::read(), 3 * HOUR_MS, 3 * HOUR_MS, GAP_MS);
    // The month in a bit more than a second.
    let (_, written) = run(here.path(), &["--quiet", "--speed", "2000000"]);
    assert_as_expected(&written, &expected);
}
