//! What brokers answer when they are asked for transactions, or who stands in their place.

use super::tagged;
use flott_connector_kafka::client::fuzzing::{QUESTIONS, Question, ask};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTransactionsResponse, EndTxnResponse, FindCoordinatorResponse, InitProducerIdResponse,
    ListTransactionsResponse, MetadataResponse, ProducerId, ResponseHeader, SaslAuthenticateResponse,
    SaslHandshakeResponse, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

pub(crate) fn answers(bytes: &[u8]) {
    let Some((question, answers)) = bytes.split_first() else { return };
    let Some(question) = QUESTIONS.get(usize::from(*question) % QUESTIONS.len()) else { return };
    let told = ask(*question, answers).map_err(|error| error.report());
    assert_eq!(told, ask(*question, answers).map_err(|error| error.report()));
}

fn answer<R: Encodable + HeaderVersion>(response: &R, version: i16) -> Vec<u8> {
    let mut body = Vec::new();
    let header = ResponseHeader::default().with_correlation_id(1);
    header.encode(&mut body, R::header_version(version)).expect("encoded");
    response.encode(&mut body, version).expect("encoded");
    [&(body.len() as u32).to_be_bytes(), body.as_slice()].concat()
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Two brokers with a partition each.
fn metadata() -> Vec<u8> {
    let brokers = [1, 2].map(|id| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id))
            .with_host(text(if id == 1 { "one" } else { "::2" }))
            .with_port(9092)
    });
    let partitions = [0, 1].map(|idx| {
        MetadataResponsePartition::default()
            .with_partition_index(idx)
            .with_leader_id(BrokerId(idx + 1))
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
            .with_isr_nodes(vec![BrokerId(1)])
    });
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(text("__transaction_state"))))
        .with_partitions(partitions.to_vec());
    let metadata = MetadataResponse::default()
        .with_brokers(brokers.to_vec())
        .with_cluster_id(Some(text("cluster")))
        .with_topics(vec![topic]);
    answer(&metadata, 9)
}

fn described(error_code: i16) -> Vec<u8> {
    let topic = TopicData::default().with_topic(TopicName(text("topic"))).with_partitions(vec![0, 1]);
    let state = TransactionState::default()
        .with_error_code(error_code)
        .with_transactional_id(TransactionalId(text("id-0")))
        .with_transaction_state(text("Ongoing"))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(7))
        .with_producer_epoch(3)
        .with_topics(vec![topic]);
    answer(&DescribeTransactionsResponse::default().with_transaction_states(vec![state]), 0)
}

fn listed(states: &[(&'static str, &'static str)]) -> Vec<u8> {
    let states = states.iter().map(|(id, state)| {
        ListedTransaction::default()
            .with_transactional_id(TransactionalId(text(id)))
            .with_transaction_state(text(state))
    });
    answer(&ListTransactionsResponse::default().with_transaction_states(states.collect()), 0)
}

fn coordinator() -> Vec<u8> {
    let found = FindCoordinatorResponse::default().with_node_id(BrokerId(1)).with_host(text("one"));
    answer(&found.with_port(9092), 3)
}

/// Nobody has this id.
const UNKNOWN: i16 = 105;

/// Answers to each question, and what that comes to.
fn transcripts() -> [(Question, Vec<u8>, &'static str); 5] {
    let loaded = || [metadata(), described(UNKNOWN), described(UNKNOWN)].concat();
    let ended = [loaded(), listed(&[]), listed(&[("other", "PrepareCommit")])].concat();
    let open = [
        loaded(),
        listed(&[("id-1", "Ongoing"), ("id-0", "Empty"), ("other", "Ongoing")]),
        described(0),
        listed(&[]),
        loaded(),
    ];
    let handshake = SaslHandshakeResponse::default().with_mechanisms(vec![text("PLAIN"), text("GSSAPI")]);
    let proven = SaslAuthenticateResponse::default().with_auth_bytes(vec![1, 2].into());
    let proven = [answer(&handshake, 1), answer(&proven, 0)].concat();
    let abort = answer(&InitProducerIdResponse::default().with_producer_id(ProducerId(7)), 4);
    let refused = answer(&EndTxnResponse::default().with_error_code(48), 3);
    [
        (Question::OpenTransactions, [ended, open.concat()].concat(), "id-0 id-1"),
        (Question::OpenTransaction, [coordinator(), described(0)].concat(), "7 3"),
        (
            Question::Commit,
            [coordinator(), refused, coordinator(), described(0)].concat(),
            "it was aborted (INVALID_TXN_STATE)",
        ),
        (Question::Abort, [coordinator(), abort.clone()].concat(), "aborted"),
        (Question::AbortWithPassword, [proven.clone(), coordinator(), proven, abort].concat(), "aborted"),
    ]
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seed = |(question, answers, expected): (Question, Vec<u8>, &str)| {
        assert_eq!(ask(question, &answers).expect("the seed is what brokers answer"), expected);
        let idx = QUESTIONS.iter().position(|known| *known == question).expect("known");
        tagged(idx as u8, &answers)
    };
    transcripts().into_iter().map(seed).collect()
}
