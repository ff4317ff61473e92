//! Checkpoints and savepoints in object stores: S3, Google Cloud Storage, Azure, through the crate `object_store`.
//!
//! * `factory`: which client a URI gets; one for each bucket, made when it is first used.
//! * `settings`: where and who, from Flink's keys and the usual variables. `s3`, `gcs`, `azure`: the clients.
//! * `store`: the contract of [`ObjectStore`](flott_checkpoint::ObjectStore) over such a client: created once, whole or not at all, within
//!   a bounded time. `upload`: objects that take several requests. `writer`: objects that are written while their bytes come. `error`: what went wrong, for people, without secrets.
//! * `runtime`: the threads of the clients.
//!
//! It is *not* part of the simulated world: it talks to real networks on threads of its own. The simulator gives its environments
//! stores of its own under the same schemes. docs/design/0008-object-stores.md
//!
//! Invariants: an object is created by one conditional request, never by a look and then a write; after an answer that was lost
//! the object is looked at and told by a number that this put alone has; no error is taken for "there is none".

mod error;
mod factory;
mod runtime;
mod settings;
mod store;
mod upload;
mod writer;

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcs")]
mod gcs;
#[cfg(feature = "s3")]
mod s3;

pub use factory::CloudStores;
pub use settings::Limits;
pub use store::CloudStore;
