//! Transactional ids: who has them, and what becomes of their transactions.

use super::delayed::Request;
use super::{Answer, BrokerError, SimBroker};
use std::collections::BTreeSet;

/// A producer takes a new id when its epoch is at the end.
const EPOCH_MAX: i16 = i16::MAX - 1;

/// Who has a transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProducerIdentity {
    /// The producer.
    pub producer_id: i64,
    /// How often the id was taken over.
    pub epoch: i16,
}

/// Where a transactional id is: the names are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are documented by Kafka")]
pub enum TransactionState {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

/// What a coordinator tells of a transactional id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Who has it.
    pub identity: ProducerIdentity,
    /// Where it is.
    pub state: TransactionState,
    /// After which time an open transaction is aborted, as who has the id has said.
    pub timeout_ms: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Transaction {
    identity: ProducerIdentity,
    state: TransactionState,
    pub(super) partitions: BTreeSet<(String, i32)>,
    timeout_ms: i64,
    started_ms: i64,
    updated_ms: i64,
    /// Requests until its end is complete.
    delay: u32,
    /// Who asked for the last end, if that has changed the epoch.
    bumped_from: Option<ProducerIdentity>,
    /// A request that nobody waited for has begun it, and no other has come since.
    is_stray: bool,
}

/// A request to take an id over.
#[derive(Clone, Debug)]
pub(super) struct InitProducerId {
    id: String,
    timeout_ms: i64,
}

/// A request to add a partition to a transaction.
#[derive(Clone, Debug)]
pub(super) struct AddPartition {
    id: String,
    identity: ProducerIdentity,
    place: (String, i32),
}

/// A request to end a transaction.
#[derive(Clone, Debug)]
pub(super) struct EndOfTransaction {
    pub(super) id: String,
    pub(super) identity: ProducerIdentity,
    pub(super) is_commit: bool,
    /// Whether it changes the epoch.
    pub(super) bumps: bool,
}

impl Transaction {
    pub(super) fn state(&self) -> TransactionState {
        self.state
    }

    pub(super) fn is_stray(&self) -> bool {
        self.is_stray
    }

    pub(super) fn check(&self, identity: ProducerIdentity) -> Answer<()> {
        if self.identity.producer_id != identity.producer_id {
            return Err(BrokerError::InvalidProducerIdMapping);
        }
        if self.identity.epoch == identity.epoch { Ok(()) } else { Err(BrokerError::ProducerFenced) }
    }

    fn is_ending(&self) -> bool {
        matches!(self.state, TransactionState::PrepareCommit | TransactionState::PrepareAbort)
    }

    pub(super) fn has_timed_out(&self, now_ms: i64) -> bool {
        self.state == TransactionState::Ongoing && now_ms.saturating_sub(self.started_ms) >= self.timeout_ms
    }

    pub(super) fn is_forgotten(&self, now_ms: i64, expiration_ms: i64) -> bool {
        let is_at_rest = self.state != TransactionState::Ongoing && !self.is_ending();
        is_at_rest && now_ms.saturating_sub(self.updated_ms) >= expiration_ms
    }

    /// A request passes; whether the end is complete now.
    pub(super) fn passes_request(&mut self) -> bool {
        let was_due = self.delay == 0;
        self.delay = self.delay.saturating_sub(1);
        self.is_ending() && was_due
    }

    fn bump(&mut self, next_producer_id: &mut i64) {
        if self.identity.epoch < EPOCH_MAX {
            self.identity.epoch += 1;
        } else {
            *next_producer_id += 1;
            self.identity = ProducerIdentity { producer_id: *next_producer_id, epoch: 0 };
        }
    }
}

impl SimBroker {
    /// Takes a transactional id over: whoever had it is fenced, and its open transaction is aborted.
    ///
    /// # Errors
    /// [`BrokerError::ConcurrentTransactions`] while a transaction of the id is being ended: to be tried again.
    pub fn init_producer_id(&mut self, id: &str, timeout_ms: i64) -> Answer<ProducerIdentity> {
        let init = InitProducerId { id: id.to_owned(), timeout_ms };
        let delayed = self.delays_ids.then(|| Request::InitProducerId(init.clone()));
        self.request_of(delayed, |broker| broker.init(&init))
    }

    pub(super) fn init(&mut self, init: &InitProducerId) -> Answer<ProducerIdentity> {
        let (now, InitProducerId { id, timeout_ms }) = (self.now_ms, init);
        let Some(transaction) = self.transactions.get_mut(id) else {
            self.next_producer_id += 1;
            let identity = ProducerIdentity { producer_id: self.next_producer_id, epoch: 0 };
            let new = Transaction {
                identity,
                state: TransactionState::Empty,
                partitions: BTreeSet::new(),
                timeout_ms: *timeout_ms,
                started_ms: now,
                updated_ms: now,
                delay: 0,
                bumped_from: None,
                is_stray: false,
            };
            self.transactions.insert(id.clone(), new);
            return Ok(identity);
        };
        if transaction.is_ending() {
            return Err(BrokerError::ConcurrentTransactions);
        }
        if transaction.state == TransactionState::Ongoing {
            self.abort_and_fence(id);
            return Err(BrokerError::ConcurrentTransactions);
        }
        transaction.bump(&mut self.next_producer_id);
        transaction.bumped_from = None;
        (transaction.state, transaction.timeout_ms) = (TransactionState::Empty, *timeout_ms);
        transaction.updated_ms = now;
        Ok(transaction.identity)
    }

    /// Adds a partition to the open transaction, which begins with the first.
    ///
    /// # Errors
    /// [`BrokerError::ProducerFenced`] and its like if somebody else has the id; [`BrokerError::ConcurrentTransactions`].
    pub fn add_partition(
        &mut self,
        id: &str,
        identity: ProducerIdentity,
        topic: &str,
        partition: i32,
    ) -> Answer<()> {
        let add = AddPartition { id: id.to_owned(), identity, place: (topic.to_owned(), partition) };
        self.request_of(Some(Request::AddPartition(add.clone())), |broker| broker.add(&add))
    }

    pub(super) fn add(&mut self, add: &AddPartition) -> Answer<()> {
        let now = self.now_ms;
        let transaction = self.transactions.get_mut(&add.id).ok_or(BrokerError::InvalidProducerIdMapping)?;
        transaction.check(add.identity)?;
        if transaction.is_ending() {
            return Err(BrokerError::ConcurrentTransactions);
        }
        if transaction.state != TransactionState::Ongoing {
            (transaction.state, transaction.started_ms) = (TransactionState::Ongoing, now);
            transaction.partitions.clear();
            transaction.bumped_from = None;
        }
        (transaction.updated_ms, transaction.is_stray) = (now, false);
        transaction.partitions.insert(add.place.clone());
        Ok(())
    }

    /// As above, when nobody waits for it any more.
    pub(super) fn add_late(&mut self, add: &AddPartition) {
        let is_open = |broker: &Self| {
            broker.transactions.get(&add.id).is_some_and(|it| it.state == TransactionState::Ongoing)
        };
        let was_open = is_open(self);
        if self.add(add).is_ok()
            && let Some(transaction) = self.transactions.get_mut(&add.id)
        {
            transaction.is_stray = !was_open;
        }
    }

    /// Ends a transaction, by a request of a version before KIP-890: the epoch stays as it is. The same end again is answered as the first time.
    ///
    /// # Errors
    /// [`BrokerError::InvalidTxnState`] if it has ended otherwise or never begun; if somebody else has the id;
    /// [`BrokerError::ConcurrentTransactions`] while it is being ended.
    pub fn end_txn(&mut self, id: &str, identity: ProducerIdentity, is_commit: bool) -> Answer<()> {
        let end = EndOfTransaction { id: id.to_owned(), identity, is_commit, bumps: false };
        self.request_of(Some(Request::EndTxn(end.clone())), |broker| broker.end(&end).map(|_| ()))
    }

    /// Ends a transaction, by a request of a version that KIP-890 has brought: the producer has another epoch from then on, so that nothing that was
    /// sent before can be taken for a part of its next transaction. Returns who it is now. The same end again is answered as the first time, until the
    /// next has begun.
    ///
    /// # Errors
    /// As [`SimBroker::end_txn`].
    pub fn end_txn_and_bump(
        &mut self,
        id: &str,
        identity: ProducerIdentity,
        is_commit: bool,
    ) -> Answer<ProducerIdentity> {
        let end = EndOfTransaction { id: id.to_owned(), identity, is_commit, bumps: true };
        self.request_of(Some(Request::EndTxn(end.clone())), |broker| broker.end(&end))
    }

    pub(super) fn end(&mut self, end: &EndOfTransaction) -> Answer<ProducerIdentity> {
        use TransactionState as State;
        let EndOfTransaction { id, identity, is_commit, bumps } = end;
        let transaction = self.transactions.get_mut(id).ok_or(BrokerError::InvalidProducerIdMapping)?;
        let is_again = *bumps && transaction.bumped_from == Some(*identity);
        if !is_again {
            transaction.check(*identity)?;
        }
        match (transaction.state, is_commit) {
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => return Ok(transaction.identity),
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
                return Err(BrokerError::ConcurrentTransactions);
            }
            (State::Ongoing, _) if !is_again => {}
            _ => return Err(BrokerError::InvalidTxnState),
        }
        transaction.bumped_from = bumps.then_some(*identity);
        Ok(self.prepare_end(id, *is_commit, *bumps).unwrap_or(*identity))
    }

    /// What is known of an id.
    ///
    /// # Errors
    /// [`BrokerError::TransactionalIdNotFound`].
    pub fn describe_transaction(&mut self, id: &str) -> Answer<TransactionDescription> {
        self.request(|broker| {
            let transaction = broker.transactions.get(id).ok_or(BrokerError::TransactionalIdNotFound)?;
            let Transaction { identity, state, timeout_ms, .. } = *transaction;
            Ok(TransactionDescription { identity, state, timeout_ms })
        })
    }

    /// The ids that begin with `prefix`, and where they are.
    ///
    /// # Errors
    /// If the request goes wrong.
    pub fn list_transactions(&mut self, prefix: &str) -> Answer<Vec<(String, TransactionState)>> {
        self.request(|broker| {
            let all = broker.transactions.iter().filter(|(id, _)| id.starts_with(prefix));
            Ok(all.map(|(id, transaction)| (id.clone(), transaction.state)).collect())
        })
    }

    /// Aborts what is open, under an epoch that nobody has.
    pub(super) fn abort_and_fence(&mut self, id: &str) {
        self.prepare_end(id, false, true);
    }

    /// Decides the end, and says who has the id then.
    fn prepare_end(&mut self, id: &str, is_commit: bool, bumps: bool) -> Option<ProducerIdentity> {
        let (now, delay) = (self.now_ms, self.end_delay);
        let transaction = self.transactions.get_mut(id)?;
        let old = transaction.identity;
        if bumps {
            transaction.bump(&mut self.next_producer_id);
        }
        let (new, partitions) = (transaction.identity, transaction.partitions.clone());
        transaction.state =
            if is_commit { TransactionState::PrepareCommit } else { TransactionState::PrepareAbort };
        (transaction.delay, transaction.updated_ms) = (delay, now);
        // The marks are those of the producer that wrote.
        if new.producer_id != old.producer_id {
            transaction.partitions.clear();
            self.mark(&partitions, old.producer_id, is_commit);
        }
        if delay == 0 {
            self.finish_end(id);
        }
        Some(new)
    }

    fn mark(&mut self, partitions: &BTreeSet<(String, i32)>, producer_id: i64, is_commit: bool) {
        for (topic, partition) in partitions {
            if let Ok(log) = self.log(topic, *partition) {
                log.end_transaction(producer_id, is_commit);
            }
        }
        self.wake_all();
    }

    /// The marks are written.
    pub(super) fn finish_end(&mut self, id: &str) {
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        let is_commit = match transaction.state {
            TransactionState::PrepareCommit => true,
            TransactionState::PrepareAbort => false,
            _ => return,
        };
        transaction.state =
            if is_commit { TransactionState::CompleteCommit } else { TransactionState::CompleteAbort };
        let partitions = std::mem::take(&mut transaction.partitions);
        let producer_id = transaction.identity.producer_id;
        self.mark(&partitions, producer_id, is_commit);
    }
}
