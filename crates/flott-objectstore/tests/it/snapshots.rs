use crate::contract::{env_with, limits, open};
use crate::program::{Job, committed, expected, properties, totals};
use crate::server::Server;
use flott::AtStop;
use flott::prelude::*;
use std::process::Command;
use std::time::Duration;

/// The command line, with the settings of the server in a variable.
struct CommandLine(String);

impl CommandLine {
    /// What it prints; fails the test if it fails.
    fn succeeds(&self, arguments: &[&str]) -> String {
        let (works, printed, said) = self.run(arguments);
        assert!(works, "{arguments:?}: {said}");
        printed
    }

    /// Whether it succeeds, what it prints and what it complains about.
    fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        // Beside `deps`, where this binary lies.
        let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("flott");
        let mut command = Command::new(&program);
        command.env("FLOTT_PROPERTIES", &self.0).arg("savepoint").args(arguments);
        let output = command.output().unwrap_or_else(|error| {
            panic!("'{}': {error}: build it with `cargo build -p flott-cli`", program.display())
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }
}

pub(crate) fn savepoints_go_there_and_come_back(server: &Server) {
    let (place, output) = (format!("{}/a", server.bucket()), tempfile::tempdir().unwrap());
    let config = server.config();
    let job = |parallelism| Job {
        config: &config,
        place: &place,
        output: output.path(),
        parallelism,
        fails_at: None,
    };
    let env = job(1).env();
    let client = env.execute_async("job").unwrap();
    let (handle, world) = (client.savepoints(), env.env().clone());
    let path = env.env().block_on(async move {
        world.sleep(Duration::from_millis(500)).await;
        let path = handle.stop_with_savepoint(None, AtStop::Suspend).await.unwrap();
        client.result().await.unwrap();
        path
    });
    assert!(path.starts_with(&format!("{place}/savepoints/savepoint-")), "{path}");
    let n_before = committed(output.path()).len();
    assert!(n_before < expected().len(), "it was stopped in the middle");

    let command_line = CommandLine(properties(&config));
    let listed = command_line.succeeds(&["list", &format!("{place}/savepoints")]);
    assert!(listed.contains("savepoint (stop)") && listed.contains("complete"), "{listed}");
    assert!(command_line.succeeds(&["inspect", &path]).contains("operator 'sums'"));
    command_line.succeeds(&["verify", &path]);
    command_line.succeeds(&["diff", &path, &path]);
    let state = keyed_state(&command_line, &path);
    let export =
        ["export", &path, "--operator", "sums", "--state", &state, "--format", "jsonl", "--output", "-"];
    let (works, exported, said) = command_line.run(&export);
    // Rows, if the snapshot says what its bytes are.
    assert!(if works { exported.lines().count() == 16 } else { said.contains("schema") }, "{exported}{said}");

    let mut env = job(3).env();
    env.set(options::STATE_RECOVERY_PATH, Some(path.clone()));
    env.execute("job").unwrap();
    // At another parallelism, calls that were under way may change their order, and with it the sums on the way.
    let rows = committed(output.path());
    assert_eq!(rows.len(), expected().len());
    let missing: Vec<_> = totals().into_iter().filter(|total| !rows.contains(total)).collect();
    assert_eq!(missing, [""; 0]);

    command_line.succeeds(&["dispose", &path]);
    let store = open(&env_with(&config, limits()), &place);
    assert_eq!(store.list("savepoints").unwrap(), [""; 0]);
}

/// The name of the keyed state of the operator `sums`.
fn keyed_state(command_line: &CommandLine, path: &str) -> String {
    let shown = command_line.succeeds(&["inspect", path, "--operator", "sums"]);
    let line = shown
        .lines()
        .find(|line| line.contains("key group") && line.starts_with("    ") && !line.contains(".."))
        .unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}
