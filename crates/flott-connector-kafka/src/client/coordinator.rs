//! Asks transaction coordinators what `rdkafka` cannot ask: which transactions are open, and to end one whose producer is gone.
//!
//! Which versions of the requests are asked, `answers.rs` says. Ends are those of the protocol before KIP-890: they leave the producer's
//! epoch as it is, so that an end whose answer was lost can be asked for again and is answered as the first time.

#![expect(clippy::disallowed_methods, reason = "waits for real brokers, in calls that may take their time")]

use super::answers::Asked;
use super::connection::{Connection, Refusal};
use super::{CommitOutcome, TransactionHandle};
use crate::config::Properties;
use flott_types::{Error, ErrorKind, Result};
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListTransactionsRequest, MetadataRequest, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two tries of what passes: a coordinator that moves, a transaction that is being ended.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The time-out under which ids are taken over that nobody is to use again. Nothing is ever open under it: it is a mark, which tells these ids from
/// those whose producers have not begun yet. The epoch is none: the client takes an id over twice if the first answer is lost.
const FENCED_TIMEOUT_MS: i32 = 59_999;

/// Where brokers keep what they know of transactions.
const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// Who tells of more partitions of that is no broker: Kafka's default is 50.
const PARTITIONS_MAX: usize = 100_000;

/// Codes of errors in answers.
mod code {
    pub(super) const NONE: i16 = 0;
    pub(super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub(super) const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
    pub(super) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub(super) const NOT_COORDINATOR: i16 = 16;
    pub(super) const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub(super) const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub(super) const INVALID_TXN_STATE: i16 = 48;
    pub(super) const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
    pub(super) const CONCURRENT_TRANSACTIONS: i16 = 51;
    pub(super) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
    pub(super) const PRODUCER_FENCED: i16 = 90;
    pub(super) const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
}

/// The brokers of a cluster, one connection each.
pub(super) struct Coordinators {
    properties: Properties,
    connect: Box<Connect>,
    connections: Mutex<BTreeMap<String, Connection>>,
}

/// Connects to a broker.
type Connect = dyn Fn(&str, &Properties) -> std::result::Result<Connection, Refusal> + Send + Sync;

impl Coordinators {
    pub(super) fn new(properties: Properties) -> Self {
        Self::with_connections(properties, Box::new(Connection::open))
    }

    pub(super) fn with_connections(properties: Properties, connect: Box<Connect>) -> Self {
        Self { properties, connect, connections: Mutex::new(BTreeMap::new()) }
    }

    /// The ids that begin with `prefix` under which a transaction is open or may come to be, on all brokers.
    pub(super) fn open_transactions(&self, prefix: &str) -> Result<Vec<String>> {
        self.patiently("list transactions", || {
            // A broker that has just started answers with what its coordinators have loaded: nothing, and no error.
            let brokers = self.loaded_brokers(prefix)?;
            let mut found = Vec::new();
            for broker in &brokers {
                let (open, empty): (Vec<_>, Vec<_>) = self
                    .list(broker, prefix, ["Ongoing", "Empty"])?
                    .into_iter()
                    .partition(|(_, state)| state == "Ongoing");
                found.extend(open.into_iter().map(|(id, _)| id));
                found.extend(self.to_begin(broker, empty.into_iter().map(|(id, _)| id))?);
            }
            if self.loaded_brokers(prefix)? != brokers {
                return Err(Refusal::Passes("the transaction coordinators move".to_owned()));
            }
            found.sort();
            found.dedup();
            Ok(found)
        })
    }

    /// Waits until no transaction whose id begins with `prefix` is being ended.
    pub(super) fn await_ends(&self, prefix: &str) -> Result<()> {
        self.patiently("wait for the ends of transactions", || {
            for broker in self.loaded_brokers(prefix)? {
                if let Some((id, _)) = self.list(&broker, prefix, ["PrepareCommit", "PrepareAbort"])?.pop() {
                    return Err(Refusal::Passes(format!("transaction '{id}' is being ended")));
                }
            }
            Ok(())
        })
    }

    /// The ids that begin with `prefix` and are in one of these states, and in which, as one broker knows them.
    fn list(
        &self,
        broker: &str,
        prefix: &str,
        states: [&'static str; 2],
    ) -> std::result::Result<Vec<(String, String)>, Refusal> {
        let states = states.map(StrBytes::from_static_str).to_vec();
        let answer = self.ask(broker, &ListTransactionsRequest::default().with_state_filters(states))?;
        refused(answer.error_code, "list transactions")?;
        let told = answer.transaction_states.into_iter();
        let told = told.map(|it| (it.transactional_id.to_string(), it.transaction_state.to_string()));
        Ok(told.filter(|(id, _)| id.starts_with(prefix)).collect())
    }

    /// Those of the ids under which nothing is open whose producers may begin yet: they may only stand still, or have their requests on their way.
    fn to_begin(
        &self,
        broker: &str,
        ids: impl Iterator<Item = String>,
    ) -> std::result::Result<Vec<String>, Refusal> {
        let ids: Vec<TransactionalId> = ids.map(|id| transactional(&id)).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let request = DescribeTransactionsRequest::default().with_transactional_ids(ids);
        let mut found = Vec::new();
        for state in self.ask(broker, &request)?.transaction_states {
            // Forgotten since.
            if state.error_code == code::TRANSACTIONAL_ID_NOT_FOUND {
                continue;
            }
            refused(state.error_code, "describe a transaction")?;
            if state.transaction_timeout_ms != FENCED_TIMEOUT_MS {
                found.push(state.transactional_id.to_string());
            }
        }
        Ok(found)
    }

    /// The addresses of the brokers that coordinate transactions, once each of them has loaded all that it is to know.
    fn loaded_brokers(&self, prefix: &str) -> std::result::Result<BTreeSet<String>, Refusal> {
        let topic = TopicName(StrBytes::from_static_str(TRANSACTIONS_TOPIC));
        let topics = vec![MetadataRequestTopic::default().with_name(Some(topic))];
        let request =
            MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false);
        let metadata = self.ask_any(&request)?;
        let partitions = match metadata.topics.into_iter().next() {
            // Nobody has ever begun a transaction.
            Some(topic) if topic.error_code == code::UNKNOWN_TOPIC_OR_PARTITION => return Ok(BTreeSet::new()),
            Some(topic) if topic.error_code == code::NONE => topic.partitions,
            Some(topic) if topic.error_code == code::TOPIC_AUTHORIZATION_FAILED => {
                return Err(Refusal::Final(Error::user(format!(
                    "the user of the job needs the ACL Describe for topic {TRANSACTIONS_TOPIC}: it says which broker coordinates which transaction"
                ))));
            }
            _ => {
                return Err(Refusal::Passes(
                    "the brokers do not tell who coordinates transactions".to_owned(),
                ));
            }
        };
        // An id of each partition: only who coordinates it, and has loaded it, says that there is none.
        let mut leaders: Vec<(i32, i32)> =
            partitions.iter().map(|partition| (partition.partition_index, partition.leader_id.0)).collect();
        leaders.sort_unstable();
        let mut probes: BTreeMap<i32, Vec<TransactionalId>> = BTreeMap::new();
        for ((partition, id), (told, leader)) in
            (0..).zip(ids_of_partitions(prefix, leaders.len())?).zip(leaders)
        {
            if told != partition {
                let why = format!("the brokers do not tell of partition {partition} of {TRANSACTIONS_TOPIC}");
                return Err(Refusal::Passes(why));
            }
            probes.entry(leader).or_default().push(transactional(&id));
        }
        let mut loaded = BTreeSet::new();
        for (leader, ids) in probes {
            let broker = metadata.brokers.iter().find(|broker| broker.node_id.0 == leader);
            let Some(broker) = broker else {
                return Err(Refusal::Passes("a partition of transactions has no leader".to_owned()));
            };
            let (broker, n_probes) = (address(&broker.host, broker.port), ids.len());
            let request = DescribeTransactionsRequest::default().with_transactional_ids(ids);
            let states = self.ask(&broker, &request)?.transaction_states;
            if states.len() != n_probes {
                return Err(Refusal::Passes(format!("{broker} tells of {} of {n_probes} ids", states.len())));
            }
            for state in states {
                if state.error_code != code::TRANSACTIONAL_ID_NOT_FOUND {
                    refused(state.error_code, "describe a transaction")?;
                }
            }
            loaded.insert(broker);
        }
        Ok(loaded)
    }

    /// The transaction that is open under an id.
    pub(super) fn open_transaction(&self, id: &str) -> Result<Option<TransactionHandle>> {
        let state = self.describe(id)?.filter(|state| state.transaction_state.as_str() == "Ongoing");
        Ok(state.map(|state| TransactionHandle {
            transactional_id: id.to_owned(),
            producer_id: state.producer_id.0,
            epoch: state.producer_epoch,
        }))
    }

    /// What the coordinator knows of an id, if anything.
    fn describe(&self, id: &str) -> Result<Option<TransactionState>> {
        self.patiently(&format!("look for transaction '{id}'"), || {
            let request =
                DescribeTransactionsRequest::default().with_transactional_ids(vec![transactional(id)]);
            let answer = self.ask_coordinator(id, &request)?;
            let Some(state) = answer.transaction_states.into_iter().next() else {
                return Err(Refusal::Passes("the coordinator told nothing".to_owned()));
            };
            if state.error_code == code::TRANSACTIONAL_ID_NOT_FOUND {
                return Ok(None);
            }
            refused(state.error_code, "describe a transaction")?;
            Ok(Some(state))
        })
    }

    /// Commits a transaction, or tells that it has been or cannot be.
    pub(super) fn commit(&self, transaction: &TransactionHandle) -> Result<CommitOutcome> {
        let TransactionHandle { transactional_id: id, producer_id, epoch } = transaction;
        let ended = self.patiently(&format!("commit transaction '{id}'"), || {
            let request = EndTxnRequest::default()
                .with_transactional_id(transactional(id))
                .with_producer_id(ProducerId(*producer_id))
                .with_producer_epoch(*epoch)
                .with_committed(true);
            let answer = self.ask_coordinator(id, &request)?;
            match answer.error_code {
                code::INVALID_TXN_STATE => Ok(Some("it was aborted (INVALID_TXN_STATE)")),
                code::INVALID_PRODUCER_EPOCH | code::PRODUCER_FENCED => Ok(Some(
                    "its time-out has passed and it was aborted, or another producer has taken its id over (PRODUCER_FENCED)",
                )),
                code::INVALID_PRODUCER_ID_MAPPING => Ok(Some("another producer has its id (INVALID_PRODUCER_ID_MAPPING)")),
                other => refused(other, "commit a transaction").map(|()| None),
            }
        })?;
        let Some(why) = ended else { return Ok(CommitOutcome::Committed) };
        // An id that is not known any more is told with the same codes as one that somebody else has.
        let is_known = self.describe(id)?.is_some();
        Ok(if is_known { CommitOutcome::Lost(why.to_owned()) } else { CommitOutcome::Unknown })
    }

    /// Takes an id over, which aborts what is open under it.
    pub(super) fn abort(&self, id: &str) -> Result<()> {
        self.patiently(&format!("abort transaction '{id}'"), || {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(Some(transactional(id)))
                .with_transaction_timeout_ms(FENCED_TIMEOUT_MS)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1);
            let answer = self.ask_coordinator(id, &request)?;
            refused(answer.error_code, "abort a transaction")
        })
    }

    /// Tries again what passes, for as long as a request may take; what has begun by then may take as long again.
    fn patiently<T>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> std::result::Result<T, Refusal>,
    ) -> Result<T> {
        let (started, timeout) = (Instant::now(), self.properties.request_timeout());
        loop {
            let last = match ask() {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Final(error)) => return Err(error.context(format!("cannot {what}"))),
                Err(Refusal::Passes(why)) => why,
            };
            if started.elapsed() + RETRY_PAUSE > timeout {
                let servers = self.properties.bootstrap_servers();
                return Err(Error::new(ErrorKind::Retry, format!("cannot {what} at {servers}: {last}")));
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }

    /// Asks the coordinator of a transactional id.
    fn ask_coordinator<R>(&self, id: &str, request: &R) -> std::result::Result<R::Response, Refusal>
    where
        R: Asked,
    {
        let key = StrBytes::from_string(id.to_owned());
        let found = self.ask_any(&FindCoordinatorRequest::default().with_key(key).with_key_type(1))?;
        refused(found.error_code, "find the coordinator of a transaction")?;
        self.ask(&address(&found.host, found.port), request)
    }

    /// Asks the first of the bootstrap servers that answers.
    fn ask_any<R>(&self, request: &R) -> std::result::Result<R::Response, Refusal>
    where
        R: Asked,
    {
        let mut last = Refusal::Passes("there are no bootstrap servers".to_owned());
        for server in self.properties.bootstrap_servers().split(',').map(str::trim) {
            match self.ask(server, request) {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Final(error)) => return Err(Refusal::Final(error)),
                Err(passes) => last = passes,
            }
        }
        Err(last)
    }

    /// Asks a broker. A connection on which anything went wrong is not used again.
    fn ask<R>(&self, server: &str, request: &R) -> std::result::Result<R::Response, Refusal>
    where
        R: Asked,
    {
        let open = self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
        let is_new = open.is_none();
        let mut connection = open.map_or_else(|| (self.connect)(server, &self.properties), Ok)?;
        let mut answer = connection.ask(request);
        // The broker may have closed it since it was used last. One that says nothing is not asked twice.
        if answer.as_ref().is_err_and(|error| !is_new && !says_nothing(error)) {
            connection = (self.connect)(server, &self.properties)?;
            answer = connection.ask(request);
        }
        let answer = answer.map_err(|error| {
            if !says_nothing(&error) {
                return Refusal::Passes(format!("{server}: {error}"));
            }
            let timeout = self.properties.request_timeout().as_millis();
            Refusal::Passes(format!("{server} has not answered for {timeout} ms (request.timeout.ms)"))
        })?;
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.insert(server.to_owned(), connection);
        Ok(answer)
    }
}

/// For each partition of [`TRANSACTIONS_TOPIC`] an id that belongs to it, begins with `prefix` (so that who may use that may ask for it) and that
/// nobody uses.
fn ids_of_partitions(prefix: &str, n_partitions: usize) -> std::result::Result<Vec<String>, Refusal> {
    let told =
        || Refusal::Passes(format!("the brokers tell of {n_partitions} partitions of {TRANSACTIONS_TOPIC}"));
    if n_partitions == 0 || n_partitions > PARTITIONS_MAX {
        return Err(told());
    }
    let mut ids = vec![None; n_partitions];
    // Digits to the base of the hash that follow each other, as many for each number: so hashes follow each other, too, and only where they have no
    // more bits they begin anew. What is longer than all partitions on one side of that has one for each.
    for n in 0..2 * n_partitions as u32 {
        let digits = [29_791, 961, 31, 1].map(|unit| char::from(b'0' + (n / unit % 31) as u8));
        let id = format!("{prefix}-probe-{}", String::from_iter(digits));
        let partition = usize::try_from(partition_of(&id, n_partitions)).unwrap_or(usize::MAX);
        if let Some(free @ None) = ids.get_mut(partition) {
            *free = Some(id);
        }
    }
    ids.into_iter().collect::<Option<_>>().ok_or_else(told)
}

/// The partition of [`TRANSACTIONS_TOPIC`] that an id belongs to: by the hash of a string in Java.
fn partition_of(id: &str, n_partitions: usize) -> i32 {
    let hash =
        id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) % (n_partitions as i32).max(1)
}

fn transactional(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.to_owned()))
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether that is how the end of a time-out is told: by the operating system, or by what encrypts.
fn says_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// What a code means for the question.
fn refused(error_code: i16, what: &str) -> std::result::Result<(), Refusal> {
    match error_code {
        code::NONE => Ok(()),
        code::COORDINATOR_LOAD_IN_PROGRESS | code::COORDINATOR_NOT_AVAILABLE | code::NOT_COORDINATOR => {
            Err(Refusal::Passes(format!("the transaction coordinator moves (error code {error_code})")))
        }
        code::CONCURRENT_TRANSACTIONS => {
            Err(Refusal::Passes("the transaction before is being ended (CONCURRENT_TRANSACTIONS)".to_owned()))
        }
        code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Err(Refusal::Final(Error::user(
            "the user of the job needs the ACLs Write and Describe for transactional ids that begin with the sink's prefix",
        ))),
        other => {
            let error = kafka_protocol::ResponseError::try_from_code(other)
                .map_or_else(|| format!("error code {other}"), |error| error.to_string());
            Err(Refusal::Final(Error::new(
                ErrorKind::Retry,
                format!("the broker refuses to {what}: {error}"),
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Takes what it is asked, and waits in vain for an answer.
    struct Stalled {
        timeout: Duration,
        n_asked: Arc<AtomicU32>,
    }

    impl Read for Stalled {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.n_asked.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(self.timeout);
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn brokers_that_say_nothing_are_not_asked_for_ever() {
        let mut properties = Properties::default();
        properties.set("bootstrap.servers", "broker:9092");
        properties.set("request.timeout.ms", "100");
        let n_asked = Arc::new(AtomicU32::new(0));
        let asked = Arc::clone(&n_asked);
        let connect = move |server: &str, properties: &Properties| {
            let wire = Stalled { timeout: properties.request_timeout(), n_asked: Arc::clone(&asked) };
            Connection::begin(Box::new(wire), server, properties)
        };
        let coordinators = Coordinators::with_connections(properties, Box::new(connect));
        let error = coordinators.open_transaction("id").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retry);
        let expected = "cannot look for transaction 'id' at broker:9092: broker:9092 has not answered for 100 ms \
                        (request.timeout.ms)";
        assert_eq!(error.to_string(), expected);
        // Each has waited for all the time that there is.
        assert_eq!(n_asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn ids_belong_to_partitions_by_the_hash_that_strings_have_in_java() {
        // "flott".hashCode() is 97526953, and "polygenelubricants".hashCode() the least integer.
        assert_eq!(partition_of("flott", 50), 97_526_953 % 50);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
    }

    #[test]
    fn each_partition_has_an_id_that_belongs_to_it() {
        for n_partitions in [1, 2, 3, 31, 50, 62, 64, 961, 1_000, PARTITIONS_MAX] {
            // The hash of the last one's first id is 20 less than where hashes begin anew.
            for prefix in ["flott", "", "ä", "BWIL][T"] {
                let ids = ids_of_partitions(prefix, n_partitions).ok().expect("found");
                assert!(ids.iter().all(|id| id.starts_with(prefix)));
                let partitions = ids.iter().map(|id| partition_of(id, n_partitions));
                assert!(partitions.eq(0..n_partitions as i32), "{n_partitions}");
            }
        }
        assert!([0, PARTITIONS_MAX + 1].iter().all(|n| ids_of_partitions("", *n).is_err()));
    }
}
