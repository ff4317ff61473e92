use crate::contract::{config, env_at, limits, open};
use flott::ErrorKind;
use flott::prelude::*;
use flott_checkpoint::ObjectStore;
use flott_objectstore::Limits;
use flott_services::S3;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Every operation fails, in time, and says this; nothing is empty or missing, and no secret is shown.
fn all_fail(store: &Arc<dyn ObjectStore>, kind: io::ErrorKind, expected: &str, limit: Duration) {
    let started = Instant::now();
    let errors = [
        store.put_if_absent("a/b", b"x").unwrap_err(),
        store.get("a/b", 10).unwrap_err(),
        store.list("a").unwrap_err(),
        store.delete("a/b").unwrap_err(),
    ];
    assert!(started.elapsed() < limit, "it took {:?}", started.elapsed());
    for error in errors {
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(expected) && text.contains("s3://"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(!format!("{store:?}").contains("hunter2"));
}

/// A program with checkpoints there does not start, and says why.
fn job_is_refused(address: &str, bucket: &str, expected: &str) {
    let mut env = StreamExecutionEnvironment::with_configuration(config(address)).unwrap();
    env.set(options::CHECKPOINTING_DIR, Some(format!("s3://{bucket}/checkpoints")));
    env.enable_checkpointing(Duration::from_millis(50));
    env.from_sequence(1, 10).sink_to(BlackholeSink::default());
    let error = env.execute("refused").unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let text = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    assert_eq!(error.kind(), ErrorKind::UserError, "{text}");
    assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
}

pub(crate) fn a_wrong_bucket_is_named(server: &S3) {
    let store = open(&env_at(server.address(), limits()), "s3://no-such-bucket/x");
    all_fail(&store, io::ErrorKind::Other, "does not exist", Duration::from_secs(30));
    job_is_refused(server.address(), "no-such-bucket", "does not exist");
}

pub(crate) fn denied_access_is_named_without_the_secret(_: &S3) {
    // From the first request on, this one wants to know the key.
    let strict = S3::start(&[("INITIAL_NO_AUTH_ACTION_COUNT", "0")]).unwrap();
    let store = open(&env_at(strict.address(), limits()), "s3://bucket/x");
    all_fail(&store, io::ErrorKind::PermissionDenied, "check 's3.access-key'", Duration::from_secs(30));
    job_is_refused(strict.address(), "bucket", "access is denied");
}

pub(crate) fn a_server_that_is_not_there_is_named_in_time(_: &S3) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let store = open(&env_at(&address, Limits { retries: 2, ..limits() }), "s3://bucket/x");
    all_fail(&store, io::ErrorKind::NotConnected, "cannot be reached", Duration::from_secs(30));
    job_is_refused(&address, "bucket", "cannot be reached");
}

/// It takes connections, and says nothing.
pub(crate) fn a_server_that_hangs_is_given_up_in_time(_: &S3) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let limits = Limits {
        request: Duration::from_millis(300),
        retry_for: Duration::from_millis(500),
        retries: 2,
        ..limits()
    };
    let store = open(&env_at(&address, limits), "s3://bucket/x");
    all_fail(&store, io::ErrorKind::TimedOut, "did not answer in time", Duration::from_secs(30));
}
