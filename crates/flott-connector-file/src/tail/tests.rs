mod contract;

use super::config::FileTailSource;
use super::reader::TailReader;
use super::split::TailSplit;
use flott_api::testing::SourceDriver;
use flott_api::{SourceOutput, SplitReader, SplitSource};
use flott_env::sim::{MemoryFs, SimRng, Simulation};
use flott_env::{Env, FileSystem, FileWrite};
use flott_types::SplitId;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LOG: &str = "/logs/app.log";

fn source(pattern: &str) -> FileTailSource<String> {
    FileTailSource::lines(pattern).max_record_bytes(100)
}

fn rotated(number: usize) -> PathBuf {
    PathBuf::from(format!("{LOG}.{number}"))
}

/// A reader, and what it has put out.
struct Tail {
    env: Env,
    reader: TailReader<String>,
    lines: Vec<String>,
    bad: Vec<String>,
}

impl Tail {
    fn start(env: &Env, pattern: &str, split: Option<TailSplit>) -> Self {
        let split = split.unwrap_or_else(|| source(pattern).splits(1).unwrap().remove(0));
        let reader = TailReader::new(&source(pattern), split, env.clone()).unwrap();
        Self { env: env.clone(), reader, lines: Vec::new(), bad: Vec::new() }
    }

    /// Looks once; whether there was anything.
    fn look(&mut self, records_max: usize) -> bool {
        let mut outputs = SourceOutput::default();
        let out = outputs.split(&SplitId("tail".to_owned()));
        self.reader.has_waited = true;
        let is_any = self.reader.read(records_max, out).unwrap();
        let out = outputs.splits_mut().remove(0);
        self.lines.extend(out.batch.into_iter().map(|(line, _)| line));
        self.bad.extend(out.bad_records.into_iter().map(|bad| format!("{}: {}", bad.position, bad.message)));
        is_any
    }

    fn read(&mut self) -> &[String] {
        while self.look(3) {}
        &self.lines
    }

    /// Reads until nothing changes any more, rotated files without an end included.
    fn read_all(&mut self) -> &[String] {
        for _ in 0..60 {
            self.read();
        }
        &self.lines
    }
}

/// A program that writes a log, and what rotates it.
struct Program {
    disk: MemoryFs,
    log: Box<dyn FileWrite>,
    n_lines: u32,
    written: Vec<String>,
    rest_of_line: Option<String>,
}

impl Program {
    fn start(disk: &MemoryFs) -> Self {
        disk.create_dir_all(Path::new("/logs")).unwrap();
        let log = disk.create(Path::new(LOG)).unwrap();
        Self { disk: disk.clone(), log, n_lines: 0, written: Vec::new(), rest_of_line: None }
    }

    fn write(&mut self, text: &str) {
        self.log.write_all(text.as_bytes()).unwrap();
    }

    fn end_line(&mut self) {
        if let Some(rest) = self.rest_of_line.take() {
            self.write(&rest);
            self.write("\n");
        }
    }

    fn write_lines(&mut self, n_lines: u64) {
        for _ in 0..n_lines {
            self.end_line();
            self.n_lines += 1;
            let line = format!("the same words and {}", self.n_lines);
            self.write(&format!("{line}\n"));
            self.written.push(line);
        }
    }

    fn begin_line(&mut self) {
        self.end_line();
        self.n_lines += 1;
        self.write("half of ");
        self.rest_of_line = Some(self.n_lines.to_string());
        self.written.push(format!("half of {}", self.n_lines));
    }

    /// The oldest names move up.
    fn shift(&self) {
        for number in (1..9).rev() {
            if self.disk.metadata(&rotated(number)).is_ok() {
                self.disk.rename(&rotated(number), &rotated(number + 1)).unwrap();
            }
        }
    }

    fn rotate_by_name(&mut self) {
        self.end_line();
        self.shift();
        self.disk.rename(Path::new(LOG), &rotated(1)).unwrap();
        self.log = self.disk.create(Path::new(LOG)).unwrap();
    }

    fn copy(&mut self) {
        self.end_line();
        self.shift();
        let mut content = Vec::new();
        self.disk.open(Path::new(LOG)).unwrap().read_to_end(&mut content).unwrap();
        self.disk.create(&rotated(1)).unwrap().write_all(&content).unwrap();
    }

    fn truncate(&mut self) {
        self.log = self.disk.create(Path::new(LOG)).unwrap();
    }
}

fn world() -> (Env, Program) {
    let simulation = Simulation::new(1);
    let program = Program::start(simulation.disk());
    (simulation.env(), program)
}

#[test]
fn a_line_counts_when_it_has_ended() {
    let (env, mut program) = world();
    let mut tail = Tail::start(&env, LOG, None);
    assert_eq!(tail.read(), [""; 0]);
    program.write("one\r\ntw");
    assert_eq!(tail.read(), ["one"]);
    program.write("o\n\nthree");
    assert_eq!(tail.read(), ["one", "two", ""]);
    assert_eq!(tail.read_all().len(), 3, "the file is not rotated, so the line may go on");
    program.rotate_by_name();
    assert_eq!(tail.read().len(), 3);
    assert_eq!(tail.read_all(), ["one", "two", "", "three"]);
    assert_eq!(tail.bad, [""; 0]);
}

#[test]
fn what_is_written_later_wakes_the_reader() {
    let simulation = Simulation::new(1);
    let mut program = Program::start(simulation.disk());
    let env = simulation.env();
    let read = simulation.run(async move {
        let mut driver = SourceDriver::start(&source(LOG), &env, 1).unwrap();
        let later = env.sleep(Duration::from_secs(10));
        let writer = env.spawn("writer", async move {
            later.await;
            program.write("late\n");
        });
        let read = std::future::poll_fn(|cx| driver.poll_all(cx, 10)).await.unwrap();
        writer.await.unwrap();
        read.into_records()
    });
    assert_eq!(read.unwrap(), ["late"]);
}

#[test]
fn a_renamed_file_is_read_to_its_end_before_the_new_one_and_its_writer_may_be_late() {
    let (env, mut program) = world();
    let mut tail = Tail::start(&env, LOG, None);
    program.write("1\n");
    tail.read();
    program.write("2\n");
    program.disk.rename(Path::new(LOG), &rotated(1)).unwrap();
    program.write("3\n");
    let mut new = program.disk.create(Path::new(LOG)).unwrap();
    new.write_all(b"4\n").unwrap();
    assert_eq!(tail.read(), ["1", "2", "3", "4"]);
    program.write("late\n");
    assert_eq!(tail.read(), ["1", "2", "3", "4", "late"]);
}

#[test]
fn rotations_while_nobody_reads_are_caught_up_with() {
    for is_copied in [false, true] {
        let (env, mut program) = world();
        let mut tail = Tail::start(&env, LOG, None);
        program.write_lines(5);
        tail.look(3);
        let split = tail.reader.split();
        for _ in 0..3 {
            program.write_lines(4);
            if is_copied {
                program.copy();
                program.truncate();
            } else {
                program.rotate_by_name();
            }
        }
        program.write_lines(2);
        let mut tail = Tail::start(&env, LOG, Some(split));
        assert_eq!(tail.read_all(), &program.written[3..], "copied: {is_copied}");
        assert_eq!(tail.bad, [""; 0]);
    }
}

#[test]
fn a_truncated_file_without_a_copy_and_a_removed_one_are_reported() {
    let (env, mut program) = world();
    let mut tail = Tail::start(&env, LOG, None);
    program.write_lines(2);
    tail.read();
    program.truncate();
    program.write("new\n");
    assert_eq!(tail.read().last().unwrap(), "new");
    assert_eq!(tail.bad.len(), 1);
    assert!(tail.bad[0].starts_with("app.log, byte 42: the file was truncated"), "{:?}", tail.bad);

    program.write("half a line");
    tail.read();
    program.disk.remove(Path::new(LOG)).unwrap();
    tail.read_all();
    assert!(tail.bad[1].contains("removed before its last 11 bytes were read"), "{:?}", tail.bad);
    assert_eq!(tail.bad.len(), 2);
}

#[test]
fn a_truncated_file_that_has_grown_beyond_its_old_length_is_noticed() {
    let (env, mut program) = world();
    let mut tail = Tail::start(&env, LOG, None);
    program.write("old\n");
    tail.read();
    program.truncate();
    program.write("newer\nand newer\n");
    assert_eq!(tail.read(), ["old", "newer", "and newer"]);
    assert_eq!(tail.bad.len(), 1);
}

#[test]
fn a_copy_of_a_file_that_goes_on_is_not_read_a_second_time() {
    let (env, mut program) = world();
    let mut tail = Tail::start(&env, LOG, None);
    program.write_lines(3);
    tail.read();
    program.copy();
    program.write_lines(2);
    assert_eq!(tail.read_all(), program.written);
}

#[test]
fn files_with_the_same_beginning_are_told_apart() {
    let (env, mut program) = world();
    let header = "# time level text\n";
    program.write(header);
    let mut tail = Tail::start(&env, LOG, None);
    tail.read();
    let split = tail.reader.split();
    program.write("a\n");
    program.rotate_by_name();
    program.write(header);
    program.write("b\n");
    program.rotate_by_name();
    program.write(header);
    let mut tail = Tail::start(&env, LOG, Some(split));
    let header = header.trim_end();
    assert_eq!(tail.read_all(), ["a", header, "b", header]);
}

#[test]
fn several_files_of_a_pattern_are_followed_and_others_left_alone() {
    let (env, mut program) = world();
    for (name, text) in [("b.log", "b\n"), ("b.log.1", "b1\n"), ("b.log.2.gz", "no\n"), ("b.txt", "no\n")] {
        program.disk.create(&Path::new("/logs").join(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }
    program.write("app\n");
    let mut tail = Tail::start(&env, "/logs/*.log", None);
    assert_eq!(tail.read(), ["b1", "b", "app"]);
    assert!(source("/logs/..").splits(1).is_err());
}

#[test]
fn a_line_that_is_too_long_is_one_bad_record_across_restarts() {
    let (env, mut program) = world();
    program.write(&format!("a\n{}", "x".repeat(1_000)));
    let mut tail = Tail::start(&env, LOG, None);
    tail.read();
    program.write(&format!("{}\nb\n", "y".repeat(500_000)));
    let mut again = Tail::start(&env, LOG, Some(tail.reader.split()));
    assert_eq!(again.read(), ["b"]);
    assert_eq!((tail.lines.as_slice(), tail.bad.len(), again.bad.len()), (["a".to_owned()].as_slice(), 1, 0));
}

#[test]
fn every_line_is_read_once_and_in_order_through_random_rotations_and_restarts() {
    for seed in 0..300 {
        let mut rng = SimRng::new(seed);
        let (env, mut program) = world();
        let mut tail = Tail::start(&env, LOG, None);
        let mut checkpoint = (tail.reader.split(), 0);
        let mut n_rotations = 0;
        // Of a program's log only one kind of rotation is expected.
        let is_copied = rng.one_in(2);
        for _ in 0..60 {
            match rng.below(10) {
                0..4 => program.write_lines(rng.below(4)),
                4 => program.begin_line(),
                5 if n_rotations < 7 => {
                    n_rotations += 1;
                    if is_copied {
                        program.copy();
                        if rng.one_in(2) {
                            tail.look(2);
                        }
                        program.truncate();
                    } else {
                        program.rotate_by_name();
                    }
                }
                6 => checkpoint = (tail.reader.split(), tail.lines.len()),
                7 if rng.one_in(3) => {
                    let mut lines = std::mem::take(&mut tail.lines);
                    lines.truncate(checkpoint.1);
                    tail = Tail { lines, ..Tail::start(&tail.env, LOG, Some(checkpoint.0.clone())) };
                }
                _ => drop(tail.look(1 + rng.below(4) as usize)),
            }
        }
        program.end_line();
        assert_eq!(tail.read_all(), program.written, "seed {seed}, copied: {is_copied}");
        assert_eq!(tail.bad, [""; 0], "seed {seed}, copied: {is_copied}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a program that writes a real log, and what rotates it")]
fn real_files_are_followed_through_a_rename() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    let mut log = std::fs::File::create(&path).unwrap();
    let mut tail = Tail::start(&Env::real().unwrap(), path.to_str().unwrap(), None);
    std::io::Write::write_all(&mut log, b"1\n").unwrap();
    assert_eq!(tail.read(), ["1"]);
    let split = tail.reader.split();
    std::io::Write::write_all(&mut log, b"2\n").unwrap();
    std::fs::rename(&path, directory.path().join("app.log.1")).unwrap();
    std::fs::write(&path, "3\n").unwrap();
    assert_eq!(tail.read(), ["1", "2", "3"]);
    let env = tail.env.clone();
    assert_eq!(Tail::start(&env, path.to_str().unwrap(), Some(split)).read(), ["2", "3"]);
}
