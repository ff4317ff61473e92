use crate::ingest::{Ingest, Refused};
use crate::keys::{Claim, Claimed, KeyLimits};
use crate::log::Log;
use flott_env::sim::{CrashMode, Fault, FaultEffect, MemoryFs, SimRng, Simulation};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

const DIRECTORY: &str = "/data/log";
const LIMITS: KeyLimits = KeyLimits { n_max: 100, retention: Duration::from_secs(60) };

/// Requests of a client by their keys, each with the answer that it has got, if any.
#[derive(Default)]
struct Client {
    answered: BTreeMap<String, bool>,
}

fn body(key: &str, n_records: u64) -> Vec<Vec<u8>> {
    (0..n_records).map(|n| format!("{key}/{n}").into_bytes()).collect()
}

fn claim(ingest: &Ingest, key: &str, time: i64) -> Option<Claim> {
    match ingest.claim(key, 1, time, &LIMITS) {
        Claimed::New(claim) => Some(claim),
        Claimed::Answered(_) => None,
        Claimed::InProgress | Claimed::OtherBody => panic!("one client at a time"),
    }
}

/// One life of a process: requests that were not answered come again with their keys, then new ones do, among them some without a key.
fn live(disk: &MemoryFs, client: &mut Client, seed: u64, n_requests: u64) {
    let Ok(Some(log)) = Log::open(Arc::new(disk.clone()), Path::new(DIRECTORY), 200) else { return };
    let shared = Arc::clone(log.shared());
    let (ingest, write) = Ingest::new(log.with_key_limits(LIMITS), u64::MAX);
    let world = Simulation::new(seed);
    let mut rng = SimRng::new(seed);
    let env = world.env();
    let mut keys: Vec<String> =
        client.answered.iter().filter(|(_, answered)| !**answered).map(|(key, _)| key.clone()).collect();
    let n_before = client.answered.len() as u64;
    keys.extend((n_before..n_before + n_requests).map(|n| format!("key-{n:03}")));
    let answers = world.run(async move {
        drop(env.spawn("log", write));
        let mut answers = Vec::new();
        for key in keys {
            if rng.below(4) == 0 {
                drop(ingest.append(vec![b"without a key".to_vec()], None).await);
            }
            // By its key, so that it is the same when it comes again.
            let n_records = 1 + key.bytes().map(u64::from).sum::<u64>() % 3;
            let answer: Result<(), Refused> = match claim(&ingest, &key, 0) {
                None => Ok(()),
                Some(claim) => ingest.append(body(&key, n_records), Some(claim)).await,
            };
            answers.push((key, answer.is_ok()));
            // What is read may go, with the files that the keys were in.
            let end = shared.state().end;
            drop(shared.delete_before(end.saturating_sub(10_000)));
        }
        answers
    });
    client.answered.extend(answers.expect("ends"));
}

/// Each request is there once with all its records if it was answered, and else once or not at all.
fn check(disk: &MemoryFs, client: &Client) {
    let records = crate::read_log(Arc::new(disk.clone()), Path::new(DIRECTORY)).expect("a log");
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let texts: Vec<_> = records.iter().map(|record| std::str::from_utf8(record).expect("text")).collect();
    for text in &texts {
        if let Some((key, n)) = text.split_once('/') {
            found.entry(key).or_default().push(n);
        }
    }
    for (key, answered) in &client.answered {
        let n_records = 1 + key.bytes().map(u64::from).sum::<u64>() % 3;
        let all: Vec<String> = (0..n_records).map(|n| n.to_string()).collect();
        match found.remove(key.as_str()) {
            Some(numbers) => assert_eq!(numbers, all, "{key}"),
            None => assert!(!answered, "{key} was answered and is not there"),
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_request_that_is_tried_again_after_a_power_failure_at_any_operation_is_there_once() {
    let undisturbed = MemoryFs::default();
    live(&undisturbed, &mut Client::default(), 1, 8);
    let n_operations = undisturbed.operations();
    assert!(n_operations > 20, "{n_operations}");
    for at in 0..n_operations {
        for effect in [FaultEffect::Before, FaultEffect::After, FaultEffect::AppliedButError] {
            for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::Random(at)] {
                let (disk, mut client) = (MemoryFs::default(), Client::default());
                disk.set_fault(Some(Fault { at, effect, halts: true }));
                live(&disk, &mut client, 1, 8);
                disk.crash(mode);
                check(&disk.fork(), &client);
                // Again, and once more: of all that came before, nothing is new.
                live(&disk, &mut client, 2, 3);
                disk.crash(CrashMode::LoseUnsynced);
                live(&disk, &mut client, 3, 3);
                assert!(client.answered.values().all(|answered| *answered));
                check(&disk, &client);
            }
        }
    }
}

#[test]
fn a_key_is_carried_over_when_the_files_that_had_it_are_deleted() {
    let disk = MemoryFs::default();
    let mut log = Log::open(Arc::new(disk.clone()), Path::new(DIRECTORY), 200).unwrap().unwrap();
    let entry =
        |key: &str, time| crate::keys::KeyEntry { key: key.to_owned(), fingerprint: 7, n_records: 1, time };
    for n in 0..20 {
        let entry = entry(&format!("key-{n}"), n);
        log.append([crate::log::Entry::Key(&entry), crate::log::Entry::Record(&[b'x'; 100])]).unwrap();
    }
    log.shared().delete_before(20).unwrap();
    assert_eq!(disk.files().keys().filter(|path| path.extension().is_some()).count(), 1);
    drop(log);
    for _ in 0..2 {
        let log = Log::open(Arc::new(disk.clone()), Path::new(DIRECTORY), 200).unwrap().unwrap();
        let keys: Vec<_> = log.shared().state().keys.known().cloned().collect();
        assert_eq!(keys, (0..20).map(|n| entry(&format!("key-{n}"), n)).collect::<Vec<_>>());
    }
}

#[test]
fn a_key_is_in_use_until_its_request_is_in_the_log_and_known_until_it_is_too_old() {
    let disk = MemoryFs::default();
    let log = Log::open(Arc::new(disk.clone()), Path::new(DIRECTORY), 200).unwrap().unwrap();
    let (ingest, write) = Ingest::new(log.with_key_limits(LIMITS), u64::MAX);
    let world = Simulation::new(1);
    let env = world.env();
    let asked = ingest.clone();
    let ran = world.run(async move {
        let ask = |fingerprint, time| asked.claim("a", fingerprint, time, &LIMITS);
        let claim = ask(1, 0);
        assert!(matches!(ask(1, 0), Claimed::InProgress));
        drop(claim);
        let Claimed::New(claim) = ask(1, 0) else { panic!("it was given back") };
        {
            // The client goes away before its request is in the log.
            let mut append = Box::pin(asked.append(vec![b"x".to_vec()], Some(claim)));
            let polled = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        }
        assert!(matches!(ask(1, 0), Claimed::InProgress), "it is on its way");
        drop(env.spawn("log", write));
        asked.append(vec![b"y".to_vec()], None).await.expect("appended");
        assert!(matches!(ask(1, 60_000), Claimed::Answered(1)));
        assert!(matches!(ask(2, 60_000), Claimed::OtherBody));
        assert!(matches!(ask(2, 60_001), Claimed::New(_)));
    });
    ran.expect("ends");
}
