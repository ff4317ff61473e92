//! One value per key.

use crate::backend::{KeyedState, KeyedStateStore};
use crate::snapshot::KeyGroupBytes;
use crate::table::KeyedTable;
use crate::ttl::{StateTtlConfig, Stored, TtlUpdate, TtlVisibility};
use flott_types::{Data, Key, Result, Timestamp};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
