//! The results in tables of an SQLite database, a mode of writing each.

use super::results::{DelaySession, Hour, LateFlight};
use flott::connectors::sqlite::SqliteSink;
use std::path::Path;

/// The newest revision of each hour replaces those before. An hour has its revisions from one subtask, in order.
pub(super) fn hours(database: &Path) -> SqliteSink<Hour> {
    let columns = [
        "origin",
        "hour",
        "hour_ms",
        "revision",
        "departures",
        "cancelled",
        "mean_delay_min",
        "max_delay_min",
        "delayed_share",
    ];
    SqliteSink::new(database, "hours", columns).upsert_by(["origin", "hour_ms"]).create_table(
        "CREATE TABLE IF NOT EXISTS hours(
            origin TEXT NOT NULL, hour TEXT NOT NULL, hour_ms INTEGER NOT NULL, revision INTEGER NOT NULL, departures INTEGER NOT NULL,
            cancelled INTEGER NOT NULL, mean_delay_min REAL, max_delay_min INTEGER, delayed_share REAL, PRIMARY KEY(origin, hour_ms))",
    )
}

/// A session is in the table when its checkpoint is complete.
pub(super) fn sessions(database: &Path) -> SqliteSink<DelaySession> {
    let columns = ["carrier", "from", "to", "from_ms", "to_ms", "flights", "worst_delay_min", "worst_flight"];
    SqliteSink::new(database, "sessions", columns).transactional().create_table(
        "CREATE TABLE IF NOT EXISTS sessions(
            carrier TEXT NOT NULL, \"from\" TEXT NOT NULL, \"to\" TEXT NOT NULL, from_ms INTEGER NOT NULL, to_ms INTEGER NOT NULL,
            flights INTEGER NOT NULL, worst_delay_min INTEGER NOT NULL, worst_flight TEXT NOT NULL)",
    )
}

/// Late flights are in the table at once, and in the view `late_committed` when their checkpoint is complete.
pub(super) fn late(database: &Path) -> SqliteSink<LateFlight> {
    let columns = [
        "too_late_for",
        "scheduled",
        "arrived",
        "sched_dep_ms",
        "arrival_ms",
        "carrier",
        "flight",
        "origin",
        "dest",
        "dep_delay_min",
    ];
    SqliteSink::new(database, "late", columns).eager().create_table(
        "CREATE TABLE IF NOT EXISTS late(
            too_late_for TEXT NOT NULL, scheduled TEXT NOT NULL, arrived TEXT NOT NULL, sched_dep_ms INTEGER NOT NULL,
            arrival_ms INTEGER NOT NULL, carrier TEXT NOT NULL, flight INTEGER NOT NULL, origin TEXT NOT NULL, dest TEXT NOT NULL,
            dep_delay_min INTEGER)",
    )
}
