use crate::contract::{env_with, limits, open};
use crate::program::{Job, N_RECORDS, committed, expected, properties};
use crate::proxy::{Act, Proxy};
use crate::server::Server;
use flott_checkpoint::ObjectStore;
use flott_services::wait_for;
use flott_types::Configuration;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Instant;

fn completed(store: &Arc<dyn ObjectStore>) -> Vec<String> {
    let jobs = store.list("checkpoints").unwrap();
    let names = jobs.iter().flat_map(|job| store.list(&format!("checkpoints/{job}")).unwrap());
    names.filter(|name| name.starts_with("chk-")).collect()
}

pub(crate) fn a_job_that_fails_goes_on_exactly_once(server: &Server) {
    let (place, output) = (format!("{}/a", server.bucket()), tempfile::tempdir().unwrap());
    let job = Job {
        config: &server.config(),
        place: &place,
        output: output.path(),
        parallelism: 2,
        fails_at: Some(N_RECORDS / 2),
    };
    let result = job.env().execute("job").unwrap();
    assert_eq!(result.restarts, 1);
    assert_eq!(committed(output.path()), expected());
    let left = completed(&open(&env_with(&server.config(), limits()), &place));
    assert_eq!(left, [""; 0], "a job that has finished deletes its checkpoints");
}

fn start(config: &Configuration, place: &str, output: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("FLOTT_PROPERTIES", properties(config));
    command.args(["child", place]).arg(output).spawn().unwrap()
}

pub(crate) fn a_job_that_is_killed_goes_on_exactly_once(server: &Server) {
    let (place, output) = (format!("{}/a", server.bucket()), tempfile::tempdir().unwrap());
    let store = open(&env_with(&server.config(), limits()), &place);
    for _ in 0..2 {
        let mut child = start(&server.config(), &place, output.path());
        let before = completed(&store);
        wait_for("another checkpoint", || {
            completed(&store) != before && !committed(output.path()).is_empty()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let n_lines = committed(output.path()).len();
        assert!(n_lines < expected().len(), "it was killed in the middle");
    }
    assert!(start(&server.config(), &place, output.path()).wait().unwrap().success());
    assert_eq!(committed(output.path()), expected());
}

/// For a while no request arrives: checkpoints fail, and the job goes on.
pub(crate) fn a_job_outlives_a_server_that_is_away(server: &Server) {
    let (place, output) = (format!("{}/a", server.bucket()), tempfile::tempdir().unwrap());
    let started = Instant::now();
    let mut lost = 0;
    let rule = move |_: &str| {
        let since = started.elapsed().as_millis();
        if (700..1_400).contains(&since) && lost < 40 {
            lost += 1;
            Act::LoseRequest
        } else {
            Act::Pass
        }
    };
    let proxy = Proxy::start(server.address(), Box::new(rule));
    let config = server.config_at(&proxy.address);
    let job = Job { config: &config, place: &place, output: output.path(), parallelism: 2, fails_at: None };
    job.env().execute("job").unwrap();
    assert_eq!(committed(output.path()), expected());
}
