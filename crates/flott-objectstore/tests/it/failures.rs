use crate::contract::{env_with, limits, open};
use crate::server::{Denied, Server, tells_a_secret};
use flott::ErrorKind;
use flott::prelude::*;
use flott_checkpoint::ObjectStore;
use flott_objectstore::Limits;
use flott_types::Configuration;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Every operation fails, in time, and says this; nothing is empty or missing, and no secret is shown.
fn all_fail(store: &Arc<dyn ObjectStore>, bucket: &str, kind: io::ErrorKind, expected: &str) {
    let started = Instant::now();
    let errors = [
        store.put_if_absent("a/b", b"x").unwrap_err(),
        store.get("a/b", 10).unwrap_err(),
        store.list("a").unwrap_err(),
        store.delete("a/b").unwrap_err(),
    ];
    assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
    for error in errors {
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(expected) && text.contains(bucket), "{text}");
        assert!(!tells_a_secret(&text), "{text}");
    }
    assert!(!tells_a_secret(&format!("{store:?}")));
}

/// A program with checkpoints there does not start, and says why.
fn job_is_refused(config: Configuration, bucket: &str, expected: &str) {
    let mut env = StreamExecutionEnvironment::with_configuration(config).unwrap();
    env.set(options::CHECKPOINTING_DIR, Some(format!("{bucket}/checkpoints")));
    env.enable_checkpointing(Duration::from_millis(50));
    env.from_sequence(1, 10).sink_to(BlackholeSink::default());
    let error = env.execute("refused").unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert_eq!(error.kind(), ErrorKind::UserError, "{text}");
    assert!(text.contains(expected) && !tells_a_secret(&text), "{text}");
}

pub(crate) fn a_wrong_bucket_is_named(server: &Server) {
    let (config, bucket) = (server.config(), server.missing_bucket());
    let store = open(&env_with(&config, limits()), &format!("{bucket}/x"));
    all_fail(&store, &bucket, io::ErrorKind::Other, "does not exist");
    job_is_refused(config, &bucket, "does not exist");
}

pub(crate) fn denied_access_is_named_without_the_secret(server: &Server) {
    let Denied { config, place, remedy, .. } = &server.denied();
    let store = open(&env_with(config, limits()), &format!("{place}/x"));
    all_fail(&store, place, io::ErrorKind::PermissionDenied, remedy);
    job_is_refused(config.clone(), place, "access is denied");
}

pub(crate) fn a_server_that_is_not_there_is_named_in_time(server: &Server) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = server.config_at(&listener.local_addr().unwrap().to_string());
    drop(listener);
    let bucket = server.missing_bucket();
    let store = open(&env_with(&config, Limits { retries: 2, ..limits() }), &format!("{bucket}/x"));
    all_fail(&store, &bucket, io::ErrorKind::NotConnected, "cannot be reached");
    job_is_refused(config, &bucket, "cannot be reached");
}

/// It takes connections, and says nothing.
pub(crate) fn a_server_that_hangs_is_given_up_in_time(server: &Server) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = server.config_at(&listener.local_addr().unwrap().to_string());
    let limits = Limits {
        request: Duration::from_millis(300),
        retry_for: Duration::from_millis(500),
        retries: 2,
        ..limits()
    };
    let bucket = server.missing_bucket();
    let store = open(&env_with(&config, limits), &format!("{bucket}/x"));
    all_fail(&store, &bucket, io::ErrorKind::TimedOut, "did not answer in time");
}
