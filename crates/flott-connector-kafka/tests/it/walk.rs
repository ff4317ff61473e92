//! README's "Kafka in five minutes", as who reads it does it: its commands, but in a directory of their own, at a free port, and as they are built for tests.

use crate::topics::{LIMIT, Topics};
use flott_services::{Kafka, free_port, wait_until};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const README: &str = include_str!("../../../../README.md");
/// Where README has the broker.
const ADDRESS: &str = "localhost:9092";

/// The lines of the section's blocks of shell commands, without what is said of them.
fn commands() -> Vec<&'static str> {
    let (_, section) = README.split_once("### Kafka in five minutes\n").expect("the section");
    let section = section.split_once("\n##").map_or(section, |(section, _)| section);
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap_or_default());
    let lines = blocks.flat_map(str::lines);
    lines.map(|line| line.split('#').next().unwrap_or_default().trim()).collect()
}

/// The program that a command of cargo runs, as the tests have built it, and its arguments.
fn built(cargo: &str) -> (PathBuf, Vec<String>) {
    let words: Vec<&str> = cargo.split(' ').collect();
    let (options, arguments) =
        words.split_at(words.iter().position(|word| *word == "--").expect("a program"));
    assert!(options.starts_with(&["cargo", "run"]), "{cargo}");
    let after = |option| options.iter().position(|word| *word == option).and_then(|at| options.get(at + 1));
    let mut build = Command::new(env!("CARGO"));
    // With the features that all of the workspace is built with, so that only the program itself is new.
    build.args(["build", "--workspace"]).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let path = match (after("--example"), after("-p")) {
        (Some(example), _) => {
            build.args(["--example", *example]);
            Path::new("examples").join(example)
        }
        (None, Some(package)) => {
            build.args(["--bin", *package]);
            PathBuf::from(package)
        }
        (None, None) => panic!("which program is that: {cargo}"),
    };
    assert!(build.status().unwrap().success(), "{build:?}");
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).expect("target/debug/deps/TEST").join(path);
    (program, arguments[1..].iter().map(|argument| (*argument).to_owned()).collect())
}

/// A program that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What is printed by the command that reads `counts`: the counts of each word, in order.
fn shown(mut show: Command) -> BTreeMap<String, Vec<u64>> {
    let output = show.output().unwrap();
    let mut counts = BTreeMap::<String, Vec<u64>>::new();
    // Before the first commit there is no such topic.
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line = line.split_once("> ").map_or(line, |(_, line)| line);
        let (word, count) = line.split_once(' ').unwrap_or_else(|| panic!("'{line}' is no count"));
        counts.entry(word.to_owned()).or_default().push(count.parse().unwrap());
    }
    counts.values_mut().for_each(|counts| counts.sort_unstable());
    counts
}

pub(crate) fn the_readme_is_true(_: &mut Kafka) {
    let commands = commands();
    let [server, example, steps @ ..] = commands.as_slice() else { panic!("{commands:?}") };
    let [fill, count, show] = steps else { panic!("{steps:?}") };
    let (program, mut arguments) = built(server);
    let address = format!("localhost:{}", free_port().unwrap());
    let port = arguments.pop().expect("a port");
    assert!(ADDRESS.ends_with(&format!(":{port}")), "{server}");
    arguments.push(address.rsplit(':').next().unwrap_or_default().to_owned());
    let mut server = Command::new(program);
    server.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = Running(server.spawn().unwrap());
    let mut told = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut told).unwrap();
    assert!(told.trim().ends_with(address.rsplit(':').next().unwrap_or_default()), "{told}");

    let example = example.strip_prefix("example=\"").and_then(|it| it.strip_suffix('"')).expect("a command");
    let (program, _) = built(example);
    let directory = tempfile::tempdir().unwrap();
    let command = |step: &str| {
        let arguments = step.strip_prefix("$example ").unwrap_or_else(|| panic!("{step}"));
        assert!(arguments.ends_with(ADDRESS), "{step}");
        let mut command = Command::new(&program);
        command.args(arguments.replace(ADDRESS, &address).split(' ')).current_dir(directory.path());
        command
    };
    let mut n_words = 0;
    for _ in 0..2 {
        assert!(command(fill).status().unwrap().success());
        // It is killed when all is counted, and goes on in the next round.
        let _counting = Running(command(count).stderr(Stdio::null()).spawn().unwrap());
        let lines = Topics::at(&address).reader("lines", "read_committed").values(1, LIMIT);
        let n_more = lines.iter().flat_map(|line| line.split(' ')).count();
        assert!(n_more > n_words, "nothing was written");
        n_words = n_more;
        let n_counts = || shown(command(show)).values().map(Vec::len).sum::<usize>();
        assert!(wait_until(LIMIT, || n_counts() >= n_words), "{} of {n_words}", n_counts());
    }
    for (word, counts) in shown(command(show)) {
        assert_eq!(counts, (1..=counts.len() as u64).collect::<Vec<_>>(), "{word}");
    }
}
