//! Requests that arrive late, or a second time: what KIP-890 is about.
//!
//! A client that got no answer goes on: it asks again, ends the transaction, begins the next. The request is still somewhere in the network, and the
//! broker carries it out when it comes, unless something in it says that it is of the past: the producer's epoch, if that has changed since, or the
//! sequence number.

use super::transactions::{AddPartition, EndOfTransaction, InitProducerId};
use super::{BrokerRecord, ProducerIdentity, SimBroker};
use std::collections::BTreeMap;

/// A request that can arrive late.
#[derive(Clone, Debug)]
pub(super) enum Request {
    InitProducerId(InitProducerId),
    AddPartition(AddPartition),
    Produce(Produce),
    EndTxn(EndOfTransaction),
}

/// Records of a producer for a partition.
#[derive(Clone, Debug)]
pub(super) struct Produce {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Its transactional id, and who it is.
    pub(super) producer: Option<(String, ProducerIdentity)>,
    /// How many requests the producer has sent to the partition before, in this epoch.
    pub(super) sequence: u64,
    pub(super) records: Vec<BrokerRecord>,
}

/// By producer, topic and partition, the sequence number of the next request.
pub(super) type Sequences = BTreeMap<(ProducerIdentity, String, i32), u64>;

/// Requests that are under way.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// With the number of the request before which they arrive.
    under_way: Vec<(u64, Request)>,
}

impl Network {
    pub(super) fn delay(&mut self, request: Request, before: u64) {
        self.under_way.push((before, request));
    }

    fn arrivals(&mut self, before: u64) -> Vec<Request> {
        self.under_way.extract_if(.., |(at, _)| *at <= before).map(|(_, request)| request).collect()
    }
}

impl SimBroker {
    /// Lets all requests arrive that are under way.
    pub fn deliver_all(&mut self) {
        self.deliver(u64::MAX);
    }

    /// What arrives before this request. Nobody hears the answers.
    pub(super) fn deliver(&mut self, before: u64) {
        for request in self.network.arrivals(before) {
            match request {
                Request::InitProducerId(init) => drop(self.init(&init)),
                Request::AddPartition(add) => self.add_late(&add),
                Request::Produce(produce) => drop(self.append(&produce)),
                Request::EndTxn(end) => drop(self.end(&end)),
            }
        }
    }
}
