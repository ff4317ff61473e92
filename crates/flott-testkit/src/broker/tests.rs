use super::*;
use Isolation::{ReadCommitted, ReadUncommitted};

fn record(text: &str) -> BrokerRecord {
    BrokerRecord { value: Some(text.as_bytes().to_vec()), ..BrokerRecord::default() }
}

fn broker() -> SimBroker {
    let mut broker = SimBroker::new();
    broker.create_partitions("t", 2);
    broker
}

/// Writes in a transaction that stays open.
fn write(broker: &mut SimBroker, id: &str, texts: &[&str]) -> ProducerIdentity {
    let identity = broker.init_producer_id(id, 60_000).expect("an id");
    broker.add_partition(id, identity, "t", 0).expect("added");
    let records: Vec<_> = texts.iter().map(|text| record(text)).collect();
    broker.produce("t", 0, Some((id, identity)), &records).expect("written");
    identity
}

fn texts(broker: &SimBroker, isolation: Isolation) -> String {
    let records = broker.read_all("t", isolation);
    records
        .iter()
        .map(|it| String::from_utf8_lossy(it.value.as_ref().expect("a value")).into_owned())
        .collect()
}

#[test]
fn readers_of_committed_records_see_none_behind_the_first_open_transaction() {
    let mut broker = broker();
    broker.produce("t", 0, None, &[record("a")]).expect("written");
    let first = write(&mut broker, "first", &["b", "c"]);
    let second = write(&mut broker, "second", &["d"]);
    broker.produce("t", 0, None, &[record("e")]).expect("written");
    assert_eq!(
        (texts(&broker, ReadUncommitted), texts(&broker, ReadCommitted)),
        ("abcde".into(), "a".into())
    );
    broker.end_txn("second", second, true).expect("committed");
    assert_eq!(texts(&broker, ReadCommitted), "a", "the first is open");
    broker.end_txn("first", first, false).expect("aborted");
    assert_eq!(texts(&broker, ReadCommitted), "ade");
    // Markers take offsets.
    assert_eq!(broker.offsets("t", 0, ReadCommitted), Ok((0, 7)));
    assert_eq!(broker.fetch("t", 0, 1, ReadCommitted).expect("fetched").1, 4);
    assert_eq!(broker.fetch("t", 0, 5, ReadCommitted), Ok((None, 7)));
    assert_eq!(broker.fetch("t", 0, 8, ReadCommitted), Err(BrokerError::OffsetOutOfRange));
}

#[test]
fn an_end_that_comes_again_is_answered_as_the_first_time_and_another_is_refused() {
    let mut broker = broker();
    let identity = write(&mut broker, "id", &["a"]);
    for _ in 0..2 {
        assert_eq!(broker.end_txn("id", identity, true), Ok(()));
    }
    assert_eq!(broker.end_txn("id", identity, false), Err(BrokerError::InvalidTxnState));
    assert_eq!(broker.end_txn("other", identity, true), Err(BrokerError::InvalidProducerIdMapping));
    assert_eq!(texts(&broker, ReadCommitted), "a");
}

#[test]
fn who_takes_an_id_over_fences_and_aborts() {
    let mut broker = broker();
    let old = write(&mut broker, "id", &["a"]);
    assert_eq!(broker.init_producer_id("id", 1), Err(BrokerError::ConcurrentTransactions));
    let new = broker.init_producer_id("id", 1).expect("taken over");
    assert!(new.epoch > old.epoch);
    assert_eq!(broker.end_txn("id", old, true), Err(BrokerError::ProducerFenced));
    assert_eq!(broker.produce("t", 0, Some(("id", old)), &[record("b")]), Err(BrokerError::ProducerFenced));
    assert_eq!((texts(&broker, ReadCommitted).as_str(), broker.open_transactions().len()), ("", 0));
    assert_eq!(broker.produce("t", 0, Some(("id", new)), &[record("c")]), Err(BrokerError::InvalidTxnState));
}

#[test]
fn a_transaction_times_out_and_its_id_is_forgotten() {
    let mut broker = broker();
    let identity = write(&mut broker, "id", &["a"]);
    broker.advance(59_999);
    let listed = |broker: &mut SimBroker| broker.list_transactions("i").expect("listed");
    assert_eq!(listed(&mut broker), [("id".to_owned(), TransactionState::Ongoing)]);
    broker.advance(1);
    assert_eq!(listed(&mut broker), [("id".to_owned(), TransactionState::CompleteAbort)]);
    assert_eq!(broker.end_txn("id", identity, true), Err(BrokerError::ProducerFenced));
    broker.advance(8 * 24 * 60 * 60 * 1000);
    assert_eq!(broker.describe_transaction("id"), Err(BrokerError::TransactionalIdNotFound));
    assert_eq!(broker.end_txn("id", identity, true), Err(BrokerError::InvalidProducerIdMapping));
    assert_eq!(texts(&broker, ReadCommitted), "");
}

#[test]
fn an_end_may_take_a_while() {
    let mut broker = broker().end_delay(2);
    let identity = write(&mut broker, "id", &["a"]);
    broker.end_txn("id", identity, true).expect("begun");
    assert_eq!(broker.end_txn("id", identity, true), Err(BrokerError::ConcurrentTransactions));
    assert_eq!(texts(&broker, ReadCommitted), "");
    let mut n_tries = 1;
    while broker.end_txn("id", identity, true).is_err() {
        n_tries += 1;
    }
    assert_eq!((n_tries, texts(&broker, ReadCommitted).as_str()), (2, "a"));
}

#[test]
fn a_request_is_lost_or_its_reply_is() {
    let mut broker = broker();
    let identity = write(&mut broker, "id", &["a"]);
    broker.fail(0, BrokerFault::Lost);
    broker.fail(2, BrokerFault::ReplyLost);
    assert_eq!(broker.end_txn("id", identity, true), Err(BrokerError::NetworkException));
    assert!(broker.describe_transaction("id").is_ok_and(|it| it.state == TransactionState::Ongoing));
    assert_eq!(broker.end_txn("id", identity, true), Err(BrokerError::NetworkException));
    assert_eq!(texts(&broker, ReadCommitted), "a");
    assert_eq!(broker.end_txn("id", identity, true), Ok(()));
}

#[test]
fn offsets_are_found_by_time_and_records_go_with_time() {
    let mut broker = broker();
    for at in [10, 30, 20] {
        let record = BrokerRecord { timestamp: Some(at), ..record("x") };
        broker.produce("t", 1, None, &[record]).expect("written");
    }
    assert_eq!(broker.offset_for_time("t", 1, 15), Ok(Some(1)));
    assert_eq!(broker.offset_for_time("t", 1, 31), Ok(None));
    broker.delete_records("t", 1, 2).expect("deleted");
    assert_eq!(broker.offsets("t", 1, ReadCommitted), Ok((2, 3)));
    assert_eq!(broker.fetch("t", 1, 1, ReadCommitted), Err(BrokerError::OffsetOutOfRange));
    assert_eq!(broker.metadata().expect("told").len(), 2);
    broker.set_incomplete(true);
    assert_eq!(broker.metadata().expect("told"), [("t".to_owned(), 1)]);
    broker.commit_offset("g", "t", 1, 2).expect("committed");
    assert_eq!(broker.committed_offset("g", "t", 1), Ok(Some(2)));
}

#[test]
fn an_end_that_arrives_late_ends_the_next_transaction_unless_the_epoch_has_changed() {
    for bumps in [false, true] {
        let mut broker = broker();
        let first = write(&mut broker, "id", &["a"]);
        let end = |broker: &mut SimBroker| match bumps {
            true => broker.end_txn_and_bump("id", first, true),
            false => broker.end_txn("id", first, true).map(|()| first),
        };
        broker.fail(0, BrokerFault::Late(3));
        assert_eq!(end(&mut broker), Err(BrokerError::NetworkException));
        let next = end(&mut broker).expect("asked again");
        assert_eq!(next != first, bumps);
        broker.add_partition("id", next, "t", 0).expect("begun");
        broker.produce("t", 0, Some(("id", next)), &[record("b")]).expect("written");
        // The first end arrives before the next request.
        let ended = broker.end_txn("id", next, false);
        let expected = if bumps { ("a", Ok(())) } else { ("ab", Err(BrokerError::InvalidTxnState)) };
        assert_eq!((texts(&broker, ReadCommitted).as_str(), ended), expected);
    }
}

#[test]
fn an_end_with_a_new_epoch_that_comes_again_is_answered_as_the_first_time_until_the_next_has_begun() {
    let mut broker = broker();
    let first = write(&mut broker, "id", &["a"]);
    let next = broker.end_txn_and_bump("id", first, true).expect("committed");
    assert_eq!((next.producer_id, next.epoch), (first.producer_id, first.epoch + 1));
    assert_eq!(broker.end_txn_and_bump("id", first, true), Ok(next));
    assert_eq!(broker.end_txn_and_bump("id", first, false), Err(BrokerError::InvalidTxnState));
    broker.add_partition("id", next, "t", 0).expect("begun");
    assert_eq!(broker.end_txn_and_bump("id", first, true), Err(BrokerError::ProducerFenced));
    assert_eq!(broker.produce("t", 0, Some(("id", first)), &[record("b")]), Err(BrokerError::ProducerFenced));
}

#[test]
fn records_that_arrive_late_are_part_of_the_next_transaction_if_that_has_the_epoch_and_the_partition() {
    let mut broker = broker();
    let identity = broker.init_producer_id("id", 60_000).expect("an id");
    broker.add_partition("id", identity, "t", 0).expect("added");
    broker.fail(0, BrokerFault::Late(2));
    let lost = broker.produce("t", 0, Some(("id", identity)), &[record("late")]);
    assert_eq!(lost, Err(BrokerError::NetworkException));
    broker.end_txn("id", identity, false).expect("aborted");
    broker.add_partition("id", identity, "t", 0).expect("begun");
    broker.produce("t", 0, Some(("id", identity)), &[record("next")]).expect("written");
    broker.end_txn("id", identity, true).expect("committed");
    assert_eq!(texts(&broker, ReadCommitted), "latenext");
}

#[test]
fn records_that_arrive_behind_the_end_are_refused_or_hold_readers_up_for_ever() {
    for verifies in [true, false] {
        let mut broker = if verifies { SimBroker::new() } else { SimBroker::new().without_verification() };
        broker.create_partitions("t", 1);
        let identity = write(&mut broker, "id", &["a"]);
        broker.fail(0, BrokerFault::Late(u64::MAX / 2));
        let lost = broker.produce("t", 0, Some(("id", identity)), &[record("late")]);
        assert_eq!(lost, Err(BrokerError::NetworkException));
        broker.end_txn("id", identity, true).expect("committed");
        broker.deliver_all();
        broker.produce("t", 0, None, &[record("b")]).expect("written");
        broker.advance(60_000);
        let seen = if verifies { "ab" } else { "a" };
        assert_eq!((texts(&broker, ReadCommitted).as_str(), broker.open_transactions().len()), (seen, 0));
    }
}

#[test]
fn records_that_arrive_twice_are_appended_once() {
    let mut broker = broker();
    let identity = write(&mut broker, "id", &["a"]);
    broker.fail(0, BrokerFault::Twice(0));
    broker.produce("t", 0, Some(("id", identity)), &[record("b")]).expect("written");
    broker.end_txn("id", identity, true).expect("committed");
    broker.deliver_all();
    assert_eq!(texts(&broker, ReadUncommitted), "ab");
    // One that is behind another that has not arrived is refused.
    broker.add_partition("id", identity, "t", 0).expect("begun");
    broker.fail(0, BrokerFault::Lost);
    broker.produce("t", 0, Some(("id", identity)), &[record("lost")]).expect_err("no answer");
    let behind = broker.produce("t", 0, Some(("id", identity)), &[record("c")]);
    assert_eq!(behind, Err(BrokerError::OutOfOrderSequenceNumber));
}

#[test]
fn an_id_that_is_taken_over_late_fences_who_has_it_by_then() {
    let mut broker = broker().with_delayed_ids();
    broker.fail(0, BrokerFault::Late(3));
    assert_eq!(broker.init_producer_id("id", 60_000), Err(BrokerError::NetworkException));
    let identity = write(&mut broker, "id", &["a"]);
    assert_eq!(broker.end_txn("id", identity, true), Err(BrokerError::ProducerFenced));
    assert_eq!((texts(&broker, ReadCommitted).as_str(), broker.open_transactions().len()), ("", 0));
}

#[test]
fn a_partition_that_is_added_behind_the_end_begins_a_transaction_that_times_out() {
    let mut broker = broker();
    let identity = broker.init_producer_id("id", 60_000).expect("an id");
    broker.fail(0, BrokerFault::Twice(2));
    broker.add_partition("id", identity, "t", 0).expect("added");
    broker.produce("t", 0, Some(("id", identity)), &[record("a")]).expect("written");
    broker.end_txn("id", identity, true).expect("committed");
    broker.deliver_all();
    assert_eq!((texts(&broker, ReadCommitted).as_str(), broker.stray_transactions().len()), ("a", 1));
    broker.produce("t", 0, None, &[record("b")]).expect("written");
    assert_eq!(texts(&broker, ReadCommitted), "ab", "it holds nobody up");
    broker.advance(60_000);
    assert_eq!(broker.open_transactions().len(), 0);
}
