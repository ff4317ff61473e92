//! What has to be there before the log can be read: settings, key, publication, slot.

use super::config::{ChangelogMode, PostgresCdcSource, StartupMode};
use super::split::{Lsn, PostgresCdcSplit, Progress};
use crate::catalog::{self, TableInfo};
use crate::describe::WAL_LEVEL_REMEDY;
use crate::link::Link;
use crate::schema::{literal, quoted, quoted_table};
use flott_types::{Data, Error, ErrorKind, Result};

/// Makes what is missing. The place where the log begins is in the slot, so it is the same if nobody remembers this one.
pub(super) fn split<T: Data>(source: &PostgresCdcSource<T>) -> Result<PostgresCdcSplit> {
    let mut link = Link::connect(&source.address.parse()?, &source.table)?;
    look_up(source, &mut link)?;
    // In this order: the log of a slot does not know a publication that was made behind it.
    make_publication(source, &mut link)?;
    let lsn = match slot(source, &mut link)? {
        Some(lsn) => lsn,
        None => make_slot(source, &mut link)?,
    };
    let snapshot = match source.startup_mode {
        StartupMode::Initial => Some(Progress::default()),
        StartupMode::LatestOffset => None,
    };
    Ok(PostgresCdcSplit { slot: source.slot.clone(), lsn, within: None, snapshot })
}

/// Checks that the log still has what comes behind the split.
pub(super) fn check<T: Data>(
    source: &PostgresCdcSource<T>,
    link: &mut Link,
    split: &PostgresCdcSplit,
) -> Result<()> {
    let slot_name = &split.slot;
    let lost = |what: String| {
        let message = format!(
            "changes of table '{}' behind {} are lost: {what}; start the job anew, with a snapshot of the table",
            source.table, split.lsn
        );
        Err(Error::new(ErrorKind::Corruption, message))
    };
    match slot(source, link)? {
        None => lost(format!("replication slot '{slot_name}' is gone")),
        Some(confirmed) if confirmed > split.lsn => lost(format!(
            "replication slot '{slot_name}' is at {confirmed}, as a newer checkpoint was complete"
        )),
        Some(_) => Ok(()),
    }
}

/// The table with its key, if its changes can be captured.
pub(super) fn look_up<T: Data>(source: &PostgresCdcSource<T>, link: &mut Link) -> Result<TableInfo> {
    if link.batch("SHOW wal_level")?.first() != Some("logical") {
        return Err(
            link.refuse(&format!("the server does not write a log that can be decoded; {WAL_LEVEL_REMEDY}"))
        );
    }
    let table = catalog::look_up(link)?;
    if !matches!(table.kind.as_str(), "r" | "p") {
        return Err(
            link.refuse("it is no table, and only tables have a log; name the tables that it is made of")
        );
    }
    if table.primary_key.is_empty() {
        return Err(link.refuse("it has no primary key, by which rows are told apart; add one"));
    }
    let target = quoted_table(&source.table);
    match (table.replica_identity.as_str(), source.changelog_mode) {
        ("f", _) | ("d", ChangelogMode::Upsert) => Ok(table),
        (_, ChangelogMode::All) => Err(link.refuse(&format!(
            "the log does not have rows as they were before a change; execute ALTER TABLE {target} REPLICA IDENTITY FULL, or choose \
             ChangelogMode::Upsert"
        ))),
        (_, ChangelogMode::Upsert) => Err(link.refuse(&format!(
            "the log does not say by their primary key which rows are updated and deleted; execute ALTER TABLE {target} REPLICA IDENTITY DEFAULT or FULL"
        ))),
    }
}

fn make_publication<T: Data>(source: &PostgresCdcSource<T>, link: &mut Link) -> Result<()> {
    let (name, target) = (source.publication(), quoted_table(&source.table));
    let found = link.query("SELECT 1 FROM pg_publication WHERE pubname = $1", &[name])?;
    if found.rows.is_empty() {
        let root = "publish_via_partition_root = true";
        let sql = format!("CREATE PUBLICATION {} FOR TABLE {target} WITH ({root})", quoted(name));
        return link.batch(&sql).map(|_| ());
    }
    let sql = "SELECT 1 FROM pg_publication_tables WHERE pubname = $1 \
               AND format('%I.%I', schemaname, tablename)::regclass = $2::regclass";
    if link.query(sql, &[name, &target])?.rows.is_empty() {
        let remedy = format!(
            "execute ALTER PUBLICATION {} ADD TABLE {target}, or name another publication",
            quoted(name)
        );
        return Err(link.refuse(&format!("publication '{name}' is there, and does not have it; {remedy}")));
    }
    Ok(())
}

/// Up to where the slot needs the log no more, if there is a slot that can be read.
fn slot<T: Data>(source: &PostgresCdcSource<T>, link: &mut Link) -> Result<Option<Lsn>> {
    let sql = "SELECT COALESCE(plugin, ''), COALESCE(database, ''), current_database(), confirmed_flush_lsn, wal_status \
               FROM pg_replication_slots WHERE slot_name = $1";
    let found = link.query(sql, &[&source.slot])?;
    let Some(row) = found.rows.first() else { return Ok(None) };
    let refuse = |link: &Link, problem: &str| {
        Err(link.refuse(&format!(
            "replication slot '{}' {problem}; name another slot, or drop this one",
            source.slot
        )))
    };
    if row.get(0) != Some("pgoutput") {
        return refuse(link, "is not one of the plugin pgoutput");
    }
    if row.get(1) != row.get(2) {
        return refuse(link, "belongs to another database");
    }
    if row.get(4) == Some("lost") {
        return refuse(
            link,
            "has lost its log, as the server did not keep enough of it (max_slot_wal_keep_size)",
        );
    }
    Ok(row.get(3).and_then(|lsn| lsn.parse().ok()))
}

fn make_slot<T: Data>(source: &PostgresCdcSource<T>, link: &mut Link) -> Result<Lsn> {
    let sql =
        format!("SELECT lsn FROM pg_create_logical_replication_slot({}, 'pgoutput')", literal(&source.slot));
    let made = link.batch(&sql)?;
    let lsn = made.first().and_then(|lsn| lsn.parse().ok());
    lsn.ok_or_else(|| link.refuse("the server does not say where the log of the new slot begins"))
}
