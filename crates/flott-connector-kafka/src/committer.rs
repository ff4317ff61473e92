//! Commits prepared transactions.

use crate::client::{Client, CommitOutcome, TransactionHandle};
use crate::transactional::describe;
use flott_api::{Committable, Committer, UserResult};
use flott_types::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tracing::{debug, warn};

/// What a committable is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prepared {
    pub(crate) transaction: TransactionHandle,
    /// How many are lost if it cannot be committed.
    pub(crate) n_records: u64,
}

/// Commits by id, producer and epoch: the same each time, whoever asks and however often.
#[derive(Debug)]
pub(crate) struct KafkaCommitter {
    client: Arc<dyn Client>,
    forgets_expired: bool,
}

impl KafkaCommitter {
    pub(crate) fn new(client: Arc<dyn Client>, forgets_expired: bool) -> Self {
        Self { client, forgets_expired }
    }

    fn commit_one(&self, committable: &Committable) -> UserResult {
        let Prepared { transaction, n_records } =
            flott_state::decode("a prepared transaction", &committable.payload)?;
        let (what, checkpoint) = (describe(&transaction), committable.checkpoint_id);
        match self.client.commit_transaction(&transaction)? {
            CommitOutcome::Committed => {
                debug!(transaction = what, %checkpoint, "committed");
                Ok(())
            }
            CommitOutcome::Lost(why) => {
                let message = format!(
                    "transaction {what} of checkpoint {checkpoint} cannot be committed, its {n_records} records are lost: {why}; \
                     set transaction.timeout.ms above the longest time from a checkpoint to the end of a restart, and restore an earlier savepoint or start from nothing"
                );
                Err(Error::new(ErrorKind::FailJob, message).into())
            }
            CommitOutcome::Unknown if self.forgets_expired => {
                warn!(
                    transaction = what,
                    "Kafka does not know the transaction any more: it is taken for committed"
                );
                Ok(())
            }
            CommitOutcome::Unknown => {
                let message = format!(
                    "transaction {what} of checkpoint {checkpoint} with {n_records} records is not known to Kafka, or not any more (transactional.id.expiration.ms): \
                     if it was committed, as after a stop with a savepoint, restore with take_forgotten_transactions_for_committed(true)"
                );
                Err(Error::new(ErrorKind::FailJob, message).into())
            }
        }
    }
}

impl Committer for KafkaCommitter {
    fn commit(&mut self, committables: &[Committable]) -> UserResult {
        committables.iter().try_for_each(|committable| self.commit_one(committable))
    }
}
